// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"testing"

	"github.com/sallyport/sallyport/internal/flow"
)

// A process that is killed leaves nothing undone: the next one's counters go on
// where the last packet left them, with the time that they began at.
func TestCountersOutliveAKill(t *testing.T) {
	s := newSiege(t)
	s.force(compiled(t, "sg-2", accept("0.0.0.0/0", 22)), compiled(t, "sg-e"), nil)
	rule := func(s *siege) flow.Counter {
		t.Helper()
		all, err := s.Counters()
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range all {
			if c.Rule == "pol-1" {
				return c
			}
		}
		t.Fatalf("no counter of the rule: %+v", all)
		return flow.Counter{}
	}
	for i := range 3 {
		s.want("a packet", true, "host_in", inbound(uint16(5000+i), 22, first))
	}
	was := rule(s)
	if was.Packets != 3 || was.NewFlows != 3 || was.Baseline.IsZero() || was.LastHit.IsZero() {
		t.Fatalf("before: %+v", was)
	}
	// Nobody says goodbye: the first process's datapath is still open.
	d, err := inside(&world{t: t}, quietName(), func() (*Datapath, error) { return Open(s.opts) })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	next := &siege{&bench{Datapath: d, told: s.told, rev: s.rev}, t, s.out}
	if now := rule(next); now.Packets != was.Packets || now.Bytes != was.Bytes || now.NewFlows != was.NewFlows || !now.Baseline.Equal(was.Baseline) {
		t.Errorf("after the kill: %+v, want %+v", now, was)
	}
	next.want("one more packet", true, "host_in", inbound(5000, 22, later))
	next.force(compiled(t, "sg-2", accept("0.0.0.0/0", 22)), compiled(t, "sg-e"), nil)
	if now := rule(next); now.Packets != 4 || now.NewFlows != 3 || !now.Baseline.Equal(was.Baseline) {
		t.Errorf("after a packet and a new revision: %+v, want 4 packets of 3 flows since %v", now, was.Baseline)
	}
}
