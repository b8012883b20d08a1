// SPDX-License-Identifier: Apache-2.0

package cloudapi

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/sallyport/sallyport/internal/lb"
	"github.com/sallyport/sallyport/internal/store"
)

// newSG makes a group and returns its id.
func (b *bench) newSG(name string) string {
	b.Helper()
	var out createGroupOut
	b.must("CreateSecurityGroup", fmt.Sprintf(`{"GroupName":%q,"GroupDescription":""}`, name), &out)
	return out.SecurityGroup.SecurityGroupId
}

// rules reads a group's rules: each as "ACTION PROTOCOL PORT PEER", or
// "ingress" and "egress" joined by " | ".
func (b *bench) rules(id string) string {
	b.Helper()
	set := b.policies(id)
	text := func(list []policyOut) string {
		var lines []string
		for i, p := range list {
			if p.PolicyIndex != i {
				b.Errorf("rule %d has index %d", i, p.PolicyIndex)
			}
			lines = append(lines, p.Action+" "+p.Protocol+" "+p.Port+" "+p.CidrBlock+p.Ipv6CidrBlock+p.SecurityGroupId)
		}
		return strings.Join(lines, ", ")
	}
	return text(set.Ingress) + " | " + text(set.Egress)
}

func (b *bench) policies(id string) policySetOut {
	b.Helper()
	var out describePoliciesOut
	b.must("DescribeSecurityGroupPolicies", fmt.Sprintf(`{"SecurityGroupId":%q}`, id), &out)
	return out.SecurityGroupPolicySet
}

// policy calls a policy action on a group; set is the JSON inside
// SecurityGroupPolicySet, more is put behind it.
func policyParams(id, set string, more ...string) string {
	return fmt.Sprintf(`{"SecurityGroupId":%q,"SecurityGroupPolicySet":{%s}%s}`, id, set, strings.Join(more, ""))
}

func (b *bench) policy(action, id, set string, more ...string) {
	b.Helper()
	b.must(action, policyParams(id, set, more...), nil)
}

func (b *bench) wantRules(id, want, version string) {
	b.Helper()
	if got := b.rules(id); got != want {
		b.Errorf("rules\n got %s\nwant %s", got, want)
	}
	if got := b.policies(id).Version; got != version {
		b.Errorf("version %s, want %s", got, version)
	}
}

func TestCreateSecurityGroup(t *testing.T) {
	b := newBench(t)
	var out createGroupOut
	b.must("CreateSecurityGroup", `{"GroupName":"web","GroupDescription":"","ProjectId":"7","Tags":[{"Key":"b","Value":"2"},{"Key":"a","Value":"1"}]}`, &out)
	g := out.SecurityGroup
	if !hasShape("sg-", g.SecurityGroupId) || g.SecurityGroupName != "web" || g.ProjectId != "7" || g.IsDefault || g.CreatedTime == "" ||
		len(g.TagSet) != 2 || g.TagSet[0] != (Tag{"a", "1"}) {
		t.Errorf("group %+v", g)
	}
	b.wantRules(g.SecurityGroupId, " | ", "0")
	for _, tc := range []struct{ params, code, text string }{
		{`{"GroupDescription":""}`, "MissingParameter", "GroupName"},
		{`{"GroupName":"a"}`, "MissingParameter", "GroupDescription"},
		{`{"GroupName":"","GroupDescription":""}`, "InvalidParameterValue", "GroupName: the name is empty"},
		{`{"GroupName":"` + strings.Repeat("ü", 61) + `","GroupDescription":""}`, "InvalidParameterValue.TooLong", "GroupName: 61 characters"},
		{`{"GroupName":"a","GroupDescription":"` + strings.Repeat("d", 101) + `"}`, "InvalidParameterValue.TooLong", "GroupDescription: 101 characters"},
		{`{"GroupName":"a","GroupDescription":"","ProjectId":"x"}`, "InvalidParameterValue.Malformed", `ProjectId: "x"`},
		{`{"GroupName":"a","GroupDescription":"","ProjectId":7}`, "InvalidParameter", "ProjectId is the number 7; want a string"},
		{`{"GroupName":"a","GroupDescription":"","Tags":[{"Key":"k"},{"Key":"k"}]}`, "InvalidParameterValue.Duplicate", "Tags.1.Key"},
		{`{"GroupName":"a","GroupDescription":"","Colour":"red"}`, "UnknownParameter", "Colour"},
	} {
		b.refused("CreateSecurityGroup", tc.params, tc.code, tc.text)
	}
	full := newBench(t, func(o *Options) { o.Quotas = lb.DefaultQuotas(); o.Quotas.Groups = 1 })
	full.newSG("only")
	full.refused("CreateSecurityGroup", `{"GroupName":"a","GroupDescription":""}`, "LimitExceeded", "at most 1")
}

