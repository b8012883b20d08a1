// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"testing"
	"time"

	"github.com/sallyport/sallyport/internal/e2e"
	"github.com/sallyport/sallyport/internal/lb"
)

const (
	turns = 12                    // of a way and of what it is held against, of a small job in each round
	slice = 50 * time.Millisecond // one of each
)

// A comparison is one row: what a kind of traffic costs by our way and by
// theirs; own: what the way itself costs is told.
type comparison struct {
	id, job      string
	ours, theirs string
	own          bool
}

// What ours costs over what gate 2 costs alone, which has a row of its own and
// which none of theirs has, and what it costs over nothing.
const bothGates = ours + ", and gate 2"

var comparisons = []comparison{
	{"rr-plain", "request", ours, plain, true}, {"rr-nft", "request", ours, dnat, true}, {"rr-haproxy", "request", ours, haproxy, true},
	{"rr-both-plain", "request", bothGates, plain, true},
	{"crr-plain", "connection", ours, plain, true}, {"crr-nft", "connection", ours, dnat, true}, {"crr-haproxy", "connection", ours, haproxy, true},
	{"crr-both-plain", "connection", bothGates, plain, true},
	{"udp-nft", "packet", ours, dnat, true},
	{"udp-both-nft", "packet", bothGates, dnat, true},
	{"bulk-plain", "download", ours, plain, false}, {"bulk-haproxy", "download", ours, haproxy, false},
	{"bulk-up-plain", "upload", ours, plain, false}, {"bulk-up-haproxy", "upload", ours, haproxy, false},
	{"bulk-wire-plain", "upload", cutByUs, cutPlain, false},
	{"gate2-nft", "request", gateTwo, conntrack, true},
}

// costs holds what units cost by job and way, in the order it was measured.
type costs map[string][]float64

func (c costs) add(j job, way string, cost float64) { c[j.name+way] = append(c[j.name+way], cost) }

// BenchmarkForwarding compares what a request, a connection and a megabyte
// cost in all, by whatever forwards them. Rounds are interleaved.
func BenchmarkForwarding(b *testing.B) {
	wanted := slices.DeleteFunc(slices.Clone(comparisons), func(c comparison) bool { return !Wanted(c.id) })
	if len(wanted) == 0 {
		b.Skip("not asked for")
	}
	if os.Geteuid() != 0 {
		b.Skip("needs root: the lab makes network namespaces")
	}
	needs := func(job, way string) bool {
		return slices.ContainsFunc(wanted, func(c comparison) bool {
			return c.job == job && (way == c.ours || way == c.theirs || way == ours && c.ours == bothGates)
		})
	}
	f := newBed(b)
	m := newMeter(b)
	alone(b)
	f.serve()
	f.warmUp(f.base)
	all := costs{}
	for range rounds {
		for _, w := range ways() {
			if _, err := exec.LookPath(w.program); w.program != "" && err != nil {
				continue
			}
			if !slices.ContainsFunc(jobs(), func(j job) bool { return needs(j.name, w.name) }) {
				continue
			}
			to, off := w.on(f)
			f.warmUp(netip.MustParseAddr(to))
			for _, j := range jobs() {
				if needs(j.name, w.name) {
					f.measure(m, j, w.name, netip.MustParseAddr(to), all)
				}
			}
			off()
			if b.Failed() {
				return
			}
		}
	}
	for _, c := range wanted {
		Write(b, c.row(all))
	}
	b.ReportMetric(0, "ns/op")
}

// measure adds what a job costs by a way that is on.
func (f *bed) measure(m *meter, j job, name string, to netip.Addr, all costs) {
	if j.poll == nil {
		for range repeats {
			cost, _ := j.cost(f.B, m, "client-1", to, stretch)
			all.add(j, name, cost)
		}
		return
	}
	var seen census
	switch {
	case name == ours:
		f.warmUp(f.gated)
		for turn := range turns {
			cost := j.turn(f, m, turn, &seen, to, f.gated, f.base)
			all.add(j, ours, cost[0]-cost[1])
			all.add(j, bothGates, cost[0]-cost[2])
		}
		seen.check(f.B, j)
	case name == gateTwo && f.filtered[1].IsValid():
		f.warmUp(f.filtered[1])
		for turn := range 3 * turns {
			cost := j.turn(f, m, turn, &seen, f.filtered[0], f.filtered[1], f.base)
			all.add(j, gateTwo, cost[0]-cost[2])
			all.add(j, conntrack, cost[1]-cost[2])
		}
	default:
		for turn := range turns {
			cost := j.turn(f, m, turn, &seen, to, f.base)
			all.add(j, name, cost[0]-cost[1])
		}
	}
}

