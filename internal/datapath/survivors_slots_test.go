// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"net/netip"
	"testing"

	"github.com/sallyport/sallyport/internal/lb"
	"github.com/sallyport/sallyport/internal/policy"
	"github.com/sallyport/sallyport/internal/snapshot"
)

// slotOf gives the bucket of a host's flow of IPv4 and its place there.
func (s *siege) slotOf(port uint16) (bucket, place int) {
	s.t.Helper()
	for i := range s.hostFlows {
		for j := range s.hostFlows[i].Slot {
			if f := &s.hostFlows[i].Slot[j]; f.RemotePort == port && f.State != 0 {
				return i, j
			}
		}
	}
	s.t.Fatalf("no flow from port %d", port)
	return 0, 0
}

// begin opens a connection of client A's to the VIP.
func (s *siege) begin(port uint16) {
	s.t.Helper()
	s.want("the first packet", true, "host_in", s.through(port, first))
	s.want("its answer", true, "host_out", outbound(8080, port, second))
	s.want("its third", true, "host_in", s.through(port, later))
}

// A closing flow of which nobody knows who ended it, as an earlier release leaves
// them, is not opened again by who resets it and who goes on.
func TestClosingFlowOfUnknownEndStaysClosing(t *testing.T) {
	s := newSiege(t)
	s.force(compiled(t, "sg-2", accept("0.0.0.0/0", 8080)), compiled(t, "sg-e"), nil)
	s.begin(5000)
	i, j := s.slotOf(5000)
	f := &s.hostFlows[i].Slot[j]
	f.State, f.Flags = 3, f.Flags&^(8|16|128)
	s.want("more of the client's", true, "host_in", s.through(5000, later))
	s.want("a reset", true, "host_out", outbound(8080, 5000, reset))
	s.want("more of the client's after it", true, "host_in", s.through(5000, later))
	s.want("more of who reset it", true, "host_out", outbound(8080, 5000, later))
	s.age(40)
	s.want("an answer after 40 units of silence", false, "host_out", outbound(8080, 5000, later))
}

// A port that is the same at the VIP and at the service leaves the address to be
// translated.
func TestSamePortAtVIPAndService(t *testing.T) {
	s := newSiege(t)
	s.force(compiled(t, "sg-2", accept("0.0.0.0/0", 80)), compiled(t, "sg-e"), func(h *snapshot.Snapshot) {
		h.Targets[0].Service = netip.MustParseAddrPort(service + ":80")
	})
	for _, c := range []struct {
		program  string
		frame    []byte
		src, dst string
	}{
		{"host_in", inTunnel(tcpFrame(netip.MustParseAddrPort(clientA+":5000"), netip.MustParseAddrPort(vip+":80"), first), gwAddr, hostAddr, uint32(s.rev), 7), clientA + ":5000", service + ":80"},
		{"host_out", tcpFrame(netip.MustParseAddrPort(service+":80"), netip.MustParseAddrPort(clientA+":5000"), second), vip + ":80", clientA + ":5000"},
	} {
		s.want(c.program, true, c.program, c.frame)
		src, dst, err := endsOf(s.out[:58])
		if err != nil || src.String() != c.src || dst.String() != c.dst {
			t.Errorf("%s: left from %v to %v, %v, want from %s to %s", c.program, src, dst, err, c.src, c.dst)
		}
	}
}

// A packet is judged at the revision that its tunnel asks for; where that is not
// here yet, at the newest, and the verdict says what was asked for.
func TestStampIsToldWhereItIsNotHere(t *testing.T) {
	s := newSiege(t)
	for range 3 {
		s.force(compiled(t, "sg-2", accept("0.0.0.0/0", 8080)), compiled(t, "sg-e"), nil)
	}
	for _, c := range []struct{ stamp, at, told lb.Revision }{{s.rev, s.rev, 0}, {s.rev + 5, s.rev, s.rev + 5}} {
		s.bench.forget(t)
		s.lastTold()
		s.want("a first packet", true, "host_in", inTunnel(frameBetween(lb.TCP, clientA, 5000, vip, 80, first), gwAddr, hostAddr, uint32(c.stamp), 7))
		if e := s.lastTold(); e.Revision != c.at || e.Stamped != c.told {
			t.Errorf("stamped %d: told at revision %d, asked for %d, want %d and %d", c.stamp, e.Revision, e.Stamped, c.at, c.told)
		}
	}
}

