// SPDX-License-Identifier: Apache-2.0

package cloudapi

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/sallyport/sallyport/internal/flow"
	"github.com/sallyport/sallyport/internal/lb"
	"github.com/sallyport/sallyport/internal/policy"
	"github.com/sallyport/sallyport/internal/store"
)

// quoted is a JSON list of texts.
func quoted(texts []string) string { return strings.ReplaceAll(fmt.Sprintf("%q", texts), `" "`, `","`) }

func (b *bench) newAddresses(addresses ...string) string {
	b.Helper()
	var out createAddressTemplateOut
	b.must("CreateAddressTemplate", `{"AddressTemplateName":"offices","Addresses":`+quoted(addresses)+`}`, &out)
	return out.AddressTemplate.AddressTemplateId
}

func (b *bench) newAddressGroup(ids ...string) string {
	b.Helper()
	var out createAddressTemplateGroupOut
	b.must("CreateAddressTemplateGroup", `{"AddressTemplateGroupName":"all","AddressTemplateIds":`+quoted(ids)+`}`, &out)
	return out.AddressTemplateGroup.AddressTemplateGroupId
}

func (b *bench) newServices(services ...string) string {
	b.Helper()
	var out createServiceTemplateOut
	b.must("CreateServiceTemplate", `{"ServiceTemplateName":"web","Services":`+quoted(services)+`}`, &out)
	return out.ServiceTemplate.ServiceTemplateId
}

func (b *bench) newServiceGroup(ids ...string) string {
	b.Helper()
	var out createServiceTemplateGroupOut
	b.must("CreateServiceTemplateGroup", `{"ServiceTemplateGroupName":"all","ServiceTemplateIds":`+quoted(ids)+`}`, &out)
	return out.ServiceTemplateGroup.ServiceTemplateGroupId
}

func (b *bench) addresses(id string) addressListOut {
	b.Helper()
	var out describeAddressTemplatesOut
	b.must("DescribeAddressTemplates", `{"Filters":[{"Name":"address-template-id","Values":["`+id+`"]}],"Limit":"1"}`, &out)
	if out.TotalCount != 1 {
		b.Fatalf("%d templates %s", out.TotalCount, id)
	}
	return out.AddressTemplateSet[0]
}

// What was written is read back letter by letter; a change of one member
// leaves the others their time.
func TestAddressTemplate(t *testing.T) {
	now := time.Date(2026, 11, 23, 8, 0, 0, 0, time.UTC)
	b := newBench(t, func(o *Options) { o.Now = func() time.Time { return now } })
	var out createAddressTemplateOut
	b.must("CreateAddressTemplate", `{"AddressTemplateName":"offices","AddressesExtra":[{"Address":"10.0.0.5/8","Description":"all"},{"Address":"203.0.113.1-203.0.113.9"},{"Address":"2001:DB8::/32"}],"Tags":[{"Key":"k","Value":"v"}]}`, &out)
	a := out.AddressTemplate
	if !hasShape("ipm-", a.AddressTemplateId) || a.AddressTemplateName != "offices" || fmt.Sprint(a.AddressSet) != "[10.0.0.5/8 203.0.113.1-203.0.113.9 2001:DB8::/32]" ||
		a.AddressExtraSet[0] != (addressInfoOut{"10.0.0.5/8", "all", "2026-11-23 08:00:00"}) || len(a.TagSet) != 1 || a.CreatedTime != "2026-11-23 08:00:00" {
		t.Errorf("%+v", a)
	}
	id := a.AddressTemplateId
	now = now.Add(time.Hour)
	b.must("ModifyAddressTemplateAttribute", `{"AddressTemplateId":"`+id+`","AddressTemplateName":"homes","AddressesExtra":[{"Address":"203.0.113.1-203.0.113.9"},{"Address":"198.51.100.7"}]}`, nil)
	a = b.addresses(id)
	if a.AddressTemplateName != "homes" || len(a.AddressSet) != 2 || a.UpdatedTime != "2026-11-23 09:00:00" || a.CreatedTime != "2026-11-23 08:00:00" ||
		a.AddressExtraSet[0].UpdatedTime != "2026-11-23 08:00:00" || a.AddressExtraSet[1].UpdatedTime != "2026-11-23 09:00:00" {
		t.Errorf("%+v", a)
	}
	before := b.Store.State().Revision
	b.must("ModifyAddressTemplateAttribute", `{"AddressTemplateId":"`+id+`","Addresses":["203.0.113.1-203.0.113.9","198.51.100.7"]}`, nil)
	b.must("ModifyAddressTemplateAttribute", `{"AddressTemplateId":"`+id+`","Addresses":[]}`, nil)
	if b.Store.State().Revision != before {
		t.Error("the same again wrote a revision")
	}
	b.must("DeleteAddressTemplate", `{"AddressTemplateId":"`+id+`"}`, nil)
	b.refused("DeleteAddressTemplate", `{"AddressTemplateId":"`+id+`"}`, "ResourceNotFound", id)
}

