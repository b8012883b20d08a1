// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"net/netip"
	"testing"
	"time"

	"github.com/cilium/ebpf"

	"github.com/sallyport/sallyport/internal/snapshot"
)

// A flood of one load balancer's flows, many times what the gateway's table
// holds, leaves most of another's flows in it. Those that it takes are judged and
// given their target again, so all of them stay where they are.
func TestFloodLeavesOthersTheirEntries(t *testing.T) {
	c := chooserOf(t, 4096, 10, 10, 10, 10)
	const port, flows = 81, 2000
	c.change(func(s *snapshot.Snapshot) {
		other := s.Listeners[0]
		other.Num, other.ID, other.Balancer, other.BalancerNum, other.Port = 6, "lbl-2", "lb-2", 2, port
		s.Listeners = append(s.Listeners, other)
	})
	home := make([]uint32, flows)
	for i := range home {
		home[i], _ = c.send(i, flagSYN)
	}
	entries := func() (n int) {
		for i := range c.gw.gatewayFlows {
			for _, s := range c.gw.gatewayFlows[i].Slot {
				if s.Listener == 5 {
					n++
				}
			}
		}
		return n
	}
	before := entries()
	if before < flows*99/100 {
		t.Fatalf("%d of %d flows are in an empty table of 8,192", before, flows)
	}
	for i := range 80_000 {
		client := netip.AddrFrom4([4]byte{198, 51, byte(i >> 16), byte(i >> 8)})
		opts := &ebpf.RunOptions{Data: tcpPacket(client, netip.MustParseAddr(vip), uint16(1024+i), port, flagSYN)}
		if got, err := c.gw.progs["gateway"].Run(opts); err != nil || got != actRedirect {
			t.Fatalf("the flood's packet %d: answer %d, %v", i, got, err)
		}
	}
	left := entries()
	t.Logf("80,000 new flows of one load balancer in a table of 8,192: of another's %d entries %d are left", before, left)
	if left < before*4/5 {
		t.Errorf("%d of %d entries are left, want four fifths", left, before)
	}
	moved := 0
	began := time.Now()
	for i, was := range home {
		if is, _ := c.send(i, flagACK); is != was {
			moved++
		}
	}
	t.Logf("%d packets of its flows in %v: %d went elsewhere; %d entries then", flows, time.Since(began).Round(time.Millisecond), moved, entries())
	if moved != 0 {
		t.Errorf("%d flows went to another target", moved)
	}
	if n := entries(); n < left {
		t.Errorf("%d entries after those packets, %d before", n, left)
	}
}
