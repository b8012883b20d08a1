// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"fmt"
	"net/netip"

	"github.com/sallyport/sallyport/internal/lb"
)

// A Standing rule is a system rule: one that nobody wrote and nobody can remove: without it a
// node could not work, or a load balancer would not be what its kind says.
// All are judged before the groups' rules.
type Standing struct {
	Number    int // counted from 1; stable, so append only
	Gate      Gate
	Direction Direction // zero: both
	Action    lb.Action
	Text      string // what it covers, for people
}

// The numbers of system rules.
const (
	SystemControl    = 1 + iota // the node's own control stream
	SystemResolve               // address resolution
	SystemLease                 // renewing a leased address
	SystemTunnel                // the tunnel from known gateways
	SystemOwn                   // addresses that only the load balancer has
	SystemProbeRange            // probes with SourceIpType 1
	SystemProbeKind             // probes of the kinds whose VIP needs no rule
	SystemPrivate               // a private VIP and its own network
)

// SystemRules lists every system rule, by number. Which of them an object has
// depends on its kind.
func SystemRules() []Standing {
	return []Standing{
		{SystemControl, GateCVM, 0, lb.Accept, "the connection between the instance's agent and its server"},
		{SystemResolve, GateCVM, 0, lb.Accept, "address resolution (ARP, neighbour discovery)"},
		{SystemLease, GateCVM, 0, lb.Accept, "renewing the machine's own address (DHCP client)"},
		{SystemTunnel, GateCVM, In, lb.Accept, "the tunnel from a known gateway with its key; what is inside is judged by all that follows"},
		{SystemOwn, GateCVM, In, lb.Drop, "from a VIP or from 100.64.0.0/16 and 100.127.0.0/16 without having come through the tunnel"},
		{SystemProbeRange, GateCVM, In, lb.Accept, "health checks with SourceIpType 1: from 100.64.0.0/16, through the tunnel, to the checked port of the target"},
		{SystemProbeKind, GateCVM, In, lb.Accept, "health checks of a private load balancer that is in the basic network, or classic and not made in a VPC before 2016-12-05: from its VIP, through the tunnel, to the checked port of the target"},
		{SystemPrivate, GateCLB, In, lb.Drop, "to the VIP of a private load balancer from outside its own network"},
	}
}

// SystemRuleID is a system rule's id: "sys-8".
func SystemRuleID(number int) lb.RuleID { return lb.RuleID(fmt.Sprintf("sys-%d", number)) }

// ProbeRule is the number of the system rule that admits the probes of a
// check which need no other.
func ProbeRule(check lb.HealthCheck) int {
	if check.SourceIPType == 1 {
		return SystemProbeRange
	}
	return SystemProbeKind
}

// Gate1 is what gate 1 of a load balancer judges clients by that dial one of
// its addresses: for a private VIP the system rule that keeps other networks
// out, then the groups bound. It is empty when every client is admitted.
func (v *Resolver) Gate1(b *lb.LoadBalancer, dialled netip.Addr) []Group {
	groups := v.Resolve(b.Groups, In)
	if !b.Private() || dialled == b.EIP {
		return groups
	}
	number := SystemPrivate
	outside := Group{Rules: []Rule{{ID: SystemRuleID(number), Pos: number, Action: lb.Drop, Peers: v.outside(b), Reason: SystemRule}}}
	if len(groups) == 0 {
		outside.Rules = append(outside.Rules, Rule{Action: lb.Accept, Peers: Outside(nil), Reason: NoGroups})
	}
	return append([]Group{outside}, groups...)
}

// outside is every address that is not of the balancer's network, found once
// for each network.
func (v *Resolver) outside(b *lb.LoadBalancer) []netip.Prefix {
	if v.beyond == nil {
		v.beyond = make(map[lb.VPCID][]netip.Prefix)
		v.joined = v.state.JoinedTo()
	}
	if _, known := v.beyond[b.VPC]; !known {
		v.beyond[b.VPC] = Outside(v.state.NetworksWith(v.joined, b))
	}
	return v.beyond[b.VPC]
}

// Outside is every address of both families that is in none of the networks,
// as sorted prefixes that do not overlap.
func Outside(networks []netip.Prefix) []netip.Prefix {
	var out []netip.Prefix
	for _, all := range []netip.Prefix{netip.PrefixFrom(netip.IPv4Unspecified(), 0), netip.PrefixFrom(netip.IPv6Unspecified(), 0)} {
		out = carve(out, all, networks)
	}
	return out
}

// carve adds what of p is in none of the networks: p itself where none touches
// it, else the same of its halves.
func carve(out []netip.Prefix, p netip.Prefix, networks []netip.Prefix) []netip.Prefix {
	touched := false
	for _, n := range networks {
		if n.Overlaps(p) && n.Bits() <= p.Bits() {
			return out
		}
		touched = touched || n.Overlaps(p)
	}
	if !touched {
		return append(out, p)
	}
	low := netip.PrefixFrom(p.Addr(), p.Bits()+1)
	raw := p.Addr().AsSlice()
	raw[p.Bits()/8] |= 0x80 >> (p.Bits() % 8)
	upper, _ := netip.AddrFromSlice(raw)
	return carve(carve(out, low, networks), netip.PrefixFrom(upper, p.Bits()+1), networks)
}
