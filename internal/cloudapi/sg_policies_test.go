// SPDX-License-Identifier: Apache-2.0

package cloudapi

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/sallyport/sallyport/internal/lb"
	"github.com/sallyport/sallyport/internal/store"
)

// What a rule may say, and how it is stored.
func TestRuleForms(t *testing.T) {
	b := newBench(t)
	for _, tc := range []struct{ rule, want string }{
		{`{"Action":"ACCEPT","Protocol":"tcp","Port":"80","CidrBlock":"203.0.113.7"}`, "ACCEPT tcp 80 203.0.113.7"},
		{`{"Action":"accept","Protocol":"TCP","Port":"80, 443","CidrBlock":"203.0.113.0/24"}`, "ACCEPT TCP 80,443 203.0.113.0/24"},
		{`{"Action":"drop","Protocol":"UDP","Port":"8000-8010","CidrBlock":"0.0.0.0/8"}`, "DROP UDP 8000-8010 0.0.0.0/0"},
		{`{"Action":"DROP","Protocol":"All","Port":"all","Ipv6CidrBlock":"2001:db8::/32"}`, "DROP All ALL 2001:db8::/32"},
		{`{"Action":"ACCEPT","Protocol":"icmp","Port":"all","CidrBlock":"10.0.0.0/8"}`, "ACCEPT icmp ALL 10.0.0.0/8"},
		{`{"Action":"ACCEPT","Protocol":"GRE","CidrBlock":"10.0.0.0/8","Ipv6CidrBlock":"","SecurityGroupId":""}`, "ACCEPT GRE ALL 10.0.0.0/8"},
		{`{"Action":"ACCEPT","CidrBlock":"10.0.0.0/8","AddressTemplate":{},"ServiceTemplate":{"ServiceId":"","ServiceGroupId":""}}`, "ACCEPT ALL ALL 10.0.0.0/8"},
		{`{"Action":"ACCEPT"}`, "ACCEPT ALL ALL 0.0.0.0/0, ACCEPT ALL ALL ::/0"},
		{`{"Action":"ACCEPT","Protocol":"tcp","Port":"22"}`, "ACCEPT tcp 22 0.0.0.0/0, ACCEPT tcp 22 ::/0"},
		{`{"Action":"ACCEPT","Protocol":"icmp"}`, "ACCEPT icmp ALL 0.0.0.0/0, ACCEPT icmpv6 ALL ::/0"},
		{`{"Action":"ACCEPT","Protocol":"ICMP"}`, "ACCEPT ICMP ALL 0.0.0.0/0, ACCEPT ICMPv6 ALL ::/0"},
		{`{"Action":"ACCEPT","Protocol":"ICMPv6"}`, "ACCEPT ICMPv6 ALL ::/0"},
	} {
		id := b.newSG("g")
		b.policy("CreateSecurityGroupPolicies", id, `"Ingress":[`+tc.rule+`]`)
		b.wantRules(id, tc.want+" | ", "1")
		b.must("DeleteSecurityGroup", fmt.Sprintf(`{"SecurityGroupId":%q}`, id), nil)
	}
}

