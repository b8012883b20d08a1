// SPDX-License-Identifier: Apache-2.0

package cloudapi

import (
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/sallyport/sallyport/internal/lb"
	"github.com/sallyport/sallyport/internal/store"
)

// A templateKind is one of the four sorts of parameter template.
type templateKind struct {
	prefix string // of ids
	noun   string
	field  string // how its fields begin on the wire
	lists  string // for a group: the prefix of what it holds; "" for a list
	hint   string
}

// templateKinds are, in order: address template, group, service template, group.
func templateKinds() [4]templateKind {
	return [4]templateKind{
		{lb.AddressTemplate, "address template", "AddressTemplate", "", "DescribeAddressTemplates lists them"},
		{lb.AddressTemplateGroup, "address template group", "AddressTemplateGroup", lb.AddressTemplate, "DescribeAddressTemplateGroups lists them"},
		{lb.ServiceTemplate, "service template", "ServiceTemplate", "", "DescribeServiceTemplates lists them"},
		{lb.ServiceTemplateGroup, "service template group", "ServiceTemplateGroup", lb.ServiceTemplate, "DescribeServiceTemplateGroups lists them"},
	}
}

// kindOfTemplate is the kind that an id's prefix names.
func kindOfTemplate(field, id string) (templateKind, error) {
	for _, k := range templateKinds() {
		if hasShape(k.prefix, id) {
			return k, nil
		}
	}
	return templateKind{}, refuse(lb.Malformed, field, strconv.Quote(clip(id, 40))+" is not the id of a template", "ids look like ipm-12345678, ipmg-, ppm- or ppmg-")
}

// find finds a template of the kind by its id.
func (k templateKind) find(st *lb.State, field, id string) (*lb.Template, error) {
	if !hasShape(k.prefix, id) {
		return nil, refuse(lb.Malformed, field, fmt.Sprintf("%q is not the id of an %s", clip(id, 40), k.noun), "ids look like "+k.prefix+"12345678")
	}
	t := st.Templates.Get(lb.TemplateID(id))
	if t == nil {
		return nil, refuse(lb.NotFound, field, fmt.Sprintf("there is no %s %s", k.noun, id), k.hint)
	}
	return t, nil
}

// addresses reports whether the kind is about addresses, not services.
func (k templateKind) addresses() bool {
	return k.prefix == lb.AddressTemplate || k.prefix == lb.AddressTemplateGroup
}

// all are the templates of the kind.
func (k templateKind) all(st *lb.State) lb.Table[lb.TemplateID, lb.Template] {
	var own lb.Table[lb.TemplateID, lb.Template]
	for id, t := range st.Templates.All() {
		if hasShape(k.prefix, string(id)) {
			own.Put(id, t)
		}
	}
	return own
}

// A givenMember is an address, a service or a template's id with a remark.
type givenMember struct {
	field, text, description string
}

// members reads the members of a list: each of them once.
func (k templateKind) members(given []givenMember, now time.Time) ([]lb.TemplateMember, error) {
	var all []lb.TemplateMember
	seen := map[string]string{}
	for _, in := range given {
		m := lb.TemplateMember{Text: in.text, Description: in.description, Updated: now}
		var err error
		if k.addresses() {
			m.Peers, err = lb.ParseAddressMember(in.field, in.text)
		} else {
			m.Service, err = lb.ParseServiceMember(in.field, in.text)
		}
		if err != nil {
			return nil, err
		}
		if n := len([]rune(in.description)); n > lb.MaxDescription {
			return nil, refuse(lb.TooLong, in.field, fmt.Sprintf("its description has %d characters", n), fmt.Sprintf("at most %d are allowed", lb.MaxDescription))
		}
		key := memberKey(m)
		if first, twice := seen[key]; twice {
			return nil, refuse(lb.Duplicate, in.field, fmt.Sprintf("%q is the same as %s", clip(in.text, 60), first), "give each member once")
		}
		seen[key] = in.field
		all = append(all, m)
	}
	return all, nil
}

// memberKey is what makes two members the same, however they are spelled.
func memberKey(m lb.TemplateMember) string {
	return fmt.Sprint(m.Peers, m.Service.Proto, sortedPorts(m.Service.Ports))
}

// checkTemplate checks what one template alone cannot know: that it has room
// for its members, and that a group's lists exist.
func (c *Call) checkTemplate(st *lb.State, k templateKind, t *lb.Template) error {
	n, field, what := len(t.Members), map[bool]string{true: "Addresses", false: "Services"}[k.addresses()], "members"
	if k.lists != "" {
		n, field, what = len(t.Templates), idsField(k), "templates"
	}
	if n == 0 {
		return refuse(lb.Invalid, field, "no "+what+" are given", "give at least one")
	}
	if n > c.Quotas.TemplateMembers {
		return refuse(lb.LimitExceeded, field, fmt.Sprintf("an %s would have %d %s; at most %d are allowed", k.noun, n, what, c.Quotas.TemplateMembers), "make a second template")
	}
	for i, id := range t.Templates {
		at := field + "." + strconv.Itoa(i)
		if _, err := k.part().find(st, at, string(id)); err != nil {
			return err
		}
		if slices.Index(t.Templates, id) != i {
			return refuse(lb.Duplicate, at, string(id)+" is given twice", "give each template once")
		}
	}
	return nil
}

