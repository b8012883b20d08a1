// SPDX-License-Identifier: Apache-2.0

package cloudapi

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/sallyport/sallyport/internal/lb"
)

// A templateDoc is a parameter template of any of the four kinds.
type templateDoc struct {
	Id        string              `tc:""`
	Kind      string              `tc:"required,enum=AddressTemplate|AddressTemplateGroup|ServiceTemplate|ServiceTemplateGroup"`
	Name      string              `tc:"required,len=60"`
	Members   []templateMemberDoc `tc:""` // of a list
	Templates []string            `tc:""` // of a group: lists
	Tags      []Tag               `tc:""`
}

type templateMemberDoc struct {
	Member      string `tc:"required"` // an address, or a service such as tcp:80,443
	Description string `tc:"len=100"`
}

func templateSort(k templateKind) sort[lb.TemplateID, lb.Template] {
	return sort[lb.TemplateID, lb.Template]{k.field, k.prefix, k.all, func(t *lb.Template) string { return t.Name }}
}

// kindNamed is the kind that documents call name, or that an id names.
func kindNamed(name string) templateKind {
	for _, k := range templateKinds() {
		if k.field == name || strings.HasPrefix(name, k.prefix) {
			return k
		}
	}
	return templateKind{}
}

func (x *exporter) templateRef(id lb.TemplateID) string {
	if t := x.st.Templates.Get(id); t != nil {
		return reference(x, x.names.templates[kindNamed(string(id)).prefix], id, t.Name)
	}
	return string(id)
}

func (x *exporter) templates() []templateDoc {
	var docs []templateDoc
	for _, k := range templateKinds() {
		docs = append(docs, each(k.all(x.st), func(t *lb.Template) string { return t.Name }, x.template)...)
	}
	return docs
}

func (x *exporter) template(t *lb.Template) templateDoc {
	d := templateDoc{Id: string(t.ID), Kind: kindNamed(string(t.ID)).field, Name: t.Name, Tags: tagsOut(t.Tags)}
	for _, m := range t.Members {
		d.Members = append(d.Members, templateMemberDoc{m.Text, m.Description})
	}
	for _, id := range t.Templates {
		d.Templates = append(d.Templates, x.templateRef(id))
	}
	return d
}

// templates makes lists first, then the groups that hold them.
func (a *applier) templates() error {
	for _, groups := range []bool{false, true} {
		for i := range a.in.ParameterTemplates {
			d := a.in.ParameterTemplates[i]
			k := kindNamed(d.Kind)
			if (k.lists != "") != groups {
				continue
			}
			path := fmt.Sprintf("ParameterTemplates.%d.", i)
			if err := a.attempt(path, k.field, d.Id, d.Name, func() error { return a.template(path, k, d) }); err != nil {
				return err
			}
		}
	}
	return nil
}

func (a *applier) template(path string, k templateKind, d templateDoc) error {
	t := &lb.Template{Name: d.Name}
	var err error
	if t.Members, t.Templates, err = a.holds(path, k, &d); err != nil {
		return err
	}
	old, id, err := templateSort(k).match(a, path, d.Id, d.Name)
	if err != nil {
		return err
	}
	if old == nil {
		if err := a.sub(nil, d.Id).newTemplate(k, t, d.Tags); err != nil {
			return at(path, k.field, err)
		}
		if err := a.claimNew(path, d.Id, string(t.ID)); err != nil {
			return err
		}
		return a.create(k.field, d.Id, string(t.ID), d.Name, path)
	}
	changed := unlike((&exporter{st: a.st(), ids: true}).template(old), d, "Id")
	if err := fixed(path, "a template", changed, "Tags"); err != nil || len(changed) == 0 {
		return err
	}
	a.note("change", k.field, string(id), d.Name, path, changed...)
	return at(path, k.field, a.sub(nil).changeTemplate(k, "Id", string(id), func(now *lb.Template) error {
		now.Name, now.Members, now.Templates = t.Name, slices.Clone(t.Members), slices.Clone(t.Templates)
		return k.rename(&t.Name, now)
	}))
}

// holds reads what a template is made of, and resolves it in the document.
func (a *applier) holds(path string, k templateKind, d *templateDoc) ([]lb.TemplateMember, []lb.TemplateID, error) {
	if k.lists == "" {
		if len(d.Templates) > 0 {
			return nil, nil, refuse(lb.Invalid, path+"Templates", "an "+k.noun+" holds members, not templates", "write them as Members, or use Kind "+k.field+"Group")
		}
		var given []givenMember
		for i, m := range d.Members {
			given = append(given, givenMember{fmt.Sprintf("%sMembers.%d.Member", path, i), m.Member, m.Description})
		}
		members, err := k.members(given, a.c.Now().UTC())
		return members, nil, err
	}
	if len(d.Members) > 0 {
		return nil, nil, refuse(lb.Invalid, path+"Members", "an "+k.noun+" holds templates, not members", "write them as Templates")
	}
	d.Templates = slices.Clone(d.Templates)
	var ids []lb.TemplateID
	err := a.each(len(d.Templates), func(i int) error {
		_, id, err := templateSort(k.part()).find(a, fmt.Sprintf("%sTemplates.%d", path, i), d.Templates[i])
		d.Templates[i] = string(id)
		ids = append(ids, id)
		return err
	})
	return nil, ids, err
}

// templateIn resolves the template of a rule, a list or a group of lists.
func (a *applier) templateIn(field, ref string, list templateKind) (lb.TemplateID, error) {
	if ref == "" {
		return "", nil
	}
	group := kindNamed(list.field + "Group")
	_, inLists, err := templateSort(list).find(a, field, ref)
	_, inGroups, groupErr := templateSort(group).find(a, field, ref)
	switch {
	case err == nil && groupErr == nil:
		return "", refuse(lb.Invalid, field, fmt.Sprintf("%q is the name of a list and of a group of lists", clip(ref, 60)), "write the id of one")
	case err == nil || groupErr == nil:
		return cmp.Or(inLists, inGroups), nil
	}
	if on := (*dependence)(nil); !errors.As(err, &on) && errors.As(groupErr, &on) {
		return "", groupErr
	}
	return "", err
}

// pruneTemplates deletes groups before the lists that they hold.
func (a *applier) pruneTemplates(unclaimed func(id string) bool) error {
	for _, groups := range []bool{true, false} {
		for _, k := range templateKinds() {
			if (k.lists != "") != groups {
				continue
			}
			for _, id := range k.all(a.st()).Sorted() {
				if !unclaimed(string(id)) {
					continue
				}
				name := a.st().Templates.Get(id).Name
				if _, err := a.sub(nil).deleteTemplate(k, "Id", string(id)); err != nil {
					return at("ParameterTemplates", "Id", err)
				}
				a.note("delete", k.field, string(id), name, "")
			}
		}
	}
	return nil
}
