// SPDX-License-Identifier: Apache-2.0

package node

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/sallyport/sallyport/internal/lb"
	"github.com/sallyport/sallyport/internal/policy"
	"github.com/sallyport/sallyport/internal/snapshot"
	"github.com/sallyport/sallyport/internal/wire"
)

// An engine takes snapshots from the wire to the Appliers and the disk, all
// or nothing.
type engine struct {
	name     lb.NodeID
	role     lb.NodeRole
	appliers []Applier
	keeper   *keeper
	log      *slog.Logger

	turn sync.Mutex // held by the one Stage or Commit

	mu      sync.Mutex // guards what follows, for readers
	inForce *applied
	staged  *applied
	took    time.Duration // of the last stage and commit together
}

// applied is a snapshot with the message it came in; the message holds every
// blob of its manifest.
type applied struct {
	snapshot *snapshot.Snapshot
	message  *wire.Stage
	staging  time.Duration
	prepared bool  // on disk, to be promoted
	unkept   error // why it is not on disk as the last good one
}

func newEngine(name lb.NodeID, role lb.NodeRole, appliers []Applier, k *keeper, log *slog.Logger) *engine {
	return &engine{name: name, role: role, appliers: appliers, keeper: k, log: log}
}

// restore puts the kept snapshot in force, unless the kernel already enforces
// a newer one. An error is a fault worth telling; the node goes on.
func (e *engine) restore(ctx context.Context, kernel lb.Revision) error {
	m, fault := e.keeper.load(kernel)
	if m == nil || lb.Revision(m.Revision) < kernel {
		return fault
	}
	e.turn.Lock()
	defer e.turn.Unlock()
	a, err := e.open(m)
	if err == nil {
		err = e.stageAll(ctx, a.snapshot)
	}
	if err == nil {
		e.set(nil, a)
		err = e.commitAll(ctx, a.snapshot.Revision)
	}
	if err != nil {
		return errors.Join(fault, fmt.Errorf("kept snapshot %d: %w", m.Revision, err))
	}
	e.set(a, nil)
	e.log.Info("kept snapshot in force", "revision", m.Revision)
	return fault
}

// stage makes m ready. With an error nothing has changed. warning is a fault
// that does not stop the snapshot: it could not be kept on disk.
func (e *engine) stage(ctx context.Context, m *wire.Stage) (warning, err error) {
	e.turn.Lock()
	defer e.turn.Unlock()
	began := time.Now()
	whole, err := e.complete(m)
	if err != nil {
		return nil, err
	}
	now := e.current()
	if now != nil && now.message.Revision == whole.Revision && bytes.Equal(now.message.Manifest, whole.Manifest) {
		e.set(now, now)
		return nil, nil
	}
	a, err := e.open(whole)
	if err != nil {
		return nil, err
	}
	kept := make(chan error, 1)
	go func() { kept <- e.keeper.prepare(whole) }() // beside the kernel's work: the disk is the slower
	err = e.stageAll(ctx, a.snapshot)
	if warning = <-kept; warning != nil {
		warning = fmt.Errorf("snapshot %d is not kept on disk: %w", whole.Revision, warning)
	}
	if err != nil {
		return warning, err
	}
	a.prepared, a.unkept = warning == nil, warning
	a.staging = time.Since(began)
	e.set(now, a)
	return warning, nil
}

// commit puts the snapshot staged at r in force. An error before the first
// Applier leaves the former in force; one of an Applier is told, and the rest
// still commit: better one lagging part than all.
func (e *engine) commit(ctx context.Context, r lb.Revision) (warning, err error) {
	e.turn.Lock()
	defer e.turn.Unlock()
	began := time.Now()
	e.mu.Lock()
	a, now := e.staged, e.inForce
	e.mu.Unlock()
	if a == nil || a.snapshot.Revision != r {
		return nil, fmt.Errorf("revision %d is not staged", r)
	}
	if a == now {
		e.set(now, nil)
		return a.unkept, nil
	}
	if err := e.commitAll(ctx, r); err != nil {
		return nil, err
	}
	e.set(a, nil)
	e.mu.Lock()
	e.took = a.staging + time.Since(began)
	e.mu.Unlock()
	if a.prepared {
		if err := e.keeper.promote(); err != nil {
			a.unkept = fmt.Errorf("snapshot %d is not kept on disk: %w", r, err)
		}
	}
	return a.unkept, nil
}

