// SPDX-License-Identifier: Apache-2.0

package cloudapi

import (
	"fmt"
	"strings"
	"testing"
)

// What a value cannot be is refused, and does not find nothing.
func TestValuesThatDescribeNothing(t *testing.T) {
	s := newSite(t)
	filtered := func(name, value string) string {
		return fmt.Sprintf(`{"Filters":[{"Name":%q,"Values":[%q]}]}`, name, value)
	}
	s.refusals([]refusal{
		{"DescribeLoadBalancers", `{"LoadBalancerType":"FOO"}`, "InvalidParameterValue", "LoadBalancerType"},
		{"DescribeLoadBalancers", `{"LoadBalancerType":"open"}`, "InvalidParameterValue", "it is one of OPEN, INTERNAL"},
		{"DescribeListeners", s.q(`{"LoadBalancerId":"$lb","Protocol":"FOO"}`), "InvalidParameterValue", "Protocol"},
		{"DescribeTargets", s.q(`{"LoadBalancerId":"$lb","Protocol":"http"}`), "InvalidParameterValue", "Protocol"},
		{"DescribeLoadBalancers", filtered("internet-charge-type", "FOO"), "InvalidParameterValue.InvalidFilter", "TRAFFIC_POSTPAID_BY_HOUR"},
		{"DescribeLoadBalancers", filtered("vip-isp", "FOO"), "InvalidParameterValue.InvalidFilter", "CMCC"},
		{"DescribeResources", filtered("isp", "FOO"), "InvalidParameterValue.InvalidFilter", "CMCC"},
	})
	var got describeListenersOut // a protocol that there is, of which no listener can be made
	if s.must("DescribeListeners", s.q(`{"LoadBalancerId":"$lb","Protocol":"QUIC"}`), &got); len(got.Listeners) != 0 {
		t.Errorf("%+v", got)
	}
}

// The filters that Terraform's data sources send of subnets and VPCs.
func TestFiltersOfNetworks(t *testing.T) {
	b := newBench(t)
	var vpc struct{ Vpc vpcOut }
	b.must("CreateVpc", `{"VpcName":"v","CidrBlock":"10.20.0.0/16"}`, &vpc)
	four := b.subnetOf(vpc.Vpc.VpcId, "10.20.1.0/24")
	six := b.subnetOf(vpc.Vpc.VpcId, "10.20.2.0/24")
	b.must("AssignIpv6CidrBlock", fmt.Sprintf(`{"VpcId":%q}`, vpc.Vpc.VpcId), nil)
	var vpcs describeVpcsOut
	b.must("DescribeVpcs", `{}`, &vpcs)
	b.must("AssignIpv6SubnetCidrBlock", fmt.Sprintf(`{"VpcId":%q,"Ipv6SubnetCidrBlocks":[{"SubnetId":%q,"Ipv6CidrBlock":%q}]}`,
		vpc.Vpc.VpcId, six, strings.Replace(vpcs.VpcSet[0].Ipv6CidrBlock, "/56", "/64", 1)), nil)
	both := four + " " + six
	for _, tc := range []struct{ filter, value, want string }{
		{"is-remote-vpc-snat", "true", ""}, {"is-remote-vpc-snat", "false", both}, {"cdc-id", "cluster-1a2b3c4d", ""},
		{"is-cdc-subnet", "1", ""}, {"is-cdc-subnet", "0", both}, {"is-cdc-subnet", "true", ""}, {"is-cdc-subnet", "false", both},
		{"isp-type", "BGP", six}, {"isp-type", "CMCC", ""}, {"address-type", "GUA", six}, {"address-type", "ULA", ""},
	} {
		var got describeSubnetsOut
		b.must("DescribeSubnets", fmt.Sprintf(`{"Filters":[{"Name":%q,"Values":[%q]}]}`, tc.filter, tc.value), &got)
		var ids []string
		for _, n := range got.SubnetSet {
			ids = append(ids, n.SubnetId)
		}
		if text := strings.Join(ids, " "); text != tc.want || got.TotalCount != len(ids) {
			t.Errorf("%s %s: %q, want %q", tc.filter, tc.value, text, tc.want)
		}
	}
	for filter, want := range map[string]int{`"isp-type","Values":["BGP"]`: 1, `"isp-type","Values":["CUCC"]`: 0, `"address-type","Values":["GUA"]`: 1} {
		if b.must("DescribeVpcs", `{"Filters":[{"Name":`+filter+`}]}`, &vpcs); vpcs.TotalCount != want {
			t.Errorf("%s: %d VPCs, want %d", filter, vpcs.TotalCount, want)
		}
	}
	b.refused("DescribeSubnets", `{"Filters":[{"Name":"is-remote-vpc-snat","Values":["perhaps"]}]}`, "InvalidParameterValue.Malformed", "true, false")
	b.refused("DescribeSubnets", `{"Filters":[{"Name":"is-cdc-subnet","Values":["2"]}]}`, "InvalidParameterValue.Malformed", "is-cdc-subnet")
	b.refused("DescribeSubnets", `{"Filters":[{"Name":"isp-type","Values":["FOO"]}]}`, "InvalidParameterValue.Malformed", "CMCC")
}

func (b *bench) subnetOf(vpc, cidr string) string {
	b.Helper()
	var made createSubnetOut
	b.must("CreateSubnet", fmt.Sprintf(`{"VpcId":%q,"SubnetName":"n","CidrBlock":%q,"Zone":"local-1"}`, vpc, cidr), &made)
	return made.Subnet.SubnetId
}
