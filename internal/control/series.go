// SPDX-License-Identifier: Apache-2.0

package control

import (
	"sync"
	"time"

	"github.com/sallyport/sallyport/internal/flow"
	"github.com/sallyport/sallyport/internal/lb"
	"github.com/sallyport/sallyport/internal/policy"
)

// The size of what is kept for charts: an hour in steps of five seconds, for
// so many different things. What comes beyond is added up without its details
// (SeriesKey.Rest).
const (
	SeriesStep  = 5 * time.Second
	SeriesSteps = 720
	maxSeries   = 4096 // of 2.9 kB each
)

// A Metric is what a series counts.
type Metric uint8

// The metrics. Requests, and what FromCounters says of the others, are exact;
// what comes from verdicts lacks those in MetricUntold.
const (
	MetricRequests Metric = iota + 1 // HTTP requests answered
	MetricFlows                      // new flows that a gate let in
	MetricRefusals                   // packets that a gate refused
	MetricUntold                     // verdicts that nodes did not tell, for want of room or by their rate limit
)

// A SeriesKey says what is counted. Fields that do not apply are zero.
type SeriesKey struct {
	Metric       Metric
	FromCounters bool // of MetricFlows and MetricRefusals: from the rules' counters, not from verdicts
	Rest         bool // of everything that found no room of its own
	Probe        bool // from verdicts: a load balancer's own probe, not a client
	Class        int  // of MetricRequests: see flow.StatusClass
	Gate         policy.Gate
	Direction    policy.Direction
	Reason       policy.Reason // from verdicts
	Group        lb.GroupID
	Rule         lb.RuleID // "": no rule decided
	Object       string    // from counters: whose implicit refusal it is
	Balancer     lb.BalancerID
	Listener     lb.ListenerID
	Location     lb.LocationID
	Instance     lb.InstanceID
}

// Series are counts over time, oldest first.
type Series struct {
	SeriesKey
	Values []uint64
}

// seriesRing counts by step. Slots are of the newest SeriesSteps steps up to last.
type seriesRing struct {
	last  int64
	slots [SeriesSteps]uint32
}

func (r *seriesRing) add(step int64, n uint64) {
	if step > r.last {
		for i := max(r.last+1, step-SeriesSteps+1); i <= step; i++ {
			r.slots[i%SeriesSteps] = 0
		}
		r.last = step
	}
	if step > r.last-SeriesSteps {
		at := &r.slots[step%SeriesSteps]
		*at += uint32(min(n, uint64(^uint32(0)-*at)))
	}
}

func (r *seriesRing) at(step int64) uint64 {
	if step < 0 || step > r.last || step <= r.last-SeriesSteps {
		return 0
	}
	return uint64(r.slots[step%SeriesSteps])
}

// A chronicle is everything that is kept for charts. Its size is bounded, and
// it begins with the server: nodes count on by themselves, only the past is
// lost with it.
type chronicle struct {
	now   func() time.Time
	since time.Time

	mu  sync.Mutex
	all map[SeriesKey]*seriesRing
}

func newChronicle(now func() time.Time) *chronicle {
	return &chronicle{now: now, since: now(), all: map[SeriesKey]*seriesRing{}}
}

func stepAt(t time.Time) int64 { return t.Unix() / int64(SeriesStep/time.Second) }

// add counts n at a time.
func (c *chronicle) add(key SeriesKey, n uint64, at time.Time) { c.spread(key, n, at, at) }

// spread counts n evenly over the time in which it came about.
func (c *chronicle) spread(key SeriesKey, n uint64, from, to time.Time) {
	if n == 0 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	last := stepAt(to)
	first := min(last, max(stepAt(from), last-SeriesSteps+1))
	ring, steps := c.ring(key, last), uint64(last-first+1)
	for i := range steps {
		share := n / steps
		if i >= steps-n%steps {
			share++
		}
		ring.add(first+int64(i), share)
	}
}

// ring is a key's ring. When there is no room for another one, those that have
// been still for the whole time go; else the key is counted with the rest.
func (c *chronicle) ring(key SeriesKey, now int64) *seriesRing {
	if r := c.all[key]; r != nil {
		return r
	}
	if len(c.all) >= maxSeries {
		for old, r := range c.all {
			if r.last <= now-SeriesSteps {
				delete(c.all, old)
			}
		}
	}
	if len(c.all) >= maxSeries {
		rest := SeriesKey{Metric: key.Metric, FromCounters: key.FromCounters, Probe: key.Probe, Rest: true}
		if r := c.all[rest]; r != nil {
			return r
		}
		key = rest // a few more than maxSeries: one for each kind of rest
	}
	r := &seriesRing{}
	c.all[key] = r
	return r
}

func (c *chronicle) has(key SeriesKey) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.all[key] != nil
}

// Since is when the series began: with the server.
func (f *Facts) Since() time.Time { return f.past.since }

