// SPDX-License-Identifier: Apache-2.0

package cloudapi

import (
	"fmt"
	"slices"

	"github.com/sallyport/sallyport/internal/lb"
	"github.com/sallyport/sallyport/internal/store"
)

type setLoadBalancerSecurityGroupsIn struct {
	LoadBalancerId string   `tc:"required"`
	SecurityGroups []string `tc:""`
}

// setLoadBalancerSecurityGroups makes the list the bound one, in order of
// priority; an empty or absent list unbinds all.
func setLoadBalancerSecurityGroups(c *Call, in *setLoadBalancerSecurityGroupsIn) (*done, error) {
	return nil, c.Update(func(tx *store.Tx) error {
		b, err := changeBalancer(tx.State(), in.LoadBalancerId)
		if err != nil {
			return err
		}
		b.Groups = nil
		for _, id := range in.SecurityGroups {
			if err := c.bind(tx.State(), b, id, "SecurityGroups"); err != nil {
				return err
			}
		}
		tx.PutBalancer(b)
		return nil
	})
}

// bind appends a group at the lowest priority.
func (c *Call) bind(st *lb.State, b *lb.LoadBalancer, id, field string) error {
	group := lb.GroupID(id)
	switch {
	case c.SeedMode && b.Private():
		return refuse(lb.Invalid, field, fmt.Sprintf("%s is private, and in seed mode only public load balancers can have security groups", b.ID), "bind groups to its instances, or start the server without --seed-mode")
	case !b.BindsGroups():
		return refuse(lb.Invalid, field, fmt.Sprintf("%s is a private load balancer of a kind that cannot have security groups (classic, or in the basic network)", b.ID), "bind groups to its instances")
	case st.Groups.Get(group) == nil:
		return refuse(lb.NotFound, field, fmt.Sprintf("there is no security group %q", clip(id, 40)), "DescribeSecurityGroups lists them")
	case slices.Contains(b.Groups, group):
		return refuse(lb.Duplicate, field, id+" is named twice", "name each group once")
	case len(b.Groups) >= c.Quotas.GroupsPerBalancer:
		return refuse(lb.LimitExceeded, field, fmt.Sprintf("a load balancer has at most %s", count(c.Quotas.GroupsPerBalancer, "group")), "unbind one")
	case c.strange(st, b.ID, group):
		return c.outOfScope("refer to %s, which is outside of it", objectName{"group", id})
	case expandedRules(st, st.Groups.Get(group)) > c.Quotas.RulesOnBalancer:
		return refuse(lb.LimitExceeded, field, fmt.Sprintf("%s has %d rules, both directions together and templates expanded; a group bound to a load balancer has at most %d", id, expandedRules(st, st.Groups.Get(group)), c.Quotas.RulesOnBalancer), "take rules out of it")
	}
	b.Groups = append(b.Groups, group)
	return nil
}

// strange reports whether the caller's key may not bind a group there, known though
// its name is: then nothing more is told of it.
func (c *Call) strange(st *lb.State, to lb.BalancerID, group lb.GroupID) bool {
	if !c.narrow() || c.inScope(st, st.Groups.Get(group)) {
		return false
	}
	b := st.Balancers.Get(to)
	return b == nil || !slices.Contains(b.Groups, group)
}

type setSecurityGroupForLoadbalancersIn struct {
	SecurityGroup   string   `tc:"required"`
	OperationType   string   `tc:"required,enum=ADD|DEL"`
	LoadBalancerIds []string `tc:"required,count=1-20"`
}

// setSecurityGroupForLoadbalancers binds or unbinds one group at several load
// balancers. Binding a bound group and unbinding an unbound one change nothing.
func setSecurityGroupForLoadbalancers(c *Call, in *setSecurityGroupForLoadbalancersIn) (*done, error) {
	return nil, c.Update(func(tx *store.Tx) error {
		for i, id := range in.LoadBalancerIds {
			b, err := changeBalancer(tx.State(), id)
			if err != nil {
				return inList(err, "LoadBalancerIds", i)
			}
			at := slices.Index(b.Groups, lb.GroupID(in.SecurityGroup))
			switch {
			case in.OperationType == "DEL" && at >= 0:
				b.Groups = slices.Delete(b.Groups, at, at+1)
			case in.OperationType == "DEL" && tx.State().Groups.Get(lb.GroupID(in.SecurityGroup)) == nil:
				return refuse(lb.NotFound, "SecurityGroup", fmt.Sprintf("there is no security group %q", clip(in.SecurityGroup, 40)), "DescribeSecurityGroups lists them")
			case in.OperationType == "ADD" && at < 0:
				if err := c.bind(tx.State(), b, in.SecurityGroup, "SecurityGroup"); err != nil {
					return err
				}
			}
			tx.PutBalancer(b)
		}
		return nil
	})
}
