// SPDX-License-Identifier: Apache-2.0

package cloudapi

import (
	"slices"
	"strconv"

	"github.com/sallyport/sallyport/internal/lb"
)

func serviceTemplateActions() []Action {
	return []Action{
		action(serviceVPC, "CreateServiceTemplate", createServiceTemplate).fails("InvalidParameterValue.Range", "InvalidParameter.Coexist", "InvalidParameterValue", "InvalidParameterValue.Duplicate", "InvalidParameterValue.Empty", "InvalidParameterValue.Malformed", "InvalidParameterValue.TooLong", "LimitExceeded"),
		action(serviceVPC, "DescribeServiceTemplates", describeServiceTemplates).fails("InvalidParameterValue.Malformed", "InvalidParameterValue.Range"),
		action(serviceVPC, "ModifyServiceTemplateAttribute", modifyServiceTemplate).fails("InvalidParameterValue.Range", "InvalidParameter.Coexist", "InvalidParameterValue", "InvalidParameterValue.Duplicate", "InvalidParameterValue.Malformed", "InvalidParameterValue.TooLong", "LimitExceeded", "ResourceNotFound", "UnsupportedOperation.ClbPolicyExceedLimit", "UnsupportedOperation.SgNumExceedLimit"),
		action(serviceVPC, "DeleteServiceTemplate", deleteServiceTemplate).fails("InvalidParameterValue.Malformed", "ResourceNotFound", "UnsupportedOperation"),
		action(serviceVPC, "CreateServiceTemplateGroup", createServiceTemplateGroup).fails("InvalidParameterValue", "InvalidParameterValue.Duplicate", "InvalidParameterValue.Malformed", "InvalidParameterValue.TooLong", "LimitExceeded", "ResourceNotFound"),
		action(serviceVPC, "DescribeServiceTemplateGroups", describeServiceTemplateGroups).fails("InvalidParameterValue.Malformed", "InvalidParameterValue.Range"),
		action(serviceVPC, "ModifyServiceTemplateGroupAttribute", modifyServiceTemplateGroup).fails("InvalidParameterValue", "InvalidParameterValue.Duplicate", "InvalidParameterValue.Malformed", "InvalidParameterValue.TooLong", "LimitExceeded", "ResourceNotFound", "UnsupportedOperation.ClbPolicyExceedLimit", "UnsupportedOperation.SgNumExceedLimit"),
		action(serviceVPC, "DeleteServiceTemplateGroup", deleteServiceTemplateGroup).fails("InvalidParameterValue.Malformed", "ResourceNotFound"),
	}
}

type serviceInfoIn struct {
	Service     string   `tc:"required"`
	Description string   `tc:"len=100"`
	_           struct{} `unserved:"UpdatedTime"`
}

type servicesIn struct {
	Services      []string        `tc:""`
	ServicesExtra []serviceInfoIn `tc:""`
}

// members are what the caller gives in one of the two ways; false: in none.
func (in *servicesIn) members() ([]givenMember, bool, error) {
	var all []givenMember
	for i, text := range in.Services {
		all = append(all, givenMember{"Services." + strconv.Itoa(i), text, ""})
	}
	for i, a := range in.ServicesExtra {
		all = append(all, givenMember{"ServicesExtra." + strconv.Itoa(i), a.Service, a.Description})
	}
	if len(in.Services) > 0 && len(in.ServicesExtra) > 0 {
		return nil, false, refuse(lb.Coexist, "ServicesExtra", "services are given there and in Services", "give one of them")
	}
	return all, len(all) > 0, nil
}

type createServiceTemplateIn struct {
	ServiceTemplateName string `tc:"required,len=60"`
	servicesIn
	Tags []Tag `tc:""`
}

type serviceInfoOut struct{ Service, Description, UpdatedTime string }

type serviceListOut struct {
	ServiceTemplateId   string
	ServiceTemplateName string
	ServiceSet          []string
	ServiceExtraSet     []serviceInfoOut
	CreatedTime         string
	UpdatedTime         string
	TagSet              []Tag
}

type createServiceTemplateOut struct{ ServiceTemplate serviceListOut }

