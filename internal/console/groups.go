// SPDX-License-Identifier: Apache-2.0

package console

import (
	"fmt"
	"slices"
	"strconv"
)

// pageSize is how many rows a list shows at once.
const pageSize = 50

// A pager is a list's place.
type pager struct {
	Search     string
	From, To   int // 1-based, inclusive
	Total      int
	Prev, Next string // addresses; "" at the ends
}

func (v *visit) pager(base, search string, offset, shown, total int) pager {
	p := pager{Search: search, From: offset + 1, To: offset + shown, Total: total}
	at := func(n int) string {
		return Root + base + "?" + query("q", search, "offset", strconv.Itoa(n))
	}
	if shown == 0 {
		p.From = 0
	}
	if offset > 0 {
		p.Prev = at(max(0, offset-pageSize))
	}
	if offset+shown < total {
		p.Next = at(offset + shown)
	}
	return p
}

// offset is the place that a list's address names.
func (v *visit) offset() int {
	n, err := strconv.Atoi(v.r.URL.Query().Get("offset"))
	if err != nil || n < 0 {
		return 0
	}
	return n
}

type groupListData struct {
	Groups []group
	P      pager
}

func (v *visit) groupList() error {
	search, offset := v.r.URL.Query().Get("q"), v.offset()
	groups, total, err := v.searchGroups(search, offset, pageSize)
	if err != nil {
		return err
	}
	return v.show(200, "group-list", "sg", "Security groups", groupListData{groups, v.pager("sg", search, offset, len(groups), total)})
}

type newGroupData struct {
	F         form
	Templates []groupTemplate
}

func (v *visit) newGroup() error {
	d := newGroupData{F: v.initial("template", "custom", "ProjectId", "0"), Templates: groupTemplates()}
	if !v.posted() {
		return v.show(200, "group-new", "sg", "Create a security group", d)
	}
	d.F = v.typed()
	in := m{"GroupName": d.F.V("GroupName"), "GroupDescription": d.F.V("GroupDescription"), "ProjectId": d.F.V("ProjectId")}
	set := m{}
	for _, t := range d.Templates {
		if t.Id == d.F.V("template") {
			set["Ingress"], set["Egress"] = policiesOf(t.In), policiesOf(t.Out)
		}
	}
	in["SecurityGroupPolicySet"] = set
	var out struct{ SecurityGroup group }
	if err := v.do(vpcVersion, "CreateSecurityGroupWithPolicies", in, &out); err != nil {
		if d.F, err = d.F.refused(err); err != nil {
			return err
		}
		return v.show(d.F.status(), "group-new", "sg", "Create a security group", d)
	}
	notice := "Created " + out.SecurityGroup.SecurityGroupName + "."
	if d.F.V("template") == "custom" {
		notice += " It refuses everything until you add rules. Add the first ones now."
	}
	return v.to("sg/"+out.SecurityGroup.SecurityGroupId, notice)
}

func policiesOf(lines []line) []m {
	all := make([]m, len(lines))
	for i, l := range lines {
		all[i] = l.policy()
	}
	return all
}

type groupFormData struct {
	G group
	F form
}

// Stamp tells one name and remarks from another.
func (d groupFormData) Stamp() string { return stamp(d.G.SecurityGroupName, d.G.SecurityGroupDesc) }

func (v *visit) editGroup() error {
	g, err := v.group(v.r.PathValue("id"))
	if err != nil {
		return err
	}
	d := groupFormData{G: g, F: v.initial("GroupName", g.SecurityGroupName, "GroupDescription", g.SecurityGroupDesc)}
	if v.posted() {
		d.F = v.typed()
		if d.F.V("stamp") != d.Stamp() {
			d.F = d.F.changed(fmt.Sprintf("the name is now %q, the remarks %q", g.SecurityGroupName, g.SecurityGroupDesc))
			return v.show(d.F.status(), "group-edit", "sg", "Name and remarks", d)
		}
		err := v.do(vpcVersion, "ModifySecurityGroupAttribute", m{"SecurityGroupId": g.SecurityGroupId,
			"GroupName": d.F.V("GroupName"), "GroupDescription": d.F.V("GroupDescription")}, nil)
		if err == nil {
			return v.to("sg/"+g.SecurityGroupId, "Saved.")
		}
		if d.F, err = d.F.refused(err); err != nil {
			return err
		}
	}
	return v.show(d.F.status(), "group-edit", "sg", "Name and remarks", d)
}

