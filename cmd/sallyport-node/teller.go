// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"log/slog"
	"sync"

	"github.com/sallyport/sallyport/internal/flow"
	"github.com/sallyport/sallyport/internal/health"
	"github.com/sallyport/sallyport/internal/lb"
	"github.com/sallyport/sallyport/internal/snapshot"
)

// A gatekeeper is told which targets take new flows; met by
// *datapath.Datapath.
type gatekeeper interface {
	SetHealth(target uint32, alive bool) error
	SetShare(target, share uint32) error
}

// A teller carries the prober's results to the kernel and to the reporter, in
// clients' words. It is an Applier because the words come from the snapshot.
type teller struct {
	gate gatekeeper
	out  chan<- flow.Health
	done <-chan struct{} // closed when nobody reads out any more
	log  *slog.Logger

	mu     sync.Mutex
	staged *snapshot.Snapshot
	ids    map[uint32]snapshot.TargetID
}

// newTeller makes a teller that works until ctx ends.
func newTeller(ctx context.Context, gate gatekeeper, out chan<- flow.Health, log *slog.Logger) *teller {
	return &teller{gate: gate, out: out, done: ctx.Done(), log: log}
}

// Stage remembers the snapshot.
func (t *teller) Stage(_ context.Context, s *snapshot.Snapshot) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.staged = s
	return nil
}

// Commit takes over the names of the staged snapshot's targets.
func (t *teller) Commit(context.Context, lb.Revision) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.staged == nil {
		return nil
	}
	t.ids = make(map[uint32]snapshot.TargetID, len(t.staged.Targets))
	for _, target := range t.staged.Targets {
		t.ids[target.Num] = target.ID
	}
	t.staged = nil
	return nil
}

// slow takes the share of a target that starts slowly.
func (t *teller) slow(target, share uint32) {
	if err := t.gate.SetShare(target, share); err != nil {
		t.log.Error("share not set in the kernel", "target", target, "share", share, "error", err)
	}
}

// report takes one result.
func (t *teller) report(r health.Result) {
	t.mu.Lock()
	id := t.ids[r.Target]
	t.mu.Unlock()
	if err := t.gate.SetHealth(r.Target, r.Takes); err != nil {
		t.log.Error("health not set in the kernel", "target", r.Target, "alive", r.Takes, "error", err)
	}
	h := flow.Health{Target: r.Target, ID: id, State: flow.HealthState(r.State), Kind: r.Kind, Text: r.Text, Since: r.Since}
	select {
	case t.out <- h:
	case <-t.done:
	}
}