// Through the tunnel a service gets echo requests where it is probed by them, and
// no other ICMP; clients of the VIP come by as ever.
func TestOnlyProbesPingThroughTheTunnel(t *testing.T) {
	s := newSiege(t)
	icmp := policy.Rule{ID: "pol-2", Pos: 2, Action: lb.Accept, Proto: lb.ICMP, Peers: []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0")}}
	for _, pings := range []bool{true, false} {
		s.force(compiled(t, "sg-2", accept("0.0.0.0/0", 8080), icmp), compiled(t, "sg-e"), func(h *snapshot.Snapshot) {
			h.Targets[0].ProbePing = pings
		})
		s.bench.forget(t)
		ping := func(reply bool) []byte {
			return inTunnel(echo(clientA, service, 7, reply), gwAddr, hostAddr, uint32(s.rev), 7)
		}
		s.want("a client of the VIP", true, "host_in", s.through(5000, first))
		if !s.counted(policy.UnknownTarget, "host_in", ping(true)) {
			t.Errorf("probed by ping: %v: the answer to a ping came through the tunnel", pings)
		}
		if pings {
			s.want("a ping", true, "host_in", ping(false))
		} else if !s.counted(policy.UnknownTarget, "host_in", ping(false)) {
			t.Error("a ping came through the tunnel to who is not probed by it")
		}
	}
}

// An accepted packet that changes nothing else of its flow says still when it was
// seen last, and by which target.
func TestFlowKnowsItsLastPacket(t *testing.T) {
	s := newSiege(t)
	s.force(compiled(t, "sg-2", accept("0.0.0.0/0", 8080)), compiled(t, "sg-e"), func(h *snapshot.Snapshot) {
		other := h.Targets[0]
		other.Num, other.ID.Listener = 8, "lbl-2"
		h.Targets = append(h.Targets, other)
	})
	s.begin(5000)
	i, j := s.slotOf(5000)
	f := &s.hostFlows[i].Slot[j]
	s.want("one by another target", true, "host_in", inTunnel(frameBetween(lb.TCP, clientA, 5000, vip, 80, later), gwAddr, hostAddr, uint32(s.rev), 8))
	if f.Target != 8 {
		t.Errorf("the flow is of target %d, want 8", f.Target)
	}
	for program, frame := range map[string][]byte{"host_in": inTunnel(frameBetween(lb.TCP, clientA, 5000, vip, 80, later), gwAddr, hostAddr, uint32(s.rev), 8), "host_out": outbound(8080, 5000, later)} {
		was := f.Seen
		f.Seen -= 10
		s.want(program, true, program, frame)
		if f.Seen < was {
			t.Errorf("%s: last seen %d units ago", program, was-f.Seen)
		}
	}
}

// A slot that was given up keeps its tuple, and hides the flow in no other.
func TestFreeSlotHidesNoFlow(t *testing.T) {
	s := newSiege(t)
	s.force(compiled(t, "sg-2", accept("0.0.0.0/0", 8080)), compiled(t, "sg-e"), nil)
	for port := uint16(5000); port < 5003; port++ { // time may move on under one of them
		s.begin(port)
		i, j := s.slotOf(port)
		b := &s.hostFlows[i]
		b.Slot[0], b.Slot[1] = b.Slot[j], b.Slot[j]
		b.Slot[0].State = 0
		s.want("an answer", true, "host_out", outbound(8080, port, later))
	}
}
