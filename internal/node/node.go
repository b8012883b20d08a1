// SPDX-License-Identifier: Apache-2.0

// Package node is what gateway and host agents share: it enrols, receives
// snapshots, keeps the last good one on disk, puts them in force through
// Appliers, and reports facts upward. It asks nothing about policy and goes on
// with what it has when the server is away.
package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sallyport/sallyport/internal/flow"
	"github.com/sallyport/sallyport/internal/lb"
	"github.com/sallyport/sallyport/internal/snapshot"
)

// keepEvery is the pause between attempts to keep a snapshot on disk.
const keepEvery = time.Second

// An Applier puts snapshots in force. Stage makes one ready beside what is in
// force and may fail; Commit switches to the one staged at r. Stage may be
// called again without a Commit between: the newer replaces the older. Calls
// never overlap.
type Applier interface {
	Stage(ctx context.Context, s *snapshot.Snapshot) error
	Commit(ctx context.Context, r lb.Revision) error
}

// A Kernel tells what the data plane has seen.
type Kernel interface {
	Counters() ([]flow.Counter, error)
	Reasons() (flow.Reasons, error)
	Events(ctx context.Context, tell func(flow.Event)) error // blocks until ctx ends
	Revision() lb.Revision                                   // in force; 0: none. It may outlive this process
}

// Options say who a node is and what it works with.
type Options struct {
	Name      lb.NodeID                   // required
	Role      lb.NodeRole                 // required
	Server    string                      // host:port of the server's node listener; required
	DataDir   string                      // keeps the certificate and the last good snapshot; made 0700 when missing; required
	Address   netip.Addr                  // where the tunnel ends; required
	Other     netip.Addr                  // the same over the other family; zero: nowhere
	Others    []netip.Addr                // further addresses of this machine; the server follows those of a host of somebody's own
	TokenFile string                      // join token; read only to enrol. "": enrolled already
	Appliers  []Applier                   // in the order of staging and committing
	Kernel    Kernel                      // nil: no facts but health
	Flows     FlowKernel                  // nil: no flows are tracked here
	Health    <-chan flow.Health          // changes of targets' health; nil: none
	Requests  func() []flow.Requests      // what layer 7 has answered so far; nil: no layer 7 here
	Loads     func() ([]flow.Load, error) // hosts: connections of the targets whose connections are counted; nil: none are
	Passed    func(lb.Revision)           // hosts: is told which revision every gateway in reach has in force; nil: nobody is
	SetLoads  func([]flow.Load) error     // gateways: is told what hosts count; nil: nobody is
	Version   string                      // of the program, for people
	Logger    *slog.Logger                // nil: silent
}

// A Node is one running agent. Make it with New.
type Node struct {
	o        Options
	log      *slog.Logger
	engine   *engine
	reporter *reporter
	attached atomic.Bool
}

// New checks o and makes the data directory. Nothing is put in force yet.
func New(o Options) (*Node, error) {
	switch {
	case o.Name == "":
		return nil, errors.New("a node needs a name")
	case o.Role != lb.RoleGateway && o.Role != lb.RoleHost:
		return nil, fmt.Errorf("role %q is neither gateway nor host", o.Role)
	case !o.Address.IsValid():
		return nil, errors.New("a node needs the address where its tunnel ends")
	case o.Server == "":
		return nil, errors.New("a node needs its server's address")
	}
	if err := os.MkdirAll(o.DataDir, 0o700); err != nil {
		return nil, err
	}
	log := o.Logger
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	n := &Node{
		o: o, log: log,
		engine:   newEngine(o.Name, o.Role, o.Appliers, &keeper{dir: o.DataDir}, log),
		reporter: newReporter(o.Name, o.Kernel, log),
	}
	n.reporter.requests, n.reporter.tables, n.reporter.loads = o.Requests, newGauge(o.Flows, o.Role, log), o.Loads
	return n, nil
}

// Revision is what this process has put in force; 0: nothing yet.
func (n *Node) Revision() lb.Revision { return n.engine.revision() }

// Run puts the last good snapshot in force, enrols if need be, and serves the
// server's stream, attaching again whenever it breaks, until ctx ends; then it
// returns nil. An error means that the node cannot go on by itself: its token
// or certificate is refused. What is in force in the kernel stays.
func (n *Node) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	wg.Go(func() { n.reporter.collectEvents(ctx) })
	wg.Go(func() { n.reporter.collectHealth(ctx, n.o.Health) })
	if err := n.engine.restore(ctx, n.kernelRevision()); err != nil {
		n.reporter.warn(err.Error())
		n.log.Error("kept snapshot", "error", err)
	}
	wg.Go(func() { n.keep(ctx) })
	id, err := n.identity(ctx)
	if err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return err
	}
	retry := newBackoff()
	for ctx.Err() == nil {
		began := time.Now()
		err := n.attach(ctx, id)
		if ctx.Err() != nil {
			break
		}
		if time.Since(began) > retryReset {
			retry = newBackoff()
		}
		n.log.Warn("detached from the server", "error", err)
		retry.wait(ctx)
	}
	return nil
}

// keep puts on disk what a full disk, say, did not take before, until ctx ends.
func (n *Node) keep(ctx context.Context) {
	tick := time.NewTicker(keepEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if n.engine.keepAgain() {
			n.reporter.warn("")
			n.log.Info("the snapshot in force is kept on disk again", "revision", n.Revision())
		}
	}
}

// Kept is the snapshot of revision r that an earlier process of this node kept
// in o.DataDir; nil when there is none in good order, or r is 0. It changes
// nothing: it is for what may begin before Run, which restores.
func Kept(o Options, r lb.Revision) *snapshot.Snapshot {
	if r == 0 {
		return nil
	}
	k := &keeper{dir: o.DataDir}
	m := k.at(r)
	if m == nil {
		return nil
	}
	a, err := newEngine(o.Name, o.Role, nil, k, nil).open(m)
	if err != nil {
		return nil
	}
	return a.snapshot
}

// Run is New and its Run in one.
func Run(ctx context.Context, o Options) error {
	n, err := New(o)
	if err != nil {
		return err
	}
	return n.Run(ctx)
}

func (n *Node) kernelRevision() lb.Revision {
	if n.o.Kernel == nil {
		return 0
	}
	return n.o.Kernel.Revision()
}
