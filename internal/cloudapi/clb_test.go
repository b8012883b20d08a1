// SPDX-License-Identifier: Apache-2.0

package cloudapi

import (
	"context"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sallyport/sallyport/internal/control"
	"github.com/sallyport/sallyport/internal/flow"
	"github.com/sallyport/sallyport/internal/lb"
	"github.com/sallyport/sallyport/internal/store"
)

// A site is a bench with one load balancer, an HTTP:80 listener with a rule, a
// TCP:81 listener, two instances and two groups.
type site struct {
	*bench
	lb, http, rule, tcp string
}

func newSite(t *testing.T, change ...func(*Options)) *site {
	t.Helper()
	s := &site{bench: newBench(t, change...)}
	s.seed(func(tx *store.Tx) {
		tx.PutVPC(&lb.VPC{ID: "vpc-1", IsDefault: true})
		tx.PutVPC(&lb.VPC{ID: "vpc-2"})
		for i, id := range []lb.InstanceID{"ins-a", "ins-b"} {
			tx.PutInstance(&lb.Instance{ID: id, Name: "web-" + string(id[4:]), VPC: "vpc-1", State: lb.Running, Groups: []lb.GroupID{"sg-cvm"},
				Private: netip.AddrFrom4([4]byte{10, 200, 0, byte(2 + i)})})
		}
		tx.PutInstance(&lb.Instance{ID: "ins-far", VPC: "vpc-2", State: lb.Running, Private: netip.MustParseAddr("10.9.0.2"), Public: netip.MustParseAddr("192.0.2.70")})
		tx.PutGroup(&lb.SecurityGroup{ID: "sg-edge"})
		tx.PutGroup(&lb.SecurityGroup{ID: "sg-cvm"})
	})
	var balancers struct{ LoadBalancerIds []string }
	s.must("CreateLoadBalancer", `{"LoadBalancerType":"OPEN","LoadBalancerName":"web"}`, &balancers)
	s.lb = balancers.LoadBalancerIds[0]
	var listeners struct{ ListenerIds []string }
	s.must("CreateListener", s.q(`{"LoadBalancerId":"$lb","Ports":[80],"Protocol":"HTTP","ListenerNames":["front"]}`), &listeners)
	s.http = listeners.ListenerIds[0]
	s.must("CreateListener", s.q(`{"LoadBalancerId":"$lb","Ports":[81],"Protocol":"TCP"}`), &listeners)
	s.tcp = listeners.ListenerIds[0]
	var rules struct{ LocationIds []string }
	s.must("CreateRule", s.q(`{"LoadBalancerId":"$lb","ListenerId":"$http","Rules":[{"Domain":"www.example.com","Url":"/"}]}`), &rules)
	s.rule = rules.LocationIds[0]
	return s
}

// q puts the site's ids into a request.
func (s *site) q(params string) string {
	return strings.NewReplacer("$lb", s.lb, "$http", s.http, "$rule", s.rule, "$tcp", s.tcp).Replace(params)
}

// Each write's RequestId is a finished task; of a creation with the id made.
func TestTasks(t *testing.T) {
	s := newSite(t)
	var made struct {
		LoadBalancerIds []string
		RequestId       string
	}
	s.must("CreateLoadBalancer", `{"LoadBalancerType":"OPEN"}`, &made)
	var task struct {
		Status          int
		LoadBalancerIds []string
	}
	s.must("DescribeTaskStatus", `{"TaskId":"`+made.RequestId+`"}`, &task)
	if task.Status != 0 || !slices.Equal(task.LoadBalancerIds, made.LoadBalancerIds) || len(task.LoadBalancerIds) != 1 {
		t.Errorf("task %+v of %+v", task, made)
	}
	var answer struct{ RequestId string }
	for _, call := range []struct{ action, params string }{
		{"ModifyLoadBalancerAttributes", `{"LoadBalancerId":"$lb"}`},
		{"SetLoadBalancerSecurityGroups", `{"LoadBalancerId":"$lb","SecurityGroups":[]}`},
		{"SetSecurityGroupForLoadbalancers", `{"SecurityGroup":"sg-edge","OperationType":"ADD","LoadBalancerIds":["$lb"]}`},
		{"CreateListener", `{"LoadBalancerId":"$lb","Ports":[82],"Protocol":"TCP"}`},
		{"ModifyListener", `{"LoadBalancerId":"$lb","ListenerId":"$http","ListenerName":"x"}`},
		{"CreateRule", `{"LoadBalancerId":"$lb","ListenerId":"$http","Rules":[{"Domain":"a.example.com","Url":"/"}]}`},
		{"ModifyRule", `{"LoadBalancerId":"$lb","ListenerId":"$http","LocationId":"$rule","Url":"/x"}`},
		{"ModifyDomain", `{"LoadBalancerId":"$lb","ListenerId":"$http","Domain":"a.example.com","NewDomain":"b.example.com"}`},
		{"ModifyDomainAttributes", `{"LoadBalancerId":"$lb","ListenerId":"$http","Domain":"b.example.com","DefaultServer":true}`},
		{"RegisterTargets", `{"LoadBalancerId":"$lb","ListenerId":"$tcp","Targets":[{"InstanceId":"ins-a","Port":8080}]}`},
		{"ModifyTargetWeight", `{"LoadBalancerId":"$lb","ListenerId":"$tcp","Targets":[{"InstanceId":"ins-a","Port":8080}],"Weight":5}`},
		{"ModifyTargetPort", `{"LoadBalancerId":"$lb","ListenerId":"$tcp","Targets":[{"InstanceId":"ins-a","Port":8080}],"NewPort":8081}`},
		{"DeregisterTargets", `{"LoadBalancerId":"$lb","ListenerId":"$tcp","Targets":[{"InstanceId":"ins-a","Port":8081}]}`},
		{"DeleteRule", `{"LoadBalancerId":"$lb","ListenerId":"$http","LocationIds":["$rule"]}`},
		{"DeleteListener", `{"LoadBalancerId":"$lb","ListenerId":"$tcp"}`},
		{"DeleteLoadBalancerListeners", `{"LoadBalancerId":"$lb"}`},
		{"DeleteLoadBalancer", `{"LoadBalancerIds":["$lb"]}`},
	} {
		s.must(call.action, s.q(call.params), &answer)
		s.must("DescribeTaskStatus", `{"TaskId":"`+answer.RequestId+`"}`, &task)
	}
	s.refused("DescribeTaskStatus", `{"TaskId":"nothing"}`, "InvalidParameterValue", "no task")
	s.refused("DescribeTaskStatus", `{}`, "MissingParameter", "TaskId")
	s.refused("DescribeTaskStatus", `{"DealName":"d"}`, "UnsupportedOperation", "DealName")
}

