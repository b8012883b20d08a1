// SPDX-License-Identifier: Apache-2.0

package console

import (
	"fmt"
	"strings"

	"github.com/sallyport/sallyport/internal/cloudapi"
)

// status is empty for a key that may not know it; the page says so.
func (v *visit) status() (status, error) {
	var s status
	err := v.do(ourVersion, "DescribeStatus", nil, &s)
	if s.Barred = unauthorized(err); s.Barred {
		return s, nil
	}
	return s, err
}

// summary is status with counts instead of targets. A key that may not know it
// gets the counts of what it may see.
func (v *visit) summary() (status, error) {
	var s status
	err := v.do(ourVersion, "DescribeStatus", m{"Summary": true}, &s)
	if s.Barred = unauthorized(err); !s.Barred {
		return s, err
	}
	var all summary
	var groups, balancers, instances error
	_, all.SecurityGroups, groups = v.searchGroups("", 0, 1)
	_, all.LoadBalancers, balancers = v.balancers(m{"Limit": 1})
	_, all.Instances, instances = v.instances(m{"Limit": 1})
	s.Summary = &all
	return s, firstOf(groups, balancers, instances)
}

// group is one group with its counts.
func (v *visit) group(id string) (group, error) {
	var out struct{ SecurityGroupSet []group }
	err := v.do(vpcVersion, "DescribeSecurityGroups", m{"SecurityGroupIds": []string{id}}, &out)
	if err != nil || len(out.SecurityGroupSet) == 0 {
		return group{}, firstOf(err, missing("security group", id))
	}
	g := out.SecurityGroupSet[0]
	var stats struct{ SecurityGroupAssociationStatisticsSet []group }
	err = v.do(vpcVersion, "DescribeSecurityGroupAssociationStatistics", m{"SecurityGroupIds": []string{id}}, &stats)
	if err == nil && len(stats.SecurityGroupAssociationStatisticsSet) == 1 {
		s := stats.SecurityGroupAssociationStatisticsSet[0]
		g.CVM, g.CLB, g.SG = s.CVM, s.CLB, s.SG
	}
	return g, err
}

func missing(what, id string) error {
	return &cloudapi.Error{Code: "ResourceNotFound", Message: fmt.Sprintf("there is no %s %q", what, id)}
}

