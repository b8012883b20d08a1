// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"net/netip"
	"testing"

	"github.com/sallyport/sallyport/internal/lb"
	"github.com/sallyport/sallyport/internal/policy"
	"github.com/sallyport/sallyport/internal/snapshot"
)

// A flow that new rules let be goes on, packet after packet and to its very last;
// a connection that begins in its place is judged by the rules of now. So is, each
// time, the packet of a flow that was refused.
func TestKeptFlowEndsWithItsConnection(t *testing.T) {
	s := newSiege(t)
	open, shut, none := compiled(t, "sg-2", accept("0.0.0.0/0", 8080)), compiled(t, "sg-2", accept(clientB+"/32", 8080)), compiled(t, "sg-e")
	for name, in := range map[string]func(flags byte) []byte{
		"directly":           func(flags byte) []byte { return inbound(5000, 8080, flags) },
		"through the tunnel": func(flags byte) []byte { return s.through(5000, flags) },
	} {
		out := func(flags byte) []byte { return outbound(8080, 5000, flags) }
		begin := func() {
			t.Helper()
			s.force(open, none, nil)
			s.bench.forget(t)
			s.want(name+": the first packet", true, "host_in", in(first))
			s.want(name+": its answer", true, "host_out", out(second))
			s.want(name+": its third", true, "host_in", in(later))
		}
		begin()
		s.force(shut, none, func(h *snapshot.Snapshot) { h.Instances[0].Keep = snapshot.Keeping{Always: true} })
		for _, flags := range []byte{later, later, fin | later} {
			s.want(name+": a packet of a flow that is kept", true, "host_in", in(flags))
			s.want(name+": its answer", true, "host_out", out(flags))
		}
		s.want(name+": the last", true, "host_in", in(later))
		if !s.counted(policy.NoMatch, "host_in", in(first)) {
			t.Errorf("%s: a connection began in the place of one that was kept", name)
		}

		begin()
		s.force(shut, none, nil)
		for range 2 {
			if !s.counted(policy.NoMatch, "host_in", in(later)) {
				t.Errorf("%s: the packet of a refused flow was not refused as one", name)
			}
		}
	}
}

// What comes through the tunnel for a target is for an address and port of its
// load balancer's, and for a proxy's target for the service alone.
func TestTunnelIsForTheTargetAlone(t *testing.T) {
	s := newSiege(t)
	for _, via := range []bool{false, true} {
		s.force(compiled(t, "sg-2", accept("0.0.0.0/0", 8080), accept("0.0.0.0/0", 80), accept("0.0.0.0/0", 81)), compiled(t, "sg-e"), func(h *snapshot.Snapshot) {
			h.Targets[0].ViaGateway = via
		})
		for _, c := range []struct {
			dst    string
			port   uint16
			passes bool
		}{{vip, 80, !via}, {vip, 81, false}, {vipB, 80, false}, {service, 8080, true}, {service, 80, false}} {
			s.bench.forget(t)
			frame := inTunnel(frameBetween(lb.TCP, clientA, 5000, c.dst, c.port, first), gwAddr, hostAddr, uint32(s.rev), 7)
			if c.passes {
				s.want(c.dst, true, "host_in", frame)
			} else if !s.counted(policy.UnknownTarget, "host_in", frame) {
				t.Errorf("by a proxy: %v: %s:%d was not dropped as for no target", via, c.dst, c.port)
			}
		}
	}
}

// An answer to a probe that a system rule let in is judged once the rule is gone.
func TestAnswerToAProbeNoLongerExempt(t *testing.T) {
	s := newSiege(t)
	nobody, none := compiled(t, "sg-2", accept("198.51.100.99/32", 1)), compiled(t, "sg-e")
	force := func(exempt bool) {
		t.Helper()
		s.force(nobody, none, func(h *snapshot.Snapshot) {
			row := &h.Targets[0]
			row.ViaGateway, row.ProbeExempt, row.ProbePort, row.ProbeSource = true, exempt, 9090, netip.MustParseAddr(vip)
		})
	}
	answer := frameBetween(lb.TCP, service, 9090, vip, 5000, second)
	force(true)
	s.want("a probe", true, "host_in", inTunnel(frameBetween(lb.TCP, vip, 5000, service, 9090, first), gwAddr, hostAddr, uint32(s.rev), 7))
	s.want("its answer", true, "host_out", answer)
	force(true)
	s.want("its answer at another revision", true, "host_out", answer)
	force(false)
	if !s.counted(policy.NoMatch, "host_out", answer) {
		t.Error("the answer to a probe outlived the system rule")
	}
}

// A half-open flow gives its tuple to one through the tunnel if it is the
// instance's own; those that others began stand, and with no port left the new one
// is a collision.
func TestHalfOpenFlowsOfATuple(t *testing.T) {
	s := newSiege(t)
	s.force(compiled(t, "sg-2", accept("0.0.0.0/0", 8080)), compiled(t, "sg-e", accept("0.0.0.0/0", 5000)), nil)
	s.want("dialling the client", true, "host_out", outbound(8080, 5000, first))
	s.want("the client, by the VIP", true, "host_in", s.through(5000, first))
	if s.source() != 5000 {
		t.Errorf("the client is known by port %d, want its own", s.source())
	}
	taken := []uint16{5000}
	fill := func() {
		t.Helper()
		s.bench.forget(t)
		for _, port := range taken {
			s.want("a first packet", true, "host_in", inbound(port, 8080, first))
		}
	}
	for range 4 {
		fill()
		s.want("one that is moved", true, "host_in", s.through(5000, first))
		taken = append(taken, s.source())
	}
	fill()
	if !s.counted(policy.TupleCollision, "host_in", s.through(5000, first)) {
		t.Errorf("with ports %v taken, the next was not refused as a collision", taken)
	}
}
