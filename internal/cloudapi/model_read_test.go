// SPDX-License-Identifier: Apache-2.0

package cloudapi

import (
	"cmp"
	"fmt"

	"strings"

	"github.com/sallyport/sallyport/internal/snapshot"
)

// check reads everything back, and looks at what may never be.
func (w *world) check() {
	st := w.b.Store.State()
	if st == w.checked { // every answer is made from it
		return
	}
	w.checked = st
	if found := inconsistencies(st); len(found) > 0 {
		w.Fatalf("the state is inconsistent:\n%s", strings.Join(found, "\n"))
	}
	for id := range st.Nodes.All() {
		s, err := snapshot.Assemble(st, id, func(uint32, uint32) [2]uint64 { return [2]uint64{1, 2} }, w.b.Compile)
		if err == nil {
			err = s.Validate()
		}
		if err != nil {
			w.Fatalf("the snapshot of %s: %v", id, err)
		}
	}
	if want, got := w.described(), w.read(); want != got {
		w.Fatalf("the model is\n%s\nand the API answers\n%s", want, got)
	}
}

// text is lines by id, each under its own.
func text(lines map[string]string) string {
	var b strings.Builder
	for _, id := range keysOf(lines) {
		fmt.Fprintf(&b, "%s %s\n", id, lines[id])
	}
	return b.String()
}

// described is the model as text.
func (w *world) described() string {
	lines := map[string]string{}
	for id, g := range w.groups {
		lines[id] = fmt.Sprintf("%s %s %d %v %v", g.name, g.project, g.version, g.rules["Ingress"], g.rules["Egress"])
	}
	for id, b := range w.clbs {
		lines[id] = fmt.Sprintf("%v %v %q %q %d", b.pass, b.groups, b.vpc, b.subnet, b.project)
	}
	for id, l := range w.listeners {
		lines[id] = fmt.Sprintf("%s %s %d-%d %q %v %s", l.clb, l.kind, l.port, l.last(), l.cert, l.sni, w.placeText(&l.modelPlace))
		for rid, r := range l.rules {
			lines[rid] = fmt.Sprintf("%s %s%s %q %s", id, r.domain, r.url, r.cert, w.placeText(r))
			if to := r.rewrite; to != nil {
				lines[rid+" redirects"] = fmt.Sprintf("to %s %s %d %v %v", to.listener, to.location, to.code, to.takeURL, to.auto)
			}
		}
	}
	for id, i := range w.model.instances {
		lines[id] = fmt.Sprintf("%v %q %q %s %d", i.groups, i.vpc, i.subnet, i.state, i.project)
	}
	for id, members := range w.templates {
		lines[id] = strings.Join(members, " ")
	}
	for id, cidr := range w.vpcs {
		lines[id] = cidr
	}
	for id, s := range w.subnets {
		lines[id] = fmt.Sprint(s)
	}
	for id, p := range w.pools {
		_, places := w.following(id)
		lines[id] = fmt.Sprintf("%s %q %q %d %d %d %v of %d", p.kind, p.protocol, p.vpc, p.port, p.weight, p.gap, p.targets, len(places))
	}
	for id, c := range w.certs {
		lines[id] = fmt.Sprint(c)
	}
	for id, tags := range w.tags {
		for key, value := range tags {
			lines[id+" "+key] = value
		}
	}
	return text(lines)
}

// placeText is a place with its targets. What follows a v2 group is checked as
// often as that says.
func (w *world) placeText(p *modelPlace) string {
	gap := int64(0)
	if g := w.pools[p.group]; g != nil && g.kind == "TARGETGROUP-V2" {
		gap = g.gap
	}
	return fmt.Sprintf("%s %q %d %v", p.from, p.group, gap, p.targets)
}

// read is what Describe actions answer, in the same words.
func (w *world) read() string {
	lines := map[string]string{}
	mine := w.readNetworks(lines)
	w.readGroups(lines)
	w.readBalancers(lines, mine)
	w.readInstances(lines, mine)
	w.readTemplates(lines)
	w.readPools(lines, mine)
	w.readTags(lines)
	var certs describeCertificatesOut
	w.ask("DescribeCertificates", map[string]any{"Limit": 1000}, nil, &certs)
	for _, c := range certs.Certificates {
		lines[c.CertificateId] = fmt.Sprintf("{%s %v}", c.Alias, c.ProjectId)
	}
	return text(lines)
}