func TestCreateLoadBalancer(t *testing.T) {
	b := newBench(t)
	var made struct{ LoadBalancerIds []string }
	const create = `{"LoadBalancerType":"OPEN","LoadBalancerName":"a","Number":2,"Forward":1,"AddressIPVersion":"IPV4","ClientToken":"once",
		"ProjectId":7,"InternetAccessible":{"InternetMaxBandwidthOut":5},"Tags":[{"TagKey":"k","TagValue":"v"}],"LoadBalancerPassToTarget":true}`
	b.must("CreateLoadBalancer", create, &made)
	if len(made.LoadBalancerIds) != 2 || !regexp.MustCompile(`^lb-[a-z0-9]{8}$`).MatchString(made.LoadBalancerIds[0]) {
		t.Fatalf("made %v", made.LoadBalancerIds)
	}
	first := made.LoadBalancerIds
	b.must("CreateLoadBalancer", create, &made)
	if !slices.Equal(first, made.LoadBalancerIds) {
		t.Errorf("the same client token made %v, then %v", first, made.LoadBalancerIds)
	}
	var got struct {
		TotalCount      int
		LoadBalancerSet []loadBalancerOut
	}
	b.must("DescribeLoadBalancers", `{"OrderType":0}`, &got)
	x, y := got.LoadBalancerSet[0], got.LoadBalancerSet[1]
	if got.TotalCount != 2 || x.LoadBalancerName != "a" || y.LoadBalancerName != y.LoadBalancerId || x.LoadBalancerVips[0] != "192.0.2.1" || y.LoadBalancerVips[0] != "192.0.2.2" {
		t.Errorf("got %+v", got)
	}
	if x.ProjectId != 7 || string(x.NetworkAttributes) != `{"InternetChargeType":null,"InternetMaxBandwidthOut":5,"BandwidthpkgSubType":null}` ||
		x.Tags[0] != (clbTagOut{"k", "v"}) || !x.LoadBalancerPassToTarget || x.TargetRegionInfo.Region != "local" || x.TargetRegionInfo.VpcId == "" ||
		x.SecureGroups == nil || x.Status != 1 || x.Forward != 1 {
		t.Errorf("got %+v", x)
	}
	b.must("CreateLoadBalancer", `{"LoadBalancerType":"OPEN","Vip":"192.0.2.9"}`, nil)
	for _, tc := range []struct{ params, code, text string }{
		{`{}`, "MissingParameter", "LoadBalancerType"},
		{`{"LoadBalancerType":""}`, "MissingParameter", "LoadBalancerType"},
		{`{"LoadBalancerType":"ANYCAST"}`, "UnsupportedOperation", `"ANYCAST"`},
		{`{"LoadBalancerType":"OPEN","SubnetId":"subnet-1"}`, "InvalidParameterValue", "SubnetId"},
		{`{"LoadBalancerType":"OPEN","Forward":2}`, "UnsupportedOperation", "Forward"},
		{`{"LoadBalancerType":"OPEN","AddressIPVersion":"IPV6"}`, "UnsupportedOperation", "AddressIPVersion"}, // NAT64
		{`{"LoadBalancerType":"OPEN","SnatPro":true}`, "UnsupportedOperation", "SnatPro"},
		{`{"LoadBalancerType":"OPEN","Number":0}`, "InvalidParameterValue.Range", "Number"},
		{`{"LoadBalancerType":"OPEN","Number":21}`, "InvalidParameterValue.Range", "Number"},
		{`{"LoadBalancerType":"OPEN","Number":2,"Vip":"192.0.2.10"}`, "InvalidParameter", "Vip"},
		{`{"LoadBalancerType":"OPEN","Vip":"192.0.2.9"}`, "InvalidParameterValue", "in use"},
		{`{"LoadBalancerType":"OPEN","Vip":"192.0.2.0"}`, "InvalidParameterValue", "not in the VIP pool"},
		{`{"LoadBalancerType":"OPEN","Vip":"203.0.113.1"}`, "InvalidParameterValue", "not in the VIP pool"},
		{`{"LoadBalancerType":"OPEN","Vip":"here"}`, "InvalidParameter.FormatError", "Vip"},
		{`{"LoadBalancerType":"OPEN","VpcId":"vpc-none"}`, "InvalidParameterValue", "vpc-none"},
		{`{"LoadBalancerType":"OPEN","LoadBalancerName":"a b"}`, "InvalidParameterValue", "LoadBalancerName"},
		{`{"LoadBalancerType":"OPEN","LoadBalancerName":"` + strings.Repeat("n", 81) + `"}`, "InvalidParameterValue.Length", "LoadBalancerName"},
		{`{"LoadBalancerType":"OPEN","MasterZoneId":"moon"}`, "InvalidParameterValue", "local-1"},
		{`{"LoadBalancerType":"OPEN","ClientToken":"` + strings.Repeat("t", 65) + `"}`, "InvalidParameter.ClientTokenLimitExceeded", "64"},
		{`{"LoadBalancerType":"OPEN","Tags":[{"TagKey":"k"},{"TagKey":"k"}]}`, "InvalidParameterValue", "Tags"},
		{`{"LoadBalancerType":"OPEN","Tags":[{"Key":"k"}]}`, "UnknownParameter", "Tags.0.Key"},
	} {
		b.refused("CreateLoadBalancer", tc.params, tc.code, tc.text)
	}
	small := newBench(t, func(o *Options) {
		o.VIPPool = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/30")}
		o.Quotas = lb.DefaultQuotas()
		o.Quotas.BalancersPerType = 3
	})
	small.must("CreateLoadBalancer", `{"LoadBalancerType":"OPEN","Number":2}`, nil)
	small.refused("CreateLoadBalancer", `{"LoadBalancerType":"OPEN"}`, "ResourceInsufficient", "VIP pool")
	small.refused("CreateLoadBalancer", `{"LoadBalancerType":"OPEN","Number":2}`, "ResourceInsufficient", "VIP pool")
	small.Quotas.BalancersPerType = 2
	small.refused("CreateLoadBalancer", `{"LoadBalancerType":"OPEN"}`, "LimitExceeded", "2 public load balancers")
}

