// SPDX-License-Identifier: Apache-2.0

package cloudapi

import (
	"fmt"
	"slices"

	"github.com/sallyport/sallyport/internal/lb"
)

type describeProbeSourcesIn struct {
	SecurityGroupId string `tc:"required"`
}

type describeProbeSourcesOut struct {
	Sources []probeSource
}

// probeSource is a load balancer whose health checks come from its addresses
// to instances of the group, and need a rule there.
type probeSource struct {
	LoadBalancerId string
	Addresses      []string
}

// describeProbeSources lists every load balancer whose probes a group's rules
// judge: it has a target in the group, checks it from its own address, and
// does not vouch for it by pass-to-target.
func describeProbeSources(c *Call, in *describeProbeSourcesIn) (*describeProbeSourcesOut, error) {
	st, group := c.State(), lb.GroupID(in.SecurityGroupId)
	if st.Groups.Get(group) == nil {
		return nil, refuse(lb.NotFound, "SecurityGroupId", fmt.Sprintf("there is no security group %q", clip(in.SecurityGroupId, 40)), "SearchSecurityGroups lists what there is")
	}
	found := map[lb.BalancerID]bool{}
	judged := func(b *lb.LoadBalancer, check lb.HealthCheck, targets []lb.Target) bool {
		return check.On && b.ProbesNeedRule(check) && slices.ContainsFunc(targets, func(t lb.Target) bool {
			i := st.Instances.Get(t.Instance)
			return i != nil && slices.Contains(i.Groups, group)
		})
	}
	for _, l := range st.Listeners.All() {
		b := st.Balancers.Get(l.Balancer)
		if b == nil || b.PassToTarget || found[b.ID] {
			continue
		}
		found[b.ID] = judged(b, l.Check, l.Targets) || slices.ContainsFunc(l.Rules, func(r lb.Rule) bool { return judged(b, r.Check, r.Targets) })
	}
	out := &describeProbeSourcesOut{}
	for _, id := range sortedKeys(found) {
		if found[id] {
			out.Sources = append(out.Sources, probeSource{string(id), texts(st.Balancers.Get(id).VIPs)})
		}
	}
	return out, nil
}
