// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"slices"
	"testing"

	"github.com/sallyport/sallyport/internal/lb"
	"github.com/sallyport/sallyport/internal/policy"
	"github.com/sallyport/sallyport/internal/snapshot"
)

// newJumbo is a quiet world whose underlay has room for all that clients send.
func newJumbo(t *testing.T) *world {
	t.Helper()
	w := newQuiet(t)
	w.in(quietName(), "ip", "link", "set", "eth1", "mtu", "9000")
	w.in(quietName(), "ip", "link", "set", "eth0", "mtu", "9000")
	return w
}

// datagramPair is pair for a UDP listener 80 → 8080 of one family.
func datagramPair(t *testing.T, rev lb.Revision, e ends, gate1, gate2 *policy.Compiled) (gw, host *snapshot.Snapshot) {
	t.Helper()
	gw, host = pair(t, rev, gate1, gate2)
	gw.Listeners[0].Proto = lb.UDP
	for _, s := range []*snapshot.Snapshot{gw, host} {
		s.Targets[0].Proto = lb.UDP
	}
	e.in(gw, host)
	return gw, host
}

// udpOf is a datagram of size bytes with a right checksum.
func udpOf(src, dst netip.AddrPort, size int) []byte {
	udp := make([]byte, 8+size)
	binary.BigEndian.PutUint16(udp, src.Port())
	binary.BigEndian.PutUint16(udp[2:], dst.Port())
	binary.BigEndian.PutUint16(udp[4:], uint16(len(udp)))
	for i := range size {
		udp[8+i] = byte(i * 7)
	}
	if src.Addr().Is6() {
		return ipv6Frame(lb.UDP, src.Addr(), dst.Addr(), udp, 6)
	}
	f := append(frameOf(lb.Packet{Proto: lb.GRE, Src: src.Addr(), Dst: dst.Addr()}, 0)[:34], udp...)
	f[23] = byte(lb.UDP)
	binary.BigEndian.PutUint16(f[16:], uint16(len(f)-14))
	binary.BigEndian.PutUint16(f[40:], ^sum16(pseudo4(f), f[34:]))
	f[24], f[25] = 0, 0
	binary.BigEndian.PutUint16(f[24:], ^sum16(0, f[14:34]))
	return f
}

// pseudo4 is the sum of the pseudo header of a transport over IPv4.
func pseudo4(f []byte) uint32 {
	return uint32(sum16(0, f[26:34])) + uint32(f[23]) + uint32(len(f)-34)
}

// piece is the fragment of a frame without options that has the bytes from
// offset of its payload on, size of them at most.
func piece(frame []byte, id uint16, offset, size int) []byte {
	header := 14 + 20
	if binary.BigEndian.Uint16(frame[12:]) == etherIPv6 {
		header = 14 + 40
	}
	more := uint16(1)
	if header+offset+size >= len(frame) {
		size, more = len(frame)-header-offset, 0
	}
	f := cutOf(append(slices.Clone(frame[:header]), frame[header+offset:header+offset+size]...), uint16(offset/8), more, -1)
	if header == 54 {
		binary.BigEndian.PutUint16(f[60:], id)
		return f
	}
	binary.BigEndian.PutUint16(f[18:], id)
	f[24], f[25] = 0, 0
	binary.BigEndian.PutUint16(f[24:], ^sum16(0, f[14:34]))
	return f
}

// joined is the whole packet of fragments in their order.
func joined(pieces ...[]byte) []byte {
	whole := slices.Clone(pieces[0][:34])
	header := 34
	if binary.BigEndian.Uint16(whole[12:]) == etherIPv6 {
		whole, header = slices.Clone(pieces[0][:54]), 62
		whole[20] = pieces[0][54]
	}
	for _, p := range pieces {
		whole = append(whole, p[header:]...)
	}
	if header == 62 {
		binary.BigEndian.PutUint16(whole[18:], uint16(len(whole)-54))
		return whole
	}
	whole[18], whole[19], whole[20], whole[21], whole[24], whole[25] = 0, 0, 0, 0, 0, 0
	binary.BigEndian.PutUint16(whole[16:], uint16(len(whole)-14))
	binary.BigEndian.PutUint16(whole[24:], ^sum16(0, whole[14:34]))
	return whole
}

// inPieces runs a datagram of 300 bytes in three fragments and gives what comes
// out of them together, as long as they keep their length.
func (b *bench) inPieces(t *testing.T, program string, id uint16, frame []byte, wrap func([]byte) []byte, want uint32) []byte {
	t.Helper()
	var pieces [][]byte
	for _, at := range [][2]int{{0, 104}, {104, 104}, {208, 104}} {
		f := piece(frame, id, at[0], at[1])
		out := make([]byte, 2048)
		answer, err := b.run(program, wrap(f), out)
		if err != nil || answer != want {
			t.Fatalf("%s: fragment at %d: answer %#x, %v; %+v", program, at[0], answer, err, (&siege{b, t, nil}).lastTold().Verdict)
		}
		pieces = append(pieces, out[:len(f)])
	}
	return joined(pieces...)
}

