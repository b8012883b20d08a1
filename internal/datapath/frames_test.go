// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"encoding/binary"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"os/exec"
	"slices"
	"testing"

	"github.com/cilium/ebpf"

	"github.com/sallyport/sallyport/internal/lb"
	"github.com/sallyport/sallyport/internal/policy"
)

const (
	tunnelKey = 0xfeedfacecafebeef // of gateway and host in pair's snapshots
	etherIPv4 = 0x0800
	etherARP  = 0x0806
	etherIPv6 = 0x86dd
)

// A reading is what the reference parser makes of one IP packet.
type reading struct {
	src, dst netip.Addr
	proto    lb.Proto
	dstPort  uint16
	fragment bool
	payload  int // where the transport's header begins, from the packet's start
}

// readIPv4 is the reference for bpf/packet.h: what does not parse by it is
// malformed. b may be longer than the packet.
func readIPv4(b []byte) (r reading, ok bool) {
	if len(b) < 20 || b[0]>>4 != 4 {
		return r, false
	}
	header, length := int(b[0]&15)*4, int(binary.BigEndian.Uint16(b[2:]))
	if header < 20 || length < header || length > len(b) {
		return r, false
	}
	r = reading{src: netip.AddrFrom4([4]byte(b[12:])), dst: netip.AddrFrom4([4]byte(b[16:])), proto: lb.Proto(b[9]), payload: header}
	if more, offset := b[6]&0x20 != 0, binary.BigEndian.Uint16(b[6:])&0x1fff; more || offset != 0 {
		r.fragment = true
		return r, true
	}
	return r, r.readTransport(b[header:length], lb.ICMP)
}

// readIPv6 is the same for IPv6.
func readIPv6(b []byte) (r reading, ok bool) {
	if len(b) < 40 || b[0]>>4 != 6 || 40+int(binary.BigEndian.Uint16(b[4:])) > len(b) {
		return r, false
	}
	r = reading{src: netip.AddrFrom16([16]byte(b[8:])), dst: netip.AddrFrom16([16]byte(b[24:])), payload: 40}
	const hopByHop, routing, fragment, destination = 0, 43, 44, 60
	next := b[6]
	b = b[:40+int(binary.BigEndian.Uint16(b[4:]))]
	for n := 0; ; n++ {
		h := b[r.payload:]
		if next != hopByHop && next != routing && next != fragment && next != destination {
			r.proto = lb.Proto(next)
			return r, r.readTransport(h, lb.ICMPv6)
		}
		if n == 8 || len(h) < 8 || next == hopByHop && n > 0 || next == routing && h[3] != 0 {
			return r, false
		}
		size := 8 * (int(h[1]) + 1)
		if next == fragment {
			size = 8
			r.fragment = binary.BigEndian.Uint16(h[2:])&0xfff9 != 0
		}
		if size > len(h) {
			return r, false
		}
		next = h[0]
		r.payload += size
		if r.fragment {
			r.proto = lb.Proto(next)
			return r, true
		}
	}
}

// readTransport reads what stands behind the IP headers.
func (r *reading) readTransport(l4 []byte, icmp lb.Proto) bool {
	switch r.proto {
	case lb.TCP:
		if len(l4) < 20 || int(l4[12]>>4)*4 < 20 || int(l4[12]>>4)*4 > len(l4) {
			return false
		}
	case lb.UDP, icmp:
		if len(l4) < 8 {
			return false
		}
	}
	if r.proto.HasPorts() {
		r.dstPort = binary.BigEndian.Uint16(l4[2:])
	}
	return true
}

// readIP reads what the Ethernet type says.
func readIP(ether uint16, b []byte) (reading, bool) {
	if ether == etherIPv6 {
		return readIPv6(b)
	}
	return readIPv4(b)
}