func TestDescribeLoadBalancers(t *testing.T) {
	s := newSite(t)
	s.must("CreateLoadBalancer", `{"LoadBalancerType":"OPEN","LoadBalancerName":"api","Tags":[{"TagKey":"team","TagValue":"red"}]}`, nil)
	s.must("SetLoadBalancerSecurityGroups", s.q(`{"LoadBalancerId":"$lb","SecurityGroups":["sg-edge"]}`), nil)
	s.must("RegisterTargets", s.q(`{"LoadBalancerId":"$lb","ListenerId":"$tcp","Targets":[{"InstanceId":"ins-a","Port":8080}]}`), nil)
	for _, tc := range []struct {
		params string
		want   []string
	}{
		{`{}`, []string{"api", "web"}},
		{`{"OrderType":0}`, []string{"web", "api"}},
		{`{"OrderBy":"LoadBalancerName"}`, []string{"web", "api"}},
		{`{"Limit":1,"Offset":1}`, []string{"web"}},
		{`{"LoadBalancerIds":["$lb","lb-gone"]}`, []string{"web"}},
		{`{"LoadBalancerIds":["lb-gone"]}`, nil},
		{`{"LoadBalancerName":"e"}`, []string{"web"}},
		{`{"LoadBalancerType":"INTERNAL"}`, nil},
		{`{"LoadBalancerVips":["192.0.2.2"]}`, []string{"api"}},
		{`{"SearchKey":"192.0.2.1"}`, []string{"web"}},
		{`{"SecurityGroup":"sg-edge"}`, []string{"web"}},
		{`{"VpcId":"vpc-2"}`, nil},
		{`{"ProjectId":0}`, []string{"api", "web"}},
		{`{"WithRs":1}`, []string{"web"}},
		{`{"WithRs":0}`, []string{"api"}},
		{`{"BackendPrivateIps":["10.200.0.2"]}`, []string{"web"}},
		{`{"BackendPublicIps":["192.0.2.70"]}`, nil},
		{`{"Filters":[{"Name":"tag:team","Values":["red","blue"]}]}`, []string{"api"}},
		{`{"Filters":[{"Name":"tag-key","Values":["team"]},{"Name":"master-zone-id","Values":["local-1"]}]}`, []string{"api"}},
	} {
		var got struct{ LoadBalancerSet []loadBalancerOut }
		s.must("DescribeLoadBalancers", s.q(tc.params), &got)
		var names []string
		for _, b := range got.LoadBalancerSet {
			names = append(names, b.LoadBalancerName)
		}
		if !slices.Equal(names, tc.want) {
			t.Errorf("%s: %v, want %v", tc.params, names, tc.want)
		}
	}
	s.refused("DescribeLoadBalancers", `{"Filters":[{"Name":"colour","Values":["red"]}]}`, "InvalidParameterValue.InvalidFilter", "colour")
	s.refused("DescribeLoadBalancers", `{"OrderBy":"Colour"}`, "InvalidParameterValue", "OrderBy")
	s.refused("DescribeLoadBalancers", `{"Limit":101}`, "InvalidParameterValue.Range", "Limit")
	s.refused("DescribeLoadBalancers", `{"LoadBalancerIds":[`+strings.Repeat(`"x",`, 20)+`"x"]}`, "InvalidParameterValue.Length", "21 items")
}

func TestBindGroups(t *testing.T) {
	s := newSite(t)
	s.seed(func(tx *store.Tx) {
		for i := range 6 {
			tx.PutGroup(&lb.SecurityGroup{ID: lb.GroupID(fmt.Sprintf("sg-%d", i))})
		}
	})
	bound := func(want ...lb.GroupID) {
		t.Helper()
		if got := s.Store.State().Balancers.Get(lb.BalancerID(s.lb)).Groups; !slices.Equal(got, want) {
			t.Errorf("bound %v, want %v", got, want)
		}
	}
	s.must("SetLoadBalancerSecurityGroups", s.q(`{"LoadBalancerId":"$lb","SecurityGroups":["sg-1","sg-0"]}`), nil)
	bound("sg-1", "sg-0")
	s.must("SetSecurityGroupForLoadbalancers", s.q(`{"SecurityGroup":"sg-2","OperationType":"ADD","LoadBalancerIds":["$lb"]}`), nil)
	s.must("SetSecurityGroupForLoadbalancers", s.q(`{"SecurityGroup":"sg-1","OperationType":"ADD","LoadBalancerIds":["$lb"]}`), nil)
	bound("sg-1", "sg-0", "sg-2")
	s.must("SetSecurityGroupForLoadbalancers", s.q(`{"SecurityGroup":"sg-0","OperationType":"DEL","LoadBalancerIds":["$lb"]}`), nil)
	s.must("SetSecurityGroupForLoadbalancers", s.q(`{"SecurityGroup":"sg-0","OperationType":"DEL","LoadBalancerIds":["$lb"]}`), nil)
	bound("sg-1", "sg-2")
	for _, tc := range []struct{ action, params, code, text string }{
		{"SetLoadBalancerSecurityGroups", `{"LoadBalancerId":"lb-none","SecurityGroups":[]}`, "InvalidParameter.LBIdNotFound", "lb-none"},
		{"SetLoadBalancerSecurityGroups", `{"LoadBalancerId":"$lb","SecurityGroups":["sg-none"]}`, "InvalidParameterValue", "sg-none"},
		{"SetLoadBalancerSecurityGroups", `{"LoadBalancerId":"$lb","SecurityGroups":["sg-1","sg-1"]}`, "InvalidParameterValue.Duplicate", "sg-1"},
		{"SetLoadBalancerSecurityGroups", `{"LoadBalancerId":"$lb","SecurityGroups":["sg-0","sg-1","sg-2","sg-3","sg-4","sg-5"]}`, "LimitExceeded", "5 groups"},
		{"SetSecurityGroupForLoadbalancers", `{"SecurityGroup":"sg-none","OperationType":"ADD","LoadBalancerIds":["$lb"]}`, "InvalidParameterValue", "sg-none"},
		{"SetSecurityGroupForLoadbalancers", `{"SecurityGroup":"sg-none","OperationType":"DEL","LoadBalancerIds":["$lb"]}`, "InvalidParameterValue", "sg-none"},
		{"SetSecurityGroupForLoadbalancers", `{"SecurityGroup":"sg-0","OperationType":"SWAP","LoadBalancerIds":["$lb"]}`, "InvalidParameterValue", "SWAP"},
		{"SetSecurityGroupForLoadbalancers", `{"SecurityGroup":"sg-0","OperationType":"ADD","LoadBalancerIds":[]}`, "InvalidParameterValue.Length", "0 items"},
		{"SetSecurityGroupForLoadbalancers", `{"SecurityGroup":"sg-0","OperationType":"ADD","LoadBalancerIds":["$lb","lb-none"]}`, "InvalidParameter.LBIdNotFound", "lb-none"},
	} {
		s.refused(tc.action, s.q(tc.params), tc.code, tc.text)
	}
	bound("sg-1", "sg-2")
	s.must("SetLoadBalancerSecurityGroups", s.q(`{"LoadBalancerId":"$lb"}`), nil)
	bound()
}

