// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"net/netip"
	"testing"

	"github.com/sallyport/sallyport/internal/lb"
	"github.com/sallyport/sallyport/internal/policy"
)

// A new flow whose slots all hold established ones finds room: one of those goes to
// its other bucket, and goes on there. Of a table half full and more there may be one
// in some thousand of which none can.
func TestEstablishedFlowsGiveWay(t *testing.T) {
	s := newSiege(t)
	_, host := over(t, 1, 6, 4)
	s.stage(t, host)
	addr := netip.MustParseAddr
	s.mu.Lock() // nobody counts meanwhile
	for family, c := range []struct {
		name        string
		client, own string
	}{{"IPv4", clientA, service}, {"IPv6", clientA6, service6}} {
		slots := uint16(2 * s.buckets(family))
		in := func(port uint16, flags byte) []byte {
			return frameOf(lb.Packet{Proto: lb.TCP, Src: addr(c.client), SrcPort: 5000 + port, Dst: addr(c.own), DstPort: 8080}, flags)
		}
		out := func(port uint16, flags byte) []byte {
			return frameOf(lb.Packet{Proto: lb.TCP, Src: addr(c.own), SrcPort: 8080, Dst: addr(c.client), DstPort: 5000 + port}, flags)
		}
		for port := range slots * 3 / 8 {
			if !s.passes("host_in", in(port, first)) || !s.passes("host_out", out(port, second)) || !s.passes("host_in", in(port, later)) {
				t.Errorf("%s: connection %d finds no room in %d slots", c.name, port, slots)
				break
			}
		}
		lost := 0
		for port := range slots * 3 / 8 {
			if !s.passes("host_out", out(port, later)) || !s.passes("host_in", in(port, later)) {
				lost++
			}
		}
		if lost > 0 {
			t.Errorf("%s: %d of %d connections ended when others began", c.name, lost, slots*3/8)
		}
		if n := s.shares[family*shareCount+shareDirect].Flows; n != uint32(slots*3/8) {
			t.Errorf("%s: %d established flows are counted, want %d", c.name, n, slots*3/8)
		}
	}
	s.mu.Unlock()
	reasons, err := s.Reasons()
	if err != nil || reasons.Packets[policy.TableFull] != 0 {
		t.Errorf("%d packets found no room: %v", reasons.Packets[policy.TableFull], err)
	}
}
