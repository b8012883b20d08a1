// SPDX-License-Identifier: Apache-2.0

package cloudapi

import (
	"fmt"
	"slices"

	"github.com/sallyport/sallyport/internal/lb"
)

type targetGroupDoc struct {
	Id              string        `tc:""`
	TargetGroupName string        `tc:"required,len=80"`
	Vpc             string        `tc:""`
	Type            string        `tc:"only=v1|v2"`
	Protocol        string        `tc:"only=TCP|UDP|HTTP"`
	Port            int64         `tc:"range=0-65535"`
	Weight          *int64        `tc:"range=0-100"`
	HealthCheck     *groupCheckIn `tc:""`
	Tags            []clbTag      `tc:""`
	Members         []targetDoc   `tc:""`
}

func targetGroupSort() sort[lb.TargetGroupID, lb.TargetGroup] {
	return sort[lb.TargetGroupID, lb.TargetGroup]{"TargetGroup", "lbtg-", func(s *lb.State) lb.Table[lb.TargetGroupID, lb.TargetGroup] { return s.TargetGroups }, func(g *lb.TargetGroup) string { return g.Name }}
}

func (x *exporter) targetGroup(g *lb.TargetGroup) targetGroupDoc {
	d := targetGroupDoc{Id: string(g.ID), TargetGroupName: g.Name, Vpc: x.vpcRef(g.VPC), Type: "v1", Protocol: string(g.Protocol), Port: int64(g.Port), Tags: clbTags(g.Tags)}
	if g.Weight != nil {
		weight := int64(*g.Weight)
		d.Weight = &weight
	}
	if g.Type == lb.TargetGroupV2 {
		d.Type, d.HealthCheck = "v2", groupCheckDoc(g.Check)
	}
	for _, m := range g.Members {
		weight := int64(m.Weight)
		d.Members = append(d.Members, targetDoc{Instance: x.instanceRef(m.Instance), Port: int64(m.Port), Weight: &weight})
	}
	return d
}

// groupCheckDoc is a group's check with every field that its type has.
func groupCheckDoc(h lb.HealthCheck) *groupCheckIn {
	c := checkDoc(h)
	return &groupCheckIn{HealthSwitch: &h.On, Protocol: c.CheckType, Port: c.CheckPort, Timeout: c.TimeOut, GapTime: c.IntervalTime, GoodLimit: c.HealthNum, BadLimit: c.UnHealthNum,
		HttpCode: c.HttpCode, HttpCheckDomain: c.HttpCheckDomain, HttpCheckPath: c.HttpCheckPath, HttpCheckMethod: c.HttpCheckMethod, HttpVersion: c.HttpVersion,
		ContextType: c.ContextType, SendContext: c.SendContext, RecvContext: c.RecvContext}
}

func (a *applier) targetGroups() error {
	for i, d := range a.in.TargetGroups {
		path := fmt.Sprintf("TargetGroups.%d.", i)
		if err := a.attempt(path, "TargetGroup", d.Id, d.TargetGroupName, func() error { return a.targetGroup(path, d) }); err != nil {
			return err
		}
	}
	return nil
}

func (a *applier) targetGroup(path string, d targetGroupDoc) error {
	keep(&d.Type, "v1")
	var err error
	if d.Vpc, err = a.network(path+"Vpc", d.Vpc); err != nil {
		return err
	}
	if d.Members, err = a.membersOf(path, d); err != nil {
		return err
	}
	g, id, err := targetGroupSort().match(a, path, d.Id, d.TargetGroupName)
	if err != nil {
		return err
	}
	made := g == nil
	if made {
		in := &createTargetGroupIn{TargetGroupName: d.TargetGroupName, VpcId: d.Vpc, Port: d.Port, Type: d.Type, Protocol: d.Protocol, HealthCheck: d.HealthCheck, Tags: d.Tags, Weight: d.Weight}
		if d.Port == 0 {
			in.TargetGroupInstances = a.memberIns(d.Members)
		}
		out, err := createTargetGroup(a.sub(nil, d.Id), in)
		if err != nil {
			return at(path, "", err)
		}
		id = lb.TargetGroupID(out.TargetGroupId)
		if err := a.claimNew(path, d.Id, string(id)); err != nil {
			return err
		}
	}
	g = a.st().TargetGroups.Get(id)
	want := &lb.TargetGroup{Type: g.Type, Protocol: g.Protocol}
	if g.Type == lb.TargetGroupV2 {
		want.Check = lb.DefaultCheck(g.Protocol)
	}
	if err := d.HealthCheck.apply(want); err != nil {
		return at(path, "", err)
	}
	changed := unlike((&exporter{st: a.st(), ids: true}).targetGroup(g), d, "Id", "HealthCheck", "Members")
	if want.Check != g.Check {
		changed = append(changed, "HealthCheck")
	}
	if err := fixed(path, "a target group", changed, "Vpc", "Type", "Protocol"); err != nil {
		return err
	}
	if err := a.noted(made, "TargetGroup", d.Id, string(id), d.TargetGroupName, path, changed); err != nil {
		return err
	}
	if err := a.changeTargetGroup(path, g, d, want.Check, changed); err != nil {
		return err
	}
	return a.members(path, id, d)
}

