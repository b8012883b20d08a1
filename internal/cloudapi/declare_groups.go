// SPDX-License-Identifier: Apache-2.0

package cloudapi

import (
	"fmt"
	"slices"

	"github.com/sallyport/sallyport/internal/lb"
)

// groups makes and renames groups. Their rules come after all of them, because
// rules may refer to any group.
func (a *applier) groups() error {
	for i := range a.in.SecurityGroups {
		if err := a.group(fmt.Sprintf("SecurityGroups.%d.", i), &a.in.SecurityGroups[i]); err != nil {
			return err
		}
	}
	return nil
}

func (a *applier) group(path string, d *groupDoc) error {
	keep(&d.ProjectId, "0")
	g, id, err := groupSort().match(a, path, d.Id, d.GroupName)
	if err != nil {
		return err
	}
	made := g == nil
	switch {
	case made && d.IsDefault:
		if g, err = defaultGroup(a.sub(nil, d.Id), a.tx, d.ProjectId); err != nil {
			return at(path, "", err)
		}
		id = g.ID
	case made:
		out, err := createSecurityGroup(a.sub(nil, d.Id), &createGroupIn{GroupName: d.GroupName, GroupDescription: d.GroupDescription, ProjectId: d.ProjectId, Tags: d.Tags})
		if err != nil {
			return at(path, "", err)
		}
		id = lb.GroupID(out.SecurityGroup.SecurityGroupId)
	}
	if made {
		if err := a.claimNew(path, d.Id, string(id)); err != nil {
			return err
		}
	}
	a.groupIDs = append(a.groupIDs, id)
	have := (&exporter{st: a.st(), ids: true}).group(a.st().Groups.Get(id))
	changed := unlike(have, *d, "Id", "Ingress", "Egress")
	if err := fixed(path, "a security group", changed, "ProjectId", "IsDefault"); err != nil {
		return err
	}
	if err := a.noted(made, "SecurityGroup", d.Id, string(id), d.GroupName, path, changed); err != nil {
		return err
	}
	if len(changed) == 0 {
		return nil
	}
	if _, err := modifySecurityGroupAttribute(a.sub(nil), &modifyGroupIn{SecurityGroupId: string(id), GroupName: &d.GroupName, GroupDescription: &d.GroupDescription}); err != nil {
		return at(path, "", err)
	}
	return a.tags(path, "cvm", "sg", string(id), d.Tags)
}

// policies gives every group that has a document the rules of it, in their
// order.
func (a *applier) policies() error {
	for i := range a.in.SecurityGroups {
		d, id, path := &a.in.SecurityGroups[i], a.groupIDs[i], fmt.Sprintf("SecurityGroups.%d.", i)
		set := &policySetIn{}
		var err error
		if set.Ingress, err = a.rules(path+"Ingress", d.Ingress); err != nil {
			return err
		}
		if set.Egress, err = a.rules(path+"Egress", d.Egress); err != nil {
			return err
		}
		before := a.st().Groups.Get(id)
		var fields []string
		call := a.sub(nil)
		call.given = set
		err = editRules(call, string(id), func(g *lb.SecurityGroup) error {
			for _, dir := range directions() {
				rules, err := dir.parseRules(set)
				if err != nil {
					return err
				}
				if !sameRules(*dir.stored(before), rules) {
					fields = append(fields, dir.name)
					*dir.stored(g) = rules
				}
			}
			return nil
		})
		if err != nil {
			return at(path, rulesField+".", err)
		}
		if len(fields) > 0 && !a.fresh[string(id)] {
			a.note("change", "SecurityGroup", string(id), d.GroupName, path, fields...)
		}
	}
	return nil
}

// rules writes documents' rules as the actions take them.
func (a *applier) rules(path string, docs []policyDoc) ([]policyIn, error) {
	var rules []policyIn
	for i, d := range docs {
		p := policyIn{Action: d.Action, Protocol: d.Protocol, Port: d.Port, CidrBlock: d.CidrBlock, Ipv6CidrBlock: d.Ipv6CidrBlock,
			PolicyDescription: d.PolicyDescription}
		if d.SecurityGroup != "" {
			_, id, err := groupSort().find(a, fmt.Sprintf("%s.%d.SecurityGroup", path, i), d.SecurityGroup)
			if err != nil {
				return nil, err
			}
			p.SecurityGroupId = string(id)
		}
		if err := a.ruleTemplates(fmt.Sprintf("%s.%d.", path, i), d, &p); err != nil {
			return nil, err
		}
		rules = append(rules, p)
	}
	return rules, nil
}

// ruleTemplates resolves the templates that a rule names.
func (a *applier) ruleTemplates(path string, d policyDoc, p *policyIn) error {
	kinds := templateKinds()
	peer, err := a.templateIn(path+"AddressTemplate", d.AddressTemplate, kinds[0])
	if err != nil {
		return err
	}
	service, err := a.templateIn(path+"ServiceTemplate", d.ServiceTemplate, kinds[2])
	if err != nil {
		return err
	}
	if peer.IsGroup() {
		p.AddressTemplate.AddressGroupId = string(peer)
	} else {
		p.AddressTemplate.AddressId = string(peer)
	}
	if service.IsGroup() {
		p.ServiceTemplate.ServiceGroupId = string(service)
	} else {
		p.ServiceTemplate.ServiceId = string(service)
	}
	return nil
}

// sameRules compares what rules say, not when and under which id they say it.
func sameRules(have, want []lb.PolicyRule) bool {
	return slices.EqualFunc(have, want, func(x, y lb.PolicyRule) bool {
		return ruleKey(x) == ruleKey(y) && x.Text == y.Text && x.Description == y.Description
	})
}
