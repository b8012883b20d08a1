// SPDX-License-Identifier: Apache-2.0

package cloudapi

import (
	"cmp"
	"slices"

	"github.com/sallyport/sallyport/internal/lb"
)

type describeTargetGroupsIn struct {
	TargetGroupIds []string `tc:""`
	Filters        []Filter `tc:"" filters:"TargetGroupVpcId TargetGroupName tag-key tag:KEY"`
	Paging
}

type describeTargetGroupsOut struct {
	TotalCount     int
	TargetGroupSet []targetGroupOut
}

// targetGroupOut has null where a v1 group has nothing of its own.
type targetGroupOut struct {
	TargetGroupId, VpcId, TargetGroupName, CreatedTime, UpdatedTime, TargetGroupType string
	Port, AssociatedRuleCount, RegisteredInstancesCount                              int
	AssociatedRule                                                                   []groupRuleOut
	Protocol, ScheduleAlgorithm, IpVersion                                           *string
	HealthCheck                                                                      *groupCheckOut
	Tag                                                                              []clbTagOut
	Weight                                                                           *int
	FullListenSwitch, KeepaliveEnable, SnatEnable                                    bool
	SessionExpireTime                                                                int
}

// groupRuleOut has a null rule for a layer-4 listener.
type groupRuleOut struct {
	LoadBalancerId, LoadBalancerName, ListenerId, ListenerName, Protocol string
	Port                                                                 int
	LocationId, Domain, Url                                              *string
	Weight                                                               int
}

type groupCheckOut struct {
	HealthSwitch                                                 bool
	Protocol                                                     string
	Port                                                         *int
	Timeout, GapTime, GoodLimit, BadLimit                        int
	HttpCode                                                     *int
	HttpCheckDomain, HttpCheckPath, HttpCheckMethod, HttpVersion *string
}

func describeTargetGroups(c *Call, in *describeTargetGroupsIn) (*describeTargetGroupsOut, error) {
	return listTargetGroups(c, in, true)
}

// describeTargetGroupList is describeTargetGroups without what the groups are
// associated with.
func describeTargetGroupList(c *Call, in *describeTargetGroupsIn) (*describeTargetGroupsOut, error) {
	return listTargetGroups(c, in, false)
}

func listTargetGroups(c *Call, in *describeTargetGroupsIn, rules bool) (*describeTargetGroupsOut, error) {
	st := c.State()
	groups, total, err := listObjects(c, query[lb.TargetGroupID, lb.TargetGroup]{
		field: "TargetGroupIds", ids: in.TargetGroupIds, filters: in.Filters, paging: in.Paging, objects: st.TargetGroups,
		find: func(st *lb.State, _, id string) (*lb.TargetGroup, error) {
			return st.TargetGroups.Get(lb.TargetGroupID(id)), nil
		},
		keys: map[string]func(*lb.TargetGroup) []string{
			"TargetGroupVpcId": func(g *lb.TargetGroup) []string { return []string{string(g.VPC)} },
			"TargetGroupName":  func(g *lb.TargetGroup) []string { return []string{g.Name} },
		},
		tags:  func(g *lb.TargetGroup) lb.Tags { return g.Tags },
		order: func(a, b *lb.TargetGroup) int { return cmp.Or(b.Created.Compare(a.Created), cmp.Compare(a.ID, b.ID)) },
	})
	if err != nil {
		return nil, err
	}
	out := &describeTargetGroupsOut{TotalCount: total}
	for _, g := range groups {
		shown := showTargetGroup(st, g)
		if !rules {
			shown.AssociatedRule = nil
		}
		out.TargetGroupSet = append(out.TargetGroupSet, shown)
	}
	return out, nil
}

