// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"bytes"
	"net/netip"
	"testing"

	"github.com/sallyport/sallyport/internal/lb"
	"github.com/sallyport/sallyport/internal/policy"
	"github.com/sallyport/sallyport/internal/snapshot"
)

func observed(s *snapshot.Snapshot) { s.Instances[0].Observe = true }

// A machine to which nobody has bound a group is told about and let be: what
// its rules refuse passes, with a verdict that says so, until the first
// revision that binds.
func TestObservedMachineLosesNothing(t *testing.T) {
	s := newSiege(t)
	none := compiled(t, "sg-2")
	s.force(none, compiled(t, "sg-e"), observed)
	s.lastTold()
	ipv6 := append(bytes.Repeat([]byte{2}, 12), 0x86, 0xdd, 0x60)
	ipv6 = append(ipv6, make([]byte, 60)...)
	for _, c := range []struct {
		what, program string
		frame         []byte
		reason        policy.Reason
	}{
		{"a refused SYN", "host_in", inbound(40001, 22, first), policy.NoMatch},
		{"a refused dial", "host_out", outbound(40002, 443, first), policy.NoMatch},
		{"through the tunnel", "host_in", s.through(40003, first), policy.NoMatch},
		{"to an address we do not know", "host_in", frameBetween(lb.TCP, clientA, 1, "10.9.9.9", 22, first), policy.NoMatch},
		{"from an address we do not know", "host_out", frameBetween(lb.TCP, "10.9.9.9", 22, clientA, 1, first), policy.Spoofed},
		{"from a VIP, not through the tunnel", "host_in", frameBetween(lb.TCP, vip, 9, service, 22, first), policy.Spoofed},
		{"another's tunnel", "host_in", inTunnel(inbound(1, 80, first), "192.0.2.77", hostAddr, 1, 7), policy.UnknownGateway},
	} {
		s.want(c.what, true, c.program, c.frame)
		e := s.lastTold()
		if !e.Observed || e.Verdict.Action != lb.Drop || e.Verdict.Reason != c.reason {
			t.Errorf("%s: told %+v, observed %v, want a drop for %v that was only observed", c.what, e.Verdict, e.Observed, c.reason)
		}
	}
	s.want("IPv6", true, "host_in", ipv6)
	s.want("a later segment to an address we do not know", true, "host_in", frameBetween(lb.TCP, clientA, 1, "10.9.9.9", 22, later))
	if e := s.lastTold(); e.Observed {
		t.Errorf("told %+v of a packet that only counts", e)
	}
	reasons, err := s.Reasons()
	if err != nil || reasons.Packets[policy.Observed] != 9 || reasons.Packets[policy.NoMatch] != 0 {
		t.Errorf("counted %v, %v", reasons.Packets, err)
	}
	// Accepted traffic is told of as ever.
	s.force(compiled(t, "sg-2", accept("0.0.0.0/0", 22)), compiled(t, "sg-e"), observed)
	s.want("an accepted SYN", true, "host_in", inbound(40009, 22, first))
	if e := s.lastTold(); e.Observed || e.Verdict.Action != lb.Accept {
		t.Errorf("told %+v, observed %v", e.Verdict, e.Observed)
	}
}

// Connections that are older than the gate are known by the time it closes:
// those that the rules accept go on, in both directions, the rest end.
func TestFlowsOlderThanTheGate(t *testing.T) {
	s := newSiege(t)
	s.force(compiled(t, "sg-2"), compiled(t, "sg-e"), observed)
	s.want("a session's answer, first seen", true, "host_out", outbound(22, 50001, later))
	s.want("another's answer", true, "host_out", outbound(25, 50002, later))
	s.want("what the machine dialled long ago", true, "host_in", inbound(443, 50003, later))
	s.force(compiled(t, "sg-2", accept("0.0.0.0/0", 22)), compiled(t, "sg-e", accept("0.0.0.0/0", 443)), nil)
	s.want("the session goes on", true, "host_out", outbound(22, 50001, later))
	s.want("and from its client", true, "host_in", inbound(50001, 22, later))
	s.want("the other ends", false, "host_out", outbound(25, 50002, later))
	s.want("the machine's own goes on", true, "host_out", outbound(50003, 443, later))
	s.want("and its answers", true, "host_in", inbound(443, 50003, later))
}

