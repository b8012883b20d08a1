// SPDX-License-Identifier: Apache-2.0

package cloudapi

import (
	"slices"

	"github.com/sallyport/sallyport/internal/lb"
)

// members counts the instances of every group.
func members(st *lb.State) map[lb.GroupID]int {
	n := map[lb.GroupID]int{}
	for _, i := range st.Instances {
		for _, id := range i.Groups {
			n[id]++
		}
	}
	return n
}

// checkMembers checks that the groups, all bound to one instance, have not got
// too many instances, nor the instance too many rules.
func (c *Call) checkMembers(st *lb.State, groups []lb.GroupID) error {
	n := members(st)
	for _, id := range groups {
		if n[id] > c.Quotas.InstancesPerGroup {
			return errorf("LimitExceeded.CvmsVifsPerSecGroupLimitExceeded", "SecurityGroupIds: %s would be bound to %d instances; at most %d are allowed", id, n[id], c.Quotas.InstancesPerGroup)
		}
	}
	return c.checkExpanded(st, n, groups)
}

// checkExpanded counts the rules of an instance's groups together, those that
// name a group as often as that group has members.
func (c *Call) checkExpanded(st *lb.State, n map[lb.GroupID]int, groups []lb.GroupID) error {
	rules := 0
	for _, id := range groups {
		g := st.Groups[id]
		if g == nil {
			continue
		}
		for _, r := range slices.Concat(g.Ingress, g.Egress) {
			if r.PeerGroup == "" {
				rules++
			} else {
				rules += n[r.PeerGroup]
			}
		}
	}
	if rules > c.Quotas.ExpandedRules {
		return errorf("UnsupportedOperation.SgNumExceedLimit", "%s: an instance would have %d rules from its groups, references counted by member, and at most %d are allowed; bind fewer groups or name smaller ones", listed(groups), rules, c.Quotas.ExpandedRules)
	}
	return nil
}

// checkBound checks the instances that a group is bound to, after its rules
// have changed.
func (c *Call) checkBound(st *lb.State, id lb.GroupID) error {
	n := members(st)
	if n[id] == 0 {
		return nil
	}
	for _, i := range st.Instances {
		if slices.Contains(i.Groups, id) {
			if err := c.checkExpanded(st, n, i.Groups); err != nil {
				return err
			}
		}
	}
	return nil
}
