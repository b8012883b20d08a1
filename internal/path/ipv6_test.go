// SPDX-License-Identifier: Apache-2.0

package path

import (
	"net/netip"
	"testing"

	"github.com/sallyport/sallyport/internal/lb"
	"github.com/sallyport/sallyport/internal/policy"
)

// Everything on the way of an IPv6 client is IPv6, and what its instance does
// by IPv4 says nothing about it.
func TestTraceIPv6(t *testing.T) {
	state := demo()
	state.Groups.Get("sg-clb").Ingress = []lb.PolicyRule{rule("pol-6", lb.Accept, "2001:db8:113::/48", 81), rule("pol-2", lb.Accept, "0.0.0.0/0")}
	state.Groups.Get("sg-cvm").Ingress = append(state.Groups.Get("sg-cvm").Ingress, lb.PolicyRule{ID: "pol-7", Action: lb.Accept, PeerGroup: "sg-cvm"})
	state.Groups.Get("sg-cvm").Egress = []lb.PolicyRule{rule("pol-8", lb.Accept, "2001:db8:200::/56", 81)}
	state.Instances.Get("ins-1").IPv6, state.Instances.Get("ins-2").IPv6 = addr("2001:db8:200::5"), addr("2001:db8:200::6")
	state.Balancers.Get("lb-1").VIPs, state.Balancers.Get("lb-1").PassToTarget = []netip.Addr{addr("2001:db8:200::1")}, true
	state.Listeners.Get("lbl-2").Targets = []lb.Target{{Num: 51, Instance: "ins-1", Port: 9090, Weight: 1}}
	state.Listeners.Get("lbl-2").Check = lb.DefaultCheck(lb.ListenTCP)
	p := lb.Packet{Proto: lb.TCP, Src: addr("2001:db8:113::10"), Dst: addr("2001:db8:200::1"), DstPort: 81}
	w := trace(t, state, p)
	if !w.Admitted() || w.Gate1.Rule != "pol-6" || w.Hops[0].Packet.Dst != addr("2001:db8:200::5") || w.Hops[0].Gate2.Reason != policy.PassToTarget {
		t.Errorf("%+v", w)
	}
	p.Src = addr("2001:db8:51::20")
	if w := trace(t, state, p); w.Gate1.Reason != policy.NoMatch || w.Gate1.Action != lb.Drop {
		t.Errorf("%+v", w.Gate1)
	}
	p.Src = addr("2001:db8:200::5") // its own target
	if w := trace(t, state, p); w.Outbound.Rule != "pol-8" || w.Gate1.Action != lb.Drop {
		t.Errorf("%+v", w)
	}
	for src, want := range map[string]lb.RuleID{"2001:db8:200::6": "pol-7", "10.200.0.7": "", "2001:db8:113::10": ""} {
		v, err := Direct(state, lb.Packet{Proto: lb.TCP, Src: addr(src), Dst: addr("2001:db8:200::5"), DstPort: 22})
		if err != nil || v.Rule != want {
			t.Errorf("from %s: %+v, %v", src, v, err)
		}
	}
	if v, err := Direct(state, lb.Packet{Proto: lb.TCP, Src: addr("2001:db8:200::1"), Dst: addr("2001:db8:200::5"), DstPort: 22}); err != nil || v.Reason != policy.Spoofed {
		t.Errorf("from the VIP: %+v, %v", v, err)
	}
	if v, _, err := Probe(state, 51); err != nil || v.Reason != policy.PassToTarget {
		t.Errorf("the probe: %+v, %v", v, err)
	}
}