func TestRuleFaults(t *testing.T) {
	b := newBench(t)
	id := b.newSG("g")
	b.policy("CreateSecurityGroupPolicies", id, `"Ingress":[`+tcp("9")+`]`)
	var foreign createGroupOut
	b.must("CreateSecurityGroup", `{"GroupName":"x","GroupDescription":"","ProjectId":"9"}`, &foreign)
	for _, tc := range []struct{ rule, code, text string }{
		{`{}`, "MissingParameter", "Ingress.0.Action"},
		{`{"Action":"ALLOW"}`, "InvalidParameterValue", `Ingress.0.Action: "ALLOW"`},
		{`{"Action":"DROP","Protocol":"SCTP"}`, "InvalidParameterValue", `Ingress.0.Protocol: "SCTP"`},
		{`{"Action":"DROP","Protocol":"icmp","Port":"80","CidrBlock":"10.0.0.0/8"}`, "InvalidParameterValue", "Ingress.0.Port: ICMP has no ports"},
		{`{"Action":"DROP","Protocol":"tcp","Port":"80-"}`, "InvalidParameterValue.Malformed", "Ingress.0.Port"},
		{`{"Action":"DROP","Protocol":"tcp","Port":"90-80"}`, "InvalidParameterValue.Range", "backwards"},
		{`{"Action":"DROP","CidrBlock":"10.0.0.0/33"}`, "InvalidParameterValue.Malformed", "Ingress.0.CidrBlock"},
		{`{"Action":"DROP","CidrBlock":"2001:db8::/32"}`, "InvalidParameterValue.Malformed", "IPv6 goes into Ipv6CidrBlock"},
		{`{"Action":"DROP","Ipv6CidrBlock":"10.0.0.0/8"}`, "InvalidParameterValue.Malformed", "IPv4 goes into CidrBlock"},
		{`{"Action":"DROP","CidrBlock":"10.0.0.0/8","Ipv6CidrBlock":"::/0"}`, "InvalidParameter.Coexist", "CidrBlock and Ipv6CidrBlock"},
		{`{"Action":"DROP","Protocol":"ICMP","Ipv6CidrBlock":"::/0"}`, "InvalidParameterValue", "use ICMPv6"},
		{`{"Action":"DROP","SecurityGroupId":"x"}`, "InvalidParameterValue.Malformed", "Ingress.0.SecurityGroupId"},
		{`{"Action":"DROP","SecurityGroupId":"sg-00000000"}`, "ResourceNotFound", "no security group sg-00000000"},
		{`{"Action":"DROP","SecurityGroupId":"` + foreign.SecurityGroup.SecurityGroupId + `"}`, "InvalidParameterValue", "is not in project 0"},
		{`{"Action":"DROP","AddressTemplate":{"AddressId":"ipm-00000000"}}`, "ResourceNotFound", "no address template ipm-00000000"},
		{`{"Action":"DROP","AddressTemplate":{"AddressGroupId":"ipmg-00000000"}}`, "ResourceNotFound", "no address template group ipmg-00000000"},
		{`{"Action":"DROP","AddressTemplate":{"AddressId":"ipmg-00000000"}}`, "InvalidParameterValue.Malformed", "Ingress.0.AddressTemplate.AddressId"},
		{`{"Action":"DROP","AddressTemplate":{"AddressId":"ipm-00000000","AddressGroupId":"ipmg-00000000"}}`, "InvalidParameter.Coexist", "Ingress.0.AddressTemplate.AddressGroupId"},
		{`{"Action":"DROP","CidrBlock":"10.0.0.0/8","AddressTemplate":{"AddressId":"ipm-00000000"}}`, "InvalidParameter.Coexist", "CidrBlock and AddressTemplate"},
		{`{"Action":"DROP","ServiceTemplate":{"ServiceId":"ppm-00000000"}}`, "ResourceNotFound", "no service template ppm-00000000"},
		{`{"Action":"DROP","ServiceTemplate":{"ServiceGroupId":"ppm-00000000"}}`, "InvalidParameterValue.Malformed", "Ingress.0.ServiceTemplate.ServiceGroupId"},
		{`{"Action":"DROP","Protocol":"tcp","ServiceTemplate":{"ServiceId":"ppm-00000000"}}`, "InvalidParameter.Coexist", "Ingress.0.ServiceTemplate"},
		{`{"Action":"DROP","Port":"80","ServiceTemplate":{"ServiceId":"ppm-00000000"}}`, "InvalidParameter.Coexist", "Ingress.0.ServiceTemplate"},
		{`{"Action":"DROP","CidrBlock":"MY_PUBLIC_IP"}`, "InvalidParameterValue", "MY_PUBLIC_IP"},
		{`{"Action":"DROP","Protocol":"ICMPv6","CidrBlock":"10.0.0.0/8"}`, "InvalidParameterValue", "Ingress.0.Protocol"},
		{`{"Action":"DROP","PolicyIndex":0,"Priority":1}`, "InvalidParameterValue", "Ingress.0.Priority"},
		{`{"Action":"DROP","ModifyTime":"2026-11-23 00:00:00"}`, "UnsupportedOperation", "Ingress.0.ModifyTime"},
		{`{"Action":"DROP","PolicyDescription":"` + strings.Repeat("x", 101) + `"}`, "InvalidParameterValue.TooLong", "PolicyDescription"},
		{`{"Action":"DROP","Colour":"red"}`, "UnknownParameter", "Ingress.0.Colour"},
	} {
		b.refusedRule(id, tc.rule, tc.code, tc.text)
	}
}

