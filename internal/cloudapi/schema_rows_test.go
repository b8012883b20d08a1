// SPDX-License-Identifier: Apache-2.0

package cloudapi

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/sallyport/sallyport/internal/lb"
)

// A fault is a request that an action's schema refuses.
type fault struct {
	what string
	body map[string]any
	code string
	text string // in the message
}

// faultsOf makes every generic fault of every field of an action, alone in a
// request that is right otherwise.
func faultsOf(a *Action) []fault {
	var faults []fault
	add := func(what string, code, text string, body map[string]any) {
		faults = append(faults, fault{what, body, code, text})
	}
	add("unknown field", "UnknownParameter", `"Nmae"`, with(a.fields, "Nmae", 1))
	a.fields.eachField("", func(path string, f *field) {
		if f.required && !f.late {
			add("missing "+path, "MissingParameter", path+" is missing", with(a.fields, path, nil))
		}
		for _, wrong := range wrongKinds(f.value) {
			add(fmt.Sprintf("%s is %v", path, wrong), "InvalidParameter", path, with(a.fields, path, wrong))
		}
		v := f.value
		for v.kind == kindList {
			v, path = v.elem, path+".0"
		}
		if v.kind == kindObject {
			add("unknown field below "+path, "UnknownParameter", path+".Nmae", with(a.fields, path+".Nmae", "x"))
			for _, name := range v.obj.unserved {
				add("unserved "+name, "UnsupportedOperation", path+"."+name, with(a.fields, path+"."+name, "x"))
			}
		}
	})
	for _, name := range a.fields.unserved {
		add("unserved "+name, "UnsupportedOperation", name, with(a.fields, name, "x"))
	}
	a.fields.eachField("", func(path string, f *field) { faults = append(faults, boundFaults(a, path, f)...) })
	return faults
}

// boundFaults break what a field's flags say.
func boundFaults(a *Action, path string, f *field) []fault {
	var faults []fault
	add := func(code string, value any) {
		faults = append(faults, fault{fmt.Sprintf("%s is %.20v", path, value), with(a.fields, path, value), code, path})
	}
	one := func(value any) any { // as an item, for lists
		if f.value.kind == kindList {
			return []any{value}
		}
		return value
	}
	leaf := f.value
	for leaf.kind == kindList {
		leaf = leaf.elem
	}
	if f.bounds != nil {
		number := func(n int64) any {
			if leaf.kind == kindString {
				return fmt.Sprint(n)
			}
			return n
		}
		add(f.codeOf(a.Service, lb.Range), one(number(f.bounds.least-1)))
		if f.bounds.most != math.MaxInt64 {
			add(f.codeOf(a.Service, lb.Range), one(number(f.bounds.most+1)))
		}
		if leaf.kind == kindString {
			add(f.codeOf(a.Service, lb.Malformed), one("some"))
		}
	}
	if f.length > 0 {
		add(f.codeOf(a.Service, lb.TooLong), one(strings.Repeat("x", f.length+1)))
	}
	if f.count != nil {
		add(a.countCode(true), repeated(f.sample(), int(f.count.most)+1))
		if f.required {
			add(a.countCode(false), []any{})
		}
	}
	if f.filters != nil {
		add(f.filterCode(a.Service, unknownFilter), []any{map[string]any{"Name": "colour", "Values": []any{"red"}}})
		add(f.filterCode(a.Service, manyFilters), repeated(f.sample(), maxFilters+1))
		for _, r := range f.filters {
			if r.serves(r.name) && !strings.HasSuffix(r.name, "KEY") {
				add(f.filterCode(a.Service, unknownFilter), []any{map[string]any{"Name": r.name + "s", "Values": []any{"red"}}})
			}
			add(f.filterCode(a.Service, noValues), []any{map[string]any{"Name": r.used()}})
			add(f.filterCode(a.Service, noValues), []any{map[string]any{"Name": r.used(), "Values": []any{}}})
			add(f.filterCode(a.Service, noValues), []any{map[string]any{"Name": r.used(), "Values": nil}})
			add(f.filterCode(a.Service, manyFilters), []any{map[string]any{"Name": r.used(), "Values": repeated([]any{r.one()}, maxFilterValues+1)}})
			if r.values != nil {
				add(f.filterCode(a.Service, unknownValue), []any{map[string]any{"Name": r.used(), "Values": []any{r.values[0], "zonk"}}})
				add(f.filterCode(a.Service, unknownValue), []any{map[string]any{"Name": r.used(), "Values": []any{""}}})
			}
		}
	}
	if f.items > 0 {
		add(f.codeOf(a.Service, lb.LimitExceeded), repeated(f.sample(), f.items+1))
	}
	var none any = "no-such-choice"
	if leaf.kind == kindInt {
		none = 987654
	}
	words := []any{none}
	if leaf.kind == kindString { // which ask for nothing as a number and as a bool
		words = append(words, "0", "false")
	}
	for _, word := range words {
		if f.only != nil && f.enum == nil && leaf.kind != kindBool && !slices.Contains(f.only, fmt.Sprint(word)) {
			add("UnsupportedOperation", one(word))
		}
		if f.only != nil && f.enum != nil {
			for _, known := range f.enum {
				if !slices.Contains(f.only, known) {
					add("UnsupportedOperation", one(known))
				}
			}
		}
		if f.enum != nil && !slices.Contains(f.enum, fmt.Sprint(word)) {
			add(f.codeOf(a.Service, lb.Invalid), one(word))
		}
	}
	return faults
}

