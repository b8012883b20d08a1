// SPDX-License-Identifier: Apache-2.0

package cloudapi

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/sallyport/sallyport/internal/control"
	"github.com/sallyport/sallyport/internal/flow"
	"github.com/sallyport/sallyport/internal/lb"
	"github.com/sallyport/sallyport/internal/policy"
	"github.com/sallyport/sallyport/internal/store"
)

func TestDescribeStatus(t *testing.T) {
	facts := &reported{nodes: []control.NodeStatus{{ID: "gateway-1", Role: lb.RoleGateway, Address: netip.MustParseAddr("192.0.2.129"), Other: netip.MustParseAddr("2001:db8::129"),
		Connected: true, Committed: 7, Lag: 84500 * time.Microsecond, Err: "slow",
		Tables: flow.Tables{Alarms: []string{"too full"}, Tables: []flow.Table{{Name: "flows", Slots: 8, Live: 7, Shares: []flow.Share{{Balancer: "lb-1", Flows: 6}}}}}}}}
	s := newSite(t, func(o *Options) { o.Facts = facts })
	s.must("RegisterTargets", s.q(`{"LoadBalancerId":"$lb","ListenerId":"$tcp","Targets":[{"InstanceId":"ins-a","Port":8080}]}`), nil)
	s.must("RegisterTargets", s.q(`{"LoadBalancerId":"$lb","ListenerId":"$http","LocationId":"$rule","Targets":[{"InstanceId":"ins-b","Port":8080}]}`), nil)
	num := s.Store.State().Listeners.Get(lb.ListenerID(s.tcp)).Targets[0].Num
	facts.health = map[uint32][]flow.Health{num: {{State: flow.HealthDead, Kind: "refused", Text: "connection refused"}}}
	var got describeStatusOut
	s.must("DescribeStatus", `{}`, &got)
	if got.Revision != s.Store.State().Revision || !reflect.DeepEqual(got.Nodes, []nodeOut{{Name: "gateway-1", Role: "gateway", Address: "192.0.2.129", Connected: true, Revision: 7, LagMs: 84.5, Error: "slow",
		Addresses: []string{"192.0.2.129", "2001:db8::129"},
		Alarms:    []string{"too full"}, FlowTables: []flowTableOut{{Name: "flows", Slots: 8, Flows: 7, LargestLoadBalancerId: "lb-1", LargestFlows: 6}}}}) {
		t.Errorf("got %+v", got)
	}
	if x := got.Targets; len(x) != 2 || x[0].LocationId != s.rule || x[0].Health != "Unknown" || x[1].ListenerId != s.tcp || x[1].HealthReason.Kind != "refused" {
		t.Errorf("targets %+v", x)
	}
	got = describeStatusOut{}
	s.must("DescribeStatus", `{"Summary":true}`, &got)
	st := s.Store.State()
	if x := got.Summary; len(got.Targets) > 0 || x.LoadBalancers != st.Balancers.Len() || x.Instances != st.Instances.Len() || x.SecurityGroups != st.Groups.Len() ||
		!slices.Equal(x.TargetCounts, []targetCounts{{LoadBalancerId: s.lb, Dead: 1, Unknown: 1}}) {
		t.Errorf("in short: %+v of %+v", x, got)
	}
	alone := newBench(t)
	alone.seed(func(tx *store.Tx) { tx.PutNode(&lb.Node{ID: "gateway-1", Role: lb.RoleGateway}) })
	alone.must("DescribeStatus", `{}`, &got)
	if len(got.Nodes) != 1 || got.Nodes[0].Connected {
		t.Errorf("without facts: %+v", got.Nodes)
	}
	alone.seed(func(tx *store.Tx) {
		one := netip.MustParseAddr("10.1.1.1")
		tx.PutInstance(&lb.Instance{ID: "ins-joined01", Joined: true, Private: one, Others: []netip.Addr{one, netip.MustParseAddr("10.1.1.2")}, Groups: []lb.GroupID{"sg-1"}, State: lb.Running})
		tx.PutNode(&lb.Node{ID: "ins-joined01", Role: lb.RoleHost, Instance: "ins-joined01", Address: one})
	})
	alone.must("DescribeStatus", `{}`, &got)
	if got.Nodes[1].Addresses[1] != "10.1.1.2" || len(got.Nodes[1].Addresses) != 2 {
		t.Errorf("a joined machine has %v", got.Nodes[1].Addresses)
	}
}

