// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"testing"

	"github.com/sallyport/sallyport/internal/lb"
	"github.com/sallyport/sallyport/internal/policy"
	"github.com/sallyport/sallyport/internal/snapshot"
)

// ends are the addresses of one family in the snapshots of pair.
type ends struct{ client, vip, service, router netip.Addr }

func families() map[string]ends {
	at := netip.MustParseAddr
	return map[string]ends{
		"IPv4": {at(clientA), at(vip), at(service), at("203.0.113.254")},
		"IPv6": {at("2001:db8:a::10"), at("2001:db8:f::1"), at("2001:db8:1::4"), at("2001:db8:a::fe")},
	}
}

// in gives pair's snapshots the family's addresses.
func (e ends) in(gw, host *snapshot.Snapshot) {
	for _, s := range []*snapshot.Snapshot{gw, host} {
		for i := range s.Targets {
			t := &s.Targets[i]
			t.VIPs, t.ProbeSource = []netip.Addr{e.vip}, e.vip
			t.Service = netip.AddrPortFrom(e.service, t.Service.Port())
		}
		s.VIPs = []netip.Addr{e.vip}
	}
	for i := range gw.Listeners {
		gw.Listeners[i].VIPs = []netip.Addr{e.vip}
		gw.Fronts = append(gw.Fronts, snapshot.Front{Addr: e.vip, Balancer: "lb-1", BalancerNum: 1, Gate1: gw.Listeners[i].Gate1})
	}
	for i := range host.Instances {
		host.Instances[i].Addrs = []netip.Addr{e.service}
	}
}

// icmpOf is an ICMP message of the family of its ends: a type and code of
// ICMPv4's and ICMPv6's, four bytes, and what follows.
func icmpOf(src, dst netip.Addr, v4, v6 [2]byte, rest uint32, payload []byte) []byte {
	kind := v4
	if src.Is6() {
		kind = v6
	}
	m := append([]byte{kind[0], kind[1], 0, 0, 0, 0, 0, 0}, payload...)
	binary.BigEndian.PutUint32(m[4:], rest)
	if src.Is6() {
		return ipv6Frame(lb.ICMPv6, src, dst, m, 2)
	}
	f := append(frameOf(lb.Packet{Proto: lb.GRE, Src: src, Dst: dst}, 0)[:34], m...)
	f[23] = byte(lb.ICMP)
	binary.BigEndian.PutUint16(f[16:], uint16(len(f)-14))
	f[24], f[25] = 0, 0
	binary.BigEndian.PutUint16(f[24:], ^sum16(0, f[14:34]))
	binary.BigEndian.PutUint16(f[36:], ^sum16(0, f[34:]))
	return f
}

var (
	unreachable4, unreachable6 = [2]byte{3, 4}, [2]byte{2, 0} // too big
	echo4, echo6               = [2]byte{8, 0}, [2]byte{128, 0}
	reply4, reply6             = [2]byte{0, 0}, [2]byte{129, 0}
	stamp4, stamp6             = [2]byte{13, 0}, [2]byte{139, 0} // asks for the time, or for a name
)

// tcpOf is a segment with right checksums.
func tcpOf(src netip.Addr, sport uint16, dst netip.Addr, dport uint16, flags byte) []byte {
	return tcpFrame(netip.AddrPortFrom(src, sport), netip.AddrPortFrom(dst, dport), flags)
}

// checkSums checks an ICMP frame's own checksums.
func checkSums(t *testing.T, f []byte) {
	t.Helper()
	if binary.BigEndian.Uint16(f[12:]) == etherIPv6 {
		if sum16(pseudo6(f), f[54:]) != 0xffff {
			t.Errorf("%x has a wrong ICMPv6 checksum", f)
		}
		return
	}
	if sum16(0, f[14:34]) != 0xffff || sum16(0, f[34:]) != 0xffff {
		t.Errorf("%x has a wrong checksum", f)
	}
}

