// SPDX-License-Identifier: Apache-2.0

package cloudapi

import (
	"fmt"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"
)

// A Service is one of the API's products with the version that is served.
type Service struct {
	Name    string
	Version string
}

// The services. cvm and vpc share a version: their actions' names do not overlap.
var (
	serviceCLB       = Service{"clb", "2018-03-17"}
	serviceVPC       = Service{"vpc", "2017-03-12"}
	serviceCVM       = Service{"cvm", "2017-03-12"}
	serviceTag       = Service{"tag", "2018-08-13"}
	serviceSSL       = Service{"ssl", "2019-12-05"}
	serviceSallyport = Service{"sallyport", "2026-11-23"}
)

// An Action is one entry of the API with its schema, which is derived from the
// tags of its input struct:
//
//	Name string  `tc:"required"`        must be given (it may be empty)
//	Name string  `tc:""`                may be given
//	Name *string `tc:"echo"`            stored and returned, without effect
//	Name *bool   `tc:"echo,acts"`       stored as an echo field is, and heeded
//	Name string  `tc:"only=WRR|..."`    other values answer UnsupportedOperation
//	Name string  `tc:"enum=ADD|DEL"`    other values mean nothing: the service's code of lb.Invalid
//	Name string  `tc:"anycase,enum=A"`  with enum: in any case, and with blanks around it
//	Name int64   `tc:"range=1-100"`     other numbers: the service's code of lb.Range; "0-" has no end. Of a text: it is one in digits
//	Name string  `tc:"len=60"`          longer texts (in characters): the service's code of lb.TooLong
//	Name []T     `tc:"items=20"`        more items: the service's code of lb.LimitExceeded
//	Name []T     `tc:"count=1-20"`      another number of items: what the service publishes for that (see countCode)
//	Name string  `tc:"len=64,code=X"`   X is published for what this field's flags refuse
//	Name []T     `tc:"required,late"`   must be given; the list around it says so, with a code of its own
//	_ []Filter   `filters:"a b=X|Y"`    the filters there are, see filterRule
//	_ struct{}   `unserved:"A B C"`     known names; anything but an empty value answers UnsupportedOperation
//
// Fields may be string, int64, bool, pointers to those (nil: not given),
// structs, pointers to structs and slices; embedded structs are part of the
// outer one. The Go name is the name on the wire; docs/api.md is made of these
// schemas.
//
//go:generate go test -run ^TestDocument$ . -update
type Action struct {
	Service
	Name    string
	access  access
	codes   []string // that the handler answers, beside those of the schema
	fields  *object
	input   reflect.Type
	output  reflect.Type
	sample  string // request body of Example; "": its required fields
	flags   string // instead of that, in the help of the command line
	gathers bool   // see gathering
	run     func(*Call, any) (any, error)
}

// like gives the action's example where the required fields alone ask for
// nothing: a request body as JSON, with ids as idPrefix and 1a2b3c4d.
func (a Action) like(body string) Action {
	a.sample = body
	return a
}

// typed gives the example of the command line as flags, where the values of a
// body would be whole files.
func (a Action) typed(flags string) Action {
	a.flags = flags
	return a
}

// fails says which codes the handler answers, beside those that follow from
// the schema (see schemaCodes). A test fails when a handler answers another one,
// and when no test's row shows one that is named here.
func (a Action) fails(codes ...string) Action {
	a.codes = append(slices.Clone(a.codes), codes...)
	return a
}

// action makes an Action from a handler. A bad tag panics, which every test
// of the package would show.
func action[In, Out any](s Service, name string, handle func(*Call, *In) (*Out, error)) Action {
	t := reflect.TypeFor[In]()
	return Action{Service: s, Name: name, input: t, output: reflect.TypeFor[Out](), fields: objectOf(t),
		run: func(c *Call, in any) (any, error) {
			out, err := handle(c, in.(*In))
			if out == nil { // a nil *Out would not be a nil any
				return nil, err
			}
			return out, err
		}}
}

// done is the answer of actions that return nothing but a RequestId.
type done struct{}

type kind uint8

const (
	kindString kind = iota
	kindInt
	kindBool
	kindObject
	kindList
)

func (k kind) String() string {
	return [...]string{"string", "integer", "bool", "object", "list"}[k]
}

// An object is the schema of one struct.
type object struct {
	fields   []*field // in order of declaration
	byName   map[string]*field
	unserved []string
}

// needs makes fields required that other actions with the same structures can
// do without, by their paths as in eachField.
func (a Action) needs(paths ...string) Action {
	a.fields = a.fields.copied()
	found := 0
	a.fields.eachField("", func(path string, f *field) {
		if slices.Contains(paths, path) {
			f.required, f.needed = true, true
			found++
		}
	})
	if found != len(paths) {
		panic(fmt.Sprintf("%s has not all of the fields %v", a.Name, paths))
	}
	return a
}

