// SPDX-License-Identifier: Apache-2.0

package cloudapi

import (
	"slices"
	"strings"

	"github.com/sallyport/sallyport/internal/lb"
)

// Codes are all codes that the action itself can answer, sorted; those of the
// frame (signature, version, size, rate, InternalError) are left out.
func (a *Action) Codes() []string {
	codes := slices.Concat(a.schemaCodes(), a.codes)
	slices.Sort(codes)
	return slices.Compact(codes)
}

// schemaCodes are the codes that decoding answers: they follow from the fields.
func (a *Action) schemaCodes() []string {
	codes := map[string]bool{"InvalidParameter": true, "UnknownParameter": true} // no JSON; a name that is no field's
	a.fields.eachField("", func(_ string, f *field) {
		if f.required && !f.late {
			codes["MissingParameter"] = true
		}
		if f.only != nil {
			codes["UnsupportedOperation"] = true
		}
		if f.count != nil {
			codes[a.countCode(true)] = true
			codes[a.countCode(f.count.least == 0)] = true
		}
		if f.filters != nil {
			for _, c := range f.filterCodes(a.Service) {
				codes[c] = true
			}
		}
		if f.bounds != nil && f.leaf() == kindString {
			codes[a.code(lb.Malformed)] = true
		}
		for kind, set := range map[lb.Kind]bool{lb.Invalid: f.enum != nil, lb.Range: f.bounds != nil, lb.TooLong: f.length > 0, lb.LimitExceeded: f.items > 0} {
			if set {
				codes[f.codeOf(a.Service, kind)] = true
			}
		}
	})
	a.fields.eachObject(func(o *object) {
		if len(o.unserved) > 0 {
			codes["UnsupportedOperation"] = true
		}
	})
	return sortedKeys(codes)
}

// codeOf is the code of what the field's flags refuse.
func (f *field) codeOf(s Service, k lb.Kind) string {
	if f.code != "" {
		return f.code
	}
	return s.code(k)
}

// leaf is the kind of the field's value, or of the items of a list.
func (f *field) leaf() kind {
	v := f.value
	for v.kind == kindList {
		v = v.elem
	}
	return v.kind
}

// eachField calls fn with every field below o and its path, such as
// "Filters.0.Name": item 0 stands for each item of a list.
func (o *object) eachField(at string, fn func(path string, f *field)) {
	for _, f := range o.fields {
		path := at + f.name
		fn(path, f)
		v := f.value
		for v.kind == kindList {
			v, path = v.elem, path+".0"
		}
		if v.kind == kindObject {
			v.obj.eachField(path+".", fn)
		}
	}
}

// eachObject calls fn with o and every structure below it.
func (o *object) eachObject(fn func(*object)) {
	fn(o)
	o.eachField("", func(_ string, f *field) {
		v := f.value
		for v.kind == kindList {
			v = v.elem
		}
		if v.kind == kindObject {
			fn(v.obj)
		}
	})
}

// guess is the repair of a name that is not known: the known one that differs
// in capitals only, or the names there are.
func (o *object) guess(at, name string) string {
	var names []string
	for _, f := range o.fields {
		if strings.EqualFold(f.name, name) {
			return "names are told apart by capitals: write " + at + f.name
		}
		names = append(names, f.name)
	}
	if len(names) == 0 {
		return "there are no parameters here"
	}
	return "known: " + clip(strings.Join(names, ", "), 300)
}
