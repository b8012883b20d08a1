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

func TestAssistantCidr(t *testing.T) {
	b := newBench(t)
	vpc, other := b.newVPC("10.0.0.0/16"), b.newVPC("10.9.0.0/16")
	var out assistantSetOut
	b.must("CreateAssistantCidr", `{"VpcId":"`+vpc+`","CidrBlocks":["172.16.0.0/16","10.8.0.0/20"]}`, &out)
	if len(out.AssistantCidrSet) != 2 || out.AssistantCidrSet[0].CidrBlock != "172.16.0.0/16" || out.AssistantCidrSet[0].VpcId != vpc {
		t.Errorf("%+v", out)
	}
	subnet := b.newSubnet(vpc, "172.16.3.0/24")
	b.must("ModifyAssistantCidr", `{"VpcId":"`+vpc+`","OldCidrBlocks":["10.8.0.0/20"],"NewCidrBlocks":["10.8.0.0/24"]}`, &out)
	var vpcs describeVpcsOut
	b.must("DescribeVpcs", `{"VpcIds":["`+vpc+`"]}`, &vpcs)
	if a := vpcs.VpcSet[0].AssistantCidrSet; len(a) != 2 || a[1].CidrBlock != "10.8.0.0/24" || len(a[0].SubnetSet) != 1 || a[0].SubnetSet[0].SubnetId != subnet {
		t.Errorf("%+v", vpcs)
	}
	var tables describeRouteTablesOut
	b.must("DescribeRouteTables", `{"Filters":[{"Name":"vpc-id","Values":["`+vpc+`"]},{"Name":"association.main","Values":["true"]}]}`, &tables)
	if r := tables.RouteTableSet[0].RouteSet; len(r) != 3 || r[1].DestinationCidrBlock != "172.16.0.0/16" || r[0].RouteItemId == r[1].RouteItemId || !hasShape("rti-", r[0].RouteItemId) {
		t.Errorf("%+v", tables)
	}
	for params, want := range map[string]int{
		`{}`: 2, `{"Offset":1}`: 1, `{"VpcIds":["` + other + `"]}`: 0, `{"Filters":[{"Name":"vpc-id","Values":["` + vpc + `"]}],"Limit":1}`: 1,
	} {
		var list describeAssistantOut
		b.must("DescribeAssistantCidr", params, &list)
		if len(list.AssistantCidrSet) != want {
			t.Errorf("%s: %+v", params, list)
		}
	}
	var check checkAssistantOut
	b.must("CheckAssistantCidr", `{"VpcId":"`+vpc+`","NewCidrBlocks":["10.0.0.0/8","192.168.0.0/16"],"OldCidrBlocks":["10.8.0.0/24"]}`, &check)
	if c := check.ConflictSourceSet; len(c) != 1 || c[0].SourceItem != "10.0.0.0/8" || len(c[0].ConflictItemSet) != 1 || c[0].ConflictItemSet[0].DestinationItem != "10.0.0.0/16" {
		t.Errorf("%+v", check)
	}
	fresh := func(blocks string) string { return `{"VpcId":"` + vpc + `","CidrBlocks":[` + blocks + `]}` }
	swap := func(old, new string) string {
		return `{"VpcId":"` + vpc + `","OldCidrBlocks":[` + old + `],"NewCidrBlocks":[` + new + `]}`
	}
	for _, w := range []struct {
		action string
		params func(string) string
	}{{"CreateAssistantCidr", fresh}, {"ModifyAssistantCidr", func(new string) string { return swap("", new) }}} {
		b.refusals([]refusal{
			{w.action, w.params(``), "InvalidParameterValue", "no ranges"},
			{w.action, strings.Replace(w.params(`"10.7.0.0/16"`), vpc, "vpc-00000000", 1), "ResourceNotFound", "VpcId"},
			{w.action, w.params(`"10.7.0.0"`), "InvalidParameterValue.Malformed", "CidrBlocks.0"},
			{w.action, w.params(`"10.7.0.0/8"`), "InvalidParameterValue.Malformed", "did you mean"},
			{w.action, w.params(`"10.0.0.0/8"`), "InvalidParameterValue.Range", "12-28"},
			{w.action, w.params(`"192.0.2.0/24"`), "InvalidParameterValue.Range", "private network"},
			{w.action, w.params(`"10.7.0.0/16","10.7.0.0/16"`), "InvalidParameterValue.Duplicate", "CidrBlocks.1"},
			{w.action, w.params(`"10.7.0.0/16","10.0.128.0/20"`), "InvalidParameterValue.VpcCidrConflict", "overlaps 10.0.0.0/16"},
			{w.action, w.params(`"10.7.0.0/24","10.7.1.0/24","10.7.2.0/24","10.7.3.0/24"`), "LimitExceeded", "at most 5"},
		})
	}
	b.refusals([]refusal{
		{"ModifyAssistantCidr", swap(`"172.16.0.0/16"`, `"10.7.0.0/16"`), "ResourceInUse", subnet},
		{"ModifyAssistantCidr", swap(`"10.77.0.0/16"`, ``), "ResourceNotFound", "OldCidrBlocks.0"},
		{"DeleteAssistantCidr", fresh(`"172.16.0.0/16"`), "ResourceInUse", subnet},
		{"DeleteAssistantCidr", fresh(`"172.17.0.0/16"`), "ResourceNotFound", "CidrBlocks.0"},
		{"DeleteAssistantCidr", fresh(`"x"`), "InvalidParameterValue.Malformed", "CidrBlocks.0"},
		{"DeleteAssistantCidr", fresh(``), "InvalidParameterValue", "no ranges"},
		{"CheckAssistantCidr", swap(``, ``), "InvalidParameterValue", "no ranges"},
		{"CheckAssistantCidr", swap(``, `"x"`), "InvalidParameterValue.Malformed", "NewCidrBlocks.0"},
		{"CheckAssistantCidr", swap(`"x"`, ``), "InvalidParameterValue.Malformed", "OldCidrBlocks.0"},
		{"CheckAssistantCidr", strings.Replace(swap(``, `"10.7.0.0/16"`), vpc, "vpc-00000000", 1), "ResourceNotFound", "VpcId"},
		{"DescribeAssistantCidr", `{"VpcIds":["` + vpc + `"],"Filters":[{"Name":"vpc-id","Values":["` + vpc + `"]}]}`, "InvalidParameter.Coexist", "Filters"},
		{"DescribeAssistantCidr", `{"Filters":[{"Name":"colour","Values":["red"]}]}`, "InvalidParameter.FilterInvalidKey", "colour"},
		{"DescribeAssistantCidr", `{"VpcIds":["x"]}`, "InvalidParameterValue.Malformed", "VpcIds.0"},
		{"DescribeAssistantCidr", `{"VpcIds":["vpc-00000000"]}`, "ResourceNotFound", "VpcIds.0"},
		{"DescribeAssistantCidr", `{"Limit":101}`, "InvalidParameterValue.Range", "Limit"},
		{"DescribeAssistantCidr", `{"VpcIds":[` + strings.TrimSuffix(strings.Repeat(`"`+vpc+`",`, 101), ",") + `]}`, "LimitExceeded", "VpcIds"},
	})
	b.must("DeleteSubnet", `{"SubnetId":"`+subnet+`"}`, nil)
	b.must("DeleteAssistantCidr", fresh(`"172.16.0.0/16"`), nil)
	if v := b.Store.State().VPCs.Get(lb.VPCID(vpc)); len(v.Assistant) != 1 {
		t.Errorf("%v", v.Assistant)
	}
}

