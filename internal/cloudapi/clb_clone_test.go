// SPDX-License-Identifier: Apache-2.0

package cloudapi

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/sallyport/sallyport/internal/lb"
	"github.com/sallyport/sallyport/internal/store"
)

// clone calls CloneLoadBalancer and asks the task for the id.
func (s *site) clone(params string) *lb.LoadBalancer {
	s.Helper()
	var made struct{ RequestId string }
	s.must("CloneLoadBalancer", s.q(params), &made)
	var task describeTaskStatusOut
	s.must("DescribeTaskStatus", `{"TaskId":"`+made.RequestId+`"}`, &task)
	if task.Status != 0 || len(task.LoadBalancerIds) != 1 {
		s.Fatalf("%+v", task)
	}
	return s.Store.State().Balancers.Get(lb.BalancerID(task.LoadBalancerIds[0]))
}

// shape is what listeners do, without ids and numbers; nums are those.
func (s *site) shape(id lb.BalancerID) (text string, nums []uint32) {
	var all []string
	for _, l := range listenersOf(s.Store.State(), id) {
		line := fmt.Sprintf("%s:%d %v", l.Protocol, l.Port, l.Stopped)
		nums = append(nums, l.Num)
		show := func(targets []lb.Target) {
			for _, t := range targets {
				line += fmt.Sprintf(" %s:%d=%d", t.Instance, t.Port, t.Weight)
				nums = append(nums, t.Num)
			}
		}
		show(l.Targets)
		for _, r := range l.Rules {
			line += fmt.Sprintf(" | %s%s %v", r.Domain, r.URL, r.Default)
			if r.Rewrite != nil {
				_, to := lb.FindRule(listenersOf(s.Store.State(), id), r.Rewrite.Listener, r.Rewrite.Location)
				line += fmt.Sprintf(" to %s%s", to.Domain, to.URL)
			}
			show(r.Targets)
		}
		all = append(all, line)
	}
	return strings.Join(all, "\n"), nums
}

// A clone does what the original does, under an address and numbers of its own.
func TestClone(t *testing.T) {
	s := newSite(t)
	s.register()
	s.must("SetLoadBalancerSecurityGroups", s.q(`{"LoadBalancerId":"$lb","SecurityGroups":["sg-edge"]}`), nil)
	s.must("ModifyLoadBalancerAttributes", s.q(`{"LoadBalancerId":"$lb","LoadBalancerPassToTarget":true,"DeleteProtect":true}`), nil)
	s.must("ModifyLoadBalancersProject", s.q(`{"LoadBalancerIds":["$lb"],"ProjectId":3}`), nil)
	s.must("SetLoadBalancerStartStatus", s.q(`{"LoadBalancerId":"$lb","OperationType":"Stop","ListenerIds":["$tcp"]}`), nil)
	var made struct{ LocationIds []string }
	s.must("CreateRule", s.q(`{"LoadBalancerId":"$lb","ListenerId":"$http","Rules":[{"Domain":"old.example.com","Url":"/"}]}`), &made)
	s.must("ManualRewrite", s.q(`{"LoadBalancerId":"$lb","SourceListenerId":"$http","TargetListenerId":"$http","RewriteInfos":[{"SourceLocationId":"`+made.LocationIds[0]+`","TargetLocationId":"$rule"}]}`), nil)

	old := s.Store.State().Balancers.Get(lb.BalancerID(s.lb))
	b := s.clone(`{"LoadBalancerId":"$lb","LoadBalancerName":"twin","Tags":[{"TagKey":"k","TagValue":"v"}],"Vip":"192.0.2.9"}`)
	if b.Name != "twin" || b.VIPs[0].String() != "192.0.2.9" || !b.PassToTarget || b.Protected || !slices.Equal(b.Groups, old.Groups) || b.VPC != old.VPC || b.Num == old.Num || b.Tags["k"] != "v" || projectOf(b) != 0 {
		t.Errorf("%+v of %+v", b, old)
	}
	want, oldNums := s.shape(old.ID)
	got, newNums := s.shape(b.ID)
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	for _, n := range newNums {
		if slices.Contains(oldNums, n) {
			t.Errorf("number %d is used twice", n)
		}
	}
	if c := s.clone(`{"LoadBalancerId":"$lb","ProjectId":5}`); c.Name != string(c.ID) || projectOf(c) != 5 {
		t.Errorf("%+v", c)
	}
	s.must("DeleteLoadBalancer", `{"LoadBalancerIds":["`+string(b.ID)+`"]}`, nil)
	if after, _ := s.shape(old.ID); after != want {
		t.Errorf("deleting the clone changed the original:\n%s", after)
	}
}

