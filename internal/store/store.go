// SPDX-License-Identifier: Apache-2.0

// Package store keeps the desired state of a region: transactions with
// optimistic concurrency, one revision counter, a watch that always has the
// newest state, and asynchronous task results. It is the only room that knows
// the database.
//
// One object is one key with a JSON value. Every write is one etcd
// transaction that compares the guard key, so a state is never torn and no
// update is ever lost, however many control planes write.
package store

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/sallyport/sallyport/internal/lb"
)

// ErrClosed is returned by operations on a Store after Close.
var ErrClosed = errors.New("the store is closed")

// keepAux is how long tasks and client tokens can be read.
const keepAux = 24 * time.Hour

// Options say where the state is kept.
type Options struct {
	// DataDir is the directory of the embedded database; it is made (mode
	// 0700) when missing and belongs to one process at a time. Unused when
	// Endpoints is set.
	DataDir string
	// Endpoints of an external etcd cluster; empty runs the embedded one. Its
	// --max-txn-ops bounds how many objects one transaction may change.
	Endpoints []string
	// History is how long past states stay readable in the database; 0 is
	// three days. Only the embedded database is compacted by us.
	History time.Duration
	// Log takes what an operator should know; nil discards it.
	Log *slog.Logger
}

// A Store is the desired state of one region. Its methods may be called from
// many goroutines. Close it when done.
type Store struct {
	back backend
	turn chan struct{} // held by the one local writer: conflicts come only from other processes

	stop context.CancelFunc
	done chan struct{} // closed when Close begins
	wg   sync.WaitGroup

	mu      sync.Mutex
	cur     *view
	changed chan struct{} // closed and replaced whenever cur moves
}

// A view is a published state and what it takes to write the next one. It is
// immutable.
type view struct {
	state *lb.State
	index *Index // of state
	num   uint32 // the last number NextNum gave out
	audit uint64 // the number of the audit log's newest line
	guard int64  // version of the guard key; 0: never written
}

// A backend makes writes durable. Objects are its business only where they
// outlive the process.
type backend interface {
	// commit writes w if nobody has written since w.base. ok is false when
	// somebody has; then guard means nothing.
	commit(ctx context.Context, w write) (guard int64, ok bool, err error)
	// aux reads a task or token.
	aux(ctx context.Context, key string) (value []byte, ok bool, err error)
	// newest is the guard of the last write by anybody whose answer is out; 0
	// when this process is the only writer.
	newest(ctx context.Context) (int64, error)
	// lines reads the audit log's lines with numbers in [from, to), in order.
	lines(ctx context.Context, from, to uint64) ([][]byte, error)
	// trim removes the audit log's lines with numbers below.
	trim(ctx context.Context, below uint64) error
	close() error
}

// A write is what one transaction changes.
type write struct {
	base     *view
	revision lb.Revision
	num      uint32
	changes  []change
	aux      []change // kept for keepAux
	line     []byte   // of the audit log, number base.audit+1; nil: none
}

// A change sets a key, or removes it when value is nil.
type change struct {
	key   string
	value []byte
}

// Open opens the state in o.DataDir with an embedded database (one member,
// listening only on a unix socket inside the directory), or that of an external
// cluster. It fails when another process has the directory open.
func Open(ctx context.Context, o Options) (*Store, error) {
	return openEtcd(ctx, o)
}

// NewMemory returns an empty Store that lives as long as the process, with
// the same semantics as an opened one.
func NewMemory() *Store {
	return newStore(newMemory(time.Now), emptyView())
}

func newStore(b backend, v *view) *Store {
	return &Store{
		back: b, turn: make(chan struct{}, 1), done: make(chan struct{}),
		cur: v, changed: make(chan struct{}), stop: func() {},
	}
}

// Close ends every watch and releases the database. Updates under way may
// still be written. A second Close does nothing.
func (s *Store) Close() error {
	s.mu.Lock()
	select {
	case <-s.done:
		s.mu.Unlock()
		return nil
	default:
	}
	close(s.done)
	s.mu.Unlock()
	s.stop()
	s.wg.Wait()
	return s.back.close()
}

// State returns the newest state. It is immutable: never modify what it
// points to.
func (s *Store) State() *lb.State {
	v, _ := s.current()
	return v.state
}

// current returns the newest view and a channel that is closed when there is
// a newer one.
func (s *Store) current() (*view, <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.cur, s.changed
}

