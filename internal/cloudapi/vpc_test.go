// SPDX-License-Identifier: Apache-2.0

package cloudapi

import (
	"fmt"
	"strings"
	"testing"

	"github.com/sallyport/sallyport/internal/lb"
	"github.com/sallyport/sallyport/internal/store"
)

func (b *bench) newVPC(cidr string) string {
	b.Helper()
	var out createVpcOut
	b.must("CreateVpc", fmt.Sprintf(`{"VpcName":"v","CidrBlock":%q}`, cidr), &out)
	return out.Vpc.VpcId
}

func (b *bench) newSubnet(vpc, cidr string) string {
	b.Helper()
	var out createSubnetOut
	b.must("CreateSubnet", fmt.Sprintf(`{"VpcId":%q,"SubnetName":"n","CidrBlock":%q,"Zone":"local-1"}`, vpc, cidr), &out)
	return out.Subnet.SubnetId
}

func TestCreateVpc(t *testing.T) {
	b := newBench(t)
	var out createVpcOut
	b.must("CreateVpc", `{"VpcName":"net","CidrBlock":"10.0.0.0/16","EnableMulticast":"true","DnsServers":["10.0.0.2"],"DomainName":"x.test","Tags":[{"Key":"k","Value":"v"}]}`, &out)
	v := out.Vpc
	if !hasShape("vpc-", v.VpcId) || v.VpcName != "net" || v.CidrBlock != "10.0.0.0/16" || v.IsDefault || !v.EnableMulticast || v.CreatedTime == "" ||
		fmt.Sprint(v.DnsServerSet) != "[10.0.0.2]" || v.DomainName != "x.test" || len(v.TagSet) != 1 {
		t.Errorf("VPC %+v", v)
	}
	for _, tc := range []struct{ params, code, text string }{
		{`{"CidrBlock":"10.0.0.0/16"}`, "MissingParameter", "VpcName"},
		{`{"VpcName":"","CidrBlock":"10.0.0.0/16"}`, "InvalidParameterValue", "VpcName: the name is empty"},
		{`{"VpcName":"` + strings.Repeat("v", 61) + `","CidrBlock":"10.0.0.0/16"}`, "InvalidParameterValue.TooLong", "VpcName"},
		{`{"VpcName":"v","CidrBlock":"10.0.0.0"}`, "InvalidParameterValue.Malformed", "CidrBlock"},
		{`{"VpcName":"v","CidrBlock":"10.0.0.1/16"}`, "InvalidParameterValue.Malformed", "did you mean 10.0.0.0/16"},
		{`{"VpcName":"v","CidrBlock":"10.0.0.0/8"}`, "InvalidParameterValue.Range", "12-28"},
		{`{"VpcName":"v","CidrBlock":"192.0.2.0/24"}`, "InvalidParameterValue.Range", "private network"},
		{`{"VpcName":"v","CidrBlock":"10.0.0.0/16","EnableMulticast":"yes"}`, "InvalidParameterValue", "EnableMulticast"},
		{`{"VpcName":"v","CidrBlock":"10.0.0.0/16","EnableRouteVpcPublish":true}`, "UnsupportedOperation", "EnableRouteVpcPublish"},
	} {
		b.refused("CreateVpc", tc.params, tc.code, tc.text)
	}
}