func repeated(list any, n int) []any {
	var items []any
	for range n {
		items = append(items, list.([]any)[0])
	}
	return items
}

// wrongKinds are values that a field of this kind refuses.
func wrongKinds(v *value) []any {
	switch v.kind {
	case kindString:
		return []any{7, true, []any{}, map[string]any{}}
	case kindInt:
		return []any{"many", 1.5, true, []any{}, map[string]any{}}
	case kindBool:
		return []any{"perhaps", 1, []any{}, map[string]any{}}
	case kindObject:
		return []any{"x", 7, []any{}}
	}
	wrong := []any{"x", 7, map[string]any{}}
	for _, item := range wrongKinds(v.elem) {
		wrong = append(wrong, []any{item})
	}
	return wrong
}

// with is the example of o with value at path, and what the structures on the
// way need; nil takes the field away.
func with(o *object, path string, value any) map[string]any {
	tree := o.sample()
	name, rest, deeper := strings.Cut(path, ".")
	if !deeper {
		if tree[name] = value; value == nil {
			delete(tree, name)
		}
		return tree
	}
	f := o.byName[name]
	tree[name] = inside(f.value, rest, value)
	return tree
}

func inside(v *value, path string, value any) any {
	if v.kind == kindObject {
		return with(v.obj, path, value)
	}
	if _, rest, deeper := strings.Cut(path, "."); deeper {
		return []any{inside(v.elem, rest, value)}
	}
	return []any{value}
}

// Every action refuses every generic fault of every field by code and name, and
// stores nothing. The rows are made from the schema, so a new action or field
// has its rows by being there.
func TestSchemaRefuses(t *testing.T) {
	b := newBench(t)
	rows := 0
	for _, a := range Actions() {
		for _, f := range faultsOf(&a) {
			body, err := json.Marshal(f.body)
			if err != nil {
				t.Fatal(err)
			}
			before := b.Store.State().Revision
			_, err = b.Do(t.Context(), a.Version, a.Name, body)
			if code(err) != f.code || !strings.Contains(err.Error(), f.text) {
				t.Errorf("%s, %s: %s\n got %v\nwant %s naming %s", a.Name, f.what, body, err, f.code, f.text)
			}
			if b.Store.State().Revision != before {
				t.Errorf("%s, %s: refused and stored", a.Name, f.what)
			}
			sawRow(a.Name, f.code)
			rows++
		}
		for _, body := range []string{"{", "[]", "7"} {
			b.refused(a.Name, body, "InvalidParameter", "body")
		}
	}
	if rows < 1000 {
		t.Errorf("only %d rows", rows)
	}
	t.Logf("%d rows of %d actions", rows, len(Actions()))
}

