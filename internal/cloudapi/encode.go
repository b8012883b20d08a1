// SPDX-License-Identifier: Apache-2.0

package cloudapi

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"reflect"
)

// encode writes an answer as a JSON object. Lists are never null: nil slices
// of the answer are made empty first.
func encode(res any) (json.RawMessage, error) {
	if res == nil {
		return json.RawMessage("{}"), nil
	}
	fillLists(reflect.ValueOf(res))
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(res); err != nil {
		return nil, err
	}
	return bytes.TrimSpace(b.Bytes()), nil
}

// A none is a structure that clients know and that nothing here has: a pointer
// to it is answered as null, a list of it as [].
type none struct{}

func fillLists(v reflect.Value) {
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			fillLists(v.Elem())
		}
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() {
				fillLists(v.Field(i))
			}
		}
	case reflect.Slice:
		if v.IsNil() && v.CanSet() {
			v.Set(reflect.MakeSlice(v.Type(), 0, 0))
		}
		if k := v.Type().Elem().Kind(); k == reflect.Struct || k == reflect.Pointer || k == reflect.Slice {
			for i := range v.Len() {
				fillLists(v.Index(i))
			}
		}
	}
}

// inner adds the RequestId to an answer's JSON object.
func inner(out json.RawMessage, id string) json.RawMessage {
	var b bytes.Buffer
	b.Write(bytes.TrimSuffix(out, []byte("}")))
	if len(out) > len("{}") {
		b.WriteByte(',')
	}
	fmt.Fprintf(&b, `"RequestId":%q}`, id)
	return b.Bytes()
}

func envelope(out json.RawMessage, id string) []byte {
	if len(out) == 0 {
		out = json.RawMessage("{}")
	}
	return fmt.Appendf(nil, `{"Response":%s}`, inner(out, id))
}

func errorEnvelope(e *Error, id string) []byte {
	text, err := json.Marshal(struct{ Error *Error }{e})
	if err != nil { // two strings always marshal
		text = []byte(`{"Error":{"Code":"InternalError","Message":""}}`)
	}
	return envelope(text, id)
}

// newRequestID makes a random UUID (version 4).
func newRequestID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails: it ends the program instead
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}
