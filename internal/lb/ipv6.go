// SPDX-License-Identifier: Apache-2.0

package lb

import (
	"fmt"
	"net/netip"
)

// IPv6 reports whether clients dial the load balancer by IPv6. One has VIPs of
// one family, and its targets are dialled by the same.
func (b *LoadBalancer) IPv6() bool { return len(b.VIPs) > 0 && b.VIPs[0].Is6() }

// OwnIPv6 is the instance's IPv6 address: the one from its subnet, or the first
// that a machine which joined said it has. The zero Addr says that it has none.
func (i *Instance) OwnIPv6() netip.Addr {
	if i.IPv6.IsValid() {
		return i.IPv6
	}
	for _, a := range append([]netip.Addr{i.Private}, i.Others...) {
		if a.Is6() {
			return a
		}
	}
	return netip.Addr{}
}

// OwnIPv4 is the instance's private IPv4 address. The zero Addr says that it
// has none: a machine that joined may have IPv6 alone.
func (i *Instance) OwnIPv4() netip.Addr {
	for _, a := range append([]netip.Addr{i.Private}, i.Others...) {
		if a.Is4() {
			return a
		}
	}
	return netip.Addr{}
}

// ServiceFor is the address by which a load balancer dials the instance: of its
// own family. The zero Addr says that the instance has none.
func (i *Instance) ServiceFor(b *LoadBalancer) netip.Addr {
	if b.IPv6() {
		return i.OwnIPv6()
	}
	return i.OwnIPv4()
}

// Addresses are all addresses of the instance, the private one first, those of
// the network behind it, the public one among them.
func (i *Instance) Addresses() []netip.Addr {
	var all []netip.Addr
	for _, a := range append([]netip.Addr{i.Private, i.Public, i.IPv6}, i.Others...) {
		if a.IsValid() {
			all = append(all, a)
		}
	}
	return all
}

// Internals are the addresses by which a rule that names one of the instance's
// groups knows it: without the public one, which is the network's.
func (i *Instance) Internals() []netip.Addr {
	var all []netip.Addr
	for _, a := range []netip.Addr{i.Private, i.OwnIPv6()} {
		if a.IsValid() && (len(all) == 0 || all[0] != a) {
			all = append(all, a)
		}
	}
	return all
}

// LeastInterval6 is the shortest interval in seconds of checks over IPv6.
const LeastInterval6 = 5

// ValidateOn reports what a check that is valid by itself cannot be on this
// load balancer. Field begins the error's field, such as "HealthCheck.".
func (h HealthCheck) ValidateOn(field string, b *LoadBalancer) error {
	switch {
	case !b.IPv6():
		return nil
	case h.IntervalTime < LeastInterval6:
		return Refuse(Range, field+"IntervalTime", fmt.Sprintf("%d is outside %d-300, the range of an IPv6 load balancer", h.IntervalTime, LeastInterval6), "choose a value within")
	case h.SourceIPType == 1:
		return Refuse(Invalid, field+"SourceIpType", "100.64.0.0/10 holds no IPv6 address, so an IPv6 load balancer probes from its VIP", "use 0")
	}
	return nil
}