// readNetworks returns how the model calls a VPC or subnet: the default ones
// are "".
func (w *world) readNetworks(lines map[string]string) (mine func(id string) string) {
	own := map[string]bool{}
	var vpcs struct{ VpcSet []vpcOut }
	w.ask("DescribeVpcs", map[string]any{}, nil, &vpcs)
	for _, v := range vpcs.VpcSet {
		if own[v.VpcId] = v.IsDefault; !v.IsDefault {
			lines[v.VpcId] = v.CidrBlock
		}
	}
	var subnets struct{ SubnetSet []subnetOut }
	w.ask("DescribeSubnets", map[string]any{}, nil, &subnets)
	for _, s := range subnets.SubnetSet {
		if own[s.SubnetId] = s.IsDefault; !s.IsDefault {
			lines[s.SubnetId] = fmt.Sprint(modelSubnet{s.VpcId, s.CidrBlock})
		}
	}
	return func(id string) string {
		if own[id] {
			return ""
		}
		return id
	}
}

type groupView struct{ SecurityGroupId, SecurityGroupName, ProjectId string }

type ruleView struct {
	PolicyIndex                                                                          int
	Action, Protocol, Port, CidrBlock, Ipv6CidrBlock, SecurityGroupId, PolicyDescription string

	AddressTemplate struct{ AddressId, AddressGroupId string }
	ServiceTemplate struct{ ServiceId, ServiceGroupId string }
}

func (w *world) readGroups(lines map[string]string) {
	var groups struct{ SecurityGroupSet []groupView }
	w.ask("DescribeSecurityGroups", map[string]any{"Limit": "100"}, nil, &groups)
	for _, g := range groups.SecurityGroupSet {
		var rules struct {
			SecurityGroupPolicySet struct {
				Version         string
				Ingress, Egress []ruleView
			}
		}
		w.ask("DescribeSecurityGroupPolicies", map[string]any{"SecurityGroupId": g.SecurityGroupId}, nil, &rules)
		set := rules.SecurityGroupPolicySet
		lines[g.SecurityGroupId] = fmt.Sprintf("%s %s %s %v %v", g.SecurityGroupName, g.ProjectId, set.Version, views(w, set.Ingress), views(w, set.Egress))
	}
}

func views(w *world, rules []ruleView) []modelRule {
	out := []modelRule{}
	for i, r := range rules {
		if r.PolicyIndex != i {
			w.Fatalf("rule %d has index %d", i, r.PolicyIndex)
		}
		out = append(out, modelRule{r.Action, r.Protocol, r.Port, r.CidrBlock, r.Ipv6CidrBlock, r.SecurityGroupId,
			cmp.Or(r.AddressTemplate.AddressId, r.AddressTemplate.AddressGroupId), cmp.Or(r.ServiceTemplate.ServiceId, r.ServiceTemplate.ServiceGroupId), r.PolicyDescription})
	}
	return out
}

// targetsByPlace are what DescribeTargets shows of a load balancer, by the id of
// its listener or rule.
func (w *world) targetsByPlace(clb string) map[string][]modelTarget {
	var bound describeTargetsOut
	w.ask("DescribeTargets", map[string]any{"LoadBalancerId": clb}, nil, &bound)
	all := map[string][]modelTarget{}
	read := func(id string, list []backendOut) {
		for _, t := range list {
			all[id] = append(all[id], modelTarget{t.InstanceId, int64(t.Port), int64(t.Weight), t.Type == "ENI"})
		}
	}
	for _, l := range bound.Listeners {
		read(l.ListenerId, l.Targets)
		for _, r := range l.Rules {
			read(r.LocationId, r.Targets)
		}
	}
	return all
}

