// SPDX-License-Identifier: Apache-2.0

package cloudapi

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/sallyport/sallyport/internal/lb"
)

func (s *site) register() {
	s.Helper()
	s.must("RegisterTargets", s.q(`{"LoadBalancerId":"$lb","ListenerId":"$http","LocationId":"$rule","Targets":[{"InstanceId":"ins-a","Port":8080},{"InstanceId":"ins-b","Port":8080,"Weight":3}]}`), nil)
	s.must("RegisterTargets", s.q(`{"LoadBalancerId":"$lb","ListenerId":"$tcp","Targets":[{"InstanceId":"ins-a","Port":9000}]}`), nil)
}

func TestStartStatus(t *testing.T) {
	s := newSite(t)
	flags := func() string {
		var got struct{ LoadBalancerSet []loadBalancerOut }
		s.must("DescribeLoadBalancers", s.q(`{"LoadBalancerIds":["$lb"]}`), &got)
		var listeners describeListenersOut
		s.must("DescribeListeners", s.q(`{"LoadBalancerId":"$lb"}`), &listeners)
		text := strings.Join(got.LoadBalancerSet[0].AttributeFlags, ",")
		for _, l := range listeners.Listeners {
			text += fmt.Sprintf(" %d:%s", l.Port, strings.Join(l.AttrFlags, ","))
		}
		return text
	}
	for _, step := range []struct{ params, want string }{
		{`"OperationType":"Stop","ListenerIds":["$tcp"]`, " 80: 81:Stop"},
		{`"OperationType":"Stop"`, "Stop 80:Stop 81:Stop"},
		{`"OperationType":"Stop"`, "Stop 80:Stop 81:Stop"},
		{`"OperationType":"Start","ListenerIds":["$http"]`, " 80: 81:Stop"},
		{`"OperationType":"Start"`, " 80: 81:"},
	} {
		s.must("SetLoadBalancerStartStatus", s.q(`{"LoadBalancerId":"$lb",`+step.params+`}`), nil)
		if got := flags(); got != step.want {
			t.Errorf("%s: %q, want %q", step.params, got, step.want)
		}
	}
	empty := s.openBalancer()
	for _, tc := range []struct{ params, code, text string }{
		{`{"LoadBalancerId":"$lb","OperationType":"stop"}`, "InvalidParameterValue", "it is one of Start, Stop"},
		{`{"LoadBalancerId":"$lb"}`, "MissingParameter", "OperationType"},
		{`{"LoadBalancerId":"lb-none","OperationType":"Stop"}`, "InvalidParameter.LBIdNotFound", "lb-none"},
		{`{"LoadBalancerId":"$lb","OperationType":"Stop","ListenerIds":["$tcp","lbl-none"]}`, "InvalidParameter.ListenerIdNotFound", "lbl-none"},
		{`{"LoadBalancerId":"` + empty + `","OperationType":"Stop"}`, "FailedOperation.NoListenerInLB", "create one first"},
	} {
		s.refused("SetLoadBalancerStartStatus", s.q(tc.params), tc.code, tc.text)
	}
}

func TestModifyProject(t *testing.T) {
	s := newSite(t)
	s.must("ModifyLoadBalancersProject", s.q(`{"LoadBalancerIds":["$lb"],"ProjectId":7}`), nil)
	var got struct{ LoadBalancerSet []loadBalancerOut }
	s.must("DescribeLoadBalancers", `{"ProjectId":7}`, &got)
	if len(got.LoadBalancerSet) != 1 || got.LoadBalancerSet[0].ProjectId != 7 {
		t.Errorf("%+v", got)
	}
	for _, tc := range []struct{ params, code, text string }{
		{`{"LoadBalancerIds":[],"ProjectId":7}`, "InvalidParameterValue.Length", "LoadBalancerIds"},
		{`{"LoadBalancerIds":["$lb"]}`, "MissingParameter", "ProjectId"},
		{`{"LoadBalancerIds":["$lb"],"ProjectId":-1}`, "InvalidParameterValue.Range", "ProjectId: -1"},
		{`{"LoadBalancerIds":["$lb","lb-nonesuch"],"ProjectId":8}`, "InvalidParameter.LBIdNotFound", "lb-nonesuch"},
	} {
		s.refused("ModifyLoadBalancersProject", s.q(tc.params), tc.code, tc.text)
	}
}

