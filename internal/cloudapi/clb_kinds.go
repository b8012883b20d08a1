// SPDX-License-Identifier: Apache-2.0

package cloudapi

import (
	"fmt"
	"net/netip"

	"github.com/sallyport/sallyport/internal/lb"
	"github.com/sallyport/sallyport/internal/store"
)

// networkText says where an object is.
func networkText(id lb.VPCID) string {
	if id == "" {
		return "the basic network"
	}
	return string(id)
}

// place gives a new load balancer in a VPC its network and VIP: a public one
// from the pool, a private one and most of IPv6 from a subnet.
func (c *Call) place(tx *store.Tx, b *lb.LoadBalancer, network, subnet, vip string, ipv6 bool) error {
	if err := c.checkBalancerQuota(tx.State(), b.Type); err != nil {
		return err
	}
	if ipv6 {
		return c.placeIPv6(tx, b, network, subnet, vip)
	}
	if b.Private() {
		return c.placePrivate(tx, b, network, subnet, vip)
	}
	if subnet != "" {
		return refuse(lb.Invalid, "SubnetId", "the VIP of a public load balancer comes from the VIP pool, not from a subnet", "leave it out, or use LoadBalancerType INTERNAL")
	}
	id, err := c.balancerVPC(tx, network)
	if err != nil {
		return err
	}
	picked, err := c.pickVIP(tx.State(), vip, false)
	b.VPC, b.VIPs = id, []netip.Addr{picked}
	return err
}

func (c *Call) placePrivate(tx *store.Tx, b *lb.LoadBalancer, network, subnet, vip string) error {
	st := tx.State()
	switch {
	case network == "":
		return refuse(lb.Missing, "VpcId", "a private load balancer belongs to a VPC", "name the VPC whose clients may reach it")
	case subnet == "":
		return refuse(lb.Missing, "SubnetId", "the VIP of a private load balancer comes from a subnet", "name a subnet of that VPC; DescribeSubnets lists them")
	}
	id, err := c.balancerVPC(tx, network)
	if err != nil {
		return err
	}
	n := st.Subnets.Get(lb.SubnetID(subnet))
	if n == nil || n.VPC != id {
		return refuse(lb.NotFound, "SubnetId", fmt.Sprintf("%s has no subnet %q", id, clip(subnet, 40)), "DescribeSubnets lists them")
	}
	plan := newAddressPlan(st, n)
	picked, err := pickPrivate(plan, n.Cidr, string(n.ID), vip)
	b.VPC, b.Subnet, b.VIPs = id, n.ID, []netip.Addr{picked}
	return err
}

// pickPrivate takes the lowest free address of a subnet or of the basic
// network, or the wanted one.
func pickPrivate(plan *addressPlan, from netip.Prefix, name, wanted string) (netip.Addr, error) {
	if wanted != "" {
		return plan.private("Vip", wanted)
	}
	a, ok := freeAddr([]netip.Prefix{from}, plan.used)
	if !ok {
		return a, errorf("ResourceInsufficient", "SubnetId: every address of %s (%v) is in use; use another subnet", name, from)
	}
	return a, nil
}

// checkBalancerQuota refuses one load balancer more of a type than there may be.
func (c *Call) checkBalancerQuota(st *lb.State, kind lb.BalancerType) error {
	n := 0
	for _, b := range st.Balancers.All() {
		if b.Type == kind {
			n++
		}
	}
	if n < c.Quotas.BalancersPerType {
		return nil
	}
	word := "public"
	if kind == lb.Internal {
		word = "private"
	}
	return refuse(lb.LimitExceeded, "", fmt.Sprintf("the region has its %s", count(c.Quotas.BalancersPerType, word+" load balancer")), "delete one")
}

// nameBalancer names a load balancer that is not in the state yet. A name in
// use gets another one instead, as published.
func nameBalancer(st *lb.State, b *lb.LoadBalancer, name string) {
	b.Name = name
	taken := name == ""
	for _, other := range st.Balancers.All() {
		taken = taken || other.Name == name
	}
	if taken {
		b.Name = string(b.ID)
	}
}

// checkPassToTarget refuses the switch where it is not available: in the basic
// network, and with private classic load balancers.
func checkPassToTarget(b *lb.LoadBalancer) error {
	if b.PassToTarget && (b.Basic() || !b.BindsGroups()) {
		return refuse(lb.Invalid, "LoadBalancerPassToTarget", fmt.Sprintf("%s is in the basic network or a private classic load balancer, where gate 2 is always asked", b.ID), "leave it out")
	}
	return nil
}
