// SPDX-License-Identifier: Apache-2.0

package cloudapi

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/sallyport/sallyport/internal/control"
	"github.com/sallyport/sallyport/internal/flow"
	"github.com/sallyport/sallyport/internal/lb"
)

// History is what nodes have reported, over time.
type History interface {
	// Since is when it began.
	Since() time.Time
	// Series lists what matches: points values of step each, the last one
	// ending now.
	Series(match func(control.SeriesKey) bool, step time.Duration, points int) []control.Series
	// Strip is a target's health over the same time.
	Strip(target uint32, step time.Duration, points int) []control.HealthMark
}

// Where series come from.
const (
	fromCounters = "counters" // exact; known by rule, not by load balancer
	fromVerdicts = "verdicts" // without probes, and without the verdicts in Untold
)

// Bounds of DescribeSeries.
const (
	defaultStep   = 60 // seconds
	defaultSeries = 20
	maxSeriesOut  = 100
)

// describeSeriesIn asks for one metric: requests (HTTP requests answered),
// flows (new ones let in), refusals (packets refused) or health (of targets).
// Without Source, flows and refusals come from counters unless a load
// balancer, listener or instance is named. GroupBy names the fields of the
// answer's series that tell them apart; the others are added up over. None:
// all of them.
type describeSeriesIn struct {
	Metric          string   `tc:"required"`
	Source          string   `tc:""` // counters or verdicts
	Gate            string   `tc:""` // clb or cvm
	LoadBalancerId  string   `tc:""`
	ListenerId      string   `tc:""`
	InstanceId      string   `tc:""`
	SecurityGroupId string   `tc:""`
	GroupBy         []string `tc:""`
	Step            *int64   `tc:"range=5-3600"` // seconds, a multiple of 5; 60
	Points          *int64   `tc:"range=1-720"`  // at most an hour with Step; 60
	Limit           *int64   `tc:"range=1-100"`  // series told apart, the greatest first; 20
}

// describeSeriesOut holds counts over time, oldest first; each value covers
// Step seconds, the first from From on, and the last, which is not over yet.
// Nothing before Since is known. Others adds up the series beyond Limit and
// what the server had no room to tell apart.
type describeSeriesOut struct {
	Metric, Source string
	Since, From    string
	Step           int64
	Series         []seriesOut
	Others         *othersOut
	Untold         uint64 // verdicts that nodes could not tell in this time; 0 when Source is not verdicts
}

// seriesOut is one thing over time. Of health, Values are 0 unknown, 1 check
// off, 2 healthy, 3 detecting, 4 abnormal, the worst of each step, and Total
// is how many steps were abnormal.
type seriesOut struct {
	Gate, Direction, Reason                        string
	LoadBalancerId, ListenerId, LocationId, Status string
	InstanceId, SecurityGroupId, PolicyId, Object  string
	Port, PolicyPosition                           int // position 1-based; 0: no rule, or one that is gone
	Total                                          uint64
	Values                                         []uint64
}

// othersOut is what is left out of Series. Complete is false when the server
// had no room for all things of the hour.
type othersOut struct {
	Count    int
	Complete bool
	Total    uint64
	Values   []uint64
}

// seriesWindow is the checked part of the request that is about time.
type seriesWindow struct {
	step          time.Duration
	points, limit int
}

func describeSeries(c *Call, in *describeSeriesIn) (*describeSeriesOut, error) {
	if c.History == nil {
		return nil, errorf("UnsupportedOperation", "Metric: this server has no nodes to hear from; start it with nodes")
	}
	w, err := in.window()
	if err == nil {
		err = in.check(c.State())
	}
	if err != nil {
		return nil, err
	}
	width := int64(w.step / time.Second)
	out := &describeSeriesOut{Metric: in.Metric, Source: in.Source, Since: precise(c.History.Since()), Step: width,
		From: precise(time.Unix((c.Now().Unix()/width-int64(w.points)+1)*width, 0))}
	if in.Metric == "health" {
		return out, c.healthSeries(in, w, out)
	}
	found := c.History.Series(in.matches, w.step, w.points)
	if in.Source == fromVerdicts {
		for _, s := range c.History.Series(func(k control.SeriesKey) bool { return k.Metric == control.MetricUntold }, w.step, w.points) {
			out.Untold += sumOf(s.Values)
		}
	}
	sums := map[control.SeriesKey][]uint64{}
	for _, s := range found {
		key := in.project(s.SeriesKey)
		sums[key] = addUp(sums[key], s.Values)
	}
	complete := true
	for key, values := range sums {
		if key.Rest {
			out.others(1, values)
			complete = false
			continue
		}
		out.Series = append(out.Series, showSeries(c.State(), key, values))
	}
	out.cut(w.limit)
	if out.Others != nil {
		out.Others.Complete = complete
	}
	return out, nil
}

