// SPDX-License-Identifier: Apache-2.0

package control

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/sallyport/sallyport/internal/flow"
	"github.com/sallyport/sallyport/internal/lb"
	"github.com/sallyport/sallyport/internal/policy"
)

// A past is Facts with a clock that tests move, one node, and one group whose
// second rule refuses.
type past struct {
	*testing.T
	*Facts
	at time.Time
}

func newPast(t *testing.T) *past {
	p := &past{T: t, at: time.Unix(1_800_000_000, 0)}
	p.Facts = newFacts(func() time.Time { return p.at })
	p.follow(&lb.State{Nodes: lb.TableOf(map[lb.NodeID]*lb.Node{"gateway-1": {ID: "gateway-1", Role: lb.RoleGateway}}),
		Balancers: lb.TableOf(map[lb.BalancerID]*lb.LoadBalancer{"lb-1": {VIPs: []netip.Addr{netip.MustParseAddr("192.0.2.1")}}}),
		Groups: lb.TableOf(map[lb.GroupID]*lb.SecurityGroup{"sg-1": {ID: "sg-1", Ingress: []lb.PolicyRule{{ID: "yes", Action: lb.Accept}, {ID: "no", Action: lb.Drop}},
			Egress: []lb.PolicyRule{{ID: "out", Action: lb.Drop}}}})})
	return p
}

func (p *past) counter(rule lb.RuleID, packets, flows uint64, since time.Time) flow.Counter {
	return flow.Counter{Gate: policy.GateCLB, Group: "sg-1", Rule: rule, Direction: policy.In, Packets: packets, NewFlows: flows, Baseline: since}
}

func (p *past) tell(r report) { r.rss = 1; p.report("gateway-1", r) }

// newest are the last points of all series of a metric, added up.
func (p *past) newest(metric Metric, points int) []uint64 {
	sum := make([]uint64, points)
	for _, s := range p.Series(func(k SeriesKey) bool { return k.Metric == metric }, SeriesStep, points) {
		for i, n := range s.Values {
			sum[i] += n
		}
	}
	return sum
}

func (p *past) want(what string, metric Metric, want ...uint64) {
	p.Helper()
	if got := p.newest(metric, len(want)); !slices.Equal(got, want) {
		p.Errorf("%s: %v, want %v", what, got, want)
	}
}

// What a counter had before the server began is no growth; what began since
// is, and a counter that begins again counts from nothing.
func TestGrowthOfCounters(t *testing.T) {
	p := newPast(t)
	old := p.at.Add(-time.Hour)
	p.tell(report{countersAll: true, counters: []flow.Counter{p.counter("yes", 900, 90, old), p.counter("no", 50, 0, old)}})
	p.want("first told", MetricFlows, 0)
	p.want("first told", MetricRefusals, 0)
	p.at = p.at.Add(SeriesStep)
	p.tell(report{counters: []flow.Counter{p.counter("yes", 1000, 93, old), p.counter("no", 57, 0, old)}})
	p.want("grown", MetricFlows, 1, 2) // half of the time was in the step before
	p.want("grown", MetricRefusals, 3, 4)
	p.at = p.at.Add(SeriesStep)
	p.tell(report{})
	p.tell(report{countersAll: true, counters: []flow.Counter{p.counter("yes", 4, 2, p.at), p.counter("no", 57, 0, old), p.counter("out", 5, 0, p.at)}})
	p.want("a new baseline", MetricFlows, 2, 2)
	p.tell(report{counters: []flow.Counter{{Gate: policy.GateCLB, Object: "lb-1", Packets: 6, Baseline: p.at}}})
	p.want("the implicit refusal", MetricRefusals, 6)
	late := newPast(t)
	late.tell(report{counters: []flow.Counter{late.counter("no", 8, 0, late.at.Add(time.Second))}})
	late.want("told first, begun since the server", MetricRefusals, 8)
}

// What came about while a node was away is spread over that time.
func TestGrowthIsSpread(t *testing.T) {
	p := newPast(t)
	p.tell(report{requests: []flow.Requests{{Location: "loc-1", Baseline: p.at}}})
	p.at = p.at.Add(4 * SeriesStep)
	p.tell(report{requests: []flow.Requests{{Location: "loc-1", Baseline: p.at.Add(-4 * SeriesStep), Answers: [flow.RequestClasses]uint64{2: 12, 5: 0}}}})
	p.want("away for four steps", MetricRequests, 0, 2, 2, 2, 3, 3)
	p.at = p.at.Add(3 * time.Hour)
	p.want("after an hour", MetricRequests, 0, 0, 0)
}

