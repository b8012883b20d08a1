// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"net/netip"
	"testing"

	"pgregory.net/rapid"

	"github.com/sallyport/sallyport/internal/lb"
)

// What is outside some networks is everything but them.
func TestOutside(t *testing.T) {
	prefix := rapid.Custom(func(t *rapid.T) netip.Prefix {
		raw := [4]byte{10, rapid.Byte().Draw(t, "b"), rapid.Byte().Draw(t, "c"), rapid.Byte().Draw(t, "d")}
		p, _ := netip.AddrFrom4(raw).Prefix(rapid.IntRange(0, 32).Draw(t, "bits"))
		return p
	})
	rapid.Check(t, func(t *rapid.T) {
		networks := rapid.SliceOfN(prefix, 0, 4).Draw(t, "networks")
		out := Outside(networks)
		for i, p := range out {
			if p != p.Masked() || i > 0 && p.Overlaps(out[i-1]) {
				t.Fatalf("%v in %v", p, out)
			}
		}
		probes := []netip.Addr{netip.MustParseAddr("203.0.113.9"), netip.MustParseAddr("2001:db8::1")}
		for _, n := range networks {
			first, last := n.Addr(), lastAddr(n)
			probes = append(probes, first, last, first.Prev(), last.Next())
		}
		for _, a := range probes {
			if a.IsValid() && contains(out, a) == contains(networks, a) {
				t.Fatalf("%v: both or neither of %v and outside %v", a, networks, out)
			}
		}
	})
}

func lastAddr(p netip.Prefix) netip.Addr {
	raw := p.Addr().As4()
	for bit := p.Bits(); bit < 32; bit++ {
		raw[bit/8] |= 0x80 >> (bit % 8)
	}
	return netip.AddrFrom4(raw)
}

// Gate 1 of a private load balancer keeps other networks out before any group
// is asked, on its VIP and not on its EIP, in both forms of judging.
func TestGate1(t *testing.T) {
	vip, eip := netip.MustParseAddr("10.200.0.9"), netip.MustParseAddr("192.0.2.70")
	state := &lb.State{
		VPCs: lb.TableOf(map[lb.VPCID]*lb.VPC{"vpc-1": {ID: "vpc-1", Cidr: netip.MustParsePrefix("10.200.0.0/16")}}),
		Groups: lb.TableOf(map[lb.GroupID]*lb.SecurityGroup{"sg-1": {ID: "sg-1", Ingress: []lb.PolicyRule{
			{ID: "pol-1", Action: lb.Accept, Proto: lb.TCP, Ports: []lb.PortRange{{First: 80, Last: 80}}, Peer: netip.MustParsePrefix("0.0.0.0/0")}}}}),
	}
	private := lb.LoadBalancer{Type: lb.Internal, VPC: "vpc-1", VIPs: []netip.Addr{vip}, EIP: eip}
	bound := private
	bound.Groups = []lb.GroupID{"sg-1"}
	basic := private
	basic.VPC = ""
	kept := Verdict{Gate: GateCLB, Action: lb.Drop, Reason: SystemRule, Rule: "sys-8", Pos: SystemPrivate}
	open := Verdict{Gate: GateCLB, Action: lb.Accept, Reason: NoGroups}
	ruled := Verdict{Gate: GateCLB, Action: lb.Accept, Reason: RuleMatched, Group: "sg-1", Rule: "pol-1", Pos: 1}
	for _, row := range []struct {
		name    string
		b       *lb.LoadBalancer
		dialled netip.Addr
		from    string
		want    Verdict
	}{
		{"inside, no group", &private, vip, "10.200.3.4", open},
		{"outside, no group", &private, vip, "10.201.0.1", kept},
		{"the Internet, no group", &private, vip, "203.0.113.9", kept},
		{"IPv6, no group", &private, vip, "2001:db8::1", kept},
		{"the Internet on the EIP", &private, eip, "203.0.113.9", open},
		{"inside, group", &bound, vip, "10.200.3.4", ruled},
		{"outside, group", &bound, vip, "203.0.113.9", kept},
		{"the Internet on the EIP, group", &bound, eip, "203.0.113.9", ruled},
		{"basic, inside", &basic, vip, "198.18.0.9", open},
		{"basic, from a VPC", &basic, vip, "10.200.3.4", kept},
	} {
		groups := NewResolver(state).Gate1(row.b, row.dialled)
		p := lb.Packet{Proto: lb.TCP, Src: netip.MustParseAddr(row.from), Dst: row.dialled, DstPort: 80}
		if got := Decide(GateCLB, In, groups, p); got != row.want {
			t.Errorf("%s: %+v", row.name, got)
		}
		if len(groups) == 0 {
			continue
		}
		c, err := Compile(groups)
		if err == nil {
			err = c.Validate()
		}
		if err != nil {
			t.Errorf("%s: %v", row.name, err)
			continue
		}
		if got := c.Judge(GateCLB, In, p); got != row.want {
			t.Errorf("%s, compiled: %+v", row.name, got)
		}
	}
}

func TestSystemRules(t *testing.T) {
	for i, r := range SystemRules() {
		if r.Number != i+1 || r.Text == "" || r.Action == 0 || r.Gate == 0 {
			t.Errorf("%+v at %d", r, i)
		}
	}
	if ProbeRule(lb.HealthCheck{SourceIPType: 1}) != SystemProbeRange || ProbeRule(lb.HealthCheck{}) != SystemProbeKind {
		t.Error("the wrong rule admits probes")
	}
}
