// SPDX-License-Identifier: Apache-2.0

package policytest

import (
	"maps"
	"net/netip"
	"slices"

	"github.com/sallyport/sallyport/internal/lb"
	"github.com/sallyport/sallyport/internal/policy"
)

// An Edge is a peer, protocol and destination port beside a place where what
// the rules say may change. Port is 0 for protocols without ports.
type Edge struct {
	Peer  netip.Addr
	Proto lb.Proto
	Port  uint16
}

// Edges calls visit, each once, with every edge of the groups' rules of one
// address family: every peer on either side of each end of a prefix, and with
// it every protocol, and every port on either side of each end of a port range
// of a rule that covers the peer or its neighbours. It does not ask the
// compiled form, which might have lost some. It ends when visit gives false.
func Edges(groups []policy.Group, family4 bool, visit func(Edge) bool) {
	var rules []policy.Rule
	protos := map[lb.Proto]bool{lb.TCP: true, lb.UDP: true, lb.ICMP: true, lb.ICMPv6: true, lb.GRE: true, 132: true, 255: true}
	for _, g := range groups {
		for _, r := range g.Rules {
			rules = append(rules, r)
			for _, s := range servicesOf(r) {
				if s.Proto != lb.AnyProto {
					protos[s.Proto] = true
				}
			}
		}
	}
	for _, peer := range edgePeers(rules, family4) {
		keys := map[uint32]bool{}
		for p := range protos {
			keys[policy.PortKey(p, 0)] = true
			if p.HasPorts() {
				keys[policy.PortKey(p, 65535)] = true
			}
		}
		for _, r := range rules {
			if covers(r, peer) || covers(r, peer.Prev()) || covers(r, peer.Next()) {
				addEdgeKeys(keys, r)
			}
		}
		for _, key := range slices.Sorted(maps.Keys(keys)) {
			if !visit(Edge{peer, lb.Proto(key >> 16), uint16(key)}) {
				return
			}
		}
	}
}

func servicesOf(r policy.Rule) []lb.Service {
	if len(r.Services) > 0 {
		return r.Services
	}
	return []lb.Service{{Proto: r.Proto, Ports: r.Ports}}
}

func covers(r policy.Rule, a netip.Addr) bool {
	return a.IsValid() && slices.ContainsFunc(r.Peers, func(p netip.Prefix) bool { return p.Contains(a) })
}

func addEdgeKeys(keys map[uint32]bool, r policy.Rule) {
	for _, s := range servicesOf(r) {
		protos := []lb.Proto{s.Proto}
		if s.Proto == lb.AnyProto {
			protos = []lb.Proto{lb.TCP, lb.UDP}
		}
		for _, p := range protos {
			if !p.HasPorts() {
				continue
			}
			for _, ports := range s.Ports {
				for _, port := range []int{int(ports.First) - 1, int(ports.First), int(ports.Last), int(ports.Last) + 1} {
					if port >= 0 && port <= 65535 {
						keys[policy.PortKey(p, uint16(port))] = true
					}
				}
			}
		}
	}
}

// edgePeers are the addresses on both sides of each end of each prefix, and the
// first and last of all.
func edgePeers(rules []policy.Rule, family4 bool) []netip.Addr {
	all := map[netip.Addr]bool{}
	add := func(a netip.Addr) {
		if a.IsValid() {
			all[a] = true
		}
	}
	whole := netip.PrefixFrom(netip.IPv6Unspecified(), 0)
	if family4 {
		whole = netip.PrefixFrom(netip.IPv4Unspecified(), 0)
	}
	ends := func(p netip.Prefix) {
		first, last := p.Masked().Addr(), lastOf(p)
		add(first)
		add(first.Prev())
		add(last)
		add(last.Next())
	}
	ends(whole)
	for _, r := range rules {
		for _, p := range r.Peers {
			if p.Addr().Is4() == family4 {
				ends(p)
			}
		}
	}
	return slices.SortedFunc(maps.Keys(all), netip.Addr.Compare)
}

func lastOf(p netip.Prefix) netip.Addr {
	raw := p.Masked().Addr().AsSlice()
	for i := p.Bits(); i < 8*len(raw); i++ {
		raw[i/8] |= 0x80 >> (i % 8)
	}
	a, _ := netip.AddrFromSlice(raw)
	return a
}