// Verdicts are counted by what they are about; a probe is told from a client,
// and what was not told is counted too.
func TestSeriesOfVerdicts(t *testing.T) {
	p := newPast(t)
	event := func(gate policy.Gate, action lb.Action, from string) flow.Event {
		return flow.Event{Time: p.at, Verdict: policy.Verdict{Gate: gate, Action: action, Reason: policy.RuleMatched, Group: "sg-1", Rule: "yes"},
			Src: netip.MustParseAddrPort(from), Balancer: "lb-1", Instance: "ins-1"}
	}
	p.tell(report{lost: 3, events: []flow.Event{event(policy.GateCLB, lb.Accept, "203.0.113.9:1"), event(policy.GateCVM, lb.Accept, "192.0.2.1:1"),
		event(policy.GateCVM, lb.Drop, "203.0.113.9:1"), event(policy.GateCVM, lb.Drop, "203.0.113.9:2")}, reasons: &flow.Reasons{Lost: 100}})
	probes, flows := 0, 0
	for _, s := range p.Series(func(k SeriesKey) bool { return k.Metric == MetricFlows }, SeriesStep, 1) {
		if s.Probe {
			probes += int(s.Values[0])
		} else {
			flows += int(s.Values[0])
		}
	}
	if probes != 1 || flows != 1 {
		t.Errorf("%d probes and %d flows", probes, flows)
	}
	p.want("refused", MetricRefusals, 2)
	p.want("lost by the node", MetricUntold, 3)
	p.tell(report{reasons: &flow.Reasons{Lost: 107}})
	p.want("lost by the kernel too", MetricUntold, 10)
}

// Memory is bounded: what finds no room is counted with the rest, and what has
// been still for an hour makes room.
func TestSeriesAreBounded(t *testing.T) {
	p := newPast(t)
	for i := range maxSeries + 50 {
		p.past.add(SeriesKey{Metric: MetricRequests, Location: lb.LocationID(fmt.Sprint(i))}, 1, p.at)
	}
	rest := p.Series(func(k SeriesKey) bool { return k.Rest }, SeriesStep, 1)
	if len(rest) != 1 || rest[0].Values[0] != 50 || len(p.past.all) != maxSeries+1 {
		t.Errorf("the rest is %v of %d", rest, len(p.past.all))
	}
	p.at = p.at.Add(SeriesSteps * SeriesStep)
	p.past.add(SeriesKey{Metric: MetricRequests, Location: "later"}, 1, p.at)
	if len(p.past.all) != 1 {
		t.Errorf("%d series after an hour of silence", len(p.past.all))
	}
}

// A strip tells the worst of each part of time, over all gateways, and knows
// what was before the server began as far as nodes do.
func TestStrip(t *testing.T) {
	p := newPast(t)
	health := func(s flow.HealthState, since time.Time) report {
		return report{health: []flow.Health{{Target: 7, State: s, Since: since}}}
	}
	first := health(flow.HealthAlive, p.at.Add(-3*SeriesStep))
	first.healthAll = true
	p.tell(first)
	want := func(what string, want ...HealthMark) {
		t.Helper()
		if got := p.Strip(7, SeriesStep, len(want)); !slices.Equal(got, want) {
			t.Errorf("%s: %v, want %v", what, got, want)
		}
	}
	want("told with its beginning", MarkNone, MarkAlive, MarkAlive, MarkAlive, MarkAlive)
	p.at = p.at.Add(SeriesStep)
	p.tell(health(flow.HealthDead, p.at))
	p.tell(health(flow.HealthDead, p.at))
	p.at = p.at.Add(2 * SeriesStep)
	p.tell(health(flow.HealthAlive, p.at))
	want("dead for a while", MarkAlive, MarkDead, MarkDead, MarkDead)
	p.at = p.at.Add(SeriesStep)
	want("and well again", MarkDead, MarkDead, MarkDead, MarkAlive)
	for range 3 * maxTurns {
		p.at = p.at.Add(time.Second)
		p.tell(health(flow.HealthDead, p.at))
		p.tell(health(flow.HealthAlive, p.at))
	}
	if n := len(p.nodes["gateway-1"].strips[7]); n != maxTurns {
		t.Errorf("%d turns are kept", n)
	}
	p.tell(report{healthAll: true})
	want("gone", MarkNone, MarkNone)
}
