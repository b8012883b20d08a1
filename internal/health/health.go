// SPDX-License-Identifier: Apache-2.0

// Package health probes the targets of a gateway's listeners: over TCP, UDP,
// HTTP or by ping, from the VIP (or the gateway's probe address), through the tunnel and
// gate 2, as a client's connection would go. It says what it saw; what follows
// from it is decided elsewhere.
package health

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/sallyport/sallyport/internal/lb"
	"github.com/sallyport/sallyport/internal/snapshot"
)

// State is what the probes of a target add up to. The numbers are those of
// flow.HealthState.
type State uint8

// The states.
const (
	Unknown State = iota // new: neither threshold has been reached
	Alive
	Dead
	Close // the check is switched off: traffic flows
)

// Why a probe failed.
const (
	KindRefused = "refused" // the connection was reset
	KindTimeout = "timeout" // nothing came in time
	KindAnswer  = "answer"  // something came that the check does not accept
)

// A Result is a target's state.
type Result struct {
	Target uint32
	State  State
	Kind   string    // why it is Dead: KindRefused, KindTimeout or KindAnswer; "" otherwise
	Text   string    // the same as a sentence; "" otherwise
	Since  time.Time // of State
	Takes  bool      // it takes new traffic: Alive, Close, or Unknown of one that took it before
}

// A Dialer connects from a probe address; mark names the target for the
// gateway's egress program. Port 0 in from picks one.
type Dialer func(ctx context.Context, from, to netip.AddrPort, mark uint32) (net.Conn, error)

// Options are what a Prober needs from outside. Dial, Datagram and Ping are
// required.
type Options struct {
	Dial     Dialer // a TCP connection
	Datagram Dialer // a UDP socket; a closed port shows as ECONNREFUSED when it is read
	// Ping sends an echo request and waits for its answer until ctx ends.
	Ping func(ctx context.Context, from, to netip.Addr, mark uint32) error
	// Report is told each target's first result and each change of it, one call
	// at a time. It may call States and Alive, nothing else
	// of the Prober. Nil: nobody is told.
	Report func(Result)
	// Slow is told the share of a target that starts slowly, each second while
	// it grows, in the manner of Report. Nil: nobody is told.
	Slow func(target, share uint32)
	// Former is the share of its weight that a target took when the process
	// before this one ended, of WholeShare; 0: it took no new traffic. It goes on
	// with that until it has been probed. Nil: there was no such process.
	Former func(target uint32) (share uint32)
}

// A Prober probes the targets of the newest committed snapshot.
type Prober struct {
	options Options
	probes  sync.WaitGroup

	commits sync.Mutex // held by Stage, Commit and Close; before telling
	staged  *plan
	force   lb.Revision
	closed  bool
	endRamp context.CancelFunc // nil: nothing has started slowly yet

	telling sync.Mutex // held while Report runs; before mu
	mu      sync.Mutex
	targets map[uint32]*target
	began   bool // something was committed
}

// A plan is what a snapshot says about probing.
type plan struct {
	revision lb.Revision
	orders   map[uint32]order
	slow     map[uint32]time.Duration
}

// An order is all that the probes of one target depend on. Orders that are
// equal need no restart.
type order struct {
	num   uint32
	proto lb.Proto // of the listener
	from  netip.Addr
	to    netip.AddrPort
	host  string // of an HTTP request
	check lb.HealthCheck
}

// A target is an order being carried out. Fields after cancel belong to Prober.mu.
type target struct {
	order  order
	cancel context.CancelFunc // nil while the check is off
	tally  tally
	result Result
	slow   time.Duration // how long it takes to get its whole share
	up     time.Time     // since when it gains its share; zero: it has all of it
	serves bool          // it took traffic before anything was known of it, and goes on to
	early  bool          // it was there before anything was known: it need not start slowly
}

// New makes a Prober that probes nothing yet. Close ends it.
func New(options Options) *Prober {
	if options.Report == nil {
		options.Report = func(Result) {}
	}
	if options.Slow == nil {
		options.Slow = func(uint32, uint32) {}
	}
	return &Prober{options: options, targets: map[uint32]*target{}}
}

