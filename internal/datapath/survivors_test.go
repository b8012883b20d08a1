// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/cilium/ebpf"

	"github.com/sallyport/sallyport/internal/lb"
	"github.com/sallyport/sallyport/internal/policy"
	"github.com/sallyport/sallyport/internal/snapshot"
)

// Tests for faults that others let live, see TestMutants.

// lowered is the reference for bpf/mss.h: a SYN's options with the first maximum
// segment size at most that big. Ten options are looked at.
func lowered(options []byte, most uint16) []byte {
	out := slices.Clone(options)
	for at, n := 0, 0; n < 10 && at+4 <= len(out); n++ {
		kind, length := out[at], int(out[at+1])
		switch {
		case kind == 0:
			return out
		case kind == 1:
			at++
			continue
		case kind == 2 && length == 4:
			if binary.BigEndian.Uint16(out[at+2:]) > most {
				binary.BigEndian.PutUint16(out[at+2:], most)
			}
			return out
		case length < 2:
			return out
		}
		at += length
	}
	return out
}

// A SYN that goes into the tunnel asks for no greater segments than fit there,
// wherever that stands among its options. Nothing else of it is changed, and its
// checksum stays right.
func TestSegmentsFitTheTunnel(t *testing.T) {
	w := newQuiet(t)
	b := w.benchOf(lb.RoleGateway, nil)
	type segment struct {
		flags         byte
		options, data []byte
	}
	segments := []segment{
		{first, []byte{2, 4, 5, 180}, nil},                                     // the greatest of an Ethernet
		{second, []byte{2, 4, 255, 255}, nil},                                  // an answer
		{first, []byte{2, 4, 5, 120}, nil},                                     // what fits over IPv4: 1,400
		{first, []byte{2, 4, 5, 121}, nil},                                     // one more
		{first, []byte{2, 4, 5, 100}, nil},                                     // what fits over IPv6: 1,380
		{first, []byte{2, 4, 0, 200}, nil},                                     // a small one
		{first, []byte{1, 2, 4, 5, 180, 1, 1, 0}, nil},                         // at an odd place
		{first, []byte{4, 2, 2, 4, 5, 180, 1, 1}, nil},                         // behind an option of two bytes
		{first, []byte{1, 1, 1, 1}, []byte{2, 4, 5, 180}},                      // data that looks like one
		{first, []byte{253, 4, 255, 255}, nil},                                 // another option of its length
		{first, []byte{2, 6, 255, 255, 0, 0, 0, 0}, nil},                       // of another length
		{first, []byte{0, 2, 2, 4, 5, 180, 0, 0}, nil},                         // behind the end of the options
		{first, []byte{3, 1, 2, 4, 5, 180, 0, 0}, nil},                         // behind an option of no length
		{later, []byte{2, 4, 5, 180}, nil},                                     // in no SYN
		{first, nil, nil},                                                      // none
		{first, []byte{1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 2, 4, 5, 180, 0, 0}, nil}, // the eleventh
		{first, []byte{1, 1, 1, 1, 1, 1, 1, 1, 1, 2, 4, 5, 180, 0, 0, 0}, nil}, // the tenth
	}
	d := rand.New(rand.NewPCG(83, 89))
	for range 300 {
		options := make([]byte, 4*d.IntN(11))
		for i := range options {
			options[i] = byte(d.IntN(6))
		}
		segments = append(segments, segment{first, options, nil})
	}
	for family, e := range families() {
		t.Run(family, func(t *testing.T) {
			gw, host := pair(t, 1, nil, compiled(t, "sg-2"))
			e.in(gw, host)
			b.stage(t, gw)
			src, dst := netip.AddrPortFrom(e.vip, 40000), netip.AddrPortFrom(e.service, 8080)
			most, ip := uint16(1400), 20
			if e.vip.Is6() {
				most, ip = 1380, 40
			}
			for _, s := range segments {
				frame := func(options []byte) []byte {
					tcp := append(slices.Concat(make([]byte, 20), options), s.data...)
					binary.BigEndian.PutUint16(tcp, src.Port())
					binary.BigEndian.PutUint16(tcp[2:], dst.Port())
					tcp[12], tcp[13] = byte((20+len(options))<<2), s.flags
					if e.vip.Is6() {
						return ipv6Frame(lb.TCP, src.Addr(), dst.Addr(), tcp, 16)
					}
					f := append(frameOf(lb.Packet{Proto: lb.GRE, Src: src.Addr(), Dst: dst.Addr()}, 0)[:34], tcp...)
					f[23] = byte(lb.TCP)
					binary.BigEndian.PutUint16(f[16:], uint16(len(f)-14))
					binary.BigEndian.PutUint16(f[24:], ^sum16(0, f[14:34]))
					binary.BigEndian.PutUint16(f[50:], ^sum16(pseudo(f), f[34:]))
					return f
				}
				want := frame(s.options)
				if s.flags&first != 0 {
					want = frame(lowered(s.options, most))
				}
				out := make([]byte, 256)
				answer, err := b.progs["gateway_out"].Run(&ebpf.RunOptions{Data: frame(s.options), DataOut: out, Context: skb{2: snapshot.TargetMark(7)}})
				if err != nil || answer != actRedirect {
					t.Fatalf("%+v: answer %#x, %v", s, answer, err)
				}
				got := out[14+tunnelOverhead:][:len(want)-14]
				if !bytes.Equal(got[ip+20:], want[14+ip+20:]) || binary.BigEndian.Uint16(got[ip+16:])%0xffff != binary.BigEndian.Uint16(want[14+ip+16:])%0xffff ||
					!bytes.Equal(got[:ip+16], want[14:14+ip+16]) {
					t.Errorf("%+v became\n%x, want\n%x", s, got, want[14:])
				}
			}
		})
	}
}

