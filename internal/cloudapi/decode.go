// SPDX-License-Identifier: Apache-2.0

package cloudapi

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/url"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/sallyport/sallyport/internal/lb"
)

// decode turns a request's parameters into the action's input struct and
// gathers the echoed ones as JSON texts by name. JSON and flattened queries
// take the same way; only the leaves of a query are all text. Of an action that
// gathers, a gathered error comes with an input, of what can be read.
func (a *Action) decode(q *request) (in any, echo map[string]string, err error) {
	d := decoder{service: a.Service, gathers: a.gathers}
	var tree map[string]any
	if q.flat != nil {
		d.text = true
		tree, err = unflatten(q.flat)
	} else {
		tree, err = parseJSON(q.body)
	}
	if err != nil {
		return nil, nil, err
	}
	v := reflect.New(a.input)
	if err := d.object(a.fields, tree, v.Elem(), ""); err != nil {
		return nil, nil, err
	}
	if len(d.faults) > 0 {
		return v.Interface(), d.echo, d.faults
	}
	return v.Interface(), d.echo, nil
}

func parseJSON(body []byte) (map[string]any, error) {
	if len(bytes.TrimSpace(body)) == 0 {
		return map[string]any{}, nil
	}
	if err := checkText(body); err != nil {
		return nil, err
	}
	dec := json.NewDecoder(bytes.NewReader(body))
	dec.UseNumber()
	var v any
	if err := dec.Decode(&v); err != nil {
		return nil, errorf("InvalidParameter", "the body is not JSON: %v", err)
	}
	if _, err := dec.Token(); err != io.EOF {
		return nil, errorf("InvalidParameter", "the body goes on after the end of its JSON object")
	}
	tree, ok := v.(map[string]any)
	if !ok {
		return nil, errorf("InvalidParameter", "the body is %s; want a JSON object", describe(v))
	}
	dec = json.NewDecoder(bytes.NewReader(body))
	return tree, checkNames(dec, "")
}

// flatQuery parses a query whose keys may occur once each.
func flatQuery(raw string) (map[string]string, error) {
	values, err := url.ParseQuery(raw)
	if err != nil {
		return nil, errorf("InvalidParameter", "the query cannot be parsed: %v", err)
	}
	flat := make(map[string]string, len(values))
	for k, v := range values {
		if len(v) > 1 {
			return nil, errorf("InvalidParameter", "parameter %q is given %d times", clip(k, 80), len(v))
		}
		flat[k] = v[0]
	}
	return flat, nil
}

// unflatten makes a tree of "Filters.0.Values.1" keys. Lists stay maps from
// index to item until the schema says that they are lists.
func unflatten(flat map[string]string) (map[string]any, error) {
	root := map[string]any{}
	for key, text := range flat {
		at := root
		parts := strings.Split(key, ".")
		for i, part := range parts {
			if i == len(parts)-1 {
				if _, taken := at[part]; taken {
					return nil, errorf("InvalidParameter", "parameter %q is both a value and a structure", clip(key, 80))
				}
				at[part] = text
				break
			}
			next, ok := at[part]
			if !ok {
				next = map[string]any{}
				at[part] = next
			}
			if at, ok = next.(map[string]any); !ok {
				return nil, errorf("InvalidParameter", "parameter %q is both a value and a structure", clip(key, 80))
			}
		}
	}
	return root, nil
}

type decoder struct {
	service Service
	text    bool // leaves are text, from a query
	echo    map[string]string
	gathers bool     // go on after a fault
	faults  gathered // in the order of what was read
}

// fault is an error of decoding, or nil when it is noted and decoding goes on.
func (d *decoder) fault(err error) error {
	if !d.gathers || err == nil || len(d.faults) > maxTold {
		return err
	}
	d.faults = append(d.faults, err)
	return nil
}

// object decodes a map into a struct: unknown names, refused ones and missing
// ones are errors. null is the same as absent.
func (d *decoder) object(o *object, tree map[string]any, into reflect.Value, at string) error {
	names := make([]string, 0, len(tree))
	for name := range tree {
		names = append(names, name)
	}
	slices.Sort(names) // the same request gets the same answer
	for _, name := range names {
		raw := tree[name]
		if raw == nil {
			continue
		}
		f := o.byName[name]
		if f == nil {
			if err := d.fault(o.unknown(name, raw, at)); err != nil {
				return err
			}
			continue
		}
		if err := d.fault(d.field(f, raw, into, at)); err != nil {
			return err
		}
	}
	for _, f := range o.fields {
		if f.required && !f.late && tree[f.name] == nil {
			if err := d.fault(errorf("MissingParameter", "parameter %s is missing; give %s", at+f.name, f.want())); err != nil {
				return err
			}
		}
	}
	return nil
}