// refusedRule gives a faulty rule to every action that takes rules. Those that
// name a rule by its index get one, and there is a rule at 0.
func (b *bench) refusedRule(id, rule, code, text string) {
	b.Helper()
	list := `"Ingress":[` + rule + `]`
	for _, action := range []string{"CreateSecurityGroupPolicies", "ModifySecurityGroupPolicies"} {
		b.refused(action, policyParams(id, list), code, text)
	}
	b.refused("CreateSecurityGroupWithPolicies", `{"GroupName":"g","GroupDescription":"","SecurityGroupPolicySet":{`+list+`}}`, code, text)
	ours := map[string]string{"InvalidParameterValue.Malformed": "InvalidParameterValue", "InvalidParameterValue.Range": "InvalidParameterValue",
		"InvalidParameterValue.TooLong": "InvalidParameterValue", "InvalidParameter.Coexist": "InvalidParameterCombination"}
	b.refused("SetSecurityGroupPolicies", fmt.Sprintf(`{"SecurityGroupId":%q,"Direction":"Ingress","Version":%q,"Policies":[%s]}`, id, b.policies(id).Version, rule),
		cmp.Or(ours[code], code), strings.Replace(text, "Ingress.0.", "Policies.0.", 1))
	if !strings.Contains(rule, "PolicyIndex") {
		rule = strings.Replace(strings.Replace(rule, "{", `{"PolicyIndex":0,`, 1), ",}", "}", 1)
	}
	for _, action := range []string{"ReplaceSecurityGroupPolicy", "ReplaceSecurityGroupPolicies"} {
		b.refused(action, policyParams(id, `"Ingress":[`+rule+`]`), code, text)
	}
}

// short rules: all accept TCP from everywhere.
func tcp(ports ...string) string {
	var rules []string
	for _, p := range ports {
		rules = append(rules, `{"Action":"ACCEPT","Protocol":"tcp","Port":"`+p+`","CidrBlock":"0.0.0.0/0"}`)
	}
	return strings.Join(rules, ",")
}

// ports are the ports of a group's inbound rules in order, each with its id.
func (b *bench) ports(id string) (ports []string, ids map[string]string) {
	b.Helper()
	ids = map[string]string{}
	for _, p := range b.policies(id).Ingress {
		ports = append(ports, p.Port)
		ids[p.Port] = p.PolicyId
	}
	return ports, ids
}

func (b *bench) wantPorts(id, want string) map[string]string {
	b.Helper()
	ports, ids := b.ports(id)
	if got := strings.Join(ports, " "); got != want {
		b.Errorf("ports %s, want %s", got, want)
	}
	return ids
}

func TestCreateSecurityGroupPolicies(t *testing.T) {
	b := newBench(t)
	id := b.newSG("g")
	b.policy("CreateSecurityGroupPolicies", id, `"Ingress":[`+tcp("1", "2")+`]`)
	at := func(index, port string) string {
		return strings.Replace(tcp(port), "{", `{"PolicyIndex":`+index+`,`, 1)
	}
	first := b.wantPorts(id, "1 2")
	b.policy("CreateSecurityGroupPolicies", id, `"Version":"1","Ingress":[`+at("0", "3")+`,`+at("0", "4")+`]`)
	b.policy("CreateSecurityGroupPolicies", id, `"Ingress":[`+at(`"2"`, "5")+`]`) // as text, like the vendor's examples
	b.policy("CreateSecurityGroupPolicies", id, `"Ingress":[`+at("5", "6")+`]`)
	b.policy("CreateSecurityGroupPolicies", id, `"Egress":[`+tcp("1")+`]`)
	ids := b.wantPorts(id, "3 4 5 1 2 6")
	if ids["1"] != first["1"] || ids["2"] != first["2"] {
		t.Error("rules that moved got new ids")
	}
	if v := b.policies(id).Version; v != "5" {
		t.Errorf("version %s after 5 changes", v)
	}
	for _, tc := range []struct{ set, code, text string }{
		{`"Ingress":[],"Egress":[]`, "InvalidParameterValue.Empty", "no rules"},
		{`"Ingress":[` + tcp("9") + `],"Egress":[` + tcp("9") + `]`, "InvalidParameter.Coexist", "Ingress or Egress, not both"},
		{`"Ingress":[` + at("0", "8") + `,` + at("1", "9") + `]`, "InvalidParameterValue", "Ingress.1.PolicyIndex"},
		{`"Ingress":[` + at("0", "8") + `,` + tcp("9") + `]`, "InvalidParameterValue", "Ingress.1.PolicyIndex"},
		{`"Ingress":[` + at("7", "9") + `]`, "InvalidParameterValue.Range", "has 6 rules"},
		{`"Ingress":[` + at("-1", "9") + `]`, "InvalidParameterValue.Range", "-1 is less than 0"},
		{`"Version":"4","Ingress":[` + tcp("9") + `]`, "UnsupportedOperation.VersionMismatch", "at version 5, not 4"},
		{`"Version":"x","Ingress":[` + tcp("9") + `]`, "InvalidParameterValue.Malformed", "Version"},
		{`"Ingress":[` + tcp("9", "3") + `]`, "UnsupportedOperation.DuplicatePolicy", "index 0 and 7"},
		{`"Ingress":[{"Action":"ACCEPT","Protocol":"TCP","Port":"3"}]`, "UnsupportedOperation.DuplicatePolicy", "ACCEPT TCP 3 0.0.0.0/0"},
		{`"PolicyStatistics":{"IngressIPv4TotalCount":3},"Ingress":[` + tcp("9") + `]`, "UnsupportedOperation", "PolicyStatistics"},
	} {
		b.refused("CreateSecurityGroupPolicies", policyParams(id, tc.set), tc.code, tc.text)
	}
	b.refused("CreateSecurityGroupPolicies", policyParams("sg-00000000", `"Ingress":[`+tcp("9")+`]`), "ResourceNotFound", "SecurityGroupId")
	// The same port, dropped, is another rule.
	b.policy("CreateSecurityGroupPolicies", id, `"Ingress":[{"Action":"DROP","Protocol":"tcp","Port":"3","CidrBlock":"0.0.0.0/0"}]`)
}

