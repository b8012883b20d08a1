// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"net/netip"
	"testing"
)

// An ICMP error about a flow that the rules in force refuse is not let through,
// whether or not a packet of the flow itself came by since the change.
func TestErrorsFollowTheRules(t *testing.T) {
	for _, direct := range []bool{false, true} {
		t.Run(map[bool]string{false: "through the tunnel", true: "direct"}[direct], func(t *testing.T) { errorsFollow(t, direct) })
	}
}

func errorsFollow(t *testing.T, direct bool) {
	s := newSiege(t)
	open, shut, none := compiled(t, "sg-2", accept("0.0.0.0/0", 8080)), compiled(t, "sg-2"), compiled(t, "sg-e")
	at := netip.MustParseAddr
	s.force(open, none, nil)
	if direct {
		s.want("a first packet", true, "host_in", inbound(5000, 8080, first))
		s.want("its answer", true, "host_out", outbound(8080, 5000, second))
		s.want("the third", true, "host_in", inbound(5000, 8080, later))
	} else {
		s.want("a first packet", true, "host_in", s.through(5000, first))
		s.want("its answer", true, "host_out", outbound(8080, 5000, second))
		s.want("the third", true, "host_in", s.through(5000, later))
	}
	s.force(shut, none, nil)
	e, q := at(service), tcpOf(at(service), 8080, at(clientA), 5000, later)
	if !direct {
		e, q = at(vip), tcpOf(at(vip), 80, at(clientA), 5000, later)
	}
	in := icmpOf(at(clientA), e, unreachable4, unreachable6, 1400, q[14:])
	if !direct {
		in = inTunnel(in, gwAddr, hostAddr, uint32(s.rev), 7)
	}
	s.want("an error in about a refused flow", false, "host_in", in)
	out := icmpOf(at(service), at(clientA), unreachable4, unreachable6, 1400, tcpOf(at(clientA), 5000, at(service), 8080, later)[14:])
	s.want("an error out about a refused flow", false, "host_out", out)
	s.t.Logf("direct %v: %v", direct, s.lastTold())
}