func bare(f []byte) []byte { return f }

// A jumbo is both nodes where fragments pass.
type jumbo struct {
	gateway, node *bench
	rev           lb.Revision
}

// Where the tunnel has room for all that clients send, fragments pass as their
// first one does.
func TestFragmentsPass(t *testing.T) {
	w := newJumbo(t)
	j := &jumbo{gateway: w.benchOf(lb.RoleGateway, nil), node: w.benchOf(lb.RoleHost, nil)}
	for family, e := range families() {
		t.Run(family, func(t *testing.T) { j.follow(t, e) })
		t.Run(family+" gateway", func(t *testing.T) { j.strays(t, e, "gateway", netip.AddrPortFrom(e.vip, 80)) })
		t.Run(family+" host_in", func(t *testing.T) { j.strays(t, e, "host_in", netip.AddrPortFrom(e.service, 8080)) })
	}
}

// stage puts the next revision in force at both.
func (j *jumbo) stage(t *testing.T, e ends, gate1, gate2 *policy.Compiled, returns bool) {
	t.Helper()
	j.rev++
	gw, host := datagramPair(t, j.rev, e, gate1, gate2)
	for _, s := range []*snapshot.Snapshot{gw, host} {
		s.Targets[0].ReturnVia = returns
	}
	j.gateway.stage(t, gw)
	j.node.stage(t, host)
}

// follow sends datagrams in pieces through both gates and back: translated so
// that together they are the datagram.
func (j *jumbo) follow(t *testing.T, e ends) {
	j.stage(t, e, toAll(t, "sg-1"), toAll(t, "sg-2"), false)
	gateway, node := j.gateway, j.node
	client, front := netip.AddrPortFrom(e.client, 40000), netip.AddrPortFrom(e.vip, 80)
	backend, other := netip.AddrPortFrom(e.service, 8080), netip.AddrPortFrom(e.router, 53)
	through := func(f []byte) []byte { return inTunnel(f, gwAddr, hostAddr, uint32(j.rev), 7) }
	same := func(what string, got, want []byte) {
		t.Helper()
		if !bytes.Equal(got[14:], want[14:]) {
			t.Errorf("%s:\n%x, want\n%x", what, got, want)
		}
	}
	asked := udpOf(client, front, 300)
	for _, at := range []int{0, 104, 208} {
		f, out := piece(asked, 1, at, 104), make([]byte, 2048)
		if answer, err := gateway.run("gateway", f, out); err != nil || answer != actRedirect || !bytes.Contains(out, f[14:]) {
			t.Fatalf("gateway: fragment at %d: answer %#x, %v, %x", at, answer, err, out[:200])
		}
	}
	same("what the instance gets", node.inPieces(t, "host_in", 1, asked, through, actNext), udpOf(client, backend, 300))
	same("what the client gets", node.inPieces(t, "host_out", 2, udpOf(backend, client, 300), bare, actNext), udpOf(front, client, 300))
	direct := udpOf(other, backend, 300)
	same("what comes in directly", node.inPieces(t, "host_in", 3, direct, bare, actNext), direct)
	out := udpOf(backend, other, 300)
	same("its answer", node.inPieces(t, "host_out", 4, out, bare, actNext), out)
	j.stage(t, e, toAll(t, "sg-1"), toAll(t, "sg-2"), true)
	back := func(f []byte) []byte { return inTunnel(f, hostAddr, gwAddr, uint32(j.rev), 7) }
	answer := udpOf(front, client, 300)
	same("what returns by the gateway", gateway.inPieces(t, "gateway", 5, answer, back, actRedirect), answer)
}