// Every write of rules counts what would be there before it stores anything:
// in a direction, at a load balancer, at an instance, and the groups named.
func TestRuleQuotas(t *testing.T) {
	b := newBench(t, func(o *Options) {
		o.Quotas = lb.DefaultQuotas()
		o.Quotas.RulesPerDirection, o.Quotas.References, o.Quotas.RulesOnBalancer, o.Quotas.ExpandedRules = 3, 1, 4, 4
	})
	free, onLB, onCVM, a, c := b.newSG("g"), b.newSG("lb"), b.newSG("cvm"), b.newSG("a"), b.newSG("c")
	b.seed(func(tx *store.Tx) {
		tx.PutInstance(&lb.Instance{ID: "ins-00000001", Groups: []lb.GroupID{lb.GroupID(onCVM)}})
		tx.PutBalancer(&lb.LoadBalancer{ID: "lb-00000001", Groups: []lb.GroupID{lb.GroupID(onLB)}})
	})
	for _, id := range []string{free, onLB, onCVM} {
		b.policy("ModifySecurityGroupPolicies", id, `"Ingress":[`+tcp("1", "2")+`],"Egress":[`+tcp("1", "2")+`]`)
	}
	b.policy("CreateSecurityGroupPolicies", free, `"Ingress":[{"Action":"DROP","SecurityGroupId":"`+a+`"}]`)
	one := func(rule string) string { return strings.Replace(rule, "{", `{"PolicyIndex":0,`, 1) }
	pair := `{"Action":"DROP","Protocol":"tcp","Port":"9"}`
	names := `{"Action":"DROP","SecurityGroupId":"` + c + `"}`
	for _, w := range []struct{ action, free, bound, named string }{
		{"CreateSecurityGroupPolicies", `"Ingress":[` + tcp("3") + `]`, `"Ingress":[` + tcp("3") + `]`, `"Egress":[` + names + `]`},
		{"ModifySecurityGroupPolicies", `"Ingress":[` + tcp("1", "2", "3", "4") + `]`, `"Ingress":[` + tcp("1", "2", "3") + `]`, `"Egress":[` + names + `]`},
		{"ReplaceSecurityGroupPolicy", `"Ingress":[` + one(pair) + `]`, `"Ingress":[` + one(pair) + `]`, `"Egress":[` + one(names) + `]`},
		{"ReplaceSecurityGroupPolicies", `"Ingress":[` + one(pair) + `]`, `"Ingress":[` + one(pair) + `]`, `"Egress":[` + one(names) + `]`},
	} {
		b.refusals([]refusal{
			{w.action, policyParams(free, w.free), "LimitExceeded.SecurityGroupPolicySet", "4 rules"},
			{w.action, policyParams(onLB, w.bound), "UnsupportedOperation.ClbPolicyExceedLimit", "5 rules"},
			{w.action, policyParams(onCVM, w.bound), "UnsupportedOperation.SgNumExceedLimit", "5 rules"},
			{w.action, policyParams(free, w.named), "LimitExceeded", "2 other groups"},
		})
	}
}