// Of the ICMP errors that come out of a host's tunnel a gateway takes those about
// what its own sockets sent to the target, and passes those on that are a client's
// to know. Nobody else gets any.
func TestGatewayPassesOnOnlyItsTargetsErrors(t *testing.T) {
	w := newQuiet(t)
	b := w.benchOf(lb.RoleGateway, nil)
	for family, e := range families() {
		t.Run(family, func(t *testing.T) {
			gw, host := pair(t, 1, nil, compiled(t, "sg-2"))
			e.in(gw, host)
			second, foreign := e.vip.Next().Next(), e.vip.Next()
			row := &gw.Targets[0]
			row.ReturnVia, row.ProbePort, row.VIPs = true, 9090, []netip.Addr{e.vip, second}
			direct := *row
			direct.Num, direct.ReturnVia, direct.ID.Listener = 8, false, "lbl-2"
			gw.Targets, gw.VIPs = append(gw.Targets, direct), append(gw.VIPs, second)
			gw.Peers = append(gw.Peers, snapshot.Peer{Node: "ins-2", Num: 3, Addr: netip.MustParseAddr("192.0.2.131"), Keys: [2]uint64{tunnelKey, 0}})
			b.stage(t, gw)
			own := e.vip // probes and proxies dial from it
			about := func(from, src, dst netip.Addr, port uint16) []byte {
				return icmpOf(from, src, unreachable4, unreachable6, 1400, tcpOf(src, 40000, dst, port, tcpAck)[14:])
			}
			datagram := func(from, src, dst netip.Addr, port uint16) []byte {
				return icmpOf(from, src, unreachable4, unreachable6, 1400, frameOf(lb.Packet{Proto: lb.UDP, Src: src, Dst: dst, SrcPort: 40000, DstPort: port}, 0)[14:])
			}
			toVIP, toService := about(e.vip, e.client, e.vip, 80), about(e.service, own, e.service, 8080)
			misquoted := slices.Clone(toService)
			if e.vip.Is6() {
				misquoted[38] ^= 1 // for another than who sent what it quotes
			} else {
				misquoted[30] ^= 1
			}
			for _, c := range []struct {
				name   string
				frame  []byte
				host   string
				target uint32
				want   uint32
			}{
				{"about a client's packet for the VIP", toVIP, hostAddr, 7, actRedirect},
				{"for the load balancer's other address", about(second, e.client, second, 80), hostAddr, 7, actRedirect},
				{"from another than the VIP", about(e.service, e.client, e.vip, 80), hostAddr, 7, actShot},
				{"for another VIP", about(foreign, e.client, foreign, 80), hostAddr, 7, actShot},
				{"for another port", about(e.vip, e.client, e.vip, 81), hostAddr, 7, actShot},
				{"in another protocol", datagram(e.vip, e.client, e.vip, 80), hostAddr, 7, actShot},
				{"where answers leave directly", toVIP, hostAddr, 8, actShot},
				{"from another host", toVIP, "192.0.2.131", 7, actShot},
				{"for no target", toVIP, hostAddr, 9, actShot},
				{"about the proxy's packet", toService, hostAddr, 7, actNext},
				{"about a probe", about(e.service, own, e.service, 9090), hostAddr, 7, actNext},
				{"about another port of the instance's", about(e.service, own, e.service, 9091), hostAddr, 7, actShot},
				{"about the instance, in another protocol", datagram(e.service, own, e.service, 8080), hostAddr, 7, actShot},
				{"about the proxy's packet, of another host", toService, "192.0.2.131", 7, actShot},
				{"to another than quoted", misquoted, hostAddr, 7, actShot},
				{"that quotes too little", icmpOf(e.service, own, unreachable4, unreachable6, 1400, tcpOf(own, 40000, e.service, 8080, tcpAck)[14:30]), hostAddr, 7, actShot},
				{"that is none", icmpOf(e.service, own, reply4, reply6, 7, tcpOf(own, 40000, e.service, 8080, tcpAck)[14:]), hostAddr, 7, actShot},
				{"an answer from the other address", tcpOf(second, 80, e.client, 40000, tcpAck), hostAddr, 7, actRedirect},
				{"an answer from another VIP", tcpOf(foreign, 80, e.client, 40000, tcpAck), hostAddr, 7, actShot},
			} {
				answer, err := b.run("gateway", inTunnel(c.frame, c.host, gwAddr, 1, c.target), make([]byte, 2048))
				if err != nil || answer != c.want {
					t.Errorf("%s: answer %#x, %v, want %#x", c.name, answer, err, c.want)
				}
				if c.want == actShot {
					b.wantDrop(t, c.name, policy.UnknownTarget)
				}
			}
		})
	}
}

