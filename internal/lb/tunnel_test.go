// SPDX-License-Identifier: Apache-2.0

package lb

import (
	"net/netip"
	"strings"
	"testing"
)

func TestTunnelEnds(t *testing.T) {
	node := func(all string) *Node {
		n := &Node{}
		for i, text := range strings.Fields(all) {
			if i == 0 {
				n.Address = netip.MustParseAddr(text)
			} else {
				n.Other = netip.MustParseAddr(text)
			}
		}
		return n
	}
	for _, r := range []struct{ gateway, host, want string }{
		{"192.0.2.1", "192.0.2.2", "192.0.2.1 192.0.2.2"},
		{"2001:db8::1", "2001:db8::2", "2001:db8::1 2001:db8::2"},
		{"192.0.2.1", "2001:db8::2", ""},
		{"192.0.2.1 2001:db8::1", "2001:db8::2", "2001:db8::1 2001:db8::2"},
		{"192.0.2.1", "2001:db8::2 192.0.2.2", "192.0.2.1 192.0.2.2"},
		{"192.0.2.1 2001:db8::1", "2001:db8::2 192.0.2.2", "192.0.2.1 192.0.2.2"}, // the gateway's first decides
		{"2001:db8::1 192.0.2.1", "192.0.2.2 2001:db8::2", "2001:db8::1 2001:db8::2"},
		{"", "192.0.2.2", ""},
		{"192.0.2.1", "", ""},
	} {
		g, h, ok := TunnelEnds(node(r.gateway), node(r.host))
		got := ""
		if ok {
			got = g.String() + " " + h.String()
		} else if g.IsValid() || h.IsValid() {
			t.Errorf("%q and %q: not reached, and yet %v, %v", r.gateway, r.host, g, h)
		}
		if got != r.want {
			t.Errorf("%q and %q: %q, want %q", r.gateway, r.host, got, r.want)
		}
	}
}

func TestApart(t *testing.T) {
	s := &State{}
	s.Nodes.Put("gateway-1", &Node{ID: "gateway-1", Role: RoleGateway, Address: netip.MustParseAddr("192.0.2.1")})
	s.Nodes.Put("ins-new", &Node{ID: "ins-new", Role: RoleHost})
	s.Nodes.Put("ins-4", &Node{ID: "ins-4", Role: RoleHost, Address: netip.MustParseAddr("192.0.2.2")})
	if said := Apart(s); len(said) > 0 {
		t.Errorf("of one family: %v", said)
	}
	for _, id := range []NodeID{"ins-a", "ins-b", "ins-c", "ins-d"} {
		s.Nodes.Put(id, &Node{ID: id, Role: RoleHost, Address: netip.MustParseAddr("2001:db8::2")})
	}
	said := Apart(s)
	if len(said) != 5 || !strings.Contains(said["gateway-1"], "no tunnel to ins-a, ins-b, ins-c and 1 more: this node has an IPv4 address only and the other side IPv6 only; give one") ||
		!strings.Contains(said["ins-a"], "no tunnel to gateway-1: this node has an IPv6 address only and the other side IPv4 only") {
		t.Errorf("%v", said)
	}
	g := *s.Nodes.Get("gateway-1")
	g.Other = netip.MustParseAddr("2001:db8::1")
	s.Nodes.Put(g.ID, &g)
	if said := Apart(s); len(said) > 0 {
		t.Errorf("a gateway with both: %v", said)
	}
}