// passesUnjudged is the reference for the system rules of bpf/nd.h.
func passesUnjudged(r reading, b []byte) bool {
	l4 := b[r.payload:]
	switch {
	case r.fragment:
		return false
	case r.proto == lb.UDP: // DHCPv6
		return r.src.IsLinkLocalUnicast() && r.dst.IsLinkLocalUnicast() && r.dstPort == 546 && binary.BigEndian.Uint16(l4) == 547
	case r.proto != lb.ICMPv6:
		return false
	}
	return l4[0] >= 134 && l4[0] <= 136 && b[7] == 255 || l4[0] == 130 && b[7] == 1
}

// outcome is what the reference says about a frame at a node: it is dropped
// for one of the reasons, or passed on unseen, or neither: then rules judge it.
type outcome struct {
	drop []policy.Reason
	next bool
}

func dropped(reasons ...policy.Reason) outcome { return outcome{drop: reasons} }

// expect is the reference for how a frame is read on a node at own, whose one
// known peer in the tunnel is peer.
func expect(program string, frame []byte, own, peer netip.Addr) outcome {
	ether := binary.BigEndian.Uint16(frame[12:])
	switch {
	case ether == etherIPv6:
		r, ok := readIPv6(frame[14:])
		switch {
		case !ok:
			return dropped(policy.Malformed)
		case program == "gateway" || passesUnjudged(r, frame[14:]):
			return outcome{next: true} // nothing of IPv6 is bound in these snapshots
		}
		return outcome{}
	case program == "gateway" && (ether == 0x8100 || ether == 0x88a8 || ether == 0x9100):
		return outcome{} // TestTags says which
	case ether != etherIPv4 && (program == "gateway" || ether == etherARP):
		return outcome{next: true}
	case ether != etherIPv4:
		return dropped(policy.Unsupported)
	}
	r, ok := readIPv4(frame[14:])
	if !ok {
		return dropped(policy.Malformed)
	}
	if r.proto == lb.UDP && !r.fragment && r.dst == own && r.dstPort == TunnelPort {
		return expectTunnel(r, frame[14:], peer)
	}
	virtual := netip.MustParseAddr(vip)
	switch {
	case r.src == virtual && program == "gateway":
		return dropped(policy.Spoofed)
	case r.src == virtual:
		return dropped(policy.Spoofed, policy.Fragment, policy.NoMatch) // the last: not for the instance at all
	case program == "gateway" && r.dst != virtual:
		return outcome{next: true}
	case program == "gateway" && (ours(r.src) || r.src == own):
		return dropped(policy.Spoofed)
	case program == "gateway" && r.fragment:
		return dropped(policy.Fragment)
	case program == "gateway" && r.proto == lb.ICMP && frame[14+r.payload] == 8:
		return outcome{}
	case program == "gateway" && r.proto == lb.ICMP:
		return dropped(policy.Unsupported, policy.Unrelated, policy.NoGroups, policy.RuleMatched, policy.NoMatch)
	case program == "gateway" && r.proto != lb.TCP && r.proto != lb.UDP:
		return dropped(policy.Unsupported)
	}
	return outcome{}
}

// ours reports whether an address is in the ranges of probes and pools.
func ours(a netip.Addr) bool {
	b := a.As4()
	return b[0] == 100 && (b[1] == 64 || b[1] == 127)
}

// expectTunnel is the reference for bpf/tunnel.h.
func expectTunnel(r reading, b []byte, peer netip.Addr) outcome {
	if r.src != peer {
		return dropped(policy.UnknownGateway)
	}
	if r.payload != 20 || len(b) < tunnelOverhead {
		return dropped(policy.Malformed)
	}
	geneve := b[28:]
	ether := binary.BigEndian.Uint16(geneve[2:])
	if geneve[0] != 6 || ether != etherIPv4 && ether != etherIPv6 || binary.BigEndian.Uint32(geneve[8:]) != 0xff530105 {
		return dropped(policy.Malformed)
	}
	if binary.BigEndian.Uint64(geneve[24:]) != tunnelKey {
		return dropped(policy.UnknownGateway)
	}
	inner, ok := readIP(ether, b[tunnelOverhead:])
	switch {
	case !ok:
		return dropped(policy.Malformed)
	case inner.fragment:
		return dropped(policy.Fragment)
	}
	return outcome{}
}

