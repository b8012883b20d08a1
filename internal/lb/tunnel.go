// SPDX-License-Identifier: Apache-2.0

package lb

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// TunnelEnds are the addresses between which the tunnel of a gateway and a host
// runs: of the family of the gateway's Address where the host has one, else of
// its Other's. ok is false, and the addresses are zero, when no family is
// common to both, or when one of them has not said its addresses yet.
func TunnelEnds(gateway, host *Node) (g, h netip.Addr, ok bool) {
	for _, g := range []netip.Addr{gateway.Address, gateway.Other} {
		for _, h := range []netip.Addr{host.Address, host.Other} {
			if g.IsValid() && h.IsValid() && g.Is4() == h.Is4() {
				return g, h, true
			}
		}
	}
	return netip.Addr{}, netip.Addr{}, false
}

// Apart says of every node that shares no address family with some node of the
// other role that no tunnel runs between them, and what mends it. Nodes that
// reach all others, and those without addresses yet, are not in the map.
func Apart(s *State) map[NodeID]string {
	var gateways, hosts []*Node
	for _, n := range s.Nodes.All() {
		switch {
		case !n.Address.IsValid():
		case n.Role == RoleGateway:
			gateways = append(gateways, n)
		default:
			hosts = append(hosts, n)
		}
	}
	missed := map[NodeID][]NodeID{}
	for _, g := range gateways {
		for _, h := range hosts {
			if _, _, ok := TunnelEnds(g, h); !ok {
				missed[g.ID] = append(missed[g.ID], h.ID)
				missed[h.ID] = append(missed[h.ID], g.ID)
			}
		}
	}
	said := make(map[NodeID]string, len(missed))
	for id, others := range missed {
		has, lacks := "IPv4", "IPv6"
		if s.Nodes.Get(id).Address.Is6() {
			has, lacks = lacks, has
		}
		said[id] = fmt.Sprintf("no tunnel to %s: this node has an %s address only and the other side %s only; give one of the two an address of the other family on its interface",
			names(others), has, lacks)
	}
	return said
}

// names lists up to three nodes, by name.
func names(all []NodeID) string {
	const most = 3
	slices.SortFunc(all, cmp.Compare)
	shown := make([]string, 0, most)
	for _, id := range all[:min(most, len(all))] {
		shown = append(shown, string(id))
	}
	text := strings.Join(shown, ", ")
	if n := len(all) - most; n > 0 {
		text += fmt.Sprintf(" and %d more", n)
	}
	return text
}
