// SPDX-License-Identifier: Apache-2.0

package cloudapi

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/sallyport/sallyport/internal/lb"
)

func templateActions() []Action {
	change := []string{"InvalidParameterValue", "InvalidParameterValue.Duplicate", "InvalidParameterValue.Malformed", "InvalidParameterValue.Range", "ResourceNotFound", "UnsupportedOperation.ClbPolicyExceedLimit", "UnsupportedOperation.SgNumExceedLimit"}
	return slices.Concat(addressTemplateActions(), serviceTemplateActions(), []Action{
		action(serviceVPC, "AddTemplateMember", addTemplateMember).fails(append(change, "LimitExceeded")...),
		action(serviceVPC, "DeleteTemplateMember", deleteTemplateMember).fails("InvalidParameterValue", "InvalidParameterValue.Malformed", "ResourceNotFound"),
		action(serviceVPC, "ModifyTemplateMember", modifyTemplateMember).fails(change...),
		action(serviceVPC, "DescribeTemplateLimits", describeTemplateLimits),
	})
}

type memberInfo struct {
	Member      string `tc:"required"`
	Description string `tc:"len=100"`
}

type templateMemberIn struct {
	TemplateId     string       `tc:"required"`
	TemplateMember []memberInfo `tc:"required"`
}

// A templateEdit is a template's members as the member actions change them: of
// a list or of a group of lists.
type templateEdit struct {
	kind    templateKind
	members []lb.TemplateMember
	lists   []lb.TemplateID
}

// read reads members as the template's kind has them. A remark on a list of a
// group has no place.
func (c *Call) readMembers(k templateKind, field string, given []memberInfo) (e templateEdit, err error) {
	e.kind = k
	if len(given) == 0 {
		return e, refuse(lb.Invalid, field, "no members are given", "give at least one")
	}
	var in []givenMember
	for i, m := range given {
		at := field + "." + strconv.Itoa(i)
		if k.lists == "" {
			in = append(in, givenMember{at + ".Member", m.Member, m.Description})
			continue
		}
		if m.Description != "" {
			return e, refuse(lb.Invalid, at+".Description", "a group's members have no description", "leave it out")
		}
		if !hasShape(k.lists, m.Member) {
			return e, refuse(lb.Malformed, at+".Member", fmt.Sprintf("%q is not the id of an %s", clip(m.Member, 40), k.part().noun), "ids look like "+k.lists+"12345678")
		}
		e.lists = append(e.lists, lb.TemplateID(m.Member))
	}
	if k.lists == "" {
		e.members, err = k.members(in, c.Now().UTC())
	}
	return e, err
}

// places finds where the template has the members, each by what it means.
func (e templateEdit) places(t *lb.Template, field string) ([]int, error) {
	var all []int
	missing := func(i int, text string) error {
		return refuse(lb.NotFound, field+"."+strconv.Itoa(i)+".Member", fmt.Sprintf("%s has no member %q", t.ID, clip(text, 60)), e.kind.hint)
	}
	for i, m := range e.members {
		at := slices.IndexFunc(t.Members, func(have lb.TemplateMember) bool { return memberKey(have) == memberKey(m) })
		if at < 0 {
			return nil, missing(i, m.Text)
		}
		all = append(all, at)
	}
	for i, id := range e.lists {
		at := slices.Index(t.Templates, id)
		if at < 0 {
			return nil, missing(i, string(id))
		}
		all = append(all, at)
	}
	return all, nil
}

// once refuses a list that has a member twice.
func once(t *lb.Template, field string) error {
	seen := map[string]bool{}
	for _, m := range t.Members {
		if key := memberKey(m); seen[key] {
			return refuse(lb.Duplicate, field, fmt.Sprintf("%s would have the member %q twice", t.ID, clip(m.Text, 60)), "give what it does not have yet")
		} else {
			seen[key] = true
		}
	}
	return nil
}