func TestServiceTemplate(t *testing.T) {
	b := newBench(t)
	one, two := b.newServices("tcp:80", "udp:53,5353", "icmp"), b.newServices("tcp:443")
	group := b.newServiceGroup(two, one)
	var lists describeServiceTemplatesOut
	b.must("DescribeServiceTemplates", `{"Filters":[{"Name":"service-port","Values":["TCP:80"]}]}`, &lists)
	if lists.TotalCount != 1 || lists.ServiceTemplateSet[0].ServiceTemplateId != one || fmt.Sprint(lists.ServiceTemplateSet[0].ServiceSet) != "[tcp:80 udp:53,5353 icmp]" {
		t.Errorf("%+v", lists)
	}
	var groups describeServiceTemplateGroupsOut
	b.must("DescribeServiceTemplateGroups", `{"Filters":[{"Name":"service-template-group-name","Values":["all"]}],"NeedMemberInfo":true}`, &groups)
	if g := groups.ServiceTemplateGroupSet[0]; g.ServiceTemplateGroupId != group || fmt.Sprint(g.ServiceTemplateIdSet) != fmt.Sprint([]string{two, one}) ||
		len(g.ServiceTemplateSet) != 2 || g.ServiceTemplateSet[1].ServiceSet[2] != "icmp" {
		t.Errorf("%+v", g)
	}
	b.must("ModifyServiceTemplateAttribute", `{"ServiceTemplateId":"`+one+`","Services":["gre"]}`, nil)
	b.refused("ModifyServiceTemplateAttribute", `{"ServiceTemplateId":"`+one+`","Services":["tcp:90-80"]}`, "InvalidParameterValue.Range", "Services.0")
	b.refused("AddTemplateMember", `{"TemplateId":"`+one+`","TemplateMember":[{"Member":"tcp:90-80"}]}`, "InvalidParameterValue.Range", "TemplateMember.0.Member")
	b.refused("ModifyTemplateMember", `{"TemplateId":"`+one+`","OriginalTemplateMember":[{"Member":"gre"}],"TemplateMember":[{"Member":"udp:0-65536"}]}`, "InvalidParameterValue.Range", "TemplateMember.0.Member")
	b.must("ModifyServiceTemplateGroupAttribute", `{"ServiceTemplateGroupId":"`+group+`","ServiceTemplateGroupName":"new","ServiceTemplateIds":["`+one+`"]}`, nil)
	if st := b.Store.State(); st.Templates.Get(lb.TemplateID(group)).Name != "new" || len(st.Members(lb.TemplateID(group))) != 1 || st.Members(lb.TemplateID(group))[0].Service.Proto != lb.GRE {
		t.Errorf("%+v", st.Members(lb.TemplateID(group)))
	}
	b.must("DeleteServiceTemplateGroup", `{"ServiceTemplateGroupId":"`+group+`"}`, nil)
	b.must("DeleteServiceTemplate", `{"ServiceTemplateId":"`+two+`"}`, nil)
}

func TestDescribeTemplates(t *testing.T) {
	now := time.Date(2026, 11, 23, 8, 0, 0, 0, time.UTC)
	b := newBench(t, func(o *Options) { o.Now = func() time.Time { now = now.Add(time.Second); return now } })
	one, two, three := b.newAddresses("10.0.0.0/8", "10.9.0.0-10.9.0.9"), b.newAddresses("192.0.2.1"), b.newAddresses("2001:db8::/32")
	b.must("ModifyAddressTemplateAttribute", `{"AddressTemplateId":"`+one+`","AddressTemplateName":"first"}`, nil)
	names := strings.NewReplacer(one, "one", two, "two", three, "three")
	for params, want := range map[string]string{
		`{}`:                          "one two three",
		`{"Limit":"1","Offset":"1"}`:  "two",
		`{"OrderDirection":"DESC"}`:   "three two one",
		`{"OrderField":"UpdateTime"}`: "two three one",
		`{"OrderField":"CreatedTime","OrderDirection":"ASC"}`:                                 "one two three",
		`{"Filters":[{"Name":"address-template-name","Values":["first"]}]}`:                   "one",
		`{"Filters":[{"Name":"address-ip","Values":["10.9.0.9","192.0.2.1"]}]}`:               "one two",
		`{"Filters":[{"Name":"address-ip","Values":["2001:db8::/32"]}]}`:                      "three",
		`{"Filters":[{"Name":"address-ip","Values":["2001:db8::7"]}],"NeedMemberInfo":false}`: "three",
		`{"Filters":[{"Name":"tag-key","Values":["k"]}]}`:                                     "",
	} {
		var out describeAddressTemplatesOut
		b.must("DescribeAddressTemplates", params, &out)
		var ids []string
		for _, a := range out.AddressTemplateSet {
			ids = append(ids, names.Replace(a.AddressTemplateId))
		}
		if got := strings.Join(ids, " "); got != want {
			t.Errorf("%s: %s, want %s", params, got, want)
		}
	}
	for params, want := range map[string]string{
		`{"MemberOrderDirection":"DESC"}`:                                "[10.9.0.0-10.9.0.9 10.0.0.0/8]",
		`{"MemberOrderField":"Address"}`:                                 "[10.0.0.0/8 10.9.0.0-10.9.0.9]",
		`{"MemberOrderField":"UpdateTime","MemberOrderDirection":"ASC"}`: "[10.0.0.0/8 10.9.0.0-10.9.0.9]",
	} {
		var out describeAddressTemplatesOut
		b.must("DescribeAddressTemplates", params, &out)
		if got := fmt.Sprint(out.AddressTemplateSet[0].AddressSet); got != want {
			t.Errorf("%s: %s, want %s", params, got, want)
		}
	}
	group := b.newAddressGroup(three, one)
	for params, want := range map[string]string{
		`{"MemberOrderField":"UpdateTime","MemberOrderDirection":"DESC"}`:                 "one three",
		`{"Filters":[{"Name":"address-template-group-id","Values":["` + group + `"]}]}`:   "three one",
		`{"MemberOrderDirection":"DESC","OrderField":"AddressTemplateGroupId"}`:           "one three",
		`{"Filters":[{"Name":"address-template-group-name","Values":["all","nothing"]}]}`: "three one",
	} {
		var out describeAddressTemplateGroupsOut
		b.must("DescribeAddressTemplateGroups", params, &out)
		g := out.AddressTemplateGroupSet[0]
		if got := names.Replace(strings.Join(g.AddressTemplateIdSet, " ")); got != want || g.AddressTemplateSet[0].AddressTemplateName == "" {
			t.Errorf("%s: %s, want %s", params, got, want)
		}
	}
}