// cloneGroup copies rules, not bindings.
func (v *visit) cloneGroup() error {
	g, err := v.group(v.r.PathValue("id"))
	if err != nil {
		return err
	}
	d := groupFormData{G: g, F: v.initial("GroupName", g.SecurityGroupName+" copy", "GroupDescription", g.SecurityGroupDesc)}
	if v.posted() {
		d.F = v.typed()
		set, err := v.policies(g.SecurityGroupId)
		if err != nil {
			return err
		}
		var out struct{ SecurityGroup group }
		err = v.do(vpcVersion, "CreateSecurityGroupWithPolicies", m{"GroupName": d.F.V("GroupName"), "GroupDescription": d.F.V("GroupDescription"),
			"ProjectId": g.ProjectId, "SecurityGroupPolicySet": m{"Ingress": storedAll(set.Ingress), "Egress": storedAll(set.Egress)}}, &out)
		if err == nil {
			return v.to("sg/"+out.SecurityGroup.SecurityGroupId, fmt.Sprintf("Cloned from %s. The copy is bound to nothing yet.", g.SecurityGroupId))
		}
		if d.F, err = d.F.refused(err); err != nil {
			return err
		}
	}
	return v.show(d.F.status(), "group-clone", "sg", "Clone "+g.SecurityGroupName, d)
}

func storedAll(rules []policyRule) []m {
	all := make([]m, len(rules))
	for i, r := range rules {
		all[i] = stored(r)
	}
	return all
}

func (v *visit) deleteGroup() error {
	g, err := v.group(v.r.PathValue("id"))
	if err != nil {
		return err
	}
	q := confirmation{Heading: "Delete " + g.SecurityGroupName, Danger: true, Button: "Delete", Back: Root + "sg",
		Text: "This deletes " + g.SecurityGroupId + " with its rules for good. A group that is bound, or named by another group's rule, cannot be deleted."}
	if v.posted() {
		err := v.do(vpcVersion, "DeleteSecurityGroup", m{"SecurityGroupId": g.SecurityGroupId}, nil)
		if err == nil {
			return v.to("sg", "Deleted "+g.SecurityGroupName+".")
		}
		if q.F, err = v.typed().refused(err); err != nil {
			return err
		}
	}
	return v.confirm("sg", q)
}

type associationsData struct {
	G         group
	Kind      string // cvm or clb
	Instances []instance
	Balancers []balancer
	P         pager
	F         form
}

// associations lists what a group is bound to.
func (v *visit) associations() error { return v.showAssociations(form{}) }

func (v *visit) showAssociations(f form) error {
	g, err := v.group(v.r.PathValue("id"))
	if err != nil {
		return err
	}
	d := associationsData{G: g, Kind: "cvm", F: f}
	offset, shown, total := v.offset(), 0, 0
	if v.r.FormValue("kind") == "clb" {
		d.Kind = "clb"
		d.Balancers, total, err = v.balancers(m{"SecurityGroup": g.SecurityGroupId, "Offset": offset, "Limit": pageSize})
		shown = len(d.Balancers)
	} else {
		d.Instances, total, err = v.instances(m{"Filters": []m{{"Name": "security-group-id", "Values": []string{g.SecurityGroupId}}}, "Offset": offset, "Limit": pageSize})
		shown = len(d.Instances)
	}
	if err != nil {
		return err
	}
	d.P = v.pager("sg/"+g.SecurityGroupId+"/associations", "", offset, shown, total)
	return v.show(f.status(), "group-associations", "sg", g.SecurityGroupName+": associated instances", d)
}