// A VPC's name is found by a part of it.
func TestVpcNamePart(t *testing.T) {
	b := newBench(t)
	b.newVPC("10.0.0.0/16")
	b.must("CreateVpc", `{"VpcName":"production-eu","CidrBlock":"10.1.0.0/16"}`, nil)
	var out describeVpcsOut
	b.must("DescribeVpcs", `{"Filters":[{"Name":"vpc-name","Values":["tion"]}]}`, &out)
	if out.TotalCount != 1 || out.VpcSet[0].VpcName != "production-eu" {
		t.Errorf("%+v", out)
	}
}

func TestReplaceRouteTableAssociation(t *testing.T) {
	b := newBench(t)
	one, two := b.newVPC("10.0.0.0/16"), b.newVPC("10.1.0.0/16")
	subnet := b.newSubnet(one, "10.0.1.0/24")
	params := func(table, subnet string) string {
		return `{"RouteTableId":"` + table + `","SubnetId":"` + subnet + `"}`
	}
	b.must("ReplaceRouteTableAssociation", params(mainTable(lb.VPCID(one)), subnet), nil)
	b.refusals([]refusal{
		{"ReplaceRouteTableAssociation", params(mainTable(lb.VPCID(two)), subnet), "UnsupportedOperation.VpcMismatch", "give " + mainTable(lb.VPCID(one))},
		{"ReplaceRouteTableAssociation", params("rtb-00000000", subnet), "ResourceNotFound", "RouteTableId"},
		{"ReplaceRouteTableAssociation", `{"RouteTableId":"` + mainTable(lb.VPCID(one)) + `"}`, "MissingParameter", "SubnetId"},
		{"ReplaceRouteTableAssociation", params("x", subnet), "InvalidParameterValue.Malformed", "RouteTableId"},
		{"ReplaceRouteTableAssociation", params(mainTable(lb.VPCID(one)), "subnet-00000000"), "ResourceNotFound", "SubnetId"},
	})
}