func TestModifyAndDeleteLoadBalancer(t *testing.T) {
	s := newSite(t)
	balancer := func() *lb.LoadBalancer { return s.Store.State().Balancers.Get(lb.BalancerID(s.lb)) }
	s.must("ModifyLoadBalancerAttributes", s.q(`{"LoadBalancerId":"$lb","LoadBalancerName":"new","LoadBalancerPassToTarget":true,"DeleteProtect":true,"InternetChargeInfo":{"InternetMaxBandwidthOut":9}}`), nil)
	if b := balancer(); b.Name != "new" || !b.PassToTarget || !b.Protected || !strings.Contains(b.Echo["InternetAccessible"], "9") {
		t.Errorf("got %+v", b)
	}
	s.must("ModifyLoadBalancerAttributes", s.q(`{"LoadBalancerId":"$lb","LoadBalancerName":"web"}`), nil)
	if b := balancer(); b.Name != "web" || !b.PassToTarget {
		t.Errorf("absent fields changed: %+v", b)
	}
	s.refused("DeleteLoadBalancer", s.q(`{"LoadBalancerIds":["$lb"]}`), "FailedOperation", "DeleteProtect")
	s.must("ModifyLoadBalancerAttributes", s.q(`{"LoadBalancerId":"$lb","DeleteProtect":false}`), nil)
	s.refused("ModifyLoadBalancerAttributes", s.q(`{"LoadBalancerId":"$lb","LoadBalancerName":""}`), "InvalidParameterValue", "LoadBalancerName")
	s.refused("ModifyLoadBalancerAttributes", s.q(`{"LoadBalancerId":"$lb","SnatPro":true}`), "UnsupportedOperation", "SnatPro")
	s.refused("ModifyLoadBalancerAttributes", `{"LoadBalancerId":"lb-none"}`, "InvalidParameter.LBIdNotFound", "lb-none")
	var targets []string
	for port := range 20 {
		targets = append(targets, fmt.Sprintf(`{"InstanceId":"ins-a","Port":%d}`, 8000+port))
	}
	s.must("RegisterTargets", s.q(`{"LoadBalancerId":"$lb","ListenerId":"$tcp","Targets":[`+strings.Join(targets, ",")+`]}`), nil)
	s.refused("DeleteLoadBalancer", s.q(`{"LoadBalancerIds":["$lb"]}`), "FailedOperation.TargetNumCheckRisk", "20 targets")
	s.refused("DeleteLoadBalancer", `{"LoadBalancerIds":[]}`, "InvalidParameterValue.Length", "0 items")
	s.refused("DeleteLoadBalancer", `{"LoadBalancerIds":["lb-none"]}`, "InvalidParameter.LBIdNotFound", "lb-none")
	s.must("DeleteLoadBalancer", s.q(`{"LoadBalancerIds":["$lb"],"ForceDelete":true}`), nil)
	if st := s.Store.State(); st.Balancers.Len() != 0 || st.Listeners.Len() != 0 {
		t.Errorf("left: %v %v", st.Balancers, st.Listeners)
	}
}

