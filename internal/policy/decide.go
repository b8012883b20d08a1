// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"net/netip"
	"slices"

	"github.com/sallyport/sallyport/internal/lb"
)

// Decide judges p, the first packet of a flow, against groups in the order
// they are bound, each already resolved for direction dir. It never fails:
// what cannot be matched is dropped. No groups at all accept everything; a
// bound group without rules refuses everything. Cost is O(rules). Replies
// follow the flow table and never come here.
func Decide(g Gate, dir Direction, groups []Group, p lb.Packet) Verdict {
	if len(groups) == 0 {
		return Verdict{Gate: g, Action: lb.Accept, Reason: NoGroups}
	}
	for _, group := range groups {
		for _, r := range group.Rules {
			if matches(r, Peer(dir, p), p) {
				return RuleRef{group.ID, r.ID, r.Pos, r.Action, r.Reason}.verdict(g)
			}
		}
	}
	return Verdict{Gate: g, Action: lb.Drop, Reason: NoMatch}
}

// Peer is the address that rules of the direction look at: where an inbound
// packet comes from, where an outbound one goes.
func Peer(dir Direction, p lb.Packet) netip.Addr {
	if dir == Out {
		return p.Dst
	}
	return p.Src
}

func matches(r Rule, peer netip.Addr, p lb.Packet) bool {
	return contains(r.Peers, peer) && slices.ContainsFunc(r.services(), func(s lb.Service) bool {
		return (s.Proto == lb.AnyProto || s.Proto == p.Proto) && portMatches(s, p)
	})
}

// contains is false across address families, so an IPv4 rule never matches an
// IPv6 packet and needs no special case.
func contains(peers []netip.Prefix, peer netip.Addr) bool {
	for _, prefix := range peers {
		if prefix.Contains(peer) {
			return true
		}
	}
	return false
}

// portMatches looks at ports only where the packet has them.
func portMatches(s lb.Service, p lb.Packet) bool {
	if len(s.Ports) == 0 || !p.Proto.HasPorts() {
		return true
	}
	for _, ports := range s.Ports {
		if ports.First <= p.DstPort && p.DstPort <= ports.Last {
			return true
		}
	}
	return false
}
