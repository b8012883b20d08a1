// SPDX-License-Identifier: Apache-2.0

package cloudapi

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/sallyport/sallyport/internal/lb"
	"github.com/sallyport/sallyport/internal/store"
)

// A groupSite is a site with a TCP listener and a rule made for v1 groups, the
// same for v2 groups, and a group of each type with ins-a as a member.
type groupSite struct {
	*site
	l4, rule1, l4v2, rule2, v1, v2 string
}

func newGroupSite(t *testing.T, change ...func(*Options)) *groupSite {
	t.Helper()
	s := &groupSite{site: newSite(t, change...)}
	listener := func(params string) string {
		var made struct{ ListenerIds []string }
		s.must("CreateListener", s.q(`{"LoadBalancerId":"$lb",`+params+`}`), &made)
		return made.ListenerIds[0]
	}
	rule := func(params string) string {
		var made struct{ LocationIds []string }
		s.must("CreateRule", s.q(`{"LoadBalancerId":"$lb","ListenerId":"$http","Rules":[{`+params+`}]}`), &made)
		return made.LocationIds[0]
	}
	group := func(params string) string {
		var made createTargetGroupOut
		s.must("CreateTargetGroup", `{`+params+`}`, &made)
		return made.TargetGroupId
	}
	s.l4 = listener(`"Ports":[90],"Protocol":"TCP","TargetType":"TARGETGROUP"`)
	s.l4v2 = listener(`"Ports":[91],"Protocol":"TCP","TargetType":"TARGETGROUP-V2"`)
	s.rule1 = rule(`"Domain":"one.example.com","Url":"/","TargetType":"TARGETGROUP"`)
	s.rule2 = rule(`"Domain":"two.example.com","Url":"/","TargetType":"TARGETGROUP-V2"`)
	s.v1 = group(`"TargetGroupName":"old","VpcId":"vpc-1","Port":8080,"TargetGroupInstances":[{"BindIP":"10.200.0.2"}],"Tags":[{"TagKey":"k","TagValue":"v"}]`)
	s.v2 = group(`"VpcId":"vpc-1","Type":"v2","Protocol":"HTTP","Weight":7,"TargetGroupInstances":[{"BindIP":"10.200.0.2","Port":8081}],"HealthCheck":{"HealthSwitch":true,"GapTime":9,"HttpCheckPath":"/up"}`)
	return s
}

func (s *groupSite) q(params string) string {
	return s.site.q(strings.NewReplacer("$l4v2", s.l4v2, "$l4", s.l4, "$rule1", s.rule1, "$rule2", s.rule2, "$v1", s.v1, "$v2", s.v2).Replace(params))
}

func (s *groupSite) associate(action, listener, location, group string) {
	s.Helper()
	s.must(action, s.q(fmt.Sprintf(`{"Associations":[{"LoadBalancerId":"$lb","ListenerId":"%s","LocationId":"%s","TargetGroupId":"%s"}]}`, listener, location, group)), nil)
}

// bound is what the data plane would get, at a listener and a rule.
func (s *groupSite) bound(listener, location string) (text string, nums map[string]uint32) {
	l := s.Store.State().Listeners.Get(lb.ListenerID(s.q(listener)))
	targets := l.Targets
	for _, r := range l.Rules {
		if string(r.ID) == s.q(location) {
			targets = r.Targets
		}
	}
	nums = map[string]uint32{}
	var all []string
	for _, t := range targets {
		key := fmt.Sprintf("%s:%d", t.Instance, t.Port)
		nums[key] = t.Num
		all = append(all, fmt.Sprintf("%s=%d", key, t.Weight))
	}
	return strings.Join(all, " "), nums
}