// advance publishes next if base is still the newest view. When it is not,
// the same write was published on another way already: a commit succeeds only
// on top of the newest view, so views never skip a revision.
func (s *Store) advance(base, next *view) {
	s.replaceIf(next, func(cur *view) bool { return cur == base })
}

func (s *Store) replaceIf(next *view, ok func(cur *view) bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !ok(s.cur) {
		return
	}
	s.cur = next
	close(s.changed)
	s.changed = make(chan struct{})
}

// Update runs fn on the newest state and writes what it put and deleted as
// one transaction. It returns the revision that holds the change; State is at
// least at that revision by then. When somebody else wrote meanwhile, fn runs
// again on the newer state, so it must have no effect besides its Tx, and it
// must not call Update. An error of fn is returned as it is and nothing is
// written. A fn that changes nothing writes nothing; one that only puts
// tasks or tokens leaves the revision as it was.
//
// When the database fails or ctx ends during the commit, the error does not
// say whether the change was written.
func (s *Store) Update(ctx context.Context, fn func(tx *Tx) error) (lb.Revision, error) {
	select {
	case s.turn <- struct{}{}:
		defer func() { <-s.turn }()
	case <-s.done:
		return 0, ErrClosed
	case <-ctx.Done():
		return 0, ctx.Err()
	}
	for {
		base, changed := s.current()
		select {
		case <-s.done:
			return 0, ErrClosed
		default:
		}
		tx := newTx(ctx, s.back, base)
		if err := fn(tx); err != nil {
			return 0, err
		}
		if tx.err != nil {
			return 0, tx.err
		}
		w, next, err := tx.finish()
		if err != nil {
			return 0, err
		}
		if next == nil {
			return base.state.Revision, nil
		}
		guard, ok, err := s.back.commit(ctx, w)
		if err != nil {
			return 0, fmt.Errorf("write revision %d: %w", w.revision, err)
		}
		if ok {
			next.guard = guard
			s.advance(base, next)
			return next.state.Revision, nil
		}
		select {
		case <-changed:
		case <-s.done:
			return 0, ErrClosed
		case <-ctx.Done():
			return 0, ctx.Err()
		}
	}
}

// Sync waits until State holds every write that anybody had finished before,
// also through another process on the same external cluster. With the embedded
// database nobody else writes, and it returns at once.
func (s *Store) Sync(ctx context.Context) error {
	guard, err := s.back.newest(ctx)
	if err != nil {
		return fmt.Errorf("ask for the newest revision: %w", err)
	}
	for {
		v, changed := s.current()
		if v.guard >= guard {
			return nil
		}
		select {
		case <-changed:
		case <-s.done:
			return ErrClosed
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Watch delivers the newest state at once and then whenever it has changed.
// A slow receiver misses states in between, never the last one. The channel
// is closed when ctx ends or the Store closes.
func (s *Store) Watch(ctx context.Context) <-chan *lb.State {
	ch := make(chan *lb.State)
	s.mu.Lock()
	defer s.mu.Unlock()
	select {
	case <-s.done:
		close(ch)
		return ch
	default:
	}
	s.wg.Add(1)
	go func() {
		defer s.wg.Done()
		defer close(ch)
		s.deliver(ctx, ch)
	}()
	return ch
}

func (s *Store) deliver(ctx context.Context, ch chan<- *lb.State) {
	var last *lb.State
	for {
		v, changed := s.current()
		out := ch
		if v.state == last {
			out = nil
		}
		select {
		case out <- v.state:
			last = v.state
		case <-changed:
		case <-ctx.Done():
			return
		case <-s.done:
			return
		}
	}
}

// A Task is the result of an asynchronous action, kept for 24 hours.
type Task struct {
	ID              string // the RequestId of the call that made it
	Status          int    // 0 succeeded, 1 failed, 2 in progress
	LoadBalancerIDs []string
	Key             lb.KeyID `json:",omitempty"` // whose call it was; "": this process's own
	Projects        []string `json:",omitempty"` // of all that it changed, sorted
	Message         string
	Created         time.Time
	Revision        lb.Revision // that holds what the action changed; PutTask sets it
}

// Task returns the task of a request; false when there is none, or none any
// more.
func (s *Store) Task(ctx context.Context, requestID string) (Task, bool, error) {
	var t Task
	raw, ok, err := s.back.aux(ctx, taskKey(requestID))
	if err != nil || !ok {
		return Task{}, false, err
	}
	if err := decode(raw, &t); err != nil {
		return Task{}, false, fmt.Errorf("task %s: %w", requestID, err)
	}
	return t, true, nil
}
