// SPDX-License-Identifier: Apache-2.0

package cloudapi

import (
	"net/netip"
	"slices"
	"strconv"

	"github.com/sallyport/sallyport/internal/lb"
)

func addressTemplateActions() []Action {
	return []Action{
		action(serviceVPC, "CreateAddressTemplate", createAddressTemplate).fails("InvalidParameter.Coexist", "InvalidParameterValue", "InvalidParameterValue.Duplicate", "InvalidParameterValue.Empty", "InvalidParameterValue.Malformed", "InvalidParameterValue.TooLong", "LimitExceeded"),
		action(serviceVPC, "DescribeAddressTemplates", describeAddressTemplates).fails("InvalidParameterValue.Malformed", "InvalidParameterValue.Range"),
		action(serviceVPC, "ModifyAddressTemplateAttribute", modifyAddressTemplate).fails("InvalidParameter.Coexist", "InvalidParameterValue", "InvalidParameterValue.Duplicate", "InvalidParameterValue.Malformed", "InvalidParameterValue.TooLong", "LimitExceeded", "ResourceNotFound", "UnsupportedOperation.ClbPolicyExceedLimit", "UnsupportedOperation.SgNumExceedLimit"),
		action(serviceVPC, "DeleteAddressTemplate", deleteAddressTemplate).fails("InvalidParameterValue.Malformed", "ResourceNotFound", "UnsupportedOperation"),
		action(serviceVPC, "CreateAddressTemplateGroup", createAddressTemplateGroup).fails("InvalidParameterValue", "InvalidParameterValue.Duplicate", "InvalidParameterValue.Malformed", "InvalidParameterValue.TooLong", "LimitExceeded", "ResourceNotFound"),
		action(serviceVPC, "DescribeAddressTemplateGroups", describeAddressTemplateGroups).fails("InvalidParameterValue.Malformed", "InvalidParameterValue.Range"),
		action(serviceVPC, "ModifyAddressTemplateGroupAttribute", modifyAddressTemplateGroup).fails("InvalidParameterValue", "InvalidParameterValue.Duplicate", "InvalidParameterValue.Malformed", "InvalidParameterValue.TooLong", "LimitExceeded", "ResourceNotFound", "UnsupportedOperation.ClbPolicyExceedLimit", "UnsupportedOperation.SgNumExceedLimit"),
		action(serviceVPC, "DeleteAddressTemplateGroup", deleteAddressTemplateGroup).fails("InvalidParameterValue.Malformed", "ResourceNotFound"),
	}
}

type addressInfoIn struct {
	Address     string   `tc:"required"`
	Description string   `tc:"len=100"`
	_           struct{} `unserved:"UpdatedTime"`
}

type addressesIn struct {
	Addresses      []string        `tc:""`
	AddressesExtra []addressInfoIn `tc:""`
}

// members are what the caller gives in one of the two ways; false: in none.
func (in *addressesIn) members() ([]givenMember, bool, error) {
	var all []givenMember
	for i, text := range in.Addresses {
		all = append(all, givenMember{"Addresses." + strconv.Itoa(i), text, ""})
	}
	for i, a := range in.AddressesExtra {
		all = append(all, givenMember{"AddressesExtra." + strconv.Itoa(i), a.Address, a.Description})
	}
	if len(in.Addresses) > 0 && len(in.AddressesExtra) > 0 {
		return nil, false, refuse(lb.Coexist, "AddressesExtra", "addresses are given there and in Addresses", "give one of them")
	}
	return all, len(all) > 0, nil
}

type createAddressTemplateIn struct {
	AddressTemplateName string `tc:"required,len=60"`
	addressesIn
	Tags []Tag `tc:""`
}

type addressInfoOut struct{ Address, Description, UpdatedTime string }

type addressListOut struct {
	AddressTemplateId   string
	AddressTemplateName string
	AddressSet          []string
	AddressExtraSet     []addressInfoOut
	CreatedTime         string
	UpdatedTime         string
	TagSet              []Tag
}

type createAddressTemplateOut struct{ AddressTemplate addressListOut }

