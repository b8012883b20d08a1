// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"net/netip"
	"testing"

	"github.com/sallyport/sallyport/internal/lb"
	"github.com/sallyport/sallyport/internal/snapshot"
)

// A flow that came through the tunnel takes on what its next packet brings: such a
// packet is not only counted.
func TestFlowTakesOnWhatItsPacketBrings(t *testing.T) {
	const (
		half, open, closing, refused      = 1, 2, 3, 4
		viaGateway, vouched, endedIn      = 2, 4, 8
		returned, answered           byte = 32, 128
	)
	s := newSiege(t)
	proxied := func(h *snapshot.Snapshot) {
		to := &h.Targets[0]
		to.ViaGateway, to.ProbeExempt, to.ProbeSource, to.ProbePort = true, true, netip.MustParseAddr(clientA), 8080
	}
	for i, c := range []struct {
		name  string
		to    func(*snapshot.Snapshot)
		was   func(*HostHostFlow)
		flags byte // of the packet
		is    func(is, was HostHostFlow) bool
	}{
		{"the revision that judged it", nil, func(f *HostHostFlow) { f.Revision-- }, later, func(is, was HostHostFlow) bool { return is.Revision == was.Revision+1 }},
		{"its gateway", nil, func(f *HostHostFlow) { f.Gateway += 7 }, later, func(is, was HostHostFlow) bool { return is.Gateway == was.Gateway-7 }},
		{"where its gateway's row is", nil, func(f *HostHostFlow) { f.GatewayRow += 7 }, later, func(is, was HostHostFlow) bool { return is.GatewayRow == was.GatewayRow-7 }},
		{"that answers leave directly", nil, func(f *HostHostFlow) { f.Flags |= returned }, later, func(is, _ HostHostFlow) bool { return is.Flags&returned == 0 }},
		{"that rules judge it", nil, func(f *HostHostFlow) { f.Flags |= vouched }, later, func(is, _ HostHostFlow) bool { return is.Flags&vouched == 0 }},
		{"that none judges it", func(h *snapshot.Snapshot) { h.Targets[0].PassToTarget = true }, func(f *HostHostFlow) { f.Flags &^= vouched }, later,
			func(is, _ HostHostFlow) bool { return is.Flags&vouched != 0 }},
		{"that it is a probe", proxied, func(f *HostHostFlow) { f.Flags &^= vouched }, later, func(is, _ HostHostFlow) bool { return is.Flags&(viaGateway|vouched) == viaGateway|vouched }},
		{"that both have spoken", nil, func(f *HostHostFlow) { f.State, f.Flags = half, f.Flags|answered }, later, func(is, _ HostHostFlow) bool { return is.State == open }},
		{"that it is let in again", nil, func(f *HostHostFlow) { f.State = refused }, later, func(is, _ HostHostFlow) bool { return is.State == open }},
		{"its client's end", nil, func(*HostHostFlow) {}, 0x11, func(is, _ HostHostFlow) bool { return is.Flags&endedIn != 0 && is.State == open }},
		{"its reset", nil, func(*HostHostFlow) {}, reset, func(is, _ HostHostFlow) bool { return is.State == closing }},
	} {
		s.force(compiled(t, "sg-2", accept("0.0.0.0/0", 8080)), compiled(t, "sg-e"), c.to)
		port, dst, dport := uint16(5000+i), vip, uint16(80)
		if c.name == "that it is a probe" {
			dst, dport = service, 8080
		}
		in := func(flags byte) []byte {
			return inTunnel(frameBetween(lb.TCP, clientA, port, dst, dport, flags), gwAddr, hostAddr, uint32(s.rev), 7)
		}
		s.want(c.name+": the first packet", true, "host_in", in(first))
		s.want(c.name+": its answer", true, "host_out", outbound(8080, port, second))
		s.want(c.name+": its third", true, "host_in", in(later))
		at, j := s.slotOf(port)
		f := &s.hostFlows[at].Slot[j]
		c.was(f)
		was := *f
		s.want(c.name+": more", true, "host_in", in(c.flags))
		if !c.is(*f, was) {
			t.Errorf("%s: the flow was %+v, and is %+v", c.name, was, *f)
		}
	}
}

// A refused flow of datagrams is judged again, and opened only by an answer.
func TestRefusedDatagramsAreJudgedAgain(t *testing.T) {
	s := newSiege(t)
	rule := accept("0.0.0.0/0", 8080)
	rule.Proto = lb.UDP
	s.force(compiled(t, "sg-2", rule), compiled(t, "sg-e"), func(h *snapshot.Snapshot) { h.Targets[0].Proto = lb.UDP })
	in := inTunnel(frameBetween(lb.UDP, clientA, 5000, vip, 80, 0), gwAddr, hostAddr, uint32(s.rev), 7)
	s.want("a datagram", true, "host_in", in)
	s.want("its answer", true, "host_out", frameBetween(lb.UDP, service, 8080, clientA, 5000, 0))
	at, j := s.slotOf(5000)
	f := &s.hostFlows[at].Slot[j]
	const answered = 128
	for _, c := range []struct{ state, flags, want uint8 }{{1, 0, 1}, {1, answered, 2}, {2, answered, 2}, {4, answered, 1}, {1, 0, 1}} {
		f.State, f.Flags = c.state, f.Flags&^answered|c.flags
		s.want("one more", true, "host_in", in)
		if f.State != c.want || c.state == 4 && f.Flags&answered != 0 {
			t.Errorf("after a datagram of a flow in state %d it is in %d with flags %d, want %d", c.state, f.State, f.Flags, c.want)
		}
	}
}