func TestUsedAddresses(t *testing.T) {
	b := newBench(t)
	vpc, other := b.newVPC("10.0.0.0/16"), b.newVPC("10.1.0.0/16")
	one, two, far := b.newSubnet(vpc, "10.0.1.0/24"), b.newSubnet(vpc, "10.0.2.0/24"), b.newSubnet(other, "10.1.1.0/24")
	b.seed(func(tx *store.Tx) {
		for i, at := range []struct{ vpc, subnet, addr string }{{vpc, one, "10.0.1.7"}, {vpc, two, "10.0.2.7"}, {other, far, "10.1.1.7"}} {
			tx.PutInstance(&lb.Instance{ID: lb.InstanceID(fmt.Sprintf("ins-0000000%d", i)), VPC: lb.VPCID(at.vpc), Subnet: lb.SubnetID(at.subnet), Private: netip.MustParseAddr(at.addr), Groups: []lb.GroupID{"sg-00000001"}})
		}
		tx.PutBalancer(&lb.LoadBalancer{ID: "lb-00000001", Type: lb.Internal, VPC: lb.VPCID(vpc), Subnet: lb.SubnetID(one), VIPs: []netip.Addr{netip.MustParseAddr("10.0.1.4")}})
		tx.PutBalancer(&lb.LoadBalancer{ID: "lb-00000002", Type: lb.Open, VPC: lb.VPCID(vpc), VIPs: []netip.Addr{netip.MustParseAddr("192.0.2.4")}})
	})
	in := func(more string) string { return `{"VpcId":"` + vpc + `"` + more + `}` }
	for more, want := range map[string]string{
		``:                            "10.0.1.4 CLB lb-00000001, 10.0.1.7 CVM ins-00000000, 10.0.2.7 CVM ins-00000001",
		`,"Offset":1,"Limit":1`:       "10.0.1.7 CVM ins-00000000",
		`,"SubnetId":"` + two + `"`:   "10.0.2.7 CVM ins-00000001",
		`,"IpAddresses":["10.0.1.9"]`: "",
		`,"IpAddresses":["10.0.1.7"]`: "10.0.1.7 CVM ins-00000000",
		`,"SubnetId":"` + one + `","IpAddresses":["10.0.1.7","10.0.1.4"]`: "10.0.1.4 CLB lb-00000001, 10.0.1.7 CVM ins-00000000",
		`,"Filters":[{"Name":"resource-id","Values":["lb-00000001"]}]`:    "10.0.1.4 CLB lb-00000001",
		`,"Filters":[{"Name":"ip-addresses","Values":["10.0.2.7"]}]`:      "10.0.2.7 CVM ins-00000001",
	} {
		var out usedIPAddressOut
		b.must("DescribeUsedIpAddress", in(more), &out)
		var lines []string
		for _, s := range out.IpAddressStates {
			lines = append(lines, s.IpAddress+" "+s.ResourceType+" "+s.ResourceId)
		}
		if got := strings.Join(lines, ", "); got != want {
			t.Errorf("%s: %s, want %s", more, got, want)
		}
	}
	b.refusals([]refusal{
		{"DescribeUsedIpAddress", `{"VpcId":"vpc-00000000"}`, "ResourceNotFound", "VpcId"},
		{"DescribeUsedIpAddress", `{"VpcId":"x"}`, "InvalidParameterValue.Malformed", "VpcId"},
		{"DescribeUsedIpAddress", in(`,"SubnetId":"subnet-00000000"`), "ResourceNotFound", "SubnetId"},
		{"DescribeUsedIpAddress", in(`,"SubnetId":"` + far + `"`), "InvalidParameterValue.ParameterMismatch", "is in " + other},
		{"DescribeUsedIpAddress", in(`,"IpAddresses":["10.9.0.1"]`), "InvalidParameterValue.ParameterMismatch", "IpAddresses.0"},
		{"DescribeUsedIpAddress", in(`,"IpAddresses":["ten"]`), "InvalidParameterValue.Malformed", "IpAddresses.0"},
		{"DescribeUsedIpAddress", in(`,"IpAddresses":["10.0.1.7"],"Filters":[{"Name":"resource-id","Values":["x"]}]`), "InvalidParameter.Coexist", "Filters"},
		{"DescribeUsedIpAddress", in(`,"Filters":[{"Name":"colour","Values":["red"]}]`), "InvalidParameter.FilterInvalidKey", "colour"},
		{"DescribeUsedIpAddress", in(`,"Limit":101`), "InvalidParameterValue.Range", "Limit"},
		{"DescribeUsedIpAddress", in(`,"Filters":[` + elevenFilters() + `]`), "InvalidParameterValue.LimitExceeded", "11 filters"},
		{"DescribeVpcPrivateIpAddresses", in(`,"PrivateIpAddresses":["ten"]`), "InvalidParameterValue.Malformed", "PrivateIpAddresses.0"},
		{"DescribeVpcPrivateIpAddresses", `{"VpcId":"vpc-00000000","PrivateIpAddresses":[]}`, "ResourceNotFound", "VpcId"},
	})
	var out vpcPrivateIPsOut
	b.must("DescribeVpcPrivateIpAddresses", in(`,"PrivateIpAddresses":["10.0.1.1","10.0.1.7","10.0.1.8","10.0.1.4","10.1.1.7"]`), &out)
	var lines []string
	for _, p := range out.VpcPrivateIpAddressSet {
		lines = append(lines, p.PrivateIpAddress+" "+p.PrivateIpAddressType+" "+p.CidrBlock)
	}
	if got := strings.Join(lines, ", "); got != "10.0.1.1 GATEWAY 10.0.1.0/24, 10.0.1.7 CVM 10.0.1.0/24, 10.0.1.4 CLB 10.0.1.0/24" {
		t.Errorf("%s", got)
	}
}