// Stage reads what s wants probed. It refuses by name what is not served, and
// then nothing has changed. A later Stage replaces an earlier one.
func (p *Prober) Stage(_ context.Context, s *snapshot.Snapshot) error {
	orders, err := ordersOf(s)
	if err != nil {
		return fmt.Errorf("health: %w", err)
	}
	p.commits.Lock()
	defer p.commits.Unlock()
	if p.closed {
		return errors.New("health: closed")
	}
	p.staged = &plan{s.Revision, orders, slowOf(s)}
	return nil
}

// Commit puts the staged plan of revision r in force. Targets that are gone
// are no longer probed; one whose check has changed is probed the new way and
// keeps its state until new results change it; the rest go on undisturbed. It
// fails only when r is neither staged nor in force.
func (p *Prober) Commit(_ context.Context, r lb.Revision) error {
	p.commits.Lock()
	defer p.commits.Unlock()
	if p.staged == nil || p.staged.revision != r {
		if p.force == r {
			return nil
		}
		return fmt.Errorf("health: revision %d is not staged", r)
	}
	orders, slow, first := p.staged.orders, p.staged.slow, p.force == 0
	p.staged, p.force = nil, r
	if len(slow) > 0 && p.endRamp == nil {
		var ctx context.Context
		ctx, p.endRamp = context.WithCancel(context.Background())
		p.probes.Go(func() { p.ramp(ctx) })
	}
	for _, num := range p.nums() {
		if _, ok := orders[num]; !ok {
			p.drop(num)
		}
	}
	for _, num := range slices.Sorted(maps.Keys(orders)) {
		p.start(orders[num], slow[num], first)
	}
	p.mu.Lock()
	p.began = true
	p.mu.Unlock()
	return nil
}

// Close ends all probes and waits for them.
func (p *Prober) Close() {
	p.commits.Lock()
	defer p.commits.Unlock()
	p.closed, p.staged = true, nil
	for _, num := range p.nums() {
		p.drop(num)
	}
	if p.endRamp != nil {
		p.endRamp()
	}
	p.probes.Wait()
}

// States are the results of all targets, by number.
func (p *Prober) States() []Result {
	p.mu.Lock()
	defer p.mu.Unlock()
	results := make([]Result, 0, len(p.targets))
	for _, t := range p.targets {
		results = append(results, t.result)
	}
	slices.SortFunc(results, func(a, b Result) int { return cmp.Compare(a.Target, b.Target) })
	return results
}

// Alive reports whether a target takes new traffic: it is Alive, or its check
// is switched off. One that took it before this process, or before its check was
// switched on, goes on to until probes say more. A target that the Prober does not
// know is not alive.
func (p *Prober) Alive(num uint32) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if t := p.targets[num]; t != nil {
		return t.result.Takes
	}
	return !p.began && p.former(num) != 0
}

// former is the share that a target took in the process before this one.
func (p *Prober) former(num uint32) uint32 {
	if p.options.Former == nil {
		return 0
	}
	return p.options.Former(num)
}