func TestTemplateMembers(t *testing.T) {
	b := newBench(t)
	list, other := b.newAddresses("10.0.0.1"), b.newAddresses("10.0.0.2")
	group, services := b.newAddressGroup(list), b.newServices("tcp:80")
	members := func(id string) string {
		text := ""
		for _, m := range b.Store.State().Templates.Get(lb.TemplateID(id)).Members {
			text += m.Text + "=" + m.Description + " "
		}
		for _, l := range b.Store.State().Templates.Get(lb.TemplateID(id)).Templates {
			text += string(l) + " "
		}
		return strings.TrimSpace(text)
	}
	change := func(action, id, params, want string) {
		t.Helper()
		b.must(action, `{"TemplateId":"`+id+`",`+params+`}`, nil)
		if got := members(id); got != want {
			t.Errorf("%s: %s, want %s", action, got, want)
		}
	}
	change("AddTemplateMember", list, `"TemplateMember":[{"Member":"10.0.0.7","Description":"seven"},{"Member":"2001:db8::1"}]`, "10.0.0.1= 10.0.0.7=seven 2001:db8::1=")
	change("ModifyTemplateMember", list, `"OriginalTemplateMember":[{"Member":"10.0.0.7"}],"TemplateMember":[{"Member":"10.0.0.8"}]`, "10.0.0.1= 10.0.0.8= 2001:db8::1=")
	change("DeleteTemplateMember", list, `"TemplateMember":[{"Member":"10.0.0.1/32"},{"Member":"2001:DB8::1"}]`, "10.0.0.8=")
	change("AddTemplateMember", group, `"TemplateMember":[{"Member":"`+other+`"}]`, list+" "+other)
	change("DeleteTemplateMember", group, `"TemplateMember":[{"Member":"`+list+`"}]`, other)
	change("ModifyTemplateMember", group, `"OriginalTemplateMember":[{"Member":"`+other+`"}],"TemplateMember":[{"Member":"`+list+`"}]`, list)
	change("AddTemplateMember", services, `"TemplateMember":[{"Member":"icmp"}]`, "tcp:80= icmp=")

	params := func(id, members string) string {
		return `{"TemplateId":"` + id + `","TemplateMember":[` + members + `]}`
	}
	swap := func(id, old, new string) string {
		return `{"TemplateId":"` + id + `","OriginalTemplateMember":[` + old + `],"TemplateMember":[` + new + `]}`
	}
	b.refusals([]refusal{
		{"AddTemplateMember", params("sg-12345678", `{"Member":"10.0.0.9"}`), "InvalidParameterValue.Malformed", "TemplateId"},
		{"AddTemplateMember", params("ipm-00000000", `{"Member":"10.0.0.9"}`), "ResourceNotFound", "TemplateId: there is no address template"},
		{"AddTemplateMember", params(list, ``), "InvalidParameterValue", "no members"},
		{"AddTemplateMember", params(list, `{"Member":"tcp:80"}`), "InvalidParameterValue.Malformed", "TemplateMember.0.Member"},
		{"AddTemplateMember", params(list, `{"Member":"10.0.0.8/32"}`), "InvalidParameterValue.Duplicate", "twice"},
		{"AddTemplateMember", params(group, `{"Member":"`+services+`"}`), "InvalidParameterValue.Malformed", "TemplateMember.0.Member"},
		{"AddTemplateMember", params(group, `{"Member":"ipm-00000000"}`), "ResourceNotFound", "no address template ipm-00000000"},
		{"AddTemplateMember", params(group, `{"Member":"`+list+`"}`), "InvalidParameterValue.Duplicate", list},
		{"AddTemplateMember", params(group, `{"Member":"`+other+`","Description":"x"}`), "InvalidParameterValue", "TemplateMember.0.Description"},
		{"AddTemplateMember", params(list, twentyAddresses()), "LimitExceeded", "21 members"},
		{"DeleteTemplateMember", params("x", `{"Member":"10.0.0.9"}`), "InvalidParameterValue.Malformed", "TemplateId"},
		{"DeleteTemplateMember", params(list, `{"Member":"10.0.0.9"}`), "ResourceNotFound", `no member "10.0.0.9"`},
		{"DeleteTemplateMember", params(group, `{"Member":"`+other+`"}`), "ResourceNotFound", "no member"},
		{"DeleteTemplateMember", params(list, `{"Member":"10.0.0.8"}`), "InvalidParameterValue", "no member left"},
		{"ModifyTemplateMember", swap("x", `{"Member":"10.0.0.8"}`, `{"Member":"10.0.0.9"}`), "InvalidParameterValue.Malformed", "TemplateId"},
		{"ModifyTemplateMember", swap(list, `{"Member":"10.0.0.8"}`, `{"Member":"10.0.0.9"},{"Member":"10.0.0.10"}`), "InvalidParameterValue", "2 members are given for 1"},
		{"ModifyTemplateMember", swap(list, `{"Member":"10.0.0.7"}`, `{"Member":"10.0.0.9"}`), "ResourceNotFound", "OriginalTemplateMember.0.Member"},
		{"ModifyTemplateMember", swap(services, `{"Member":"icmp"}`, `{"Member":"TCP:80"}`), "InvalidParameterValue.Duplicate", "twice"},
	})
	var limits describeTemplateLimitsOut
	b.must("DescribeTemplateLimits", `{}`, &limits)
	if limits.TemplateLimit != (templateLimitOut{20, 20, 20, 20}) {
		t.Errorf("%+v", limits)
	}
}

