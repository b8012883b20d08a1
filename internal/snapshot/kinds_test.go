// SPDX-License-Identifier: Apache-2.0

package snapshot

import (
	"net/netip"
	"reflect"
	"testing"
	"time"

	"github.com/sallyport/sallyport/internal/lb"
	"github.com/sallyport/sallyport/internal/policy"
)

// private makes lb-1 of the demo a private one with a VIP in its VPC.
func private(change func(b *lb.LoadBalancer)) *lb.State {
	state := demo()
	state.VPCs = lb.TableOf(map[lb.VPCID]*lb.VPC{"vpc-1": {ID: "vpc-1", Cidr: netip.MustParsePrefix("10.200.0.0/16")}})
	b := *state.Balancers.Get("lb-1")
	b.Type, b.VPC, b.VIPs = lb.Internal, "vpc-1", []netip.Addr{addr("10.200.0.9")}
	change(&b)
	state.Balancers.Put("lb-1", &b)
	return state
}

// An EIP is a door of its own: another listener, other rules at gate 1, the
// same targets, which know both addresses; probes go on coming from the VIP.
func TestAssemblePrivateWithEIP(t *testing.T) {
	state := private(func(b *lb.LoadBalancer) { b.EIP = addr("192.0.2.70") })
	s := assemble(t, state, "gateway-1")
	if len(s.Listeners) != 4 {
		t.Fatalf("%d listeners", len(s.Listeners))
	}
	inside, outside := s.Listeners[1], s.Listeners[3]
	if inside.Num != 31 || outside.Num != EIPNum(31) || inside.ID != outside.ID || !reflect.DeepEqual(inside.Rules, outside.Rules) {
		t.Errorf("%+v and %+v", inside, outside)
	}
	if inside.VIPs[0] != addr("10.200.0.9") || len(inside.VIPs) != 1 || outside.VIPs[0] != addr("192.0.2.70") || len(outside.VIPs) != 1 {
		t.Errorf("%v and %v", inside.VIPs, outside.VIPs)
	}
	client := lb.Packet{Proto: lb.TCP, Src: addr("203.0.113.9"), DstPort: 80}
	in, out := s.Policies[inside.Gate1].Judge(policy.GateCLB, policy.In, client), s.Policies[outside.Gate1].Judge(policy.GateCLB, policy.In, client)
	if in.Action != lb.Drop || in.Reason != policy.SystemRule || out.Action != lb.Accept || out.Rule != "pol-1" {
		t.Errorf("gate 1 says %+v and %+v", in, out)
	}
	for _, row := range []*Target{&s.Targets[0], &assemble(t, state, "ins-1").Targets[0]} {
		if !reflect.DeepEqual(row.VIPs, []netip.Addr{addr("10.200.0.9"), addr("192.0.2.70")}) || row.ProbeSource != addr("10.200.0.9") || row.ProbeExempt {
			t.Errorf("%+v", row)
		}
	}
	for _, node := range []lb.NodeID{"gateway-1", "ins-1"} {
		if all := assemble(t, state, node).VIPs; len(all) != 3 {
			t.Errorf("%s takes %v for addresses of load balancers", node, all)
		}
	}
	m, blobs, err := Encode(s)
	if err != nil {
		t.Fatal(err)
	}
	if back, err := Decode(m, blobs); err != nil || !reflect.DeepEqual(back, s) {
		t.Errorf("over the wire it is %+v, %v", back, err)
	}
}

// Whose probes are exempt, as both ends see it.
func TestAssembleProbesByKind(t *testing.T) {
	before := lb.ProbesChanged().Add(-time.Second)
	for _, row := range []struct {
		name   string
		change func(b *lb.LoadBalancer)
		exempt bool
	}{
		{"private", func(*lb.LoadBalancer) {}, false},
		{"private, basic network", func(b *lb.LoadBalancer) { b.VPC = "" }, true},
		{"private classic of before", func(b *lb.LoadBalancer) { b.Classic, b.Created = true, before }, false},
		{"private classic of that day", func(b *lb.LoadBalancer) { b.Classic, b.Created = true, lb.ProbesChanged() }, true},
		{"private classic of before, basic network", func(b *lb.LoadBalancer) { b.Classic, b.Created, b.VPC = true, before, "" }, true},
		{"public, basic network", func(b *lb.LoadBalancer) { b.Type, b.VPC = lb.Open, "" }, false},
	} {
		state := private(row.change)
		for _, node := range []lb.NodeID{"gateway-1", "ins-1"} {
			target := assemble(t, state, node).Targets[0]
			if target.ProbeExempt != row.exempt || target.ProbeSource != addr("10.200.0.9") {
				t.Errorf("%s at %s: %+v", row.name, node, target)
			}
		}
	}
}