// start carries out o unless it is being carried out already. first says that
// the target may have been there before this process.
func (p *Prober) start(o order, slow time.Duration, first bool) {
	p.telling.Lock()
	defer p.telling.Unlock()
	p.mu.Lock()
	old := p.targets[o.num]
	if old != nil && old.order == o {
		old.slow = slow
		p.mu.Unlock()
		return
	}
	t := &target{order: o, slow: slow, result: Result{Target: o.num, Since: time.Now()}}
	switch {
	case old != nil:
		t.result, t.up, t.serves, t.early, t.tally.falls = old.result, old.up, old.serves, old.early, old.tally.falls
		if old.cancel != nil {
			old.cancel()
		}
	case first && p.options.Former == nil:
		t.early = true
	case first:
		t.inherit(p.former(o.num), time.Now())
	}
	next := t.result
	switch {
	case !o.check.On && next.State != Close:
		next = Result{Target: o.num, State: Close, Since: time.Now()}
	case o.check.On && next.State == Close:
		next = Result{Target: o.num, Since: time.Now()}
		t.serves = true
	}
	t.become(next)
	var ctx context.Context
	if o.check.On {
		ctx, t.cancel = context.WithCancel(context.Background())
	}
	p.targets[o.num] = t
	result, changed := t.result, old == nil || old.result != t.result
	share := t.share(time.Now())
	p.mu.Unlock()
	if share != WholeShare || first && p.options.Former != nil { // the kernel may hold back more than is asked for now
		p.options.Slow(o.num, share)
	}
	if changed {
		p.options.Report(result)
	}
	if o.check.On {
		p.probes.Go(func() { p.run(ctx, t) })
	}
}

func (p *Prober) drop(num uint32) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if cancel := p.targets[num].cancel; cancel != nil {
		cancel()
	}
	delete(p.targets, num)
}

// nums are the targets there are now; only Commit and Close change that.
func (p *Prober) nums() []uint32 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Collect(maps.Keys(p.targets))
}

// ordersOf finds each target's check: a layer-4 listener's own, a layer-7
// rule's.
func ordersOf(s *snapshot.Snapshot) (map[uint32]order, error) {
	targets := make(map[uint32]snapshot.Target, len(s.Targets))
	for _, t := range s.Targets {
		targets[t.Num] = t
	}
	orders := map[uint32]order{}
	add := func(refs []snapshot.TargetRef, check lb.HealthCheck, domain string) error {
		for _, ref := range refs {
			t, ok := targets[ref.Num]
			if !ok {
				return fmt.Errorf("target %d is not in the snapshot", ref.Num)
			}
			o := order{num: ref.Num, proto: t.Proto, check: check}
			if check.On {
				if err := o.complete(t, domain); err != nil {
					return fmt.Errorf("target %d: %w", ref.Num, err)
				}
			}
			orders[ref.Num] = o
		}
		return nil
	}
	for _, l := range s.Listeners {
		if !l.Layer7 {
			if err := add(l.Targets, l.Check, ""); err != nil {
				return nil, err
			}
			continue
		}
		for _, r := range l.Rules {
			if err := add(r.Targets, r.Check, r.Domain); err != nil {
				return nil, err
			}
		}
	}
	return orders, nil
}

// complete says where the probes go, and refuses what they can't do.
func (o *order) complete(t snapshot.Target, domain string) error {
	c := &o.check
	switch c.Type {
	case lb.CheckTCP, lb.CheckHTTP, lb.CheckPing, lb.CheckCustom:
	default:
		return fmt.Errorf("health checks of type %q are not served", c.Type)
	}
	if c.TimeOut < 1 || c.IntervalTime < 1 || c.HealthNum < 1 || c.UnHealthNum < 1 {
		return errors.New("a health check's times and thresholds must be at least 1")
	}
	if !t.ProbeSource.IsValid() {
		return errors.New("no address to probe from")
	}
	port := t.ProbePort
	if port == 0 {
		port = t.Service.Port()
	}
	o.from, o.to = t.ProbeSource, netip.AddrPortFrom(t.Service.Addr(), port)
	if c.Type != lb.CheckHTTP {
		return nil
	}
	o.host = c.HTTPDomain
	if o.host == "" && !strings.Contains(domain, "*") {
		o.host = domain
	}
	if o.host == "" {
		o.host = o.to.String()
	}
	if c.HTTPMethod != "GET" && c.HTTPMethod != "HEAD" {
		return fmt.Errorf("health checks by %q are not served", c.HTTPMethod)
	}
	for _, text := range []string{o.host, c.HTTPPath} {
		if text == "" || strings.ContainsFunc(text, func(r rune) bool { return r <= ' ' || r == 0x7f }) {
			return fmt.Errorf("%q cannot stand in an HTTP request", text)
		}
	}
	return nil
}