// The gateway answers pings to a VIP under gate 1, sends errors about answers to
// the host of their flow as they are, and drops the rest with a reason.
func TestGatewayICMP(t *testing.T) {
	w := newQuiet(t)
	for family, e := range families() {
		t.Run(family, func(t *testing.T) {
			b := w.benchOf(lb.RoleGateway, nil)
			rule := func(action lb.Action, peer netip.Addr, proto lb.Proto) policy.Rule {
				return policy.Rule{ID: "pol-1", Pos: 1, Action: action, Proto: proto, Peers: []netip.Prefix{netip.PrefixFrom(peer, peer.BitLen())}}
			}
			ping := lb.ICMP
			if e.vip.Is6() {
				ping = lb.ICMPv6
			}
			gw, host := pair(t, 1, compiled(t, "sg-1", rule(lb.Accept, e.client, ping), rule(lb.Accept, e.client, lb.TCP), rule(lb.Drop, e.router, lb.AnyProto)), compiled(t, "sg-2"))
			e.in(gw, host)
			b.stage(t, gw)
			run := func(frame []byte) (uint32, []byte) {
				t.Helper()
				out := make([]byte, 2048)
				answer, err := b.run("gateway", frame, out)
				if err != nil {
					t.Fatal(err)
				}
				return answer, out
			}
			ask := icmpOf(e.client, e.vip, echo4, echo6, 0x00070001, []byte("sally port"))
			answer, out := run(ask)
			want := icmpOf(e.vip, e.client, reply4, reply6, 0x00070001, []byte("sally port"))
			if answer != actRedirect || !bytes.Equal(out[14:len(want)], want[14:]) {
				t.Errorf("ping: answer %#x with\n%x, want\n%x", answer, out[:len(want)], want)
			}
			answered := tcpOf(e.vip, 80, e.client, 40000, tcpAck)[14:]
			about := icmpOf(e.router, e.vip, unreachable4, unreachable6, 1400, answered)
			if answer, _ := run(tcpOf(e.client, 40000, e.vip, 80, tcpSyn)); answer != actRedirect {
				t.Fatalf("the flow's first packet: answer %#x", answer)
			}
			if answer, out = run(about); answer != actRedirect || !bytes.Contains(out, about[14:]) {
				t.Errorf("an error about an answer: answer %#x", answer)
			}
			for name, c := range map[string]struct {
				frame  []byte
				reason policy.Reason
			}{
				"a ping that a rule refuses":      {icmpOf(e.router, e.vip, echo4, echo6, 0x00070001, nil), policy.RuleMatched},
				"another message":                 {icmpOf(e.client, e.vip, stamp4, stamp6, 0, make([]byte, 12)), policy.Unsupported},
				"a reply to nothing":              {icmpOf(e.client, e.vip, reply4, reply6, 0x00070001, nil), policy.Unsupported},
				"an error about another's":        {icmpOf(e.router, e.vip, unreachable4, unreachable6, 1400, tcpOf(e.service, 80, e.client, 40000, tcpAck)[14:]), policy.Unrelated},
				"an error about no listener":      {icmpOf(e.router, e.vip, unreachable4, unreachable6, 1400, tcpOf(e.vip, 81, e.client, 40000, tcpAck)[14:]), policy.Unrelated},
				"an error about a refused one's":  {icmpOf(e.client, e.vip, unreachable4, unreachable6, 1400, tcpOf(e.vip, 80, e.router, 40000, tcpAck)[14:]), policy.RuleMatched},
				"an error that quotes too little": {icmpOf(e.router, e.vip, unreachable4, unreachable6, 1400, answered[:12]), policy.Unrelated},
			} {
				if answer, _ := run(c.frame); answer != actShot {
					t.Errorf("%s: answer %#x", name, answer)
				}
				s := &siege{b, t, nil}
				if got := s.lastTold().Verdict.Reason; got != c.reason {
					t.Errorf("%s: dropped as %v, want %v", name, got, c.reason)
				}
			}
		})
	}
}

// A packet that does not fit into the tunnel is answered with the size that does.
func TestGatewaySaysWhatFits(t *testing.T) {
	w := newQuiet(t)
	for family, e := range families() {
		t.Run(family, func(t *testing.T) {
			b := w.benchOf(lb.RoleGateway, nil)
			gw, host := pair(t, 1, nil, compiled(t, "sg-2"))
			e.in(gw, host)
			b.stage(t, gw)
			room := uint32(b.mtu(t) - tunnelOverhead)
			payload := func(size uint32) []byte {
				f := tcpOf(e.client, 40000, e.vip, 80, tcpAck)
				f = append(f, make([]byte, 14+int(size)-len(f))...)
				if e.vip.Is6() {
					binary.BigEndian.PutUint16(f[18:], uint16(len(f)-54))
				} else {
					binary.BigEndian.PutUint16(f[16:], uint16(len(f)-14))
				}
				return f
			}
			if answer, err := b.run("gateway", payload(room), make([]byte, 2048)); err != nil || answer != actRedirect {
				t.Fatalf("a packet that fits: %#x, %v", answer, err)
			}
			big, out := payload(room+1), make([]byte, 2048)
			answer, err := b.run("gateway", big, out)
			if err != nil || answer != actRedirect {
				t.Fatalf("a packet that does not: %#x, %v", answer, err)
			}
			size := 14 + 28 + 68
			said := out[38:42]
			if e.vip.Is6() {
				size, said = 14+48+128, out[58:62]
			}
			checkSums(t, out[:size])
			if got := binary.BigEndian.Uint32(said); got != room || !bytes.Contains(out[:size], big[14:14+60]) {
				t.Errorf("%x says %d, want %d", out[:size], got, room)
			}
			s := &siege{b, t, nil}
			if got := s.lastTold().Verdict.Reason; got != policy.TooBig {
				t.Errorf("told as %v", got)
			}
		})
	}
}

