// SPDX-License-Identifier: Apache-2.0

package cloudapi

import (
	"fmt"
	"reflect"
	"slices"
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
	serviceSallyport = Service{"sallyport", "2026-11-23"}
)

// An Action is one entry of the API with its schema, which is derived from the
// tags of its input struct:
//
//	Name string  `tc:"required"`        must be given (it may be empty)
//	Name string  `tc:""`                may be given
//	Name *string `tc:"echo"`            stored and returned, without effect
//	Name string  `tc:"only=WRR|..."`    other values answer UnsupportedOperation
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
	Name   string
	fields *object
	input  reflect.Type
	run    func(*Call, any) (any, error)
}

// action makes an Action from a handler. A bad tag panics, which every test
// of the package would show.
func action[In, Out any](s Service, name string, handle func(*Call, *In) (*Out, error)) Action {
	t := reflect.TypeFor[In]()
	return Action{Service: s, Name: name, input: t, fields: objectOf(t),
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

// A field is the schema of one parameter.
type field struct {
	name     string
	index    []int // for reflect.Value.FieldByIndex
	required bool
	echo     bool
	only     []string
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
		o.fields = append(o.fields, fd)
		o.byName[fd.name] = fd
	}
}

func (f *field) flags(tag string) {
	for flag := range strings.SplitSeq(tag, ",") {
		only, isOnly := strings.CutPrefix(flag, "only=")
		switch {
		case isOnly:
			f.only = strings.Split(only, "|")
		case flag == "required":
			f.required = true
		case flag == "echo":
			f.echo = true
		case flag != "":
			panic("unknown flag " + flag + " of field " + f.name)
		}
	}
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