func twentyAddresses() string {
	var all []string
	for i := range 20 {
		all = append(all, fmt.Sprintf(`{"Member":"192.0.2.%d"}`, i))
	}
	return strings.Join(all, ",")
}

func TestTemplateFaults(t *testing.T) {
	b := newBench(t, func(o *Options) {
		o.Quotas = lb.DefaultQuotas()
		o.Quotas.Templates, o.Quotas.TemplateMembers = 3, 2
	})
	list, services := b.newAddresses("10.0.0.1"), b.newServices("tcp:80")
	group, serviceGroup := b.newAddressGroup(list), b.newServiceGroup(services)
	long := strings.Repeat("ü", 61)
	for _, k := range []struct{ list, field, id, members, text, bad, same, third string }{
		{"AddressTemplate", "Addresses", list, "AddressesExtra", `"Address":"10.0.0.1"`, "10.0.0", "10.0.0.1/32", "10.0.0.3"},
		{"ServiceTemplate", "Services", services, "ServicesExtra", `"Service":"tcp:80"`, "sctp:1", "TCP:80", "tcp:1"},
	} {
		first := map[bool]string{true: "10.0.0.1", false: "tcp:80"}[k.field == "Addresses"]
		made := func(name, rest string) string { return `{"` + k.list + `Name":"` + name + `"` + rest + `}` }
		changed := func(rest string) string { return `{"` + k.list + `Id":"` + k.id + `"` + rest + `}` }
		create, modify, remove := "Create"+k.list, "Modify"+k.list+"Attribute", "Delete"+k.list
		given := func(texts ...string) string { return `,"` + k.field + `":` + quoted(texts) }
		extra := `,"` + k.members + `":[{` + k.text + `}]`
		b.refusals([]refusal{
			{create, made("a", ""), "InvalidParameterValue.Empty", k.field + ": no "},
			{create, made("", given(first)), "InvalidParameterValue", k.list + "Name: the name is empty"},
			{create, made(long, given(first)), "InvalidParameterValue.TooLong", k.list + "Name"},
			{create, made("a", given(first)+extra), "InvalidParameter.Coexist", k.members},
			{create, made("a", given(first, k.bad)), "InvalidParameterValue.Malformed", k.field + ".1"},
			{create, made("a", given(first, k.same)), "InvalidParameterValue.Duplicate", "the same as " + k.field + ".0"},
			{create, made("a", given(first, k.third, k.bad[:0]+first+"0")), "LimitExceeded", "3 members"},
			{create, made("a", given(first)+`,"Tags":[{"Key":"k"},{"Key":"k"}]`), "InvalidParameterValue.Duplicate", "Tags.1.Key"},
			{modify, changed(`,"` + k.list + `Name":""`), "InvalidParameterValue", "the name is empty"},
			{modify, changed(`,"` + k.list + `Name":"` + long + `"`), "InvalidParameterValue.TooLong", k.list + "Name"},
			{modify, changed(given(first) + extra), "InvalidParameter.Coexist", k.members},
			{modify, changed(given(k.bad)), "InvalidParameterValue.Malformed", k.field + ".0"},
			{modify, changed(given(first, k.same)), "InvalidParameterValue.Duplicate", k.field + ".1"},
			{modify, changed(given(first, k.third, first+"0")), "LimitExceeded", "at most 2"},
			{modify, strings.Replace(changed(given(first)), k.id, k.id[:4]+"00000000", 1), "ResourceNotFound", "there is no"},
			{modify, strings.Replace(changed(given(first)), k.id, "x", 1), "InvalidParameterValue.Malformed", k.list + "Id"},
			{remove, `{"` + k.list + `Id":"x"}`, "InvalidParameterValue.Malformed", k.list + "Id"},
			{remove, `{"` + k.list + `Id":"` + k.id[:4] + `00000000"}`, "ResourceNotFound", k.list + "Id"},
			{remove, `{"` + k.list + `Id":"` + k.id + `"}`, "UnsupportedOperation", "holds " + k.id},
			{"Describe" + k.list + "s", `{"Filters":[{"Name":"colour","Values":["red"]}]}`, "InvalidParameter.FilterInvalidKey", "colour"},
			{"Describe" + k.list + "s", `{"Limit":"many"}`, "InvalidParameterValue.Malformed", "Limit"},
			{"Describe" + k.list + "s", `{"Limit":"101"}`, "InvalidParameterValue.Range", "Limit"},
			{"Describe" + k.list + "s", `{"Offset":"-1"}`, "InvalidParameterValue.Range", "Offset"},
		})
		groupID := map[bool]string{true: group, false: serviceGroup}[k.field == "Addresses"]
		ids := func(texts ...string) string { return `,"` + k.list + `Ids":` + quoted(texts) }
		made = func(name, rest string) string { return `{"` + k.list + `GroupName":"` + name + `"` + rest + `}` }
		changed = func(rest string) string { return `{"` + k.list + `GroupId":"` + groupID + `"` + rest + `}` }
		create, modify, remove = create+"Group", "Modify"+k.list+"GroupAttribute", remove+"Group"
		b.refusals([]refusal{
			{create, made("", ids(k.id)), "InvalidParameterValue", k.list + "GroupName: the name is empty"},
			{create, made(long, ids(k.id)), "InvalidParameterValue.TooLong", k.list + "GroupName"},
			{create, made("a", `,"`+k.list+`Ids":[]`), "InvalidParameterValue", k.list + "Ids: no templates"},
			{create, made("a", ids(k.id, k.id)), "InvalidParameterValue.Duplicate", k.list + "Ids.1"},
			{create, made("a", ids(groupID)), "InvalidParameterValue.Malformed", k.list + "Ids.0"},
			{create, made("a", ids(k.id[:4]+"00000000")), "ResourceNotFound", k.list + "Ids.0"},
			{create, made("a", ids(k.id, k.id, k.id)), "LimitExceeded", "3 templates"},
			{modify, changed(`,"` + k.list + `GroupName":""`), "InvalidParameterValue", "the name is empty"},
			{modify, changed(`,"` + k.list + `GroupName":"` + long + `"`), "InvalidParameterValue.TooLong", k.list + "GroupName"},
			{modify, changed(ids(k.id, k.id)), "InvalidParameterValue.Duplicate", k.list + "Ids.1"},
			{modify, changed(ids("x")), "InvalidParameterValue.Malformed", k.list + "Ids.0"},
			{modify, changed(ids(k.id[:4] + "00000000")), "ResourceNotFound", k.list + "Ids.0"},
			{modify, changed(ids(k.id, k.id, k.id)), "LimitExceeded", "at most 2"},
			{remove, `{"` + k.list + `GroupId":"` + k.id + `"}`, "InvalidParameterValue.Malformed", k.list + "GroupId"},
			{remove, `{"` + k.list + `GroupId":"` + groupID[:5] + `00000000"}`, "ResourceNotFound", k.list + "GroupId"},
			{"Describe" + k.list + "Groups", `{"Filters":[{"Name":"colour","Values":["red"]}]}`, "InvalidParameter.FilterInvalidKey", "colour"},
			{"Describe" + k.list + "Groups", `{"Limit":"many"}`, "InvalidParameterValue.Malformed", "Limit"},
			{"Describe" + k.list + "Groups", `{"Limit":"0"}`, "InvalidParameterValue.Range", "Limit"},
		})
	}
	b.newAddresses("10.0.0.2")
	b.newAddresses("10.0.0.3")
	b.refused("CreateAddressTemplate", `{"AddressTemplateName":"a","Addresses":["10.0.0.4"]}`, "LimitExceeded", "at most 3")
}