// inTunnel puts a frame into the tunnel.
func inTunnel(frame []byte, from, to string, revision, target uint32) []byte {
	inner, header := frame[14:], headerOf(netip.MustParseAddr(from))
	f := frameOf(lb.Packet{Proto: lb.UDP, Src: netip.MustParseAddr(from), Dst: netip.MustParseAddr(to), SrcPort: 50000, DstPort: TunnelPort}, 0)
	g := make([]byte, 32)
	g[0] = 6
	copy(g[2:], frame[12:14])
	binary.BigEndian.PutUint32(g[8:], 0xff530105)
	binary.BigEndian.PutUint32(g[12:], revision)
	binary.BigEndian.PutUint32(g[16:], target)
	binary.BigEndian.PutUint64(g[24:], tunnelKey)
	f = append(append(f, g...), inner...)
	if header == 20 {
		binary.BigEndian.PutUint16(f[16:], uint16(len(f)-14))
	} else {
		binary.BigEndian.PutUint16(f[18:], uint16(len(f)-54))
	}
	binary.BigEndian.PutUint16(f[14+header+4:], uint16(len(f)-14-header))
	return f
}

// goodFrames parse; by name. Mutations start from them.
func goodFrames() map[string][]byte {
	packet := func(proto lb.Proto, src, dst string, port uint16) lb.Packet {
		return lb.Packet{Proto: proto, Src: netip.MustParseAddr(src), Dst: netip.MustParseAddr(dst), SrcPort: 40000, DstPort: port}
	}
	syn := frameOf(packet(lb.TCP, clientA, vip, 80), 2)
	withMSS := append(slices.Clone(syn), 2, 4, 5, 0xb4)
	withMSS[14+20+12] = 0x60
	binary.BigEndian.PutUint16(withMSS[16:], 44)
	withOptions := slices.Insert(slices.Clone(syn), 34, 1, 1, 1, 0)
	withOptions[14] = 0x46
	binary.BigEndian.PutUint16(withOptions[16:], 44)
	arp := make([]byte, 42)
	copy(arp[12:], []byte{8, 6, 0, 1, 8, 0, 6, 4, 0, 1})
	fragment := slices.Clone(syn)
	fragment[20] = 0x20
	unreachable := frameOf(packet(lb.ICMP, clientA, service, 0), 0)
	unreachable[34], unreachable[35] = 3, 1
	unreachable = append(unreachable, frameOf(packet(lb.TCP, service, clientA, 80), 2)[14:]...)
	binary.BigEndian.PutUint16(unreachable[16:], uint16(len(unreachable)-14))
	synAck := frameOf(lb.Packet{Proto: lb.TCP, Src: netip.MustParseAddr(service), Dst: netip.MustParseAddr(clientA), SrcPort: 8080, DstPort: 40000}, 0x12)
	all := map[string][]byte{
		"syn to the VIP": syn, "syn with MSS": withMSS, "syn with IP options": withOptions, "fragment": fragment, "ARP": arp,
		"udp to the VIP": frameOf(packet(lb.UDP, clientA, vip, 80), 0), "ack to the service": frameOf(packet(lb.TCP, clientA, service, 8080), 0x10),
		"udp to the service": frameOf(packet(lb.UDP, clientA, service, 53), 0), "ping": frameOf(packet(lb.ICMP, clientA, service, 0), 0),
		"unreachable": unreachable, "gre": frameOf(packet(lb.GRE, clientA, service, 0), 0),
		"tunnel to the host":         inTunnel(syn, gwAddr, hostAddr, 1, 7),
		"tunnel to the host, MSS":    inTunnel(withMSS, gwAddr, hostAddr, 1, 7),
		"tunnel to the host, proxy":  inTunnel(frameOf(packet(lb.TCP, clientA, service, 8080), 2), gwAddr, hostAddr, 1, 7),
		"tunnel to the host, broken": inTunnel(fragment, gwAddr, hostAddr, 1, 7),
		"tunnel to the gateway":      inTunnel(synAck, hostAddr, gwAddr, 1, 7),
	}
	maps.Copy(all, goodFrames6())
	return all
}

