// SPDX-License-Identifier: Apache-2.0

package cloudapi

import "testing"

// There is one kind of load balancer and no log service, so what asks for these
// succeeds and all else is refused by name. Both are tasks, which clients poll.
func TestSlaAndLogs(t *testing.T) {
	s := newSite(t)
	before := s.State().Balancers.Get("lb-00000001")
	for _, tc := range []struct{ action, params string }{
		{"ModifyLoadBalancerSla", `{"LoadBalancerSla":[{"LoadBalancerId":"$lb","SlaType":""}]}`},
		{"SetLoadBalancerClsLog", `{"LoadBalancerId":"$lb","LogSetId":"","LogTopicId":""}`},
		{"SetLoadBalancerClsLog", `{"LoadBalancerId":"$lb","LogSetId":"","LogTopicId":"","LogType":"HEALTH"}`},
	} {
		var made struct{ RequestId string }
		s.must(tc.action, s.q(tc.params), &made)
		var task describeTaskStatusOut
		s.must("DescribeTaskStatus", `{"TaskId":"`+made.RequestId+`"}`, &task)
		if task.Status != taskDone {
			t.Errorf("%s: task %+v", tc.action, task)
		}
	}
	if s.State().Balancers.Get("lb-00000001") != before {
		t.Error("the load balancer is another one now")
	}
	s.refusals([]refusal{
		{"ModifyLoadBalancerSla", s.q(`{"LoadBalancerSla":[]}`), "InvalidParameterValue.Length", "LoadBalancerSla"},
		{"ModifyLoadBalancerSla", s.q(`{"LoadBalancerSla":[{"LoadBalancerId":"$lb"}]}`), "MissingParameter", "LoadBalancerSla.0.SlaType"},
		{"ModifyLoadBalancerSla", s.q(`{"LoadBalancerSla":[{"LoadBalancerId":"$lb","SlaType":"clb.c2.medium"}]}`), "UnsupportedOperation", "LoadBalancerSla.0.SlaType"},
		{"ModifyLoadBalancerSla", s.q(`{"LoadBalancerSla":[{"LoadBalancerId":"$lb","SlaType":"0"}]}`), "UnsupportedOperation", `served: ""`},
		{"ModifyLoadBalancerSla", s.q(`{"LoadBalancerSla":[{"LoadBalancerId":"$lb","SlaType":""}],"Force":true}`), "UnsupportedOperation", "Force"},
		{"ModifyLoadBalancerSla", `{"LoadBalancerSla":[{"LoadBalancerId":"lb-nonesuch","SlaType":""}]}`, "InvalidParameter.LBIdNotFound", "LoadBalancerSla.0.LoadBalancerId"},
		{"SetLoadBalancerClsLog", s.q(`{"LoadBalancerId":"$lb","LogSetId":"f1","LogTopicId":""}`), "UnsupportedOperation", "LogSetId"},
		{"SetLoadBalancerClsLog", s.q(`{"LoadBalancerId":"$lb","LogSetId":"","LogTopicId":"t1"}`), "UnsupportedOperation", "LogTopicId"},
		{"SetLoadBalancerClsLog", s.q(`{"LoadBalancerId":"$lb","LogSetId":""}`), "MissingParameter", "LogTopicId"},
		{"SetLoadBalancerClsLog", s.q(`{"LoadBalancerId":"$lb","LogSetId":"","LogTopicId":"","LogType":"DEBUG"}`), "InvalidParameterValue", "LogType"},
		{"SetLoadBalancerClsLog", `{"LoadBalancerId":"lb-nonesuch","LogSetId":"","LogTopicId":""}`, "InvalidParameter.LBIdNotFound", "LoadBalancerId"},
	})
}