func TestListeners(t *testing.T) {
	s := newSite(t)
	var made struct{ ListenerIds []string }
	s.must("CreateListener", s.q(`{"LoadBalancerId":"$lb","Ports":[90,91],"ListenerNames":["x","y"],"Protocol":"TCP","Scheduler":"WRR","TargetType":"NODE","SniSwitch":0,
		"HealthCheck":{"HealthSwitch":1,"TimeOut":2,"IntervalTime":2,"HealthNum":2,"UnHealthNum":2,"CheckPort":-1,"HttpCheckDomain":""}}`), &made)
	if len(made.ListenerIds) != 2 {
		t.Fatalf("made %v", made.ListenerIds)
	}
	var got struct {
		Listeners  []listenerOut
		TotalCount int
	}
	s.must("DescribeListeners", s.q(`{"LoadBalancerId":"$lb","ListenerIds":["`+made.ListenerIds[1]+`"]}`), &got)
	l := got.Listeners[0]
	if l.Port != 91 || l.ListenerName != "y" || l.HealthCheck == nil || l.HealthCheck.IntervalTime != 2 || l.HealthCheck.CheckType != "TCP" || l.HealthCheck.CheckPort != nil || *l.Scheduler != "WRR" {
		t.Errorf("got %+v, check %+v", l, l.HealthCheck)
	}
	for params, want := range map[string]int{
		`{"LoadBalancerId":"$lb"}`: 4, `{"LoadBalancerId":"$lb","Protocol":"HTTP"}`: 1, `{"LoadBalancerId":"$lb","Port":81}`: 1,
		`{"LoadBalancerId":"$lb","ListenerIds":["lbl-none"]}`: 0,
	} {
		if s.must("DescribeListeners", s.q(params), &got); got.TotalCount != want || len(got.Listeners) != want {
			t.Errorf("%s: %d listeners, want %d", params, got.TotalCount, want)
		}
	}
	s.must("ModifyListener", s.q(`{"LoadBalancerId":"$lb","ListenerId":"$tcp","HealthCheck":{"CheckType":"HTTP","HttpCheckDomain":"a.example.com","HttpVersion":"HTTP/1.0"}}`), nil)
	check := s.Store.State().Listeners.Get(lb.ListenerID(s.tcp)).Check
	if want := (lb.HealthCheck{On: true, Type: "HTTP", TimeOut: 2, IntervalTime: 5, HealthNum: 3, UnHealthNum: 3, HTTPCode: 31, HTTPPath: "/",
		HTTPDomain: "a.example.com", HTTPMethod: "HEAD", HTTPVersion: "HTTP/1.0"}); check != want {
		t.Errorf("check %+v, want %+v", check, want)
	}
	s.must("ModifyListener", s.q(`{"LoadBalancerId":"$lb","ListenerId":"$tcp","HealthCheck":{"CheckType":"TCP","HealthSwitch":0}}`), nil)
	if check := s.Store.State().Listeners.Get(lb.ListenerID(s.tcp)).Check; check.On || check.HTTPPath != "" {
		t.Errorf("check %+v", check)
	}
	for _, tc := range []struct{ action, params, code, text string }{
		{"CreateListener", `{"LoadBalancerId":"$lb","Ports":[80],"Protocol":"TCP"}`, "InvalidParameter.PortCheckFailed", "HTTP"},
		{"CreateListener", `{"LoadBalancerId":"$lb","Ports":[95,95],"Protocol":"TCP"}`, "InvalidParameter.PortCheckFailed", "Ports.1: 95 is in Ports.0 too"},
		{"CreateRule", `{"LoadBalancerId":"$lb","ListenerId":"$http","Rules":[{"Domain":"twice.example.com","Url":"/"},{"Domain":"twice.example.com","Url":"/"}]}`, "InvalidParameterValue.Duplicate", "Rules.1.Url: Rules.0 is twice.example.com/ too"},
		{"CreateListener", `{"LoadBalancerId":"$lb","Ports":[0],"Protocol":"TCP"}`, "InvalidParameterValue.Range", "Ports"},
		{"CreateListener", `{"LoadBalancerId":"$lb","Ports":[65536],"Protocol":"TCP"}`, "InvalidParameterValue.Range", "65536"},
		{"CreateListener", `{"LoadBalancerId":"$lb","Ports":[],"Protocol":"TCP"}`, "MissingParameter", "Ports"},
		{"CreateListener", `{"LoadBalancerId":"$lb","Ports":[95],"Protocol":"TCP_SSL"}`, "UnsupportedOperation", "TCP_SSL"},
		{"CreateListener", `{"LoadBalancerId":"$lb","Ports":[95],"Protocol":"QUIC"}`, "UnsupportedOperation", "QUIC"},
		{"CreateListener", `{"LoadBalancerId":"$lb","Ports":[95],"Protocol":"SMTP"}`, "InvalidParameterValue", "SMTP"},
		{"CreateListener", `{"LoadBalancerId":"$lb","Ports":[95],"Protocol":"TCP","ListenerNames":["a","b"]}`, "InvalidParameterValue", "2 names for 1 port"},
		{"CreateListener", `{"LoadBalancerId":"$lb","Ports":[95],"Protocol":"TCP","Scheduler":"FASTEST"}`, "InvalidParameterValue", "FASTEST"},
		{"CreateListener", `{"LoadBalancerId":"$lb","Ports":[95],"Protocol":"TCP","SessionExpireTime":29}`, "InvalidParameterValue.Range", "SessionExpireTime: 29 is neither 0 nor within 30-3600"},
		{"CreateListener", `{"LoadBalancerId":"$lb","Ports":[95],"Protocol":"HTTP","HealthCheck":{"HealthSwitch":1}}`, "InvalidParameterValue", "CreateRule"},
		{"CreateListener", `{"LoadBalancerId":"$lb","Ports":[95],"Protocol":"TCP","HealthCheck":{"IntervalTime":1}}`, "InvalidParameterValue.Range", "HealthCheck.IntervalTime"},
		{"CreateListener", `{"LoadBalancerId":"$lb","Ports":[95],"Protocol":"TCP","HealthCheck":{"CheckType":"PING"}}`, "UnsupportedOperation", "TCP cannot be checked by PING"},
		{"CreateListener", `{"LoadBalancerId":"$lb","Ports":[95],"Protocol":"TCP","HealthCheck":{"HealthSwitch":2}}`, "InvalidParameterValue.Range", "HealthSwitch"},
		{"CreateListener", `{"LoadBalancerId":"$lb","Ports":[95],"Protocol":"TCP","HealthCheck":{"CheckPort":70000}}`, "InvalidParameterValue.Range", "CheckPort"},
		{"CreateListener", `{"LoadBalancerId":"lb-none","Ports":[95],"Protocol":"TCP"}`, "InvalidParameter.LBIdNotFound", "lb-none"},
		{"DescribeListeners", `{"LoadBalancerId":"lb-none"}`, "InvalidParameter.LBIdNotFound", "lb-none"},
		{"ModifyListener", `{"LoadBalancerId":"$lb","ListenerId":"lbl-none"}`, "InvalidParameter.ListenerIdNotFound", "lbl-none"},
		{"ModifyListener", `{"LoadBalancerId":"$lb","ListenerId":"$http","HealthCheck":{"HealthSwitch":0}}`, "InvalidParameterValue", "rules"},
		{"ModifyListener", `{"LoadBalancerId":"$lb","ListenerId":"$tcp","ListenerName":"` + strings.Repeat("n", 81) + `"}`, "InvalidParameterValue.Length", "ListenerName"},
		{"DeleteListener", `{"LoadBalancerId":"$lb","ListenerId":"lbl-none"}`, "InvalidParameter.ListenerIdNotFound", "lbl-none"},
		{"DeleteLoadBalancerListeners", `{"LoadBalancerId":"$lb","ListenerIds":["$tcp","lbl-none"]}`, "InvalidParameter.ListenerIdNotFound", "lbl-none"},
	} {
		s.refused(tc.action, s.q(tc.params), tc.code, tc.text)
	}
	s.Quotas.ListenersPerLB = 4
	s.refused("CreateListener", s.q(`{"LoadBalancerId":"$lb","Ports":[95],"Protocol":"TCP"}`), "LimitExceeded", "4 listeners")
	s.must("DeleteLoadBalancerListeners", s.q(`{"LoadBalancerId":"$lb","ListenerIds":["$tcp"]}`), nil)
	s.must("DeleteListener", s.q(`{"LoadBalancerId":"$lb","ListenerId":"$http"}`), nil)
	if n := s.Store.State().Listeners.Len(); n != 2 {
		t.Errorf("%d listeners left", n)
	}
}