func TestModifySecurityGroupPolicies(t *testing.T) {
	b := newBench(t)
	id := b.newSG("g")
	b.policy("ModifySecurityGroupPolicies", id, `"Ingress":[`+tcp("1", "2", "3")+`],"Egress":[`+tcp("9")+`]`)
	b.wantRules(id, "ACCEPT tcp 1 0.0.0.0/0, ACCEPT tcp 2 0.0.0.0/0, ACCEPT tcp 3 0.0.0.0/0 | ACCEPT tcp 9 0.0.0.0/0", "1")
	first := b.wantPorts(id, "1 2 3")

	// An empty direction stays; the Version is not compared.
	b.policy("ModifySecurityGroupPolicies", id, `"Version":"77","Ingress":[`+tcp("3", "4", "1")+`],"Egress":[]`, `,"SortPolicys":true`)
	ids := b.wantPorts(id, "3 4 1")
	if ids["1"] != first["1"] || ids["3"] != first["3"] || ids["4"] == first["2"] {
		t.Errorf("ids %v, before %v", ids, first)
	}
	if egress := b.policies(id).Egress; len(egress) != 1 {
		t.Errorf("egress %v", egress)
	}

	// Without SortPolicys, rules that are there keep their order.
	b.policy("ModifySecurityGroupPolicies", id, `"Ingress":[`+tcp("1", "5", "3")+`]`)
	b.wantPorts(id, "3 5 1")

	// The same again changes nothing; a description is a change and keeps the id.
	before := b.Store.State().Revision
	b.policy("ModifySecurityGroupPolicies", id, `"Ingress":[`+tcp("3", "5", "1")+`]`)
	if b.Store.State().Revision != before {
		t.Error("setting the same rules wrote a revision")
	}
	b.policy("ModifySecurityGroupPolicies", id, `"Ingress":[`+strings.Replace(tcp("3", "5", "1"), "{", `{"PolicyDescription":"new",`, 1)+`]`)
	if p := b.policies(id).Ingress[0]; p.PolicyDescription != "new" || p.PolicyId != first["3"] {
		t.Errorf("rule %+v", p)
	}

	for _, tc := range []struct{ set, code, text string }{
		{`"Ingress":[]`, "InvalidParameterValue.Empty", `Version "0"`},
		{`"Ingress":[` + tcp("1", "1") + `]`, "UnsupportedOperation.DuplicatePolicy", "index 0 and 1"},
		{`"Ingress":[` + strings.Replace(tcp("1"), "{", `{"PolicyIndex":4,`, 1) + `]`, "InvalidParameterValue", "Ingress.0.PolicyIndex"},
		{`"Ingress":[` + strings.Replace(tcp("1"), "{", `{"PolicyIndex":0,`, 1) + `]`, "InvalidParameterValue", "Ingress.0.PolicyIndex"},
		{`"Egress":[` + strings.Replace(tcp("1"), "{", `{"Priority":0,`, 1) + `]`, "InvalidParameterValue", "Egress.0.Priority"},
		{`"Version":"abc","Ingress":[` + tcp("1") + `]`, "InvalidParameterValue.Malformed", "SecurityGroupPolicySet.Version"},
		{`"Version":"-1","Ingress":[` + tcp("1") + `]`, "InvalidParameterValue.Malformed", "SecurityGroupPolicySet.Version"},
		{`"Version":"00","Ingress":[` + tcp("1") + `]`, "InvalidParameterValue.Malformed", "SecurityGroupPolicySet.Version"},
		{`"Version":"+0"`, "InvalidParameterValue.Malformed", "SecurityGroupPolicySet.Version"},
	} {
		b.refused("ModifySecurityGroupPolicies", policyParams(id, tc.set), tc.code, tc.text)
	}
	b.refused("ModifySecurityGroupPolicies", policyParams("sg-00000000", `"Version":"0"`), "ResourceNotFound", "SecurityGroupId")
	b.policy("ModifySecurityGroupPolicies", id, `"Version":"0","Ingress":[`+tcp("1")+`]`)
	b.wantRules(id, " | ", "5")
}