// addTemplateMember appends members to a template.
func addTemplateMember(c *Call, in *templateMemberIn) (*done, error) {
	k, err := kindOfTemplate("TemplateId", in.TemplateId)
	if err != nil {
		return nil, err
	}
	e, err := c.readMembers(k, "TemplateMember", in.TemplateMember)
	if err != nil {
		return nil, err
	}
	had := 0
	err = c.changeTemplate(k, "TemplateId", in.TemplateId, func(t *lb.Template) error {
		had = len(t.Templates)
		t.Members = append(t.Members, e.members...)
		t.Templates = append(t.Templates, e.lists...)
		return once(t, "TemplateMember")
	})
	return &done{}, refield(err, func(field string) string { // the template's lists are what the call adds to
		list, place, _ := strings.Cut(field, ".")
		switch i, err := strconv.Atoi(place); {
		case list == "TemplateId" || list == "TemplateMember":
			return field
		case err == nil && i >= had:
			return fmt.Sprintf("TemplateMember.%d.Member", i-had)
		}
		return "TemplateMember"
	})
}

// deleteTemplateMember takes members out of a template, which keeps one at least.
func deleteTemplateMember(c *Call, in *templateMemberIn) (*done, error) {
	k, err := kindOfTemplate("TemplateId", in.TemplateId)
	if err != nil {
		return nil, err
	}
	e, err := c.readMembers(k, "TemplateMember", in.TemplateMember)
	if err != nil {
		return nil, err
	}
	return &done{}, c.changeTemplate(k, "TemplateId", in.TemplateId, func(t *lb.Template) error {
		places, err := e.places(t, "TemplateMember")
		if err != nil {
			return err
		}
		t.Members, t.Templates = withoutPlaces(t.Members, places), withoutPlaces(t.Templates, places)
		if len(t.Members)+len(t.Templates) == 0 {
			return refuse(lb.Invalid, "TemplateMember", string(t.ID)+" would have no member left", "delete the template instead")
		}
		return nil
	})
}

// withoutPlaces is list less the items at the places.
func withoutPlaces[T any](list []T, places []int) (kept []T) {
	for i, item := range list {
		if !slices.Contains(places, i) {
			kept = append(kept, item)
		}
	}
	return kept
}

type modifyTemplateMemberIn struct {
	TemplateId             string       `tc:"required"`
	OriginalTemplateMember []memberInfo `tc:"required"`
	TemplateMember         []memberInfo `tc:"required"`
}

// modifyTemplateMember replaces members one by one, each in its place.
func modifyTemplateMember(c *Call, in *modifyTemplateMemberIn) (*done, error) {
	k, err := kindOfTemplate("TemplateId", in.TemplateId)
	if err != nil {
		return nil, err
	}
	old, err := c.readMembers(k, "OriginalTemplateMember", in.OriginalTemplateMember)
	if err != nil {
		return nil, err
	}
	fresh, err := c.readMembers(k, "TemplateMember", in.TemplateMember)
	if err != nil {
		return nil, err
	}
	if a, b := len(in.OriginalTemplateMember), len(in.TemplateMember); a != b {
		return nil, refuse(lb.Invalid, "TemplateMember", fmt.Sprintf("%d members are given for %d originals", b, a), "give one for each, in the same order")
	}
	return &done{}, c.changeTemplate(k, "TemplateId", in.TemplateId, func(t *lb.Template) error {
		places, err := old.places(t, "OriginalTemplateMember")
		if err != nil {
			return err
		}
		for i, at := range places {
			if k.lists == "" {
				t.Members[at] = fresh.members[i]
			} else {
				t.Templates[at] = fresh.lists[i]
			}
		}
		return once(t, "TemplateMember")
	})
}

type describeTemplateLimitsIn struct{}

type templateLimitOut struct {
	AddressTemplateMemberLimit      int
	AddressTemplateGroupMemberLimit int
	ServiceTemplateMemberLimit      int
	ServiceTemplateGroupMemberLimit int
}

type describeTemplateLimitsOut struct{ TemplateLimit templateLimitOut }

// describeTemplateLimits tells how many members templates may have.
func describeTemplateLimits(c *Call, _ *describeTemplateLimitsIn) (*describeTemplateLimitsOut, error) {
	n := c.Quotas.TemplateMembers
	return &describeTemplateLimitsOut{templateLimitOut{n, n, n, n}}, nil
}
