// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"net/netip"
	"testing"

	"github.com/sallyport/sallyport/internal/flow"
	"github.com/sallyport/sallyport/internal/lb"
)

// Flows of IPv6 are told with whole addresses and counted in a table of their own,
// which has a budget too.
func TestFlowsOfIPv6AreTold(t *testing.T) {
	s := &siege{newQuiet(t).benchOf(lb.RoleHost, nil), t, make([]byte, 2048)}
	_, host := over(t, 1, 6, 4)
	s.stage(t, host)
	addr := netip.MustParseAddr
	s.want("a connection", true, "host_in", frameOf(lb.Packet{Proto: lb.TCP, Src: addr(clientA6), SrcPort: 5000, Dst: addr(service6), DstPort: 8080}, first))
	told, err := s.Flows(flow.Query{})
	if err != nil || told.Total != 1 {
		t.Fatalf("%+v, %v", told, err)
	}
	if f := told.Flows[0]; f.Peer != netip.AddrPortFrom(addr(clientA6), 5000) || f.Service != netip.AddrPortFrom(addr(service6), 8080) || f.State != flow.Half {
		t.Errorf("told as %+v", f)
	}
	use, err := s.Tables()
	if err != nil || len(use.Tables) != 2 || use.Tables[0].Live != 0 || use.Tables[1].Name != "flows6" || use.Tables[1].Half != 1 || use.Tables[1].Slots != 2048 {
		t.Errorf("tables %+v, %v", use, err)
	}
	if row := s.shares[shareCount+shareHalf]; row.Flows != 1 || row.Limit != 512 {
		t.Errorf("half-open flows of IPv6: %+v, want 1 of at most 512", row)
	}
}