// A listener with rules has exactly one default domain, whatever happens.
func TestRules(t *testing.T) {
	s := newSite(t)
	listener := func() *lb.Listener { return s.Store.State().Listeners.Get(lb.ListenerID(s.http)) }
	expect := func(want ...string) {
		t.Helper()
		var got []string
		for _, r := range listener().Rules {
			text := r.Domain + r.URL
			if r.Default {
				text += " default"
			}
			got = append(got, text)
		}
		if !slices.Equal(got, want) {
			t.Errorf("rules %q, want %q", got, want)
		}
	}
	at := `{"LoadBalancerId":"$lb","ListenerId":"$http",`
	s.must("CreateRule", s.q(at+`"Rules":[{"Domain":"*.example.com","Url":"/","Scheduler":"WRR","TargetType":"NODE"},{"Domain":"www.example.com","Url":"/api/"},
		{"Domain":"b.example.com","Url":"/","HealthCheck":{"HealthSwitch":1,"TimeOut":2,"IntervalTime":2,"HttpCheckPath":"/healthy","HttpCode":2,"HttpCheckMethod":"GET"}}]}`), nil)
	expect("www.example.com/ default", "*.example.com/", "www.example.com/api/ default", "b.example.com/")
	if c := listener().Rules[3].Check; c.HTTPPath != "/healthy" || c.HTTPCode != 2 || c.HTTPMethod != "GET" || c.HealthNum != 3 {
		t.Errorf("check %+v", c)
	}
	var got struct{ Listeners []listenerOut }
	s.must("DescribeListeners", s.q(`{"LoadBalancerId":"$lb","ListenerIds":["$http"]}`), &got)
	if l := got.Listeners[0]; l.HealthCheck != nil || len(l.Rules) != 4 || l.Rules[0].HealthCheck.HttpCheckMethod != "HEAD" || l.Rules[0].LocationId != s.rule || !l.Rules[0].DefaultServer {
		t.Errorf("got %+v", l)
	}
	s.must("ModifyDomainAttributes", s.q(at+`"Domain":"b.example.com","DefaultServer":true}`), nil)
	expect("www.example.com/", "*.example.com/", "www.example.com/api/", "b.example.com/ default")
	s.must("ModifyDomainAttributes", s.q(at+`"Domain":"b.example.com","NewDomain":"c.example.com"}`), nil)
	expect("www.example.com/", "*.example.com/", "www.example.com/api/", "c.example.com/ default")
	s.must("ModifyDomainAttributes", s.q(at+`"Domain":"c.example.com","DefaultServer":false,"NewDefaultServerDomain":"*.example.com"}`), nil)
	expect("www.example.com/", "*.example.com/ default", "www.example.com/api/", "c.example.com/")
	s.must("ModifyRule", s.q(at+`"LocationId":"$rule","Url":"/web/","HealthCheck":{"HealthSwitch":0}}`), nil)
	expect("www.example.com/web/", "*.example.com/ default", "www.example.com/api/", "c.example.com/")
	for _, tc := range []struct{ action, params, code, text string }{
		{"CreateRule", at + `"Rules":[]}`, "MissingParameter", "Rules"},
		{"CreateRule", at + `"Rules":[{"Url":"/"}]}`, "MissingParameter", "Rules.0.Domain"},
		{"CreateRule", at + `"Rules":[{"Domain":"","Url":"/"}]}`, "MissingParameter", "Rules.0.Domain"},
		{"CreateRule", at + `"Rules":[{"Domain":"A.example.com","Url":"/"}]}`, "InvalidParameterValue", "Rules.0.Domain"},
		{"CreateRule", at + `"Rules":[{"Domain":"~^www","Url":"/"}]}`, "UnsupportedOperation", "regular expressions"},
		{"CreateRule", at + `"Rules":[{"Domain":"d.example.com","Url":"= /"}]}`, "UnsupportedOperation", "="},
		{"CreateRule", at + `"Rules":[{"Domain":"d.example.com","Url":"x"}]}`, "InvalidParameterValue", "did you mean"},
		{"CreateRule", at + `"Rules":[{"Domain":"d.example.com","Url":"/"},{"Domain":"d.example.com","Url":"/"}]}`, "InvalidParameterValue.Duplicate", "Rules.1.Url"},
		{"CreateRule", at + `"Rules":[{"Domain":"d.example.com","Url":"/","Http2":true}]}`, "UnsupportedOperation", "Rules.0.Http2"},
		{"CreateRule", at + `"Rules":[{"Domain":"d.example.com","Url":"/","ForwardType":"GRPC"}]}`, "UnsupportedOperation", "GRPC"},
		{"CreateRule", `{"LoadBalancerId":"$lb","ListenerId":"$tcp","Rules":[{"Domain":"d.example.com","Url":"/"}]}`, "InvalidParameter.ProtocolCheckFailed", "TCP"},
		{"ModifyRule", at + `"LocationId":"loc-none"}`, "InvalidParameter.LocationNotFound", "loc-none"},
		{"ModifyRule", at + `"LocationId":"$rule","Url":"/api/"}`, "InvalidParameterValue.Duplicate", "/api/"},
		{"ModifyRule", at + `"LocationId":"$rule","HealthCheck":{"CheckType":"TCP"}}`, "UnsupportedOperation", "CheckType"},
		{"ModifyDomain", at + `"Domain":"none.example.com","NewDomain":"x.example.com"}`, "InvalidParameterValue", "none.example.com"},
		{"ModifyDomain", at + `"Domain":"c.example.com","NewDomain":"*.example.com"}`, "InvalidParameterValue.Duplicate", "NewDomain"},
		{"ModifyDomainAttributes", at + `"Domain":"*.example.com","DefaultServer":false}`, "MissingParameter", "NewDefaultServerDomain"},
		{"ModifyDomainAttributes", at + `"Domain":"c.example.com","NewDefaultServerDomain":"none.example.com"}`, "InvalidParameterValue", "none.example.com"},
		{"ModifyDomainAttributes", at + `"Domain":"c.example.com","DefaultServer":true,"NewDefaultServerDomain":"*.example.com"}`, "InvalidParameter", "NewDefaultServerDomain"},
		{"DeleteRule", `{"LoadBalancerId":"$lb","ListenerId":"$http"}`, "MissingParameter", "LocationIds"},
		{"DeleteRule", at + `"LocationIds":["$rule"],"Domain":"c.example.com"}`, "InvalidParameter", "Domain"},
		{"DeleteRule", at + `"LocationIds":["$rule","loc-none"]}`, "InvalidParameter.LocationNotFound", "loc-none"},
		{"DeleteRule", at + `"Domain":"none.example.com"}`, "InvalidParameter.LocationNotFound", "none.example.com"},
		{"DeleteRule", at + `"Domain":"c.example.com","NewDefaultServerDomain":"c.example.com"}`, "InvalidParameterValue", "c.example.com"},
	} {
		s.refused(tc.action, s.q(tc.params), tc.code, tc.text)
	}
	s.must("DeleteRule", s.q(at+`"Domain":"*.example.com","NewDefaultServerDomain":"c.example.com"}`), nil)
	expect("www.example.com/web/", "www.example.com/api/", "c.example.com/ default")
	s.must("DeleteRule", s.q(at+`"Domain":"c.example.com"}`), nil)
	expect("www.example.com/web/ default", "www.example.com/api/ default")
	s.must("DeleteRule", s.q(at+`"Domain":"www.example.com","Url":"/api/"}`), nil)
	s.must("DeleteRule", s.q(at+`"LocationIds":["$rule"]}`), nil)
	expect()
	s.must("CreateRule", s.q(at+`"Rules":[{"Domain":"z.example.com","Url":"/"}]}`), nil)
	expect("z.example.com/ default")
	s.Quotas.RulesPerListener = 1
	s.refused("CreateRule", s.q(at+`"Rules":[{"Domain":"y.example.com","Url":"/"}]}`), "LimitExceeded", "1 rule")
}

