// SPDX-License-Identifier: Apache-2.0

package cloudapi

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"

	"github.com/sallyport/sallyport/internal/lb"
	"github.com/sallyport/sallyport/internal/store"
)

func sgActions() []Action {
	return slices.Concat([]Action{
		action(serviceVPC, "CreateSecurityGroup", createSecurityGroup).fails("InvalidParameterValue", "InvalidParameterValue.Duplicate", "InvalidParameterValue.Malformed", "InvalidParameterValue.TooLong", "LimitExceeded"),
		action(serviceVPC, "CreateSecurityGroupWithPolicies", createSecurityGroupWithPolicies).needs("SecurityGroupPolicySet.Ingress.0.Action", "SecurityGroupPolicySet.Egress.0.Action").fails("InvalidParameter.Coexist", "InvalidParameterValue", "InvalidParameterValue.LimitExceeded", "InvalidParameterValue.Malformed", "InvalidParameterValue.Range", "InvalidParameterValue.TooLong", "ResourceNotFound"),
		action(serviceVPC, "CreateDefaultSecurityGroup", createDefaultSecurityGroup).fails("InvalidParameterValue.Malformed"),
		action(serviceVPC, "DescribeSecurityGroups", describeSecurityGroups).fails("InvalidParameter.Coexist", "InvalidParameterValue.Malformed", "InvalidParameterValue.Range", "ResourceNotFound"),
		action(serviceVPC, "ModifySecurityGroupAttribute", modifySecurityGroupAttribute).fails("InvalidParameterValue", "ResourceNotFound"),
		action(serviceVPC, "DeleteSecurityGroup", deleteSecurityGroup).fails("InvalidSecurityGroupID.Malformed", "ResourceInUse", "ResourceNotFound", "UnsupportedOperation"),
		action(serviceVPC, "DescribeSecurityGroupAssociationStatistics", describeSecurityGroupAssociationStatistics).fails("ResourceNotFound"),
		action(serviceVPC, "DescribeSecurityGroupReferences", describeSecurityGroupReferences).fails("InvalidParameterValue.Malformed", "ResourceNotFound"),
		action(serviceVPC, "DescribeSecurityGroupLimits", describeSecurityGroupLimits),
		action(serviceVPC, "CloneSecurityGroup", cloneSecurityGroup).fails("InvalidParameterValue", "InvalidParameterValue.Duplicate", "InvalidParameterValue.Malformed", "InvalidParameterValue.TooLong", "LimitExceeded", "ResourceNotFound", "UnsupportedRegion"),
	}, sgPolicyActions(), templateActions())
}

type securityGroupOut struct {
	SecurityGroupId   string
	SecurityGroupName string
	SecurityGroupDesc string
	ProjectId         string
	IsDefault         bool
	CreatedTime       string
	UpdateTime        string
	TagSet            []Tag
}

func groupOut(g *lb.SecurityGroup) securityGroupOut {
	return securityGroupOut{
		SecurityGroupId: string(g.ID), SecurityGroupName: g.Name, SecurityGroupDesc: g.Desc, ProjectId: g.ProjectID,
		IsDefault: g.IsDefault, CreatedTime: stamp(g.Created), UpdateTime: stamp(g.Updated), TagSet: tagsOut(g.Tags),
	}
}

type createGroupIn struct {
	GroupName        string `tc:"required,len=60"`
	GroupDescription string `tc:"required,len=100"`
	ProjectId        string `tc:""`
	Tags             []Tag  `tc:""`
}

type createGroupOut struct{ SecurityGroup securityGroupOut }

// createSecurityGroup makes a group without rules, which refuses everything.
func createSecurityGroup(c *Call, in *createGroupIn) (*createGroupOut, error) {
	return newGroup(c, in, func(*lb.SecurityGroup) error { return nil })
}

type createGroupWithPoliciesIn struct {
	createGroupIn
	SecurityGroupPolicySet policySetIn `tc:""`
}

// createSecurityGroupWithPolicies makes a group with rules in both directions
// as its first version.
func createSecurityGroupWithPolicies(c *Call, in *createGroupWithPoliciesIn) (*createGroupOut, error) {
	set := &in.SecurityGroupPolicySet
	if set.Version != "" && set.Version != "0" {
		return nil, refuse(lb.Invalid, rulesField+".Version", "a group that is made now has no version yet", "leave it out")
	}
	if err := c.settle(rulesField, set, true); err != nil {
		return nil, err
	}
	return newGroup(c, &in.createGroupIn, func(g *lb.SecurityGroup) error {
		for _, d := range directions() {
			if len(d.given(set)) == 0 {
				continue
			}
			if index, err := d.commonIndex(set); err != nil {
				return err
			} else if index != nil && *index != 0 {
				return refuse(lb.Range, d.at(0)+"PolicyIndex", "a new group has no rules before these", "leave it out")
			}
			rules, err := d.parseRules(set)
			if err != nil {
				return err
			}
			*d.stored(g) = rules
		}
		return nil
	})
}