// Before the first snapshot a machine that joined is let be; one of the lab is
// closed.
func TestBeforeTheFirstSnapshot(t *testing.T) {
	w := newQuiet(t)
	for _, observe := range []bool{true, false} {
		b := w.benchAt(Options{Node: "ins-1", Role: lb.RoleHost, Address: netip.MustParseAddr(hostAddr), Observe: observe})
		s := &siege{b, t, make([]byte, 2048)}
		s.want("in", observe, "host_in", inbound(40001, 22, first))
		s.want("out", observe, "host_out", outbound(22, 40001, second))
		s.rev = 1
		_, host := pair(t, 1, nil, compiled(t, "sg-2"))
		stageCommit(t, b.Datapath, host)
		s.want("in, with rules in force", false, "host_in", inbound(40002, 22, first))
	}
}

// An address that a machine leased is renewed whatever the rules say, and
// nothing else goes by that way.
func TestDHCPClientIsASystemRule(t *testing.T) {
	s := newSiege(t)
	s.force(compiled(t, "sg-2"), compiled(t, "sg-e"), nil)
	for _, c := range []struct {
		what    string
		program string
		frame   []byte
		passes  bool
	}{
		{"discover", "host_out", frameBetween(lb.UDP, "0.0.0.0", 68, "255.255.255.255", 67, 0), true},
		{"renew", "host_out", frameBetween(lb.UDP, hostAddr, 68, "192.0.2.254", 67, 0), true},
		{"offer", "host_in", frameBetween(lb.UDP, "192.0.2.254", 67, "255.255.255.255", 68, 0), true},
		{"answer", "host_in", frameBetween(lb.UDP, "192.0.2.254", 67, hostAddr, 68, 0), true},
		{"a server on the instance", "host_out", frameBetween(lb.UDP, service, 67, "192.0.2.254", 68, 0), false},
		{"from the instance's own address", "host_out", frameBetween(lb.UDP, service, 68, "192.0.2.254", 67, 0), true},
		{"to a server on the machine", "host_in", frameBetween(lb.UDP, "192.0.2.254", 68, hostAddr, 67, 0), false},
	} {
		s.want(c.what, c.passes, c.program, c.frame)
	}
}

// The gateway answers address resolution for its VIPs, and for nothing else.
func TestARP(t *testing.T) {
	w := newQuiet(t)
	gw, _ := pair(t, 1, nil, compiled(t, "sg-2"))
	asker := []byte{2, 0, 0, 0, 0, 0x0a}
	question := func(sender, target string, operation byte) []byte {
		f := append(bytes.Repeat([]byte{0xff}, 6), asker...)
		f = append(f, 8, 6, 0, 1, 8, 0, 6, 4, 0, operation)
		f = append(f, asker...)
		f = append(f, netip.MustParseAddr(sender).AsSlice()...)
		f = append(f, make([]byte, 6)...)
		return append(f, netip.MustParseAddr(target).AsSlice()...)
	}
	for _, answers := range []bool{true, false} {
		b := w.benchAt(Options{Node: "gateway-1", Role: lb.RoleGateway, Address: netip.MustParseAddr(gwAddr), ARP: answers})
		stageCommit(t, b.Datapath, gw)
		for _, c := range []struct {
			what           string
			sender, target string
			operation      byte
			want           bool
		}{
			{"for a VIP", clientA, vip, 1, answers},
			{"a probe for a VIP", "0.0.0.0", vip, 1, answers},
			{"for another address", clientA, gwAddr, 1, false},
			{"an announcement of a VIP", vip, vip, 1, false},
			{"somebody's answer", clientA, vip, 2, false},
		} {
			out := make([]byte, 128)
			got, err := b.run("gateway", question(c.sender, c.target, c.operation), out)
			if err != nil || (got == actRedirect) != c.want {
				t.Errorf("%s: action %d, %v, want an answer: %v", c.what, got, err, c.want)
			}
			if !c.want {
				continue
			}
			mac := out[6:12]
			if !bytes.Equal(out[:6], asker) || out[21] != 2 || !bytes.Equal(out[22:28], mac) || mac[0]|mac[1]|mac[5] == 0 ||
				!bytes.Equal(out[28:32], netip.MustParseAddr(vip).AsSlice()) || !bytes.Equal(out[32:38], asker) {
				t.Errorf("%s: answered %x", c.what, out[:42])
			}
		}
	}
}
