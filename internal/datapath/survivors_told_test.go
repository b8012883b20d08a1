// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"testing"

	"github.com/sallyport/sallyport/internal/lb"
	"github.com/sallyport/sallyport/internal/policy"
	"github.com/sallyport/sallyport/internal/snapshot"
)

// An answer that rules no longer admit is told of by the client's own port,
// whatever the port by which the instance knows it.
func TestRefusedAnswersAreToldByTheClientsPort(t *testing.T) {
	s := newSiege(t)
	open, shut, out := compiled(t, "sg-2", accept("0.0.0.0/0", 8080)), compiled(t, "sg-2", accept(clientB+"/32", 8080)), compiled(t, "sg-out")
	direct := func(port uint16) func(byte) []byte {
		return func(flags byte) []byte { return inbound(port, 8080, flags) }
	}
	tunnelled := func(port uint16) func(byte) []byte {
		return func(flags byte) []byte { return s.through(port, flags) }
	}
	for _, c := range []struct {
		name  string
		flows []func(flags byte) []byte // the answer is one of the last's
		port  uint16
		moved bool
	}{
		{"through the tunnel", []func(byte) []byte{tunnelled(5001)}, 5001, false},
		{"directly", []func(byte) []byte{direct(5002)}, 5002, false},
		{"through the tunnel beside a direct one", []func(byte) []byte{direct(5003), tunnelled(5003)}, 5003, true},
		{"directly beside one through the tunnel", []func(byte) []byte{tunnelled(5004), direct(5004)}, 5004, true},
	} {
		s.force(open, out, nil)
		s.bench.forget(t)
		var known uint16
		for _, frame := range c.flows {
			s.want(c.name, true, "host_in", frame(first))
			known = s.source()
			s.want(c.name+": the answer", true, "host_out", outbound(8080, known, second))
			s.want(c.name+": the third", true, "host_in", frame(later))
		}
		if (known != c.port) != c.moved {
			t.Fatalf("%s: the instance knows the client by port %d", c.name, known)
		}
		s.force(shut, out, nil)
		for _, want := range []policy.Reason{policy.NoMatch, policy.FlowRefused} {
			s.lastTold()
			if c.name[0] == 'd' && want == policy.FlowRefused {
				continue
			}
			if !s.counted(want, "host_out", outbound(8080, known, later)) {
				t.Errorf("%s: the answer was not dropped as %v", c.name, want)
			}
			if e := s.lastTold(); e.Verdict.Reason != want || e.Dst.Port() != c.port {
				t.Errorf("%s: told of %+v, want %v by port %d", c.name, e, want, c.port)
			}
		}
	}
}

// A direct flow that other rules let be is at their revision from its next packet
// on: what comes after it does not look at them again.
func TestHeldFlowMovesToTheRevision(t *testing.T) {
	s := newSiege(t)
	open, none := compiled(t, "sg-2", accept("0.0.0.0/0", 8080)), compiled(t, "sg-e")
	at := func() uint32 {
		t.Helper()
		for _, bucket := range s.hostFlows {
			for _, f := range bucket.Slot {
				if f.RemotePort == 5000 && f.State != 0 {
					return f.Revision
				}
			}
		}
		return 0
	}
	s.force(open, none, nil)
	s.want("the first packet", true, "host_in", inbound(5000, 8080, first))
	s.want("its answer", true, "host_out", outbound(8080, 5000, second))
	for _, c := range []struct {
		program string
		frame   []byte
	}{{"host_in", inbound(5000, 8080, later)}, {"host_out", outbound(8080, 5000, later)}} {
		s.force(open, none, nil)
		s.want("a packet at another revision", true, c.program, c.frame)
		if got := at(); got != uint32(s.rev) {
			t.Errorf("%s: the flow is at revision %d, want %d", c.program, got, s.rev)
		}
	}
}