func event(gate policy.Gate, action lb.Action, reason policy.Reason) flow.Event {
	e := flow.Event{Time: time.Date(2026, 11, 23, 4, 5, 6, 0, time.UTC), Node: "gateway-1", Direction: policy.In, Revision: 9, Proto: lb.TCP,
		Verdict: policy.Verdict{Gate: gate, Action: action, Reason: reason},
		Src:     netip.MustParseAddrPort("203.0.113.10:4000"), Dst: netip.MustParseAddrPort("192.0.2.1:80"), Balancer: "lb-1", Listener: "lbl-1"}
	if reason == policy.RuleMatched {
		e.Verdict.Group, e.Verdict.Rule, e.Verdict.Pos = "sg-1", "pol-1", 2
	}
	if gate == policy.GateCVM {
		e.Node, e.Instance, e.Stamped = "ins-a", "ins-a", 8
		e.Dst = netip.MustParseAddrPort("10.200.0.2:8080")
	}
	return e
}

func TestDescribeVerdicts(t *testing.T) {
	facts := &reported{events: []flow.Event{
		event(policy.GateCLB, lb.Drop, policy.RuleMatched), event(policy.GateCVM, lb.Drop, policy.NoMatch), event(policy.GateCLB, lb.Accept, policy.NoGroups)}}
	ping := event(policy.GateCLB, lb.Drop, policy.NoMatch)
	ping.Proto = lb.ICMP
	facts.events = append(facts.events, ping)
	b := newBench(t, func(o *Options) { o.Facts = facts })
	var got describeVerdictsOut
	b.must("DescribeVerdicts", `{}`, &got)
	var lines []string
	for _, v := range got.Verdicts {
		lines = append(lines, v.Text)
	}
	want := []string{
		"2026-11-23T04:05:06Z DROP gate clb lb-1 in: TCP 203.0.113.10:4000 > 192.0.2.1:80 at gateway-1 revision 9: sg-1 rule 2 pol-1",
		"2026-11-23T04:05:06Z DROP gate cvm ins-a in: TCP 203.0.113.10:4000 > 10.200.0.2:8080 at ins-a revision 9 (the gateway judged at 8): no_match",
		"2026-11-23T04:05:06Z ACCEPT gate clb lb-1 in: TCP 203.0.113.10:4000 > 192.0.2.1:80 at gateway-1 revision 9: no_groups",
		"2026-11-23T04:05:06Z DROP gate clb lb-1 in: ICMP 203.0.113.10 > 192.0.2.1 at gateway-1 revision 9: no_match",
	}
	if !slices.Equal(lines, want) || got.Next != 4 {
		t.Errorf("next %d, lines\n%q, want\n%q", got.Next, lines, want)
	}
	b.must("DescribeVerdicts", `{"After":1,"Limit":1}`, &got)
	if len(got.Verdicts) != 1 || got.Verdicts[0].Gate != "cvm" || got.Verdicts[0].StampedRevision != 8 || got.Next != 2 {
		t.Errorf("got %+v", got)
	}
	b.must("DescribeVerdicts", `{"Filters":[{"Name":"gate","Values":["clb"]},{"Name":"action","Values":["ACCEPT"]}]}`, &got)
	if len(got.Verdicts) != 1 || got.Verdicts[0].Reason != "no_groups" || got.Next != 4 {
		t.Errorf("got %+v", got)
	}
	b.must("DescribeVerdicts", `{"After":-1}`, &got)
	if len(got.Verdicts) != 0 || got.Next != 4 {
		t.Errorf("only new ones: %+v", got)
	}
	b.refused("DescribeVerdicts", `{"Limit":1001}`, "InvalidParameterValue", "Limit")
	b.refused("DescribeVerdicts", `{"WaitSeconds":61}`, "InvalidParameterValue", "WaitSeconds")
	b.refused("DescribeVerdicts", `{"After":-2}`, "InvalidParameterValue", "After")
	b.refused("DescribeVerdicts", `{"Filters":[{"Name":"colour","Values":["red"]}]}`, "InvalidParameterValue.InvalidFilter", "colour")
	newBench(t).refused("DescribeVerdicts", `{}`, "UnsupportedOperation", "no nodes")
}