// What is associated has the group's members, with numbers of its own that
// stay as long as the member stays.
func TestTargetGroupFollows(t *testing.T) {
	s := newGroupSite(t)
	s.associate("AssociateTargetGroups", "$l4", "", "$v1")
	s.associate("AssociateTargetGroups", "$http", "$rule1", "$v1")
	expect := func(want string) (l4, l7 map[string]uint32) {
		t.Helper()
		text, l4 := s.bound("$l4", "")
		other, l7 := s.bound("$http", "$rule1")
		if text != want || other != want {
			t.Errorf("bound %q and %q, want %q", text, other, want)
		}
		return l4, l7
	}
	l4, l7 := expect("ins-a:8080=10")
	if l4["ins-a:8080"] == l7["ins-a:8080"] {
		t.Error("two places share a target's number")
	}
	s.must("RegisterTargetGroupInstances", s.q(`{"TargetGroupId":"$v1","TargetGroupInstances":[{"BindIP":"10.200.0.3","Weight":3}]}`), nil)
	after, _ := expect("ins-a:8080=10 ins-b:8080=3")
	if after["ins-a:8080"] != l4["ins-a:8080"] {
		t.Error("a target that stayed got a new number")
	}
	s.must("ModifyTargetGroupInstancesWeight", s.q(`{"TargetGroupId":"$v1","TargetGroupInstances":[{"BindIP":"10.200.0.3","Port":8080,"Weight":0}]}`), nil)
	expect("ins-a:8080=10 ins-b:8080=0")
	s.must("ModifyTargetGroupInstancesPort", s.q(`{"TargetGroupId":"$v1","TargetGroupInstances":[{"BindIP":"10.200.0.2","Port":8080,"NewPort":9090}]}`), nil)
	moved, _ := expect("ins-a:9090=10 ins-b:8080=0")
	if moved["ins-a:9090"] == l4["ins-a:8080"] {
		t.Error("a target on another port kept its number")
	}
	s.must("DeregisterTargetGroupInstances", s.q(`{"TargetGroupId":"$v1","TargetGroupInstances":[{"BindIP":"10.200.0.3"}]}`), nil)
	expect("ins-a:9090=10")
	s.associate("DisassociateTargetGroups", "$l4", "", "$v1")
	if text, _ := s.bound("$l4", ""); text != "" {
		t.Errorf("still %s", text)
	}
	if text, _ := s.bound("$http", "$rule1"); text != "ins-a:9090=10" {
		t.Errorf("the other place has %s", text)
	}
	s.seed(func(tx *store.Tx) {
		tx.PutInstance(&lb.Instance{ID: "ins-0000000c", VPC: "vpc-1", State: lb.Running, Groups: []lb.GroupID{"sg-cvm"}, Private: netip.MustParseAddr("10.200.0.9")})
	})
	s.must("RegisterTargetGroupInstances", s.q(`{"TargetGroupId":"$v1","TargetGroupInstances":[{"BindIP":"10.200.0.9"}]}`), nil)
	if text, _ := s.bound("$http", "$rule1"); text != "ins-a:9090=10 ins-0000000c:8080=10" {
		t.Errorf("bound %s", text)
	}
	s.must("TerminateInstances", `{"InstanceIds":["ins-0000000c"]}`, nil)
	if g := s.Store.State().TargetGroups.Get(lb.TargetGroupID(s.v1)); len(g.Members) != 1 {
		t.Errorf("an instance that ended is still a member: %+v", g.Members)
	}
	if text, _ := s.bound("$http", "$rule1"); text != "ins-a:9090=10" {
		t.Errorf("an instance that ended is still a target: %s", text)
	}
}