func TestCreateSecurityGroupWithPolicies(t *testing.T) {
	b := newBench(t)
	var out createGroupOut
	b.must("CreateSecurityGroupWithPolicies", `{"GroupName":"g","GroupDescription":"d","SecurityGroupPolicySet":{
		"Ingress":[{"Action":"accept","Protocol":"tcp","Port":"8080","CidrBlock":"0.0.0.0/0"},{"Action":"DROP"}],"Egress":[{"Action":"ACCEPT"}]}}`, &out)
	b.wantRules(out.SecurityGroup.SecurityGroupId,
		"ACCEPT tcp 8080 0.0.0.0/0, DROP ALL ALL 0.0.0.0/0, DROP ALL ALL ::/0 | ACCEPT ALL ALL 0.0.0.0/0, ACCEPT ALL ALL ::/0", "0")
	b.refused("CreateSecurityGroupWithPolicies", `{"GroupName":"g","GroupDescription":"","SecurityGroupPolicySet":{"Egress":[{"Action":"ALLOW"}]}}`,
		"InvalidParameterValue", "SecurityGroupPolicySet.Egress.0.Action")
	b.refused("CreateSecurityGroupWithPolicies", `{"GroupName":"g","GroupDescription":"","SecurityGroupPolicySet":{"Ingress":[{"Action":"DROP","PolicyIndex":3}]}}`,
		"InvalidParameterValue.Range", "SecurityGroupPolicySet.Ingress.0.PolicyIndex")
	b.refused("CreateSecurityGroupWithPolicies", `{"GroupName":"g","GroupDescription":"","SecurityGroupPolicySet":{"Version":"4","Ingress":[{"Action":"DROP"}]}}`,
		"InvalidParameterValue", "SecurityGroupPolicySet.Version")
	many := strings.Repeat(`{"Action":"DROP","Protocol":"tcp","Port":"1"},`, 51)
	b.refused("CreateSecurityGroupWithPolicies", `{"GroupName":"g","GroupDescription":"","SecurityGroupPolicySet":{"Ingress":[`+many[:len(many)-1]+`]}}`,
		"InvalidParameterValue.LimitExceeded", "102 rules")
}

func TestCreateDefaultSecurityGroup(t *testing.T) {
	b := newBench(t)
	var first, again, other createGroupOut
	b.must("CreateDefaultSecurityGroup", `{}`, &first)
	b.must("CreateDefaultSecurityGroup", `{"ProjectId":"0"}`, &again)
	b.must("CreateDefaultSecurityGroup", `{"ProjectId":"5"}`, &other)
	g := first.SecurityGroup
	if g.SecurityGroupName != "default" || g.SecurityGroupDesc != "System created security group" || !g.IsDefault {
		t.Errorf("group %+v", g)
	}
	if again.SecurityGroup.SecurityGroupId != g.SecurityGroupId || other.SecurityGroup.SecurityGroupId == g.SecurityGroupId {
		t.Errorf("there is one per project: %v, %v, %v", g, again, other)
	}
	b.wantRules(g.SecurityGroupId, "ACCEPT ALL ALL 0.0.0.0/0 | ACCEPT ALL ALL 0.0.0.0/0", "0")
	b.refused("DeleteSecurityGroup", fmt.Sprintf(`{"SecurityGroupId":%q}`, g.SecurityGroupId), "UnsupportedOperation", "default group")
	b.refused("CreateDefaultSecurityGroup", `{"ProjectId":"-1"}`, "InvalidParameterValue.Malformed", "ProjectId")
}