// unknown refuses a name that is no field's, unless it is known and asks for
// nothing.
func (o *object) unknown(name string, raw any, at string) error {
	if !slices.Contains(o.unserved, name) {
		return errorf("UnknownParameter", "parameter %q is not known; %s", clip(at+name, 120), o.guess(at, name))
	}
	if !blank(raw) {
		return errorf("UnsupportedOperation", "parameter %s is known but not served; leave it out", at+name)
	}
	return nil
}

func (d *decoder) field(f *field, raw any, into reflect.Value, at string) error {
	dst := into.FieldByIndex(f.index)
	if err := d.value(f.value, raw, dst, at+f.name); err != nil {
		return err
	}
	if err := f.check(d.service, reflect.Indirect(dst), raw, at); err != nil {
		if e := (*lb.Error)(nil); errors.As(err, &e) {
			return &Error{Code: f.codeOf(d.service, e.Kind), Message: e.Error()}
		}
		return err
	}
	if f.echo {
		text, err := json.Marshal(dst.Interface())
		if err != nil {
			return err
		}
		if d.echo == nil {
			d.echo = map[string]string{}
		}
		d.echo[at+f.name] = string(text)
	}
	return nil
}

// check holds a value against the flags of its field. Values that ask for
// nothing pass, except at a range: 0 is a number like any other. Of a text only
// the empty one does: "0" and "false" are words there.
func (f *field) check(s Service, v reflect.Value, raw any, at string) error {
	name := at + f.name
	blank := blank(raw)
	if f.value.kind == kindString {
		blank = raw == ""
	}
	text := func() string { return clip(fmt.Sprint(v.Interface()), 40) }
	switch {
	case f.enum != nil && f.required && raw == "":
		return errorf("MissingParameter", "%s: it is empty; give one of %s", name, strings.Join(f.served(), ", "))
	case f.enum != nil && (f.required || !blank) && !f.among(f.enum, v):
		return refuse(lb.Invalid, name, fmt.Sprintf("%q means nothing here", text()), "it is one of "+strings.Join(f.served(), ", "))
	case f.only != nil && !blank && !f.among(f.only, v):
		return errorf("UnsupportedOperation", "%s: %q is not served; served: %s", name, text(), strings.Join(choices(f.only), ", "))
	case f.filters != nil:
		return f.checkFilters(s, v.Interface().([]Filter), at)
	case f.length > 0:
		return f.checkLength(v, name)
	case f.count != nil && (f.required || !blank) && (int64(v.Len()) < f.count.least || int64(v.Len()) > f.count.most):
		return errorf(s.countCode(int64(v.Len()) > f.count.most), "%s: %s; give %v", name, count(v.Len(), "item"), f.count)
	case f.items > 0 && v.Len() > f.items:
		return refuse(lb.LimitExceeded, name, fmt.Sprintf("%d items are too many", v.Len()), fmt.Sprintf("give at most %d per call", f.items))
	case f.bounds != nil:
		return f.bounds.check(v, name)
	}
	return nil
}

// want says what a field takes.
func (f *field) want() string {
	if served := f.served(); len(served) > 1 && f.value.kind == kindString {
		return "one of " + strings.Join(choices(served), ", ")
	}
	return article(f.value.kind)
}

// among reports whether one of the values is v.
func (f *field) among(values []string, v reflect.Value) bool {
	text := fmt.Sprint(v.Interface())
	return slices.ContainsFunc(values, func(one string) bool {
		return one == text || f.anycase && strings.EqualFold(one, strings.TrimSpace(text))
	})
}

// served are the values that are taken: those of only where there is one.
func (f *field) served() []string {
	if f.only != nil {
		return f.only
	}
	return f.enum
}

// checkLength holds a text, or each of a list, against the most characters.
func (f *field) checkLength(v reflect.Value, name string) error {
	if v.Kind() == reflect.Slice {
		for i := range v.Len() {
			if err := f.checkLength(v.Index(i), name+"."+strconv.Itoa(i)); err != nil {
				return err
			}
		}
		return nil
	}
	if n := utf8.RuneCountInString(v.String()); n > f.length {
		return refuse(lb.TooLong, name, fmt.Sprintf("%d characters are too many", n), fmt.Sprintf("at most %d are allowed", f.length))
	}
	return nil
}

func (b *bounds) check(v reflect.Value, name string) error {
	if v.Kind() == reflect.Slice {
		for i := range v.Len() {
			if err := b.check(v.Index(i), name+"."+strconv.Itoa(i)); err != nil {
				return err
			}
		}
		return nil
	}
	if v.Kind() == reflect.String {
		text := v.String()
		if text == "" {
			return nil
		}
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			return refuse(lb.Malformed, name, strconv.Quote(clip(text, 40))+" is not a number", "write a number in digits")
		}
		v = reflect.ValueOf(n)
	}
	if n := v.Int(); n < b.least || n > b.most {
		if b.most == math.MaxInt64 {
			return refuse(lb.Range, name, fmt.Sprintf("%d is less than %d", n, b.least), fmt.Sprintf("give %v", b))
		}
		return refuse(lb.Range, name, fmt.Sprintf("%d is outside %v", n, b), "give a number within it")
	}
	return nil
}