// A v2 group brings its health check along.
func TestTargetGroupV2Checks(t *testing.T) {
	s := newGroupSite(t)
	s.associate("AssociateTargetGroups", "$http", "$rule2", "$v2")
	check := func() lb.HealthCheck {
		for _, r := range s.Store.State().Listeners.Get(lb.ListenerID(s.http)).Rules {
			if string(r.ID) == s.rule2 {
				return r.Check
			}
		}
		return lb.HealthCheck{}
	}
	if text, _ := s.bound("$http", "$rule2"); text != "ins-a:8081=7" || check().IntervalTime != 9 || check().HTTPPath != "/up" || !check().On {
		t.Errorf("%s, checked %+v", text, check())
	}
	s.must("ModifyTargetGroupAttribute", s.q(`{"TargetGroupId":"$v2","TargetGroupName":"new","Port":8088,"Weight":5,"ScheduleAlgorithm":"WRR","HealthCheck":{"HealthSwitch":false}}`), nil)
	if check().On || check().IntervalTime != 9 {
		t.Errorf("checked %+v", check())
	}
	s.must("RegisterTargetGroupInstances", s.q(`{"TargetGroupId":"$v2","TargetGroupInstances":[{"BindIP":"10.200.0.3"}]}`), nil)
	if text, _ := s.bound("$http", "$rule2"); text != "ins-a:8081=7 ins-b:8088=5" {
		t.Error(text)
	}
	at := `{"LoadBalancerId":"$lb","ListenerId":"$http","LocationId":"$rule2",`
	s.must("ModifyRule", s.q(at+`"HealthCheck":{"HealthSwitch":0}}`), nil) // what it is already
	s.refused("ModifyRule", s.q(at+`"HealthCheck":{"HealthSwitch":1}}`), "InvalidParameterValue", "HealthCheck: targets of type TARGETGROUP-V2 are checked as their group says; call ModifyTargetGroupAttribute")
	s.refused("ModifyListener", s.q(`{"LoadBalancerId":"$lb","ListenerId":"$l4v2","HealthCheck":{"HealthSwitch":0}}`), "InvalidParameterValue", "ModifyTargetGroupAttribute")
}

func TestTargetGroupReads(t *testing.T) {
	s := newGroupSite(t)
	s.associate("AssociateTargetGroups", "$l4", "", "$v1")
	s.associate("AssociateTargetGroups", "$http", "$rule1", "$v1")
	var groups describeTargetGroupsOut
	s.must("DescribeTargetGroups", s.q(`{"TargetGroupIds":["$v1","lbtg-nonesuch"]}`), &groups)
	if len(groups.TargetGroupSet) != 1 {
		t.Fatalf("%+v", groups)
	}
	g := groups.TargetGroupSet[0]
	if g.TargetGroupName != "old" || g.TargetGroupType != "v1" || g.Port != 8080 || g.AssociatedRuleCount != 2 || g.RegisteredInstancesCount != 1 || g.Protocol != nil || g.HealthCheck != nil || g.Weight != nil ||
		g.Tag[0].TagValue != "v" || g.AssociatedRule[0].LocationId == nil && g.AssociatedRule[1].LocationId == nil || g.AssociatedRule[0].LoadBalancerName != "web" {
		t.Errorf("%+v", g)
	}
	s.must("DescribeTargetGroupList", s.q(`{"Filters":[{"Name":"TargetGroupVpcId","Values":["vpc-1"]}]}`), &groups)
	if groups.TotalCount != 2 || len(groups.TargetGroupSet[0].AssociatedRule)+len(groups.TargetGroupSet[1].AssociatedRule) != 0 {
		t.Errorf("%+v", groups)
	}
	s.must("DescribeTargetGroups", s.q(`{"TargetGroupIds":["$v2"]}`), &groups)
	if g := groups.TargetGroupSet[0]; g.TargetGroupType != "v2" || g.TargetGroupName != s.v2 || *g.Protocol != "HTTP" || *g.ScheduleAlgorithm != "WRR" || g.HealthCheck.GapTime != 9 || *g.HealthCheck.HttpCheckPath != "/up" || *g.Weight != 7 {
		t.Errorf("%+v", g)
	}
	for filter, want := range map[string]int{
		`{"Name":"TargetGroupName","Values":["old"]}`: 1, `{"Name":"TargetGroupVpcId","Values":["vpc-2"]}`: 0,
		`{"Name":"tag:k","Values":["v"]}`: 1, `{"Name":"tag-key","Values":["other"]}`: 0,
	} {
		if s.must("DescribeTargetGroups", `{"Filters":[`+filter+`]}`, &groups); groups.TotalCount != want {
			t.Errorf("%s: %d, want %d", filter, groups.TotalCount, want)
		}
	}
	var members describeTargetGroupInstancesOut
	s.must("DescribeTargetGroupInstances", s.q(`{"Filters":[{"Name":"TargetGroupId","Values":["$v1"]},{"Name":"BindIP","Values":["10.200.0.2"]},{"Name":"InstanceId","Values":["ins-a"]}]}`), &members)
	if m := members.TargetGroupInstanceSet; members.RealCount != 1 || m[0].InstanceId != "ins-a" || m[0].Port != 8080 || m[0].Weight != 10 || m[0].PrivateIpAddresses[0] != "10.200.0.2" || m[0].Type != "CVM" {
		t.Errorf("%+v", members)
	}
	var listeners describeListenersOut
	s.must("DescribeListeners", s.q(`{"LoadBalancerId":"$lb","ListenerIds":["$l4"]}`), &listeners)
	if l := listeners.Listeners[0]; l.TargetType != "TARGETGROUP" || l.TargetGroup.TargetGroupId != s.v1 || l.TargetGroupList[0].TargetGroupName != "old" {
		t.Errorf("%+v", l)
	}
	var targets describeTargetsOut
	s.must("DescribeTargets", s.q(`{"LoadBalancerId":"$lb","ListenerIds":["$l4"]}`), &targets)
	if targets.Listeners[0].Targets[0].InstanceId != "ins-a" {
		t.Errorf("%+v", targets)
	}
	var detail describeLoadBalancersDetailOut
	s.must("DescribeLoadBalancersDetail", `{"Fields":["TargetId"],"TargetType":"GROUP"}`, &detail)
	if n := 0; true {
		for _, row := range detail.LoadBalancerDetailSet {
			if row.TargetId != nil {
				n++
			}
		}
		if n != 2 {
			t.Errorf("%d rows of groups", n)
		}
	}
	var tags describeTagsOut
	s.must("DescribeResourceTagsByResourceIds", s.q(`{"ServiceType":"clb","ResourcePrefix":"targetgroup","ResourceIds":["$v1"],"ResourceRegion":"`+s.Region+`"}`), &tags)
	if len(tags.Tags) != 1 || tags.Tags[0].TagKey != "k" {
		t.Errorf("%+v", tags)
	}
}

