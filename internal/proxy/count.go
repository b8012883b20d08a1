// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sallyport/sallyport/internal/flow"
	"github.com/sallyport/sallyport/internal/lb"
	"github.com/sallyport/sallyport/internal/snapshot"
)

// A tally counts the answers of one rule, or those that the proxy gave itself.
// It outlives views, so that a commit never sets a counter back.
type tally struct {
	name    flow.Requests // its numbers are zero
	answers [flow.RequestClasses]atomic.Uint64
}

// answered counts one request; status 0 is a client that left before.
func (t *tally) answered(status int) {
	if t != nil {
		t.answers[flow.StatusClass(status)].Add(1)
	}
}

// books hold the tallies of all rules.
type books struct {
	mu  sync.Mutex
	all map[flow.Requests]*tally // by flow.Requests.Key
}

// of is a rule's tally; location "" is the listener's own.
func (b *books) of(l snapshot.Listener, location lb.LocationID) *tally {
	name := flow.Requests{Balancer: l.Balancer, Listener: l.ID, Location: location}
	b.mu.Lock()
	defer b.mu.Unlock()
	t := b.all[name]
	if t == nil {
		key := name
		name.Baseline = time.Now()
		t = &tally{name: name}
		b.all[key] = t
	}
	return t
}

// keep forgets the tallies of rules that a view has no more.
func (b *books) keep(v *view) {
	have := map[flow.Requests]bool{}
	for _, r := range v.routes {
		have[r.own.name.Key()] = true
		for _, l := range r.all {
			have[l.tally.name.Key()] = true
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for key := range b.all {
		if !have[key] {
			delete(b.all, key)
		}
	}
}

// count gives routes their tallies.
func (r *routes) count(b *books, l snapshot.Listener) {
	r.own = b.of(l, "")
	for _, location := range r.all {
		location.tally = b.of(l, location.id)
	}
}

// own is the tally of what no rule takes at an address; nil when nothing is
// there.
func (v *view) own(at netip.AddrPort) *tally {
	if r := v.routes[at]; r != nil {
		return r.own
	}
	return nil
}

// Requests lists what was answered so far, by rule, in no order: counters that
// only grow while this process lives. Rules that nobody has asked yet are left
// out. Node is empty.
func (p *Proxy) Requests() []flow.Requests {
	p.books.mu.Lock()
	defer p.books.mu.Unlock()
	var all []flow.Requests
	for _, t := range p.books.all {
		r, sum := t.name, uint64(0)
		for class := range t.answers {
			r.Answers[class] = t.answers[class].Load()
			sum += r.Answers[class]
		}
		if sum > 0 {
			all = append(all, r)
		}
	}
	return all
}

// An outcome is counted once, when the head of the answer is known: a request
// may go on for hours after it.
type outcome struct {
	tally *tally
	known bool
}

func (o *outcome) is(status int) {
	if o != nil && !o.known {
		o.known = true
		o.tally.answered(status)
	}
}

// speak answers in the proxy's own words, and counts it.
func speak(w http.ResponseWriter, t *tally, status int, last bool) {
	t.answered(status)
	answer(w, status, last)
}
