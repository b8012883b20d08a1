// SPDX-License-Identifier: Apache-2.0

package cloudapi

import (
	"fmt"
	"net/netip"

	"github.com/sallyport/sallyport/internal/lb"
)

// usedAddresses is every address that an instance or load balancer has.
func usedAddresses(st *lb.State) map[netip.Addr]bool {
	used := map[netip.Addr]bool{}
	for _, i := range st.Instances.All() {
		for _, a := range i.Addresses() {
			used[a] = true
		}
	}
	for _, b := range st.Balancers.All() {
		for _, vip := range b.VIPs {
			used[vip] = true
		}
	}
	for _, a := range st.Addresses.All() {
		used[a.IP] = true
	}
	for n := range st.Nodes.Values() {
		for _, a := range gatewayAddresses(n) {
			used[a] = true
		}
	}
	return used
}

// gatewayAddresses are a gateway's own; those of a host are its instance's.
func gatewayAddresses(n *lb.Node) (all []netip.Addr) {
	for _, a := range []netip.Addr{n.Address, n.Other} {
		if n.Role == lb.RoleGateway && a.IsValid() {
			all = append(all, a)
		}
	}
	return all
}

// An addressPlan hands out addresses to the instances of one call.
type addressPlan struct {
	used   map[netip.Addr]bool
	subnet *lb.Subnet
}

func newAddressPlan(st *lb.State, n *lb.Subnet) *addressPlan {
	p := &addressPlan{used: usedAddresses(st), subnet: n}
	p.used[n.Cidr.Addr().Next()] = true // the router's; network and broadcast are never given out
	return p
}

// private takes the subnet's lowest free address, or the wanted one.
func (p *addressPlan) private(field, wanted string) (netip.Addr, error) {
	pool := []netip.Prefix{p.subnet.Cidr}
	if wanted == "" {
		a, ok := freeAddr(pool, p.used)
		if !ok {
			return a, errorf("FailedOperation.NoAvailableIpAddressCountInSubnet", "VirtualPrivateCloud.SubnetId: every address of %s (%v) is in use; use another subnet", p.subnet.ID, p.subnet.Cidr)
		}
		p.used[a] = true
		return a, nil
	}
	a, err := netip.ParseAddr(wanted)
	switch {
	case err != nil:
		return a, refuse(lb.Malformed, field, fmt.Sprintf("%q is not an address", clip(wanted, 60)), "leave it out to get a free one")
	case !usable(pool, a) || a == p.subnet.Cidr.Addr().Next():
		return a, refuse(lb.Invalid, field, fmt.Sprintf("%v is not an address that %s (%v) gives out", a, p.subnet.ID, p.subnet.Cidr), "leave it out to get a free one")
	case p.used[a]:
		return a, refuse(lb.Invalid, field, fmt.Sprintf("%v is in use", a), "leave it out to get a free one")
	}
	p.used[a] = true
	return a, nil
}

// public takes the lowest free address of the pool, or the wanted one.
func (p *addressPlan) public(pool []netip.Prefix, wanted netip.Addr) (netip.Addr, error) {
	switch {
	case wanted.IsValid() && !usable(pool, wanted):
		return wanted, refuse(lb.Invalid, "PublicIpAddress", wanted.String()+" is not in the pool of public addresses", "leave it out to get a free one")
	case wanted.IsValid() && p.used[wanted]:
		return wanted, refuse(lb.Invalid, "PublicIpAddress", wanted.String()+" is in use", "leave it out to get a free one")
	case wanted.IsValid():
		p.used[wanted] = true
		return wanted, nil
	}
	a, ok := freeAddr(pool, p.used)
	if !ok {
		return a, errorf("ResourceInsufficient", "InternetAccessible.PublicIpAssigned: every address of the public pool is in use; terminate an instance that has one")
	}
	p.used[a] = true
	return a, nil
}
