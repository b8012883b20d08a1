// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/sallyport/sallyport/internal/lb"
	"github.com/sallyport/sallyport/internal/snapshot"
)

// Where the network lets no host send from a VIP, answers return through the
// gateway, at MTU 1500 and in both directions at full size; and a change of the
// return path is in force for open connections.
func TestReturnByGatewayLive(t *testing.T) {
	w := newWorld(t)
	gw := w.open("dp-gw", Options{Node: "gateway-1", Role: lb.RoleGateway, Address: netip.MustParseAddr(gwAddr)})
	host := w.open("dp-host", Options{Node: "ins-1", Role: lb.RoleHost, Address: netip.MustParseAddr(hostAddr)})
	w.serve("dp-host", service+":8080")
	s1, s2 := pair(t, 1, compiled(t, "sg-1", accept("0.0.0.0/0", 80)), compiled(t, "sg-2", accept("0.0.0.0/0", 8080)))
	put(t, gw, host, s1, s2)
	if _, err := w.ask("dp-a", vip+":80", time.Second); err != nil {
		t.Fatalf("direct: %v", err)
	}
	open, err := w.dial("dp-a", vip+":80", time.Second)
	if err != nil {
		t.Fatal(err)
	}
	defer open.Close()
	// The network's own anti-spoofing: a VIP lives behind the gateway.
	w.in("dp-fabric", "sysctl", "-qw", "net.ipv4.conf.dp-host.rp_filter=1")
	if _, err := w.ask("dp-a", vip+":80", 500*time.Millisecond); err == nil {
		t.Fatal("the host's packets from the VIP came through a network that forbids them")
	}
	s1, s2 = pair(t, 2, compiled(t, "sg-1", accept("0.0.0.0/0", 80)), compiled(t, "sg-2", accept("0.0.0.0/0", 8080)))
	for _, s := range []*snapshot.Snapshot{s1, s2} {
		s.Targets[0].ReturnVia = true
	}
	put(t, gw, host, s1, s2)
	seen, err := w.ask("dp-a", vip+":80", time.Second)
	if err != nil || !strings.HasPrefix(seen, clientA+":") {
		t.Fatalf("by the gateway: the server saw %q, %v", seen, err)
	}
	open.SetDeadline(time.Now().Add(5 * time.Second))
	if _, err := open.Write([]byte("take 0\n")); err != nil {
		t.Fatal(err)
	}
	if _, err := open.Read(make([]byte, 100)); err != nil {
		t.Errorf("the connection from before: %v", err)
	}
	w.bulk("dp-a")
}

// What a host sends back through the gateway is passed on only as an answer of
// a target whose row says so, from that target's host.
func TestGatewayPassesOnOnlyAnswers(t *testing.T) {
	w := newQuiet(t)
	b := w.benchOf(lb.RoleGateway, nil)
	gw, _ := pair(t, 1, nil, compiled(t, "sg-2"))
	gw.Targets[0].ReturnVia = true
	other := gw.Targets[0]
	other.Num, other.ReturnVia, other.Service = 8, false, netip.MustParseAddrPort("10.0.1.5:8080")
	gw.Targets = append(gw.Targets, other)
	gw.Peers = append(gw.Peers, snapshot.Peer{Node: "ins-2", Num: 3, Addr: netip.MustParseAddr("192.0.2.131"), Keys: [2]uint64{tunnelKey, 0}})
	b.stage(t, gw)
	s := &siege{b, t, make([]byte, 2048)}
	answer := func(proto lb.Proto, src string, port uint16, flags byte) []byte {
		return frameBetween(proto, src, port, clientA, 40000, flags)
	}
	for _, tt := range []struct {
		name   string
		inner  []byte
		host   string
		target uint32
		passes bool
	}{
		{"an answer", answer(lb.TCP, vip, 80, second), hostAddr, 7, true},
		{"its data", answer(lb.TCP, vip, 80, later), hostAddr, 7, true},
		{"a connection begun from the VIP", answer(lb.TCP, vip, 80, first), hostAddr, 7, false},
		{"from another port of the VIP", answer(lb.TCP, vip, 81, later), hostAddr, 7, false},
		{"in another protocol", answer(lb.UDP, vip, 80, 0), hostAddr, 7, false},
		{"from another VIP", answer(lb.TCP, "192.0.2.2", 80, later), hostAddr, 7, false},
		{"from another host", answer(lb.TCP, vip, 80, later), "192.0.2.131", 7, false},
		{"for a target with direct return", answer(lb.TCP, vip, 80, later), hostAddr, 8, false},
		{"for no target", answer(lb.TCP, vip, 80, later), hostAddr, 9, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := b.run("gateway", inTunnel(tt.inner, tt.host, gwAddr, 1, tt.target), s.out)
			if err != nil {
				t.Fatal(err)
			}
			if passes := got == actRedirect; passes != tt.passes {
				t.Errorf("answer %#x, want passed on: %v", got, tt.passes)
			}
		})
	}
}