func TestDescribeSecurityGroups(t *testing.T) {
	b := newBench(t)
	ids := []string{b.newSG("a"), b.newSG("b"), b.newSG("c")}
	b.must("ModifySecurityGroupAttribute", `{"SecurityGroupId":"`+ids[0]+`","GroupDescription":"changed last"}`, nil)
	b.must("ModifyResourceTags", `{"Resource":"qcs::cvm:local:uin/:sg/`+ids[2]+`","ReplaceTags":[{"TagKey":"k","TagValue":"v"}]}`, nil)
	for _, tc := range []struct {
		params string
		want   string
		total  int
	}{
		{`{}`, "a b c", 3},
		{`{"Offset":"1","Limit":"1"}`, "b", 3},
		{`{"Offset":"0","Limit":"20","SecurityGroupIds":["` + ids[1] + `"]}`, "b", 1},
		{`{"Offset":"9"}`, "", 3},
		{`{"Filters":[{"Name":"security-group-name","Values":["c","a"]}]}`, "a c", 2},
		{`{"Filters":[{"Name":"security-group-id","Values":["sg-00000000"]}]}`, "", 0},
		{`{"Filters":[{"Name":"project-id","Values":["0"]},{"Name":"tag:k","Values":["v"]}]}`, "c", 1},
		{`{"Filters":[{"Name":"tag-key","Values":["k"]}]}`, "c", 1},
		{`{"OrderField":"CreatedTime"}`, "a b c", 3},
		{`{"OrderField":"CreatedTime","OrderDirection":"DESC"}`, "c b a", 3},
		{`{"OrderField":"UpdateTime"}`, "b c a", 3},
		{`{"OrderField":"UpdateTime","OrderDirection":"DESC","Limit":"1"}`, "a", 3},
	} {
		var out describeGroupsOut
		b.must("DescribeSecurityGroups", tc.params, &out)
		var names []string
		for _, g := range out.SecurityGroupSet {
			names = append(names, g.SecurityGroupName)
		}
		if got := strings.Join(names, " "); got != tc.want || out.TotalCount != tc.total {
			t.Errorf("%s: %q of %d, want %q of %d", tc.params, got, out.TotalCount, tc.want, tc.total)
		}
	}
	for _, tc := range []struct{ params, code, text string }{
		{`{"SecurityGroupIds":["sg-00000000"]}`, "ResourceNotFound", "SecurityGroupIds.0: there is no security group sg-00000000"},
		{`{"SecurityGroupIds":["x"]}`, "InvalidParameterValue.Malformed", `SecurityGroupIds.0: "x"`},
		{`{"SecurityGroupIds":["` + ids[0] + `"],"Filters":[{"Name":"project-id","Values":["0"]}]}`, "InvalidParameter.Coexist", "Filters"},
		{`{"Filters":[{"Name":"colour","Values":["red"]}]}`, "InvalidParameter.FilterInvalidKey", "colour"},
		{`{"Offset":"x"}`, "InvalidParameterValue.Malformed", "Offset"},
		{`{"Limit":"101"}`, "InvalidParameterValue.Range", "Limit"},
		{`{"OrderField":"Name"}`, "InvalidParameterValue", "OrderField"},
	} {
		b.refused("DescribeSecurityGroups", tc.params, tc.code, tc.text)
	}
}

func TestModifySecurityGroupAttribute(t *testing.T) {
	b := newBench(t)
	id := b.newSG("a")
	b.must("ModifySecurityGroupAttribute", fmt.Sprintf(`{"SecurityGroupId":%q,"GroupName":"b"}`, id), nil)
	b.must("ModifySecurityGroupAttribute", fmt.Sprintf(`{"SecurityGroupId":%q,"GroupDescription":"text"}`, id), nil)
	if g := b.Store.State().Groups.Get(lb.GroupID(id)); g.Name != "b" || g.Desc != "text" {
		t.Errorf("group %+v", g)
	}
	b.refused("ModifySecurityGroupAttribute", `{"SecurityGroupId":"sg-00000000","GroupName":"b"}`, "ResourceNotFound", "SecurityGroupId")
	b.refused("ModifySecurityGroupAttribute", fmt.Sprintf(`{"SecurityGroupId":%q,"GroupName":""}`, id), "InvalidParameterValue", "GroupName")
}