func (w *world) readBalancers(lines map[string]string, mine func(string) string) {
	var clbs describeLoadBalancersOut
	w.ask("DescribeLoadBalancers", map[string]any{"Limit": 100}, nil, &clbs)
	for _, c := range clbs.LoadBalancerSet {
		subnet := ""
		if c.LoadBalancerType == "INTERNAL" {
			subnet = c.SubnetId
		}
		lines[c.LoadBalancerId] = fmt.Sprintf("%v %v %q %q %d", c.LoadBalancerPassToTarget, c.SecureGroups, mine(c.VpcId), subnet, c.ProjectId)
		targets := w.targetsByPlace(c.LoadBalancerId)
		place := func(id, from string, groups []basicGroup, check *healthCheckOut) string {
			group, gap := "", 0
			if len(groups) > 0 {
				group = groups[0].TargetGroupId
			}
			if from == "TARGETGROUP-V2" && group != "" && check != nil {
				gap = int(check.IntervalTime)
			}
			return fmt.Sprintf("%s %q %d %v", cmp.Or(from, "NODE"), group, gap, targets[id])
		}
		var out describeListenersOut
		w.ask("DescribeListeners", map[string]any{"LoadBalancerId": c.LoadBalancerId}, nil, &out)
		for _, l := range out.Listeners {
			lines[l.ListenerId] = fmt.Sprintf("%s %s %d-%d %q %v %s", c.LoadBalancerId, l.Protocol, l.Port, max(l.Port, l.EndPort), certID(l.Certificate), l.SniSwitch == 1,
				place(l.ListenerId, l.TargetType, l.TargetGroupList, l.HealthCheck))
			for _, r := range l.Rules {
				lines[r.LocationId] = fmt.Sprintf("%s %s%s %q %s", l.ListenerId, r.Domain, r.Url, certID(r.Certificate), place(r.LocationId, r.TargetType, r.TargetGroupList, r.HealthCheck))
			}
		}
		w.readRewrites(lines, c.LoadBalancerId)
	}
}

func certID(c *certificateOut) string {
	if c == nil {
		return ""
	}
	return c.CertId
}

func (w *world) readRewrites(lines map[string]string, clb string) {
	var out describeRewriteOut
	w.ask("DescribeRewrite", map[string]any{"LoadBalancerId": clb}, nil, &out)
	for _, r := range out.RewriteSet {
		to := r.RewriteTarget
		lines[r.LocationId+" redirects"] = fmt.Sprintf("to %s %s %d %v %v", to.TargetListenerId, to.TargetLocationId, to.RewriteCode, to.TakeUrl, to.RewriteType == "Auto")
	}
}

func (w *world) readInstances(lines map[string]string, mine func(string) string) {
	var instances describeInstancesOut
	w.ask("DescribeInstances", map[string]any{"Limit": 100}, nil, &instances)
	for _, i := range instances.InstanceSet {
		lines[i.InstanceId] = fmt.Sprintf("%v %q %q %s %d", i.SecurityGroupIds, mine(i.VirtualPrivateCloud.VpcId), mine(i.VirtualPrivateCloud.SubnetId), i.InstanceState, i.Placement.ProjectId)
	}
}

func (w *world) readPools(lines map[string]string, mine func(string) string) {
	var groups describeTargetGroupsOut
	w.ask("DescribeTargetGroups", map[string]any{"Limit": 100}, nil, &groups)
	var members struct {
		TargetGroupInstanceSet []struct {
			TargetGroupId, InstanceId string
			Port, Weight              int64
		}
	}
	if len(groups.TargetGroupSet) > 0 {
		var ids []string
		for _, g := range groups.TargetGroupSet {
			ids = append(ids, g.TargetGroupId)
		}
		w.ask("DescribeTargetGroupInstances", map[string]any{"Limit": 100, "Filters": []any{map[string]any{"Name": "TargetGroupId", "Values": ids}}}, nil, &members)
	}
	for _, g := range groups.TargetGroupSet {
		targets := []modelTarget{}
		for _, t := range members.TargetGroupInstanceSet {
			if t.TargetGroupId == g.TargetGroupId {
				targets = append(targets, modelTarget{t.InstanceId, t.Port, t.Weight, false})
			}
		}
		kind, protocol, weight, gap := "TARGETGROUP", "", -1, 0
		if g.TargetGroupType == "v2" {
			kind, protocol, gap = "TARGETGROUP-V2", *g.Protocol, g.HealthCheck.GapTime
		}
		if g.Weight != nil {
			weight = *g.Weight
		}
		lines[g.TargetGroupId] = fmt.Sprintf("%s %q %q %d %d %d %v of %d", kind, protocol, mine(g.VpcId), g.Port, weight, gap, targets, g.AssociatedRuleCount)
	}
}