// An instance's one interface has the instance's groups: binding there is
// binding here.
func TestNetworkInterfaces(t *testing.T) {
	b := newBench(t, func(o *Options) {
		o.Quotas = lb.DefaultQuotas()
		o.Quotas.GroupsPerInstance, o.Quotas.InstancesPerGroup, o.Quotas.ExpandedRules = 3, 2, 2
	})
	first, second, third, fourth := b.newSG("a"), b.newSG("b"), b.newSG("c"), b.newSG("d")
	full, long := b.newSG("full"), b.newSG("long")
	b.policy("ModifySecurityGroupPolicies", long, `"Ingress":[`+tcp("1", "2", "3")+`]`)
	b.seed(func(tx *store.Tx) {
		tx.PutInstance(&lb.Instance{ID: "ins-00000001", Name: "one", VPC: "vpc-00000001", Subnet: "subnet-00000001", Private: netip.MustParseAddr("10.0.0.7"), Public: netip.MustParseAddr("192.0.2.70"), Groups: []lb.GroupID{lb.GroupID(first)}})
		for i := range 2 {
			tx.PutInstance(&lb.Instance{ID: lb.InstanceID(fmt.Sprintf("ins-1000000%d", i)), Groups: []lb.GroupID{lb.GroupID(full)}})
		}
	})
	call := func(enis, groups string) string {
		return `{"NetworkInterfaceIds":[` + enis + `],"SecurityGroupIds":[` + groups + `]}`
	}
	groups := func() string { return fmt.Sprint(b.Store.State().Instances.Get("ins-00000001").Groups) }
	b.must("AssociateNetworkInterfaceSecurityGroups", call(`"eni-00000001"`, `"`+third+`","`+second+`","`+first+`"`), nil)
	if got := groups(); got != fmt.Sprintf("[%s %s %s]", first, third, second) {
		t.Errorf("groups %s", got)
	}
	b.refusals([]refusal{
		{"AssociateNetworkInterfaceSecurityGroups", call(``, `"`+fourth+`"`), "InvalidParameterValue", "NetworkInterfaceIds"},
		{"AssociateNetworkInterfaceSecurityGroups", call(`"x"`, `"`+fourth+`"`), "InvalidParameterValue.Malformed", "NetworkInterfaceIds.0"},
		{"AssociateNetworkInterfaceSecurityGroups", call(`"eni-00000009"`, `"`+fourth+`"`), "ResourceNotFound", "NetworkInterfaceIds.0"},
		{"AssociateNetworkInterfaceSecurityGroups", call(`"eni-00000001"`, `"sg-00000000"`), "ResourceNotFound", "SecurityGroupIds.0"},
		{"AssociateNetworkInterfaceSecurityGroups", call(`"eni-00000001"`, `"`+fourth+`"`), "LimitExceeded", "4 groups"},
	})
	b.must("DisassociateNetworkInterfaceSecurityGroups", call(`"eni-00000001"`, `"`+third+`","`+fourth+`","`+second+`"`), nil)
	if got := groups(); got != "["+first+"]" {
		t.Errorf("groups %s", got)
	}
	b.refusals([]refusal{
		{"AssociateNetworkInterfaceSecurityGroups", call(`"eni-00000001"`, `"`+full+`"`), "LimitExceeded.CvmsVifsPerSecGroupLimitExceeded", "3 instances"},
		{"AssociateNetworkInterfaceSecurityGroups", call(`"eni-00000001"`, `"`+long+`"`), "UnsupportedOperation.SgNumExceedLimit", "3 rules"},
		{"DisassociateNetworkInterfaceSecurityGroups", call(`"eni-00000001"`, `"`+first+`"`), "UnsupportedOperation", "keeps at least one"},
		{"DisassociateNetworkInterfaceSecurityGroups", call(`"eni-00000001"`, ``), "InvalidParameterValue", "SecurityGroupIds"},
		{"DisassociateNetworkInterfaceSecurityGroups", call(`"x"`, `"`+first+`"`), "InvalidParameterValue.Malformed", "NetworkInterfaceIds.0"},
		{"DisassociateNetworkInterfaceSecurityGroups", call(`"eni-00000001"`, `"sg-00000000"`), "ResourceNotFound", "SecurityGroupIds.0"},
		{"DescribeNetworkInterfaces", `{"NetworkInterfaceIds":["x"]}`, "InvalidParameterValue.Malformed", "NetworkInterfaceIds.0"},
		{"DescribeNetworkInterfaces", `{"NetworkInterfaceIds":["eni-00000009"]}`, "ResourceNotFound", "NetworkInterfaceIds.0"},
		{"DescribeNetworkInterfaces", `{"NetworkInterfaceIds":["eni-00000001"],"Filters":[{"Name":"vpc-id","Values":["x"]}]}`, "InvalidParameter.Coexist", "Filters"},
		{"DescribeNetworkInterfaces", `{"Filters":[{"Name":"colour","Values":["red"]}]}`, "InvalidParameter.FilterInvalidKey", "colour"},
		{"DescribeNetworkInterfaces", `{"Limit":0}`, "InvalidParameterValue.Range", "Limit"},
		{"DescribeNetworkInterfaces", `{"Filters":[` + elevenFilters() + `]}`, "InvalidParameterValue.LimitExceeded", "11 filters"},
	})
	for name, value := range map[string]string{
		"network-interface-id": "eni-00000001", "network-interface-name": "one", "vpc-id": "vpc-00000001", "subnet-id": "subnet-00000001",
		"attachment.instance-id": "ins-00000001", "address-ip": "10.0.0.7", "public-address-ip": "192.0.2.70", "groups.security-group-id": first,
	} {
		var out describeInterfacesOut
		b.must("DescribeNetworkInterfaces", fmt.Sprintf(`{"Filters":[{"Name":%q,"Values":[%q]},{"Name":"is-primary","Values":["true"]},{"Name":"eni-type","Values":["1"]}]}`, name, value), &out)
		if out.TotalCount != 1 {
			t.Errorf("%s: %d", name, out.TotalCount)
			continue
		}
		i := out.NetworkInterfaceSet[0]
		if i.NetworkInterfaceId != "eni-00000001" || i.Attachment.InstanceId != "ins-00000001" || fmt.Sprint(i.GroupSet) != "["+first+"]" || !i.Primary ||
			i.PrivateIpAddressSet[0].PrivateIpAddress != "10.0.0.7" || i.PrivateIpAddressSet[0].PublicIpAddress != "192.0.2.70" {
			t.Errorf("%+v", i)
		}
	}
}
