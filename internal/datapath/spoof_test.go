// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"testing"

	"github.com/sallyport/sallyport/internal/lb"
	"github.com/sallyport/sallyport/internal/policy"
	"github.com/sallyport/sallyport/internal/snapshot"
)

// toAll are rules that admit everything of both families.
func toAll(t *testing.T, id string) *policy.Compiled {
	t.Helper()
	return compiled(t, id, policy.Rule{ID: "pol-1", Pos: 1, Action: lb.Accept, Peers: []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0")}})
}

// wantDrop checks the reason of the next drop that is told.
func (b *bench) wantDrop(t *testing.T, what string, want policy.Reason) {
	t.Helper()
	for {
		e, err := b.next()
		if err != nil {
			t.Errorf("%s: no drop is told: %v", what, err)
			return
		}
		if e.Verdict.Action == lb.Drop {
			if e.Verdict.Reason != want {
				t.Errorf("%s: dropped as %v, want %v", what, e.Verdict.Reason, want)
			}
			return
		}
	}
}

// A machine whose gate is in force tells its neighbours nothing about addresses
// that are not its own, whatever its rules; one that is only observed may.
func TestMachineLeadsNobodyAstray(t *testing.T) {
	w := newQuiet(t)
	const service6 = "2001:db8:1::4"
	datagram := func(src string, sport uint16, dst string, dport uint16) []byte {
		return frameBetween(lb.UDP, src, sport, dst, dport, 0)
	}
	message := func(kind byte) []byte {
		f := ipv6Frame(lb.ICMPv6, netip.MustParseAddr(service6), netip.MustParseAddr("2001:db8:a::10"), append([]byte{kind}, make([]byte, 31)...), 2)
		f[21] = 255
		return f
	}
	foreign := arpFor(2, service, clientA)
	foreign[6] ^= 4
	b := w.benchOf(lb.RoleHost, nil)
	for _, observed := range []bool{false, true} {
		_, host := pair(t, 1, nil, toAll(t, "sg-2"))
		all := toAll(t, "sg-out")
		host.Policies[all.Hash] = all
		host.Instances[0] = snapshot.Instance{ID: "ins-1", Addrs: []netip.Addr{netip.MustParseAddr(service), netip.MustParseAddr(service6)},
			Ingress: all.Hash, Egress: all.Hash, Observe: observed}
		b.stage(t, host)
		for _, c := range []struct {
			name   string
			frame  []byte
			passes bool
		}{
			{"ARP of its own address", arpFor(1, service, clientA), true},
			{"ARP of its end of the tunnel", arpFor(1, hostAddr, clientA), true},
			{"ARP of nothing yet", arpFor(1, "0.0.0.0", service), true},
			{"ARP of another's address", arpFor(2, clientA, service), false},
			{"ARP of a VIP", arpFor(1, vip, vip), false},
			{"ARP from one MAC of another", foreign, false},
			{"half of ARP", arpFor(1, service, clientA)[:30], false},
			{"DHCP's question", datagram(service, 68, "192.0.2.2", 67), true},
			{"DHCP's answer", datagram(service, 67, "192.0.2.2", 68), false},
			{"any datagram", datagram(service, 67, "192.0.2.2", 69), true},
			{"DHCPv6's answer", datagram(service6, 547, "2001:db8:a::10", 546), false},
			{"solicitation", message(135), true},
			{"router advertisement", message(134), false},
			{"redirect", message(137), false},
		} {
			answer, err := b.run("host_out", c.frame, make([]byte, 2048))
			if err != nil {
				t.Fatal(err)
			}
			if passes := answer != actShot; passes != (c.passes || observed) {
				t.Errorf("observed: %v, %s: passes: %v", observed, c.name, passes)
			}
			if !c.passes && !observed {
				b.wantDrop(t, c.name, policy.Spoofed)
			}
		}
	}
}

// Gate 2 judges protocols without ports by rules of their own or of ALL, tracks
// them by their addresses, and lets answers pass.
func TestProtocolsWithoutPorts(t *testing.T) {
	w := newQuiet(t)
	for family, e := range families() {
		b := w.benchOf(lb.RoleHost, nil)
		for _, c := range []struct {
			name          string
			rule          lb.Proto // 0: ALL
			proto         lb.Proto
			asks, answers bool
		}{
			{"GRE by its rule", lb.GRE, lb.GRE, true, true},
			{"GRE by ALL", lb.AnyProto, lb.GRE, true, true},
			{"GRE by TCP's rule", lb.TCP, lb.GRE, false, false},
			{"ESP by ALL", lb.AnyProto, 50, true, true},
			{"ESP by GRE's rule", lb.GRE, 50, false, false},
			{"SCTP by ALL", lb.AnyProto, 132, true, true},
			{"SCTP by UDP's rule", lb.UDP, 132, false, false},
			{"an unassigned protocol by ALL", lb.AnyProto, 200, true, true},
		} {
			in := compiled(t, "sg-2", policy.Rule{ID: "pol-1", Pos: 1, Action: lb.Accept, Proto: c.rule, Peers: []netip.Prefix{netip.PrefixFrom(e.client, e.client.BitLen())}})
			gw, host := pair(t, 1, nil, in)
			e.in(gw, host)
			b.stage(t, host)
			b.forget(t)
			run := func(program string, src, dst netip.Addr) bool {
				t.Helper()
				answer, err := b.run(program, frameOf(lb.Packet{Proto: c.proto, Src: src, Dst: dst}, 0), make([]byte, 2048))
				if err != nil {
					t.Fatal(err)
				}
				return answer != actShot
			}
			if run("host_out", e.service, e.client) {
				t.Errorf("%s, %s: goes out before anything came in", family, c.name)
			}
			b.forget(t)
			if run("host_in", e.router, e.service) {
				t.Errorf("%s, %s: another peer passes", family, c.name)
			}
			if got := run("host_in", e.client, e.service); got != c.asks {
				t.Errorf("%s, %s: passes: %v", family, c.name, got)
			}
			if got := run("host_out", e.service, e.client); got != c.answers {
				t.Errorf("%s, %s: the answer passes: %v", family, c.name, got)
			}
			if run("host_out", e.service, e.router) {
				t.Errorf("%s, %s: an answer to somebody else passes", family, c.name)
			}
		}
	}
}

// No fragment passes a gate, and none is judged by half a header.
func TestFragments(t *testing.T) {
	w := newQuiet(t)
	for family, e := range families() {
		gw, host := pair(t, 1, toAll(t, "sg-1"), toAll(t, "sg-2"))
		e.in(gw, host)
		b := map[string]*bench{"gateway": w.benchOf(lb.RoleGateway, nil)}
		b["gateway"].stage(t, gw)
		b["host_in"] = w.benchOf(lb.RoleHost, nil)
		b["host_in"].stage(t, host)
		b["host_out"] = b["host_in"]
		ends := map[string][2]netip.Addr{"gateway": {e.client, e.vip}, "host_in": {e.client, e.service}, "host_out": {e.service, e.client}}
		for program, at := range ends {
			whole := tcpOf(at[0], 40000, at[1], map[string]uint16{"gateway": 80, "host_in": 8080, "host_out": 80}[program], tcpSyn)
			for _, c := range []struct {
				name         string
				offset, more uint16 // in units of 8 bytes
				keep         int    // bytes of the transport; -1: all
				want         policy.Reason
			}{
				{"the first", 0, 1, -1, policy.Fragment},
				{"the first, without a whole TCP header", 0, 1, 8, policy.Fragment},
				{"the first, without ports", 0, 1, 2, policy.Fragment},
				{"a later", 100, 1, -1, policy.Fragment},
				{"the second, over the first's header", 1, 1, -1, policy.Fragment},
				{"the last", 100, 0, -1, policy.Fragment},
				{"none, without a whole header", 0, 0, 8, policy.Malformed},
			} {
				_, err := b[program].run(program, cutOf(whole, c.offset, c.more, c.keep), make([]byte, 2048))
				if err != nil {
					t.Fatal(err)
				}
				b[program].wantDrop(t, family+", "+program+", "+c.name, c.want)
			}
		}
	}
}

// cutOf makes a fragment of a frame; no fragment at all when it says neither
// offset nor more.
func cutOf(frame []byte, offset, more uint16, keep int) []byte {
	f := slices.Clone(frame)
	if binary.BigEndian.Uint16(f[12:]) == etherIPv6 {
		if keep >= 0 {
			f = f[:54+keep]
		}
		if offset|more != 0 {
			f = slices.Insert(f, 54, f[20], 0, 0, 0, 0, 0, 0, 1)
			binary.BigEndian.PutUint16(f[56:], offset<<3|more)
			f[20] = 44
		}
		binary.BigEndian.PutUint16(f[18:], uint16(len(f)-54))
		return f
	}
	if keep >= 0 {
		f = f[:34+keep]
	}
	binary.BigEndian.PutUint16(f[20:], more<<13|offset)
	binary.BigEndian.PutUint16(f[16:], uint16(len(f)-14))
	f[24], f[25] = 0, 0
	binary.BigEndian.PutUint16(f[24:], ^sum16(0, f[14:34]))
	return f
}

// What is for the DHCP client's port comes from a server, not from a VIP or a probe.
func TestDHCPFromReservedAddresses(t *testing.T) {
	s := newSiege(t)
	s.force(compiled(t, "sg-2"), compiled(t, "sg-e"), nil)
	for from, passes := range map[string]bool{vip: false, "100.64.0.9": false, "10.0.1.1": true} {
		s.want("from "+from, passes, "host_in", frameBetween(lb.UDP, from, 67, service, 68, 0))
	}
}
