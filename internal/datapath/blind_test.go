// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"encoding/binary"
	"net/netip"
	"testing"
	"time"

	"github.com/sallyport/sallyport/internal/lb"
)

// Who never hears an answer, since the source it names is not its own, takes nobody's
// place for long: a first packet, and one that pushes and acknowledges nothing.
func TestBlindFlood(t *testing.T) {
	type segment struct {
		flags byte
		seq   uint32
	}
	for name, sent := range map[string][]segment{
		"a push":                          {{first, 1000}, {0x08, 1001}},
		"a reset is had, and gone beyond": {{first, 1000}, {later, 1001}, {0x08, 1001 + 1<<30}},
	} {
		t.Run(name, func(t *testing.T) {
			var flags []byte
			var seqs []uint32
			for _, x := range sent {
				flags, seqs = append(flags, x.flags), append(seqs, x.seq)
			}
			blindFlood(t, flags, seqs)
		})
	}
}

func blindFlood(t *testing.T, flags []byte, seqs []uint32) {
	w := newWorld(t)
	gw := w.open("dp-gw", Options{Node: "gateway-1", Role: lb.RoleGateway, Address: netip.MustParseAddr(gwAddr), Buckets: 512})
	host := w.open("dp-host", Options{Node: "ins-1", Role: lb.RoleHost, Address: netip.MustParseAddr(hostAddr), Buckets: 512})
	w.serve("dp-host", service+":8080")
	s1, s2 := pair(t, 1, compiled(t, "sg-1", accept("0.0.0.0/0", 80)), compiled(t, "sg-2", accept("0.0.0.0/0", 8080)))
	put(t, gw, host, s1, s2)
	made := func(src netip.Addr, sport uint16, flags byte, seq uint32) []byte {
		f := tcpOf(src, sport, netip.MustParseAddr(vip), 80, flags)
		binary.BigEndian.PutUint32(f[38:], seq)
		binary.BigEndian.PutUint32(f[42:], 1)
		f[50], f[51] = 0, 0
		binary.BigEndian.PutUint16(f[50:], ^sum16(pseudo4(f), f[34:]))
		return f
	}
	newcomers := func(when string) (served int) {
		for range 20 {
			if _, err := w.ask("dp-a", vip+":80", time.Second); err == nil {
				served++
			}
		}
		t.Logf("%s: %d of 20 new clients are served", when, served)
		return served
	}
	newcomers("before")
	const blind = 3000
	for i := range blind {
		src := netip.AddrFrom4([4]byte{198, 18, byte(i >> 8), byte(i)})
		for n := range flags {
			w.shoot("dp-b", vip, [][]byte{made(src, 4000, flags[n], seqs[n])})
		}
	}
	served := newcomers("after")
	states := map[uint8]int{}
	for i := range host.hostFlows {
		for _, f := range host.hostFlows[i].Slot {
			if f.Seq != 0 && f.State != 0 {
				states[f.State]++
			}
		}
	}
	use, err := host.Tables()
	t.Logf("%d packets of blind clients; slots by state %v; %+v, %v; host %v", len(flags)*blind, states, use, err, reasonsOf(t, host))
	if served < 20 {
		t.Errorf("after a blind flood %d of 20 new clients are served", served)
	}
}

// Datagrams whose senders are made up, each answered once, keep nobody out for long.
func TestBlindDatagrams(t *testing.T) {
	s := newSiege(t)
	_, h := datagramPair(t, 1, families()["IPv4"], nil, toAll(t, "sg-2"))
	s.stage(t, h)
	s.Tables() // sets the budgets
	s.mu.Lock()
	defer s.mu.Unlock()
	slots := 2 * s.buckets(0)
	let := 0
	for i := range slots * 3 / 4 {
		src := netip.AddrFrom4([4]byte{198, 18, byte(i >> 8), byte(i)}).String()
		if s.passes("host_in", inTunnel(frameBetween(lb.UDP, src, 4000, vip, 80, 0), gwAddr, hostAddr, 1, 7)) {
			let++
			s.want("an answer", true, "host_out", frameBetween(lb.UDP, service, 8080, src, 4000, 0))
		}
	}
	s.age(100) // and nobody has heard of any of them since
	news := 0
	for port := range uint16(100) {
		if s.passes("host_in", inTunnel(frameBetween(lb.UDP, clientA, 5000+port, vip, 80, 0), gwAddr, hostAddr, 1, 7)) {
			news++
		}
	}
	t.Logf("%d slots, %d forged datagrams were let in and answered; 100 s later %d of 100 new clients are; shares %+v", slots, let, news, s.shares[219])
	if news < 90 {
		t.Errorf("%d of 100 new clients of the load balancer are let in", news)
	}
}

// Nor do forged first packets on the tuple of an open connection: of two within half a
// second the instance's stack answers one alone.
func TestForgedFirstPackets(t *testing.T) {
	s := newSiege(t)
	s.force(compiled(t, "sg-2", accept("0.0.0.0/0", 8080)), compiled(t, "sg-e"), nil)
	s.want("through the VIP", true, "host_in", s.through(5000, first))
	s.want("its answer", true, "host_out", outbound(8080, 5000, second))
	s.want("its third", true, "host_in", s.through(5000, later))
	s.want("a forged first", true, "host_in", s.through(5000, first))
	s.want("the stack's challenge", true, "host_out", outbound(8080, 5000, later))
	s.want("another one", true, "host_in", s.through(5000, first))
	i, j := s.slotOf(5000)
	t.Logf("state %d (2: open)", s.hostFlows[i].Slot[j].State)
	s.age(40)
	s.want("after 40 s, the server's data", true, "host_out", outbound(8080, 5000, later))
	// What begins anew is answered by another SYN, and heard once more.
	s.want("a first packet of its own", true, "host_in", s.through(5000, first))
	for _, c := range []struct {
		what, program string
		frame         []byte
		state         uint8
	}{
		{"its answer", "host_out", outbound(8080, 5000, second), 1},
		{"what is pushed without having heard that", "host_in", s.through(5000, 0x08), 1},
		{"its acknowledgement", "host_in", s.through(5000, later), 2},
	} {
		s.want(c.what, true, c.program, c.frame)
		if i, j := s.slotOf(5000); s.hostFlows[i].Slot[j].State != c.state {
			t.Errorf("after %s the flow's state is %d, not %d", c.what, s.hostFlows[i].Slot[j].State, c.state)
		}
	}
}

// What the instance begins on the tuple of a client's connection is its own, and its
// outbound rules judge it, also while that one is open.
func TestInstanceDialsFromItsServicePort(t *testing.T) {
	s := newSiege(t)
	s.force(compiled(t, "sg-2", accept("0.0.0.0/0", 8080)), compiled(t, "sg-e"), nil)
	s.want("through the VIP", true, "host_in", s.through(5000, first))
	s.want("its answer", true, "host_out", outbound(8080, 5000, second))
	s.want("its third", true, "host_in", s.through(5000, later))
	s.want("a first packet of the instance's", false, "host_out", outbound(8080, 5000, first))
}
