// SPDX-License-Identifier: Apache-2.0

package cloudapi

import (
	"strings"
	"testing"
	"time"

	"github.com/sallyport/sallyport/internal/control"
	"github.com/sallyport/sallyport/internal/lb"
)

// A task runs until every connected gateway has its revision in force.
func TestTaskFollowsTheGateways(t *testing.T) {
	facts := &reported{}
	now := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	s := newSite(t, func(o *Options) { o.Facts, o.Now = facts, func() time.Time { return now } })
	var made struct{ RequestId string }
	s.must("ModifyLoadBalancerAttributes", s.q(`{"LoadBalancerId":"$lb","LoadBalancerName":"renamed"}`), &made)
	at := s.Store.State().Revision
	gateway := func(id lb.NodeID, committed lb.Revision, failure string) control.NodeStatus {
		return control.NodeStatus{ID: id, Role: lb.RoleGateway, Connected: true, Committed: committed, Failure: failure}
	}
	away := gateway("gateway-9", 0, "")
	away.Connected = false
	host := control.NodeStatus{ID: "ins-a", Role: lb.RoleHost, Connected: true}
	for _, tc := range []struct {
		name   string
		later  time.Duration
		nodes  []control.NodeStatus
		status int
		says   string
	}{
		{"none at all", 0, nil, 0, "no gateway is connected"},
		{"only one that is away", 0, []control.NodeStatus{away, host}, 0, "no gateway is connected"},
		{"on its way", 0, []control.NodeStatus{gateway("gateway-1", at-1, ""), away}, 2, "not in force yet on gateway-1"},
		{"half way", 0, []control.NodeStatus{gateway("gateway-1", at, ""), gateway("gateway-2", at-1, "")}, 2, "on gateway-2"},
		{"in force", 0, []control.NodeStatus{gateway("gateway-1", at, ""), gateway("gateway-2", at+3, ""), host}, 0, ""},
		{"a first failure", 0, []control.NodeStatus{gateway("gateway-1", at-1, "no room")}, 2, "gateway-1"},
		{"a lasting failure", 6 * time.Second, []control.NodeStatus{gateway("gateway-1", at-1, "no room")}, 1, "cannot be put in force: gateway-1: no room"},
		{"a failure of something newer", 6 * time.Second, []control.NodeStatus{gateway("gateway-1", at, "no room")}, 0, ""},
	} {
		facts.nodes = tc.nodes
		now = now.Add(tc.later)
		var got describeTaskStatusOut
		s.must("DescribeTaskStatus", `{"TaskId":"`+made.RequestId+`"}`, &got)
		now = now.Add(-tc.later)
		if got.Status != tc.status || !strings.Contains(got.Message, tc.says) || tc.says == "" && got.Message != "" {
			t.Errorf("%s: %+v, want status %d saying %q", tc.name, got, tc.status, tc.says)
		}
	}
}