func newGroup(c *Call, in *createGroupIn, fill func(g *lb.SecurityGroup) error) (*createGroupOut, error) {
	g := &lb.SecurityGroup{Name: in.GroupName, Desc: in.GroupDescription}
	if err := groupName(&in.GroupName); err != nil {
		return nil, err
	}
	var err error
	if g.ProjectID, err = projectID(in.ProjectId); err != nil {
		return nil, err
	}
	if g.Tags, err = tagsIn("Tags", in.Tags); err != nil {
		return nil, err
	}
	if err := fill(g); err != nil {
		return nil, err
	}
	if err := c.Update(func(tx *store.Tx) error { return addGroup(c, tx, g) }); err != nil {
		return nil, err
	}
	return &createGroupOut{groupOut(g)}, nil
}

// addGroup gives a new group its id, times and rule ids and stores it.
func addGroup(c *Call, tx *store.Tx, g *lb.SecurityGroup) error {
	st := tx.State()
	if limit := c.Quotas.Groups; st.Groups.Len() >= limit {
		return refuse(lb.LimitExceeded, "", fmt.Sprintf("the region has %d security groups, at most %d are allowed", st.Groups.Len(), limit), "delete one that is not used")
	}
	g.ID = makeID(c, "sg-", st.Groups)
	g.Created = c.Now().UTC()
	g.Updated = g.Created
	for _, d := range directions() {
		adopt(nil, *d.stored(g), g.Created)
	}
	if err := c.checkRules(tx, g, "InvalidParameterValue.LimitExceeded"); err != nil {
		return err
	}
	tx.PutGroup(g)
	return c.checkNamed(tx, nil, g)
}

type createDefaultGroupIn struct {
	ProjectId string `tc:""`
}

// createDefaultSecurityGroup returns the project's default group and makes it
// when there is none.
func createDefaultSecurityGroup(c *Call, in *createDefaultGroupIn) (*createGroupOut, error) {
	project, err := projectID(in.ProjectId)
	if err != nil {
		return nil, err
	}
	var g *lb.SecurityGroup
	err = c.Update(func(tx *store.Tx) error {
		var err error
		g, err = defaultGroup(c, tx, project)
		return err
	})
	if err != nil {
		return nil, err
	}
	return &createGroupOut{groupOut(g)}, nil
}

// defaultGroup gets or makes a project's default group: all IPv4, both ways.
func defaultGroup(c *Call, tx *store.Tx, project string) (*lb.SecurityGroup, error) {
	for _, g := range tx.State().Groups.All() {
		if g.IsDefault && g.ProjectID == project {
			return g, nil
		}
	}
	all := lb.PolicyRule{Action: lb.Accept, Peer: netip.PrefixFrom(netip.IPv4Unspecified(), 0),
		Text: lb.RuleText{Protocol: "ALL", Port: "ALL", Cidr: "0.0.0.0/0"}}
	g := &lb.SecurityGroup{Name: "default", Desc: "System created security group", ProjectID: project, IsDefault: true,
		Ingress: []lb.PolicyRule{all}, Egress: []lb.PolicyRule{all}}
	return g, addGroup(c, tx, g)
}

type describeGroupsIn struct {
	SecurityGroupIds []string `tc:""`
	Filters          []Filter `tc:"" filters:"security-group-id security-group-name project-id tag-key tag:KEY"`
	TextPaging
	OrderField     string `tc:"enum=CreatedTime|UpdateTime"`
	OrderDirection string `tc:"enum=ASC|DESC"`
}

type describeGroupsOut struct {
	TotalCount       int
	SecurityGroupSet []securityGroupOut
}