// Every id that is asked for and does not exist is refused by its name. An
// empty answer is right for what lists objects only.
func TestUnknownIDsAreRefused(t *testing.T) {
	for _, a := range Actions() {
		ids := map[string]string{} // path → id
		a.fields.eachField("", func(path string, f *field) {
			if f.required && idPrefix(f.name) != "" {
				ids[path] = idPrefix(f.name) + "1a2b3c4d"
			}
		})
		if len(ids) == 0 {
			continue
		}
		t.Run(a.Name, func(t *testing.T) {
			b := newBench(t)
			before := b.Store.State().Revision
			raw, err := b.Do(t.Context(), a.Version, a.Name, a.Example())
			if err == nil {
				if !strings.HasPrefix(a.Name, "Describe") {
					t.Errorf("%s with ids that do not exist answers %s", a.Example(), raw)
				}
				return
			}
			named := false
			for path, id := range ids {
				top, _, _ := strings.Cut(path, ".")
				named = named || strings.Contains(err.Error(), id) || strings.Contains(err.Error(), strings.TrimSuffix(top, "s"))
			}
			if !named || code(err) == codeInternal {
				t.Errorf("%s: %v names none of %v", a.Example(), err, slices.Collect(maps.Values(ids)))
			}
			if b.Store.State().Revision != before {
				t.Error("stored something")
			}
			sawRow(a.Name, code(err))
		})
	}
}

// An example passes its own schema.
func TestExamplesDecode(t *testing.T) {
	for _, a := range Actions() {
		if _, _, err := a.decode(&request{body: a.Example()}); err != nil {
			t.Errorf("%s %s: %v", a.Name, a.Example(), err)
		}
	}
}

type grownIn struct {
	Name  string   `tc:"required,len=10"`
	Mode  string   `tc:"enum=A|B"`
	Size  int64    `tc:"range=1-5"`
	Words []string `tc:"items=2"`
}

// Flags of a field are enforced by decoding: nothing but the tag is written.
func TestFlags(t *testing.T) {
	a := action(serviceVPC, "Grown", func(*Call, *grownIn) (*done, error) { return nil, nil })
	b := newBench(t)
	b.actions[actionKey{a.Version, a.Name}] = &a
	for _, f := range faultsOf(&a) {
		body, _ := json.Marshal(f.body)
		if err := b.try("Grown", string(body), nil); code(err) != f.code || !strings.Contains(err.Error(), f.text) {
			t.Errorf("%s: got %v, want %s naming %s", f.what, err, f.code, f.text)
		}
	}
	b.refusals([]refusal{
		{"Grown", `{"Name":"elevencharx"}`, "InvalidParameterValue.TooLong", "Name: 11 characters are too many; at most 10"},
		{"Grown", `{"Name":"a","Mode":"C"}`, "InvalidParameterValue", `Mode: "C" means nothing here; it is one of A, B`},
		{"Grown", `{"Name":"a","Size":6}`, "InvalidParameterValue.Range", "Size: 6 is outside 1-5; give"},
		{"Grown", `{"Name":"a","Words":["1","2","3"]}`, "LimitExceeded", "Words: 3 items are too many; give at most 2"},
		{"Grown", `{"name":"a"}`, "UnknownParameter", "write Name"},
		{"Grown", `{"Nmae":"a"}`, "UnknownParameter", "known: Name, Mode, Size, Words"},
	})
	if got, want := strings.Join(a.Codes(), " "), "InvalidParameter InvalidParameterValue InvalidParameterValue.Range InvalidParameterValue.TooLong LimitExceeded MissingParameter UnknownParameter"; got != want {
		t.Errorf("codes %s, want %s", got, want)
	}
	b.must("Grown", `{"Name":"é234567890","Mode":"","Size":`+strconv.Itoa(5)+`,"Words":["a","b"]}`, nil)
}