func TestRulesWithTemplates(t *testing.T) {
	b := newBench(t)
	id := b.newSG("g")
	list, services := b.newAddresses("203.0.113.0/24", "2001:db8::/32"), b.newServices("tcp:80", "udp:53")
	group := b.newAddressGroup(list)
	rule := fmt.Sprintf(`{"Action":"ACCEPT","AddressTemplate":{"AddressGroupId":%q},"ServiceTemplate":{"ServiceId":%q,"ServiceGroupId":""}}`, group, services)
	b.policy("CreateSecurityGroupPolicies", id, `"Ingress":[`+rule+`,{"Action":"ACCEPT","Protocol":"tcp","Port":"22","CidrBlock":"10.0.0.0/8","AddressTemplate":{},"ServiceTemplate":{"ServiceId":""}}]`)
	p := b.policies(id).Ingress[0]
	if p.AddressTemplate != (addressTemplateSpec{"", group}) || p.ServiceTemplate != (serviceTemplateSpec{services, ""}) || p.Protocol != "" || p.Port != "" || p.CidrBlock+p.Ipv6CidrBlock != "" {
		t.Errorf("%+v", p)
	}
	b.refused("CreateSecurityGroupPolicies", policyParams(id, `"Ingress":[`+rule+`]`), "UnsupportedOperation.DuplicatePolicy", "ACCEPT "+services+" "+group)
	for filter, want := range map[string]string{"address-module": group, "service-module": services} {
		var out describePoliciesOut
		b.must("DescribeSecurityGroupPolicies", fmt.Sprintf(`{"SecurityGroupId":%q,"Filters":[{"Name":%q,"Values":[%q]}]}`, id, filter, want), &out)
		if n := len(out.SecurityGroupPolicySet.Ingress); n != 1 {
			t.Errorf("%s leaves %d", filter, n)
		}
	}
	var out describePoliciesOut
	b.must("DescribeSecurityGroupExpandedPolicies", fmt.Sprintf(`{"SecurityGroupId":%q}`, id), &out)
	var lines []string
	for _, e := range out.SecurityGroupPolicySet.Ingress {
		lines = append(lines, fmt.Sprint(e.PolicyIndex, " ", e.Protocol, " ", e.Port, " ", e.CidrBlock, e.Ipv6CidrBlock))
	}
	if got := strings.Join(lines, ", "); got != "0 TCP 80 203.0.113.0/24, 0 UDP 53 203.0.113.0/24, 0 TCP 80 2001:db8::/32, 0 UDP 53 2001:db8::/32, 1 tcp 22 10.0.0.0/8" ||
		out.SecurityGroupPolicySet.PolicyStatistics.IngressIPv6TotalCount != 2 {
		t.Errorf("expanded %s, %+v", got, out.SecurityGroupPolicySet.PolicyStatistics)
	}
	b.refusals([]refusal{
		{"DescribeSecurityGroupPolicies", fmt.Sprintf(`{"SecurityGroupId":%q,"Filters":[%s]}`, id, elevenFilters()), "InvalidParameterValue.LimitExceeded", "11 filters"},
		{"DescribeSecurityGroupExpandedPolicies", fmt.Sprintf(`{"SecurityGroupId":%q,"Filters":[%s]}`, id, elevenFilters()), "InvalidParameterValue.LimitExceeded", "11 filters"},
		{"DescribeSecurityGroupExpandedPolicies", `{"SecurityGroupId":"sg-00000000"}`, "ResourceNotFound", "SecurityGroupId"},
		{"DescribeSecurityGroupExpandedPolicies", fmt.Sprintf(`{"SecurityGroupId":%q,"Filters":[{"Name":"x","Values":[]}]}`, id), "InvalidParameter.FilterInvalidKey", `"x"`},
	})

	// Deleting a template deletes the rules that name it; a list in a group stays.
	b.refused("DeleteAddressTemplate", fmt.Sprintf(`{"AddressTemplateId":%q}`, list), "UnsupportedOperation", group)
	b.must("DeleteServiceTemplate", fmt.Sprintf(`{"ServiceTemplateId":%q}`, services), nil)
	b.wantRules(id, "ACCEPT tcp 22 10.0.0.0/8 | ", "2")
	b.must("DeleteAddressTemplateGroup", fmt.Sprintf(`{"AddressTemplateGroupId":%q}`, group), nil)
	b.must("DeleteAddressTemplate", fmt.Sprintf(`{"AddressTemplateId":%q}`, list), nil)
}