func TestTargetGroupRefusals(t *testing.T) {
	s := newGroupSite(t)
	s.associate("AssociateTargetGroups", "$l4", "", "$v1")
	many := strings.TrimSuffix(strings.Repeat(`{"BindIP":"10.200.0.2"},`, 51), ",")
	bind := func(listener, location, group string) string {
		return fmt.Sprintf(`{"Associations":[{"LoadBalancerId":"$lb","ListenerId":"%s","LocationId":"%s","TargetGroupId":"%s"}]}`, listener, location, group)
	}
	members := func(group, list string) string {
		return `{"TargetGroupId":"` + group + `","TargetGroupInstances":[` + list + `]}`
	}
	for _, tc := range []refusal{
		{"CreateTargetGroup", `{}`, "MissingParameter", "Port: neither"},
		{"CreateTargetGroup", `{"TargetGroupName":"` + strings.Repeat("x", 81) + `","Port":1}`, "InvalidParameterValue.Length", "TargetGroupName"},
		{"CreateTargetGroup", `{"VpcId":"vpc-nonesuch","Port":1}`, "InvalidParameterValue", "VpcId"},
		{"CreateTargetGroup", `{"Port":1,"Protocol":"TCP"}`, "InvalidParameter", "Protocol: a v1 group takes it from its listener or rule; leave it out, or set Type v2"},
		{"CreateTargetGroup", `{"Port":1,"Weight":1}`, "InvalidParameter", "Weight: a v1 group"},
		{"CreateTargetGroup", `{"Port":1,"ScheduleAlgorithm":"WRR"}`, "InvalidParameter", "ScheduleAlgorithm: a v1 group"},
		{"CreateTargetGroup", `{"Port":1,"HealthCheck":{"HealthSwitch":true}}`, "InvalidParameter", "HealthCheck: a v1 group"},
		{"CreateTargetGroup", `{"Port":1,"Type":"v2"}`, "MissingParameter", "Protocol: a v2 group goes with one protocol; use TCP, UDP or HTTP"},
		{"CreateTargetGroup", `{"Port":1,"Type":"v2","Protocol":"TCP","ScheduleAlgorithm":"WRR"}`, "InvalidParameter", "ScheduleAlgorithm: only a v2 group of HTTP has one"},
		{"CreateTargetGroup", `{"Port":1,"Type":"v2","Protocol":"QUIC"}`, "UnsupportedOperation", "QUIC"},
		{"CreateTargetGroup", `{"Port":1,"Type":"v2","Protocol":"TCP","HealthCheck":{"HealthSwitch":true,"GapTime":1}}`, "InvalidParameterValue.Range", "HealthCheck.GapTime: 1 is outside 2-300"},
		{"CreateTargetGroup", `{"Port":1,"Type":"v2","Protocol":"TCP","HealthCheck":{"HealthSwitch":true,"Timeout":9}}`, "InvalidParameterValue", "HealthCheck.Timeout: 9 s is longer than GapTime"},
		{"CreateTargetGroup", `{"Port":1,"Type":"v2","Protocol":"TCP","HealthCheck":{"HealthSwitch":true,"Protocol":"PING"}}`, "UnsupportedOperation", "HealthCheck.Protocol: targets of TCP cannot be checked by PING"},
		{"CreateTargetGroup", `{"Port":1,"Type":"v2","Protocol":"TCP","TargetGroupInstances":[{"BindIP":"10.200.0.2"}]}`, "MissingParameter", "TargetGroupInstances.0.Weight"},
		{"CreateTargetGroup", `{"TargetGroupInstances":[{"BindIP":"10.200.0.2"}]}`, "MissingParameter", "TargetGroupInstances.0.Port"},
		{"CreateTargetGroup", `{"Port":1,"TargetGroupInstances":[{"BindIP":"10.200.0.2"},{"BindIP":"10.200.0.2"}]}`, "InvalidParameterValue.Duplicate", "TargetGroupInstances.1.Port: 10.200.0.2 port 1"},
		{"CreateTargetGroup", `{"Port":1,"TargetGroupInstances":[` + many + `]}`, "InvalidParameterValue.Length", "51 items; give 0-50"},
		{"CreateTargetGroup", `{"Port":1,"FullListenSwitch":true}`, "UnsupportedOperation", "FullListenSwitch"},
		{"CreateTargetGroup", `{"Port":1,"Tags":[{"TagKey":""}]}`, "InvalidParameterValue", "Tags"},
		{"ModifyTargetGroupAttribute", `{"TargetGroupId":"lbtg-nonesuch"}`, "InvalidParameterValue", "lbtg-nonesuch"},
		{"ModifyTargetGroupAttribute", `{"TargetGroupId":"$v1","TargetGroupName":""}`, "InvalidParameterValue", "TargetGroupName: a name has"},
		{"ModifyTargetGroupAttribute", `{"TargetGroupId":"$v1","TargetGroupName":"` + strings.Repeat("x", 81) + `"}`, "InvalidParameterValue.Length", "TargetGroupName"},
		{"ModifyTargetGroupAttribute", `{"TargetGroupId":"$v1","Weight":1}`, "InvalidParameter", "Weight: a v1 group"},
		{"ModifyTargetGroupAttribute", `{"TargetGroupId":"$v1","ScheduleAlgorithm":"WRR"}`, "InvalidParameter", "ScheduleAlgorithm"},
		{"ModifyTargetGroupAttribute", `{"TargetGroupId":"$v1","HealthCheck":{"HealthSwitch":true}}`, "InvalidParameter", "HealthCheck"},
		{"DeleteTargetGroups", `{"TargetGroupIds":[]}`, "InvalidParameterValue.Length", "TargetGroupIds"},
		{"DeleteTargetGroups", `{"TargetGroupIds":["$v2","lbtg-nonesuch"]}`, "InvalidParameterValue", "lbtg-nonesuch"},
		{"DeleteTargetGroups", `{"TargetGroupIds":["$v2","$v1"]}`, "FailedOperation", "is associated with listener"},
		{"RegisterTargetGroupInstances", members("lbtg-nonesuch", `{"BindIP":"10.200.0.3"}`), "InvalidParameterValue", "lbtg-nonesuch"},
		{"RegisterTargetGroupInstances", members("$v1", ``), "InvalidParameterValue.Length", "0 items"},
		{"RegisterTargetGroupInstances", members("$v1", `{"BindIP":"10.200.0.2"}`), "InvalidParameterValue.Duplicate", "in the group already"},
		{"RegisterTargetGroupInstances", members("$v1", `{"BindIP":"10.200.0.99"}`), "InvalidParameterValue", "TargetGroupInstances.0.BindIP: no instance in vpc-1"},
		{"RegisterTargetGroupInstances", members("$v1", `{"BindIP":"10.9.0.2"}`), "InvalidParameterValue", "BindIP: no instance in vpc-1"},
		{"RegisterTargetGroupInstances", members("$v1", `{"BindIP":"web"}`), "InvalidParameterValue", `BindIP: "web" is not an address`},
		{"RegisterTargetGroupInstances", members("$v1", `{"BindIP":"10.200.0.3","NewPort":1}`), "InvalidParameterValue", "NewPort"},
		{"RegisterTargetGroupInstances", members("$v2", `{"BindIP":"10.200.0.3"}`), "MissingParameter", "TargetGroupInstances.0.Port"},
		{"DeregisterTargetGroupInstances", members("lbtg-nonesuch", `{"BindIP":"10.200.0.3"}`), "InvalidParameterValue", "lbtg-nonesuch"},
		{"DeregisterTargetGroupInstances", members("$v1", ``), "InvalidParameterValue.Length", "0 items"},
		{"DeregisterTargetGroupInstances", members("$v1", `{"BindIP":"10.200.0.3"}`), "InvalidParameter", "10.200.0.3 port 8080 is not in group"},
		{"DeregisterTargetGroupInstances", members("$v2", `{"BindIP":"10.200.0.2"}`), "MissingParameter", "Port"},
		{"ModifyTargetGroupInstancesWeight", members("$v1", ``), "InvalidParameterValue.Length", "0 items"},
		{"ModifyTargetGroupInstancesWeight", members("lbtg-nonesuch", `{"BindIP":"10.200.0.2","Weight":1}`), "InvalidParameterValue", "lbtg-nonesuch"},
		{"ModifyTargetGroupInstancesWeight", members("$v1", `{"BindIP":"10.200.0.2"}`), "MissingParameter", "TargetGroupInstances.0.Weight"},
		{"ModifyTargetGroupInstancesWeight", members("$v1", `{"BindIP":"10.200.0.3","Weight":1}`), "InvalidParameter", "not in group"},
		{"ModifyTargetGroupInstancesPort", members("$v1", ``), "InvalidParameterValue.Length", "0 items"},
		{"ModifyTargetGroupInstancesPort", members("lbtg-nonesuch", `{"BindIP":"10.200.0.2","NewPort":1}`), "InvalidParameterValue", "lbtg-nonesuch"},
		{"ModifyTargetGroupInstancesPort", members("$v1", `{"BindIP":"10.200.0.2"}`), "MissingParameter", "TargetGroupInstances.0.NewPort"},
		{"ModifyTargetGroupInstancesPort", members("$v1", `{"BindIP":"10.200.0.3","NewPort":1}`), "InvalidParameter", "not in group"},
		{"AssociateTargetGroups", `{"Associations":[]}`, "InvalidParameterValue.Length", "0 items; give 1-20"},
		{"AssociateTargetGroups", bind("$l4", "", "$v1"), "InvalidParameterValue.Duplicate", "associated with listener"},
		{"AssociateTargetGroups", bind("$l4", "", "$v2"), "LimitExceeded", "it can have one; disassociate that first"},
		{"AssociateTargetGroups", bind("$tcp", "", "$v1"), "InvalidParameterValue", "was made for targets of type NODE, the group is TARGETGROUP; set TargetType"},
		{"AssociateTargetGroups", bind("$http", "$rule1", "$v2"), "InvalidParameterValue", "type TARGETGROUP, the group is TARGETGROUP-V2"},
		{"AssociateTargetGroups", bind("$l4v2", "", "$v2"), "InvalidParameterValue", "is a group of HTTP, the listener's protocol is TCP"},
		{"AssociateTargetGroups", bind("$http", "", "$v1"), "MissingParameter", "Associations.0.LocationId"},
		{"AssociateTargetGroups", bind("$l4", "$rule1", "$v1"), "InvalidParameter.LocationNotFound", "Associations.0.LocationId"},
		{"AssociateTargetGroups", bind("$http", "loc-nonesuch", "$v1"), "InvalidParameter.LocationNotFound", "loc-nonesuch"},
		{"AssociateTargetGroups", bind("lbl-nonesuch", "", "$v1"), "InvalidParameter.ListenerIdNotFound", "lbl-nonesuch"},
		{"AssociateTargetGroups", bind("$l4", "", "lbtg-nonesuch"), "InvalidParameterValue", "lbtg-nonesuch"},
		{"AssociateTargetGroups", `{"Associations":[{"LoadBalancerId":"lb-nonesuch","ListenerId":"$l4","TargetGroupId":"$v1"}]}`, "InvalidParameter.LBIdNotFound", "lb-nonesuch"},
		{"AssociateTargetGroups", `{"Associations":[{"LoadBalancerId":"$lb","ListenerId":"$l4","TargetGroupId":"$v1","Weight":0}]}`, "UnsupportedOperation", "Associations.0.Weight"},
		{"AssociateTargetGroups", bind("", "", "$v1"), "MissingParameter", "Associations.0.ListenerId: no listener is named"},
		{"DisassociateTargetGroups", `{"Associations":[]}`, "InvalidParameterValue.Length", "0 items"},
		{"DisassociateTargetGroups", bind("$l4", "", "$v2"), "InvalidParameterValue", "is not associated with listener"},
		{"DisassociateTargetGroups", bind("$http", "", "$v1"), "MissingParameter", "LocationId"},
		{"DisassociateTargetGroups", bind("$http", "loc-nonesuch", "$v1"), "InvalidParameter.LocationNotFound", "loc-nonesuch"},
		{"DisassociateTargetGroups", bind("lbl-nonesuch", "", "$v1"), "InvalidParameter.ListenerIdNotFound", "lbl-nonesuch"},
		{"DisassociateTargetGroups", `{"Associations":[{"LoadBalancerId":"lb-nonesuch","ListenerId":"$l4","TargetGroupId":"$v1"}]}`, "InvalidParameter.LBIdNotFound", "lb-nonesuch"},
		{"RegisterTargets", `{"LoadBalancerId":"$lb","ListenerId":"$l4","Targets":[{"InstanceId":"ins-b","Port":1}]}`, "InvalidParameterValue", "Targets: listener " + s.l4 + " has targets of type TARGETGROUP; change the members of its target group"},
		{"DeregisterTargets", `{"LoadBalancerId":"$lb","ListenerId":"$http","LocationId":"$rule1","Targets":[{"InstanceId":"ins-b","Port":1}]}`, "InvalidParameterValue", "has targets of type TARGETGROUP"},
		{"ModifyTargetWeight", `{"LoadBalancerId":"$lb","ListenerId":"$l4","Targets":[{"InstanceId":"ins-a","Port":8080}]}`, "InvalidParameterValue", "has targets of type TARGETGROUP"},
		{"ModifyListener", `{"LoadBalancerId":"$lb","ListenerId":"$l4","TargetType":"NODE"}`, "InvalidParameterValue", "TargetType: " + s.l4 + " has targets"},
		{"ModifyListener", `{"LoadBalancerId":"$lb","ListenerId":"$http","TargetType":"TARGETGROUP"}`, "InvalidParameterValue", "give TargetType to CreateRule"},
		{"CreateListener", `{"LoadBalancerId":"$lb","Ports":[99],"Protocol":"HTTP","TargetType":"TARGETGROUP"}`, "InvalidParameterValue", "give TargetType to CreateRule"},
		{"DescribeTargetGroups", `{"TargetGroupIds":["$v1"],"Filters":[{"Name":"TargetGroupName","Values":["a"]}]}`, "InvalidParameter", "Filters: they are given together"},
		{"DescribeTargetGroups", `{"Filters":[{"Name":"x","Values":["a"]}]}`, "InvalidParameterValue.InvalidFilter", "x"},
		{"DescribeTargetGroups", `{"Limit":0}`, "InvalidParameterValue.Range", "Limit"},
		{"DescribeTargetGroups", `{"TargetGroupIds":[` + strings.TrimSuffix(strings.Repeat(`"a",`, 101), ",") + `]}`, "LimitExceeded", "more than 100 ids"},
		{"DescribeTargetGroupList", `{"TargetGroupIds":["$v1"],"Filters":[{"Name":"TargetGroupName","Values":["a"]}]}`, "InvalidParameter", "Filters"},
		{"DescribeTargetGroupList", `{"Filters":[{"Name":"x","Values":["a"]}]}`, "InvalidParameterValue.InvalidFilter", "x"},
		{"DescribeTargetGroupList", `{"Limit":101}`, "InvalidParameterValue.Range", "Limit"},
		{"DescribeTargetGroupList", `{"TargetGroupIds":[` + strings.TrimSuffix(strings.Repeat(`"a",`, 101), ",") + `]}`, "LimitExceeded", "more than 100 ids"},
		{"DescribeTargetGroupInstances", `{"Filters":[]}`, "MissingParameter", "Filters: no filter"},
		{"DescribeTargetGroupInstances", `{"Filters":[{"Name":"x","Values":["a"]}]}`, "InvalidParameterValue.InvalidFilter", "x"},
		{"DescribeTargetGroupInstances", s.q(`{"Filters":[{"Name":"TargetGroupId","Values":["$v1"]}],"Limit":0}`), "InvalidParameterValue.Range", "Limit"},
	} {
		s.refused(tc.action, s.q(tc.params), tc.code, tc.text)
	}
	s.must("RegisterTargetGroupInstances", s.q(members("$v1", `{"BindIP":"10.200.0.3"}`)), nil)
	s.must("RegisterTargetGroupInstances", s.q(members("$v1", `{"BindIP":"10.200.0.3","Port":1}`)), nil)
	s.refused("ModifyTargetGroupInstancesPort", s.q(members("$v1", `{"BindIP":"10.200.0.3","Port":1,"NewPort":8080}`)), "InvalidParameterValue.Duplicate", "NewPort: 10.200.0.3 port 8080")
	s.Quotas.TargetsPerListener = 3
	s.refused("RegisterTargetGroupInstances", s.q(members("$v1", `{"BindIP":"10.200.0.3","Port":2}`)), "LimitExceeded", "TargetGroupInstances: a target group has at most 3 members")
	s.Quotas.TargetGroups = 2
	s.refused("CreateTargetGroup", `{"Port":1}`, "LimitExceeded", "2 target groups")
	s.associate("DisassociateTargetGroups", "$l4", "", "$v1")
	s.must("ModifyListener", s.q(`{"LoadBalancerId":"$lb","ListenerId":"$l4","TargetType":"NODE"}`), nil)
	s.must("DeleteTargetGroups", s.q(`{"TargetGroupIds":["$v1","$v2"]}`), nil)
	if n := s.Store.State().TargetGroups.Len(); n != 0 {
		t.Errorf("%d groups left", n)
	}
}

