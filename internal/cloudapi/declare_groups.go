// SPDX-License-Identifier: Apache-2.0

package cloudapi

import (
	"errors"
	"fmt"
	"slices"

	"github.com/sallyport/sallyport/internal/lb"
)

// groups makes and renames groups. Their rules come after all of them, because
// rules may refer to any group.
func (a *applier) groups() error {
	for i := range a.in.SecurityGroups {
		d, path := &a.in.SecurityGroups[i], fmt.Sprintf("SecurityGroups.%d.", i)
		if err := a.attempt(path, "SecurityGroup", d.Id, d.GroupName, func() (err error) {
			a.groupIDs[i], err = a.group(path, d)
			return err
		}); err != nil {
			return err
		}
		if err := a.depends(len(d.Ingress), path+"Ingress", "SecurityGroup", d.GroupName, path); err != nil {
			return err
		}
		if err := a.depends(len(d.Egress), path+"Egress", "SecurityGroup", d.GroupName, path); err != nil {
			return err
		}
	}
	return nil
}

func (a *applier) group(path string, d *groupDoc) (lb.GroupID, error) {
	keep(&d.ProjectId, "0")
	g, id, err := groupSort().match(a, path, d.Id, d.GroupName)
	if err != nil {
		return id, err
	}
	made := g == nil
	switch {
	case made && d.IsDefault:
		if g, err = defaultGroup(a.sub(nil, d.Id), a.tx, d.ProjectId); err != nil {
			return id, at(path, "", err)
		}
		id = g.ID
	case made:
		out, err := createSecurityGroup(a.sub(nil, d.Id), &createGroupIn{GroupName: d.GroupName, GroupDescription: d.GroupDescription, ProjectId: d.ProjectId, Tags: d.Tags})
		if err != nil {
			return id, at(path, "", err)
		}
		id = lb.GroupID(out.SecurityGroup.SecurityGroupId)
	}
	if made {
		if err := a.claimNew(path, d.Id, string(id)); err != nil {
			return id, err
		}
	}
	have := (&exporter{st: a.st(), ids: true}).group(a.st().Groups.Get(id))
	changed := unlike(have, *d, "Id", "Ingress", "Egress")
	if err := fixed(path, "a security group", changed, "ProjectId", "IsDefault"); err != nil {
		return id, err
	}
	if err := a.noted(made, "SecurityGroup", d.Id, string(id), d.GroupName, path, changed); err != nil {
		return id, err
	}
	if len(changed) == 0 {
		return id, nil
	}
	if _, err := modifySecurityGroupAttribute(a.sub(nil), &modifyGroupIn{SecurityGroupId: string(id), GroupName: &d.GroupName, GroupDescription: &d.GroupDescription}); err != nil {
		return id, at(path, "", err)
	}
	return id, a.tags(path, "cvm", "sg", string(id), d.Tags)
}

// policies gives every group that has a document the rules of it, in their
// order. A fault in them is none of those who bind the group.
func (a *applier) policies() error {
	for i := range a.in.SecurityGroups {
		d, path := &a.in.SecurityGroups[i], fmt.Sprintf("SecurityGroups.%d.", i)
		if a.lost[path] || a.broken[path+"rules"] {
			continue
		}
		if err := a.tell(a.tx.Attempt(func() error { return a.policiesOf(path, a.groupIDs[i], d) })); err != nil {
			return err
		}
	}
	return nil
}

func (a *applier) policiesOf(path string, id lb.GroupID, d *groupDoc) error {
	set, bad := &policySetIn{}, false
	for _, dir := range []struct {
		name string
		docs []policyDoc
		to   *[]policyIn
	}{{"Ingress", d.Ingress, &set.Ingress}, {"Egress", d.Egress, &set.Egress}} {
		*dir.to = make([]policyIn, len(dir.docs))
		err := a.each(len(dir.docs), func(i int) (err error) {
			(*dir.to)[i], err = a.rule(fmt.Sprintf("%s%s.%d.", path, dir.name, i), dir.docs[i])
			return err
		})
		if bad = bad || errors.Is(err, errTold); err != nil && !errors.Is(err, errTold) {
			return err
		}
	}
	if bad {
		return errTold
	}
	before := a.st().Groups.Get(id)
	var fields []string
	call := a.sub(nil)
	call.given = set
	err := editRules(call, string(id), func(g *lb.SecurityGroup) error {
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
	if err == nil && len(fields) > 0 && !a.fresh[string(id)] {
		a.note("change", "SecurityGroup", string(id), d.GroupName, path, fields...)
	}
	return at(path, rulesField+".", err)
}

// rule writes a document's rule as the actions take it, and looks at it by
// itself.
func (a *applier) rule(path string, d policyDoc) (policyIn, error) {
	p := policyIn{Action: d.Action, Protocol: d.Protocol, Port: d.Port, CidrBlock: d.CidrBlock, Ipv6CidrBlock: d.Ipv6CidrBlock,
		PolicyDescription: d.PolicyDescription}
	if d.SecurityGroup != "" {
		_, id, err := groupSort().find(a, path+"SecurityGroup", d.SecurityGroup)
		if err != nil {
			return p, err
		}
		p.SecurityGroupId = string(id)
	}
	if err := a.ruleTemplates(path, d, &p); err != nil {
		return p, err
	}
	_, err := p.parse(path)
	return p, err
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