func elevenFilters() string {
	return strings.TrimSuffix(strings.Repeat(`{"Name":"poly","Values":["ALL"]},`, 11), ",")
}

// Templates multiply, and what they multiply to is counted before it is
// stored: at the rule, at the binding, and at the template.
func TestTemplateQuotas(t *testing.T) {
	b := newBench(t, func(o *Options) {
		o.Quotas = lb.DefaultQuotas()
		o.Quotas.ExpandedRules, o.Quotas.RulesOnBalancer, o.Quotas.GroupsPerTemplate = 7, 5, 1
	})
	list, services := b.newAddresses("10.0.0.1", "10.0.0.2"), b.newServices("tcp:1", "tcp:2", "tcp:3")
	group, serviceGroup := b.newAddressGroup(list), b.newServiceGroup(services)
	six := fmt.Sprintf(`{"Action":"ACCEPT","AddressTemplate":{"AddressGroupId":%q},"ServiceTemplate":{"ServiceGroupId":%q}}`, group, serviceGroup)
	onLB, onCVM := b.newSG("lb"), b.newSG("cvm")
	b.seed(func(tx *store.Tx) {
		tx.PutInstance(&lb.Instance{ID: "ins-00000001", Groups: []lb.GroupID{lb.GroupID(onCVM)}})
		tx.PutBalancer(&lb.LoadBalancer{ID: "lb-00000001", Groups: []lb.GroupID{lb.GroupID(onLB)}})
	})
	b.refused("CreateSecurityGroupPolicies", policyParams(onLB, `"Egress":[`+six+`]`), "UnsupportedOperation.ClbPolicyExceedLimit", "6 rules")
	b.policy("CreateSecurityGroupPolicies", onCVM, `"Ingress":[`+six+`]`)
	b.refused("CreateSecurityGroupPolicies", policyParams(onCVM, `"Egress":[{"Action":"DROP"}]`), "UnsupportedOperation.SgNumExceedLimit", "8 rules")
	b.refused("CreateSecurityGroupPolicies", policyParams(onLB, `"Ingress":[{"Action":"DROP","AddressTemplate":{"AddressId":"`+list+`"}}]`), "LimitExceeded", "2 security groups would use "+list)
	b.refused("SetLoadBalancerSecurityGroups", `{"LoadBalancerId":"lb-00000001","SecurityGroups":["`+onCVM+`"]}`, "LimitExceeded", "6 rules")

	more, moreServices := b.newAddresses("10.0.0.3"), b.newServices("udp:1")
	b.refusals([]refusal{
		{"ModifyAddressTemplateAttribute", `{"AddressTemplateId":"` + list + `","Addresses":["10.0.0.1","10.0.0.2","10.0.0.3"]}`, "UnsupportedOperation.SgNumExceedLimit", "9 rules"},
		{"ModifyServiceTemplateAttribute", `{"ServiceTemplateId":"` + services + `","Services":["tcp:1","tcp:2","tcp:3","tcp:4"]}`, "UnsupportedOperation.SgNumExceedLimit", "8 rules"},
		{"ModifyAddressTemplateGroupAttribute", `{"AddressTemplateGroupId":"` + group + `","AddressTemplateIds":["` + list + `","` + more + `"]}`, "UnsupportedOperation.SgNumExceedLimit", "9 rules"},
		{"ModifyServiceTemplateGroupAttribute", `{"ServiceTemplateGroupId":"` + serviceGroup + `","ServiceTemplateIds":["` + services + `","` + moreServices + `"]}`, "UnsupportedOperation.SgNumExceedLimit", "8 rules"},
		{"AddTemplateMember", `{"TemplateId":"` + list + `","TemplateMember":[{"Member":"10.0.0.9"}]}`, "UnsupportedOperation.SgNumExceedLimit", "9 rules"},
		{"ModifySecurityGroupPolicies", policyParams(onLB, `"Ingress":[`+six+`]`), "UnsupportedOperation.ClbPolicyExceedLimit", "6 rules"},
	})

	b.seed(func(tx *store.Tx) { tx.PutBalancer(&lb.LoadBalancer{ID: "lb-00000001", Groups: nil}) })
	b.must("ModifyAddressTemplateAttribute", `{"AddressTemplateId":"`+list+`","Addresses":["10.0.0.1"]}`, nil)
	b.must("SetLoadBalancerSecurityGroups", `{"LoadBalancerId":"lb-00000001","SecurityGroups":["`+onCVM+`"]}`, nil)
	spare, spareServices := b.newAddresses("10.0.0.4"), b.newServices("udp:2", "udp:3", "udp:4")
	member := func(id, text string) string {
		return `{"TemplateId":"` + id + `","TemplateMember":[{"Member":"` + text + `"}]}`
	}
	for _, r := range [][2]string{
		{"ModifyAddressTemplateAttribute", `{"AddressTemplateId":"` + list + `","Addresses":["10.0.0.1","10.0.0.2"]}`},
		{"ModifyServiceTemplateAttribute", `{"ServiceTemplateId":"` + services + `","Services":["tcp:1","tcp:2","tcp:3","tcp:4","tcp:5","tcp:6"]}`},
		{"ModifyAddressTemplateGroupAttribute", `{"AddressTemplateGroupId":"` + group + `","AddressTemplateIds":["` + list + `","` + spare + `"]}`},
		{"ModifyServiceTemplateGroupAttribute", `{"ServiceTemplateGroupId":"` + serviceGroup + `","ServiceTemplateIds":["` + services + `","` + spareServices + `"]}`},
		{"AddTemplateMember", member(list, "10.0.0.9")},
	} {
		b.refused(r[0], r[1], "UnsupportedOperation.ClbPolicyExceedLimit", "6 rules")
	}

	// Swapping one list of a group for a greater one counts too.
	big := b.newAddresses("192.0.2.1", "192.0.2.2", "192.0.2.3")
	swap := `{"TemplateId":"` + group + `","OriginalTemplateMember":[{"Member":"` + list + `"}],"TemplateMember":[{"Member":"` + big + `"}]}`
	b.refused("ModifyTemplateMember", swap, "UnsupportedOperation.ClbPolicyExceedLimit", "9 rules")
	b.must("SetLoadBalancerSecurityGroups", `{"LoadBalancerId":"lb-00000001"}`, nil)
	b.refused("ModifyTemplateMember", swap, "UnsupportedOperation.SgNumExceedLimit", "9 rules")
}