func (d *decoder) value(v *value, raw any, dst reflect.Value, at string) error {
	if dst.Kind() == reflect.Pointer {
		dst.Set(reflect.New(dst.Type().Elem()))
		dst = dst.Elem()
	}
	wrong := func() error {
		return errorf("InvalidParameter", "%s is %s; want %s", at, describe(raw), article(v.kind))
	}
	switch v.kind {
	case kindString:
		s, ok := raw.(string)
		if !ok {
			return wrong()
		}
		if strings.ContainsRune(s, 0) || !utf8.ValidString(s) {
			return errorf("InvalidParameter", "%s: the text has a NUL character or is no UTF-8; take out what is no text", at)
		}
		dst.SetString(s)
	case kindInt:
		n, ok := integer(raw)
		if huge := !ok && wholeNumber.MatchString(fmt.Sprint(raw)); huge {
			return errorf("InvalidParameter", "%s: %s is greater than any number here; give one below 2^63", at, clip(fmt.Sprint(raw), 40))
		}
		if !ok {
			return wrong()
		}
		dst.SetInt(n)
	case kindBool:
		b, ok := d.boolean(raw)
		if !ok {
			return wrong()
		}
		dst.SetBool(b)
	case kindObject:
		m, ok := raw.(map[string]any)
		if !ok {
			return wrong()
		}
		return d.object(v.obj, m, dst, at+".")
	case kindList:
		return d.list(v, raw, dst, at, wrong)
	}
	return nil
}

func (d *decoder) list(v *value, raw any, dst reflect.Value, at string, wrong func() error) error {
	items, ok := raw.([]any)
	if m, isMap := raw.(map[string]any); d.text && isMap {
		items, ok = make([]any, len(m)), true
		for key, item := range m {
			i, err := strconv.Atoi(key)
			if err != nil || i < 0 || i >= len(m) || strconv.Itoa(i) != key {
				return errorf("InvalidParameter", "%s.%s: the items of a list are numbered from 0 without gaps", at, clip(key, 40))
			}
			items[i] = item
		}
	}
	if d.text && raw == "" {
		items, ok = nil, true
	}
	if m, isMap := raw.(map[string]any); !ok && isMap { // what a command line makes of a list with gaps
		for _, key := range sortedKeys(m) {
			if i, err := strconv.Atoi(key); err == nil && i >= len(m) {
				return errorf("InvalidParameter", "%s.%s: the items of a list are numbered from 0 without gaps", at, clip(key, 40))
			}
		}
	}
	if !ok {
		return wrong()
	}
	dst.Set(reflect.MakeSlice(dst.Type(), len(items), len(items)))
	for i, item := range items {
		if item == nil {
			return errorf("InvalidParameter", "%s.%d is null; want %s", at, i, article(v.elem.kind))
		}
		if err := d.value(v.elem, item, dst.Index(i), at+"."+strconv.Itoa(i)); err != nil {
			return err
		}
	}
	return nil
}

// integer accepts a JSON number without fraction and its decimal text, which
// the vendor's own examples send.
func integer(raw any) (int64, bool) {
	text := ""
	switch v := raw.(type) {
	case json.Number:
		text = v.String()
	case string:
		text = v
	}
	n, err := strconv.ParseInt(text, 10, 64)
	return n, err == nil
}

func (d *decoder) boolean(raw any) (value, ok bool) {
	if d.text {
		switch raw {
		case "true", "True", "1":
			return true, true
		case "false", "False", "0":
			return false, true
		}
	}
	value, ok = raw.(bool)
	return value, ok
}

// blank reports whether a value asks for nothing: SDKs send "", 0, false, []
// and {} for what their user left out.
func blank(raw any) bool {
	switch v := raw.(type) {
	case nil:
		return true
	case string:
		return v == "" || v == "0" || v == "false"
	case json.Number:
		return v == "0"
	case bool:
		return !v
	case []any:
		return len(v) == 0
	case map[string]any:
		for _, item := range v {
			if !blank(item) {
				return false
			}
		}
		return true
	}
	return false
}

func describe(raw any) string {
	switch v := raw.(type) {
	case string:
		return "the string " + strconv.Quote(clip(v, 40))
	case json.Number:
		return "the number " + clip(v.String(), 40)
	case bool:
		return fmt.Sprintf("the bool %v", v)
	case []any:
		return "a list"
	case map[string]any:
		return "an object"
	}
	return "null"
}

func article(k kind) string {
	if k == kindInt || k == kindObject {
		return "an " + k.String()
	}
	return "a " + k.String()
}
