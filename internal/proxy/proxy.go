// SPDX-License-Identifier: Apache-2.0

// Package proxy serves the layer-7 listeners of a gateway: HTTP/1.1 on each
// VIP and port, plain or inside TLS that ends here, requests routed by domain and URL prefix, and connections to
// targets that keep the client's own address, because gate 2 judges it.
//
// One rule is above all others: an upstream connection carries the requests
// of one client address only. A connection that gate 2 admitted for one client
// must never bring another client's request to the target.
package proxy

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sallyport/sallyport/internal/flow"
	"github.com/sallyport/sallyport/internal/lb"
	"github.com/sallyport/sallyport/internal/snapshot"
)

// A Dialer connects to a target from a client's own address. Port 0 in from
// picks one; mark names the target for the gateway's egress program.
type Dialer func(ctx context.Context, from, to netip.AddrPort, mark uint32) (net.Conn, error)

// A ListenFunc opens a listener on a VIP and port.
type ListenFunc func(ctx context.Context, at netip.AddrPort) (net.Listener, error)

// Options are what a Proxy needs from outside. Dial and Listen are required.
type Options struct {
	Dial   Dialer
	Listen ListenFunc
	Alive  func(target uint32) bool   // whether a target takes new requests; nil: all do
	Share  func(target uint32) uint32 // of WholeShare that a target takes of what its weight gives it; nil: all of it
	Logger *slog.Logger               // nil: slog.Default
	Limits Limits
}

// Limits bound time and memory. A zero field means its default.
type Limits struct {
	Connect       time.Duration // to open a connection to one target; 4 s
	Answer        time.Duration // from the whole request sent to the head of the answer; 60 s
	Head          time.Duration // from the first byte of a request to the end of its head; 60 s
	Stall         time.Duration // between two reads of a body, or for one write; 60 s
	Handshake     time.Duration // at the end, for connections that are just being made; 300 ms
	KeepAlive     time.Duration // an idle client connection is closed after this; 75 s
	UpstreamIdle  time.Duration // an idle upstream connection is closed after this; 60 s
	Leave         time.Duration // requests under way to a target that was taken away end after this; 1 h
	IdlePerClient int           // idle upstream connections per client address and target; 8
	IdleTotal     int           // idle upstream connections altogether; 4096
	HeadBytes     int           // of a request's head; 64 KiB
}

func (l Limits) withDefaults() Limits {
	durations := []struct {
		field *time.Duration
		value time.Duration
	}{
		{&l.Connect, 4 * time.Second}, {&l.Answer, time.Minute}, {&l.Head, time.Minute}, {&l.Stall, time.Minute},
		{&l.Handshake, 300 * time.Millisecond}, {&l.KeepAlive, 75 * time.Second}, {&l.UpstreamIdle, time.Minute}, {&l.Leave, time.Hour},
	}
	for _, d := range durations {
		if *d.field == 0 {
			*d.field = d.value
		}
	}
	numbers := []struct {
		field *int
		value int
	}{{&l.IdlePerClient, 8}, {&l.IdleTotal, 4096}, {&l.HeadBytes, 64 << 10}}
	for _, n := range numbers {
		if *n.field == 0 {
			*n.field = n.value
		}
	}
	return l
}

// A Proxy serves the layer-7 listeners of the newest committed snapshot. Each
// request is served by one snapshot from beginning to end.
type Proxy struct {
	options   Options
	limits    Limits
	engine    engine
	current   atomic.Pointer[view] // never nil
	books     books
	loads     loads
	upstreams upstreams

	mu     sync.Mutex // guards the rest: Stage, Commit and Close
	open   map[netip.AddrPort]*front
	staged *stage
	closed bool

	base     context.Context // ends tunnelled (upgraded) connections at Close
	endBase  context.CancelFunc
	fronts   sync.WaitGroup
	requests inFlight
	heads    headCount
}

// A stage is a snapshot that is ready to be put in force: what it adds to the
// open listeners is bound already, but not served.
type stage struct {
	view *view
	open map[netip.AddrPort]net.Listener // those that are not in Proxy.open
}

// New makes a Proxy that serves nothing yet. Close ends it.
func New(options Options) *Proxy {
	if options.Alive == nil {
		options.Alive = func(uint32) bool { return true }
	}
	if options.Share == nil {
		options.Share = func(uint32) uint32 { return WholeShare }
	}
	if options.Logger == nil {
		options.Logger = slog.Default()
	}
	p := &Proxy{options: options, limits: options.Limits.withDefaults(), open: map[netip.AddrPort]*front{},
		books: books{all: map[flow.Requests]*tally{}}, loads: loads{all: map[uint32]*atomic.Int64{}},
		upstreams: upstreams{open: map[uint32]map[*upstream]bool{}, ends: map[uint32]*time.Timer{}}}
	p.base, p.endBase = context.WithCancel(context.Background())
	there := func(num uint32) bool { _, ok := p.current.Load().targets[num]; return ok }
	p.engine = newReverseProxy(tries{options.Alive, there, options.Share}, options.Logger)
	nothing, _ := p.newView(&snapshot.Snapshot{}, nil) // only certificates can fail
	p.current.Store(nothing)
	return p
}

