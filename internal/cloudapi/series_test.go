// SPDX-License-Identifier: Apache-2.0

package cloudapi

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/sallyport/sallyport/internal/control"
	"github.com/sallyport/sallyport/internal/lb"
	"github.com/sallyport/sallyport/internal/policy"
	"github.com/sallyport/sallyport/internal/store"
)

// a remembered history gives what it holds.
type remembered struct {
	series []control.Series
	strips map[uint32][]control.HealthMark
	step   time.Duration // asked for last
	points int
}

func (r *remembered) Since() time.Time { return time.Date(2026, 11, 23, 4, 0, 0, 0, time.UTC) }
func (r *remembered) Series(match func(control.SeriesKey) bool, step time.Duration, points int) []control.Series {
	r.step, r.points = step, points
	var all []control.Series
	for _, s := range r.series {
		if match(s.SeriesKey) {
			all = append(all, s)
		}
	}
	return all
}
func (r *remembered) Strip(target uint32, _ time.Duration, _ int) []control.HealthMark {
	return r.strips[target]
}

// brief is a series' names and numbers in short.
func brief(all []seriesOut) []string {
	var lines []string
	for _, s := range all {
		lines = append(lines, fmt.Sprint(s.Gate, s.LoadBalancerId, s.LocationId, s.InstanceId, s.SecurityGroupId, s.PolicyId, s.Object, s.Status, " ", s.PolicyPosition, s.Total, s.Values))
	}
	return lines
}

func TestDescribeSeries(t *testing.T) {
	h := &remembered{}
	s := newSite(t, func(o *Options) {
		o.History = h
		o.Now = func() time.Time { return time.Date(2026, 11, 23, 4, 30, 7, 0, time.UTC) }
	})
	b := lb.BalancerID(s.lb)
	counted := control.SeriesKey{Metric: control.MetricRefusals, FromCounters: true, Gate: policy.GateCLB, Direction: policy.In}
	rule, implicit, rest := counted, counted, control.SeriesKey{Metric: control.MetricRefusals, FromCounters: true, Rest: true}
	rule.Group, rule.Rule, implicit.Object = "sg-edge", "pol-2", s.lb
	h.series = []control.Series{
		{SeriesKey: control.SeriesKey{Metric: control.MetricRequests, Balancer: b, Location: "loc-1", Class: 2}, Values: []uint64{1, 2}},
		{SeriesKey: control.SeriesKey{Metric: control.MetricRequests, Balancer: b, Location: "loc-1", Class: 5}, Values: []uint64{0, 1}},
		{SeriesKey: control.SeriesKey{Metric: control.MetricRequests, Balancer: "lb-x", Class: 0}, Values: []uint64{7, 7}},
		{SeriesKey: rule, Values: []uint64{4, 4}}, {SeriesKey: implicit, Values: []uint64{0, 1}}, {SeriesKey: rest, Values: []uint64{0, 3}},
		{SeriesKey: control.SeriesKey{Metric: control.MetricFlows, Gate: policy.GateCVM, Reason: policy.NoGroups, Balancer: b, Instance: "ins-a"}, Values: []uint64{5, 0}},
		{SeriesKey: control.SeriesKey{Metric: control.MetricFlows, Gate: policy.GateCVM, Balancer: b, Instance: "ins-a", Probe: true}, Values: []uint64{9, 9}},
		{SeriesKey: control.SeriesKey{Metric: control.MetricUntold}, Values: []uint64{0, 6}},
	}
	s.seed(func(tx *store.Tx) {
		tx.PutGroup(&lb.SecurityGroup{ID: "sg-edge", Ingress: []lb.PolicyRule{{ID: "pol-1"}, {ID: "pol-2"}}})
	})
	for params, want := range map[string][]string{
		`{"Metric":"requests","LoadBalancerId":"$lb"}`:                                       {s.lb + "loc-12xx 0 3 [1 2]", s.lb + "loc-15xx 0 1 [0 1]"},
		`{"Metric":"requests","GroupBy":["LoadBalancerId"]}`:                                 {"lb-x 0 14 [7 7]", s.lb + " 0 4 [1 3]"},
		`{"Metric":"requests","GroupBy":["Status"]}`:                                         {"none 0 14 [7 7]", "2xx 0 3 [1 2]", "5xx 0 1 [0 1]"},
		`{"Metric":"refusals"}`:                                                              {"clbsg-edgepol-2 2 8 [4 4]", "clb" + s.lb + " 0 1 [0 1]"},
		`{"Metric":"refusals","SecurityGroupId":"sg-edge"}`:                                  {"clbsg-edgepol-2 2 8 [4 4]"},
		`{"Metric":"refusals","LoadBalancerId":"$lb"}`:                                       nil,
		`{"Metric":"flows","InstanceId":"ins-a","Gate":"cvm","GroupBy":["InstanceId"]}`:      {"ins-a 0 5 [5 0]"},
		`{"Metric":"flows","Source":"verdicts","GroupBy":["Gate","Reason"]}`:                 {"cvm 0 5 [5 0]"},
		`{"Metric":"flows","InstanceId":"ins-a","Gate":"clb","GroupBy":["SecurityGroupId"]}`: nil,
	} {
		var got describeSeriesOut
		s.must("DescribeSeries", s.q(params), &got)
		if !slices.Equal(brief(got.Series), want) {
			t.Errorf("%s: %q, want %q", params, brief(got.Series), want)
		}
	}
	var got describeSeriesOut
	s.must("DescribeSeries", `{"Metric":"refusals","Limit":1,"Step":30,"Points":2}`, &got)
	if o := got.Others; o == nil || o.Count != 2 || o.Total != 4 || o.Complete || !slices.Equal(o.Values, []uint64{0, 4}) || got.Untold != 0 {
		t.Errorf("the others are %+v", o)
	}
	if got.Since != "2026-11-23T04:00:00Z" || got.From != "2026-11-23T04:29:30Z" || h.step != 30*time.Second || h.points != 2 {
		t.Errorf("since %s, from %s, %v × %d", got.Since, got.From, h.step, h.points)
	}
	s.must("DescribeSeries", s.q(`{"Metric":"flows","LoadBalancerId":"$lb"}`), &got)
	if got.Source != "verdicts" || got.Untold != 6 || len(got.Series) != 1 || got.Series[0].Reason != "no_groups" {
		t.Errorf("got %+v", got)
	}
}