func TestTargets(t *testing.T) {
	s := newSite(t)
	rule := `{"LoadBalancerId":"$lb","ListenerId":"$http","LocationId":"$rule",`
	tcp := `{"LoadBalancerId":"$lb","ListenerId":"$tcp",`
	targets := func() []lb.Target { return s.Store.State().Listeners.Get(lb.ListenerID(s.http)).Rules[0].Targets }
	s.must("RegisterTargets", s.q(rule+`"Targets":[{"InstanceId":"ins-a","Port":8080},{"InstanceId":"ins-a","Port":8081,"Weight":0,"Type":"CVM"}]}`), nil)
	s.must("RegisterTargets", s.q(`{"LoadBalancerId":"$lb","ListenerId":"$http","Domain":"www.example.com","Url":"/","Targets":[{"InstanceId":"ins-b","Port":8080,"Weight":100}]}`), nil)
	s.must("RegisterTargets", s.q(tcp+`"Targets":[{"InstanceId":"ins-a","Port":8080}]}`), nil)
	if got := targets(); len(got) != 3 || got[0].Weight != 10 || got[1].Weight != 0 || got[2].Weight != 100 || got[0].Num == got[1].Num {
		t.Errorf("targets %+v", got)
	}
	var got struct{ Listeners []listenerBackend }
	s.must("DescribeTargets", s.q(`{"LoadBalancerId":"$lb","ListenerIds":["$http"],"Protocol":"HTTP","Port":80}`), &got)
	if x := got.Listeners[0].Rules[0]; x.LocationId != s.rule || len(x.Targets) != 3 || x.Targets[0].Type != "CVM" || x.Targets[0].PrivateIpAddresses[0] != "10.200.0.2" || x.Targets[2].InstanceName != "web-b" {
		t.Errorf("got %+v", x)
	}
	s.must("ModifyTargetWeight", s.q(rule+`"Targets":[{"InstanceId":"ins-a","Port":8080,"Weight":7},{"InstanceId":"ins-b","Port":8080}],"Weight":3}`), nil)
	if got := targets(); got[0].Weight != 7 || got[1].Weight != 0 || got[2].Weight != 3 {
		t.Errorf("targets %+v", got)
	}
	num := targets()[2].Num
	s.must("ModifyTargetPort", s.q(rule+`"Targets":[{"InstanceId":"ins-b","Port":8080}],"NewPort":8090}`), nil)
	if got := targets()[2]; got.Port != 8090 || got.Num == num || got.Weight != 3 {
		t.Errorf("moved %+v", got)
	}
	for _, tc := range []struct{ action, params, code, text string }{
		{"RegisterTargets", rule + `"Targets":[]}`, "MissingParameter", "Targets"},
		{"RegisterTargets", rule + `"Targets":[{"Port":8080}]}`, "MissingParameter", "Targets.0.InstanceId"},
		{"RegisterTargets", rule + `"Targets":[{"InstanceId":"ins-a"}]}`, "MissingParameter", "Targets.0.Port"},
		{"RegisterTargets", rule + `"Targets":[{"InstanceId":"ins-a","Port":0}]}`, "InvalidParameterValue.Range", "Targets.0.Port"},
		{"RegisterTargets", rule + `"Targets":[{"InstanceId":"ins-a","Port":1,"Weight":101}]}`, "InvalidParameterValue.Range", "Targets.0.Weight"},
		{"RegisterTargets", rule + `"Targets":[{"InstanceId":"ins-a","Port":1},{"InstanceId":"ins-a","Port":1}]}`, "InvalidParameterValue.Duplicate", "named twice"},
		{"RegisterTargets", rule + `"Targets":[{"InstanceId":"ins-a","Port":8080}]}`, "InvalidParameterValue.Duplicate", "bound already"},
		{"RegisterTargets", rule + `"Targets":[{"InstanceId":"ins-none","Port":1}]}`, "InvalidParameterValue", "ins-none"},
		{"RegisterTargets", rule + `"Targets":[{"InstanceId":"ins-far","Port":1}]}`, "InvalidParameterValue", "one network"},
		{"RegisterTargets", rule + `"Targets":[{"InstanceId":"ins-a","Port":1,"Type":"NAT"}]}`, "UnsupportedOperation", "NAT"},
		{"RegisterTargets", `{"LoadBalancerId":"$lb","ListenerId":"$http","Targets":[{"InstanceId":"ins-a","Port":1}]}`, "MissingParameter", "LocationId"},
		{"RegisterTargets", `{"LoadBalancerId":"$lb","ListenerId":"$http","Domain":"x.example.com","Url":"/","Targets":[{"InstanceId":"ins-a","Port":1}]}`, "InvalidParameter.LocationNotFound", "x.example.com/"},
		{"RegisterTargets", `{"LoadBalancerId":"$lb","ListenerId":"$tcp","LocationId":"$rule","Targets":[{"InstanceId":"ins-a","Port":1}]}`, "InvalidParameter.LocationNotFound", "TCP"},
		{"DeregisterTargets", rule + `"Targets":[{"InstanceId":"ins-a","Port":9}]}`, "InvalidParameter", "not bound"},
		{"ModifyTargetWeight", rule + `"Targets":[{"InstanceId":"ins-a","Port":9}]}`, "InvalidParameter", "not bound"},
		{"ModifyTargetWeight", rule + `"Targets":[{"InstanceId":"ins-a","Port":8080}],"Weight":-1}`, "InvalidParameterValue.Range", "Weight"},
		{"ModifyTargetPort", rule + `"Targets":[{"InstanceId":"ins-a","Port":8080}],"NewPort":8081}`, "InvalidParameterValue.Duplicate", "8081"},
		{"ModifyTargetPort", rule + `"Targets":[{"InstanceId":"ins-a","Port":8080}],"NewPort":0}`, "InvalidParameterValue.Range", "NewPort"},
		{"DescribeTargets", `{"LoadBalancerId":"$lb","Filters":[{"Name":"a","Values":["b"]}]}`, "InvalidParameterValue.InvalidFilter", "a"},
	} {
		s.refused(tc.action, s.q(tc.params), tc.code, tc.text)
	}
	s.must("DeregisterTargets", s.q(rule+`"Targets":[{"InstanceId":"ins-a","Port":8080},{"InstanceId":"ins-b","Port":8090}]}`), nil)
	if got := targets(); len(got) != 1 || got[0].Port != 8081 {
		t.Errorf("targets %+v", got)
	}
	s.Quotas.TargetsPerListener = 1
	s.refused("RegisterTargets", s.q(rule+`"Targets":[{"InstanceId":"ins-b","Port":1}]}`), "LimitExceeded", "1 target")
}