// Explanations name the template through which a rule matched, and what a
// template lacks.
func TestExplainNamesTemplates(t *testing.T) {
	s := guardedSite(t)
	list, services := s.newAddresses("203.0.113.0/28"), s.newServices("tcp:80", "icmp")
	s.policy("ModifySecurityGroupPolicies", "sg-edge0001", fmt.Sprintf(`"Ingress":[{"Action":"ACCEPT","AddressTemplate":{"AddressId":%q},"ServiceTemplate":{"ServiceId":%q}}]`, list, services))
	explain := func(source, port string) gateOut {
		var out explainPathOut
		s.must("ExplainPath", s.q(`{"LoadBalancerId":"$lb","Source":"`+source+`","Port":`+port+`}`), &out)
		return out.Gates[0]
	}
	if g := explain("203.0.113.10", "80"); g.Text != "rule 1 of sg-edge0001 ("+list+" "+services+") allows it" {
		t.Errorf("text %q", g.Text)
	}
	near := explain("198.51.100.1", "80").Nearest
	if len(near) != 1 || near[0].Mismatch[0] != "source" || near[0].Rule != "ACCEPT "+services+" "+list {
		t.Errorf("nearest %+v", near)
	}
	near = explain("203.0.113.10", "81").Nearest
	if len(near) != 1 || near[0].Mismatch[0] != "port" || !strings.Contains(near[0].Why, "nothing for TCP 81") {
		t.Errorf("nearest %+v", near)
	}
	rule := s.Store.State().Groups.Get("sg-edge0001").Ingress[0]
	line := showVerdict(s.Store.State(), flow.Event{Verdict: policy.Verdict{Gate: policy.GateCLB, Action: lb.Accept, Reason: policy.RuleMatched, Group: "sg-edge0001", Rule: rule.ID, Pos: 1}}).Text
	if !strings.HasSuffix(line, "sg-edge0001 rule 1 "+string(rule.ID)+" ("+list+" "+services+")") {
		t.Errorf("verdict %q", line)
	}
}

