// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/cilium/ebpf"

	"github.com/sallyport/sallyport/internal/lb"
	"github.com/sallyport/sallyport/internal/policy"
	"github.com/sallyport/sallyport/internal/snapshot"
)

// sized is a segment that makes a packet of size bytes.
func sized(src, dst netip.AddrPort, size int) []byte {
	f := tcpFrame(src, dst, tcpAck)
	f = append(f, make([]byte, 14+size-len(f))...)
	if src.Addr().Is6() {
		binary.BigEndian.PutUint16(f[18:], uint16(len(f)-54))
	} else {
		binary.BigEndian.PutUint16(f[16:], uint16(len(f)-14))
	}
	return f
}

// saidSize is the size that an answer to a packet that is too big tells.
func saidSize(out []byte) int {
	if binary.BigEndian.Uint16(out[12:]) == etherIPv6 {
		return int(binary.BigEndian.Uint32(out[58:]))
	}
	return int(binary.BigEndian.Uint32(out[38:]))
}

// A node believes a router that quotes a packet of the node's own: from then on
// what it tunnels that way is smaller, and senders are told so: clients by the
// gateway, and the machine itself by its host for what returns by the gateway.
func TestUnderlayTellsASize(t *testing.T) {
	w := newQuiet(t)
	at := netip.MustParseAddr
	underlay := map[string][3]netip.Addr{ // gateway, host, router
		"IPv4": {at(gwAddr), at(hostAddr), at("192.0.2.254")},
		"IPv6": {at("2001:db8:2::129"), at("2001:db8:2::130"), at("2001:db8:2::254")},
	}
	e := families()["IPv4"]
	client, front, backend := netip.AddrPortFrom(e.client, 40000), netip.AddrPortFrom(e.vip, 80), netip.AddrPortFrom(e.service, 8080)
	for _, role := range []lb.NodeRole{lb.RoleGateway, lb.RoleHost} {
		me := map[lb.NodeRole]int{lb.RoleGateway: 0, lb.RoleHost: 1}[role]
		o := Options{Node: "gateway-1", Role: role, Address: underlay["IPv4"][me], Other: underlay["IPv6"][me]}
		in, big := "gateway", sized(client, front, 1500)
		if role == lb.RoleHost {
			o.Node, in, big = "ins-1", "host_in", sized(backend, client, 1500)
		}
		b := w.benchAt(o)
		for family, nodes := range underlay {
			own, peer, router := nodes[me], nodes[1-me], nodes[2]
			gw, host := pair(t, 1, nil, toAll(t, "sg-2"))
			gw.Peers[0].Addr, host.Peers[0].Addr = nodes[1], nodes[0]
			for _, s := range []*snapshot.Snapshot{gw, host} {
				s.Targets[0].Host, s.Targets[0].ReturnVia = nodes[1], true
			}
			b.stage(t, map[lb.NodeRole]*snapshot.Snapshot{lb.RoleGateway: gw, lb.RoleHost: host}[role])
			if role == lb.RoleHost {
				first := inTunnel(tcpOf(e.client, 40000, e.vip, 80, tcpSyn), peer.String(), own.String(), uint32(b.rev), 7)
				copy(first[14+headerOf(own)+8+2:], []byte{8, 0})
				if answer, err := b.run("host_in", first, make([]byte, 2048)); err != nil || answer != actNext {
					t.Fatalf("%v over %s: the flow's first packet: %#x, %v", role, family, answer, err)
				}
			}
			usual, over := 1500-tunnelOverhead6, tunnelOverhead
			least := 576
			if own.Is6() {
				over, least = tunnelOverhead6, 1280
			}
			room := func() int {
				t.Helper()
				out := make([]byte, 2048)
				program := map[lb.NodeRole]string{lb.RoleGateway: "gateway", lb.RoleHost: "host_out"}[role]
				if answer, err := b.run(program, big, out); err != nil || answer != actRedirect {
					t.Fatalf("%v over %s: a packet that is too big: %#x, %v, %v", role, family, answer, err, (&siege{b, t, nil}).lastTold().Verdict)
				}
				checkSums(t, out[:14+28+68])
				if !bytes.Equal(out[26:30], big[30:34]) || !bytes.Equal(out[30:34], big[26:30]) || !bytes.Contains(out, big[14:14+60]) {
					t.Errorf("%v over %s: answered with %x", role, family, out[:110])
				}
				return saidSize(out)
			}
			quote := inTunnel(sized(client, front, 1400), own.String(), peer.String(), 1, 7)[14:]
			spoilt := func(at int, with ...byte) []byte {
				q := slices.Clone(quote)
				copy(q[at:], with)
				return q
			}
			h := headerOf(own)
			for _, c := range []struct {
				name  string
				size  int
				quote []byte
				want  int
			}{
				{"with the key", 1400, quote, 1400 - over},
				{"no less than is known", usual + over, quote, usual},
				{"the least", least, quote, least - over},
				{"less than the least", least - 1, quote, usual},
				{"with another key", 1400, spoilt(h+32, 1, 2, 3), usual},
				{"about another node", 1400, spoilt(h-2, 9, 9), usual},
				{"about another sender", 1400, spoilt(h-5-map[bool]int{true: 12}[own.Is6()], 9), usual},
				{"about another port", 1400, spoilt(h+2, 1), usual},
				{"from another port", 1400, spoilt(h, 1), usual},
				{"about TCP", 1400, spoilt(map[bool]int{true: 6, false: 9}[own.Is6()], 6), usual},
				{"too short for the key", 1400, quote[:h+8], 1400 - over},
				{"too short for the key, and for IPv6 inside", 1279 + over, quote[:h+8], usual},
			} {
				for i := range b.peers.rows {
					b.peers.rows[i].Room = 0
				}
				if got := room(); got != usual {
					t.Fatalf("%v over %s: before: %d, want %d", role, family, got, usual)
				}
				if _, err := b.run(in, icmpOf(router, own, unreachable4, unreachable6, uint32(c.size), c.quote), make([]byte, 2048)); err != nil {
					t.Fatal(err)
				}
				if got := room(); got != c.want {
					t.Errorf("%v over %s: %s: %d bytes of room, want %d", role, family, c.name, got, c.want)
				}
			}
			if _, err := b.run(in, icmpOf(router, own, unreachable4, unreachable6, 1400, quote), make([]byte, 2048)); err != nil || room() != 1400-over {
				t.Errorf("%v over %s: %v", role, family, err)
			}
			for i := range b.peers.rows {
				b.peers.rows[i].RoomUntil -= 601
			}
			if got := room(); got != usual {
				t.Errorf("%v over %s: ten minutes later: %d", role, family, got)
			}
		}
		if role == lb.RoleGateway {
			continue
		}
		// An error that is about no tunnel is judged like any other packet.
		_, host := pair(t, 1, nil, compiled(t, "sg-2"))
		host.Instances[0].Addrs = append(host.Instances[0].Addrs, at(hostAddr))
		b.stage(t, host)
		about := tcpOf(at(hostAddr), 40000, e.client, 80, tcpAck)[14:]
		(&siege{b, t, nil}).lastTold()
		if _, err := b.run("host_in", icmpOf(e.router, at(hostAddr), unreachable4, unreachable6, 1400, about), make([]byte, 2048)); err != nil {
			t.Fatal(err)
		}
		b.wantDrop(t, "about no tunnel", policy.NoMatch)
	}
}

