// SPDX-License-Identifier: Apache-2.0

package cloudapi

import (
	"slices"

	"github.com/sallyport/sallyport/internal/lb"
	"github.com/sallyport/sallyport/internal/store"
)

// checkMembers checks that the groups, all bound to one instance, have not got
// too many instances, nor the instance too many rules.
func (c *Call) checkMembers(tx *store.Tx, groups []lb.GroupID) error {
	for _, id := range groups {
		if n := len(tx.Index().Instances(id)); n > c.Quotas.InstancesPerGroup {
			return errorf("LimitExceeded.CvmsVifsPerSecGroupLimitExceeded", "SecurityGroupIds: %s would be bound to %d instances; at most %d are allowed", id, n, c.Quotas.InstancesPerGroup)
		}
	}
	return c.checkExpanded(tx, groups)
}

// checkExpanded counts the rules of an instance's groups together, those that
// name a group as often as that group has members.
func (c *Call) checkExpanded(tx *store.Tx, groups []lb.GroupID) error {
	rules := 0
	for _, id := range groups {
		g := tx.State().Groups[id]
		if g == nil {
			continue
		}
		for _, r := range slices.Concat(g.Ingress, g.Egress) {
			if r.PeerGroup == "" {
				rules++
			} else {
				rules += len(tx.Index().Instances(r.PeerGroup))
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
func (c *Call) checkBound(tx *store.Tx, id lb.GroupID) error {
	checked := map[string]bool{} // lists of groups: many instances share one
	for _, bound := range tx.Index().Instances(id) {
		groups := tx.State().Instances[bound].Groups
		if list := listed(groups); !checked[list] {
			if err := c.checkExpanded(tx, groups); err != nil {
				return err
			}
			checked[list] = true
		}
	}
	return nil
}