func TestQuotaOverviewAndResources(t *testing.T) {
	s := newSite(t)
	var quotas describeQuotaOut
	s.must("DescribeQuota", `{}`, &quotas)
	if q := quotas.QuotaSet; len(q) != 8 || q[0].QuotaId != "TOTAL_OPEN_CLB_QUOTA" || *q[0].QuotaCurrent != 1 || q[0].QuotaLimit != 100 || q[2].QuotaCurrent != nil || q[2].QuotaLimit != 50 {
		t.Errorf("%+v", q)
	}
	for i, limit := range []int{5: 0, 6: 0, 7: 1} { // what there cannot be here, and one that only fits once
		if q := quotas.QuotaSet[i]; i >= 5 && q.QuotaLimit != limit {
			t.Errorf("%+v", q)
		}
	}
	var counts describeLoadBalancerOverviewOut
	if s.must("DescribeLoadBalancerOverview", `{}`, &counts); counts.TotalCount != 1 || counts.RunningCount != 1 {
		t.Errorf("%+v", counts)
	}
	var zones describeResourcesOut
	s.must("DescribeResources", `{"Filters":[{"Name":"isp","Values":["BGP"]},{"Name":"ip-version","Values":["IPv4"]}]}`, &zones)
	if zones.TotalCount != 1 || zones.ZoneResourceSet[0].ResourceSet[0].AvailabilitySet[0].Availability != "Available" {
		t.Errorf("%+v", zones)
	}
	if s.must("DescribeResources", `{"Filters":[{"Name":"master-zone","Values":["elsewhere"]}]}`, &zones); zones.TotalCount != 0 {
		t.Errorf("%+v", zones)
	}
	s.refused("DescribeResources", `{"Filters":[{"Name":"x","Values":["y"]}]}`, "InvalidParameterValue.InvalidFilter", "x")
	s.refused("DescribeResources", `{"Limit":0}`, "InvalidParameterValue.Range", "Limit")
}

func TestDescribeLBListeners(t *testing.T) {
	s := newSite(t)
	s.register()
	var got describeLBListenersOut
	s.must("DescribeLBListeners", `{"Backends":[{"VpcId":"vpc-1","PrivateIp":"10.200.0.2"}]}`, &got)
	if len(got.LoadBalancers) != 1 || len(got.LoadBalancers[0].Listeners) != 2 {
		t.Fatalf("%+v", got)
	}
	http, tcp := got.LoadBalancers[0].Listeners[0], got.LoadBalancers[0].Listeners[1]
	if http.Rules[0].LocationId != s.rule || len(http.Rules[0].Targets) != 1 || http.Rules[0].Targets[0].PrivateIp != "10.200.0.2" || tcp.Targets[0].Port != 9000 || got.LoadBalancers[0].Vip != "192.0.2.1" {
		t.Errorf("%+v", got)
	}
	if s.must("DescribeLBListeners", `{"Backends":[{"VpcId":"vpc-2","PrivateIp":"10.200.0.2"}]}`, &got); len(got.LoadBalancers) != 0 {
		t.Errorf("another network's address: %+v", got)
	}
	s.refused("DescribeLBListeners", `{"Backends":[]}`, "InvalidParameterValue.Length", "Backends: 0 items; give 1-20")
	s.refused("DescribeLBListeners", `{"Backends":[{"VpcId":"vpc-1"}]}`, "MissingParameter", "Backends.0.PrivateIp")
}

