// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"testing"

	"github.com/cilium/ebpf"

	"github.com/sallyport/sallyport/internal/lb"
	"github.com/sallyport/sallyport/internal/snapshot"
)

// New flows go to live targets even when a dead one holds nearly all of the
// ring, and never to the client's own instance, whichever address it comes from.
func TestChooseFindsTheLiveTarget(t *testing.T) {
	w := newWorld(t)
	gw := w.open("dp-gw", Options{Node: "gateway-1", Role: lb.RoleGateway, Address: netip.MustParseAddr(gwAddr)})
	s, _ := pair(t, 1, nil, compiled(t, "sg-2"))
	heavy, light := s.Targets[0], s.Targets[0]
	heavy.Public = netip.MustParseAddr("192.0.2.70")
	heavy.Others = []netip.Addr{netip.MustParseAddr("10.9.0.4"), netip.MustParseAddr("10.9.1.4")}
	light.Num, light.Service = 8, netip.MustParseAddrPort("10.0.1.5:8080")
	s.Targets = []snapshot.Target{heavy, light}
	s.Listeners[0].Targets = []snapshot.TargetRef{{Num: 7, Weight: 100}, {Num: 8, Weight: 1}}
	stageCommit(t, gw, s)
	first := uint16(10000)
	count := func(client string) map[uint32]int {
		hits := map[uint32]int{}
		for port := range uint16(400) {
			opts := &ebpf.RunOptions{Data: tcpPacket(netip.MustParseAddr(client), netip.MustParseAddr(vip), first+port, 80, 2), DataOut: make([]byte, 256)}
			got, err := gw.progs["gateway"].Run(opts)
			if err != nil || got != actRedirect {
				t.Fatalf("answer %d (%v), want a redirect", got, err)
			}
			hits[binary.BigEndian.Uint32(opts.DataOut[14+28+8+4+4:])]++
		}
		return hits
	}
	if hits := count("203.0.113.1"); hits[7] < 380 || hits[8] == 0 {
		t.Errorf("with both alive: %v, want about 100 to 1", hits)
	}
	for _, own := range []string{service, "192.0.2.70", "10.9.0.4", "10.9.1.4"} {
		if hits := count(own); hits[8] != 400 {
			t.Errorf("from the heavy target's own %s: %v, want all to the other", own, hits)
		}
	}
	without := *s
	without.Revision, without.Targets = 2, []snapshot.Target{heavy, light}
	without.Targets[0].Others = heavy.Others[:1]
	stageCommit(t, gw, &without)
	if hits := count("10.9.0.4"); hits[8] != 400 {
		t.Errorf("from an address that the heavy target's instance still has: %v", hits)
	}
	first += 400 // other flows: those of before go on
	if hits := count("10.9.1.4"); hits[7] < 380 || len(gw.kin) != 1 {
		t.Errorf("from an address that the heavy target's instance has no more: %v; %d are known", hits, len(gw.kin))
	}
	if err := gw.SetHealth(7, false); err != nil {
		t.Fatal(err)
	}
	if hits := count("203.0.113.2"); hits[8] != 400 {
		t.Errorf("with the heavy one dead: %v, want all to the live one", hits)
	}
	if err := gw.SetHealth(8, false); err != nil {
		t.Fatal(err)
	}
	if hits := count("203.0.113.3"); hits[7] < 380 {
		t.Errorf("with both dead: %v, want traffic to all", hits)
	}
}

// The same over IPv6, whose further addresses the gateway knows by a hash.
func TestChooseKnowsFurtherAddressesOfIPv6(t *testing.T) {
	w := newWorld(t)
	gw := w.open("dp-gw", Options{Node: "gateway-1", Role: lb.RoleGateway, Address: netip.MustParseAddr(gwAddr)})
	s, _ := over(t, 1, 6, 4)
	own, light := netip.MustParseAddr("2001:db8:9::4"), s.Targets[0]
	s.Targets[0].Others = []netip.Addr{own}
	light.Num, light.Service, light.Others = 8, netip.MustParseAddrPort("[2001:db8:9::5]:8080"), nil
	s.Targets = append(s.Targets, light)
	s.Listeners[0].Targets = []snapshot.TargetRef{{Num: 7, Weight: 100}, {Num: 8, Weight: 1}}
	stageCommit(t, gw, s)
	for _, client := range []netip.Addr{own, own.Next()} {
		hits := map[uint32]int{}
		for port := range uint16(100) {
			p := lb.Packet{Proto: lb.TCP, Src: client, SrcPort: 10000 + port, Dst: netip.MustParseAddr(vip6), DstPort: 80}
			opts := &ebpf.RunOptions{Data: frameOf(p, first), DataOut: make([]byte, 512)}
			if got, err := gw.progs["gateway"].Run(opts); err != nil || got != actRedirect {
				t.Fatalf("answer %d (%v), want a redirect", got, err)
			}
			hits[binary.BigEndian.Uint32(opts.DataOut[14+28+8+4+4:])]++
		}
		if (client == own) != (hits[7] == 0) || hits[7]+hits[8] != 100 {
			t.Errorf("from %v: %v", client, hits)
		}
	}
}

// As many targets as the quota lets a listener have, the programs look through.
func TestRosterIsTheQuotas(t *testing.T) {
	text, err := os.ReadFile("bpf/choose.h")
	if err != nil || !strings.Contains(string(text), fmt.Sprintf("ROSTER = %d }", lb.MaxRoster)) {
		t.Errorf("bpf/choose.h has another ROSTER than %d, or none (%v)", lb.MaxRoster, err)
	}
	if n := lb.DefaultQuotas().TargetsPerListener; n > lb.MaxRoster {
		t.Errorf("a listener may have %d targets, and %d are looked through", n, lb.MaxRoster)
	}
}
