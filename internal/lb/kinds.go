// SPDX-License-Identifier: Apache-2.0

package lb

import (
	"net/netip"
	"slices"
	"time"
)

// ProbesChanged is the day from which private classic load balancers probe
// from addresses that need no rule, and no longer from their VIP:
// 2016-12-05T00:00:00+08:00. A load balancer made at that very moment is a new
// one.
func ProbesChanged() time.Time { return time.Date(2016, 12, 4, 16, 0, 0, 0, time.UTC) }

// Private reports whether only the load balancer's own network reaches its VIP.
func (b *LoadBalancer) Private() bool { return b.Type == Internal }

// Basic reports whether the load balancer stands in the basic network, outside
// any VPC.
func (b *LoadBalancer) Basic() bool { return b.VPC == "" }

// Basic reports whether the instance stands in the basic network, outside any
// VPC.
func (i *Instance) Basic() bool { return i.VPC == "" && !i.Joined }

// Addresses are all that clients can dial: the VIPs, then the EIP if one is
// bound.
func (b *LoadBalancer) Addresses() []netip.Addr {
	if !b.EIP.IsValid() {
		return b.VIPs
	}
	return append(append(make([]netip.Addr, 0, len(b.VIPs)+1), b.VIPs...), b.EIP)
}

// BindsGroups reports whether this kind of load balancer can have security
// groups of its own: private classic ones and private ones in the basic
// network cannot. The switch PassToTarget stands and falls with it there.
func (b *LoadBalancer) BindsGroups() bool { return !b.Private() || !b.Classic && !b.Basic() }

// ProbesNeedRule reports whether gate 2 judges the probes of a check by rules.
// It does where they come from the VIP of a public load balancer or of a
// private one in a VPC, of classic private ones only when made before
// ProbesChanged. All others are admitted by a system rule.
func (b *LoadBalancer) ProbesNeedRule(check HealthCheck) bool {
	switch {
	case check.SourceIPType == 1:
		return false
	case !b.Private():
		return true
	case b.Basic():
		return false
	}
	return !b.Classic || b.Created.Before(ProbesChanged())
}

// An AddressID is eip-xxxxxxxx, an elastic public address as clients see it.
type AddressID string

// An Address is an elastic public address (EIP): it belongs to the account and
// is bound to a private load balancer, or to nothing.
type Address struct {
	ID       AddressID
	Name     string
	IP       netip.Addr
	Balancer BalancerID // "": not bound
	Created  time.Time
	Tags     Tags
	Echo     map[string]string // InternetChargeType, …: stored and returned, without effect
}

// Networks are the ranges that make up a load balancer's own network: those of
// its VPC and the addresses of machines that joined it from elsewhere, or the
// basic network. The cost is O(instances).
func (s *State) Networks(b *LoadBalancer) []netip.Prefix {
	return s.NetworksWith(s.JoinedTo(), b)
}

// JoinedTo are the machines of somebody's own in each VPC, in no order.
func (s *State) JoinedTo() map[VPCID][]*Instance {
	joined := map[VPCID][]*Instance{}
	for _, i := range s.Instances.All() {
		if i.Joined {
			joined[i.VPC] = append(joined[i.VPC], i)
		}
	}
	return joined
}

// NetworksWith is Networks for who asks often: joined is JoinedTo's answer.
func (s *State) NetworksWith(joined map[VPCID][]*Instance, b *LoadBalancer) []netip.Prefix {
	if b.Basic() {
		return []netip.Prefix{BasicNetwork()}
	}
	return s.VPCs.Get(b.VPC).networks(joined[b.VPC])
}

// networks are the VPC's ranges and the addresses of machines outside them,
// sorted behind; none of a VPC that does not exist.
func (v *VPC) networks(joined []*Instance) []netip.Prefix {
	if v == nil {
		return nil
	}
	networks := v.Ranges()
	if v.Cidr6.IsValid() {
		networks = append(networks, v.Cidr6)
	}
	own := len(networks)
	for _, i := range joined {
		for _, a := range append([]netip.Addr{i.Private}, i.Others...) {
			if a.IsValid() && !slices.ContainsFunc(networks[:own], func(n netip.Prefix) bool { return n.Contains(a) }) {
				networks = append(networks, netip.PrefixFrom(a, a.BitLen()))
			}
		}
	}
	slices.SortFunc(networks[own:], func(a, b netip.Prefix) int { return a.Addr().Compare(b.Addr()) })
	return networks
}

// BasicNetwork is the one network of all instances and private load balancers
// outside any VPC. It lies where no VPC can: in the range of RFC 2544.
func BasicNetwork() netip.Prefix {
	return netip.PrefixFrom(netip.AddrFrom4([4]byte{198, 18, 0, 0}), 16)
}

// Ranges are all address ranges of the VPC, its own first.
func (v *VPC) Ranges() []netip.Prefix { return append([]netip.Prefix{v.Cidr}, v.Assistant...) }
