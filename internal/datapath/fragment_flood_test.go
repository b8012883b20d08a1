// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"bytes"
	"net"
	"net/netip"
	"testing"

	"github.com/sallyport/sallyport/internal/lb"
	"github.com/sallyport/sallyport/internal/policy"
	"github.com/sallyport/sallyport/internal/snapshot"
)

// Floods of datagrams in halves, firsts without a rest and rests without a
// first, to a VIP and to the instance itself, cost others nothing but, while they
// last, their own halves: open connections, probes and control streams live on,
// the table of first fragments stays as large as it is, and what is dropped is
// counted as fragments. Datagrams in pieces pass again when the flood is over.
func TestFragmentFlood(t *testing.T) {
	w := newWorld(t)
	for _, ns := range []string{"dp-gw", "dp-host"} {
		w.in("dp-fabric", "ip", "link", "set", ns, "mtu", "9000")
		w.in(ns, "ip", "link", "set", "eth0", "mtu", "9000")
	}
	// The instance's own stack keeps what it gets of them, too, and not much else of that.
	w.in("dp-host", "sysctl", "-qw", "net.ipv4.ipfrag_high_thresh=268435456")
	gw := w.open("dp-gw", Options{Node: "gateway-1", Role: lb.RoleGateway, Address: netip.MustParseAddr(gwAddr)})
	host := w.open("dp-host", Options{Node: "ins-1", Role: lb.RoleHost, Address: netip.MustParseAddr(hostAddr), Control: netip.MustParseAddrPort(server)})
	w.serve("dp-host", service+":8080")
	w.echoDatagrams(service + ":5300")
	s1, s2 := pair(t, 1, toAll(t, "sg-1"), toAll(t, "sg-2"))
	other := s1.Listeners[0]
	other.Num, other.ID, other.Proto, other.Port, other.Targets = 6, "lbl-2", lb.UDP, 53, []snapshot.TargetRef{{Num: 8, Weight: 10}}
	s1.Listeners = append(s1.Listeners, other)
	target := s1.Targets[0]
	target.Num, target.ID.Listener, target.Service, target.VPort, target.Proto = 8, "lbl-2", netip.MustParseAddrPort(service+":5300"), 53, lb.UDP
	s1.Targets = append(s1.Targets, target)
	s2.Targets = s1.Targets
	put(t, gw, host, s1, s2)
	v := w.vitals()
	inPieces := func(when string) {
		t.Helper()
		said := bytes.Repeat([]byte("sally port"), 400)
		for _, to := range []string{vip + ":53", service + ":5300"} {
			if got, err := inside(w, "dp-a", func() ([]byte, error) { return exchange(to, said) }); err != nil || !bytes.Equal(got, said) {
				t.Errorf("%s, a datagram in pieces to %s: %d bytes, %v", when, to, len(got), err)
			}
		}
	}
	inPieces("before")
	const each = 10_000
	for _, c := range []struct {
		to   netip.AddrPort
		gate *Datapath
	}{{netip.MustParseAddrPort(vip + ":53"), gw}, {netip.MustParseAddrPort(service + ":5300"), host}} {
		var firsts, rests [][]byte
		for i := range each {
			src := netip.AddrPortFrom(netip.AddrFrom4([4]byte{198, 51, 100, byte(i)}), uint16(1024+i))
			f := udpOf(src, c.to, 300)
			firsts = append(firsts, piece(f, uint16(i+1), 0, 104))
			rests = append(rests, piece(f, uint16(i+1+2*each), 104, 204))
		}
		was := reason(t, c.gate, policy.Fragment)
		v.during(t, "firsts without a rest to "+c.to.String(), func() { w.shoot("dp-b", c.to.Addr().String(), firsts) })
		if got := reason(t, c.gate, policy.Fragment) - was; got != 0 {
			t.Errorf("%d firsts were dropped as fragments", got)
		}
		v.during(t, "rests without a first to "+c.to.String(), func() { w.shoot("dp-b", c.to.Addr().String(), rests) })
		if got := reason(t, c.gate, policy.Fragment) - was; got != each {
			t.Errorf("%d fragments are counted as dropped, want %d", got, each)
		}
		held, table := 0, c.gate.maps["fragments"]
		var key, value []byte
		for it := table.Iterate(); it.Next(&key, &value); {
			held++
		}
		t.Logf("to %v: %d rests counted as fragments; %d first fragments are held, of %d at most", c.to, each, held, table.MaxEntries())
		if held > int(table.MaxEntries()) || held < int(table.MaxEntries())/2 {
			t.Errorf("%d first fragments are held", held)
		}
	}
	inPieces("after")
}

// echoDatagrams gives back every datagram to addr in the host's namespace.
func (w *world) echoDatagrams(addr string) {
	w.t.Helper()
	conn, err := inside(w, "dp-host", func() (net.PacketConn, error) { return net.ListenPacket("udp4", addr) })
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { conn.Close() })
	go func() {
		for buf := make([]byte, 8192); ; {
			n, from, err := conn.ReadFrom(buf)
			if err != nil {
				return
			}
			conn.WriteTo(buf[:n], from)
		}
	}()
}