// part is the kind of list that a group holds.
func (k templateKind) part() templateKind {
	kinds := templateKinds()
	return kinds[slices.IndexFunc(kinds[:], func(p templateKind) bool { return p.prefix == k.lists })]
}

// idsField is the name of a group's list of ids on the wire.
func idsField(k templateKind) string { return k.part().field + "Ids" }

// newTemplate gives a template its id and times and stores it.
func (c *Call) newTemplate(k templateKind, t *lb.Template, tags []Tag) error {
	if err := lb.ValidateTemplateName(k.field+"Name", t.Name); err != nil {
		return err
	}
	var err error
	if t.Tags, err = tagsIn("Tags", tags); err != nil {
		return err
	}
	return c.Update(func(tx *store.Tx) error {
		st := tx.State()
		if n := k.all(st).Len(); n >= c.Quotas.Templates {
			return refuse(lb.LimitExceeded, "", fmt.Sprintf("the region has %d of the kind %s, at most %d are allowed", n, k.noun, c.Quotas.Templates), "delete one that is not used")
		}
		if err := c.checkTemplate(st, k, t); err != nil {
			return err
		}
		t.ID = makeID(c, k.prefix, st.Templates)
		t.Created = c.Now().UTC()
		t.Updated = t.Created
		tx.PutTemplate(t)
		return nil
	})
}

// changeTemplate changes a template in one transaction: fn gets a copy. What
// the change means for the rules that use it is checked before it is stored.
func (c *Call) changeTemplate(k templateKind, field, id string, fn func(t *lb.Template) error) error {
	return c.Update(func(tx *store.Tx) error {
		old, err := k.find(tx.State(), field, id)
		if err != nil {
			return err
		}
		t := *old
		t.Members, t.Templates = slices.Clone(old.Members), slices.Clone(old.Templates)
		if err := fn(&t); err != nil {
			return err
		}
		if err := c.checkTemplate(tx.State(), k, &t); err != nil {
			return err
		}
		keepMembers(old.Members, t.Members)
		if t.Name == old.Name && slices.EqualFunc(t.Members, old.Members, sameMember) && slices.Equal(t.Templates, old.Templates) {
			return nil
		}
		t.Updated = c.Now().UTC()
		tx.PutTemplate(&t)
		fresh := slices.DeleteFunc(slices.Clone(t.Templates), func(id lb.TemplateID) bool { return slices.Contains(old.Templates, id) })
		if err := c.checkUsers(tx, "", fresh); err != nil {
			return err
		}
		return c.checkUses(tx, t.ID)
	})
}

func sameMember(a, b lb.TemplateMember) bool {
	return a.Text == b.Text && a.Description == b.Description
}

// keepMembers leaves members that did not change the time they had.
func keepMembers(old, now []lb.TemplateMember) {
	for i := range now {
		if at := slices.IndexFunc(old, func(m lb.TemplateMember) bool { return sameMember(m, now[i]) }); at >= 0 {
			now[i].Updated = old[at].Updated
		}
	}
}

// deleteTemplate removes a template with every rule that names it, as the
// vendor documents. One that a group of templates holds is refused.
func (c *Call) deleteTemplate(k templateKind, field, id string) (*done, error) {
	return &done{}, c.Update(func(tx *store.Tx) error {
		st := tx.State()
		t, err := k.find(st, field, id)
		if err != nil {
			return err
		}
		if holding := tx.Index().Holding(t.ID); len(holding) > 0 {
			// No code is published for it; ResourceInUse would let clients try again for minutes.
			return refuse(lb.Unsupported, field, fmt.Sprintf("template group %s holds %s", holding[0], t.ID), "take it out of the group first")
		}
		for _, g := range tx.Index().Using(t.ID) {
			c.dropRules(tx, st.Groups.Get(g), func(r lb.PolicyRule) bool { return r.PeerTemplate == t.ID || r.Service == t.ID })
		}
		tx.DeleteTemplate(t.ID)
		return nil
	})
}

// dropRules removes rules from a group, which gets the next version.
func (c *Call) dropRules(tx *store.Tx, old *lb.SecurityGroup, drop func(lb.PolicyRule) bool) {
	g := *old
	for _, d := range directions() {
		list := d.stored(&g)
		if slices.ContainsFunc(*list, drop) {
			*list = slices.DeleteFunc(slices.Clone(*list), drop)
		}
	}
	g.Version, g.Updated = old.Version+1, c.Now().UTC()
	tx.PutGroup(&g)
}
