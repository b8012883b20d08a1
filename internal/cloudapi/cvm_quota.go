// SPDX-License-Identifier: Apache-2.0

package cloudapi

import (
	"fmt"

	"github.com/sallyport/sallyport/internal/lb"
	"github.com/sallyport/sallyport/internal/store"
)

// checkMembers checks that the groups, all bound to one instance, have not got
// too many instances, nor the instance too many rules, nor any whose groups
// name one of these and count its members.
func (c *Call) checkMembers(tx *store.Tx, groups []lb.GroupID) error {
	for _, id := range groups {
		if n := len(tx.Index().Instances(id)); n > c.Quotas.InstancesPerGroup {
			return errorf("LimitExceeded.CvmsVifsPerSecGroupLimitExceeded", "SecurityGroupIds: %s would be bound to %d instances, at most %d are allowed; bind another group", id, n, c.Quotas.InstancesPerGroup)
		}
	}
	if err := c.checkExpanded(tx, groups); err != nil {
		return err
	}
	for _, id := range groups {
		for _, naming := range tx.Index().Naming(id) {
			if err := c.checkBound(tx, naming); err != nil {
				return err
			}
		}
	}
	return nil
}

// checkExpanded counts the rules of an instance's groups together: those that
// name a group as often as that group has members, those that name a template
// as often as it says something else. As written they have to be so few that the
// instance's host can count each, whatever the quotas are.
func (c *Call) checkExpanded(tx *store.Tx, groups []lb.GroupID) error {
	st, rules, written := tx.State(), 0, 0
	for _, id := range groups {
		g := st.Groups.Get(id)
		if g == nil {
			continue
		}
		written += len(g.Ingress) + len(g.Egress)
		for _, list := range [][]lb.PolicyRule{g.Ingress, g.Egress} {
			for _, r := range list {
				n := st.Expanded(r)
				if r.PeerGroup != "" {
					n *= len(tx.Index().Instances(r.PeerGroup))
				}
				rules += n
			}
		}
	}
	if rules > c.Quotas.ExpandedRules {
		return errorf("UnsupportedOperation.SgNumExceedLimit", "%s: an instance would have %d rules from its groups, templates expanded and references counted by member, and at most %d are allowed; bind fewer groups or name smaller ones",
			listed(groups), rules, c.Quotas.ExpandedRules)
	}
	if most := lb.MaxCounterSlots - 2; written > most { // two count what no rule decides
		return errorf("UnsupportedOperation.SgNumExceedLimit", "%s: an instance would have %d rules from its groups, and its host can count %d; bind fewer groups",
			listed(groups), written, most)
	}
	return nil
}

// checkBound checks the instances that a group is bound to, after what its
// rules stand for has changed. Many of them share one list of groups.
func (c *Call) checkBound(tx *store.Tx, id lb.GroupID) error {
	passed := map[string]bool{}
	for _, i := range tx.Index().Instances(id) {
		groups := tx.State().Instances.Get(i).Groups
		key := fmt.Sprint(groups)
		if passed[key] {
			continue
		}
		if err := c.checkExpanded(tx, groups); err != nil {
			return err
		}
		passed[key] = true
	}
	return nil
}
