// SPDX-License-Identifier: Apache-2.0

package cloudapi

import (
	"context"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/sallyport/sallyport/internal/control"
	"github.com/sallyport/sallyport/internal/flow"
	"github.com/sallyport/sallyport/internal/lb"
	"github.com/sallyport/sallyport/internal/policy"
	"github.com/sallyport/sallyport/internal/store"
)

// a source remembers what it was asked.
type source struct {
	asked  flow.Query
	answer control.FlowAnswer
}

func (s *source) Flows(_ context.Context, q flow.Query) control.FlowAnswer {
	s.asked = q
	return s.answer
}

func TestDescribeFlows(t *testing.T) {
	at := netip.MustParseAddrPort
	s := &source{answer: control.FlowAnswer{Total: 7, Silent: []control.Silence{{Node: "gateway-2", Why: "it is not connected"}}, Flows: []flow.Flow{
		{Node: "gateway-1", Gate: policy.GateCLB, Proto: lb.TCP, Opener: policy.In, Peer: at("203.0.113.10:4000"), Dialled: at("192.0.2.1:80"), State: flow.Open,
			Idle: 3 * time.Second, Revision: 9, Balancer: "lb-1", Listener: "lbl-1", Instance: "ins-a", Group: "sg-1", Rule: "pol-1"},
		{Node: "ins-a", Gate: policy.GateCVM, Proto: lb.TCP, Opener: policy.In, Peer: at("203.0.113.10:4000"), Dialled: at("192.0.2.1:80"), Service: at("10.0.1.4:8080"),
			State: flow.Half, Revision: 9, Balancer: "lb-1", Instance: "ins-a"},
		{Node: "ins-a", Gate: policy.GateCVM, Proto: lb.ICMP, Opener: policy.Out, Peer: at("203.0.113.10:0"), Dialled: at("10.0.1.4:0"), Service: at("10.0.1.4:0"),
			State: flow.Refused, Revision: 9, Instance: "ins-a"},
	}}}
	b := newBench(t, func(o *Options) { o.FlowSource = s })
	b.seed(func(tx *store.Tx) { tx.PutNode(&lb.Node{ID: "ins-a", Role: lb.RoleHost}) })
	var got describeFlowsOut
	b.must("DescribeFlows", `{"Gate":"cvm","Node":"ins-a","Protocol":"tcp","Client":"203.0.113.10","Vip":"192.0.2.1","Port":80,"LoadBalancerId":"lb-1","ListenerId":"lbl-1","InstanceId":"ins-a","State":"open","Limit":5}`, &got)
	want := flow.Query{Gate: policy.GateCVM, Node: "ins-a", Proto: lb.TCP, Client: netip.MustParsePrefix("203.0.113.10/32"), Dialled: netip.MustParseAddr("192.0.2.1"),
		Port: 80, Balancer: "lb-1", Listener: "lbl-1", Instance: "ins-a", State: flow.Open, Limit: 5}
	if s.asked != want {
		t.Errorf("asked %+v, want %+v", s.asked, want)
	}
	var lines []string
	for _, f := range got.Flows {
		lines = append(lines, f.Text)
	}
	if wants := []string{
		"TCP 203.0.113.10:4000 > 192.0.2.1:80 open idle 3 s at gateway-1 gate clb, lb-1 ins-a, revision 9: sg-1 pol-1",
		"TCP 203.0.113.10:4000 > 192.0.2.1:80 = 10.0.1.4:8080 half-open idle 0 s at ins-a gate cvm, lb-1 ins-a, revision 9: no rule",
		"ICMP 10.0.1.4 > 203.0.113.10 refused idle 0 s at ins-a gate cvm, direct ins-a, revision 9: no rule",
	}; !slices.Equal(lines, wants) {
		t.Errorf("got\n%q\nwant\n%q", lines, wants)
	}
	if got.TotalCount != 7 || len(got.Silent) != 1 || got.Silent[0] != (silenceOut{"gateway-2", "it is not connected"}) {
		t.Errorf("got %+v", got)
	}
	b.must("DescribeFlows", `{"Client":"203.0.113.77/24"}`, nil)
	if s.asked != (flow.Query{Client: netip.MustParsePrefix("203.0.113.0/24"), Limit: 100}) {
		t.Errorf("asked %+v", s.asked)
	}
	b.refusals([]refusal{
		{"DescribeFlows", `{"Limit":0}`, "InvalidParameterValue", "Limit"},
		{"DescribeFlows", `{"Limit":1001}`, "InvalidParameterValue", "Limit"},
		{"DescribeFlows", `{"Port":0}`, "InvalidParameterValue", "Port"},
		{"DescribeFlows", `{"Client":"nobody"}`, "InvalidParameterValue", "Client"},
		{"DescribeFlows", `{"Vip":"192.0.2.0/24"}`, "InvalidParameterValue", "Vip"},
		{"DescribeFlows", `{"Protocol":"carrier pigeon"}`, "InvalidParameterValue", "Protocol"},
		{"DescribeFlows", `{"Node":"gateway-9"}`, "ResourceNotFound", "gateway-9"},
	})
	newBench(t).refused("DescribeFlows", `{}`, "UnsupportedOperation", "no nodes")
}

// The last gateway that serves is not drained; of several, one is and comes back.
func TestDrainNode(t *testing.T) {
	facts := &reported{nodes: []control.NodeStatus{{ID: "gateway-1", Connected: true}, {ID: "gateway-2"}}}
	b := newBench(t, func(o *Options) { o.Facts = facts })
	b.seed(func(tx *store.Tx) {
		tx.PutNode(&lb.Node{ID: "gateway-1", Role: lb.RoleGateway})
		tx.PutNode(&lb.Node{ID: "gateway-2", Role: lb.RoleGateway})
		tx.PutNode(&lb.Node{ID: "ins-a", Role: lb.RoleHost})
	})
	b.refusals([]refusal{
		{"DrainNode", `{"Name":"gateway-1"}`, "UnsupportedOperation", "last gateway"},
		{"DrainNode", `{"Name":"gateway-9"}`, "ResourceNotFound", "gateway-9"},
		{"DrainNode", `{"Name":"ins-a"}`, "InvalidParameterValue", "host"},
		{"UndrainNode", `{"Name":"ins-a"}`, "InvalidParameterValue", "host"},
		{"UndrainNode", `{"Name":"gateway-9"}`, "ResourceNotFound", "gateway-9"},
	})
	facts.nodes[1].Connected = true
	b.must("DrainNode", `{"Name":"gateway-1"}`, nil)
	b.must("DrainNode", `{"Name":"gateway-1"}`, nil) // again changes nothing
	if !b.Store.State().Nodes.Get("gateway-1").Drained {
		t.Error("gateway-1 is not drained")
	}
	var got describeStatusOut
	if b.must("DescribeStatus", `{}`, &got); !got.Nodes[0].Drained || got.Nodes[1].Drained {
		t.Errorf("status says %+v", got.Nodes)
	}
	b.refused("DrainNode", `{"Name":"gateway-2"}`, "UnsupportedOperation", "last gateway")
	b.must("UndrainNode", `{"Name":"gateway-1"}`, nil)
	if b.Store.State().Nodes.Get("gateway-1").Drained {
		t.Error("gateway-1 is drained still")
	}
}