// window checks what is said about time.
func (in *describeSeriesIn) window() (seriesWindow, error) {
	step, points, limit := int64(defaultStep), int64(60), int64(defaultSeries)
	for _, f := range []struct {
		from *int64
		to   *int64
	}{{in.Step, &step}, {in.Points, &points}, {in.Limit, &limit}} {
		if f.from != nil {
			*f.to = *f.from
		}
	}
	unit := int64(control.SeriesStep / time.Second)
	switch most := int64(control.SeriesSteps) * unit; {
	case step < unit || step > most || step%unit != 0:
		return seriesWindow{}, refuse(lb.Range, "Step", fmt.Sprintf("%d is no multiple of %d from %d to %d", step, unit, unit, most), "use 60")
	case points < 1 || points > most/step:
		return seriesWindow{}, refuse(lb.Range, "Points", fmt.Sprintf("%d is outside 1-%d", points, most/step), "an hour is kept: Step times Points is at most 3600")
	}
	return seriesWindow{time.Duration(step) * time.Second, int(points), int(limit)}, nil
}

// check refuses what does not exist or fit together, and fills in Source.
func (in *describeSeriesIn) check(st *lb.State) error {
	traffic := in.LoadBalancerId + in.ListenerId + in.InstanceId
	judged := in.Metric == "flows" || in.Metric == "refusals"
	if in.Source == "" && judged {
		in.Source = fromCounters
		if traffic != "" {
			in.Source = fromVerdicts
		}
	}
	switch {
	case !judged && in.Metric != "requests" && in.Metric != "health":
		return refuse(lb.Invalid, "Metric", fmt.Sprintf("%q is none", clip(in.Metric, 40)), "use requests, flows, refusals or health")
	case in.Source != "" && (!judged || in.Source != fromCounters && in.Source != fromVerdicts):
		return refuse(lb.Invalid, "Source", fmt.Sprintf("%q is no source of %s", clip(in.Source, 40), in.Metric), "only flows and refusals have one: counters or verdicts")
	case in.Gate != "" && (!judged || in.Gate != "clb" && in.Gate != "cvm"):
		return refuse(lb.Invalid, "Gate", fmt.Sprintf("%q is no gate of %s", clip(in.Gate, 40), in.Metric), "only flows and refusals have one: clb or cvm")
	case in.SecurityGroupId != "" && !judged:
		return refuse(lb.Coexist, "SecurityGroupId", in.Metric+" is not known by group", "leave it out")
	case in.InstanceId != "" && in.Metric == "requests":
		return refuse(lb.Coexist, "InstanceId", "requests are counted by layer-7 rule, not by instance", "leave it out")
	case in.Source == fromCounters && traffic != "":
		return refuse(lb.Coexist, "Source", "counters are known by rule only", "ask for verdicts, or leave load balancer, listener and instance out")
	case in.Metric == "health" && in.LoadBalancerId+in.InstanceId == "":
		return refuse(lb.Invalid, "LoadBalancerId", "whose targets is not said", "give a load balancer or an instance")
	case in.Metric == "health" && len(in.GroupBy) > 0:
		return refuse(lb.Coexist, "GroupBy", "health cannot be added up", "leave it out")
	}
	for i, name := range in.GroupBy {
		if seriesFields()[name] == nil {
			return refuse(lb.Invalid, fmt.Sprintf("GroupBy.%d", i), fmt.Sprintf("%q is no field of a series", clip(name, 40)), "use "+strings.Join(sortedKeys(seriesFields()), ", "))
		}
	}
	return in.exists(st)
}