// describeSecurityGroups lists groups, oldest first unless an order is given.
func describeSecurityGroups(c *Call, in *describeGroupsIn) (*describeGroupsOut, error) {
	groups, total, err := listObjects(c, query[lb.GroupID, lb.SecurityGroup]{
		field: "SecurityGroupIds", ids: in.SecurityGroupIds, filters: in.Filters, text: in.TextPaging,
		objects: c.State().Groups, find: findGroup,
		keys: map[string]func(*lb.SecurityGroup) []string{
			"security-group-id":   func(g *lb.SecurityGroup) []string { return []string{string(g.ID)} },
			"security-group-name": func(g *lb.SecurityGroup) []string { return []string{g.Name} },
			"project-id":          func(g *lb.SecurityGroup) []string { return []string{g.ProjectID} },
		},
		tags: func(g *lb.SecurityGroup) lb.Tags { return g.Tags },
		order: func(a, b *lb.SecurityGroup) int {
			n := older(a.Created, b.Created, a.ID, b.ID)
			if in.OrderField == "UpdateTime" {
				n = older(a.Updated, b.Updated, a.ID, b.ID)
			}
			if in.OrderDirection == "DESC" {
				return -n
			}
			return n
		},
	})
	if err != nil {
		return nil, err
	}
	out := &describeGroupsOut{TotalCount: total}
	for _, g := range groups {
		out.SecurityGroupSet = append(out.SecurityGroupSet, groupOut(g))
	}
	return out, nil
}

type modifyGroupIn struct {
	SecurityGroupId  string  `tc:"required"`
	GroupName        *string `tc:"len=60"`
	GroupDescription *string `tc:"len=100"`
}

// modifySecurityGroupAttribute renames or describes a group anew.
func modifySecurityGroupAttribute(c *Call, in *modifyGroupIn) (*done, error) {
	if err := groupName(in.GroupName); err != nil {
		return nil, err
	}
	return &done{}, c.Update(func(tx *store.Tx) error {
		old, err := findGroup(tx.State(), "SecurityGroupId", in.SecurityGroupId)
		if err != nil {
			return err
		}
		g := *old
		if in.GroupName != nil {
			g.Name = *in.GroupName
		}
		if in.GroupDescription != nil {
			g.Desc = *in.GroupDescription
		}
		if g.Name != old.Name || g.Desc != old.Desc {
			g.Updated = c.Now().UTC()
			tx.PutGroup(&g)
		}
		return nil
	})
}

type deleteGroupIn struct {
	SecurityGroupId string `tc:"required"`
}

// deleteSecurityGroup removes a group that nothing is bound to and no other
// group's rule names.
func deleteSecurityGroup(c *Call, in *deleteGroupIn) (*done, error) {
	return &done{}, c.Update(func(tx *store.Tx) error {
		st := tx.State()
		if !hasShape("sg-", in.SecurityGroupId) {
			return errorf("InvalidSecurityGroupID.Malformed", "SecurityGroupId: %q is not the id of a security group; ids look like sg-12345678", clip(in.SecurityGroupId, 40))
		}
		g, err := findGroup(st, "SecurityGroupId", in.SecurityGroupId)
		if err != nil {
			return err
		}
		if g.IsDefault {
			return refuse(lb.Unsupported, "SecurityGroupId", string(g.ID)+" is the default group of its project, which cannot be deleted", "change its rules instead")
		}
		if bound := tx.Index().Instances(g.ID); len(bound) > 0 {
			return refuse(lb.InUse, "SecurityGroupId", fmt.Sprintf("%s is bound to instance %s", g.ID, bound[0]), "DisassociateSecurityGroups first")
		}
		if bound := tx.Index().Balancers(g.ID); len(bound) > 0 {
			return refuse(lb.InUse, "SecurityGroupId", fmt.Sprintf("%s is bound to load balancer %s", g.ID, bound[0]), "SetLoadBalancerSecurityGroups without it first")
		}
		for _, id := range tx.Index().Naming(g.ID) {
			if id != g.ID {
				return refuse(lb.InUse, "SecurityGroupId", fmt.Sprintf("a rule of security group %s names %s", id, g.ID), "delete that rule first")
			}
		}
		tx.DeleteGroup(g.ID)
		return nil
	})
}

// groupName refuses an empty name where one is given.
func groupName(name *string) error {
	if name != nil && *name == "" {
		return refuse(lb.Invalid, "GroupName", "the name is empty", "give one of 1 to 60 characters")
	}
	return nil
}

// projectID is "0" when none is given.
func projectID(text string) (string, error) {
	if text == "" {
		return "0", nil
	}
	n, err := strconv.ParseUint(text, 10, 63)
	if err != nil && wholeNumber.MatchString(text) && text[0] != '-' {
		return "", refuse(lb.Malformed, "ProjectId", clip(text, 40)+" is greater than any project's number", `"0" is the default project`)
	}
	if err != nil {
		return "", refuse(lb.Malformed, "ProjectId", strconv.Quote(clip(text, 40))+" is not a decimal number", `"0" is the default project`)
	}
	return strconv.FormatUint(n, 10), nil
}