// A template that would make bound groups too much for the kernel is not
// changed, in whichever way: what the state has stays in force.
func TestTemplateTooMuchForTheKernel(t *testing.T) {
	b := newBench(t, func(o *Options) {
		o.Compile = func(groups []policy.Group) (*policy.Compiled, error) {
			for _, g := range groups {
				for _, r := range g.Rules {
					if len(r.Peers) > 2 {
						return nil, lb.Refuse(lb.LimitExceeded, "", "the bound groups compile to too much", "use fewer addresses")
					}
				}
			}
			return policy.Compile(groups)
		}
	})
	list, more := b.newAddresses("10.0.0.1", "10.0.0.3"), b.newAddresses("10.0.0.5")
	group := b.newAddressGroup(list)
	id := b.newSG("g")
	b.policy("CreateSecurityGroupPolicies", id, `"Ingress":[{"Action":"ACCEPT","AddressTemplate":{"AddressGroupId":"`+group+`"}}]`)
	b.must("SetLoadBalancerSecurityGroups", `{"LoadBalancerId":"`+b.openBalancer()+`","SecurityGroups":["`+id+`"]}`, nil)
	b.refusals([]refusal{
		{"ModifyAddressTemplateAttribute", `{"AddressTemplateId":"` + list + `","Addresses":["10.0.0.1","10.0.0.3","10.0.0.5"]}`, "LimitExceeded", id},
		{"ModifyAddressTemplateGroupAttribute", `{"AddressTemplateGroupId":"` + group + `","AddressTemplateIds":["` + list + `","` + more + `"]}`, "LimitExceeded", id},
		{"AddTemplateMember", `{"TemplateId":"` + list + `","TemplateMember":[{"Member":"10.0.0.7"}]}`, "LimitExceeded", id},
	})
	b.must("ModifyAddressTemplateAttribute", `{"AddressTemplateId":"`+list+`","Addresses":["10.0.0.0-10.0.0.3"]}`, nil) // one prefix
}

// An instance that joins a group counts for everybody whose rules name it.
func TestJoiningCountsForThoseWhoName(t *testing.T) {
	b := newBench(t, func(o *Options) {
		o.Quotas = lb.DefaultQuotas()
		o.Quotas.ExpandedRules = 2
	})
	members, naming, other := b.newSG("members"), b.newSG("naming"), b.newSG("other")
	b.policy("CreateSecurityGroupPolicies", naming, `"Ingress":[{"Action":"ACCEPT","SecurityGroupId":"`+members+`"}]`)
	b.seed(func(tx *store.Tx) {
		for i, g := range []string{naming, members, members, other} {
			tx.PutInstance(&lb.Instance{ID: lb.InstanceID(fmt.Sprintf("ins-0000000%d", i)), Groups: []lb.GroupID{lb.GroupID(g)}})
		}
	})
	b.refused("AssociateSecurityGroups", `{"InstanceIds":["ins-00000003"],"SecurityGroupIds":["`+members+`"]}`, "UnsupportedOperation.SgNumExceedLimit", "3 rules")
}

// Found by the model: a list that a deleted template's rules left without rules
// is as empty as one that never had any, so clearing it changes nothing.
func TestClearingAfterADeletedTemplate(t *testing.T) {
	b := newBench(t)
	list, group := b.newAddresses("10.0.0.0/8"), b.newSG("web")
	b.policy("CreateSecurityGroupPolicies", group, `"Ingress":[{"Action":"ACCEPT","AddressTemplate":{"AddressId":"`+list+`"}}]`)
	b.must("DeleteAddressTemplate", `{"AddressTemplateId":"`+list+`"}`, nil)
	before := b.State().Groups.Get(lb.GroupID(group)).Version
	b.policy("ModifySecurityGroupPolicies", group, `"Version":"0"`)
	if after := b.State().Groups.Get(lb.GroupID(group)).Version; after != before {
		t.Errorf("version %d became %d", before, after)
	}
}
