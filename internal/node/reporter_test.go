// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"testing"

	"github.com/sallyport/sallyport/internal/flow"
	"github.com/sallyport/sallyport/internal/lb"
	"github.com/sallyport/sallyport/internal/policy"
	"github.com/sallyport/sallyport/internal/snapshot"
	"github.com/sallyport/sallyport/internal/wire"
)

// a kernel gives what it holds.
type kernel struct {
	counters []flow.Counter
	reasons  flow.Reasons
}

func (k *kernel) Counters() ([]flow.Counter, error) { return k.counters, nil }
func (k *kernel) Reasons() (flow.Reasons, error)    { return k.reasons, nil }
func (k *kernel) Revision() lb.Revision             { return 3 }
func (k *kernel) Events(ctx context.Context, _ func(flow.Event)) error {
	<-ctx.Done()
	return nil
}

func testReporter(k Kernel) *reporter {
	return newReporter("gateway-1", k, slog.New(slog.DiscardHandler))
}

// Events beyond the buffer are counted, and so are those of a message that
// could not be sent.
func TestReporterCountsLoss(t *testing.T) {
	r := testReporter(nil)
	for i := range eventBuffer + 3 {
		r.event(flow.Event{Revision: lb.Revision(i)})
	}
	sent, first := 0, lb.Revision(0)
	for more := true; more; {
		var f *wire.Facts
		f, more = r.message(false)
		if sent == 0 {
			if f.EventsLost != 3 {
				t.Errorf("lost %d, want 3", f.EventsLost)
			}
			var e flow.Event
			if err := json.Unmarshal(f.Events[0], &e); err != nil {
				t.Fatal(err)
			}
			first = e.Revision
		}
		if len(f.Events) > eventBatch {
			t.Errorf("%d events in one message", len(f.Events))
		}
		sent += len(f.Events)
	}
	if sent != eventBuffer || first != 0 {
		t.Errorf("%d sent, from %d", sent, first)
	}
	if f, _ := r.message(false); f != nil {
		t.Errorf("nothing to tell, yet %v", f)
	}
	r.event(flow.Event{})
	r.report(t.Context(), func(*wire.Facts) error { return errors.New("broken") })
	if f, _ := r.message(false); f.GetEventsLost() != 1 || r.lostEvents() != 4 {
		t.Errorf("after a broken send: %v, total %d", f, r.lostEvents())
	}
}

// Counters are told in full at first and when one vanished, else only those
// that moved.
func TestReporterCounters(t *testing.T) {
	k := &kernel{counters: []flow.Counter{{Rule: "pol-a", Packets: 1}, {Rule: "pol-b", Packets: 1}},
		reasons: flow.Reasons{Packets: map[policy.Reason]uint64{policy.NoMatch: 2}}}
	r := testReporter(k)
	for _, step := range []struct {
		name string
		edit func()
		n    int
		all  bool
	}{
		{"at first", func() {}, 2, true},
		{"nothing moved", func() {}, 0, false},
		{"one moved", func() { k.counters[1].Packets++ }, 1, false},
		{"one vanished", func() { k.counters = k.counters[:1] }, 1, true},
	} {
		step.edit()
		f, _ := r.message(true)
		if len(f.Counters) != step.n || f.CountersAll != step.all || len(f.Reasons) == 0 || f.Rss == 0 {
			t.Errorf("%s: %d counters, all %v", step.name, len(f.Counters), f.CountersAll)
		}
	}
}

// Requests are told like counters: in full at first and when a rule is gone.
func TestReporterRequests(t *testing.T) {
	r := testReporter(nil)
	if f, _ := r.message(true); f.RequestsAll || len(f.Requests) != 0 {
		t.Errorf("without layer 7: %v", f)
	}
	counted := []flow.Requests{{Location: "loc-a", Answers: [flow.RequestClasses]uint64{2: 1}}, {Location: "loc-b", Answers: [flow.RequestClasses]uint64{5: 1}}}
	r.requests = func() []flow.Requests { return counted }
	for _, step := range []struct {
		name string
		edit func()
		n    int
		all  bool
	}{
		{"at first", func() {}, 2, true},
		{"nothing moved", func() {}, 0, false},
		{"one moved", func() { counted[1].Answers[5]++ }, 1, false},
		{"one vanished", func() { counted = counted[:1] }, 1, true},
	} {
		step.edit()
		f, _ := r.message(true)
		if len(f.Requests) != step.n || f.RequestsAll != step.all {
			t.Errorf("%s: %d told, all %v", step.name, len(f.Requests), f.RequestsAll)
		}
	}
}

// Loads are told like counters.
func TestReporterLoads(t *testing.T) {
	r := testReporter(nil)
	counted := []flow.Load{{Target: 2, Connections: 1}, {Target: 1}}
	var fault error
	r.loads = func() ([]flow.Load, error) { return counted, fault }
	for _, step := range []struct {
		name string
		edit func()
		n    int
		all  bool
	}{
		{"at first", func() {}, 2, true},
		{"nothing moved", func() {}, 0, false},
		{"one moved", func() { counted[0].Connections++ }, 1, false},
		{"a fault", func() { fault = errors.New("no table") }, 0, false},
		{"one vanished", func() { fault, counted = nil, counted[:1] }, 1, true},
	} {
		step.edit()
		f, _ := r.message(true)
		if len(f.Loads) != step.n || f.LoadsAll != step.all {
			t.Errorf("%s: %d told, all %v", step.name, len(f.Loads), f.LoadsAll)
		}
	}
}

// Health is told once, again in full on a new stream, and forgotten with its
// target.
func TestReporterHealth(t *testing.T) {
	r := testReporter(nil)
	changes := make(chan flow.Health)
	done := make(chan struct{})
	go func() { defer close(done); r.collectHealth(t.Context(), changes) }()
	for num := range uint32(2) {
		changes <- flow.Health{Target: num, State: flow.HealthAlive}
	}
	close(changes)
	<-done
	if f, _ := r.message(false); len(f.Health) != 2 || f.HealthAll {
		t.Errorf("%v", f)
	}
	if f, _ := r.message(false); f != nil {
		t.Errorf("told again: %v", f)
	}
	r.keepTargets([]snapshot.Target{{Num: 1}})
	if f, _ := r.message(false); len(f.Health) != 1 || !f.HealthAll {
		t.Errorf("after a target went: %v", f)
	}
	r.warn("disk full")
	r.warn("disk full")
	if f, _ := r.message(false); !f.WarningSet || f.Warning != "disk full" {
		t.Errorf("%v", f)
	}
	ctx, cancel := context.WithCancel(t.Context())
	r.report(ctx, func(f *wire.Facts) error {
		if len(f.Health) != 1 || !f.HealthAll || f.Warning != "disk full" {
			t.Errorf("a new stream begins with %v", f)
		}
		cancel()
		return nil
	})
}