// The control stream and the machine's own lease pass whatever the rules, and
// nothing that looks like them.
func TestNothingButTheMachinesOwnPasses(t *testing.T) {
	addr := netip.MustParseAddr
	const other4, other6 = "192.0.2.77", "2001:db8:0:1::77"
	for _, control := range []netip.AddrPort{netip.MustParseAddrPort("192.0.2.250:7781"), netip.MustParseAddrPort("[2001:db8:0:1::250]:7781")} {
		t.Run(control.String(), func(t *testing.T) {
			b := newQuiet(t).benchAt(Options{Node: "ins-1", Role: lb.RoleHost, Address: addr(hostAddr), Other: addr(hostAddr6), Control: control})
			s := &siege{b, t, make([]byte, 2048)}
			s.force(compiled(t, "sg-2"), compiled(t, "sg-e"), func(h *snapshot.Snapshot) {
				h.Instances[0].Addrs = append(h.Instances[0].Addrs, addr(service6))
			})
			me, elsewhere, inside, there := hostAddr, other4, service, control.Addr().String()
			alike := "c000:2fa::" // as the first word of it reads
			if control.Addr().Is6() {
				me, elsewhere, inside, alike = hostAddr6, other6, service6, "32.1.13.184"
			}
			foreign := map[bool]string{true: hostAddr, false: hostAddr6}[control.Addr().Is6()]
			type frame struct {
				name    string
				program string
				proto   lb.Proto
				src     string
				sport   uint16
				dst     string
				dport   uint16
				flags   byte
				passes  bool
			}
			all := []frame{
				{"the stream", "host_out", lb.TCP, me, 45000, there, 7781, first, true},
				{"its answer", "host_in", lb.TCP, there, 7781, me, 45000, second, true},
				{"a connection from there", "host_in", lb.TCP, there, 7781, me, 45000, first, false},
				{"an answer from elsewhere", "host_in", lb.TCP, elsewhere, 7781, me, 45000, second, false},
				{"an answer from another port", "host_in", lb.TCP, there, 7782, me, 45000, second, false},
				{"an answer to the instance", "host_in", lb.TCP, there, 7781, inside, 45000, second, true},
				{"an answer in another protocol", "host_in", lb.UDP, there, 7781, me, 45000, 0, false},
				{"an answer of the other family", "host_in", lb.TCP, alike, 7781, foreign, 45000, second, false},
				{"one to elsewhere", "host_out", lb.TCP, me, 45000, elsewhere, 7781, first, false},
				{"one to another port", "host_out", lb.TCP, me, 45000, there, 7782, first, false},
				{"one of the instance's", "host_out", lb.TCP, inside, 45000, there, 7781, first, true},
				{"one in another protocol", "host_out", lb.UDP, me, 45000, there, 7781, 0, false},
				{"one of the other family", "host_out", lb.TCP, foreign, 45000, alike, 7781, first, false},
			}
			if control.Addr().Is4() {
				all = append(all, []frame{
					{"a lease", "host_in", lb.UDP, other4, 67, me, 68, 0, true},
					{"a lease for whoever asked", "host_in", lb.UDP, other4, 67, "255.255.255.255", 68, 0, true},
					{"a lease for the instance", "host_in", lb.UDP, other4, 67, inside, 68, 0, true},
					{"a lease from another port", "host_in", lb.UDP, other4, 66, me, 68, 0, false},
					{"a lease for another port", "host_in", lb.UDP, other4, 67, me, 69, 0, false},
					{"a lease in another protocol", "host_in", lb.TCP, other4, 67, me, 68, second, false},
					{"asking for a lease", "host_out", lb.UDP, me, 68, other4, 67, 0, true},
					{"asking without an address", "host_out", lb.UDP, "0.0.0.0", 68, "255.255.255.255", 67, 0, true},
					{"asking as the instance", "host_out", lb.UDP, inside, 68, other4, 67, 0, true},
					{"asking from another port", "host_out", lb.UDP, me, 69, other4, 67, 0, false},
					{"asking another port", "host_out", lb.UDP, me, 68, other4, 66, 0, false},
					{"asking in another protocol", "host_out", lb.TCP, me, 68, other4, 67, first, false},
				}...)
			}
			for _, f := range all {
				s.bench.forget(t)
				was := reason(t, s.Datapath, policy.SystemRule)
				s.want(f.name, f.passes, f.program, frameBetween(f.proto, f.src, f.sport, f.dst, f.dport, f.flags))
				if now := reason(t, s.Datapath, policy.SystemRule); (now == was+1) != f.passes {
					t.Errorf("%s: counted %d times as a system rule's", f.name, now-was)
				}
			}
		})
	}
}