// Where a link between gateway and host turns out narrower than both their own,
// transfers go on: uploads, and downloads that return by the gateway.
func TestNarrowUnderlayLive(t *testing.T) {
	w := newWorld(t)
	gw, host := w.pairOpen()
	w.serve("dp-host", service+":8080")
	narrow := func(ns, mtu string) {
		w.in("dp-fabric", "ip", "link", "set", ns, "mtu", mtu)
		w.in(ns, "ip", "link", "set", "eth0", "mtu", mtu)
	}
	for rev, c := range []struct {
		ns, command string
		returns     bool
	}{{"dp-host", "take", false}, {"dp-gw", "send", true}} {
		s1, s2 := pair(t, lb.Revision(rev+1), toAll(t, "sg-1"), toAll(t, "sg-2"))
		for _, s := range []*snapshot.Snapshot{s1, s2} {
			s.Targets[0].ReturnVia = c.returns
		}
		put(t, gw, host, s1, s2)
		narrow(c.ns, "1400")
		talk, err := w.dial("dp-a", vip+":80", time.Second)
		if err != nil {
			t.Fatal(err)
		}
		talk.SetDeadline(time.Now().Add(20 * time.Second))
		began := time.Now()
		const n = 1 << 20
		r := bufio.NewReader(talk)
		_, err = r.ReadString('\n')
		if err == nil {
			_, err = fmt.Fprintf(talk, "%s %d\n", c.command, n)
		}
		if err == nil && c.command == "take" {
			if _, err = talk.Write(make([]byte, n)); err == nil {
				_, err = r.ReadString('\n')
			}
		} else if err == nil {
			_, err = io.CopyN(io.Discard, r, n)
		}
		talk.Close()
		t.Logf("%s 1 MB in %v", c.command, time.Since(began).Round(time.Millisecond))
		told, _ := gw.Reasons()
		if c.returns {
			told, _ = host.Reasons()
		}
		if err != nil || !bytes.Contains(fmt.Append(nil, told), []byte("too_big")) {
			t.Errorf("%s: %v; %v", c.command, err, told)
		}
		narrow(c.ns, "1500")
	}
}

