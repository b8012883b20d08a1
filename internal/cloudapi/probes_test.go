// SPDX-License-Identifier: Apache-2.0

package cloudapi

import (
	"slices"
	"testing"
)

// Every load balancer that probes a member from its own address is listed, and
// no other.
func TestDescribeProbeSources(t *testing.T) {
	s := newSite(t)
	sources := func(group string) (ids []string) {
		t.Helper()
		var got describeProbeSourcesOut
		s.must("DescribeProbeSources", `{"SecurityGroupId":"`+group+`"}`, &got)
		for _, p := range got.Sources {
			if len(p.Addresses) != 1 {
				t.Errorf("%+v", p)
			}
			ids = append(ids, p.LoadBalancerId)
		}
		return ids
	}
	if got := sources("sg-cvm"); got != nil {
		t.Errorf("without targets: %v", got)
	}
	s.must("RegisterTargets", s.q(`{"LoadBalancerId":"$lb","ListenerId":"$http","LocationId":"$rule","Targets":[{"InstanceId":"ins-b","Port":8080}]}`), nil)
	if got := sources("sg-cvm"); !slices.Equal(got, []string{s.lb}) {
		t.Errorf("with a target: %v", got)
	}
	if got := sources("sg-edge"); got != nil {
		t.Errorf("of a group without instances: %v", got)
	}
	s.must("ModifyRule", s.q(`{"LoadBalancerId":"$lb","ListenerId":"$http","LocationId":"$rule","HealthCheck":{"HealthSwitch":1,"SourceIpType":1}}`), nil)
	if got := sources("sg-cvm"); got != nil {
		t.Errorf("probes from 100.64.0.0/16 need no rule: %v", got)
	}
	s.must("ModifyRule", s.q(`{"LoadBalancerId":"$lb","ListenerId":"$http","LocationId":"$rule","HealthCheck":{"HealthSwitch":1,"SourceIpType":0}}`), nil)
	s.must("ModifyLoadBalancerAttributes", s.q(`{"LoadBalancerId":"$lb","LoadBalancerPassToTarget":true}`), nil)
	if got := sources("sg-cvm"); got != nil {
		t.Errorf("with pass-to-target: %v", got)
	}
	s.refused("DescribeProbeSources", `{"SecurityGroupId":"sg-none"}`, "ResourceNotFound", "sg-none")
}
