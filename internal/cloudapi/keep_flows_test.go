// SPDX-License-Identifier: Apache-2.0

package cloudapi

import (
	"fmt"
	"testing"

	"github.com/sallyport/sallyport/internal/lb"
)

// What a change says about open flows is noted with exactly those whose rules it
// changes, and the next change that says nothing takes it back.
func TestChangesThatKeepFlows(t *testing.T) {
	s := newSite(t)
	var made struct {
		SecurityGroup struct{ SecurityGroupId string }
	}
	s.must("CreateSecurityGroup", `{"GroupName":"front","GroupDescription":"d"}`, &made)
	group := made.SecurityGroup.SecurityGroupId
	s.must("SetLoadBalancerSecurityGroups", s.q(`{"LoadBalancerId":"$lb","SecurityGroups":["`+group+`"]}`), nil)
	since := func() (lb.Revision, lb.Revision) {
		st := s.Store.State()
		return st.Balancers.Get(lb.BalancerID(s.lb)).KeptSince, st.Instances.Get("ins-a").KeptSince
	}
	set := func(port int, keep bool) lb.Revision {
		version := s.Store.State().Groups.Get(lb.GroupID(group)).Version
		s.must("SetSecurityGroupPolicies", fmt.Sprintf(`{"SecurityGroupId":"%s","Direction":"Ingress","Version":"%d","KeepFlows":%v,
			"Policies":[{"Protocol":"tcp","Port":"%d","CidrBlock":"0.0.0.0/0","Action":"ACCEPT"}]}`, group, version, keep, port), nil)
		return s.Store.State().Revision
	}
	set(80, false)
	if b, i := since(); b != 0 || i != 0 {
		t.Errorf("a change that says nothing: %d and %d", b, i)
	}
	first := set(81, true)
	if b, i := since(); b != first || i != 0 {
		t.Errorf("the first that keeps, at %d: %d and %d", first, b, i)
	}
	s.must("CreateVpc", `{"VpcName":"other","CidrBlock":"10.9.0.0/16"}`, nil)
	set(82, true)
	if b, _ := since(); b != first {
		t.Errorf("the second that keeps: %d, want %d", b, first)
	}
	set(83, false)
	if b, _ := since(); b != 0 {
		t.Errorf("one that does not: %d", b)
	}
}

func TestFlowKeeping(t *testing.T) {
	s := newSite(t)
	s.must("ModifyFlowKeeping", s.q(`{"LoadBalancerId":"$lb","KeepFlows":true}`), nil)
	s.must("ModifyFlowKeeping", `{"InstanceId":"ins-a","KeepFlows":true}`, nil)
	var got describeFlowKeepingOut
	s.must("DescribeFlowKeeping", s.q(`{"LoadBalancerIds":["$lb"],"InstanceIds":["ins-a"]}`), &got)
	if x := got.FlowKeepingSet; len(x) != 2 || x[0] != (flowKeepingOut{LoadBalancerId: s.lb, KeepFlows: true}) || x[1] != (flowKeepingOut{InstanceId: "ins-a", KeepFlows: true}) {
		t.Errorf("got %+v", got)
	}
	s.must("ModifyFlowKeeping", `{"InstanceId":"ins-a"}`, nil)
	if s.Store.State().Instances.Get("ins-a").Keep {
		t.Error("still on")
	}
	s.must("DescribeFlowKeeping", `{}`, &got)
	s.refusals([]refusal{
		{"ModifyFlowKeeping", `{}`, "InvalidParameterCombination", "one of"},
		{"ModifyFlowKeeping", `{"InstanceId":"ins-00000000"}`, "InvalidInstanceId.NotFound", "ins-00000000"},
		{"ModifyFlowKeeping", `{"LoadBalancerId":"lb-00000000"}`, "InvalidParameter.LBIdNotFound", "lb-00000000"},
		{"DescribeFlowKeeping", `{"InstanceIds":["ins-00000000"]}`, "InvalidInstanceId.NotFound", "ins-00000000"},
		{"DescribeFlowKeeping", `{"LoadBalancerIds":["lb-00000000"]}`, "InvalidParameter.LBIdNotFound", "lb-00000000"},
	})
}