func TestReplaceSecurityGroupPolicy(t *testing.T) {
	b := newBench(t)
	id := b.newSG("g")
	b.policy("ModifySecurityGroupPolicies", id, `"Ingress":[`+tcp("1", "2", "3")+`]`)
	first := b.wantPorts(id, "1 2 3")
	index := func(i int, rule string) string {
		return strings.Replace(rule, "{", fmt.Sprintf(`{"PolicyIndex":%d,`, i), 1)
	}

	b.policy("ReplaceSecurityGroupPolicy", id, `"Version":"1","Ingress":[`+index(1, tcp("7"))+`]`)
	ids := b.wantPorts(id, "1 7 3")
	if ids["7"] == first["2"] || ids["1"] != first["1"] {
		t.Errorf("ids %v, before %v", ids, first)
	}
	original := func(rule string) string { return `,"OriginalSecurityGroupPolicySet":{"Ingress":[` + rule + `]}` }
	b.policy("ReplaceSecurityGroupPolicy", id, `"Ingress":[`+tcp("8")+`]`, original(tcp("7")))
	b.policy("ReplaceSecurityGroupPolicy", id, `"Ingress":[`+tcp("9")+`]`, original(`{"PolicyIndex":0}`))
	b.wantPorts(id, "9 8 3")

	// Without index and original: the rule of the same content, described anew.
	b.policy("ReplaceSecurityGroupPolicy", id, `"Ingress":[`+strings.Replace(tcp("3"), "{", `{"PolicyDescription":"three",`, 1)+`]`)
	if p := b.policies(id).Ingress[2]; p.PolicyDescription != "three" || p.PolicyId != first["3"] {
		t.Errorf("rule %+v", p)
	}
	b.policy("ReplaceSecurityGroupPolicy", id, `"Ingress":[{"PolicyIndex":1,"Action":"DROP"}]`)
	b.wantRules(id, "ACCEPT tcp 9 0.0.0.0/0, DROP ALL ALL 0.0.0.0/0, DROP ALL ALL ::/0, ACCEPT tcp 3 0.0.0.0/0 | ", "6")

	for _, tc := range []struct{ set, code, text string }{
		{`"Ingress":[` + tcp("4", "5") + `]`, "InvalidParameterValue", "2 rules are given"},
		{`"Ingress":[` + index(9, tcp("4")) + `]`, "InvalidParameterValue.Range", "there is no rule 9"},
		{`"Ingress":[` + tcp("4") + `]`, "ResourceNotFound", "no rule ACCEPT TCP 4"},
		{`"Ingress":[` + index(1, tcp("9")) + `]`, "UnsupportedOperation.DuplicatePolicy", "ACCEPT TCP 9"},
		{`"Version":"1","Ingress":[` + index(1, tcp("4")) + `]`, "UnsupportedOperation.VersionMismatch", "Version"},
		{`"Egress":[` + index(0, tcp("4")) + `]`, "InvalidParameterValue.Range", "Egress.0.PolicyIndex"},
	} {
		b.refused("ReplaceSecurityGroupPolicy", policyParams(id, tc.set), tc.code, tc.text)
	}
}

