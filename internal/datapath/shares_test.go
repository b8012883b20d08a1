// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"net/netip"
	"testing"

	"github.com/sallyport/sallyport/internal/lb"
	"github.com/sallyport/sallyport/internal/snapshot"
)

// Flows that come through the tunnel take their load balancer's room in the
// table; the gateways' own probes have room of their own.
func TestProbesTakeNobodysRoom(t *testing.T) {
	s := newSiege(t)
	const prober, probers = "100.64.3.9", "100.64.0.0"
	for _, c := range []struct {
		what, src, dst string
		dport          uint16
		via            bool
		source         string
		probes         bool
	}{
		{"a client", clientA, vip, 80, false, prober, false},
		{"a proxy's connection", clientA, service, 8080, true, prober, false},
		{"a probe", prober, service, 8080, true, prober, true},
		{"a probe of a target that answers itself", prober, service, 8080, false, prober, true},
		{"a probe from any gateway's address", prober, service, 8080, true, probers, true},
		{"a proxy's connection beside such probes", "100.127.3.9", service, 8080, true, probers, false},
	} {
		s.force(compiled(t, "sg-2", accept("0.0.0.0/0", 8080)), compiled(t, "sg-e"), func(h *snapshot.Snapshot) {
			h.Targets[0].ViaGateway, h.Targets[0].ProbeSource = c.via, netip.MustParseAddr(c.source)
		})
		s.forget(t)
		s.want(c.what, true, "host_in", inTunnel(frameBetween(lb.TCP, c.src, 5000, c.dst, c.dport, first), gwAddr, hostAddr, uint32(s.rev), 7))
		flows := 0
		for _, bucket := range s.hostFlows {
			for _, f := range bucket.Slot {
				if f.RemotePort != 5000 || f.State == 0 {
					continue
				}
				if flows++; (f.Share == shareProbes) != c.probes {
					t.Errorf("%s: the flow takes share %d", c.what, f.Share)
				}
			}
		}
		if flows != 1 {
			t.Errorf("%s: %d flows", c.what, flows)
		}
	}
}