func (a *applier) changeTargetGroup(path string, g *lb.TargetGroup, d targetGroupDoc, check lb.HealthCheck, changed []string) error {
	if len(changed) == 0 {
		return nil
	}
	in := &modifyTargetGroupAttributeIn{TargetGroupId: string(g.ID), TargetGroupName: &d.TargetGroupName, Weight: d.Weight}
	if d.Port != 0 {
		in.Port = &d.Port
	}
	if g.Type == lb.TargetGroupV2 {
		in.HealthCheck = groupCheckDoc(check)
	}
	if _, err := modifyTargetGroupAttribute(a.sub(nil), in); err != nil {
		return at(path, "", err)
	}
	left := unlike((&exporter{st: a.st(), ids: true}).targetGroup(a.st().TargetGroups.Get(g.ID)), d, "Id", "HealthCheck", "Members", "Tags")
	if err := fixed(path, "a target group", left, "Port", "Weight"); err != nil {
		return err // it can be set, not taken back
	}
	return a.tags(path, "clb", "targetgroup", string(g.ID), plainTags(d.Tags))
}

// membersOf resolves a group's members and fills in what the group says for all.
func (a *applier) membersOf(path string, d targetGroupDoc) ([]targetDoc, error) {
	members := slices.Clone(d.Members)
	err := a.each(len(members), func(i int) error {
		m, field := &members[i], fmt.Sprintf("%sMembers.%d.", path, i)
		_, id, err := instanceSort().find(a, field+"Instance", m.Instance)
		if err != nil {
			return err
		}
		if m.Type == typeENI {
			return refuse(lb.Unsupported, field+"Type", "members of target groups are read as CVM, however they were named", "leave it out")
		}
		m.Instance, m.Type = string(id), ""
		if m.Weight == nil {
			weight := int64(defaultWeight)
			if d.Weight != nil {
				weight = *d.Weight
			}
			m.Weight = &weight
		}
		if first := findDoc(members[:i], *m); first >= 0 {
			return refuse(lb.Duplicate, field+"Port", fmt.Sprintf("%s port %d is listed already", d.Members[i].Instance, m.Port), "name each member once")
		}
		return nil
	})
	return members, err
}

func findDoc(docs []targetDoc, d targetDoc) int {
	return slices.IndexFunc(docs, func(x targetDoc) bool { return x.Instance == d.Instance && x.Port == d.Port })
}

// memberIns names members as the actions take them: by address.
func (a *applier) memberIns(docs []targetDoc) []memberIn {
	var list []memberIn
	for _, d := range docs {
		port := d.Port
		list = append(list, memberIn{BindIP: a.st().Instances.Get(lb.InstanceID(d.Instance)).Private.String(), Port: &port, Weight: d.Weight})
	}
	return list
}

// members gives a group exactly the members of its document.
func (a *applier) members(path string, id lb.TargetGroupID, d targetGroupDoc) error {
	have := (&exporter{st: a.st(), ids: true}).targetGroup(a.st().TargetGroups.Get(id))
	var gone, fresh, weighed []targetDoc
	for _, m := range have.Members {
		if findDoc(d.Members, m) < 0 {
			gone = append(gone, m)
		}
	}
	for _, m := range d.Members {
		switch old := findDoc(have.Members, m); {
		case old < 0:
			fresh = append(fresh, m)
		case *have.Members[old].Weight != *m.Weight:
			weighed = append(weighed, m)
		}
	}
	for _, step := range []struct {
		verb string
		docs []targetDoc
		call func(in *membersIn) error
	}{
		{"delete", gone, func(in *membersIn) error { _, err := deregisterTargetGroupInstances(a.sub(nil), in); return err }},
		{"create", fresh, func(in *membersIn) error { _, err := registerTargetGroupInstances(a.sub(nil), in); return err }},
		{"change", weighed, func(in *membersIn) error { _, err := modifyTargetGroupInstancesWeight(a.sub(nil), in); return err }},
	} {
		for part := range slices.Chunk(step.docs, maxMembersPerCall) {
			if err := step.call(&membersIn{TargetGroupId: string(id), TargetGroupInstances: a.memberIns(part)}); err != nil {
				return at(path, "TargetGroupInstances.", err)
			}
		}
		for _, m := range step.docs {
			a.note(step.verb, "Member", m.Instance, fmt.Sprintf("%s:%d of %s", a.instanceName(m.Instance), m.Port, d.TargetGroupName), path)
		}
	}
	return nil
}

func (a *applier) instanceName(id string) string {
	if i := a.st().Instances.Get(lb.InstanceID(id)); i != nil && i.Name != "" {
		return i.Name
	}
	return id
}

// associate gives a listener or rule the target group of its document, which
// may be none. have is what it has.
func (a *applier) associate(path, title string, place targetPlace, have lb.TargetGroupID, want string) error {
	if string(have) == want {
		return nil
	}
	one := func(id string) *associationsIn {
		return &associationsIn{Associations: []associationIn{{LoadBalancerId: place.LoadBalancerId, ListenerId: place.ListenerId, LocationId: place.LocationId, TargetGroupId: id}}}
	}
	if have != "" {
		if _, err := disassociateTargetGroups(a.sub(nil), one(string(have))); err != nil {
			return at(path, "Associations.0.", err)
		}
	}
	if want != "" {
		if _, err := associateTargetGroups(a.sub(nil), one(want)); err != nil {
			return at(path, "Associations.0.", err)
		}
	}
	kind := "Listener"
	id := place.ListenerId
	if place.LocationId != "" {
		kind, id = "Rule", place.LocationId
	}
	if !a.fresh[id] {
		a.note("change", kind, id, title, path, "TargetGroup")
	}
	return nil
}