// exists refuses ids of nothing.
func (in *describeSeriesIn) exists(st *lb.State) error {
	for _, f := range []struct {
		field, id string
		there     bool
	}{
		{"LoadBalancerId", in.LoadBalancerId, st.Balancers.Get(lb.BalancerID(in.LoadBalancerId)) != nil},
		{"ListenerId", in.ListenerId, st.Listeners.Get(lb.ListenerID(in.ListenerId)) != nil},
		{"InstanceId", in.InstanceId, st.Instances.Get(lb.InstanceID(in.InstanceId)) != nil},
		{"SecurityGroupId", in.SecurityGroupId, st.Groups.Get(lb.GroupID(in.SecurityGroupId)) != nil},
	} {
		if f.id != "" && !f.there {
			return refuse(lb.NotFound, f.field, fmt.Sprintf("there is no %q", clip(f.id, 40)), "list what there is, or leave it out")
		}
	}
	return nil
}

// matches reports whether a series is asked for. What found no room of its own
// is, as long as it may be.
func (in *describeSeriesIn) matches(k control.SeriesKey) bool {
	metric := map[control.Metric]string{control.MetricRequests: "requests", control.MetricFlows: "flows", control.MetricRefusals: "refusals"}[k.Metric]
	if metric != in.Metric || k.FromCounters != (in.Source == fromCounters) || k.Probe {
		return false
	}
	if k.Rest {
		return in.LoadBalancerId+in.ListenerId+in.InstanceId+in.SecurityGroupId+in.Gate == ""
	}
	for _, pair := range [][2]string{{in.Gate, k.Gate.String()}, {in.LoadBalancerId, string(k.Balancer)}, {in.ListenerId, string(k.Listener)},
		{in.InstanceId, string(k.Instance)}, {in.SecurityGroupId, string(k.Group)}} {
		if pair[0] != "" && pair[0] != pair[1] {
			return false
		}
	}
	return true
}

// seriesFields say how a field of seriesOut is taken over from a key.
func seriesFields() map[string]func(to *control.SeriesKey, from control.SeriesKey) {
	return map[string]func(to *control.SeriesKey, from control.SeriesKey){
		"Gate":            func(to *control.SeriesKey, from control.SeriesKey) { to.Gate = from.Gate },
		"Direction":       func(to *control.SeriesKey, from control.SeriesKey) { to.Direction = from.Direction },
		"Reason":          func(to *control.SeriesKey, from control.SeriesKey) { to.Reason = from.Reason },
		"LoadBalancerId":  func(to *control.SeriesKey, from control.SeriesKey) { to.Balancer = from.Balancer },
		"ListenerId":      func(to *control.SeriesKey, from control.SeriesKey) { to.Listener = from.Listener },
		"LocationId":      func(to *control.SeriesKey, from control.SeriesKey) { to.Location = from.Location },
		"Status":          func(to *control.SeriesKey, from control.SeriesKey) { to.Class = from.Class },
		"InstanceId":      func(to *control.SeriesKey, from control.SeriesKey) { to.Instance = from.Instance },
		"SecurityGroupId": func(to *control.SeriesKey, from control.SeriesKey) { to.Group = from.Group },
		"PolicyId":        func(to *control.SeriesKey, from control.SeriesKey) { to.Rule = from.Rule },
		"Object":          func(to *control.SeriesKey, from control.SeriesKey) { to.Object = from.Object },
	}
}

// project keeps the fields that tell series apart.
func (in *describeSeriesIn) project(k control.SeriesKey) control.SeriesKey {
	if len(in.GroupBy) == 0 || k.Rest {
		return k
	}
	p := control.SeriesKey{Metric: k.Metric, FromCounters: k.FromCounters, Class: -1}
	for _, name := range in.GroupBy {
		seriesFields()[name](&p, k)
	}
	return p
}