func firstOf(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

func (v *visit) policies(id string) (policySet, error) {
	var out struct{ SecurityGroupPolicySet policySet }
	err := v.do(vpcVersion, "DescribeSecurityGroupPolicies", m{"SecurityGroupId": id}, &out)
	return out.SecurityGroupPolicySet, err
}

// searchGroups is a page of groups that contain a text.
func (v *visit) searchGroups(text string, offset, limit int) (groups []group, total int, err error) {
	var out struct {
		TotalCount     int
		SecurityGroups []group
	}
	err = v.do(ourVersion, "SearchSecurityGroups", m{"Text": text, "Offset": offset, "Limit": limit}, &out)
	return out.SecurityGroups, out.TotalCount, err
}

// named gives groups their names, in the given order. Groups that are gone
// keep their id as their name.
func (v *visit) named(ids []string) ([]group, error) {
	all := make([]group, len(ids))
	if len(ids) == 0 {
		return all, nil
	}
	var out struct{ SecurityGroupSet []group }
	if err := v.do(vpcVersion, "DescribeSecurityGroups", m{"SecurityGroupIds": ids, "Limit": "100"}, &out); err != nil {
		return nil, err
	}
	for i, id := range ids {
		all[i] = group{SecurityGroupId: id, SecurityGroupName: id}
		for _, g := range out.SecurityGroupSet {
			if g.SecurityGroupId == id {
				all[i] = g
			}
		}
	}
	return all, nil
}

func (v *visit) balancers(in m) (all []balancer, total int, err error) {
	var out struct {
		TotalCount      int
		LoadBalancerSet []balancer
	}
	err = v.do(clbVersion, "DescribeLoadBalancers", in, &out)
	return out.LoadBalancerSet, out.TotalCount, err
}

func (v *visit) balancer(id string) (balancer, error) {
	all, _, err := v.balancers(m{"LoadBalancerIds": []string{id}})
	if err != nil || len(all) == 0 {
		return balancer{}, firstOf(err, missing("load balancer", id))
	}
	return all[0], nil
}

// listeners are a load balancer's, with rules, targets and their health.
func (v *visit) listeners(id string) ([]listener, error) {
	var out struct{ Listeners []listener }
	if err := v.do(clbVersion, "DescribeListeners", m{"LoadBalancerId": id}, &out); err != nil {
		return nil, err
	}
	var bound struct {
		Listeners []struct {
			ListenerId string
			Targets    []target
			Rules      []struct {
				LocationId string
				Targets    []target
			}
		}
	}
	if err := v.do(clbVersion, "DescribeTargets", m{"LoadBalancerId": id}, &bound); err != nil {
		return nil, err
	}
	judge, err := v.healthOf(id)
	if err != nil {
		return nil, err
	}
	targets := map[string][]target{}
	for _, l := range bound.Listeners {
		targets[l.ListenerId+"/"] = judge(l.ListenerId, "", l.Targets)
		for _, r := range l.Rules {
			targets[l.ListenerId+"/"+r.LocationId] = judge(l.ListenerId, r.LocationId, r.Targets)
		}
	}
	for i := range out.Listeners {
		l := &out.Listeners[i]
		l.Targets = targets[l.ListenerId+"/"]
		for j := range l.Rules {
			l.Rules[j].Targets = targets[l.ListenerId+"/"+l.Rules[j].LocationId]
		}
	}
	return out.Listeners, nil
}

// healthOf gives targets of a load balancer their health.
func (v *visit) healthOf(id string) (func(listener, location string, targets []target) []target, error) {
	var out struct {
		LoadBalancers []struct {
			Listeners []struct {
				ListenerId string
				Rules      []struct {
					LocationId string
					Targets    []struct {
						TargetId, HealthStatusDetail string
						Port                         int
						HealthReason                 *healthReason
					}
				}
			}
		}
	}
	if err := v.do(clbVersion, "DescribeTargetHealth", m{"LoadBalancerIds": []string{id}}, &out); err != nil {
		return nil, err
	}
	type key struct {
		listener, location, instance string
		port                         int
	}
	words, whys := map[key]string{}, map[key]*healthReason{}
	for _, b := range out.LoadBalancers {
		for _, l := range b.Listeners {
			for _, r := range l.Rules {
				for _, t := range r.Targets {
					k := key{l.ListenerId, r.LocationId, t.TargetId, t.Port}
					words[k], whys[k] = t.HealthStatusDetail, t.HealthReason
				}
			}
		}
	}
	return func(listener, location string, targets []target) []target {
		for i := range targets {
			k := key{listener, location, targets[i].InstanceId, targets[i].Port}
			targets[i].Health, targets[i].Why = words[k], whys[k]
		}
		return targets
	}, nil
}

func (v *visit) instances(in m) (all []instance, total int, err error) {
	var out struct {
		TotalCount  int
		InstanceSet []instance
	}
	err = v.do(vpcVersion, "DescribeInstances", in, &out)
	return out.InstanceSet, out.TotalCount, err
}

func (v *visit) instance(id string) (instance, error) {
	all, _, err := v.instances(m{"InstanceIds": []string{id}})
	if err != nil || len(all) == 0 {
		return instance{}, firstOf(err, missing("instance", id))
	}
	return all[0], nil
}

// counters are one group's, by direction and rule id, summed over gates;
// barred when the key may not know them.
func (v *visit) counters(group string) (sums map[string]counter, barred bool, err error) {
	var out struct{ Counters []counter }
	if err := v.do(ourVersion, "DescribeRuleCounters", m{"SecurityGroupId": group}, &out); err != nil {
		if unauthorized(err) {
			return nil, true, nil
		}
		return nil, false, err
	}
	sums = map[string]counter{}
	for _, n := range out.Counters {
		key := n.Direction + "/" + n.PolicyId
		s := sums[key]
		s.Packets, s.Bytes, s.NewFlows = s.Packets+n.Packets, s.Bytes+n.Bytes, s.NewFlows+n.NewFlows
		if n.LastHit > s.LastHit {
			s.LastHit = n.LastHit
		}
		if s.Baseline == "" || n.Baseline < s.Baseline {
			s.Baseline = n.Baseline
		}
		sums[key] = s
	}
	return sums, false, nil
}

// explain asks who decides about a packet, and calls groups by their names.
func (v *visit) explain(in m) (explained, error) {
	var out explained
	if err := v.do(ourVersion, "ExplainPath", in, &out); err != nil {
		return out, err
	}
	var ids []string
	names := map[string]string{}
	note := func(id string) {
		if _, known := names[id]; !known && id != "" && len(ids) < 100 {
			names[id] = ""
			ids = append(ids, id)
		}
	}
	for _, g := range out.Gates {
		note(g.SecurityGroupId)
		for _, n := range g.Nearest {
			note(n.SecurityGroupId)
		}
	}
	if groups, err := v.named(ids); err == nil { // who may not see a group knows it by its id
		for _, g := range groups {
			names[g.SecurityGroupId] = g.SecurityGroupName
		}
	}
	said := func(text string) string {
		for id, name := range names {
			if name != "" {
				text = strings.ReplaceAll(text, id, name)
			}
		}
		return text
	}
	out.Text = said(out.Text)
	for i := range out.Gates {
		g := &out.Gates[i]
		g.Name, g.Text = names[g.SecurityGroupId], said(g.Text)
		for j := range g.Nearest {
			n := &g.Nearest[j]
			n.Name, n.Why = names[n.SecurityGroupId], said(n.Why)
		}
	}
	return out, nil
}