func TestDescribeVpcs(t *testing.T) {
	b := newBench(t)
	one, two := b.newVPC("10.0.0.0/16"), b.newVPC("10.1.0.0/16")
	for params, want := range map[string]string{
		`{}`:                         one + " " + two,
		`{"Limit":"1","Offset":"1"}`: two,
		`{"VpcIds":["` + two + `","` + two + `"]}`:                      two,
		`{"Filters":[{"Name":"vpc-id","Values":["` + one + `"]}]}`:      one,
		`{"Filters":[{"Name":"cidr-block","Values":["10.1.0.0/16"]}]}`:  two,
		`{"Filters":[{"Name":"is-default","Values":["true"]}]}`:         "",
		`{"Filters":[{"Name":"vpc-name","Values":["v"]}],"Offset":"0"}`: one + " " + two,
		`{"Filters":[{"Name":"vpc-id","Values":["vpc-00000000"]}]}`:     "",
	} {
		var out describeVpcsOut
		b.must("DescribeVpcs", params, &out)
		var ids []string
		for _, v := range out.VpcSet {
			ids = append(ids, v.VpcId)
		}
		if got := strings.Join(ids, " "); got != want {
			t.Errorf("%s: %s, want %s", params, got, want)
		}
	}
	b.refused("DescribeVpcs", `{"VpcIds":["vpc-00000000"]}`, "ResourceNotFound", "VpcIds.0")
	b.refused("DescribeVpcs", `{"VpcIds":["v"]}`, "InvalidParameterValue.Malformed", "VpcIds.0")
	b.refused("DescribeVpcs", `{"VpcIds":["`+one+`"],"Filters":[{"Name":"vpc-id","Values":["`+one+`"]}]}`, "InvalidParameter.Coexist", "VpcIds")
	b.refused("DescribeVpcs", `{"Filters":[{"Name":"colour","Values":[]}]}`, "InvalidParameter.FilterInvalidKey", "colour")
}

func TestModifyVpcAttribute(t *testing.T) {
	b := newBench(t)
	id := b.newVPC("10.0.0.0/16")
	b.must("ModifyVpcAttribute", fmt.Sprintf(`{"VpcId":%q,"VpcName":"new","DnsServers":["10.0.0.9"]}`, id), nil)
	b.must("ModifyVpcAttribute", fmt.Sprintf(`{"VpcId":%q,"EnableMulticast":"true"}`, id), nil)
	v := vpcToOut(b.Store.State(), b.Store.State().VPCs.Get(lb.VPCID(id)))
	if v.VpcName != "new" || !v.EnableMulticast || len(v.DnsServerSet) != 1 {
		t.Errorf("VPC %+v", v)
	}
	b.refused("ModifyVpcAttribute", `{"VpcId":"vpc-00000000","VpcName":"x"}`, "ResourceNotFound", "VpcId")
	b.refused("ModifyVpcAttribute", fmt.Sprintf(`{"VpcId":%q,"VpcName":""}`, id), "InvalidParameterValue", "VpcName")
	b.refused("ModifyVpcAttribute", fmt.Sprintf(`{"VpcId":%q,"EnableCdcPublish":true}`, id), "UnsupportedOperation", "EnableCdcPublish")
}

func TestDeleteVpc(t *testing.T) {
	b := newBench(t)
	id := b.newVPC("10.0.0.0/16")
	params := fmt.Sprintf(`{"VpcId":%q}`, id)
	subnet := b.newSubnet(id, "10.0.1.0/24")
	b.refused("DeleteVpc", params, "ResourceInUse", subnet)
	b.must("DeleteSubnet", fmt.Sprintf(`{"SubnetId":%q}`, subnet), nil)
	b.seed(func(tx *store.Tx) { tx.PutBalancer(&lb.LoadBalancer{ID: "lb-00000001", VPC: lb.VPCID(id)}) })
	b.refused("DeleteVpc", params, "ResourceInUse", "lb-00000001")
	b.seed(func(tx *store.Tx) { tx.DeleteBalancer("lb-00000001") })
	var group createTargetGroupOut
	b.must("CreateTargetGroup", fmt.Sprintf(`{"VpcId":%q,"Port":80}`, id), &group)
	b.refused("DeleteVpc", params, "ResourceInUse", group.TargetGroupId)
	b.must("DeleteTargetGroups", fmt.Sprintf(`{"TargetGroupIds":[%q]}`, group.TargetGroupId), nil)
	b.must("DeleteVpc", params, nil)
	b.refused("DeleteVpc", params, "ResourceNotFound", id)
}