// What the proxy sends has to fit as what clients send has: its own stack is told what
// does, and a host whose links take more than the gateway's is told by the opening.
func TestProxysPacketsFit(t *testing.T) {
	b := newQuiet(t).benchOf(lb.RoleGateway, nil)
	gw, _ := pair(t, 1, nil, compiled(t, "sg-2"))
	b.stage(t, gw)
	from, to := netip.MustParseAddrPort(clientA+":4000"), netip.MustParseAddrPort(service+":8080")
	for i := range b.peers.rows {
		b.peers.rows[i].Room, b.peers.rows[i].RoomUntil = 1340, nowUnits()+500
	}
	for _, size := range []int{1340, 1341, 1500} {
		out := make([]byte, 4096)
		answer, err := b.progs["gateway_out"].Run(&ebpf.RunOptions{Data: sized(from, to, size), DataOut: out, Context: skb{2: snapshot.TargetMark(7)}})
		if err != nil || answer != actRedirect {
			t.Fatalf("a packet of %d: answer %#x, %v", size, answer, err)
		}
		if fits := out[14+9] == byte(lb.UDP); fits != (size <= 1340) {
			t.Errorf("a packet of %d is sent: %v", size, fits)
		}
		if said := saidSize(out); size > 1340 && said != 1340 {
			t.Errorf("of a packet of %d the stack is told that %d fits, want 1340", size, said)
		}
	}
	opening := append(tcpFrame(to, from, tcpSyn|tcpAck), 2, 4, 8900>>8, 8900&0xff) // its greatest segment
	opening[14+20+12] = 0x60
	binary.BigEndian.PutUint16(opening[16:], 44)
	out := make([]byte, 256)
	if answer, err := b.run("gateway", inTunnel(opening, hostAddr, gwAddr, 1, 7), out); err != nil || answer != actNext {
		t.Fatalf("the opening: answer %#x, %v", answer, err)
	}
	if got := binary.BigEndian.Uint16(out[14+42:]); got != 1400 {
		t.Errorf("the proxy is told of segments of %d, want 1400", got)
	}
}