func TestDeleteSecurityGroupPolicies(t *testing.T) {
	b := newBench(t)
	id := b.newSG("g")
	reset := func() {
		b.policy("ModifySecurityGroupPolicies", id, `"Ingress":[`+tcp("1", "2", "3", "4")+`,{"Action":"DROP","PolicyDescription":"rest"}]`, `,"SortPolicys":true`)
	}
	for _, tc := range []struct{ set, want string }{
		{`"Ingress":[{"PolicyIndex":0},{"PolicyIndex":2}]`, "2 4 ALL ALL"},
		{`"Ingress":[{"PolicyIndex":4},{"PolicyIndex":1}]`, "1 3 4 ALL"},
		{`"Ingress":[{"Action":"accept","Protocol":"TCP","Port":"3","CidrBlock":"0.0.0.0/0","PolicyDescription":""}]`, "1 2 4 ALL ALL"},
		{`"Ingress":[{"Action":"DROP"}]`, "1 2 3 4"},
		{`"Ingress":[{"Action":"DROP","CidrBlock":"0.0.0.0/0","PolicyDescription":"rest"}]`, "1 2 3 4 ALL"},
		{`"Ingress":[` + tcp("1") + `,` + tcp("2") + `]`, "3 4 ALL ALL"},
	} {
		reset()
		b.policy("DeleteSecurityGroupPolicies", id, tc.set)
		b.wantPorts(id, tc.want)
	}
	reset()
	for _, tc := range []struct{ set, code, text string }{
		{`"Ingress":[]`, "InvalidParameterValue.Empty", "no rules"},
		{`"Ingress":[{"PolicyIndex":0}],"Egress":[{"PolicyIndex":0}]`, "InvalidParameter.Coexist", "not both"},
		{`"Ingress":[{"PolicyIndex":6}]`, "InvalidParameterValue.Range", "no rule 6"},
		{`"Ingress":[{"PolicyIndex":0,"Action":"ACCEPT"}]`, "InvalidParameter.Coexist", "Ingress.0.PolicyIndex"},
		{`"Ingress":[{"PolicyIndex":0},` + tcp("1") + `]`, "InvalidParameter.Coexist", "Ingress.1.PolicyIndex"},
		{`"Ingress":[` + tcp("1", "99") + `]`, "ResourceNotFound", "Ingress.1: the group has no rule ACCEPT TCP 99"},
		{`"Ingress":[{"Protocol":"TCP"}]`, "MissingParameter", "Ingress.0.Action"},
		{`"Version":"1","Ingress":[{"PolicyIndex":0}]`, "UnsupportedOperation.VersionMismatch", "Version"},
	} {
		b.refused("DeleteSecurityGroupPolicies", policyParams(id, tc.set), tc.code, tc.text)
	}
}

func TestReplaceSecurityGroupPolicies(t *testing.T) {
	b := newBench(t)
	id := b.newSG("g")
	at := func(i int, rule string) string {
		return strings.Replace(strings.Replace(rule, "{", fmt.Sprintf(`{"PolicyIndex":%d,`, i), 1), ",}", "}", 1)
	}
	originals := func(update string, rules ...string) string {
		return `,"UpdateType":"` + update + `","OriginalSecurityGroupPolicySet":{"Ingress":[` + strings.Join(rules, ",") + `]}`
	}
	replace := func(rules []string, more ...string) {
		t.Helper()
		b.policy("ReplaceSecurityGroupPolicies", id, `"Ingress":[`+strings.Join(rules, ",")+`]`, more...)
	}
	b.policy("ModifySecurityGroupPolicies", id, `"Ingress":[`+tcp("1", "2", "3", "4", "5")+`]`)
	first := b.wantPorts(id, "1 2 3 4 5")

	replace([]string{at(3, tcp("40")), at(0, tcp("10"))}) // content, by index
	b.wantPorts(id, "10 2 3 40 5")
	replace([]string{tcp("4"), tcp("1")}, originals("Policy", at(3, "{}"), tcp("10"))) // by the original's index or content
	b.wantPorts(id, "1 2 3 4 5")

	replace([]string{at(4, "{}"), at(0, "{}")}, originals("Priority", at(0, "{}"), tcp("4"))) // places
	if ids := b.wantPorts(id, "4 2 3 5 1"); ids["2"] != first["2"] || ids["5"] != first["5"] {
		t.Errorf("ids %v, before %v", ids, first)
	}
	replace([]string{at(1, tcp("5"))}, originals("Priority", at(3, "{}"))) // saying the content too
	b.wantPorts(id, "4 5 2 3 1")
	replace([]string{at(0, tcp("30")), at(1, tcp("2"))}, originals("Both", at(3, "{}"), at(2, "{}"))) // both
	b.wantPorts(id, "30 2 4 5 1")
	replace([]string{at(1, `{"Action":"DROP","Priority":1}`)}) // no peer: a pair
	b.wantRules(id, "ACCEPT tcp 30 0.0.0.0/0, DROP ALL ALL 0.0.0.0/0, DROP ALL ALL ::/0, ACCEPT tcp 4 0.0.0.0/0, ACCEPT tcp 5 0.0.0.0/0, ACCEPT tcp 1 0.0.0.0/0 | ", "7")
	replace([]string{tcp("8")}, originals("Policy", `{"Action":"DROP"}`)) // and back
	b.wantPorts(id, "30 8 4 5 1")

	for _, tc := range []struct{ rules, more, code, text string }{
		{``, ``, "InvalidParameterValue.Empty", "no rules"},
		{tcp("7"), ``, "MissingParameter", "Ingress.0.PolicyIndex"},
		{at(9, tcp("7")), ``, "InvalidParameterValue.Range", "no rule 9"},
		{at(0, tcp("7")) + "," + at(0, tcp("6")), ``, "InvalidParameterValue", "Ingress.1.PolicyIndex: another rule"},
		{at(0, tcp("8")), ``, "UnsupportedOperation.DuplicatePolicy", "ACCEPT TCP 8"},
		{at(1, "{}"), `,"UpdateType":"Priority"`, "MissingParameter", "OriginalSecurityGroupPolicySet.Ingress"},
		{at(1, "{}"), originals("Priority", at(0, "{}"), at(1, "{}")), "InvalidParameterValue", "2 originals are given for 1 rules"},
		{"{}", originals("Priority", at(0, "{}")), "MissingParameter", "Ingress.0.PolicyIndex"},
		{at(5, "{}"), originals("Priority", at(0, "{}")), "InvalidParameterValue.Range", "5 is no place"},
		{at(1, tcp("9")), originals("Priority", at(0, "{}")), "InvalidParameterValue", "changes no content"},
		{at(1, tcp("9")), originals("Policy", at(0, "{}")), "InvalidParameterValue", "give UpdateType Both"},
		{at(1, tcp("9")), originals("Both", tcp("77")), "ResourceNotFound", "OriginalSecurityGroupPolicySet.Ingress.0: the group has no rule"},
		{at(1, tcp("9")), originals("Both", `{"PolicyIndex":0,"ModifyTime":"2001-01-01 00:00:00"}`), "InvalidParameterValue", "OriginalSecurityGroupPolicySet.Ingress.0.ModifyTime"},
	} {
		b.refused("ReplaceSecurityGroupPolicies", policyParams(id, `"Ingress":[`+tc.rules+`]`, tc.more), tc.code, tc.text)
	}
	b.refused("ReplaceSecurityGroupPolicies", policyParams(id, `"Ingress":[{"PolicyIndex":0}],"Egress":[{"PolicyIndex":0}]`), "InvalidParameter.Coexist", "not both")
	b.refused("ReplaceSecurityGroupPolicies", policyParams(id, `"Version":"1","Ingress":[`+at(0, tcp("7"))+`]`), "UnsupportedOperation.VersionMismatch", "Version")

	b.policy("ModifySecurityGroupPolicies", id, `"Ingress":[{"Action":"DROP"},`+tcp("1")+`]`)
	b.refused("ReplaceSecurityGroupPolicies", policyParams(id, `"Ingress":[{"PolicyIndex":1}]`, originals("Priority", `{"Action":"DROP"}`)), "InvalidParameterValue", "names two rules")
}