func TestCreateSubnet(t *testing.T) {
	b := newBench(t)
	id := b.newVPC("10.0.0.0/16")
	var out createSubnetOut
	b.must("CreateSubnet", `{"VpcId":"`+id+`","SubnetName":"front","CidrBlock":"10.0.1.0/24","Zone":"local-1","Tags":[{"Key":"k","Value":"v"}],"CdcId":""}`, &out)
	n := out.Subnet
	if !hasShape("subnet-", n.SubnetId) || n.VpcId != id || n.SubnetName != "front" || n.CidrBlock != "10.0.1.0/24" || n.Zone != "local-1" || n.IsDefault ||
		n.RouteTableId != mainTable(lb.VPCID(id)) || n.AvailableIpAddressCount != 253 || n.TotalIpAddressCount != 253 || len(n.TagSet) != 1 {
		t.Errorf("subnet %+v", n)
	}
	with := func(cidr, zone string) string {
		return fmt.Sprintf(`{"VpcId":%q,"SubnetName":"n","CidrBlock":%q,"Zone":%q}`, id, cidr, zone)
	}
	for _, tc := range []struct{ params, code, text string }{
		{with("10.1.0.0/24", "local-1"), "InvalidParameterValue.SubnetRange", "10.0.0.0/16"},
		{with("10.0.0.0/15", "local-1"), "InvalidParameterValue.SubnetRange", "CidrBlock"},
		{with("10.0.1.128/25", "local-1"), "InvalidParameterValue.SubnetConflict", n.SubnetId},
		{with("10.0.2.0/30", "local-1"), "InvalidParameterValue.Range", "12-29"},
		{with("10.0.2.0/24", "mars-1"), "InvalidParameterValue", "the only one is local-1"},
		{`{"VpcId":"vpc-00000000","SubnetName":"n","CidrBlock":"10.0.2.0/24","Zone":"local-1"}`, "ResourceNotFound", "VpcId"},
		{`{"VpcId":"` + id + `","SubnetName":"","CidrBlock":"10.0.2.0/24","Zone":"local-1"}`, "InvalidParameterValue", "SubnetName"},
		{`{"VpcId":"` + id + `","CidrBlock":"10.0.2.0/24","Zone":"local-1"}`, "MissingParameter", "SubnetName"},
		{`{"VpcId":"` + id + `","SubnetName":"n","CidrBlock":"10.0.2.0/24","Zone":"local-1","CdcId":"cluster-1"}`, "UnsupportedOperation", "CdcId"},
	} {
		b.refused("CreateSubnet", tc.params, tc.code, tc.text)
	}
}