func TestDeleteSecurityGroup(t *testing.T) {
	b := newBench(t)
	id, other := b.newSG("a"), b.newSG("b")
	del := fmt.Sprintf(`{"SecurityGroupId":%q}`, id)
	ruleFor := func(peer string) string { return `"Ingress":[{"Action":"ACCEPT","SecurityGroupId":"` + peer + `"}]` }
	b.policy("CreateSecurityGroupPolicies", id, ruleFor(id)) // its own rule is no reason to keep it
	b.policy("CreateSecurityGroupPolicies", other, ruleFor(id))
	b.refused("DeleteSecurityGroup", del, "ResourceInUse", other)
	b.policy("ModifySecurityGroupPolicies", other, `"Version":"0"`)
	b.seed(func(tx *store.Tx) {
		tx.PutInstance(&lb.Instance{ID: "ins-00000001", Groups: []lb.GroupID{lb.GroupID(id)}})
		tx.PutBalancer(&lb.LoadBalancer{ID: "lb-00000001", Groups: []lb.GroupID{lb.GroupID(id)}})
	})
	b.wantUse(id, associationOut{CVM: 1, CLB: 1, TotalCount: 2})
	b.refused("DeleteSecurityGroup", del, "ResourceInUse", "instance ins-00000001")
	b.seed(func(tx *store.Tx) { tx.DeleteInstance("ins-00000001") })
	b.refused("DeleteSecurityGroup", del, "ResourceInUse", "load balancer lb-00000001")
	b.seed(func(tx *store.Tx) { tx.DeleteBalancer("lb-00000001") })
	b.wantUse(id, associationOut{})
	b.must("DeleteSecurityGroup", del, nil)
	b.refused("DeleteSecurityGroup", del, "ResourceNotFound", id)
	b.refused("DeleteSecurityGroup", `{"SecurityGroupId":"sg"}`, "InvalidSecurityGroupID.Malformed", "SecurityGroupId")
	b.refused("DescribeSecurityGroupPolicies", del, "ResourceNotFound", id)
}

func (b *bench) wantUse(id string, want associationOut) {
	b.Helper()
	var out associationStatisticsOut
	b.must("DescribeSecurityGroupAssociationStatistics", fmt.Sprintf(`{"SecurityGroupIds":[%q]}`, id), &out)
	a := out.SecurityGroupAssociationStatisticsSet[0]
	if a.SecurityGroupId != id || a.CVM != want.CVM || a.CLB != want.CLB || a.SG != want.SG || a.ENI != 0 || a.CDB != 0 || a.TotalCount != want.TotalCount {
		b.Errorf("use %+v, want %+v", a, want)
	}
}

func TestAssociationStatistics(t *testing.T) {
	b := newBench(t)
	id, other := b.newSG("a"), b.newSG("b")
	b.policy("CreateSecurityGroupPolicies", other, `"Egress":[{"Action":"ACCEPT","SecurityGroupId":"`+id+`"}]`)
	b.wantUse(id, associationOut{SG: 1})
	b.refused("DescribeSecurityGroupAssociationStatistics", `{"SecurityGroupIds":["sg-00000000"]}`, "ResourceNotFound", "SecurityGroupIds.0")
	b.refused("DescribeSecurityGroupAssociationStatistics", `{}`, "MissingParameter", "SecurityGroupIds")
}

// Clients dereference every field of a rule.
func TestPoliciesAreNeverNull(t *testing.T) {
	b := newBench(t)
	id := b.newSG("a")
	b.policy("CreateSecurityGroupPolicies", id, `"Ingress":[{"Action":"ACCEPT"}]`)
	raw, err := b.Do(t.Context(), serviceVPC.Version, "DescribeSecurityGroupPolicies", json.RawMessage(fmt.Sprintf(`{"SecurityGroupId":%q}`, id)))
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(raw), "null") {
		t.Errorf("there is a null in %s", raw)
	}
	for _, part := range []string{`"Version":"1"`, `"PolicyIndex":0`, `"Egress":[]`, `"Protocol":"ALL"`, `"Port":"ALL"`, `"CidrBlock":"0.0.0.0/0"`, `"Ipv6CidrBlock":""`,
		`"SecurityGroupId":""`, `"PolicyDescription":""`, `"AddressTemplate":{"AddressId":"","AddressGroupId":""}`, `"ServiceTemplate":{"ServiceId":"","ServiceGroupId":""}`,
		`"PolicyId":"pol-`, `"IngressIPv4TotalCount":1`, `"IngressIPv6TotalCount":1`} {
		if !strings.Contains(string(raw), part) {
			t.Errorf("%s is not in %s", part, raw)
		}
	}
}

