// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"testing"

	"github.com/sallyport/sallyport/internal/lb"
)

// A tunnel of GRE, ESP, AH, IPIP or SCTP that an instance opened may be silent for
// minutes: its other end still answers then. A ping is over soon.
func TestSilentFlowsWithoutPorts(t *testing.T) {
	for name, c := range map[string]struct {
		proto  lb.Proto
		idle   uint32
		stands bool
	}{
		"GRE, silent for minutes":  {lb.GRE, 590, true},
		"IPIP, silent for minutes": {4, 590, true},
		"ESP, silent for minutes":  {50, 590, true},
		"AH, silent for minutes":   {51, 590, true},
		"SCTP, silent for minutes": {132, 590, true},
		"GRE, silent for too long": {lb.GRE, 610, false},
		"ICMP, silent for a while": {lb.ICMP, 40, false},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSiege(t)
			s.force(compiled(t, "sg-2"), compiled(t, "sg-e", anyProto(lb.AnyProto)), nil)
			out, in := frameBetween(c.proto, service, 0, clientA, 0, 0), frameBetween(c.proto, clientA, 0, service, 0, 0)
			if c.proto == lb.ICMP {
				out, in = echo(service, clientA, 7, false), echo(clientA, service, 7, true)
			}
			s.want("out", true, "host_out", out)
			s.want("in", true, "host_in", in)
			s.age(c.idle)
			s.want("in after the silence", c.stands, "host_in", in)
		})
	}
}