func (o *object) copied() *object {
	c := &object{byName: map[string]*field{}, unserved: o.unserved}
	for _, f := range o.fields {
		own := *f
		own.value = f.value.copied()
		c.fields = append(c.fields, &own)
		c.byName[own.name] = &own
	}
	return c
}

func (v *value) copied() *value {
	if v == nil {
		return nil
	}
	c := &value{kind: v.kind, elem: v.elem.copied()}
	if v.obj != nil {
		c.obj = v.obj.copied()
	}
	return c
}

// A field is the schema of one parameter.
type field struct {
	name     string
	index    []int // for reflect.Value.FieldByIndex
	required bool
	needed   bool // required by this action alone, see needs
	late     bool // with required: the check of what it is part of refuses its absence
	echo     bool
	acts     bool     // with echo: it has an effect, and is no echo to readers
	only     []string // values served of those that the vendor has
	enum     []string // values there are
	bounds   *bounds  // of a number; nil: any
	anycase  bool     // with enum
	length   int      // most characters of a text; 0: any
	items    int      // most items of a list; 0: any
	code     string   // of what the flags refuse; "": the service's
	count    *bounds  // of how many items there are; nil: any
	filters  []filterRule
	value    *value
}

// A value is the schema of a parameter's value.
type value struct {
	kind kind
	obj  *object // kindObject
	elem *value  // kindList
}

func objectOf(t reflect.Type) *object {
	o := &object{byName: map[string]*field{}}
	o.add(t, nil)
	return o
}

func (o *object) add(t reflect.Type, at []int) {
	for i := range t.NumField() {
		f := t.Field(i)
		index := append(slices.Clone(at), i)
		if names, ok := f.Tag.Lookup("unserved"); ok {
			o.unserved = append(o.unserved, strings.Fields(names)...)
			continue
		}
		if f.Anonymous {
			o.add(f.Type, index)
			continue
		}
		tag, ok := f.Tag.Lookup("tc")
		if !ok || !f.IsExported() {
			panic(fmt.Sprintf("%v.%s: an input field is exported and has a tc tag", t, f.Name))
		}
		fd := &field{name: f.Name, index: index, value: valueOf(f.Type)}
		fd.flags(tag)
		fd.filters = parseFilters(f.Tag.Get("filters"))
		if f.Type == reflect.TypeFor[[]Filter]() && fd.filters == nil {
			panic(fmt.Sprintf("%v.%s: filters are declared by a tag", t, f.Name))
		}
		o.fields = append(o.fields, fd)
		o.byName[fd.name] = fd
	}
}

// bounds are the least and the greatest number allowed.
type bounds struct{ least, most int64 }

func (b bounds) String() string {
	if b.most == math.MaxInt64 {
		return fmt.Sprintf("%d or more", b.least)
	}
	return fmt.Sprintf("%d-%d", b.least, b.most)
}

// parseBounds reads "1-100", or "0-" for bounds without an end.
func parseBounds(field, text string) *bounds {
	b := &bounds{most: math.MaxInt64}
	n, err := fmt.Sscanf(text, "%d-%d", &b.least, &b.most)
	if open := n == 1 && strings.HasSuffix(text, "-"); !open && err != nil || b.least > b.most {
		panic("bounds " + text + " of field " + field + ": want two numbers, as in 1-100")
	}
	return b
}

func (f *field) flags(tag string) {
	for flag := range strings.SplitSeq(tag, ",") {
		name, arg, _ := strings.Cut(flag, "=")
		switch name {
		case "only":
			f.only = strings.Split(arg, "|")
		case "enum":
			f.enum = strings.Split(arg, "|")
		case "range":
			f.bounds = parseBounds(f.name, arg)
		case "count":
			f.count = parseBounds(f.name, arg)
		case "code":
			f.code = arg
		case "anycase":
			f.anycase = true
		case "len":
			f.length = positive(f.name, arg)
		case "items":
			f.items = positive(f.name, arg)
		case "required":
			f.required = true
		case "late":
			f.late = true
		case "acts":
			f.acts = true
		case "echo":
			f.echo = true
		case "":
		default:
			panic("unknown flag " + flag + " of field " + f.name)
		}
	}
}

func positive(field, text string) int {
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		panic(text + " of field " + field + " is not a positive number")
	}
	return n
}

func valueOf(t reflect.Type) *value {
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch t.Kind() {
	case reflect.String:
		return &value{kind: kindString}
	case reflect.Int64:
		return &value{kind: kindInt}
	case reflect.Bool:
		return &value{kind: kindBool}
	case reflect.Struct:
		return &value{kind: kindObject, obj: objectOf(t)}
	case reflect.Slice:
		return &value{kind: kindList, elem: valueOf(t.Elem())}
	}
	panic(fmt.Sprintf("type %v has no kind on the wire", t))
}
