// SPDX-License-Identifier: Apache-2.0

package cloudapi

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

// Find is the action of that name; names of different services do not overlap.
// ok is false when none is served.
func Find(name string) (a Action, ok bool) {
	all := Actions()
	if i := slices.IndexFunc(all, func(a Action) bool { return a.Name == name }); i >= 0 {
		return all[i], true
	}
	return Action{}, false
}

// rules says what the field's flags allow, "" when everything of its kind is:
// "WRR|IP_HASH", "1-100, at most 20 items".
func (f *field) rules() string {
	var parts []string
	if values := choices(f.served()); len(values) > 0 {
		parts = append(parts, strings.Join(values, "|"))
	}
	if f.bounds != nil {
		parts = append(parts, f.bounds.String())
	}
	if f.length > 0 {
		parts = append(parts, fmt.Sprintf("at most %d characters", f.length))
	}
	if f.count != nil {
		parts = append(parts, f.count.String()+" items")
	}
	if f.items > 0 {
		parts = append(parts, fmt.Sprintf("at most %d items", f.items))
	}
	return strings.Join(parts, ", ")
}

// choices are values as people read them: the empty text in quotes.
func choices(values []string) []string {
	texts := slices.Clone(values)
	if i := slices.Index(texts, ""); i >= 0 {
		texts[i] = `""`
	}
	return texts
}

// shown is a field's path as people read it: "Filters[].Name".
func shown(path string, f *field) (name string, leaf kind) {
	name = strings.ReplaceAll(path, ".0", "[]")
	v := f.value
	for v.kind == kindList {
		v, name = v.elem, name+"[]"
	}
	return name, v.kind
}

// refusedNames are the paths of all fields that are known and not served.
func (o *object) refusedNames(at string) []string {
	var names []string
	for _, name := range o.unserved {
		names = append(names, at+name)
	}
	for _, f := range o.fields {
		name, v := at+f.name, f.value
		for v.kind == kindList {
			v, name = v.elem, name+"[]"
		}
		if v.kind == kindObject && !f.echo {
			names = append(names, v.obj.refusedNames(name+".")...)
		}
	}
	return names
}

// Help describes the action for a terminal: fields with kinds, ranges and
// choices, what is refused, error codes and an example.
func (a *Action) Help() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s, version %s\n", a.Service.Name, a.Name, a.Version)
	if len(a.fields.fields) == 0 {
		b.WriteString("\nIt takes no fields.\n")
	} else {
		b.WriteString("\nFields (* must be given, ~ is stored and returned without effect):\n")
	}
	type line struct{ mark, name, kind, rules string }
	var lines []line
	wide := 0
	a.fields.eachField("", func(path string, f *field) {
		mark := " "
		switch {
		case f.required:
			mark = "*"
		case f.echo && !f.acts:
			mark = "~"
		}
		name, leaf := shown(path, f)
		lines = append(lines, line{mark, name, leaf.String(), f.rules()})
		wide = max(wide, len(name))
	})
	for _, l := range lines {
		text := fmt.Sprintf("  %s %-*s  %-8s %s", l.mark, wide, l.name, l.kind, l.rules)
		fmt.Fprintln(&b, strings.TrimRight(text, " "))
	}
	if filters := a.fields.filterTexts(); len(filters) > 0 {
		fmt.Fprintf(&b, "\nFilters:\n%s", wrapped(filters))
	}
	if refused := a.fields.refusedNames(""); len(refused) > 0 {
		fmt.Fprintf(&b, "\nKnown, but answered with UnsupportedOperation unless empty:\n%s", wrapped(refused))
	}
	fmt.Fprintf(&b, "\nError codes:\n%s", wrapped(a.Codes()))
	fmt.Fprintf(&b, "\nExample:\n  sallyport api %s", a.Name)
	if a.flags != "" {
		b.WriteString(" " + a.flags)
	} else if example := string(a.Example()); example != "{}" {
		fmt.Fprintf(&b, " --json - <<<'%s'", example)
	}
	b.WriteString("\n")
	return b.String()
}

