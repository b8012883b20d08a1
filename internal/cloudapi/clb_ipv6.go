// SPDX-License-Identifier: Apache-2.0

package cloudapi

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/sallyport/sallyport/internal/lb"
	"github.com/sallyport/sallyport/internal/store"
)

// fullChain is the AddressIPVersion of load balancers that are IPv6 all the way.
const fullChain = "IPv6FullChain"

// isFullChain reads an AddressIPVersion that the schema has let through.
func isFullChain(version string) bool { return strings.EqualFold(version, fullChain) }

// placeIPv6 gives a new IPv6 load balancer its network and VIP: from the IPv6
// range of its subnet, or from the VIP pool if that has IPv6 addresses. Gate 2
// is passed, always.
func (c *Call) placeIPv6(tx *store.Tx, b *lb.LoadBalancer, network, subnet, vip string) error {
	st := tx.State()
	b.PassToTarget = true
	if b.Private() && network == "" {
		return refuse(lb.Missing, "VpcId", "a private load balancer belongs to a VPC", "name the VPC whose clients may reach it")
	}
	id, err := c.balancerVPC(tx, network)
	if err != nil {
		return err
	}
	b.VPC = id
	if subnet == "" {
		if b.Private() || !slices.ContainsFunc(c.VIPPool, func(p netip.Prefix) bool { return p.Addr().Is6() }) {
			return refuse(lb.Missing, "SubnetId", "the VIP of an IPv6 load balancer comes from a subnet", fmt.Sprintf("name one of %s that has an IPv6 range", id))
		}
		picked, err := c.pickVIP(st, vip, true)
		b.VIPs = []netip.Addr{picked}
		return err
	}
	n := st.Subnets.Get(lb.SubnetID(subnet))
	switch {
	case n == nil || n.VPC != id:
		return refuse(lb.NotFound, "SubnetId", fmt.Sprintf("%s has no subnet %q", id, clip(subnet, 40)), "DescribeSubnets lists them")
	case !n.Cidr6.IsValid():
		return refuse(lb.Invalid, "SubnetId", fmt.Sprintf("%s has no IPv6 range", n.ID), "AssignIpv6SubnetCidrBlock gives it one")
	}
	picked, err := pickPrivate(newAddressPlan(st, six(n)), n.Cidr6, string(n.ID), vip)
	b.Subnet, b.VIPs = n.ID, []netip.Addr{picked}
	return err
}

// placesIPv6 reports whether a private and whether a public IPv6 load balancer
// finds a network to be in.
func (c *Call) placesIPv6() (private, public bool) {
	for _, n := range c.State().Subnets.All() {
		private = private || n.Cidr6.IsValid()
	}
	return private, private || slices.ContainsFunc(c.VIPPool, func(p netip.Prefix) bool { return p.Addr().Is6() })
}

// backendAddress is the address by which a load balancer dials an instance, if it is
// there and has one.
func backendAddress(st *lb.State, b *lb.LoadBalancer, id lb.InstanceID) []string {
	if i := st.Instances.Get(id); i != nil && b != nil && i.ServiceFor(b).IsValid() {
		return []string{i.ServiceFor(b).String()}
	}
	return nil
}

// checkFamilies refuses a change after which an IPv6 load balancer would not be
// what IPv6 load balancers are: its targets have IPv6 addresses, its checks
// come from the VIP, and its switch is on. Only what the change touched is
// looked at.
func checkFamilies(tx *store.Tx) error {
	st := tx.State()
	for _, id := range tx.TouchedBalancers() {
		if b := st.Balancers.Get(id); b != nil && b.IPv6() && !b.PassToTarget {
			return errSixPasses(b)
		}
	}
	for _, id := range tx.TouchedListeners() {
		l := st.Listeners.Get(id)
		if l == nil {
			continue
		}
		b := st.Balancers.Get(l.Balancer)
		if b == nil {
			continue
		}
		if err := fitsFamily(st, b, l); err != nil {
			return err
		}
	}
	return nil
}

func errSixPasses(b *lb.LoadBalancer) error {
	return refuse(lb.Invalid, "LoadBalancerPassToTarget", fmt.Sprintf("%s is an IPv6 load balancer, whose traffic always passes gate 2", b.ID), "leave it out, or use an IPv4 load balancer")
}

// hasFamily checks that an instance has an address that the balancer can dial.
func hasFamily(b *lb.LoadBalancer, i *lb.Instance, field string) error {
	switch {
	case i.ServiceFor(b).IsValid():
		return nil
	case b.IPv6():
		return refuse(lb.Invalid, field, fmt.Sprintf("%s has no IPv6 address, and %s is an IPv6 load balancer", i.ID, b.ID), "AssignIpv6Addresses gives it one")
	}
	return refuse(lb.Invalid, field, fmt.Sprintf("%s has no IPv4 address, and %s is an IPv4 load balancer", i.ID, b.ID), "use an IPv6 load balancer")
}

func fitsFamily(st *lb.State, b *lb.LoadBalancer, l *lb.Listener) error {
	for _, t := range allTargets(l) {
		if i := st.Instances.Get(t.Instance); i != nil {
			if err := hasFamily(b, i, ""); err != nil {
				return err
			}
		}
	}
	checks := []lb.HealthCheck{l.Check}
	for _, r := range l.Rules {
		checks = append(checks, r.Check)
	}
	for _, check := range checks {
		if check.Type == "" { // a layer-7 listener has none itself
			continue
		}
		if err := check.ValidateOn("HealthCheck.", b); err != nil {
			return err
		}
	}
	return nil
}