// mutate spoils a frame a little: flipped bytes, wrong lengths, a cut tail, or
// nothing but its first bytes kept.
func mutate(d *rand.Rand, good []byte) []byte {
	f := slices.Clone(good)
	for range d.IntN(4) {
		switch d.IntN(6) {
		case 0, 1:
			f[12+d.IntN(len(f)-12)] = byte(d.IntN(256))
		case 2:
			f[12+d.IntN(len(f)-12)] ^= 1 << d.IntN(8)
		case 3: // a length: total, header, or the transport's
			at := []int{16, 17, 14, 46, 38, 39, 42, 74, 76, 77, 106, 18, 19, 20, 54, 55, 66}[d.IntN(17)]
			if at < len(f) {
				f[at] += byte(d.IntN(9) - 4)
			}
		case 4:
			f = f[:max(15, d.IntN(len(f)+1))]
		case 5:
			f = append(f, make([]byte, d.IntN(20))...)
		}
	}
	if d.IntN(50) == 0 {
		for i := 14; i < len(f); i++ {
			f[i] = byte(d.IntN(256))
		}
	}
	return f
}

// A parserBench holds both nodes' programs, rules that admit some, and counts
// of what came out.
type parserBench struct {
	nodes map[string]*bench // by program
	out   []byte
	count map[string]int
}

// committed are the objects that are built in.
func committed(lb.NodeRole) func() (*ebpf.CollectionSpec, error) { return nil }

func newParserBench(t testing.TB, objects func(lb.NodeRole) func() (*ebpf.CollectionSpec, error)) *parserBench {
	t.Helper()
	w := newQuiet(t)
	b := &parserBench{out: make([]byte, 1<<16), count: map[string]int{}, nodes: map[string]*bench{
		"gateway": w.benchOf(lb.RoleGateway, objects(lb.RoleGateway)), "host_in": w.benchOf(lb.RoleHost, objects(lb.RoleHost))}}
	gw, host := pair(t, 1, compiled(t, "sg-1", accept("0.0.0.0/0", 80)), compiled(t, "sg-2", accept("0.0.0.0/0", 8080)))
	b.nodes["gateway"].stage(t, gw)
	b.nodes["host_in"].stage(t, host)
	return b
}

// runnable reports whether the kernel's test run takes the frame: it refuses
// those without a whole network header (a wire's receive path drops them too).
// Truncated headers are tested inside the tunnel. It takes no more than a page.
func runnable(frame []byte) bool {
	if len(frame) < 15 || len(frame) > 2000 {
		return false
	}
	switch binary.BigEndian.Uint16(frame[12:]) {
	case etherIPv4:
		return len(frame) >= 14+20
	case 0x86dd:
		return len(frame) >= 14+40
	}
	return true
}

// check runs a frame through both nodes' programs and gives the first
// disagreement with the reference parser.
func (b *parserBench) check(frame []byte) error {
	own := map[string]string{"gateway": gwAddr, "host_in": hostAddr}
	peer := map[string]string{"gateway": hostAddr, "host_in": gwAddr}
	for _, program := range []string{"gateway", "host_in"} {
		want := expect(program, frame, netip.MustParseAddr(own[program]), netip.MustParseAddr(peer[program]))
		if err := b.compare(program, program, frame, want, actShot); err != nil {
			return err
		}
		if program == "gateway" {
			if err := b.compare("gateway_xdp", program, frame, want, xdpDrop); err != nil {
				return err
			}
		}
	}
	return nil
}