func addressListToOut(t *lb.Template) addressListOut {
	out := addressListOut{AddressTemplateId: string(t.ID), AddressTemplateName: t.Name, CreatedTime: stamp(t.Created), UpdatedTime: stamp(t.Updated), TagSet: tagsOut(t.Tags)}
	for _, m := range t.Members {
		out.AddressSet = append(out.AddressSet, m.Text)
		out.AddressExtraSet = append(out.AddressExtraSet, addressInfoOut{m.Text, m.Description, stamp(m.Updated)})
	}
	return out
}

// createAddressTemplate makes a list of addresses that rules can name.
func createAddressTemplate(c *Call, in *createAddressTemplateIn) (*createAddressTemplateOut, error) {
	k := templateKinds()[0]
	given, any, err := in.members()
	if err != nil {
		return nil, err
	}
	if !any {
		return nil, errorf("InvalidParameterValue.Empty", "Addresses: no addresses are given; list them there or in AddressesExtra")
	}
	t := &lb.Template{Name: in.AddressTemplateName}
	if t.Members, err = k.members(given, c.Now().UTC()); err != nil {
		return nil, err
	}
	if err := c.newTemplate(k, t, in.Tags); err != nil {
		return nil, err
	}
	return &createAddressTemplateOut{addressListToOut(t)}, nil
}

type describeAddressTemplatesIn struct {
	Filters []Filter `tc:"code=InvalidParameter.FilterInvalidKey" filters:"address-template-id address-template-name address-ip tag-key tag:KEY"`
	TextPaging
	NeedMemberInfo       *bool  `tc:""` // members are always there
	OrderField           string `tc:"enum=AddressTemplateId|CreatedTime|UpdateTime"`
	OrderDirection       string `tc:"enum=ASC|DESC"`
	MemberOrderField     string `tc:"enum=Address|UpdateTime"`
	MemberOrderDirection string `tc:"enum=ASC|DESC"`
}

type describeAddressTemplatesOut struct {
	TotalCount         int
	AddressTemplateSet []addressListOut
}

// describeAddressTemplates lists address templates, oldest first.
func describeAddressTemplates(c *Call, in *describeAddressTemplatesIn) (*describeAddressTemplatesOut, error) {
	found, total, err := c.listTemplates(templateQuery{kind: templateKinds()[0], filters: in.Filters, text: in.TextPaging, member: "address-ip",
		order: in.OrderField, direction: in.OrderDirection, memberOrder: in.MemberOrderField, memberDirection: in.MemberOrderDirection})
	if err != nil {
		return nil, err
	}
	out := &describeAddressTemplatesOut{TotalCount: total}
	for _, t := range found {
		out.AddressTemplateSet = append(out.AddressTemplateSet, addressListToOut(t))
	}
	return out, nil
}

// holdsAddress reports whether a member is the text or contains the address
// that it names.
func holdsAddress(m lb.TemplateMember, text string) bool {
	a, err := netip.ParseAddr(text)
	return m.Text == text || err == nil && slices.ContainsFunc(m.Peers.Prefixes(), func(p netip.Prefix) bool { return p.Contains(a) })
}

type modifyAddressTemplateIn struct {
	AddressTemplateId   string  `tc:"required"`
	AddressTemplateName *string `tc:"len=60"`
	addressesIn
}

// modifyAddressTemplate renames a list or replaces its addresses; every rule
// that names it means the new ones at once.
func modifyAddressTemplate(c *Call, in *modifyAddressTemplateIn) (*done, error) {
	k := templateKinds()[0]
	given, any, err := in.members()
	if err != nil {
		return nil, err
	}
	members, err := k.members(given, c.Now().UTC())
	if err != nil {
		return nil, err
	}
	if err := k.rename(in.AddressTemplateName, nil); err != nil {
		return nil, err
	}
	return &done{}, c.changeTemplate(k, "AddressTemplateId", in.AddressTemplateId, func(t *lb.Template) error {
		if any {
			t.Members = slices.Clone(members)
		}
		return k.rename(in.AddressTemplateName, t)
	})
}

type deleteAddressTemplateIn struct {
	AddressTemplateId string `tc:"required"`
}

func deleteAddressTemplate(c *Call, in *deleteAddressTemplateIn) (*done, error) {
	return c.deleteTemplate(templateKinds()[0], "AddressTemplateId", in.AddressTemplateId)
}

type createAddressTemplateGroupIn struct {
	AddressTemplateGroupName string   `tc:"required,len=60"`
	AddressTemplateIds       []string `tc:"required"`
	Tags                     []Tag    `tc:""`
}

