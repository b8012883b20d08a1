// SPDX-License-Identifier: Apache-2.0

package cloudapi

import (
	"bytes"
	"cmp"
	flags "flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
)

var update = flags.Bool("update", false, "rewrite docs/api.md")

// docs/api.md says of every action what is served, stored without effect, and
// refused by name. It is made of the schemas, so it cannot be wrong.
func TestDocument(t *testing.T) {
	const path = "../../docs/api.md"
	want := document(Actions())
	if *update {
		if err := os.WriteFile(path, want, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Error("docs/api.md is not what the schemas say; run: go generate ./internal/cloudapi")
	}
}

func document(actions []Action) []byte {
	var b bytes.Buffer
	b.WriteString(`# API

Made from the schemas in internal/cloudapi by ` + "`go generate ./internal/cloudapi`" + `; edit those.

One address serves every service; requests are told apart by X-TC-Version and X-TC-Action. Signatures: TC3-HMAC-SHA256
(POST with JSON, GET with a flattened query) and the old HmacSHA1 and HmacSHA256. Times are UTC, "2006-01-02 15:04:05".

A field is **required**, optional, *echo* (stored and returned, without effect) or refused: a known field that is not
served answers UnsupportedOperation, unless its value asks for nothing (empty, 0, false). Other fields answer
UnknownParameter, other actions InvalidAction. "A|B" after a field lists the values served.
`)
	slices.SortStableFunc(actions, func(a, b Action) int {
		return cmp.Or(cmp.Compare(a.Service.Name, b.Service.Name), cmp.Compare(a.Name, b.Name))
	})
	b.WriteString("\n## Stored and returned without effect\n\n")
	for _, a := range actions {
		f := lists{}
		if f.walk("", a.fields); len(f.echo) > 0 {
			fmt.Fprintf(&b, "- %s %s: %s\n", a.Service.Name, a.Name, strings.Join(f.echo, ", "))
		}
	}
	service := Service{}
	for _, a := range actions {
		if a.Service != service {
			service = a.Service
			fmt.Fprintf(&b, "\n## %s %s\n", service.Name, service.Version)
		}
		fmt.Fprintf(&b, "\n### %s\n\n", a.Name)
		f := lists{}
		f.walk("", a.fields)
		f.write(&b)
	}
	return b.Bytes()
}

// lists are an action's fields by what is done with them.
type lists struct{ served, echo, refused []string }

func (l *lists) walk(at string, o *object) {
	for _, f := range o.fields {
		l.add(at, f)
	}
	for _, name := range o.unserved {
		l.refused = append(l.refused, at+name)
	}
}

func (l *lists) add(at string, f *field) {
	v, name := f.value, at+f.name
	for v.kind == kindList {
		v, name = v.elem, name+"[]"
	}
	text := fmt.Sprintf("%s (%v", name, v.kind)
	if f.only != nil {
		text += ": " + strings.Join(f.only, "|")
	}
	text += ")"
	switch {
	case f.echo:
		l.echo = append(l.echo, text)
		return
	case f.required:
		text = "**" + text + "**"
	}
	l.served = append(l.served, text)
	if v.kind == kindObject {
		l.walk(name+".", v.obj)
	}
}

func (l *lists) write(b *bytes.Buffer) {
	if len(l.served)+len(l.echo)+len(l.refused) == 0 {
		b.WriteString("No parameters.\n")
	}
	for _, part := range []struct {
		title string
		names []string
	}{{"Served", l.served}, {"Echo", l.echo}, {"Refused", l.refused}} {
		if len(part.names) > 0 {
			fmt.Fprintf(b, "- %s: %s\n", part.title, strings.Join(part.names, ", "))
		}
	}
}