// A group's member stands behind one layer-4 listener of a load balancer only.
func TestTargetGroupOneListener(t *testing.T) {
	s := newGroupSite(t)
	s.associate("AssociateTargetGroups", "$l4", "", "$v1")
	var made struct{ ListenerIds []string }
	s.must("CreateListener", s.q(`{"LoadBalancerId":"$lb","Ports":[92],"Protocol":"TCP","TargetType":"TARGETGROUP"}`), &made)
	s.refused("AssociateTargetGroups", s.q(`{"Associations":[{"LoadBalancerId":"$lb","ListenerId":"`+made.ListenerIds[0]+`","TargetGroupId":"$v1"}]}`),
		"InvalidParameterValue.Duplicate", "TargetGroupId: ins-a port 8080 is bound to TCP listener "+s.l4)
	s.must("RegisterTargets", s.q(`{"LoadBalancerId":"$lb","ListenerId":"$tcp","Targets":[{"InstanceId":"ins-b","Port":8080}]}`), nil)
	s.refused("RegisterTargetGroupInstances", s.q(`{"TargetGroupId":"$v1","TargetGroupInstances":[{"BindIP":"10.200.0.3"}]}`), "InvalidParameterValue.Duplicate", "ins-b port 8080 is bound to TCP listener "+s.tcp)
}