// keepAgain tries to keep what is in force on disk if that failed before, and
// reports whether it did just now.
func (e *engine) keepAgain() bool {
	e.turn.Lock()
	defer e.turn.Unlock()
	e.mu.Lock()
	a, staged := e.inForce, e.staged
	e.mu.Unlock()
	if a == nil || a.unkept == nil || staged != nil && staged != a {
		return false // or what comes next is being kept instead
	}
	if e.keeper.prepare(a.message) != nil || e.keeper.promote() != nil {
		return false // told when it began
	}
	a.prepared, a.unkept = true, nil
	return true
}

// complete is m with every blob of its manifest: those that came and those
// that are here.
func (e *engine) complete(m *wire.Stage) (*wire.Stage, error) {
	var manifest snapshot.Manifest
	if err := json.Unmarshal(m.Manifest, &manifest); err != nil {
		return nil, fmt.Errorf("manifest: %w", err)
	}
	here := e.blobs()
	for _, b := range m.Blobs {
		here[b.Hash] = b
	}
	whole := &wire.Stage{Revision: m.Revision, Manifest: m.Manifest}
	seen := map[policy.Hash]bool{}
	for _, h := range manifest.Hashes() {
		b := here[string(h)]
		if b == nil {
			return nil, fmt.Errorf("blob %s is missing", h)
		}
		if seen[h] {
			continue // elements with equal content share a blob
		}
		seen[h] = true
		whole.Blobs = append(whole.Blobs, b)
	}
	return whole, nil
}

// open decodes a message that has every blob and checks that it is for us.
func (e *engine) open(m *wire.Stage) (*applied, error) {
	var manifest snapshot.Manifest
	if err := json.Unmarshal(m.Manifest, &manifest); err != nil {
		return nil, fmt.Errorf("manifest: %w", err)
	}
	blobs := map[policy.Hash][]byte{}
	for _, b := range m.Blobs {
		blobs[policy.Hash(b.Hash)] = b.Data
	}
	s, err := snapshot.Decode(manifest, blobs)
	if err != nil {
		return nil, err
	}
	if s.Node != e.name || s.Role != e.role || s.Revision != lb.Revision(m.Revision) {
		return nil, fmt.Errorf("the snapshot is for %s %s at %d, not for %s %s at %d",
			s.Role, s.Node, s.Revision, e.role, e.name, m.Revision)
	}
	return &applied{snapshot: s, message: m}, nil
}

func (e *engine) stageAll(ctx context.Context, s *snapshot.Snapshot) error {
	for _, a := range e.appliers {
		if err := a.Stage(ctx, s); err != nil {
			return err
		}
	}
	return nil
}

func (e *engine) commitAll(ctx context.Context, r lb.Revision) error {
	var all error
	for _, a := range e.appliers {
		all = errors.Join(all, a.Commit(ctx, r))
	}
	return all
}

// blobs are those that the node holds, by hash: of the snapshot in force and
// of the one staged.
func (e *engine) blobs() map[string]*wire.Blob {
	e.mu.Lock()
	defer e.mu.Unlock()
	all := map[string]*wire.Blob{}
	for _, a := range []*applied{e.inForce, e.staged} {
		if a != nil {
			for _, b := range a.message.Blobs {
				all[b.Hash] = b
			}
		}
	}
	return all
}

func (e *engine) set(inForce, staged *applied) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.inForce, e.staged = inForce, staged
}

func (e *engine) current() *applied {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.inForce
}

// revision is what is in force; 0: nothing.
func (e *engine) revision() lb.Revision {
	if a := e.current(); a != nil {
		return a.snapshot.Revision
	}
	return 0
}

// applyTime is how long the last stage and commit took together.
func (e *engine) applyTime() time.Duration {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.took
}
