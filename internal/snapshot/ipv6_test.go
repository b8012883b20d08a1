// SPDX-License-Identifier: Apache-2.0

package snapshot

import (
	"net/netip"
	"reflect"
	"slices"
	"testing"

	"github.com/sallyport/sallyport/internal/lb"
)

// An IPv6 load balancer dials its targets by IPv6, through a tunnel of either
// family.
func TestAssembleIPv6(t *testing.T) {
	state := demo()
	state.Instances.Get("ins-1").IPv6 = addr("2001:db8:200::5")
	state.Balancers.Get("lb-2").VIPs = []netip.Addr{addr("2001:db8:200::1")}
	state.Listeners.Get("lbl-2").Check.SourceIPType = 0
	state.Listeners.Get("lbl-2").Targets = append(state.Listeners.Get("lbl-2").Targets, lb.Target{Num: 45, Instance: "ins-2", Port: 8443, Weight: 100})
	for _, node := range []lb.NodeID{"gateway-1", "ins-1"} {
		s := assemble(t, state, node)
		at := slices.IndexFunc(s.Targets, func(t Target) bool { return t.Num == 44 })
		if at < 0 {
			t.Fatalf("%s: no target 44 among %+v", node, s.Targets)
		}
		row := s.Targets[at]
		if row.Service != netip.MustParseAddrPort("[2001:db8:200::5]:8443") || row.Public.IsValid() || row.ProbeSource != addr("2001:db8:200::1") ||
			row.ProbePort != 9000 || !row.PassToTarget || row.Host != addr("192.0.2.130") {
			t.Errorf("%s: %+v", node, row)
		}
		if slices.ContainsFunc(s.Targets, func(t Target) bool { return t.Num == 45 }) {
			t.Errorf("%s: an instance without IPv6 address is a target", node)
		}
		m, blobs, err := Encode(s)
		if err != nil {
			t.Fatal(err)
		}
		if again, err := Decode(m, blobs); err != nil || !reflect.DeepEqual(s, again) {
			t.Errorf("%s: the wire form gives back something else, %v", node, err)
		}
	}
	if s := assemble(t, state, "ins-1"); !slices.Equal(s.Instances[0].Addrs, []netip.Addr{addr("10.200.0.5"), addr("192.0.2.65"), addr("2001:db8:200::5")}) {
		t.Errorf("the host judges %v", s.Instances[0].Addrs)
	}
	// A tunnel has two ends of one family.
	state.Nodes.Get("gateway-1").Address = addr("2001:db8::81")
	if s := assemble(t, state, "gateway-1"); len(s.Targets) > 0 || len(s.Peers) > 0 {
		t.Errorf("a gateway with IPv6 reaches hosts with IPv4: %+v, %+v", s.Targets, s.Peers)
	}
	if s := assemble(t, state, "ins-1"); len(s.Peers) > 0 {
		t.Errorf("a host with IPv4 is reached by %+v", s.Peers)
	}
	// One with both families reaches each host by what that has.
	state.Nodes.Get("gateway-1").Other = addr("192.0.2.129")
	reached := func(node lb.NodeID, want string) {
		t.Helper()
		if s := assemble(t, state, node); !slices.ContainsFunc(s.Peers, func(p Peer) bool { return p.Addr == addr(want) }) {
			t.Errorf("%s: %v is none of the peers %+v", node, want, s.Peers)
		}
	}
	reached("gateway-1", "192.0.2.130")
	reached("ins-1", "192.0.2.129")
	state.Nodes.Get("ins-1").Other = addr("2001:db8::82")
	reached("gateway-1", "2001:db8::82") // the gateway's first family, once both have it
	reached("ins-1", "2001:db8::81")
	if s := assemble(t, state, "gateway-1"); !slices.ContainsFunc(s.Targets, func(t Target) bool { return t.Num == 44 && t.Host == addr("2001:db8::82") }) {
		t.Errorf("targets by the other family: %+v", s.Targets)
	}
	state.Nodes.Get("gateway-1").Other, state.Nodes.Get("ins-1").Other = netip.Addr{}, netip.Addr{}
	state.Nodes.Get("ins-1").Address = addr("2001:db8::82")
	if s := assemble(t, state, "gateway-1"); len(s.Peers) != 1 || !slices.ContainsFunc(s.Targets, func(t Target) bool { return t.Num == 44 && t.Host == addr("2001:db8::82") }) {
		t.Errorf("over IPv6: %+v, %+v", s.Targets, s.Peers)
	}
}