func TestDescribeSeriesOfHealth(t *testing.T) {
	h := &remembered{strips: map[uint32][]control.HealthMark{}}
	s := newSite(t, func(o *Options) { o.History = h })
	s.must("RegisterTargets", s.q(`{"LoadBalancerId":"$lb","ListenerId":"$tcp","Targets":[{"InstanceId":"ins-a","Port":8080}]}`), nil)
	s.must("RegisterTargets", s.q(`{"LoadBalancerId":"$lb","ListenerId":"$http","LocationId":"$rule","Targets":[{"InstanceId":"ins-b","Port":8080}]}`), nil)
	num := s.Store.State().Listeners.Get(lb.ListenerID(s.tcp)).Targets[0].Num
	h.strips[num] = []control.HealthMark{control.MarkAlive, control.MarkDead}
	for params, want := range map[string][]string{
		`{"Metric":"health","LoadBalancerId":"$lb"}`:                        {s.lb + "ins-a 0 1 [2 4]", s.lb + s.rule + "ins-b 0 0 []"},
		`{"Metric":"health","InstanceId":"ins-b"}`:                          {s.lb + s.rule + "ins-b 0 0 []"},
		`{"Metric":"health","LoadBalancerId":"$lb","ListenerId":"$tcp"}`:    {s.lb + "ins-a 0 1 [2 4]"},
		`{"Metric":"health","LoadBalancerId":"$lb","InstanceId":"ins-far"}`: nil,
	} {
		var got describeSeriesOut
		s.must("DescribeSeries", s.q(params), &got)
		if !slices.Equal(brief(got.Series), want) {
			t.Errorf("%s: %q, want %q", params, brief(got.Series), want)
		}
	}
	var got describeSeriesOut
	s.must("DescribeSeries", s.q(`{"Metric":"health","LoadBalancerId":"$lb","Limit":1}`), &got)
	if len(got.Series) != 1 || got.Series[0].InstanceId != "ins-a" || got.Others == nil || got.Others.Count != 1 {
		t.Errorf("the ill come first: %+v", got)
	}
}

func TestDescribeSeriesRefuses(t *testing.T) {
	s := newSite(t, func(o *Options) { o.History = &remembered{} })
	for params, want := range map[string][2]string{
		`{"Metric":"bytes"}`:                                            {"InvalidParameterValue", "Metric"},
		`{"Metric":"requests","Source":"counters"}`:                     {"InvalidParameterValue", "Source"},
		`{"Metric":"flows","Source":"hearsay"}`:                         {"InvalidParameterValue", "Source"},
		`{"Metric":"requests","Gate":"clb"}`:                            {"InvalidParameterValue", "Gate"},
		`{"Metric":"flows","Gate":"3"}`:                                 {"InvalidParameterValue", "Gate"},
		`{"Metric":"requests","SecurityGroupId":"sg-edge"}`:             {"InvalidParameterCombination", "SecurityGroupId"},
		`{"Metric":"requests","InstanceId":"ins-a"}`:                    {"InvalidParameterCombination", "InstanceId"},
		`{"Metric":"flows","Source":"counters","InstanceId":"ins-a"}`:   {"InvalidParameterCombination", "Source"},
		`{"Metric":"health"}`:                                           {"InvalidParameterValue", "LoadBalancerId"},
		`{"Metric":"health","InstanceId":"ins-a","GroupBy":["Status"]}`: {"InvalidParameterCombination", "GroupBy"},
		`{"Metric":"flows","GroupBy":["Colour"]}`:                       {"InvalidParameterValue", "GroupBy.0"},
		`{"Metric":"flows","Step":7}`:                                   {"InvalidParameterValue", "Step"},
		`{"Metric":"flows","Step":5,"Points":721}`:                      {"InvalidParameterValue", "Points"},
		`{"Metric":"flows","Limit":101}`:                                {"InvalidParameterValue", "Limit"},
		`{"Metric":"flows","LoadBalancerId":"lb-none"}`:                 {"ResourceNotFound", "lb-none"},
		`{"Metric":"flows","SecurityGroupId":"sg-none"}`:                {"ResourceNotFound", "sg-none"},
	} {
		s.refused("DescribeSeries", params, want[0], want[1])
	}
	newBench(t).refused("DescribeSeries", `{"Metric":"flows"}`, "UnsupportedOperation", "no nodes")
}