// compare runs one program of a node. The XDP program may leave any frame to
// the other one, and has to leave what does not parse.
func (b *parserBench) compare(program, node string, frame []byte, want outcome, drops uint32) error {
	answer, err := b.nodes[node].run(program, frame, b.out)
	if err != nil {
		return fmt.Errorf("%s: %w", program, err)
	}
	if program == "gateway_xdp" && answer == xdpPass {
		b.count["left to TC"]++
		return nil
	}
	if answer != drops {
		if want.drop != nil || want.next && program == "gateway_xdp" {
			return fmt.Errorf("%s: answer %#x, the reference says %+v", program, answer, want)
		}
		b.count["let through"]++
		return nil
	}
	e, err := b.nodes[node].next()
	for err == nil && e.Verdict.Action == lb.Accept {
		e, err = b.nodes[node].next()
	}
	if err != nil {
		return fmt.Errorf("%s: a drop that nobody was told of: %w", program, err)
	}
	reason := e.Verdict.Reason
	if want.next || want.drop != nil && !slices.Contains(want.drop, reason) || want.drop == nil && reason == policy.Malformed {
		return fmt.Errorf("%s: dropped as %v, the reference says %+v", program, reason, want)
	}
	b.count[reason.String()]++
	return nil
}

// The parser in the programs and a reference in Go read the same frames alike:
// good ones, spoiled ones and noise. Nothing that does not parse gets past.
func TestFrames(t *testing.T) {
	b := newParserBench(t, committed)
	good := goodFrames()
	names := slices.Sorted(maps.Keys(good))
	for _, name := range names {
		if err := b.check(good[name]); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	d := rand.New(rand.NewPCG(19, 23))
	frames := 100_000
	if mutating() {
		frames = 10_000
	}
	for i := range frames {
		f := mutate(d, good[names[i%len(names)]])
		if !runnable(f) {
			b.count["not runnable"]++
			continue
		}
		if err := b.check(f); err != nil {
			t.Fatalf("frame %d, %x: %v", i, f, err)
		}
	}
	t.Logf("%d frames through 3 programs: %v", frames, b.count)
	if b.count["malformed"] < frames/10 || b.count["let through"] < frames/10 {
		t.Error("too few of a kind: the mutations miss their mark")
	}
}

// Checks taken out of the parser are missed.
func TestFramesCatchPlantedFaults(t *testing.T) {
	if _, err := exec.LookPath("clang-19"); err != nil {
		t.Skip("needs clang-19: compiles the programs with faults planted in them")
	}
	frames := goodFrames()
	names := slices.Sorted(maps.Keys(frames))
	for _, f := range []fault{
		{"total length past the end", "packet.h", " || p->l3 + ntohs(ip.tot_len) > skb->len", ""},
		{"last fragments taken for whole", "packet.h", "htons(0x3fff)", "htons(0x2000)"},
		{"TCP header longer than the packet", "packet.h", " || p->tcp_header > payload", ""},
	} {
		t.Run(f.name, func(t *testing.T) {
			b := newParserBench(t, func(role lb.NodeRole) func() (*ebpf.CollectionSpec, error) { return f.objects(t, role) })
			d := rand.New(rand.NewPCG(29, 31))
			for i := range 50_000 {
				if frame := mutate(d, frames[names[i%len(names)]]); runnable(frame) {
					if err := b.check(frame); err != nil {
						t.Logf("frame %d: %v", i, err)
						return
					}
				}
			}
			t.Error("not caught")
		})
	}
}

func FuzzFrames(f *testing.F) {
	b := newParserBench(f, committed)
	for _, frame := range goodFrames() {
		f.Add(frame)
	}
	f.Fuzz(func(t *testing.T, frame []byte) {
		if !runnable(frame) {
			t.Skip("the kernel's test run takes no such frame")
		}
		if err := b.check(frame); err != nil {
			t.Errorf("%x: %v", frame, err)
		}
	})
}