// wrapped is words in indented lines of at most 100 characters.
func wrapped(words []string) string {
	var b strings.Builder
	at := 0
	for _, w := range words {
		if at > 0 && at+len(w) > 98 {
			b.WriteString("\n")
			at = 0
		}
		b.WriteString(cmp.Or(map[bool]string{true: "  "}[at == 0], " ") + w)
		at += len(w) + 1
	}
	b.WriteString("\n")
	return b.String()
}

// Params makes a request body of named texts, as a command line has them. A
// name is a field ("Limit"), a place in a structure ("Filters.0.Name"), or a
// list, whose texts are its items; a structure or list may also be one JSON
// text. Errors name the field; values are left for the server to judge.
func (a *Action) Params(given map[string][]string) (json.RawMessage, error) {
	flat := map[string]string{}
	tree := map[string]any{}
	for _, name := range sortedKeys(given) {
		texts := given[name]
		top, _, deeper := strings.Cut(name, ".")
		f := a.fields.byName[top]
		if f == nil && !slices.Contains(a.fields.unserved, top) {
			return nil, fmt.Errorf("%s has no field %s; %s", a.Name, top, a.fields.guess("", top))
		}
		if deeper {
			if at := a.fields.lookup(name); at != nil && at.kind == kindList && !strings.HasPrefix(texts[0], "[") {
				for i, text := range texts {
					flat[fmt.Sprintf("%s.%d", name, i)] = text
				}
				continue
			}
		}
		switch {
		case f == nil, deeper:
			flat[name] = texts[len(texts)-1]
		case (f.value.kind == kindObject || f.value.kind == kindList) && strings.IndexAny(texts[0], "[{") == 0:
			var v any
			if err := json.Unmarshal([]byte(texts[0]), &v); err != nil {
				return nil, fmt.Errorf("%s: its text opens like JSON and is not: %w", name, err)
			}
			tree[name] = v
		case f.value.kind == kindList:
			for i, text := range texts {
				flat[fmt.Sprintf("%s.%d", name, i)] = text
			}
		case len(texts) > 1:
			return nil, fmt.Errorf("%s is given %d times and is no list; give it once", name, len(texts))
		default:
			flat[name] = texts[0]
		}
	}
	grown, err := unflatten(flat)
	if err != nil {
		return nil, err
	}
	for name, v := range grown {
		tree[name] = v
	}
	return json.Marshal(a.fields.typed(tree))
}

// lookup is the value at a path such as "Filters.0.Values", nil when there is none.
func (o *object) lookup(path string) *value {
	name, rest, deeper := strings.Cut(path, ".")
	f := o.byName[name]
	if f == nil {
		return nil
	}
	v := f.value
	for deeper && v.kind == kindList {
		_, rest, deeper = strings.Cut(rest, ".")
		v = v.elem
	}
	if deeper && v.kind == kindObject {
		return v.obj.lookup(rest)
	}
	if deeper {
		return nil
	}
	return v
}

// typed gives the texts of a flattened tree the kinds of the schema; what does
// not fit stays a text, for the server to name.
func (o *object) typed(tree map[string]any) map[string]any {
	out := map[string]any{}
	for name, raw := range tree {
		if out[name] = raw; o.byName[name] != nil {
			out[name] = o.byName[name].value.typed(raw)
		}
	}
	return out
}

func (v *value) typed(raw any) any {
	d := decoder{text: true}
	if text, ok := raw.(string); ok && (v.kind == kindObject && strings.HasPrefix(text, "{") || v.kind == kindList && strings.HasPrefix(text, "[")) {
		var parsed any
		if json.Unmarshal([]byte(text), &parsed) == nil {
			return parsed
		}
	}
	switch v.kind {
	case kindInt:
		if n, ok := integer(raw); ok {
			return n
		}
	case kindBool:
		if b, ok := d.boolean(raw); ok {
			return b
		}
	case kindObject:
		if m, ok := raw.(map[string]any); ok {
			return v.obj.typed(m)
		}
	case kindList:
		m, ok := raw.(map[string]any)
		if !ok {
			return raw
		}
		items := make([]any, 0, len(m))
		for i := range len(m) {
			item, there := m[fmt.Sprint(i)]
			if !there {
				return raw
			}
			items = append(items, v.elem.typed(item))
		}
		return items
	}
	return raw
}