// Series lists what matches and is not all zero: points values of step each
// (a multiple of SeriesStep), the last of them ending with the present step.
// Nothing is older than SeriesSteps steps.
func (f *Facts) Series(match func(SeriesKey) bool, step time.Duration, points int) []Series {
	c, width := f.past, int64(max(1, step/SeriesStep))
	c.mu.Lock()
	defer c.mu.Unlock()
	// Points begin at multiples of their width, so that one that has been shown
	// does not change any more.
	last := stepAt(c.now()) / width * width
	var all []Series
	for key, ring := range c.all {
		if !match(key) {
			continue
		}
		s, sum := Series{key, make([]uint64, points)}, uint64(0)
		for i := range s.Values {
			for j := range width {
				s.Values[i] += ring.at(last - int64(points-1-i)*width + j)
			}
			sum += s.Values[i]
		}
		if sum > 0 {
			all = append(all, s)
		}
	}
	return all
}

// growth is by how much a counter has grown: from what was told before, if it
// is the same counting; from nothing, when it began since then.
func growth(before, now uint64, same bool) uint64 {
	if same && now >= before {
		return now - before
	}
	return now
}

// counted says how a counter's new value goes into the chronicle: counting is
// the time from when it grew; ok is false when nobody knows, because it began
// before the server did and is told for the first time.
func (n *nodeFacts) counted(known bool, baseline, started time.Time) (ok bool) {
	return known || !n.toldAt.IsZero() || !baseline.Before(started)
}

// chronicleCounters takes in how much rules' counters have grown.
func (f *Facts) chronicleCounters(n *nodeFacts, before map[counterKey]flow.Counter, told []flow.Counter, now time.Time) {
	for _, c := range told {
		old, known := before[keyOf(c)]
		if !n.counted(known, c.Baseline, f.past.since) {
			continue
		}
		same := known && old.Baseline.Equal(c.Baseline)
		key := SeriesKey{FromCounters: true, Gate: c.Gate, Group: c.Group, Rule: c.Rule, Object: c.Object, Direction: c.Direction}
		from := n.toldAt
		if from.IsZero() {
			from = now
		}
		key.Metric = MetricFlows
		f.past.spread(key, growth(old.NewFlows, c.NewFlows, same), from, now)
		key.Metric = MetricRefusals
		if f.refuses(c) || f.past.has(key) {
			f.past.spread(key, growth(old.Packets, c.Packets, same), from, now)
		}
	}
}

// refuses reports whether a counter counts refused packets.
func (f *Facts) refuses(c flow.Counter) bool {
	if c.Rule == "" {
		return true
	}
	g := f.state.Groups.Get(c.Group)
	if g == nil {
		return false
	}
	rules := g.Ingress
	if c.Direction == policy.Out {
		rules = g.Egress
	}
	for i := range rules {
		if rules[i].ID == c.Rule {
			return rules[i].Action == lb.Drop
		}
	}
	return false
}

// chronicleRequests takes in how much request counters have grown.
func (f *Facts) chronicleRequests(n *nodeFacts, before map[flow.Requests]flow.Requests, told []flow.Requests, now time.Time) {
	for _, r := range told {
		old, known := before[r.Key()]
		if !n.counted(known, r.Baseline, f.past.since) {
			continue
		}
		from := n.toldAt
		if from.IsZero() {
			from = now
		}
		for class, count := range r.Answers {
			f.past.spread(SeriesKey{Metric: MetricRequests, Balancer: r.Balancer, Listener: r.Listener, Location: r.Location, Class: class},
				growth(old.Answers[class], count, known && old.Baseline.Equal(r.Baseline)), from, now)
		}
	}
}

// chronicleEvents takes in verdicts as they were told.
func (f *Facts) chronicleEvents(events []flow.Event, lost uint64) {
	now := f.now()
	f.past.add(SeriesKey{Metric: MetricUntold}, lost, now)
	if len(events) == 0 {
		return
	}
	f.mu.Lock()
	state := f.state
	f.mu.Unlock()
	for _, e := range events {
		key := SeriesKey{Metric: MetricFlows, Gate: e.Verdict.Gate, Direction: e.Direction, Reason: e.Verdict.Reason, Group: e.Verdict.Group,
			Rule: e.Verdict.Rule, Balancer: e.Balancer, Listener: e.Listener, Instance: e.Instance, Probe: isProbe(state, e)}
		if e.Verdict.Action == lb.Drop {
			key.Metric = MetricRefusals
		}
		at := e.Time
		if at.After(now) || now.Sub(at) > SeriesSteps*SeriesStep {
			at = now // a node whose clock is wrong
		}
		f.past.add(key, 1, at)
	}
}

// isProbe reports whether a verdict is about a load balancer's own probe.
func isProbe(state *lb.State, e flow.Event) bool {
	if e.Verdict.Gate != policy.GateCVM {
		return false
	}
	if e.Verdict.Reason == policy.SystemRule {
		return true
	}
	b := state.Balancers.Get(e.Balancer)
	if b == nil {
		return false
	}
	for _, vip := range b.VIPs {
		if vip == e.Src.Addr().Unmap() {
			return true
		}
	}
	return false
}