// An instance gets errors about its answers as about what it sent itself, and
// its clients get its errors as about what they sent to the VIP.
func TestHostICMP(t *testing.T) {
	w := newQuiet(t)
	for family, e := range families() {
		t.Run(family, func(t *testing.T) {
			b := w.benchOf(lb.RoleHost, nil)
			all := policy.Rule{ID: "pol-1", Pos: 1, Action: lb.Accept, Proto: lb.TCP, Peers: []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0")}}
			gw, host := pair(t, 1, nil, compiled(t, "sg-2", all))
			e.in(gw, host)
			b.stage(t, host)
			run := func(program string, frame []byte) (uint32, []byte) {
				t.Helper()
				out := make([]byte, 2048)
				answer, err := b.run(program, frame, out)
				if err != nil {
					t.Fatal(err)
				}
				return answer, out
			}
			through := func(frame []byte) []byte {
				f := inTunnel(frame, gwAddr, hostAddr, 1, 7)
				copy(f[44:], frame[12:14])
				return f
			}
			if answer, _ := run("host_in", through(tcpOf(e.client, 40000, e.vip, 80, tcpSyn))); answer != actNext {
				t.Fatalf("the flow's first packet: answer %#x", answer)
			}
			error := func(from, to netip.Addr, quote []byte) []byte {
				return icmpOf(from, to, unreachable4, unreachable6, 1400, quote[14:])
			}
			// The quoted transport's own checksum is nobody's to check.
			same := func(name string, got, want []byte) {
				t.Helper()
				checkSums(t, got[:len(want)])
				at := len(want) - 24 // the quoted segment, with one option
				for _, f := range [][]byte{got, want} {
					copy(f[at+16:], []byte{0, 0})
					if e.vip.Is6() {
						copy(f[56:], []byte{0, 0})
					} else {
						copy(f[36:], []byte{0, 0})
					}
				}
				if !bytes.Equal(got[14:at+20], want[14:at+20]) {
					t.Errorf("%s:\n%x, want\n%x", name, got[:len(want)], want)
				}
			}
			answer, out := run("host_in", through(error(e.router, e.vip, tcpOf(e.vip, 80, e.client, 40000, tcpSyn|tcpAck))))
			if answer != actNext {
				t.Fatalf("an error about an answer: answer %#x, %v", answer, (&siege{b, t, nil}).lastTold().Verdict)
			}
			same("an error about an answer", out, error(e.router, e.service, tcpOf(e.service, 8080, e.client, 40000, tcpSyn|tcpAck)))
			for name, from := range map[string]netip.Addr{"the instance's error": e.service, "an error of a router in front of it": e.router} {
				answer, out = run("host_out", error(from, e.client, tcpOf(e.client, 40000, e.service, 8080, tcpSyn)))
				if answer != actNext {
					t.Fatalf("%s: answer %#x", name, answer)
				}
				same(name, out, error(e.vip, e.client, tcpOf(e.client, 40000, e.vip, 80, tcpSyn)))
			}
			for name, frame := range map[string][]byte{
				"about another client's":    error(e.router, e.vip, tcpOf(e.vip, 80, e.client, 40001, tcpAck)),
				"about another port's":      error(e.router, e.vip, tcpOf(e.vip, 81, e.client, 40000, tcpAck)),
				"about the service address": error(e.router, e.vip, tcpOf(e.service, 8080, e.client, 40000, tcpAck)),
			} {
				if answer, _ := run("host_in", through(frame)); answer != actShot {
					t.Errorf("%s: answer %#x", name, answer)
				}
			}
			if answer, _ := run("host_out", error(e.router, e.client, tcpOf(e.client, 40001, e.service, 8080, tcpSyn))); answer != actShot {
				t.Errorf("a router's error about no flow: answer %#x", answer)
			}
		})
	}
}

// mtu is that of the device the programs are attached to.
func (b *bench) mtu(t *testing.T) int {
	t.Helper()
	value := uint16(0)
	if err := b.vars["inner_mss"].Get(&value); err != nil {
		t.Fatal(err)
	}
	return int(value) + 40 + tunnelOverhead
}