func serviceListToOut(t *lb.Template) serviceListOut {
	out := serviceListOut{ServiceTemplateId: string(t.ID), ServiceTemplateName: t.Name, CreatedTime: stamp(t.Created), UpdatedTime: stamp(t.Updated), TagSet: tagsOut(t.Tags)}
	for _, m := range t.Members {
		out.ServiceSet = append(out.ServiceSet, m.Text)
		out.ServiceExtraSet = append(out.ServiceExtraSet, serviceInfoOut{m.Text, m.Description, stamp(m.Updated)})
	}
	return out
}

// createServiceTemplate makes a list of services that rules can name.
func createServiceTemplate(c *Call, in *createServiceTemplateIn) (*createServiceTemplateOut, error) {
	k := templateKinds()[2]
	given, any, err := in.members()
	if err != nil {
		return nil, err
	}
	if !any {
		return nil, errorf("InvalidParameterValue.Empty", "Services: no services are given; list them there or in ServicesExtra")
	}
	t := &lb.Template{Name: in.ServiceTemplateName}
	if t.Members, err = k.members(given, c.Now().UTC()); err != nil {
		return nil, err
	}
	if err := c.newTemplate(k, t, in.Tags); err != nil {
		return nil, err
	}
	return &createServiceTemplateOut{serviceListToOut(t)}, nil
}

type describeServiceTemplatesIn struct {
	Filters []Filter `tc:"code=InvalidParameter.FilterInvalidKey" filters:"service-template-id service-template-name service-port tag-key tag:KEY"`
	TextPaging
	NeedMemberInfo       *bool  `tc:""` // members are always there
	OrderField           string `tc:"enum=ServiceTemplateId|CreatedTime|UpdateTime"`
	OrderDirection       string `tc:"enum=ASC|DESC"`
	MemberOrderField     string `tc:"enum=Service|UpdateTime"`
	MemberOrderDirection string `tc:"enum=ASC|DESC"`
}

type describeServiceTemplatesOut struct {
	TotalCount         int
	ServiceTemplateSet []serviceListOut
}

// describeServiceTemplates lists service templates, oldest first.
func describeServiceTemplates(c *Call, in *describeServiceTemplatesIn) (*describeServiceTemplatesOut, error) {
	found, total, err := c.listTemplates(templateQuery{kind: templateKinds()[2], filters: in.Filters, text: in.TextPaging, member: "service-port",
		order: in.OrderField, direction: in.OrderDirection, memberOrder: in.MemberOrderField, memberDirection: in.MemberOrderDirection})
	if err != nil {
		return nil, err
	}
	out := &describeServiceTemplatesOut{TotalCount: total}
	for _, t := range found {
		out.ServiceTemplateSet = append(out.ServiceTemplateSet, serviceListToOut(t))
	}
	return out, nil
}

type modifyServiceTemplateIn struct {
	ServiceTemplateId   string  `tc:"required"`
	ServiceTemplateName *string `tc:"len=60"`
	servicesIn
}

// modifyServiceTemplate renames a list or replaces its services; every rule
// that names it means the new ones at once.
func modifyServiceTemplate(c *Call, in *modifyServiceTemplateIn) (*done, error) {
	k := templateKinds()[2]
	given, any, err := in.members()
	if err != nil {
		return nil, err
	}
	members, err := k.members(given, c.Now().UTC())
	if err != nil {
		return nil, err
	}
	if err := k.rename(in.ServiceTemplateName, nil); err != nil {
		return nil, err
	}
	return &done{}, c.changeTemplate(k, "ServiceTemplateId", in.ServiceTemplateId, func(t *lb.Template) error {
		if any {
			t.Members = slices.Clone(members)
		}
		return k.rename(in.ServiceTemplateName, t)
	})
}

type deleteServiceTemplateIn struct {
	ServiceTemplateId string `tc:"required"`
}

func deleteServiceTemplate(c *Call, in *deleteServiceTemplateIn) (*done, error) {
	return c.deleteTemplate(templateKinds()[2], "ServiceTemplateId", in.ServiceTemplateId)
}

type createServiceTemplateGroupIn struct {
	ServiceTemplateGroupName string   `tc:"required,len=60"`
	ServiceTemplateIds       []string `tc:"required"`
	Tags                     []Tag    `tc:""`
}