func TestDescribeModifyDeleteSubnets(t *testing.T) {
	b := newBench(t)
	vpc := b.newVPC("10.0.0.0/16")
	one, two := b.newSubnet(vpc, "10.0.1.0/24"), b.newSubnet(vpc, "10.0.2.0/24")
	b.must("ModifySubnetAttribute", fmt.Sprintf(`{"SubnetId":%q,"SubnetName":"back","EnableBroadcast":"true"}`, two), nil)
	for params, want := range map[string]string{
		`{}`:                            one + " " + two,
		`{"SubnetIds":["` + one + `"]}`: one,
		`{"Filters":[{"Name":"subnet-name","Values":["back"]},{"Name":"vpc-id","Values":["` + vpc + `"]}]}`:     two,
		`{"Filters":[{"Name":"subnet-id","Values":["` + two + `"]}],"Limit":"20","Offset":"0"}`:                 two,
		`{"Filters":[{"Name":"zone","Values":["local-2"]}]}`:                                                    "",
		`{"Filters":[{"Name":"is-default","Values":["false"]},{"Name":"cidr-block","Values":["10.0.1.0/24"]}]}`: one,
		`{"Filters":[{"Name":"route-table-id","Values":["` + mainTable(lb.VPCID(vpc)) + `"]}]}`:                 one + " " + two,
	} {
		var out describeSubnetsOut
		b.must("DescribeSubnets", params, &out)
		var ids []string
		for _, n := range out.SubnetSet {
			ids = append(ids, n.SubnetId)
			if n.EnableBroadcast != (n.SubnetId == two) {
				t.Errorf("broadcast of %s is %v", n.SubnetName, n.EnableBroadcast)
			}
		}
		if got := strings.Join(ids, " "); got != want {
			t.Errorf("%s: %s, want %s", params, got, want)
		}
	}
	b.refused("DescribeSubnets", `{"SubnetIds":["subnet-00000000"]}`, "ResourceNotFound", "SubnetIds.0")
	b.refused("DescribeSubnets", `{"NextToken":"x"}`, "UnsupportedOperation", "NextToken")
	b.refused("ModifySubnetAttribute", `{"SubnetId":"subnet-00000000","SubnetName":"x"}`, "ResourceNotFound", "SubnetId")
	b.refused("ModifySubnetAttribute", fmt.Sprintf(`{"SubnetId":%q,"EnableBroadcast":"x"}`, one), "InvalidParameterValue", "EnableBroadcast")

	b.seed(func(tx *store.Tx) { tx.PutInstance(&lb.Instance{ID: "ins-00000001", Subnet: lb.SubnetID(one)}) })
	b.refused("DeleteSubnet", fmt.Sprintf(`{"SubnetId":%q}`, one), "ResourceInUse", "ins-00000001")
	b.seed(func(tx *store.Tx) { tx.PutBalancer(&lb.LoadBalancer{ID: "lb-00000001", Subnet: lb.SubnetID(two)}) })
	b.refused("DeleteSubnet", fmt.Sprintf(`{"SubnetId":%q}`, two), "ResourceInUse", "lb-00000001")
	b.seed(func(tx *store.Tx) { tx.DeleteInstance("ins-00000001") })
	b.must("DeleteSubnet", fmt.Sprintf(`{"SubnetId":%q}`, one), nil)
	b.refused("DeleteSubnet", fmt.Sprintf(`{"SubnetId":%q}`, one), "ResourceNotFound", one)
}

func TestDescribeRouteTables(t *testing.T) {
	b := newBench(t)
	vpc := b.newVPC("10.0.0.0/16")
	b.newVPC("10.1.0.0/16")
	subnet := b.newSubnet(vpc, "10.0.1.0/24")
	var out describeRouteTablesOut
	b.must("DescribeRouteTables", `{"Filters":[{"Name":"vpc-id","Values":["`+vpc+`"]},{"Name":"association.main","Values":["true"]}],"Offset":"0","Limit":"20"}`, &out)
	if out.TotalCount != 1 || len(out.RouteTableSet) != 1 {
		t.Fatalf("tables %+v", out)
	}
	table := out.RouteTableSet[0]
	if table.VpcId != vpc || !table.Main || table.CreatedTime == "" || len(table.AssociationSet) != 1 || table.AssociationSet[0].SubnetId != subnet ||
		len(table.RouteSet) != 1 || table.RouteSet[0].DestinationCidrBlock != "10.0.0.0/16" || !table.RouteSet[0].Enabled {
		t.Errorf("table %+v", table)
	}
	b.must("DescribeRouteTables", `{"RouteTableIds":["`+table.RouteTableId+`"]}`, &out)
	b.refused("DescribeRouteTables", `{"RouteTableIds":["rtb-00000000"]}`, "ResourceNotFound", "RouteTableIds.0")
	b.refused("DescribeRouteTables", `{"RouteTableIds":["x"]}`, "InvalidParameterValue.Malformed", "RouteTableIds.0")
	b.refused("DescribeRouteTables", `{"Filters":[{"Name":"tag-key","Values":["x"]}]}`, "InvalidParameter.FilterInvalidKey", "tag-key")
}
