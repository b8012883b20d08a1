// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"testing"

	"github.com/sallyport/sallyport/internal/flow"
)

// Whoever sends without being answered opens nothing, whatever it sends: its flow
// stays half-open, gives way to others and is soon forgotten. Once both sides have
// spoken since the first SYN, it is open; another SYN has to be answered by one.
func TestWhoSpeaksAloneOpensNothing(t *testing.T) {
	s := newSiege(t)
	s.force(compiled(t, "sg-2", accept("0.0.0.0/0", 8080)), compiled(t, "sg-e", accept("0.0.0.0/0", 443)), nil)
	for i, c := range []struct {
		what    string
		program string
		frame   []byte
		want    flow.State
	}{
		{"the middle of a connection", "host_in", inbound(5000, 8080, later), flow.Half},
		{"more of it", "host_in", inbound(5000, 8080, later), flow.Half},
		{"its answer", "host_out", outbound(8080, 5000, later), flow.Open},
		{"a first packet", "host_in", inbound(5000, 8080, first), flow.Open},
		{"and a third without a second", "host_in", inbound(5000, 8080, later), flow.Open},
		{"the second", "host_out", outbound(8080, 5000, second), flow.Half},
		{"the third", "host_in", inbound(5000, 8080, later), flow.Open},
		{"one that is dialled", "host_out", outbound(40001, 443, first), flow.Half},
		{"it answers", "host_in", inbound(443, 40001, second), flow.Half},
		{"and is acknowledged", "host_out", outbound(40001, 443, later), flow.Open},
		{"through the tunnel", "host_in", s.through(5001, later), flow.Half},
		{"its answer", "host_out", outbound(8080, 5001, later), flow.Open},
	} {
		s.want(c.what, true, c.program, c.frame)
		flows, err := s.Flows(flow.Query{})
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range flows.Flows {
			if i < 7 || f.Peer.Port() == 443 && i < 10 || f.Peer.Port() == 5001 {
				if f.State != c.want {
					t.Errorf("%s: the flow is %s, want %s", c.what, f.State, c.want)
				}
			}
		}
	}
}