// strays drops what is no fragment of a packet that was let in.
func (j *jumbo) strays(t *testing.T, e ends, program string, to netip.AddrPort) {
	b := map[string]*bench{"gateway": j.gateway, "host_in": j.node}[program]
	admit := func(port uint16) {
		t.Helper()
		only := compiled(t, "sg-1", policy.Rule{ID: "pol-1", Pos: 1, Action: lb.Accept, Proto: lb.UDP, Ports: []lb.PortRange{{First: port, Last: port}},
			Peers: []netip.Prefix{netip.PrefixFrom(e.client, e.client.BitLen())}})
		j.stage(t, e, only, only, false)
	}
	admit(to.Port())
	run := func(f []byte) uint32 {
		t.Helper()
		answer, err := b.run(program, f, make([]byte, 2048))
		if err != nil {
			t.Fatal(err)
		}
		return answer
	}
	passes := func(f []byte) {
		t.Helper()
		if run(f) == actShot {
			t.Fatalf("a fragment that may pass is dropped")
		}
	}
	drops := func(what string, f []byte, why policy.Reason) {
		t.Helper()
		if answer := run(f); answer != actShot {
			t.Errorf("%s: answer %#x", what, answer)
			return
		}
		b.wantDrop(t, what, why)
	}
	client := netip.AddrPortFrom(e.client, 40000)
	good, bad := udpOf(client, to, 300), udpOf(client, netip.AddrPortFrom(to.Addr(), to.Port()+1), 300)
	refused := policy.NoMatch
	if program == "gateway" {
		refused = policy.NoListener
	}
	drops("before its first", piece(good, 21, 104, 104), policy.Fragment)
	passes(piece(good, 21, 0, 104))
	passes(piece(good, 21, 104, 104))
	drops("of another packet", piece(good, 22, 104, 104), policy.Fragment)
	drops("over the first one's header", piece(good, 21, 8, 104), policy.Fragment)
	drops("over the first one's end", piece(good, 21, 96, 104), policy.Fragment)
	other := piece(good, 21, 104, 104)
	if e.vip.Is6() {
		other[54] = byte(lb.TCP)
	} else {
		other[23] = byte(lb.TCP)
	}
	drops("of another protocol", other, policy.Fragment)
	drops("without a whole header", piece(good, 23, 0, 4), policy.Fragment)
	drops("after a first without a whole header", piece(good, 23, 8, 104), policy.Fragment)
	drops("the first of a refused one", piece(bad, 24, 0, 104), refused)
	drops("after a refused first", piece(bad, 24, 104, 104), policy.Fragment)
	passes(piece(good, 25, 0, 104))
	drops("a refused first with a name that was let in", piece(bad, 25, 0, 104), refused)
	drops("after both", piece(bad, 25, 104, 104), policy.Fragment)
	ping := icmpOf(e.client, e.service, unreachable4, unreachable6, 1400, make([]byte, 300))
	if program == "gateway" {
		ping = icmpOf(e.client, e.vip, echo4, echo6, 0x00070001, make([]byte, 300))
	}
	drops("of ICMP that is needed whole", piece(ping, 26, 0, 104), policy.Fragment)
	if e.vip.Is6() {
		hidden := piece(good, 27, 0, 104)
		hidden[54], hidden[62], hidden[63] = 60, byte(lb.UDP), 0
		drops("a first whose ports are behind another header", hidden, policy.Fragment)
	}
	passes(piece(good, 28, 0, 104))
	b.ageFragments(t, 4)
	passes(piece(good, 28, 104, 104))
	b.ageFragments(t, 1)
	drops("long after its first", piece(good, 28, 208, 104), policy.Fragment)
	// Later ones are judged as their first would be now.
	passes(piece(good, 29, 0, 104))
	admit(to.Port() + 7)
	drops("after a change of the rules", piece(good, 29, 104, 104), policy.NoMatch)
	admit(to.Port())
}

// ageFragments lets a second go by, or more, for all first fragments known.
func (b *bench) ageFragments(t *testing.T, units uint32) {
	t.Helper()
	var key, value []byte
	for it := b.maps["fragments"].Iterate(); it.Next(&key, &value); {
		binary.NativeEndian.PutUint32(value, binary.NativeEndian.Uint32(value)-units)
		if err := b.maps["fragments"].Put(key, value); err != nil {
			t.Fatal(err)
		}
	}
}

// Where packets of clients' full size do not fit into the tunnel, fragments do
// not pass; where they do, a fragment that does not fit is dropped too.
func TestFragmentsThatDoNotFit(t *testing.T) {
	w := newQuiet(t)
	e := families()["IPv4"]
	var b *bench
	for _, c := range []struct {
		mtu  string
		size int
		want policy.Reason // 0: passes
	}{{"1559", 104, policy.Fragment}, {"1560", 104, 0}, {"", 1480, 0}, {"", 1488, policy.Fragment}} {
		if c.mtu != "" {
			w.in(quietName(), "ip", "link", "set", "eth0", "mtu", c.mtu)
			b = w.benchOf(lb.RoleGateway, nil)
			gw, _ := datagramPair(t, 1, e, toAll(t, "sg-1"), toAll(t, "sg-2"))
			b.stage(t, gw)
		}
		f := piece(udpOf(netip.AddrPortFrom(e.client, 40000), netip.AddrPortFrom(e.vip, 80), 3000), 1, 0, c.size)
		answer, err := b.run("gateway", f, make([]byte, 2048))
		if err != nil {
			t.Fatal(err)
		}
		if c.want == 0 && answer != actRedirect {
			t.Errorf("MTU %s, %d bytes: answer %#x", c.mtu, c.size, answer)
		} else if c.want != 0 {
			b.wantDrop(t, "MTU "+c.mtu, c.want)
		}
	}
}