// turn is what a unit costs to each of several addresses: stretches one right
// after the other, each time another one first, so that what slows the machine
// down meets all.
func (j job) turn(f *bed, m *meter, first int, seen *census, to ...netip.Addr) []float64 {
	cost := make([]float64, len(to))
	for i := range to {
		n := (first + i) % len(to)
		before := f.judged()
		spell := j.paced(f.B, m, f.server(to[n]), to[n])
		cost[n] = spell.cost()
		seen.count(n, spell.units, before, f.judged())
	}
	return cost
}

// A census counts what gate 2 judges of units that come by our way, and of those
// that come to it alone: unless both are alike, their difference is not what
// everything else costs.
type census struct{ packets, flows, units [2]float64 }

// judged is how many packets, and how many flows that they began, the gates of
// the two hosts have let in.
func (f *bed) judged() (counts [2][2]float64) {
	for i, node := range []lb.NodeID{instanceID, gatedID} {
		d := f.opened[node]
		if d == nil {
			return counts
		}
		list, err := d.Counters()
		if err != nil {
			f.Fatal(err)
		}
		for _, c := range list {
			counts[i][0] += float64(c.Packets)
			counts[i][1] += float64(c.NewFlows)
		}
	}
	return counts
}

func (c *census) count(n, units int, before, after [2][2]float64) {
	if n > 1 {
		return
	}
	c.units[n] += float64(units)
	c.packets[n] += after[n][0] - before[n][0]
	c.flows[n] += after[n][1] - before[n][1]
}

func (c *census) check(b *testing.B, j job) {
	b.Helper()
	per := func(n int) (packets, flows float64) { return c.packets[n] / c.units[n], c.flows[n] / c.units[n] }
	behind, begun := per(0)
	alone, beganAlone := per(1)
	b.Logf("gate 2 judges %.3f packets a %s that the gateway sent, %.3f of those that came directly; flows %.3f and %.3f", behind, j.name, alone, begun, beganAlone)
	apart := func(x, y float64) bool { return x > y*1.1+.05 || y > x*1.1+.05 }
	if alone == 0 || apart(behind, alone) || apart(begun, beganAlone) {
		b.Errorf("%s: gate 2 does not do the same for both", j.name)
	}
}

// row gives own costs with their quartiles: what else runs on the machine meets
// one of some turns only.
func (c comparison) row(all costs) Row {
	ours, theirs := slices.Clone(all[c.job+c.ours]), slices.Clone(all[c.job+c.theirs])
	why := ""
	if len(theirs) == 0 {
		why = c.theirs + " is not installed"
	}
	r := Fill(c.id, ours, theirs, why)
	if c.own { // Fill has sorted them
		r.Spread = [2]float64{ours[len(ours)/4], ours[len(ours)*3/4]}
	}
	return r
}

// serve starts what answers on each instance.
func (f *bed) serve() {
	f.echoes = map[netip.Addr]*echo{f.instance: serve(f.B, instanceID), f.base: serve(f.B, baseID), f.gated: serve(f.B, gatedID)}
}

// server is who answers at an address; a way's leads to the instance.
func (f *bed) server(at netip.Addr) *echo {
	if e := f.echoes[at]; e != nil {
		return e
	}
	return f.echoes[f.instance]
}

// warmUp makes sure that the way carries traffic: neighbours are known, peers
// have started, before anything is measured.
func (f *bed) warmUp(to netip.Addr) {
	f.Helper()
	err := e2e.Until(f.Context(), "the way carries traffic", func() (bool, error) {
		_, err := jobs()[0].stretched(f.server(to), to, 0, func() time.Duration { return 0 })
		return err == nil, nil
	})
	if err != nil {
		f.Fatal(err)
	}
}