// A packet of an older gateway is judged at its revision, and takes the flow not
// back to it: unless the flow was refused since, and then its answers are judged.
func TestOlderPacketLeavesTheFlowWhereItIs(t *testing.T) {
	s := newSiege(t)
	open, shut, none := compiled(t, "sg-2", accept("0.0.0.0/0", 8080)), compiled(t, "sg-2"), compiled(t, "sg-e")
	at := func(revision lb.Revision, flags byte) []byte {
		return inTunnel(frameBetween(lb.TCP, clientA, 5000, vip, 80, flags), gwAddr, hostAddr, uint32(revision), 7)
	}
	slot := func() string {
		t.Helper()
		for _, bucket := range s.hostFlows {
			for _, f := range bucket.Slot {
				if f.RemotePort == 5000 && f.State != 0 {
					return fmt.Sprintf("revision %d, %s", f.Revision, hostStates()[f.State])
				}
			}
		}
		return "none"
	}
	at2 := func(what string) {
		t.Helper()
		if got := slot(); !strings.HasPrefix(got, "revision 2") {
			t.Errorf("%s: the flow is at %s, want revision 2", what, got)
		}
	}
	s.force(open, none, nil)
	s.force(open, none, nil)
	s.want("the first packet", true, "host_in", at(2, first))
	s.want("its answer", true, "host_out", outbound(8080, 5000, second))
	s.want("an older packet", true, "host_in", at(1, later))
	at2("after an older packet")
	s.force(shut, none, nil)
	s.want("a packet that is refused now", false, "host_in", at(3, later))
	s.want("an older packet of a refused flow", true, "host_in", at(2, later))
	at2("after an older packet of a refused flow")
	if !s.counted(policy.NoMatch, "host_out", outbound(8080, 5000, later)) {
		t.Error("its answer was not judged by the rules of now")
	}
}