// Stage opens the listeners that s adds. When an address cannot be bound, or a
// certificate is none, it returns an error that names it, and nothing has changed. A later Stage
// replaces an earlier one.
func (p *Proxy) Stage(ctx context.Context, s *snapshot.Snapshot) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return fmt.Errorf("proxy: closed")
	}
	view, err := p.newView(s, p.current.Load())
	if err != nil {
		return err
	}
	next := &stage{view: view, open: map[netip.AddrPort]net.Listener{}}
	earlier := map[netip.AddrPort]net.Listener{}
	if p.staged != nil {
		earlier = p.staged.open
	}
	var opened []net.Listener
	for at := range next.view.routes {
		if p.open[at] != nil {
			continue
		}
		if l := earlier[at]; l != nil {
			next.open[at] = l
			continue
		}
		l, err := p.options.Listen(ctx, at)
		if err != nil {
			for _, l := range opened {
				l.Close()
			}
			return fmt.Errorf("proxy: cannot listen on %v: %w", at, err)
		}
		opened = append(opened, l)
		next.open[at] = l
	}
	for at, l := range earlier {
		if next.open[at] == nil {
			l.Close()
		}
	}
	p.staged = next
	return nil
}

// Commit puts the staged snapshot of revision r in force: new listeners are
// served, gone ones are closed (a request in flight goes on, also at a target that is gone), and idle
// upstream connections are closed, so that the next request's dial meets gate
// 2 at the new revision. It fails only when r is neither staged nor in force.
func (p *Proxy) Commit(_ context.Context, r lb.Revision) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.staged == nil || p.staged.view.revision != r {
		if p.current.Load().revision == r {
			return nil
		}
		return fmt.Errorf("proxy: revision %d is not staged", r)
	}
	next := p.staged
	p.staged = nil
	old := p.current.Swap(next.view)
	p.books.keep(next.view)
	p.loads.keep(next.view.targets)
	p.upstreams.turn(old, next.view, p.limits.Leave)
	for at, l := range next.open {
		p.serve(at, l)
	}
	for at, f := range p.open {
		if next.view.routes[at] == nil {
			delete(p.open, at)
			p.retire(f)
		}
	}
	old.upstream.CloseIdleConnections()
	return nil
}

// Close stops serving and breaks nothing that has begun: listeners begin no
// connections any more, those that clients are just making are accepted, requests
// are answered, and only then are listeners and connections closed. At the end
// of ctx they are anyway.
func (p *Proxy) Close(ctx context.Context) error {
	p.mu.Lock()
	p.closed = true
	if p.staged != nil {
		for _, l := range p.staged.open {
			l.Close()
		}
		p.staged = nil
	}
	open := p.open
	p.open = map[netip.AddrPort]*front{}
	p.mu.Unlock()

	p.shutAll(ctx, open)
	ends := make(chan error, len(open)) // side by side: none must wait for another's slow request with an open door
	for _, f := range open {
		go func() { ends <- f.server.Shutdown(ctx) }()
	}
	var failed error
	for range open {
		if err := <-ends; err != nil {
			failed = err
		}
	}
	p.endBase()
	for _, f := range open {
		f.server.Close()
	}
	p.fronts.Wait()
	p.requests.end()
	p.upstreams.stop()
	p.current.Load().upstream.CloseIdleConnections()
	return failed
}

// A front is one open listener and the HTTP server behind it.
type front struct {
	listener net.Listener
	server   *http.Server
}

func (p *Proxy) serve(at netip.AddrPort, l net.Listener) {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	f := &front{listener: l, server: &http.Server{
		Handler:     p.handler(at),
		Protocols:   protocols,
		IdleTimeout: p.limits.KeepAlive,
		// The strict reader in front enforces its own, tighter bounds and
		// answers 408 and 431; these only bound what it hands on.
		ReadHeaderTimeout:            p.limits.Head,
		MaxHeaderBytes:               2 * p.limits.HeadBytes,
		DisableGeneralOptionsHandler: true,
		ErrorLog:                     slog.NewLogLogger(p.options.Logger.Handler(), slog.LevelDebug),
		BaseContext:                  func(net.Listener) context.Context { return p.base },
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			return context.WithValue(ctx, clientKey{}, c)
		},
	}}
	p.open[at] = f
	p.fronts.Go(func() {
		if err := f.server.Serve(strictListener{l, p, at, p.handshakes(at)}); !errors.Is(err, http.ErrServerClosed) && !errors.Is(err, net.ErrClosed) {
			p.options.Logger.Error("listener stopped", "address", at, "err", err)
		}
	})
}

// retire closes a listener at once and its connections as they become idle.
func (p *Proxy) retire(f *front) {
	f.listener.Close()
	p.fronts.Go(func() {
		if err := f.server.Shutdown(p.base); err != nil {
			f.server.Close()
		}
	})
}

// inFlight counts requests. After end has begun, none is let in.
type inFlight struct {
	mu    sync.RWMutex
	ended bool
	count sync.WaitGroup
}

// enter reports whether the request may be served; then leave must follow.
func (f *inFlight) enter() bool {
	f.mu.RLock()
	defer f.mu.RUnlock()
	if f.ended {
		return false
	}
	f.count.Add(1)
	return true
}

func (f *inFlight) leave() { f.count.Done() }

// end waits for the requests that were let in.
func (f *inFlight) end() {
	f.mu.Lock()
	f.ended = true
	f.mu.Unlock()
	f.count.Wait()
}
