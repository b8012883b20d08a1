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
	statuses(&b, actions)
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
		if filters := a.fields.filterTexts(); len(filters) > 0 {
			fmt.Fprintf(&b, "- Filters: %s\n", strings.Join(filters, ", "))
		}
		fmt.Fprintf(&b, "- Codes: %s\n", strings.Join(a.Codes(), ", "))
	}
	return b.Bytes()
}

// vendorActions are the actions that clients may expect here, by service, and
// what is said of those that are not served, or not for everything.
func vendorActions() (actions [][2]string, why map[string]string) {
	text, err := os.ReadFile("testdata/vendor-actions.txt")
	if err != nil {
		panic(err)
	}
	why = map[string]string{}
	for line := range strings.Lines(string(text)) {
		line, reason, _ := strings.Cut(strings.TrimSpace(line), " — ")
		if service, name, ok := strings.Cut(line, " "); ok && service != "#" {
			if reason != "" {
				why[name] = reason
			}
			actions = append(actions, [2]string{service, name})
		}
	}
	return actions, why
}

// statuses says of each action of the vendor and of ours whether it is served,
// partly (and what is missing) or not.
func statuses(b *bytes.Buffer, actions []Action) {
	b.WriteString("\n## What is served\n\n| action | served | missing |\n|---|---|---|\n")
	all, why := vendorActions()
	served := map[string]*Action{}
	for i, a := range actions {
		served[a.Name] = &actions[i]
		if name := [2]string{a.Service.Name, a.Name}; !slices.Contains(all, name) {
			all = append(all, name)
		}
	}
	slices.SortFunc(all, func(x, y [2]string) int { return cmp.Or(cmp.Compare(x[0], y[0]), cmp.Compare(x[1], y[1])) })
	for _, name := range all {
		status, missing := "no", why[name[1]]
		if a := served[name[1]]; a != nil {
			lacks := a.fields.refusedNames("")
			if why[name[1]] != "" {
				lacks = append([]string{why[name[1]]}, lacks...)
			}
			a.fields.eachField("", func(path string, f *field) {
				if f.only != nil {
					path, _ = shown(path, f)
					lacks = append(lacks, path+" other than "+strings.Join(choices(f.only), ", "))
				}
			})
			status, missing = "yes", strings.Join(lacks, "; ")
			if missing != "" {
				status = "partly"
			}
		}
		fmt.Fprintf(b, "| %s %s | %s | %s |\n", name[0], name[1], status, missing)
	}
}

// Every action that is ours is listed as the vendor's or belongs to our own service.
func TestVendorActions(t *testing.T) {
	all, why := vendorActions()
	if len(all) < 100 || !slices.IsSortedFunc(all, func(x, y [2]string) int { return cmp.Or(cmp.Compare(x[0], y[0]), cmp.Compare(x[1], y[1])) }) {
		t.Errorf("%d actions, or not in order", len(all))
	}
	for _, name := range all {
		if _, ok := Find(name[1]); !ok && why[name[1]] == "" {
			t.Errorf("%s is not served; say why behind its name in vendor-actions.txt", name[1])
		}
		if a, ok := Find(name[1]); ok && a.Service.Name != name[0] {
			t.Errorf("%s is served as an action of %s, not of %s", name[1], a.Service.Name, name[0])
		}
	}
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
	if rules := f.rules(); rules != "" {
		text += ": " + rules
	}
	text += ")"
	switch {
	case f.echo && !f.acts:
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