func showSeries(st *lb.State, k control.SeriesKey, values []uint64) seriesOut {
	s := seriesOut{Direction: directionWord(k.Direction), LoadBalancerId: string(k.Balancer), ListenerId: string(k.Listener), LocationId: string(k.Location),
		InstanceId: string(k.Instance), SecurityGroupId: string(k.Group), PolicyId: string(k.Rule), Object: k.Object, Total: sumOf(values), Values: values}
	if k.Gate != 0 {
		s.Gate = k.Gate.String()
	}
	if k.Reason != 0 {
		s.Reason = k.Reason.String()
	}
	if k.Metric == control.MetricRequests && k.Class >= 0 {
		s.Status = flow.StatusWord(k.Class)
	}
	if g := st.Groups.Get(k.Group); g != nil && k.Rule != "" {
		for _, rules := range [][]lb.PolicyRule{g.Ingress, g.Egress} {
			s.PolicyPosition = max(s.PolicyPosition, 1+slices.IndexFunc(rules, func(r lb.PolicyRule) bool { return r.ID == k.Rule }))
		}
	}
	return s
}

// healthSeries are the strips of targets.
func (c *Call) healthSeries(in *describeSeriesIn, w seriesWindow, out *describeSeriesOut) error {
	st := c.State()
	add := func(l *lb.Listener, rule lb.LocationID, targets []lb.Target) {
		for _, t := range targets {
			if in.InstanceId != "" && in.InstanceId != string(t.Instance) {
				continue
			}
			s := seriesOut{LoadBalancerId: string(l.Balancer), ListenerId: string(l.ID), LocationId: string(rule), InstanceId: string(t.Instance), Port: int(t.Port)}
			for _, mark := range c.History.Strip(t.Num, w.step, w.points) {
				s.Values = append(s.Values, uint64(mark))
				if mark == control.MarkDead {
					s.Total++
				}
			}
			out.Series = append(out.Series, s)
		}
	}
	listeners := listenersByBalancer(st)
	for _, id := range st.Balancers.Sorted() {
		if in.LoadBalancerId != "" && in.LoadBalancerId != string(id) {
			continue
		}
		for _, l := range listeners[id] {
			if in.ListenerId != "" && in.ListenerId != string(l.ID) {
				continue
			}
			add(l, "", l.Targets)
			for _, r := range l.Rules {
				add(l, r.ID, r.Targets)
			}
		}
	}
	slices.SortStableFunc(out.Series, func(a, b seriesOut) int { return cmp.Compare(b.Total, a.Total) })
	if left := len(out.Series) - w.limit; left > 0 {
		out.Series = out.Series[:w.limit]
		out.Others = &othersOut{Count: left, Complete: true}
	}
	return nil
}

// cut keeps the greatest series and adds up the others.
func (out *describeSeriesOut) cut(limit int) {
	slices.SortFunc(out.Series, func(a, b seriesOut) int { return cmp.Or(cmp.Compare(b.Total, a.Total), a.compare(b)) })
	for len(out.Series) > limit {
		last := len(out.Series) - 1
		out.others(1, out.Series[last].Values)
		out.Series = out.Series[:last]
	}
}

// compare orders series of the same total.
func (s seriesOut) compare(o seriesOut) int {
	return cmp.Or(cmp.Compare(s.Gate, o.Gate), cmp.Compare(s.LoadBalancerId, o.LoadBalancerId), cmp.Compare(s.ListenerId, o.ListenerId), cmp.Compare(s.LocationId, o.LocationId),
		cmp.Compare(s.InstanceId, o.InstanceId), cmp.Compare(s.SecurityGroupId, o.SecurityGroupId), cmp.Compare(s.PolicyId, o.PolicyId), cmp.Compare(s.Object, o.Object),
		cmp.Compare(s.Status, o.Status), cmp.Compare(s.Direction, o.Direction), cmp.Compare(s.Reason, o.Reason))
}

func (out *describeSeriesOut) others(count int, values []uint64) {
	if out.Others == nil {
		out.Others = &othersOut{}
	}
	out.Others.Count += count
	out.Others.Values = addUp(out.Others.Values, values)
	out.Others.Total += sumOf(values)
}

func addUp(sum, values []uint64) []uint64 {
	if sum == nil {
		return slices.Clone(values)
	}
	for i, n := range values {
		sum[i] += n
	}
	return sum
}

func sumOf(values []uint64) uint64 {
	sum := uint64(0)
	for _, n := range values {
		sum += n
	}
	return sum
}