type associateData struct {
	G       group
	Kind    string
	Choices []choice
	Hidden  []string // ticked, and not shown by the search
	Search  string
	F       form
}

// A choice is one row to tick.
type choice struct{ Id, Name, Text string }

func (v *visit) associate() error {
	g, err := v.group(v.r.PathValue("id"))
	if err != nil {
		return err
	}
	d := associateData{G: g, Kind: "cvm", F: v.initial()}
	if v.posted() {
		d.F = v.typed()
	}
	d.Search = d.F.V("q")
	if v.r.FormValue("kind") == "clb" {
		d.Kind = "clb"
	}
	if d.Choices, err = v.associable(g.SecurityGroupId, d.Kind, d.Search); err != nil {
		return err
	}
	ids := d.F.Values["id"]
	for _, id := range ids {
		if !slices.ContainsFunc(d.Choices, func(c choice) bool { return c.Id == id }) {
			d.Hidden = append(d.Hidden, id)
		}
	}
	if v.posted() && d.F.V("search") == "" {
		if len(ids) == 0 {
			d.F = d.F.fault("id", "Tick at least one.")
		} else if err = v.bindMany(g.SecurityGroupId, d.Kind, ids, true); err == nil {
			return v.to("sg/"+g.SecurityGroupId+"/associations?kind="+d.Kind, "Bound. New flows are judged by it at once.")
		} else if d.F, err = d.F.refused(err); err != nil {
			return err
		}
	}
	return v.show(d.F.status(), "group-associate", "sg", "Add instances to "+g.SecurityGroupName, d)
}

// associable lists what a group is not bound to yet, as far as a search finds
// it.
func (v *visit) associable(id, kind, search string) ([]choice, error) {
	var all []choice
	if kind == "clb" {
		list, _, err := v.balancers(balancerSearch(search, 0, 100))
		for _, b := range list {
			if !contains(b.SecureGroups, id) {
				all = append(all, choice{b.LoadBalancerId, b.LoadBalancerName, joined(b.LoadBalancerVips)})
			}
		}
		return all, err
	}
	list, _, err := v.instances(instanceSearch(search, 0, 100))
	for _, i := range list {
		if !contains(i.SecurityGroupIds, id) {
			all = append(all, choice{i.InstanceId, i.InstanceName, joined(append(i.PrivateIpAddresses, i.PublicIpAddresses...))})
		}
	}
	return all, err
}

// bindMany binds or unbinds one group at many objects of a kind.
func (v *visit) bindMany(group, kind string, ids []string, bind bool) error {
	switch {
	case kind == "clb" && bind:
		return v.do(clbVersion, "SetSecurityGroupForLoadbalancers", m{"SecurityGroup": group, "OperationType": "ADD", "LoadBalancerIds": ids}, nil)
	case kind == "clb":
		return v.do(clbVersion, "SetSecurityGroupForLoadbalancers", m{"SecurityGroup": group, "OperationType": "DEL", "LoadBalancerIds": ids}, nil)
	case bind:
		return v.do(vpcVersion, "AssociateSecurityGroups", m{"SecurityGroupIds": []string{group}, "InstanceIds": ids}, nil)
	}
	return v.do(vpcVersion, "DisassociateSecurityGroups", m{"SecurityGroupIds": []string{group}, "InstanceIds": ids}, nil)
}

func (v *visit) dissociate() error {
	f := v.typed()
	id, kind, ids := v.r.PathValue("id"), f.V("kind"), f.Values["id"]
	if len(ids) == 0 {
		return v.showAssociations(f.fault("id", "Tick at least one."))
	}
	err := v.bindMany(id, kind, ids, false)
	if err == nil {
		return v.to("sg/"+id+"/associations?kind="+kind, "Unbound.")
	}
	if f, err = f.refused(err); err != nil {
		return err
	}
	return v.showAssociations(f)
}
