// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"net/netip"
	"testing"

	"github.com/sallyport/sallyport/internal/lb"
)

// CPUs read their clocks at different moments: what another one has just seen
// may lie a unit ahead of a packet's own time, and is as young as can be.
func TestSeenAheadOfTheClock(t *testing.T) {
	w := newQuiet(t)
	s := &siege{w.benchOf(lb.RoleHost, nil), t, make([]byte, 2048)}
	s.force(compiled(t, "sg-2"), compiled(t, "sg-e", accept("0.0.0.0/0", 443)), nil)
	s.want("dialling", true, "host_out", outbound(40001, 443, first))
	s.want("the answer", true, "host_in", inbound(443, 40001, second))
	for _, c := range []struct {
		name, program string
		frame         []byte
	}{
		{"data out", "host_out", outbound(40001, 443, later)},
		{"data in", "host_in", inbound(443, 40001, later)},
	} {
		for i := range s.hostFlows {
			for n := range s.hostFlows[i].Slot {
				if s.hostFlows[i].Slot[n].State != 0 {
					s.hostFlows[i].Slot[n].Seen = nowUnits() + 2
				}
			}
		}
		s.want(c.name, true, c.program, c.frame)
	}
	g := w.benchOf(lb.RoleGateway, nil)
	gw, _ := pair(t, 1, nil, compiled(t, "sg-2"))
	g.stage(t, gw)
	send := func(port uint16) {
		if _, err := g.run("gateway", tcpOf(netip.MustParseAddr(clientA), port, netip.MustParseAddr(vip), 80, tcpSyn), s.out); err != nil {
			t.Fatal(err)
		}
	}
	send(1025)
	slot := func() *GatewayGatewayFlow { // of the one flow that is to stay
		for i := range g.gatewayFlows {
			for n := range g.gatewayFlows[i].Slot {
				if f := &g.gatewayFlows[i].Slot[n]; f.Seq != 0 && f.ClientPort == 1025 {
					return f
				}
			}
		}
		return nil
	}
	slot().Seen = nowUnits() + 2
	for port := uint16(2000); port < 2000+4*1024; port++ { // twice what the table holds
		send(port)
		if slot() == nil {
			t.Fatalf("after %d flows the youngest gave way", port-2000+1)
		}
		slot().Seen = nowUnits() + 2
	}
}
