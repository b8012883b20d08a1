// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"encoding/json"
	"log/slog"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/sallyport/sallyport/internal/flow"
	"github.com/sallyport/sallyport/internal/lb"
	"github.com/sallyport/sallyport/internal/snapshot"
	"github.com/sallyport/sallyport/internal/wire"
)

const (
	eventsEvery = 100 * time.Millisecond
	factsEvery  = time.Second
	eventBuffer = 8192 // events held while the server is away
	eventBatch  = 2000 // events in one message
)

// A reporter gathers facts and tells them upward while a stream lasts. What
// is told first on each stream is everything: the server may be a new one.
type reporter struct {
	node     lb.NodeID
	kernel   Kernel
	requests func() []flow.Requests      // nil: no layer 7 here
	tables   *gauge                      // nil: nobody watches flow tables
	loads    func() ([]flow.Load, error) // nil: none are counted here
	log      *slog.Logger
	wake     chan struct{} // room for one: health has changed

	mu         sync.Mutex
	events     []flow.Event
	lost       uint64 // events dropped since the last message
	lostTotal  uint64
	health     map[uint32]flow.Health
	fresh      map[uint32]bool // targets whose health is not told yet
	healthAll  bool            // the next message replaces all health
	warning    string
	warningNew bool

	told         map[flow.Counter]flow.Counter   // report only: by what is not a number in it
	toldRequests map[flow.Requests]flow.Requests // report only: by their keys
	toldLoads    map[uint32]uint32               // report only
}

func newReporter(id lb.NodeID, k Kernel, log *slog.Logger) *reporter {
	return &reporter{node: id, kernel: k, log: log, wake: make(chan struct{}, 1),
		health: map[uint32]flow.Health{}, fresh: map[uint32]bool{}}
}

// warn sets the fault that the server shows for this node; "" clears it.
func (r *reporter) warn(text string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.warningNew = r.warningNew || r.warning != text
	r.warning = text
}

// event takes in one verdict, or counts it as lost when there is no room.
func (r *reporter) event(e flow.Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.events) >= eventBuffer {
		r.lost++
		r.lostTotal++
		return
	}
	r.events = append(r.events, e)
}

// collectEvents listens to the kernel until ctx ends, again after a fault.
func (r *reporter) collectEvents(ctx context.Context) {
	if r.kernel == nil {
		return
	}
	for retry := newBackoff(); ctx.Err() == nil; retry.wait(ctx) {
		if err := r.kernel.Events(ctx, r.event); err != nil && ctx.Err() == nil {
			r.log.Error("reading verdict events", "error", err)
		}
	}
}

// collectHealth takes in changes of health until ctx ends.
func (r *reporter) collectHealth(ctx context.Context, changes <-chan flow.Health) {
	for {
		select {
		case <-ctx.Done():
			return
		case h, ok := <-changes:
			if !ok {
				return
			}
			r.mu.Lock()
			r.health[h.Target], r.fresh[h.Target] = h, true
			r.mu.Unlock()
			select {
			case r.wake <- struct{}{}:
			default:
			}
		}
	}
}

// keepTargets forgets the health of targets that are no longer ours.
func (r *reporter) keepTargets(targets []snapshot.Target) {
	r.mu.Lock()
	defer r.mu.Unlock()
	have := make(map[uint32]bool, len(targets))
	for _, t := range targets {
		have[t.Num] = true
	}
	for num := range r.health {
		if !have[num] {
			delete(r.health, num)
			delete(r.fresh, num)
			r.healthAll = true
		}
	}
}