// A gateway's flow that somebody is writing is as if it were not there: half of
// it may be another's.
func TestFlowUnderTheWriterIsNone(t *testing.T) {
	b := newQuiet(t).benchOf(lb.RoleGateway, nil)
	s := &siege{b, t, make([]byte, 2048)}
	gw, _ := pair(t, 1, nil, compiled(t, "sg-2"))
	b.stage(t, gw)
	established := func(flags byte) bool {
		t.Helper()
		was := reason(t, s.Datapath, policy.Established)
		s.want("a packet", true, "gateway", frameBetween(lb.TCP, clientA, 4000, vip, 80, flags))
		return reason(t, s.Datapath, policy.Established) != was
	}
	seq := func(add uint32) {
		t.Helper()
		for i := range b.gatewayFlows {
			for j := range b.gatewayFlows[i].Slot {
				if f := &b.gatewayFlows[i].Slot[j]; f.ClientPort == 4000 {
					f.Seq += add
					return
				}
			}
		}
		t.Fatal("no flow")
	}
	if established(first) || !established(later) {
		t.Error("a flow is not known from its first packet on")
	}
	seq(1)
	if established(later) {
		t.Error("a flow was read while somebody wrote it")
	}
	seq(1)
	if !established(later) {
		t.Error("a flow is not known once it is written")
	}
}

// An answer goes back through the tunnel if its flow came from the gateway's own
// sockets, or clients are to be answered there, and else straight to the client.
func TestAnswersLeaveByTheirWay(t *testing.T) {
	s := newSiege(t)
	for i, c := range []struct {
		name      string
		dst       string
		port      uint16
		via, back bool
		want      uint32
	}{
		{"to a client", vip, 80, false, false, actNext},
		{"to a client, by the gateway", vip, 80, false, true, actRedirect},
		{"to the gateway's proxy", service, 8080, true, false, actRedirect},
	} {
		s.force(compiled(t, "sg-2", accept("0.0.0.0/0", 8080)), compiled(t, "sg-e"), func(h *snapshot.Snapshot) {
			h.Targets[0].ViaGateway, h.Targets[0].ReturnVia = c.via, c.back
		})
		port := uint16(5000 + i)
		s.want(c.name+": the first packet", true, "host_in", inTunnel(frameBetween(lb.TCP, clientA, port, c.dst, c.port, first), gwAddr, hostAddr, uint32(s.rev), 7))
		if answer, err := s.run("host_out", outbound(8080, port, second), s.out); err != nil || answer != c.want {
			t.Errorf("%s: the answer's is %#x, %v, want %#x", c.name, answer, err, c.want)
		}
	}
}

// A client's port that comes by the VIP too, and directly finds every port taken
// that it could be moved to, is refused directly: it would be answered as another.
func TestDirectFlowWithoutAPortIsACollision(t *testing.T) {
	s := newSiege(t)
	s.force(compiled(t, "sg-2", accept("0.0.0.0/0", 8080)), compiled(t, "sg-e"), nil)
	begin := func(port uint16, frame func(port uint16, flags byte) []byte) {
		t.Helper()
		s.want("a connection", true, "host_in", frame(port, first))
		s.want("its answer", true, "host_out", outbound(8080, port, second))
		s.want("its third", true, "host_in", frame(port, later))
	}
	var taken []uint16
	fill := func() {
		t.Helper()
		s.bench.forget(t)
		begin(5000, s.through)
		for _, port := range taken {
			begin(port, func(port uint16, flags byte) []byte { return inbound(port, 8080, flags) })
		}
	}
	for range 4 {
		fill()
		s.want("a flow that is moved", true, "host_in", inbound(5000, 8080, first))
		if taken = append(taken, s.source()); s.source() == 5000 {
			t.Fatal("a flow has the tuple of another")
		}
	}
	fill()
	if !s.counted(policy.TupleCollision, "host_in", inbound(5000, 8080, first)) {
		t.Errorf("with ports %v taken the fifth was not refused as a collision", taken)
	}
}