func TestDescribeLoadBalancersDetail(t *testing.T) {
	s := newSite(t)
	s.register()
	s.openBalancer()
	rows := func(params string) []balancerDetail {
		t.Helper()
		var got describeLoadBalancersDetailOut
		s.must("DescribeLoadBalancersDetail", s.q(params), &got)
		if got.TotalCount < len(got.LoadBalancerDetailSet) {
			t.Errorf("total %d", got.TotalCount)
		}
		return got.LoadBalancerDetailSet
	}
	only := `"Filters":[{"Name":"loadbalancer-id","Values":["$lb"]}]`
	if got := rows(`{}`); len(got) != 2 || got[0].LoadBalancerName != "web" || got[0].Address != nil {
		t.Errorf("%+v", got)
	}
	if got := rows(`{` + only + `,"Fields":["ListenerId","Address"]}`); len(got) != 2 || *got[0].ListenerId != s.http || *got[1].Address != "192.0.2.1" || got[0].Protocol != nil {
		t.Errorf("%+v", got)
	}
	got := rows(`{` + only + `,"Fields":["Url","TargetId","TargetAddress","TargetPort","TargetWeight","TargetHealth","NetworkAttributes"]}`)
	if len(got) != 3 || *got[0].Url != "/" || *got[1].TargetId != "ins-b" || *got[1].TargetAddress != "10.200.0.3" || *got[1].TargetWeight != 3 || got[2].Url != nil || *got[2].TargetPort != 9000 || *got[0].TargetHealth != "Unknown" {
		text, _ := json.Marshal(got)
		t.Errorf("%s", text)
	}
	if got := rows(`{` + only + `,"Fields":["TargetId"],"TargetType":"GROUP"}`); len(got) != 2 || got[0].TargetId != nil {
		t.Errorf("no target is of a group: %+v", got)
	}
	for filter, want := range map[string]int{
		`{"Name":"vip","Values":["192.0.2.1"]}`: 1, `{"Name":"network","Values":["Public"]}`: 2, `{"Name":"network","Values":["Private"]}`: 0,
		`{"Name":"vpcid","Values":["vpc-1"]}`: 2, `{"Name":"target-ip","Values":["10.200.0.3"]}`: 1, `{"Name":"project-id","Values":["0"]}`: 2,
		`{"Name":"zone","Values":["nowhere"]}`: 0, `{"Name":"fuzzy-search","Values":["we"]}`: 1, `{"Name":"fuzzy-search","Values":["192.0.2."]}`: 2, `{"Name":"tag-key","Values":["k"]}`: 0,
	} {
		if got := rows(`{"Filters":[` + filter + `]}`); len(got) != want {
			t.Errorf("%s: %d rows, want %d", filter, len(got), want)
		}
	}
	// A row is of a target, a rule, a listener or a load balancer: target-ip keeps those that it is behind.
	for _, tc := range []struct{ fields, ip, want string }{
		{`"TargetId","TargetPort"`, "10.200.0.3", "ins-b:8080"}, {`"TargetId","TargetPort"`, "10.200.0.2", "ins-a:8080 ins-a:9000"},
		{`"LocationId"`, "10.200.0.3", s.rule}, {`"ListenerId"`, "10.200.0.3", s.http}, {`"ListenerId"`, "10.200.0.2", s.http + " " + s.tcp},
		{`"TargetId","TargetPort"`, "10.200.0.9", ""}, {`"Address"`, "10.200.0.3", "192.0.2.1"},
	} {
		var text []string
		for _, row := range rows(`{"Fields":[` + tc.fields + `],"Filters":[{"Name":"target-ip","Values":["` + tc.ip + `"]}]}`) {
			switch {
			case row.TargetId != nil:
				text = append(text, fmt.Sprintf("%s:%d", *row.TargetId, *row.TargetPort))
			case row.LocationId != nil:
				text = append(text, *row.LocationId)
			case row.ListenerId != nil:
				text = append(text, *row.ListenerId)
			case row.Address != nil:
				text = append(text, *row.Address)
			default:
				text = append(text, "nothing")
			}
		}
		if got := strings.Join(text, " "); got != tc.want {
			t.Errorf("%s behind %s: %q, want %q", tc.fields, tc.ip, got, tc.want)
		}
	}
	s.refused("DescribeLoadBalancersDetail", `{"Fields":["Nothing"]}`, "InvalidParameterValue", `Fields.0: there is no field "Nothing"; use`)
	s.refused("DescribeLoadBalancersDetail", `{"TargetType":"ALL"}`, "InvalidParameterValue", "it is one of NODE, GROUP")
	s.refused("DescribeLoadBalancersDetail", `{"Filters":[{"Name":"x","Values":["y"]}]}`, "InvalidParameterValue.InvalidFilter", "x")
	s.refused("DescribeLoadBalancersDetail", `{"Limit":101}`, "InvalidParameterValue.Range", "Limit")
}

func TestDescribeTargetsFilters(t *testing.T) {
	s := newSite(t)
	s.register()
	s.must("CreateRule", s.q(`{"LoadBalancerId":"$lb","ListenerId":"$http","Rules":[{"Domain":"b.example.com","Url":"/"}]}`), nil)
	shown := func(filters string) string {
		var got describeTargetsOut
		s.must("DescribeTargets", s.q(`{"LoadBalancerId":"$lb","Filters":[`+filters+`]}`), &got)
		var all []string
		for _, l := range got.Listeners {
			text := l.Protocol
			for _, t := range l.Targets {
				text += " " + t.InstanceId
			}
			for _, r := range l.Rules {
				text += " /"
				for _, t := range r.Targets {
					text += " " + t.InstanceId
				}
			}
			all = append(all, text)
		}
		return strings.Join(all, ", ")
	}
	for filters, want := range map[string]string{
		``: "HTTP / ins-a ins-b /, TCP ins-a",
		`{"Name":"location-id","Values":["$rule"]}`:               "HTTP / ins-a ins-b, TCP",
		`{"Name":"location-id","Values":["loc-none"]}`:            "HTTP, TCP",
		`{"Name":"private-ip-address","Values":["10.200.0.2"]}`:   "HTTP / ins-a /, TCP ins-a",
		`{"Name":"private-ip-address","Values":["198.51.100.1"]}`: "HTTP / /, TCP",
	} {
		if got := shown(filters); got != want {
			t.Errorf("%s: %s, want %s", filters, got, want)
		}
	}
	if got := s.Store.State().Listeners.Get(lb.ListenerID(s.http)).Rules; !slices.ContainsFunc(got, func(r lb.Rule) bool { return len(r.Targets) == 2 }) {
		t.Error("a filter changed what is bound")
	}
	s.refused("DescribeTargets", s.q(`{"LoadBalancerId":"$lb","Filters":[{"Name":"tag","Values":["x"]}]}`), "InvalidParameterValue.InvalidFilter", "tag")
	s.refused("DescribeTargets", `{"LoadBalancerId":"lb-none"}`, "InvalidParameter.LBIdNotFound", "lb-none")
}
