// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"fmt"
	"net/netip"
	"os"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/sallyport/sallyport/internal/flow"
	"github.com/sallyport/sallyport/internal/lb"
	"github.com/sallyport/sallyport/internal/policy"
)

// Probes stand where nothing else does: in a table that established flows fill to
// the last slot each of them is let in and answered, and a flood of first packets
// between a probe and its answer takes nobody's place.
func TestProbesHavePlacesOfTheirOwn(t *testing.T) {
	text, err := os.ReadFile("bpf/host.h")
	if err != nil || !strings.Contains(string(text), fmt.Sprintf("PROBE_BUCKETS = %d }", probeBuckets)) {
		t.Errorf("bpf/host.h has another PROBE_BUCKETS than %d, or none (%v)", probeBuckets, err)
	}
	s := newSiege(t)
	addr := netip.MustParseAddr
	for _, c := range []struct {
		name                string
		inner               int
		vip, client, target string
	}{{"IPv4", 4, vip, clientA, service}, {"IPv6", 6, vip6, clientA6, service6}} {
		s.rev++
		_, host := over(t, s.rev, c.inner, 4)
		host.Revision = s.rev
		stageCommit(t, s.Datapath, host)
		s.forget(t)
		family := map[int]int{4: 0, 6: 1}[c.inner]
		frame := func(src string, sport uint16, dst string, dport uint16, flags byte) []byte {
			return frameOf(lb.Packet{Proto: lb.TCP, Src: addr(src), SrcPort: sport, Dst: addr(dst), DstPort: dport}, flags)
		}
		in := func(port uint16, flags byte) []byte {
			return inTunnel(frame(c.vip, port, c.target, 8080, flags), gwAddr, hostAddr, uint32(s.rev), 7)
		}
		out := func(port uint16, flags byte) []byte { return frame(c.target, 8080, c.vip, port, flags) }
		if !s.passes("host_in", in(4000, first)) {
			t.Fatalf("%s: no probe is let in", c.name)
		}
		s.mu.Lock() // nobody counts meanwhile
		slots := 2 * s.buckets(family)
		for port := range 8 * slots {
			s.passes("host_in", frame(c.client, uint16(port), c.target, 8080, first))
		}
		if !s.passes("host_out", out(4000, second)) {
			t.Errorf("%s: a flood of first packets took a probe's place before its answer", c.name)
		}
		s.mu.Unlock()
		s.forget(t)
		s.mu.Lock()
		for i := range s.buckets(family) { // strangers' flows, as established ones are
			for n := range 2 {
				if family == 0 {
					s.hostFlows[i].Slot[n] = HostHostFlow{Seq: 2, Revision: uint32(s.rev), Remote: 1, Local: uint32(2*i + n), Proto: 6, Opener: 1, State: 2, Seen: nowUnits()}
				} else {
					s.hostFlows6[i].Slot[n].Head = HostHostFlow{Seq: 2, Revision: uint32(s.rev), Remote: 1, Local: uint32(2*i + n), Proto: 6, Opener: 1, State: 2, Seen: nowUnits()}
				}
			}
		}
		if s.passes("host_in", frame(c.client, 5000, c.target, 8080, first)) {
			t.Errorf("%s: a client finds room in a full table", c.name)
		}
		const probes = 1000
		lost := 0
		for port := range uint16(probes) {
			if !s.passes("host_in", in(5000+port, first)) || !s.passes("host_out", out(5000+port, second)) || !s.passes("host_in", in(5000+port, later)) || !s.passes("host_in", in(5000+port, reset)) {
				lost++
			}
		}
		s.mu.Unlock()
		if lost > 0 {
			t.Errorf("%s: %d of %d probes are lost in a full table", c.name, lost, probes)
		}
		told, err := s.Flows(flow.Query{Client: netip.PrefixFrom(addr(c.vip), addr(c.vip).BitLen())})
		if err != nil || told.Total < probes/2 { // one that has ended leaves its place to the next
			t.Errorf("%s: %d of %d probes are told of: %v", c.name, told.Total, probes, err)
		}
		use, err := s.Tables()
		if err != nil {
			t.Fatal(err)
		}
		if tab := use.Tables[family]; tab.Live != uint64(slots) || tab.Slots != uint64(slots) {
			t.Errorf("%s: %d of %d slots are told to be live: want %d", c.name, tab.Live, tab.Slots, slots)
		}
		if n := atomic.LoadUint32(&s.shares[family*shareCount].Flows); n != uint32(slots) {
			t.Errorf("%s: %d flows that come by no load balancer are counted, want %d", c.name, n, slots)
		}
	}
	reasons, err := s.Reasons()
	if err != nil || reasons.Packets[policy.TableFull] != 2 {
		t.Errorf("%d packets found no room, want one of either family: %v", reasons.Packets[policy.TableFull], err)
	}
}
