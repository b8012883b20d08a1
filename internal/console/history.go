// SPDX-License-Identifier: Apache-2.0

package console

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/sallyport/sallyport/internal/cloudapi"
)

// The history's size: the newest steps of five seconds, for so many ways
// through the gates; what comes beyond is counted without its details.
const (
	stepSize    = 5 * time.Second
	steps       = 4
	maxSeries   = 4000
	maxNetworks = 40 // client networks kept for each load balancer
	maxRecent   = 5000
)

// A seriesKey is what verdicts are counted by.
type seriesKey struct {
	gate, action, balancer, listener, instance string

	probe bool // a load balancer's own, not a client's
}

// A ring counts by step; a slot counts only for the step it names.
type ring struct {
	step  [steps]int64
	count [steps]uint32
}

func (r *ring) add(step int64) {
	at := step % steps
	if r.step[at] != step {
		r.step[at], r.count[at] = step, 0
	}
	r.count[at]++
}

func (r *ring) at(step int64) int {
	if at := step % steps; at >= 0 && r.step[at] == step {
		return int(r.count[at])
	}
	return 0
}

// perSecond is the rate over the last two whole steps.
func (r *ring) perSecond(now time.Time) float64 {
	last := stepOf(now) - 1
	return float64(r.at(last)+r.at(last-1)) / (2 * stepSize.Seconds())
}

// A network is where clients of a load balancer came from lately.
type network struct {
	Prefix            string
	Admitted, Refused int
	Sample            string // one client's address
	Rate              rate   // lately; only of those that clients returns
	last              time.Time
	admitted, refused ring
}

// A history counts verdicts for the picture's rates. It is no record: it begins with the
// process and forgets after ten minutes.
type history struct {
	mu       sync.Mutex
	series   map[seriesKey]*ring
	networks map[string]map[string]*network
	vips     map[string][]string // of each load balancer that a verdict has named
	recent   []verdict           // oldest first, at most maxRecent
	changed  uint64              // grows with every verdict

	newestStep int64 // of the newest verdict

	lost uint64
	deaf bool // the server has no nodes to hear from
}

func newHistory() *history {
	return &history{series: map[seriesKey]*ring{}, networks: map[string]map[string]*network{}, vips: map[string][]string{}}
}

// follow reads every verdict by the same action that everybody has.
func (h *history) follow(ctx context.Context, c *Console) {
	cursor := int64(0)
	for ctx.Err() == nil {
		var out struct {
			Verdicts []verdict
			Next     int64
			Lost     uint64
		}
		err := c.call(ctx, ourVersion, "DescribeVerdicts", m{"After": cursor, "Limit": 1000, "WaitSeconds": 30}, &out)
		if e := (*cloudapi.Error)(nil); errors.As(err, &e) && e.Code == "UnsupportedOperation" {
			h.mu.Lock()
			h.deaf = true
			h.mu.Unlock()
			return // no nodes, no verdicts
		}
		if err != nil {
			pause(ctx, time.Second)
			continue
		}
		cursor = out.Next
		h.learn(ctx, c, out.Verdicts)
		h.take(out.Verdicts, out.Lost)
	}
}

// pause waits, or ends with ctx.
func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}

// learn finds out the VIPs of load balancers that verdicts name for the first
// time: what comes from there to gate 2 is a probe.
func (h *history) learn(ctx context.Context, c *Console, verdicts []verdict) {
	var unknown []string
	h.mu.Lock()
	for _, v := range verdicts {
		if _, known := h.vips[v.LoadBalancerId]; !known && v.LoadBalancerId != "" {
			h.vips[v.LoadBalancerId] = nil
			unknown = append(unknown, v.LoadBalancerId)
		}
	}
	h.mu.Unlock()
	for ids := range slices.Chunk(unknown, 20) {
		var out struct{ LoadBalancerSet []balancer }
		if c.call(ctx, clbVersion, "DescribeLoadBalancers", m{"LoadBalancerIds": ids}, &out) != nil {
			continue
		}
		h.know(out.LoadBalancerSet)
	}
}

func (h *history) know(balancers []balancer) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, b := range balancers {
		h.vips[b.LoadBalancerId] = b.LoadBalancerVips
	}
}

// tellProbes marks the verdicts that are about health checks.
func (h *history) tellProbes(verdicts []verdict) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.markProbes(verdicts)
}

func (h *history) markProbes(verdicts []verdict) {
	for i, v := range verdicts {
		verdicts[i].probe = v.Gate == "cvm" && (contains(h.vips[v.LoadBalancerId], addressOf(v.Source)) || v.Reason == "system_rule")
	}
}

func stepOf(t time.Time) int64 { return t.Unix() / int64(stepSize/time.Second) }

