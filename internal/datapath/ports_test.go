// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/cilium/ebpf"

	"github.com/sallyport/sallyport/internal/lb"
	"github.com/sallyport/sallyport/internal/policy"
	"github.com/sallyport/sallyport/internal/snapshot"
)

// Each edge of each range, of both protocols: a port belongs to the listener
// that has it, and a packet is sent on or is for no listener.
func TestPortRanges(t *testing.T) {
	w := newWorld(t)
	gw := w.open("dp-gw", Options{Node: "gateway-1", Role: lb.RoleGateway, Address: netip.MustParseAddr(gwAddr)})
	b := newBench(t, gw)
	have := []struct {
		proto       lb.Proto
		first, last uint16
	}{{lb.TCP, 1, 1}, {lb.TCP, 2, 79}, {lb.TCP, 80, 80}, {lb.TCP, 81, 99}, {lb.TCP, 60000, 65535}, {lb.UDP, 1, 65535}}
	for many := range 45 { // and as many as a load balancer has
		first := uint16(1000 + 100*many)
		have = append(have, struct {
			proto       lb.Proto
			first, last uint16
		}{lb.TCP, first, first + 49})
	}
	s, _ := pair(t, 1, nil, compiled(t, "sg-2"))
	s.Fronts = []snapshot.Front{{Addr: s.VIPs[0], Balancer: "lb-1", BalancerNum: 1}}
	of, one := s.Listeners[0], s.Targets[0]
	s.Listeners, s.Targets = nil, nil
	for i, r := range have {
		l, row := of, one
		l.Num, l.ID, l.Proto, l.Port, l.EndPort = uint32(100+i), lb.ListenerID(fmt.Sprintf("lbl-%d", i)), r.proto, r.first, r.last
		row.Num, row.Proto, row.VPort, row.VPortEnd = uint32(500+i), r.proto, r.first, r.last
		row.Service = netip.AddrPortFrom(row.Service.Addr(), r.first)
		if r.first == r.last {
			l.EndPort, row.VPortEnd = 0, 0
		}
		row.ID.Listener = l.ID
		l.Targets = []snapshot.TargetRef{{Num: row.Num, Weight: 10}}
		s.Listeners, s.Targets = append(s.Listeners, l), append(s.Targets, row)
	}
	stageCommit(t, gw, s)
	owner := func(proto lb.Proto, port uint16) lb.ListenerID {
		for i, r := range have {
			if r.proto == proto && r.first <= port && port <= r.last {
				return lb.ListenerID(fmt.Sprintf("lbl-%d", i))
			}
		}
		return ""
	}
	client := uint16(2000)
	for _, r := range have {
		for _, port := range []uint16{r.first - 1, r.first, r.first + 1, r.last - 1, r.last, r.last + 1} {
			for _, proto := range []lb.Proto{lb.TCP, lb.UDP} {
				client++
				src, dst := netip.AddrPortFrom(netip.MustParseAddr(clientA), client), netip.AddrPortFrom(netip.MustParseAddr(vip), port)
				frame := udpFrame(src, dst)
				if proto == lb.TCP {
					frame = tcpFrame(src, dst, tcpSyn)
				}
				answer, err := gw.progs["gateway"].Run(&ebpf.RunOptions{Data: frame, DataOut: make([]byte, 256)})
				if err != nil {
					t.Fatal(err)
				}
				told, err := b.next()
				if err != nil {
					t.Fatalf("%v:%d told no verdict: %v", proto, port, err)
				}
				want, goes := owner(proto, port), uint32(actRedirect)
				if want == "" {
					goes = actShot
				}
				if told.Listener != want || answer != goes || want == "" && told.Verdict.Reason != policy.NoListener {
					t.Errorf("%v:%d is for listener %q and answered %d, want %q: %+v", proto, port, told.Listener, answer, want, told)
				}
			}
		}
	}
}