func showTargetGroup(st *lb.State, g *lb.TargetGroup) targetGroupOut {
	out := targetGroupOut{
		TargetGroupId: string(g.ID), VpcId: string(g.VPC), TargetGroupName: g.Name, CreatedTime: stamp(g.Created), UpdatedTime: stamp(g.Updated),
		TargetGroupType: "v1", Port: int(g.Port), RegisteredInstancesCount: len(g.Members),
	}
	for _, key := range sortedKeys(g.Tags) {
		out.Tag = append(out.Tag, clbTagOut{key, g.Tags[key]})
	}
	for _, p := range associationsOf(st, g.ID) {
		a := groupRuleOut{LoadBalancerId: string(p.listener.Balancer), ListenerId: string(p.listener.ID), ListenerName: p.listener.Name,
			Protocol: string(p.listener.Protocol), Port: int(p.listener.Port), Weight: defaultWeight}
		if b := st.Balancers.Get(p.listener.Balancer); b != nil {
			a.LoadBalancerName = b.Name
		}
		if p.rule != nil {
			id := string(p.rule.ID)
			a.LocationId, a.Domain, a.Url = &id, &p.rule.Domain, &p.rule.URL
		}
		out.AssociatedRule = append(out.AssociatedRule, a)
	}
	out.AssociatedRuleCount = len(out.AssociatedRule)
	if g.Type == lb.TargetGroupV2 {
		protocol, wrr := string(g.Protocol), "WRR"
		out.TargetGroupType, out.Protocol, out.Weight, out.HealthCheck = "v2", &protocol, g.Weight, showGroupCheck(g.Check)
		if g.Protocol.Layer7() {
			out.ScheduleAlgorithm = &wrr
		}
	}
	return out
}

func showGroupCheck(h lb.HealthCheck) *groupCheckOut {
	out := &groupCheckOut{HealthSwitch: h.On, Protocol: h.Type, Timeout: h.TimeOut, GapTime: h.IntervalTime, GoodLimit: h.HealthNum, BadLimit: h.UnHealthNum}
	if h.Port != 0 {
		out.Port = &h.Port
	}
	if h.Type == lb.CheckHTTP {
		out.HttpCode, out.HttpCheckDomain, out.HttpCheckPath, out.HttpCheckMethod, out.HttpVersion = &h.HTTPCode, &h.HTTPDomain, &h.HTTPPath, &h.HTTPMethod, &h.HTTPVersion
	}
	return out
}

// basicGroup is the group of a listener or rule as reads of those show it.
type basicGroup struct {
	TargetGroupId, TargetGroupName string
	Weight                         int
}

// showGroup is nil and empty when no group is associated.
func showGroup(st *lb.State, id lb.TargetGroupID) (*basicGroup, []basicGroup) {
	g := st.TargetGroups.Get(id)
	if g == nil {
		return nil, nil
	}
	one := basicGroup{string(id), g.Name, defaultWeight}
	return &one, []basicGroup{one}
}

type describeTargetGroupInstancesIn struct {
	Filters []Filter `tc:"required" filters:"TargetGroupId BindIP InstanceId"`
	Paging
}

type describeTargetGroupInstancesOut struct {
	TotalCount, RealCount  int
	TargetGroupInstanceSet []memberOut
}

type memberOut struct {
	TargetGroupId, Type, InstanceId, InstanceName, RegisteredTime string
	Port, Weight, ZoneId                                          int
	PublicIpAddresses, PrivateIpAddresses                         []string
	EniId                                                         *string
}

// describeTargetGroupInstances lists the members of groups, in the order in
// which they joined.
func describeTargetGroupInstances(c *Call, in *describeTargetGroupInstancesIn) (*describeTargetGroupInstancesOut, error) {
	if len(in.Filters) == 0 {
		return nil, refuse(lb.Missing, "Filters", "no filter is given", "give TargetGroupId, BindIP or InstanceId")
	}
	st := c.State()
	var all []memberOut
	for _, id := range st.TargetGroups.Sorted() {
		for _, m := range st.TargetGroups.Get(id).Members {
			shown := memberOut{TargetGroupId: string(id), Type: "CVM", InstanceId: string(m.Instance), RegisteredTime: stamp(m.Registered),
				Port: int(m.Port), Weight: m.Weight, PrivateIpAddresses: privateOf(st, m.Instance)}
			if i := st.Instances.Get(m.Instance); i != nil {
				shown.InstanceName, shown.PublicIpAddresses = i.Name, publicAddresses(i)
			}
			all = append(all, shown)
		}
	}
	all, err := filter(all, in.Filters, map[string]func(memberOut) []string{
		"TargetGroupId": func(m memberOut) []string { return []string{m.TargetGroupId} },
		"BindIP":        func(m memberOut) []string { return m.PrivateIpAddresses },
		"InstanceId":    func(m memberOut) []string { return []string{m.InstanceId} },
	}, nil)
	if err != nil {
		return nil, err
	}
	cut := page(all, in.Paging)
	return &describeTargetGroupInstancesOut{TotalCount: len(all), RealCount: len(all), TargetGroupInstanceSet: slices.Clone(cut)}, nil
}