func (h *history) take(verdicts []verdict, lost uint64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.lost += lost
	h.markProbes(verdicts)
	h.recent = append(h.recent, verdicts...)
	if over := len(h.recent) - maxRecent; over > 0 {
		h.recent = slices.Delete(h.recent, 0, over)
	}
	for _, v := range verdicts {
		at, err := time.Parse(time.RFC3339Nano, v.Time)
		if err != nil {
			continue
		}
		source := addressOf(v.Source)
		key := seriesKey{gate: v.Gate, action: v.Action, balancer: v.LoadBalancerId, listener: v.ListenerId, instance: v.InstanceId, probe: v.probe}
		r := h.series[key]
		if r == nil {
			if len(h.series) >= maxSeries {
				h.sweep(stepOf(at))
			}
			if len(h.series) >= maxSeries {
				key = seriesKey{gate: v.Gate, action: v.Action}
				r = h.series[key]
			}
			if r == nil {
				r = &ring{}
				h.series[key] = r
			}
		}
		r.add(stepOf(at))
		h.newestStep = max(h.newestStep, stepOf(at))
		h.changed++
		if v.Gate == "clb" && v.LoadBalancerId != "" {
			h.client(v, source, at)
		}
	}
}

// sweep makes room: what has been still for as long as is kept goes.
func (h *history) sweep(now int64) {
	for key, r := range h.series {
		if slices.Max(r.step[:]) <= now-steps {
			delete(h.series, key)
		}
	}
}

// newest lists the newest verdicts that match, newest first.
func (h *history) newest(limit int, match func(verdict) bool) (all []verdict, deaf bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, v := range slices.Backward(h.recent) {
		if len(all) == limit {
			break
		}
		if match(v) {
			all = append(all, v)
		}
	}
	return all, h.deaf
}

// addressOf is an address without its port.
func addressOf(text string) string {
	if a, err := netip.ParseAddrPort(text); err == nil {
		return a.Addr().String()
	}
	return text
}

// client counts a client under its network: /24, or /64 for IPv6.
func (h *history) client(v verdict, source string, at time.Time) {
	a, err := netip.ParseAddr(source)
	if err != nil {
		return
	}
	bits := 24
	if a.Is6() {
		bits = 64
	}
	prefix := netip.PrefixFrom(a, bits).Masked().String()
	all := h.networks[v.LoadBalancerId]
	if all == nil {
		all = map[string]*network{}
		h.networks[v.LoadBalancerId] = all
	}
	n := all[prefix]
	if n == nil {
		if len(all) >= maxNetworks {
			oldest := ""
			for p, other := range all {
				if oldest == "" || other.last.Before(all[oldest].last) {
					oldest = p
				}
			}
			delete(all, oldest)
		}
		n = &network{Prefix: prefix}
		all[prefix] = n
	}
	n.last, n.Sample = at, source
	if v.Action == "ACCEPT" {
		n.Admitted++
		n.admitted.add(stepOf(at))
	} else {
		n.Refused++
		n.refused.add(stepOf(at))
	}
}

// clients are the newest networks of a load balancer's clients.
func (h *history) clients(balancer string, now time.Time, limit int) []network {
	h.mu.Lock()
	defer h.mu.Unlock()
	var all []network
	for _, n := range h.networks[balancer] {
		all = append(all, *n)
	}
	slices.SortFunc(all, func(a, b network) int { return cmp.Or(b.last.Compare(a.last), cmp.Compare(a.Prefix, b.Prefix)) })
	all = all[:min(limit, len(all))]
	slices.SortFunc(all, func(a, b network) int { return cmp.Compare(a.Prefix, b.Prefix) }) // who comes last does not move the others
	for i := range all {
		all[i].Rate = rate{all[i].admitted.perSecond(now), all[i].refused.perSecond(now)}
	}
	return all
}

// A rate is verdicts per second over the last seconds.
type rate struct{ Admitted, Refused float64 }

// Moving reports whether anything passes.
func (r rate) Moving() bool { return r.Admitted > 0 }

// rate sums the last two whole steps.
func (h *history) rate(now time.Time, match func(seriesKey) bool) rate {
	h.mu.Lock()
	defer h.mu.Unlock()
	var r rate
	for key, s := range h.series {
		if !match(key) {
			continue
		}
		n := s.perSecond(now)
		if key.action == "ACCEPT" {
			r.Admitted += n
		} else {
			r.Refused += n
		}
	}
	return r
}

// A wayKey is a part of a load balancer's ways.
type wayKey struct{ gate, listener, instance string }

// ways are the rates of what clients send through a load balancer.
func (h *history) ways(balancer string, now time.Time) map[wayKey]rate {
	h.mu.Lock()
	defer h.mu.Unlock()
	all := map[wayKey]rate{}
	for key, s := range h.series {
		if key.balancer != balancer || key.probe {
			continue
		}
		k := wayKey{key.gate, key.listener, key.instance}
		r := all[k]
		if key.action == "ACCEPT" {
			r.Admitted += s.perSecond(now)
		} else {
			r.Refused += s.perSecond(now)
		}
		all[k] = r
	}
	return all
}

// looks changes when rates and charts may look different: with each verdict,
// with time while something moves, and seldom when nothing does.
func (h *history) looks(now time.Time) string {
	h.mu.Lock()
	defer h.mu.Unlock()
	if stepOf(now)-h.newestStep <= steps {
		return fmt.Sprint(h.changed, stepOf(now))
	}
	return fmt.Sprint(h.changed, now.Truncate(time.Minute).Unix())
}

// version changes whenever a verdict has come in.
func (h *history) version() uint64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.changed
}
