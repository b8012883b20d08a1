// SPDX-License-Identifier: Apache-2.0

package control

import (
	"context"
	"sync"

	"github.com/sallyport/sallyport/internal/flow"
)

const (
	ringSize  = 65536 // events held for readers
	readLimit = 10000 // events returned at once
)

// A ring holds the newest events. Every event has a number; a number without
// an event is one that was lost, so loss needs no bookkeeping of its own:
// what a reader skipped and did not get, it lost.
type ring struct {
	mu      sync.Mutex
	base    uint64 // the number before the first: readers with older cursors are from another life of the server
	last    uint64 // the newest number given out, lost ones included
	lost    uint64 // of those, told by nodes as lost
	slots   []slot
	head    int           // where the next event goes
	count   int           // slots in use
	changed chan struct{} // closed and replaced with each new event
}

// A slot is an event and its number.
type slot struct {
	number uint64
	event  flow.Event
}

// newRing numbers events from after base. Bases of later rings must be
// greater, so that a cursor never means two events.
func newRing(base uint64) *ring {
	return &ring{base: base, last: base, changed: make(chan struct{})}
}

// add appends events, after lost numbers that stand for events never told.
func (r *ring) add(events []flow.Event, lost uint64) {
	if len(events) == 0 && lost == 0 {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.last += lost
	r.lost += lost
	for _, e := range events {
		r.last++
		r.put(slot{r.last, e})
	}
	if len(events) > 0 {
		close(r.changed)
		r.changed = make(chan struct{})
	}
}

// put stores s over the oldest. The ring grows to its size only when used:
// most servers never see that many events.
func (r *ring) put(s slot) {
	if len(r.slots) < ringSize {
		r.slots = append(r.slots, s)
	} else {
		r.slots[r.head] = s
	}
	r.head = (r.head + 1) % ringSize
	r.count = len(r.slots)
}

// at is the i-th oldest slot held.
func (r *ring) at(i int) slot {
	if r.count < ringSize {
		return r.slots[i]
	}
	return r.slots[(r.head+i)%ringSize]
}

func (r *ring) newest() uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.last
}

// totals are the events received and those that nodes could not tell.
func (r *ring) totals() (events, lost uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.last - r.base - r.lost, r.lost
}

func (r *ring) read(ctx context.Context, after uint64, limit int) ([]flow.Event, uint64, uint64) {
	limit = max(1, min(limit, readLimit))
	for {
		events, next, lost, changed := r.take(after, limit)
		if len(events) > 0 {
			return events, next, lost
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, next, lost
		}
	}
}

// take reads without waiting; changed is closed when there is more.
func (r *ring) take(after uint64, limit int) (events []flow.Event, next, lost uint64, changed <-chan struct{}) {
	r.mu.Lock()
	defer r.mu.Unlock()
	from := min(max(after, r.base), r.last)
	first := r.search(from)
	for i := first; i < r.count && len(events) < limit; i++ {
		events = append(events, r.at(i).event)
	}
	next = r.last
	if n := len(events); n > 0 && first+n < r.count {
		next = r.at(first + n - 1).number
	}
	if after != 0 {
		lost = next - from - uint64(len(events))
	}
	return events, next, lost, r.changed
}

// search is the index of the oldest slot numbered above after.
func (r *ring) search(after uint64) int {
	low, high := 0, r.count
	for low < high {
		if mid := (low + high) / 2; r.at(mid).number > after {
			high = mid
		} else {
			low = mid + 1
		}
	}
	return low
}