func TestDescribePoliciesFilters(t *testing.T) {
	b := newBench(t)
	id := b.newSG("a")
	b.policy("ModifySecurityGroupPolicies", id, `"Ingress":[{"Action":"ACCEPT","Protocol":"tcp","Port":"80","CidrBlock":"10.1.0.0/16","PolicyDescription":"web"},
		{"Action":"DROP","Protocol":"udp","Port":"53","CidrBlock":"10.2.0.0/16"}],"Egress":[{"Action":"ACCEPT","SecurityGroupId":"`+id+`"}]`)
	for filter, want := range map[string]string{
		`{"Name":"protocol-type","Values":["TCP"]}`:            "0",
		`{"Name":"poly","Values":["drop"]}`:                    "1",
		`{"Name":"port","Values":["5"]}`:                       "1",
		`{"Name":"ip","Values":["10.1","10.2"]}`:               "01",
		`{"Name":"direction","Values":["OUTBOUND"]}`:           "0",
		`{"Name":"description","Values":["we"]}`:               "0",
		`{"Name":"security-group-id","Values":["` + id + `"]}`: "0",
		`{"Name":"poly","Values":["ALL"]}`:                     "010",
	} {
		var out describePoliciesOut
		b.must("DescribeSecurityGroupPolicies", fmt.Sprintf(`{"SecurityGroupId":%q,"Filters":[%s]}`, id, filter), &out)
		got := ""
		for _, p := range append(out.SecurityGroupPolicySet.Ingress, out.SecurityGroupPolicySet.Egress...) {
			got += fmt.Sprint(p.PolicyIndex)
		}
		if got != want {
			t.Errorf("%s leaves indexes %s, want %s", filter, got, want)
		}
	}
	b.refused("DescribeSecurityGroupPolicies", fmt.Sprintf(`{"SecurityGroupId":%q,"Filters":[{"Name":"x","Values":[]}]}`, id), "InvalidParameter.FilterInvalidKey", `"x"`)
}