type addressItemOut struct{ AddressTemplateId, AddressTemplateName, From, To, Description, UpdatedTime string }

type addressGroupOut struct {
	AddressTemplateGroupId   string
	AddressTemplateGroupName string
	AddressTemplateIdSet     []string
	AddressTemplateSet       []addressItemOut
	CreatedTime              string
	UpdatedTime              string
	TagSet                   []Tag
}

type createAddressTemplateGroupOut struct{ AddressTemplateGroup addressGroupOut }

func addressGroupToOut(st *lb.State, t *lb.Template) addressGroupOut {
	out := addressGroupOut{AddressTemplateGroupId: string(t.ID), AddressTemplateGroupName: t.Name, CreatedTime: stamp(t.Created), UpdatedTime: stamp(t.Updated), TagSet: tagsOut(t.Tags)}
	for _, id := range t.Templates {
		out.AddressTemplateIdSet = append(out.AddressTemplateIdSet, string(id))
		if list := st.Templates.Get(id); list != nil {
			out.AddressTemplateSet = append(out.AddressTemplateSet, addressItemOut{AddressTemplateId: string(id), AddressTemplateName: list.Name, UpdatedTime: stamp(list.Updated)})
		}
	}
	return out
}

// createAddressTemplateGroup makes a group of address templates.
func createAddressTemplateGroup(c *Call, in *createAddressTemplateGroupIn) (*createAddressTemplateGroupOut, error) {
	k := templateKinds()[1]
	t := &lb.Template{Name: in.AddressTemplateGroupName, Templates: templateIDs(in.AddressTemplateIds)}
	if err := c.newTemplate(k, t, in.Tags); err != nil {
		return nil, err
	}
	return &createAddressTemplateGroupOut{addressGroupToOut(c.State(), t)}, nil
}

type describeAddressTemplateGroupsIn struct {
	Filters []Filter `tc:"code=InvalidParameter.FilterInvalidKey" filters:"address-template-group-id address-template-group-name tag-key tag:KEY"`
	TextPaging
	NeedMemberInfo       *bool  `tc:""` // members are always there
	OrderField           string `tc:"enum=AddressTemplateGroupId|CreatedTime|UpdateTime"`
	OrderDirection       string `tc:"enum=ASC|DESC"`
	MemberOrderField     string `tc:"enum=AddressTemplateId|UpdateTime"`
	MemberOrderDirection string `tc:"enum=ASC|DESC"`
}

type describeAddressTemplateGroupsOut struct {
	TotalCount              int
	AddressTemplateGroupSet []addressGroupOut
}

// describeAddressTemplateGroups lists groups of address templates, oldest first.
func describeAddressTemplateGroups(c *Call, in *describeAddressTemplateGroupsIn) (*describeAddressTemplateGroupsOut, error) {
	found, total, err := c.listTemplates(templateQuery{kind: templateKinds()[1], filters: in.Filters, text: in.TextPaging,
		order: in.OrderField, direction: in.OrderDirection, memberOrder: in.MemberOrderField, memberDirection: in.MemberOrderDirection})
	if err != nil {
		return nil, err
	}
	st, out := c.State(), &describeAddressTemplateGroupsOut{TotalCount: total}
	for _, t := range found {
		out.AddressTemplateGroupSet = append(out.AddressTemplateGroupSet, addressGroupToOut(st, t))
	}
	return out, nil
}

type modifyAddressTemplateGroupIn struct {
	AddressTemplateGroupId   string   `tc:"required"`
	AddressTemplateGroupName *string  `tc:"len=60"`
	AddressTemplateIds       []string `tc:""`
}

func modifyAddressTemplateGroup(c *Call, in *modifyAddressTemplateGroupIn) (*done, error) {
	return c.modifyTemplateGroup(templateKinds()[1], in.AddressTemplateGroupId, in.AddressTemplateGroupName, in.AddressTemplateIds)
}

type deleteAddressTemplateGroupIn struct {
	AddressTemplateGroupId string `tc:"required"`
}

func deleteAddressTemplateGroup(c *Call, in *deleteAddressTemplateGroupIn) (*done, error) {
	return c.deleteTemplate(templateKinds()[1], "AddressTemplateGroupId", in.AddressTemplateGroupId)
}
