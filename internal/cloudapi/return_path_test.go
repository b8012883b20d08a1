// SPDX-License-Identifier: Apache-2.0

package cloudapi

import (
	"testing"

	"github.com/sallyport/sallyport/internal/lb"
)

// The return path is direct until somebody says otherwise, reads back as it was
// written, and goes into a clone.
func TestReturnPath(t *testing.T) {
	s := newSite(t)
	shown := func(id string) string {
		t.Helper()
		var out describeReturnPathsOut
		s.must("DescribeReturnPaths", `{"LoadBalancerIds":["`+id+`"]}`, &out)
		if len(out.ReturnPathSet) != 1 || out.ReturnPathSet[0].LoadBalancerId != id {
			t.Fatalf("described %+v", out)
		}
		return out.ReturnPathSet[0].ReturnPath
	}
	id := s.q("$lb")
	if got := shown(id); got != "direct" {
		t.Errorf("before: %s", got)
	}
	s.must("ModifyReturnPath", s.q(`{"LoadBalancerId":"$lb","ReturnPath":"gateway"}`), nil)
	if got := shown(id); got != "gateway" || s.State().Balancers.Get(lb.BalancerID(id)).ReturnPath != lb.ReturnGateway {
		t.Errorf("after: %s", got)
	}
	was := s.State().Revision
	s.refusals([]refusal{
		{"ModifyReturnPath", s.q(`{"LoadBalancerId":"$lb","ReturnPath":"sideways"}`), "InvalidParameterValue", "ReturnPath"},
		{"ModifyReturnPath", s.q(`{"LoadBalancerId":"$lb"}`), "MissingParameter", "ReturnPath"},
		{"ModifyReturnPath", `{"LoadBalancerId":"lb-nonesuch","ReturnPath":"direct"}`, "InvalidParameter.LBIdNotFound", "LoadBalancerId"},
		{"DescribeReturnPaths", `{"LoadBalancerIds":["lb-nonesuch"]}`, "InvalidParameter.LBIdNotFound", "LoadBalancerId"},
	})
	if s.State().Revision != was {
		t.Error("a refused call changed something")
	}
	s.must("CloneLoadBalancer", s.q(`{"LoadBalancerId":"$lb","LoadBalancerName":"twin"}`), nil)
	for _, b := range s.State().Balancers.All() {
		if b.ReturnPath != lb.ReturnGateway {
			t.Errorf("%s returns %s", b.Name, b.ReturnPath.Name())
		}
	}
	s.must("ModifyReturnPath", s.q(`{"LoadBalancerId":"$lb","ReturnPath":"direct"}`), nil)
	if got := shown(id); got != "direct" {
		t.Errorf("back: %s", got)
	}
}
