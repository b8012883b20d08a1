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
	light.Num, light.Service = 8, netip.MustParseAddrPort("10.0.1.5:8080")
	s.Targets = []snapshot.Target{heavy, light}
	s.Listeners[0].Targets = []snapshot.TargetRef{{Num: 7, Weight: 100}, {Num: 8, Weight: 1}}
	stageCommit(t, gw, s)
	count := func(client string) map[uint32]int {
		hits := map[uint32]int{}
		for port := range uint16(400) {
			opts := &ebpf.RunOptions{Data: tcpPacket(netip.MustParseAddr(client), netip.MustParseAddr(vip), 10000+port, 80, 2), DataOut: make([]byte, 256)}
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
	for _, own := range []string{service, "192.0.2.70"} {
		if hits := count(own); hits[8] != 400 {
			t.Errorf("from the heavy target's own %s: %v, want all to the other", own, hits)
		}
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
