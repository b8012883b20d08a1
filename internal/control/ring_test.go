// SPDX-License-Identifier: Apache-2.0

package control

import (
	"context"
	"testing"
	"time"

	"github.com/sallyport/sallyport/internal/flow"
	"github.com/sallyport/sallyport/internal/lb"
)

func numbered(from, n int) []flow.Event {
	all := make([]flow.Event, n)
	for i := range all {
		all[i].Revision = lb.Revision(from + i)
	}
	return all
}

// Every number between two cursors is an event or is counted as lost.
func TestRingAccounts(t *testing.T) {
	const base = 1000
	r := newRing(base)
	r.add(numbered(1, 3), 0)
	r.add(numbered(4, 2), 5) // five that a node could not tell, before these two
	for _, c := range []struct {
		name  string
		after uint64
		limit int
		first lb.Revision // 0: nothing
		n     int
		next  uint64
		lost  uint64
	}{
		{"from the oldest", 0, 10, 1, 5, base + 10, 0},
		{"from before this life", 7, 10, 1, 5, base + 10, 5},
		{"in the middle", base + 1, 1, 2, 1, base + 2, 0},
		{"across the gap", base + 2, 2, 3, 2, base + 9, 5},
		{"inside the gap", base + 5, 10, 4, 2, base + 10, 3},
		{"the newest alone", base + 9, 10, 5, 1, base + 10, 0},
		{"nothing yet", base + 10, 10, 0, 0, base + 10, 0},
		{"the future", base + 99, 10, 0, 0, base + 10, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			events, next, lost, _ := r.take(c.after, c.limit)
			if len(events) != c.n || next != c.next || lost != c.lost || c.n > 0 && events[0].Revision != c.first {
				t.Errorf("got %d events %+v, next %d, lost %d; want %+v", len(events), events, next, lost, c)
			}
		})
	}
	if events, lost := r.totals(); events != 5 || lost != 5 {
		t.Errorf("totals %d, %d", events, lost)
	}
}

// A reader that falls behind the ring is told how many it missed.
func TestRingOverwrites(t *testing.T) {
	r := newRing(0)
	const n = ringSize + 114 // a multiple of 50
	for i := 1; i <= n; i += 50 {
		r.add(numbered(i, 50), 0)
	}
	events, next, lost, _ := r.take(1, 10)
	if len(events) != 10 || events[0].Revision != 115 || next != 124 || lost != 113 {
		t.Errorf("%d events from %d, next %d, lost %d", len(events), events[0].Revision, next, lost)
	}
	total := 0
	for after := uint64(1); after < n; {
		events, next, lost := r.read(t.Context(), after, readLimit)
		total += len(events) + int(lost)
		after = next
	}
	if total != n-1 {
		t.Errorf("read and lost %d of %d", total, n-1)
	}
}

// A waiting reader wakes with the first event, and with the end of its time.
func TestRingWaits(t *testing.T) {
	r := newRing(0)
	got := make(chan int)
	go func() {
		events, _, _ := r.read(context.Background(), 0, 10)
		got <- len(events)
	}()
	r.add(nil, 3) // loss alone wakes nobody
	r.add(numbered(1, 1), 0)
	if n := <-got; n != 1 {
		t.Errorf("%d events", n)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if events, next, _ := r.read(ctx, 4, 10); len(events) != 0 || next != 4 {
		t.Errorf("%v, next %d", events, next)
	}
}