func TestCloneRefusals(t *testing.T) {
	s := newSite(t)
	s.seed(func(tx *store.Tx) {
		tx.PutBalancer(&lb.LoadBalancer{ID: "lb-classic1", Num: tx.NextNum(), Type: lb.Open, VPC: "vpc-1", Classic: true, VIPs: []netip.Addr{netip.MustParseAddr("192.0.2.30")}})
	})
	s.refusals([]refusal{
		{"CloneLoadBalancer", `{"LoadBalancerId":"lb-nonesuch"}`, "InvalidParameter.LBIdNotFound", "lb-nonesuch"},
		{"CloneLoadBalancer", `{"LoadBalancerId":"lb-classic1"}`, "UnsupportedOperation", "LoadBalancerId: lb-classic1 is classic"},
		{"CloneLoadBalancer", s.q(`{"LoadBalancerId":"$lb","LoadBalancerName":"a b"}`), "InvalidParameterValue", "LoadBalancerName"},
		{"CloneLoadBalancer", s.q(`{"LoadBalancerId":"$lb","LoadBalancerName":"` + strings.Repeat("x", 81) + `"}`), "InvalidParameterValue.Length", "LoadBalancerName"},
		{"CloneLoadBalancer", s.q(`{"LoadBalancerId":"$lb","ZoneId":"elsewhere-1"}`), "InvalidParameterValue", "ZoneId"},
		{"CloneLoadBalancer", s.q(`{"LoadBalancerId":"$lb","MasterZoneId":"elsewhere-1"}`), "InvalidParameterValue", "MasterZoneId"},
		{"CloneLoadBalancer", s.q(`{"LoadBalancerId":"$lb","Vip":"192.0.2.1"}`), "InvalidParameterValue", "Vip: 192.0.2.1 is in use"},
		{"CloneLoadBalancer", s.q(`{"LoadBalancerId":"$lb","Vip":"here"}`), "InvalidParameter.FormatError", "Vip"},
		{"CloneLoadBalancer", s.q(`{"LoadBalancerId":"$lb","Tags":[{"TagKey":""}]}`), "InvalidParameterValue", "Tags"},
	})
	s.Quotas.BalancersPerType = 1
	s.refused("CloneLoadBalancer", s.q(`{"LoadBalancerId":"$lb"}`), "LimitExceeded", "load balancer")
}

func TestDescribeLoadBalancersFilters(t *testing.T) {
	s := newSite(t)
	s.register()
	s.must("CreateLoadBalancer", `{"LoadBalancerType":"OPEN","LoadBalancerName":"other","InternetAccessible":{"InternetChargeType":"TRAFFIC_POSTPAID_BY_HOUR"}}`, nil)
	for params, want := range map[string]string{
		`"OrderBy":"LoadBalancerName","OrderType":0`: "other web", `"OrderBy":"LoadBalancerName"`: "web other", `"OrderBy":"Domain","OrderType":0`: "web other",
		`"WithRs":1`: "web", `"WithRs":0`: "other", `"WithRs":-1`: "other web",
		`"SearchKey":"` + s.lb[3:] + `"`: "web", `"SearchKey":"192.0.2.2"`: "other", `"SearchKey":"the"`: "other",
		`"Domain":"a"`: "", `"VpcId":"0"`: "", `"VpcId":"vpc-1"`: "other web", `"MasterZone":"nowhere"`: "", `"BackendPrivateIps":["10.200.0.2"]`: "web",
		`"Filters":[{"Name":"internet-charge-type","Values":["TRAFFIC_POSTPAID_BY_HOUR"]}]`:   "other",
		`"Filters":[{"Name":"vip-isp","Values":["BGP"]},{"Name":"exclusive","Values":["0"]}]`: "other web",
		`"Filters":[{"Name":"sla-type","Values":["clb.c4.xlarge"]}]`:                          "", `"Filters":[{"Name":"function-name","Values":["f"]}]`: "",
	} {
		var got struct{ LoadBalancerSet []loadBalancerOut }
		s.must("DescribeLoadBalancers", `{`+params+`}`, &got)
		var names []string
		for _, b := range got.LoadBalancerSet {
			names = append(names, b.LoadBalancerName)
		}
		if text := strings.Join(names, " "); text != want {
			t.Errorf("%s: %q, want %q", params, text, want)
		}
	}
	var got struct{ LoadBalancerSet []loadBalancerOut }
	if s.must("DescribeLoadBalancers", s.q(`{"LoadBalancerIds":["$lb"],"AdditionalFields":["TargetCount"]}`), &got); *got.LoadBalancerSet[0].TargetCount != 3 {
		t.Errorf("%d targets", *got.LoadBalancerSet[0].TargetCount)
	}
	s.refused("DescribeLoadBalancers", `{"AdditionalFields":["Colour"]}`, "InvalidParameterValue", `AdditionalFields.0: "Colour" is not a field to add; use TargetCount`)
	s.refused("DescribeLoadBalancers", `{"OrderBy":"Age"}`, "InvalidParameterValue", "OrderBy")
}