func TestDescribeRuleCounters(t *testing.T) {
	at := time.Date(2026, 11, 23, 4, 0, 0, 0, time.UTC)
	facts := &reported{counters: []flow.Counter{
		{Node: "gateway-1", Gate: policy.GateCLB, Group: "sg-1", Rule: "pol-1", Direction: policy.In, Packets: 3, Bytes: 300, NewFlows: 1, LastHit: at, Baseline: at},
		{Node: "gateway-2", Gate: policy.GateCLB, Group: "sg-1", Rule: "pol-1", Direction: policy.In, Packets: 4, Bytes: 400, Baseline: at.Add(-time.Hour)},
		{Node: "ins-a", Gate: policy.GateCVM, Object: "ins-a", Direction: policy.In, Packets: 5},
	}}
	b := newBench(t, func(o *Options) { o.Facts = facts })
	b.seed(func(tx *store.Tx) { tx.PutGroup(&lb.SecurityGroup{ID: "sg-1"}) })
	var got describeRuleCountersOut
	b.must("DescribeRuleCounters", `{}`, &got)
	want := []counterOut{
		{"clb", "sg-1", "pol-1", "", "in", 7, 700, 1, "2026-11-23T04:00:00Z", "2026-11-23T03:00:00Z"},
		{"cvm", "", "", "ins-a", "in", 5, 0, 0, "", ""},
	}
	if !slices.Equal(got.Counters, want) {
		t.Errorf("got %+v, want %+v", got.Counters, want)
	}
	b.must("DescribeRuleCounters", `{"SecurityGroupId":"sg-1"}`, &got)
	if !slices.Equal(got.Counters, want[:1]) {
		t.Errorf("of sg-1: %+v", got.Counters)
	}
	b.refused("DescribeRuleCounters", `{"SecurityGroupId":"sg-none"}`, "ResourceNotFound", "sg-none")
}

// A long poll answers as soon as the state is newer, and not before.
func TestDescribeHostsWaits(t *testing.T) {
	b := newBench(t)
	var got describeHostsOut
	b.must("DescribeHosts", `{}`, &got)
	empty := got.Revision
	if empty != b.Store.State().Revision || len(got.Instances) != 0 {
		t.Errorf("empty: %+v", got)
	}
	answer := make(chan json.RawMessage)
	go func() {
		raw, _ := b.Do(context.Background(), "2026-11-23", "DescribeHosts", json.RawMessage(fmt.Sprintf(`{"AfterRevision":%d,"WaitSeconds":60}`, empty)))
		answer <- raw
	}()
	select {
	case raw := <-answer:
		t.Fatalf("answered before there was anything: %s", raw)
	case <-time.After(50 * time.Millisecond): // nothing to wait for: absence is the condition
	}
	b.seed(func(tx *store.Tx) {
		tx.PutInstance(&lb.Instance{ID: "ins-a", Name: "web", Private: netip.MustParseAddr("10.200.0.2"), Public: netip.MustParseAddr("192.0.2.65"), State: lb.Pending})
	})
	if err := json.Unmarshal(<-answer, &got); err != nil || got.Revision != empty+1 || !slices.Equal(got.Instances, []hostOut{{InstanceId: "ins-a", InstanceName: "web", PrivateAddress: "10.200.0.2", PublicAddress: "192.0.2.65", State: "PENDING", Gate: "enforce"}}) {
		t.Errorf("got %+v, %v", got, err)
	}
	b.refused("DescribeHosts", `{"WaitSeconds":-1}`, "InvalidParameterValue", "WaitSeconds")
}