// report sends facts until ctx ends or sending fails: events within 100 ms,
// health at once, the rest each second if it changed.
func (r *reporter) report(ctx context.Context, send func(*wire.Facts) error) {
	r.mu.Lock()
	r.healthAll, r.warningNew = true, true
	r.mu.Unlock()
	r.told, r.toldRequests, r.toldLoads = nil, nil, nil
	events, facts := time.NewTicker(eventsEvery), time.NewTicker(factsEvery)
	defer events.Stop()
	defer facts.Stop()
	slow := true // the first message carries everything
	for {
		f, more := r.message(slow)
		if f != nil {
			if err := send(f); err != nil {
				r.mu.Lock()
				r.lost += uint64(len(f.Events)) + f.EventsLost
				r.lostTotal += uint64(len(f.Events))
				r.mu.Unlock()
				return
			}
		}
		slow = false
		if more {
			continue
		}
		select {
		case <-ctx.Done():
			return
		case <-r.wake:
		case <-events.C:
		case <-facts.C:
			slow = true
		}
	}
}

// message is what there is to tell; nil when there is nothing. more says that
// not all events fit.
func (r *reporter) message(slow bool) (f *wire.Facts, more bool) {
	f = new(wire.Facts)
	if slow {
		f.Rss = residentBytes()
		r.readKernel(f)
		r.readRequests(f)
		if t, ok := r.tables.read(); ok {
			f.Tables = r.encode(t)
		}
		r.readLoads(f)
	}
	r.mu.Lock()
	n := min(len(r.events), eventBatch)
	events := r.events[:n:n]
	if r.events = r.events[n:]; len(r.events) == 0 {
		r.events = nil
	}
	more = len(r.events) > 0
	f.EventsLost, r.lost = r.lost, 0
	f.HealthAll, r.healthAll = r.healthAll, false
	var health []flow.Health
	for num, h := range r.health {
		if f.HealthAll || r.fresh[num] {
			health = append(health, h)
		}
	}
	clear(r.fresh)
	f.WarningSet, r.warningNew = r.warningNew, false
	if f.WarningSet {
		f.Warning = r.warning
	}
	r.mu.Unlock()
	for _, e := range events {
		f.Events = append(f.Events, r.encode(e))
	}
	for _, h := range health {
		f.Health = append(f.Health, r.encode(h))
	}
	if !slow && len(f.Events) == 0 && len(f.Health) == 0 && !f.HealthAll && !f.WarningSet && f.EventsLost == 0 {
		return nil, more
	}
	return f, more
}

// readKernel adds reasons, and the counters that changed since they were
// last told; all of them when one has vanished.
func (r *reporter) readKernel(f *wire.Facts) {
	if r.kernel == nil {
		return
	}
	if reasons, err := r.kernel.Reasons(); err != nil {
		r.log.Error("reading reasons", "error", err)
	} else {
		f.Reasons = r.encode(reasons)
	}
	counters, err := r.kernel.Counters()
	if err != nil {
		r.log.Error("reading counters", "error", err)
		return
	}
	now := make(map[flow.Counter]flow.Counter, len(counters))
	for _, c := range counters {
		now[counterKey(c)] = c
	}
	f.CountersAll = r.told == nil
	for key := range r.told {
		if _, ok := now[key]; !ok {
			f.CountersAll = true
		}
	}
	for key, c := range now {
		if f.CountersAll || r.told[key] != c {
			f.Counters = append(f.Counters, r.encode(c))
		}
	}
	r.told = now
}

// counterKey is a counter without its numbers and times.
func counterKey(c flow.Counter) flow.Counter {
	return flow.Counter{Gate: c.Gate, Group: c.Group, Rule: c.Rule, Object: c.Object, Direction: c.Direction}
}

// encode cannot fail: facts are plain values.
func (r *reporter) encode(v any) []byte {
	raw, err := json.Marshal(v)
	if err != nil {
		r.log.Error("encoding a fact", "error", err)
		return []byte("{}")
	}
	return raw
}

// lostEvents is how many events this process could not tell.
func (r *reporter) lostEvents() uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.lostTotal
}

// residentBytes is this process's resident memory; 0 when the system does
// not tell.
func residentBytes() uint64 {
	raw, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return 0
	}
	fields := strings.Fields(string(raw))
	if len(fields) < 2 {
		return 0
	}
	pages, err := strconv.ParseUint(fields[1], 10, 64)
	if err != nil {
		return 0
	}
	return pages * uint64(os.Getpagesize())
}