// from calls an action as a client at that address.
func (b *bench) from(client, action, params string) error {
	q := &request{version: b.versionOf(action), action: action, region: b.Region, requestID: newRequestID(), body: []byte(params), trusted: true, client: netip.MustParseAddr(client)}
	_, err := b.run(context.Background(), q)
	return err
}

func TestMyPublicIP(t *testing.T) {
	b := newBench(t)
	id := b.newSG("g")
	mine := func(field string) string {
		return policyParams(id, `"Ingress":[{"Action":"ACCEPT","`+field+`":"MY_PUBLIC_IP"}]`)
	}
	for _, tc := range []struct{ client, field string }{{"203.0.113.9", "CidrBlock"}, {"::ffff:203.0.113.10", "CidrBlock"}, {"2001:db8::9", "Ipv6CidrBlock"}} {
		if err := b.from(tc.client, "CreateSecurityGroupPolicies", mine(tc.field)); err != nil {
			t.Error(err)
		}
	}
	b.wantRules(id, "ACCEPT ALL ALL 203.0.113.9, ACCEPT ALL ALL 203.0.113.10, ACCEPT ALL ALL 2001:db8::9 | ", "3")
	if p := b.policies(id).Ingress[0]; p.PolicyDescription != "Replaced-From-MY_PUBLIC_IP" {
		t.Errorf("description %q", p.PolicyDescription)
	}
	if err := b.from("203.0.113.9", "CreateSecurityGroupPolicies", mine("Ipv6CidrBlock")); code(err) != "InvalidParameterValue" || !strings.Contains(err.Error(), "use CidrBlock") {
		t.Error(err)
	}
	if err := b.from("203.0.113.10", "DeleteSecurityGroupPolicies", mine("CidrBlock")); err != nil {
		t.Error(err)
	}
	b.wantRules(id, "ACCEPT ALL ALL 203.0.113.9, ACCEPT ALL ALL 2001:db8::9 | ", "4")
}