func TestCloneSecurityGroup(t *testing.T) {
	b := newBench(t, func(o *Options) { o.Quotas = lb.DefaultQuotas(); o.Quotas.Groups = 5 })
	var source createGroupOut
	b.must("CreateSecurityGroup", `{"GroupName":"web","GroupDescription":"d","Tags":[{"Key":"a","Value":"1"},{"Key":"b","Value":"2"}]}`, &source)
	id := source.SecurityGroup.SecurityGroupId
	b.policy("ModifySecurityGroupPolicies", id, `"Ingress":[{"Action":"DROP","Protocol":"tcp","Port":"22","CidrBlock":"0.0.0.0/0","PolicyDescription":"no"},{"Action":"ACCEPT","SecurityGroupId":"`+id+`"}],"Egress":[{"Action":"ACCEPT"}]`)
	b.seed(func(tx *store.Tx) {
		tx.PutInstance(&lb.Instance{ID: "ins-00000001", Groups: []lb.GroupID{lb.GroupID(id)}})
	})
	var out createGroupOut
	b.must("CloneSecurityGroup", `{"SecurityGroupId":"`+id+`"}`, &out)
	g := out.SecurityGroup
	if g.SecurityGroupId == id || g.SecurityGroupName != "web" || g.SecurityGroupDesc != "d" || g.IsDefault || g.ProjectId != "0" || len(g.TagSet) != 0 {
		t.Errorf("%+v", g)
	}
	b.wantRules(g.SecurityGroupId, b.rules(id), "0")
	b.wantUse(g.SecurityGroupId, associationOut{})
	b.wantUse(id, associationOut{CVM: 1, SG: 1, TotalCount: 1})
	if mine, theirs := b.policies(g.SecurityGroupId).Ingress[0], b.policies(id).Ingress[0]; mine.PolicyId == theirs.PolicyId || mine.PolicyDescription != "no" {
		t.Errorf("%+v and %+v", mine, theirs)
	}
	b.must("CloneSecurityGroup", `{"SecurityGroupId":"`+id+`","GroupName":"copy","GroupDescription":"","RemoteRegion":"local","IsCloneTags":true,"Tags":[{"Key":"b","Value":"3"}]}`, &out)
	if g = out.SecurityGroup; g.SecurityGroupName != "copy" || g.SecurityGroupDesc != "" || fmt.Sprint(g.TagSet) != "[{a 1} {b 3}]" {
		t.Errorf("%+v", g)
	}
	other := b.newSG("other")
	b.must("CloneSecurityGroup", `{"SecurityGroupId":"`+other+`","ProjectId":"7"}`, &out)
	if out.SecurityGroup.ProjectId != "7" {
		t.Errorf("%+v", out.SecurityGroup)
	}
	b.refusals([]refusal{
		{"CloneSecurityGroup", `{"SecurityGroupId":"` + id + `"}`, "LimitExceeded", "at most 5"},
		{"CloneSecurityGroup", `{"SecurityGroupId":"sg-00000000"}`, "ResourceNotFound", "SecurityGroupId"},
		{"CloneSecurityGroup", `{"SecurityGroupId":"x"}`, "InvalidParameterValue.Malformed", "SecurityGroupId"},
		{"CloneSecurityGroup", `{"SecurityGroupId":"` + id + `","GroupName":""}`, "InvalidParameterValue", "GroupName"},
		{"CloneSecurityGroup", `{"SecurityGroupId":"` + id + `","GroupName":"` + strings.Repeat("ü", 61) + `"}`, "InvalidParameterValue.TooLong", "GroupName"},
		{"CloneSecurityGroup", `{"SecurityGroupId":"` + id + `","Tags":[{"Key":"k"},{"Key":"k"}]}`, "InvalidParameterValue.Duplicate", "Tags.1.Key"},
		{"CloneSecurityGroup", `{"SecurityGroupId":"` + id + `","RemoteRegion":"ap-somewhere"}`, "UnsupportedRegion", "RemoteRegion"},
	})
	b.must("DeleteSecurityGroup", `{"SecurityGroupId":"`+other+`"}`, nil)
	b.refused("CloneSecurityGroup", `{"SecurityGroupId":"`+id+`","ProjectId":"7"}`, "InvalidParameterValue", "ProjectId: the rules name ")
}

func TestSecurityGroupReferencesAndLimits(t *testing.T) {
	b := newBench(t)
	a, c, d := b.newSG("a"), b.newSG("c"), b.newSG("d")
	for _, id := range []string{a, c, d} {
		b.policy("CreateSecurityGroupPolicies", id, `"Ingress":[{"Action":"ACCEPT","SecurityGroupId":"`+a+`"},{"Action":"DROP","SecurityGroupId":"`+a+`"}]`)
	}
	var out referencesOut
	b.must("DescribeSecurityGroupReferences", `{"SecurityGroupIds":["`+a+`","`+c+`"]}`, &out)
	set := out.ReferredSecurityGroupSet
	if len(set) != 2 || set[0].SecurityGroupId != a || len(set[0].ReferredSecurityGroupIds) != 2 || len(set[1].ReferredSecurityGroupIds) != 0 {
		t.Errorf("%+v", set)
	}
	b.refused("DescribeSecurityGroupReferences", `{"SecurityGroupIds":["x"]}`, "InvalidParameterValue.Malformed", "SecurityGroupIds.0")
	b.refused("DescribeSecurityGroupReferences", `{"SecurityGroupIds":["sg-00000000"]}`, "ResourceNotFound", "SecurityGroupIds.0")
	var limits securityGroupLimitsOut
	b.must("DescribeSecurityGroupLimits", `{}`, &limits)
	if want := (securityGroupLimitOut{50, 100, 10, 2000, 5, 2000, 2000, 0}); limits.SecurityGroupLimitSet != want {
		t.Errorf("%+v, want %+v", limits.SecurityGroupLimitSet, want)
	}
}
