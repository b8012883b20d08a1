// SPDX-License-Identifier: Apache-2.0

package cloudapi

import (
	"cmp"
	"slices"
	"strings"

	"github.com/sallyport/sallyport/internal/lb"
)

// A templateQuery is what a Describe action of templates asks for.
type templateQuery struct {
	kind             templateKind
	filters          []Filter
	text             TextPaging
	member           string // the filter that looks at members; "": none
	order, direction string
	// Members are in the order of their author unless memberOrder says otherwise.
	memberOrder, memberDirection string
}

// listTemplates lists a page of a kind's templates and counts all that match.
// What it returns may be read only.
func (c *Call) listTemplates(q templateQuery) ([]*lb.Template, int, error) {
	st, name := c.State(), q.kind.filterName()
	match := map[string]func(*lb.Template, string) bool{}
	if q.member != "" {
		match[q.member] = func(t *lb.Template, text string) bool {
			return slices.ContainsFunc(t.Members, func(m lb.TemplateMember) bool {
				return q.kind.addresses() && holdsAddress(m, text) || !q.kind.addresses() && strings.EqualFold(m.Text, text)
			})
		}
	}
	found, total, err := listObjects(c, query[lb.TemplateID, lb.Template]{
		filters: q.filters, text: q.text, objects: q.kind.all(st), match: match,
		keys: map[string]func(*lb.Template) []string{
			name + "-id":   func(t *lb.Template) []string { return []string{string(t.ID)} },
			name + "-name": func(t *lb.Template) []string { return []string{t.Name} },
		},
		tags:  func(t *lb.Template) lb.Tags { return t.Tags },
		order: q.compare,
	})
	for i := range found {
		found[i] = q.arranged(st, found[i])
	}
	return found, total, err
}

// filterName is how the names of the kind's filters begin.
func (k templateKind) filterName() string {
	return map[string]string{lb.AddressTemplate: "address-template", lb.AddressTemplateGroup: "address-template-group",
		lb.ServiceTemplate: "service-template", lb.ServiceTemplateGroup: "service-template-group"}[k.prefix]
}

func (q templateQuery) compare(a, b *lb.Template) int {
	n := a.Created.Compare(b.Created)
	switch q.order {
	case q.kind.field + "Id":
		n = cmp.Compare(a.ID, b.ID)
	case "UpdateTime":
		n = a.Updated.Compare(b.Updated)
	}
	if n = cmp.Or(n, cmp.Compare(a.ID, b.ID)); q.direction == "DESC" {
		return -n
	}
	return n
}

// arranged is the template with its members in the order asked for.
func (q templateQuery) arranged(st *lb.State, t *lb.Template) *lb.Template {
	if q.memberOrder == "" && q.memberDirection != "DESC" {
		return t
	}
	byTime, sign := q.memberOrder == "UpdateTime", 1
	if q.memberDirection == "DESC" {
		sign = -1
	}
	out := *t
	out.Members, out.Templates = slices.Clone(t.Members), slices.Clone(t.Templates)
	if q.memberOrder == "" {
		slices.Reverse(out.Members)
		slices.Reverse(out.Templates)
		return &out
	}
	slices.SortStableFunc(out.Members, func(a, b lb.TemplateMember) int {
		if byTime {
			return sign * a.Updated.Compare(b.Updated)
		}
		return sign * cmp.Compare(a.Text, b.Text)
	})
	slices.SortStableFunc(out.Templates, func(a, b lb.TemplateID) int {
		if x, y := st.Templates.Get(a), st.Templates.Get(b); byTime && x != nil && y != nil {
			return sign * x.Updated.Compare(y.Updated)
		}
		return sign * cmp.Compare(a, b)
	})
	return &out
}

// rename gives t the name, if one is given; a nil t only checks it.
func (k templateKind) rename(name *string, t *lb.Template) error {
	if name == nil {
		return nil
	}
	if t != nil {
		t.Name = *name
	}
	return lb.ValidateTemplateName(k.field+"Name", *name)
}

func templateIDs(given []string) []lb.TemplateID {
	ids := make([]lb.TemplateID, len(given))
	for i, id := range given {
		ids[i] = lb.TemplateID(id)
	}
	return ids
}

// modifyTemplateGroup renames a group or replaces its lists; ids that are
// absent or empty leave them.
func (c *Call) modifyTemplateGroup(k templateKind, id string, name *string, ids []string) (*done, error) {
	if err := k.rename(name, nil); err != nil {
		return nil, err
	}
	return &done{}, c.changeTemplate(k, k.field+"Id", id, func(t *lb.Template) error {
		if len(ids) > 0 {
			t.Templates = templateIDs(ids)
		}
		return k.rename(name, t)
	})
}