type serviceGroupOut struct {
	ServiceTemplateGroupId   string
	ServiceTemplateGroupName string
	ServiceTemplateIdSet     []string
	ServiceTemplateSet       []serviceListOut
	CreatedTime              string
	UpdatedTime              string
	TagSet                   []Tag
}

type createServiceTemplateGroupOut struct{ ServiceTemplateGroup serviceGroupOut }

func serviceGroupToOut(st *lb.State, t *lb.Template) serviceGroupOut {
	out := serviceGroupOut{ServiceTemplateGroupId: string(t.ID), ServiceTemplateGroupName: t.Name, CreatedTime: stamp(t.Created), UpdatedTime: stamp(t.Updated), TagSet: tagsOut(t.Tags)}
	for _, id := range t.Templates {
		out.ServiceTemplateIdSet = append(out.ServiceTemplateIdSet, string(id))
		if list := st.Templates.Get(id); list != nil {
			out.ServiceTemplateSet = append(out.ServiceTemplateSet, serviceListToOut(list))
		}
	}
	return out
}

// createServiceTemplateGroup makes a group of service templates.
func createServiceTemplateGroup(c *Call, in *createServiceTemplateGroupIn) (*createServiceTemplateGroupOut, error) {
	k := templateKinds()[3]
	t := &lb.Template{Name: in.ServiceTemplateGroupName, Templates: templateIDs(in.ServiceTemplateIds)}
	if err := c.newTemplate(k, t, in.Tags); err != nil {
		return nil, err
	}
	return &createServiceTemplateGroupOut{serviceGroupToOut(c.State(), t)}, nil
}

type describeServiceTemplateGroupsIn struct {
	Filters []Filter `tc:"code=InvalidParameter.FilterInvalidKey" filters:"service-template-group-id service-template-group-name tag-key tag:KEY"`
	TextPaging
	NeedMemberInfo       *bool  `tc:""` // members are always there
	OrderField           string `tc:"enum=ServiceTemplateGroupId|CreatedTime|UpdateTime"`
	OrderDirection       string `tc:"enum=ASC|DESC"`
	MemberOrderField     string `tc:"enum=ServiceTemplateId|UpdateTime"`
	MemberOrderDirection string `tc:"enum=ASC|DESC"`
}

type describeServiceTemplateGroupsOut struct {
	TotalCount              int
	ServiceTemplateGroupSet []serviceGroupOut
}

// describeServiceTemplateGroups lists groups of service templates, oldest first.
func describeServiceTemplateGroups(c *Call, in *describeServiceTemplateGroupsIn) (*describeServiceTemplateGroupsOut, error) {
	found, total, err := c.listTemplates(templateQuery{kind: templateKinds()[3], filters: in.Filters, text: in.TextPaging,
		order: in.OrderField, direction: in.OrderDirection, memberOrder: in.MemberOrderField, memberDirection: in.MemberOrderDirection})
	if err != nil {
		return nil, err
	}
	st, out := c.State(), &describeServiceTemplateGroupsOut{TotalCount: total}
	for _, t := range found {
		out.ServiceTemplateGroupSet = append(out.ServiceTemplateGroupSet, serviceGroupToOut(st, t))
	}
	return out, nil
}

type modifyServiceTemplateGroupIn struct {
	ServiceTemplateGroupId   string   `tc:"required"`
	ServiceTemplateGroupName *string  `tc:"len=60"`
	ServiceTemplateIds       []string `tc:""`
}

func modifyServiceTemplateGroup(c *Call, in *modifyServiceTemplateGroupIn) (*done, error) {
	return c.modifyTemplateGroup(templateKinds()[3], in.ServiceTemplateGroupId, in.ServiceTemplateGroupName, in.ServiceTemplateIds)
}

type deleteServiceTemplateGroupIn struct {
	ServiceTemplateGroupId string `tc:"required"`
}

func deleteServiceTemplateGroup(c *Call, in *deleteServiceTemplateGroupIn) (*done, error) {
	return c.deleteTemplate(templateKinds()[3], "ServiceTemplateGroupId", in.ServiceTemplateGroupId)
}