// reported stands for what nodes would tell.
type reported struct {
	nodes    []control.NodeStatus
	health   map[uint32][]flow.Health
	counters []flow.Counter
	events   []flow.Event
}

func (r *reported) Nodes() []control.NodeStatus      { return r.nodes }
func (r *reported) Health() map[uint32][]flow.Health { return r.health }
func (r *reported) Counters() []flow.Counter         { return r.counters }
func (r *reported) Events(ctx context.Context, after uint64, max int) ([]flow.Event, uint64, uint64) {
	if after >= uint64(len(r.events)) {
		<-ctx.Done()
		return nil, uint64(len(r.events)), 0
	}
	last := min(after+uint64(max), uint64(len(r.events)))
	return r.events[after:last], last, 0
}

func TestTargetHealth(t *testing.T) {
	facts := &reported{}
	s := newSite(t, func(o *Options) { o.Facts = facts })
	s.must("RegisterTargets", s.q(`{"LoadBalancerId":"$lb","ListenerId":"$http","LocationId":"$rule","Targets":[{"InstanceId":"ins-a","Port":8080}]}`), nil)
	num := s.Store.State().Listeners.Get(lb.ListenerID(s.http)).Rules[0].Targets[0].Num
	allow := func(rules ...lb.PolicyRule) func() {
		return func() {
			s.seed(func(tx *store.Tx) { tx.PutGroup(&lb.SecurityGroup{ID: "sg-cvm", Ingress: rules}) })
		}
	}
	port := func(action lb.Action, cidr string) lb.PolicyRule {
		return lb.PolicyRule{ID: "pol-1", Action: action, Proto: lb.TCP, Ports: []lb.PortRange{{First: 8080, Last: 8080}}, Peer: netip.MustParsePrefix(cidr)}
	}
	dead := flow.Health{State: flow.HealthDead, Kind: "timeout", Text: "no answer within 2 s"}
	for _, tc := range []struct {
		name   string
		before func()
		told   []flow.Health
		word   string
		reason *healthReason // Text is a part of the whole
	}{
		{"nothing told", nil, nil, "Unknown", nil},
		{"alive", nil, []flow.Health{{State: flow.HealthAlive}}, "Alive", nil},
		{"not yet known at one gateway", nil, []flow.Health{{State: flow.HealthAlive}, {State: flow.HealthUnknown}}, "Unknown", nil},
		{"dead at one gateway", allow(port(lb.Accept, "0.0.0.0/0")), []flow.Health{{State: flow.HealthAlive}, dead}, "Dead", &healthReason{"timeout", "", -1, "no answer"}},
		{"refused", nil, []flow.Health{{State: flow.HealthDead, Kind: "refused", Text: "connection refused"}}, "Dead", &healthReason{"refused", "", -1, "connection refused"}},
		{"answer", nil, []flow.Health{{State: flow.HealthDead, Kind: "answer", Text: "status 500"}}, "Dead", &healthReason{"answer", "", -1, "500"}},
		{"no rule for the VIP", allow(port(lb.Accept, "203.0.113.0/24")), []flow.Health{dead}, "Dead", &healthReason{"gate", "", -1, "from 192.0.2.1 to port 8080: no rule accepts it; allow TCP:8080 from there"}},
		{"a rule drops the VIP", allow(port(lb.Accept, "203.0.113.0/24"), port(lb.Drop, "192.0.2.1/32")), []flow.Health{dead}, "Dead", &healthReason{"gate", "sg-cvm", 1, "rule 2 of sg-cvm"}},
		{"the VIP alone is allowed", allow(port(lb.Accept, "192.0.2.1/32")), []flow.Health{dead}, "Dead", &healthReason{"timeout", "", -1, "no answer"}},
		{"pass to target", func() {
			allow()()
			s.must("ModifyLoadBalancerAttributes", s.q(`{"LoadBalancerId":"$lb","LoadBalancerPassToTarget":true}`), nil)
		}, []flow.Health{dead}, "Dead", &healthReason{"timeout", "", -1, "no answer"}},
		{"check off", func() {
			s.must("ModifyRule", s.q(`{"LoadBalancerId":"$lb","ListenerId":"$http","LocationId":"$rule","HealthCheck":{"HealthSwitch":0}}`), nil)
		}, []flow.Health{dead}, "Close", nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if tc.before != nil {
				tc.before()
			}
			facts.health = map[uint32][]flow.Health{num: tc.told}
			var got struct{ LoadBalancers []balancerHealth }
			s.must("DescribeTargetHealth", s.q(`{"LoadBalancerIds":["$lb"],"ListenerIds":["$http"]}`), &got)
			rule := got.LoadBalancers[0].Listeners[0].Rules[0]
			x := rule.Targets[0]
			if x.HealthStatusDetail != tc.word || x.HealthStatusDetial != tc.word || x.HealthStatus != (tc.word == "Alive" || tc.word == "Close") ||
				x.IP != "10.200.0.2" || x.TargetId != "ins-a" || *rule.Domain != "www.example.com" {
				t.Errorf("got %+v, want %s", x, tc.word)
			}
			r := x.HealthReason
			if (r == nil) != (tc.reason == nil) || r != nil && (r.Kind != tc.reason.Kind || r.SecurityGroupId != tc.reason.SecurityGroupId ||
				r.PolicyIndex != tc.reason.PolicyIndex || !strings.Contains(r.Text, tc.reason.Text)) {
				t.Errorf("reason %+v, want %+v", r, tc.reason)
			}
		})
	}
	var got struct{ LoadBalancers []balancerHealth }
	s.must("DescribeTargetHealth", s.q(`{"LoadBalancerIds":["$lb"],"ListenerIds":["$tcp"]}`), &got)
	if r := got.LoadBalancers[0].Listeners[0].Rules; len(r) != 1 || r[0].Domain != nil || r[0].Url != nil {
		t.Errorf("layer 4: %+v", r)
	}
	s.refused("DescribeTargetHealth", `{"LoadBalancerIds":["lb-none"]}`, "InvalidParameter.LBIdNotFound", "lb-none")
	s.refused("DescribeTargetHealth", `{"LoadBalancerIds":[]}`, "InvalidParameterValue.Length", "0 items")
}

func TestStamp(t *testing.T) {
	at := time.Date(2026, 11, 23, 12, 0, 0, 0, time.FixedZone("UTC+8", 8*3600))
	if stamp(at) != "2026-11-23 04:00:00" || stamp(time.Time{}) != "" {
		t.Errorf("%q, %q", stamp(at), stamp(time.Time{}))
	}
}
