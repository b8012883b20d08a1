// SPDX-License-Identifier: Apache-2.0

package cloudapi

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"github.com/sallyport/sallyport/internal/lb"
	"github.com/sallyport/sallyport/internal/store"
)

// A six is a region with one VPC, two subnets of which the first has an IPv6
// range, and an instance in each.
type sixBench struct {
	*bench
	vpc, subnet, bare string
	with, without     *lb.Instance
}

func newSix(t *testing.T, change ...func(*Options)) *sixBench {
	t.Helper()
	b := &sixBench{bench: newBench(t, change...)}
	var vpc createVpcOut
	b.must("CreateVpc", `{"VpcName":"v","CidrBlock":"10.1.0.0/16"}`, &vpc)
	b.vpc = vpc.Vpc.VpcId
	for i, id := range []*string{&b.subnet, &b.bare} {
		var n createSubnetOut
		b.must("CreateSubnet", fmt.Sprintf(`{"VpcId":%q,"SubnetName":"s","CidrBlock":"10.1.%d.0/24","Zone":"local-1"}`, b.vpc, i), &n)
		*id = n.Subnet.SubnetId
	}
	var given assignIpv6CidrBlockOut
	b.must("AssignIpv6CidrBlock", fmt.Sprintf(`{"VpcId":%q}`, b.vpc), &given)
	if given.Ipv6CidrBlock != "2001:db8:200::/56" || given.AddressType != "GUA" {
		t.Fatalf("got %+v", given)
	}
	b.must("AssignIpv6SubnetCidrBlock", b.blocks(b.subnet, "2001:db8:200:7::/64"), nil)
	run := `{"VirtualPrivateCloud":{"VpcId":%q,"SubnetId":%q,"Ipv6AddressCount":%d}}`
	b.with = b.runInstances(fmt.Sprintf(run, b.vpc, b.subnet, 1))[0]
	b.without = b.runInstances(fmt.Sprintf(run, b.vpc, b.subnet, 0))[0]
	return b
}

func (b *sixBench) blocks(subnet, cidr string) string {
	return fmt.Sprintf(`{"VpcId":%q,"Ipv6SubnetCidrBlocks":[{"SubnetId":%q,"Ipv6CidrBlock":%q}]}`, b.vpc, subnet, cidr)
}

// eni is the interface of an instance, in a call with more.
func (b *sixBench) eni(i *lb.Instance, more string) string {
	return fmt.Sprintf(`{"NetworkInterfaceId":%q%s}`, interfaceID(i.ID), more)
}

// balancer makes an IPv6 load balancer and returns what is shown of it.
func (b *sixBench) balancer(params string) loadBalancerOut {
	b.Helper()
	var made createLoadBalancerOut
	b.must("CreateLoadBalancer", params, &made)
	var got describeLoadBalancersOut
	b.must("DescribeLoadBalancers", fmt.Sprintf(`{"LoadBalancerIds":[%q]}`, made.LoadBalancerIds[0]), &got)
	return got.LoadBalancerSet[0]
}

func (b *sixBench) public() string {
	return fmt.Sprintf(`{"LoadBalancerType":"OPEN","AddressIPVersion":"IPv6FullChain","VpcId":%q,"SubnetId":%q`, b.vpc, b.subnet)
}

func TestIPv6Networks(t *testing.T) {
	b := newSix(t)
	var vpcs describeVpcsOut
	b.must("DescribeVpcs", `{"Filters":[{"Name":"ipv6-cidr-block","Values":["2001:db8:200::/56"]}]}`, &vpcs)
	var subnets describeSubnetsOut
	b.must("DescribeSubnets", `{"Filters":[{"Name":"ipv6-cidr-block","Values":["2001:db8:200:7::/64"]}]}`, &subnets)
	if len(vpcs.VpcSet) != 1 || vpcs.VpcSet[0].Ipv6CidrBlock != "2001:db8:200::/56" || len(subnets.SubnetSet) != 1 || subnets.SubnetSet[0].Ipv6CidrBlock != "2001:db8:200:7::/64" {
		t.Errorf("got %+v and %+v", vpcs, subnets)
	}
	// The pool is for two VPCs.
	for i, want := range []string{"2001:db8:200:100::/56", ""} {
		var vpc createVpcOut
		b.must("CreateVpc", `{"VpcName":"w","CidrBlock":"10.2.0.0/16"}`, &vpc)
		params := fmt.Sprintf(`{"VpcId":%q}`, vpc.Vpc.VpcId)
		if want == "" {
			b.refused("AssignIpv6CidrBlock", params, "ResourceInsufficient", "--ipv6-pool")
			continue
		}
		var given assignIpv6CidrBlockOut
		b.must("AssignIpv6CidrBlock", params, &given)
		if given.Ipv6CidrBlock != want {
			t.Errorf("VPC %d got %s", i, given.Ipv6CidrBlock)
		}
		b.must("UnassignIpv6CidrBlock", fmt.Sprintf(`{"VpcId":%q,"Ipv6CidrBlock":%q}`, vpc.Vpc.VpcId, want), nil)
		b.must("AssignIpv6CidrBlock", params, nil)
	}
	one := func(action, cidr string) string { return fmt.Sprintf(`{"VpcId":%q,"Ipv6CidrBlock":%q}`, b.vpc, cidr) }
	b.refusals([]refusal{
		{"AssignIpv6CidrBlock", fmt.Sprintf(`{"VpcId":%q}`, b.vpc), "ResourceInUse", "2001:db8:200::/56"},
		{"AssignIpv6CidrBlock", `{"VpcId":"vpc-00000000"}`, "ResourceNotFound", "vpc-00000000"},
		{"AssignIpv6CidrBlock", `{"VpcId":"v"}`, "InvalidParameterValue.Malformed", "vpc-12345678"},
		{"UnassignIpv6CidrBlock", one("", "2001:db8:200::/56"), "ResourceInUse", b.subnet},
		{"UnassignIpv6CidrBlock", one("", "2001:db8:300::/56"), "InvalidParameterValue", b.vpc},
		{"UnassignIpv6CidrBlock", one("", "10.0.0.0/8"), "InvalidParameterValue.Malformed", "IPv6 CIDR"},
		{"UnassignIpv6CidrBlock", `{"VpcId":"vpc-00000000","Ipv6CidrBlock":"2001:db8::/56"}`, "ResourceNotFound", "vpc-00000000"},
		{"AssignIpv6SubnetCidrBlock", b.blocks(b.subnet, "2001:db8:200:8::/64"), "ResourceInUse", "2001:db8:200:7::/64"},
		{"AssignIpv6SubnetCidrBlock", b.blocks(b.bare, "2001:db8:200:7::/64"), "InvalidParameterValue.SubnetConflict", b.subnet},
		{"AssignIpv6SubnetCidrBlock", b.blocks(b.bare, "2001:db8:300::/64"), "InvalidParameterValue.SubnetRange", "2001:db8:200::/56"},
		{"AssignIpv6SubnetCidrBlock", b.blocks(b.bare, "2001:db8:200::/63"), "InvalidParameterValue.Malformed", "give a /64"},
		{"AssignIpv6SubnetCidrBlock", b.blocks(b.bare, "2001:db8:200::1/64"), "InvalidParameterValue.Malformed", "2001:db8:200::/64?"},
		{"AssignIpv6SubnetCidrBlock", b.blocks("subnet-00000000", "2001:db8:200::/64"), "ResourceNotFound", "subnet-00000000"},
		{"AssignIpv6SubnetCidrBlock", fmt.Sprintf(`{"VpcId":%q,"Ipv6SubnetCidrBlocks":[]}`, b.vpc), "InvalidParameterValue", "Ipv6SubnetCidrBlocks"},
		{"UnassignIpv6SubnetCidrBlock", b.blocks(b.subnet, "2001:db8:200:7::/64"), "ResourceInUse", string(b.with.ID)},
		{"UnassignIpv6SubnetCidrBlock", b.blocks(b.bare, "2001:db8:200:9::/64"), "InvalidParameterValue", b.bare},
		{"UnassignIpv6SubnetCidrBlock", b.blocks(b.bare, "all"), "InvalidParameterValue.Malformed", "IPv6 CIDR"},
		{"UnassignIpv6SubnetCidrBlock", b.blocks("subnet-00000000", "2001:db8:200::/64"), "ResourceNotFound", "subnet-00000000"},
	})
	b.must("UnassignIpv6Addresses", b.eni(b.with, `,"Ipv6Addresses":[{"Address":"2001:db8:200:7::2"}]`), nil)
	b.must("UnassignIpv6SubnetCidrBlock", b.blocks(b.subnet, "2001:db8:200:7::/64"), nil)
	b.must("UnassignIpv6CidrBlock", one("", "2001:db8:200::/56"), nil)
	b.refused("AssignIpv6SubnetCidrBlock", b.blocks(b.bare, "2001:db8:200::/64"), "InvalidParameterValue.SubnetRange", "AssignIpv6CidrBlock")
}

func TestIPv6Addresses(t *testing.T) {
	b := newSix(t)
	shown := func(i *lb.Instance) (list []string) {
		var out describeInstancesOut
		b.must("DescribeInstances", fmt.Sprintf(`{"InstanceIds":[%q]}`, i.ID), &out)
		var nics describeInterfacesOut
		b.must("DescribeNetworkInterfaces", fmt.Sprintf(`{"NetworkInterfaceIds":[%q]}`, interfaceID(i.ID)), &nics)
		for _, a := range nics.NetworkInterfaceSet[0].Ipv6AddressSet {
			list = append(list, a.Address)
		}
		if !slices.Equal(list, out.InstanceSet[0].IPv6Addresses) {
			t.Errorf("the instance has %v, its interface %v", out.InstanceSet[0].IPv6Addresses, list)
		}
		return list
	}
	if got := shown(b.with); !slices.Equal(got, []string{"2001:db8:200:7::2"}) || shown(b.without) != nil {
		t.Errorf("got %v", got)
	}
	var given assignIpv6AddressesOut
	again := b.eni(b.without, `,"Ipv6Addresses":[{"Address":"2001:db8:200:7::77","Primary":true}],"ClientToken":"t"`)
	b.must("AssignIpv6Addresses", again, &given)
	b.must("AssignIpv6Addresses", again, nil) // the same call once more
	if got := shown(b.without); !slices.Equal(got, []string{"2001:db8:200:7::77"}) || given.Ipv6AddressSet[0].Address != got[0] || given.Ipv6AddressSet[0].State != "AVAILABLE" {
		t.Errorf("got %v, %+v", got, given)
	}
	b.must("UnassignIpv6Addresses", b.eni(b.without, `,"Ipv6Addresses":[{"Address":"2001:db8:200:7::77"}]`), nil)
	if got := shown(b.without); got != nil {
		t.Errorf("still %v", got)
	}
	var used vpcIpv6sOut
	b.must("DescribeVpcIpv6Addresses", fmt.Sprintf(`{"VpcId":%q,"Ipv6Addresses":["2001:db8:200:7::2"]}`, b.vpc), &used)
	if used.TotalCount != 1 || used.Ipv6AddressSet[0].Ipv6AddressType != "CVM" || used.Ipv6AddressSet[0].CidrBlock != "2001:db8:200:7::/64" {
		t.Errorf("got %+v", used)
	}
	bare := b.runInstances(fmt.Sprintf(`{"VirtualPrivateCloud":{"VpcId":%q,"SubnetId":%q}}`, b.vpc, b.bare))[0]
	var mine *lb.Instance
	b.seed(func(tx *store.Tx) {
		i := *b.without
		i.ID, i.Private, i.Joined, i.Others = "ins-joined01", netip.MustParseAddr("10.9.9.9"), true, []netip.Addr{netip.MustParseAddr("2001:db8:9::9")}
		tx.PutInstance(&i)
		mine = &i
	})
	if got := shown(mine); !slices.Equal(got, []string{"2001:db8:9::9"}) {
		t.Errorf("a machine that joined has %v", got)
	}
	list := func(a string) string { return fmt.Sprintf(`,"Ipv6Addresses":[{"Address":%q}]`, a) }
	describe := func(more string) string { return fmt.Sprintf(`{"VpcId":%q%s}`, b.vpc, more) }
	b.refusals([]refusal{
		{"AssignIpv6Addresses", b.eni(b.with, `,"Ipv6AddressCount":1`), "LimitExceeded", "at most one"},
		{"AssignIpv6Addresses", b.eni(b.without, `,"Ipv6AddressCount":2`), "LimitExceeded", "at most one"},
		{"AssignIpv6Addresses", b.eni(b.without, ``), "InvalidParameterValue", "Ipv6AddressCount"},
		{"AssignIpv6Addresses", b.eni(b.without, `,"Ipv6AddressCount":1`+list("2001:db8:200:7::5")), "InvalidParameter.Coexist", "Ipv6AddressCount"},
		{"AssignIpv6Addresses", b.eni(b.without, list("2001:db8:200:7::2")), "InvalidParameterValue", "in use"},
		{"AssignIpv6Addresses", b.eni(b.without, list("2001:db8:200:7::1")), "InvalidParameterValue", "gives out"},
		{"AssignIpv6Addresses", b.eni(b.without, list("here")), "InvalidParameterValue.Malformed", "here"},
		{"AssignIpv6Addresses", b.eni(bare, `,"Ipv6AddressCount":1`), "InvalidParameterValue", "AssignIpv6SubnetCidrBlock"},
		{"AssignIpv6Addresses", b.eni(mine, `,"Ipv6AddressCount":1`), "UnsupportedOperation", "machine of your own"},
		{"AssignIpv6Addresses", `{"NetworkInterfaceId":"eni-00000000","Ipv6AddressCount":1}`, "ResourceNotFound", "eni-00000000"},
		{"UnassignIpv6Addresses", b.eni(b.with, list("2001:db8:200:7::3")), "InvalidParameterValue", "2001:db8:200:7::3"},
		{"UnassignIpv6Addresses", b.eni(b.with, list("here")), "InvalidParameterValue.Malformed", "here"},
		{"UnassignIpv6Addresses", b.eni(b.with, `,"Ipv6Addresses":[]`), "InvalidParameterValue", "Ipv6Addresses"},
		{"UnassignIpv6Addresses", b.eni(mine, list("2001:db8:9::9")), "UnsupportedOperation", "machine of your own"},
		{"UnassignIpv6Addresses", `{"NetworkInterfaceId":"eni-00000000","Ipv6Addresses":[]}`, "ResourceNotFound", "eni-00000000"},
		{"DescribeVpcIpv6Addresses", describe(`,"Ipv6Addresses":["10.0.0.1"]`), "InvalidParameterValue.Malformed", "10.0.0.1"},
		{"DescribeVpcIpv6Addresses", describe(`,"Limit":-1`), "InvalidParameterValue.Range", "Limit"},
		{"DescribeVpcIpv6Addresses", `{"VpcId":"vpc-00000000"}`, "ResourceNotFound", "vpc-00000000"},
		{"RunInstances", fmt.Sprintf(`{"VirtualPrivateCloud":{"VpcId":%q,"SubnetId":%q,"Ipv6AddressCount":1}}`, b.vpc, b.bare), "InvalidParameterValue", "AssignIpv6SubnetCidrBlock"},
	})
}

func TestIPv6Balancers(t *testing.T) {
	b := newSix(t)
	got := b.balancer(b.public() + `}`)
	if got.AddressIPVersion != "ipv6" || got.IPv6Mode == nil || *got.IPv6Mode != "IPv6FullChain" || got.AddressIPv6 == nil || *got.AddressIPv6 != "2001:db8:200:7::3" ||
		got.LoadBalancerVips[0] != *got.AddressIPv6 || !got.LoadBalancerPassToTarget || got.SubnetId != b.subnet || got.LoadBalancerType != "OPEN" {
		t.Errorf("got %+v", got)
	}
	private := b.balancer(fmt.Sprintf(`{"LoadBalancerType":"INTERNAL","AddressIPVersion":"IPV6FullChain","VpcId":%q,"SubnetId":%q,"Vip":"2001:db8:200:7::99","LoadBalancerPassToTarget":true}`, b.vpc, b.subnet))
	if private.LoadBalancerVips[0] != "2001:db8:200:7::99" || private.LoadBalancerType != "INTERNAL" {
		t.Errorf("got %+v", private)
	}
	four := b.balancer(fmt.Sprintf(`{"LoadBalancerType":"OPEN","VpcId":%q}`, b.vpc))
	if four.AddressIPVersion != "ipv4" || four.IPv6Mode != nil || four.LoadBalancerPassToTarget {
		t.Errorf("got %+v", four)
	}
	var table describeLoadBalancersDetailOut
	b.must("DescribeLoadBalancersDetail", `{"Fields":["AddressIPVersion","AddressIPv6","IPv6Mode"],"Filters":[{"Name":"vip","Values":["2001:db8:200:7::3"]}]}`, &table)
	if row := table.LoadBalancerDetailSet[0]; *row.AddressIPVersion != "IPv6" || *row.AddressIPv6 != "2001:db8:200:7::3" || *row.IPv6Mode != "IPv6FullChain" {
		t.Errorf("got %+v", row)
	}
	open := func(more string) string {
		return `{"LoadBalancerType":"OPEN","AddressIPVersion":"IPv6FullChain"` + more + `}`
	}
	b.refusals([]refusal{
		{"CreateLoadBalancer", b.public() + `,"LoadBalancerPassToTarget":false}`, "InvalidParameterValue", "LoadBalancerPassToTarget: the traffic of an IPv6 load balancer always passes gate 2"},
		{"CreateLoadBalancer", b.public() + `,"Vip":"2001:db8:200:7::3"}`, "InvalidParameterValue", "in use"},
		{"CreateLoadBalancer", b.public() + `,"Vip":"192.0.2.7"}`, "InvalidParameterValue", "gives out"},
		{"CreateLoadBalancer", open(``), "MissingParameter", "SubnetId"},
		{"CreateLoadBalancer", open(fmt.Sprintf(`,"VpcId":%q,"SubnetId":%q`, b.vpc, b.bare)), "InvalidParameterValue", "AssignIpv6SubnetCidrBlock"},
		{"CreateLoadBalancer", open(fmt.Sprintf(`,"SubnetId":%q`, b.subnet)), "InvalidParameterValue", "has no subnet"},
		{"CreateLoadBalancer", `{"LoadBalancerType":"INTERNAL","AddressIPVersion":"IPv6FullChain"}`, "MissingParameter", "VpcId"},
		{"ModifyLoadBalancerAttributes", fmt.Sprintf(`{"LoadBalancerId":%q,"LoadBalancerPassToTarget":false}`, got.LoadBalancerId), "InvalidParameterValue", "always passes gate 2"},
		{"DeleteSubnet", fmt.Sprintf(`{"SubnetId":%q}`, b.subnet), "ResourceInUse", b.subnet},
	})
	var eip struct{ AddressSet []string }
	b.must("AllocateAddresses", `{}`, &eip)
	b.refused("AssociateAddress", fmt.Sprintf(`{"AddressId":%q,"InstanceId":%q}`, eip.AddressSet[0], private.LoadBalancerId), "UnsupportedOperation", "EIPs are IPv4")
	b.must("CloneLoadBalancer", fmt.Sprintf(`{"LoadBalancerId":%q,"LoadBalancerName":"copy"}`, got.LoadBalancerId), nil)
	for _, x := range b.Store.State().Balancers.All() {
		if x.Name == "copy" && (!x.IPv6() || !x.PassToTarget) {
			t.Errorf("the clone is %+v", x)
		}
	}
	// With IPv6 addresses in the VIP pool a public one needs no subnet.
	pool := newSix(t, func(o *Options) { o.VIPPool = append(o.VIPPool, netip.MustParsePrefix("2001:db8:f::/120")) })
	if got := pool.balancer(open(fmt.Sprintf(`,"VpcId":%q`, pool.vpc))); got.LoadBalancerVips[0] != "2001:db8:f::1" || got.SubnetId != "" {
		t.Errorf("got %+v", got)
	}
	if got := pool.balancer(`{"LoadBalancerType":"OPEN"}`); got.LoadBalancerVips[0] != "192.0.2.1" {
		t.Errorf("got %+v", got)
	}
}

func TestIPv6Targets(t *testing.T) {
	b := newSix(t, func(o *Options) { o.SourceIPType = 1 })
	id := b.balancer(b.public() + `}`).LoadBalancerId
	listen := fmt.Sprintf(`{"LoadBalancerId":%q,"Protocol":"TCP","Ports":[80]`, id)
	var made createListenerOut
	b.must("CreateListener", listen+`}`, &made)
	bind := func(i *lb.Instance) string {
		return fmt.Sprintf(`{"LoadBalancerId":%q,"ListenerId":%q,"Targets":[{"InstanceId":%q,"Port":80}]}`, id, made.ListenerIds[0], i.ID)
	}
	b.must("RegisterTargets", bind(b.with), nil)
	var targets describeTargetsOut
	b.must("DescribeTargets", fmt.Sprintf(`{"LoadBalancerId":%q}`, id), &targets)
	if got := targets.Listeners[0].Targets[0].PrivateIpAddresses; !slices.Equal(got, []string{"2001:db8:200:7::2"}) {
		t.Errorf("the target is at %v", got)
	}
	if check := b.Store.State().Listeners.Get(lb.ListenerID(made.ListenerIds[0])).Check; check.SourceIPType != 0 || check.IntervalTime != 5 {
		t.Errorf("the check is %+v", check)
	}
	modify := func(check string) string {
		return fmt.Sprintf(`{"LoadBalancerId":%q,"ListenerId":%q,"HealthCheck":%s}`, id, made.ListenerIds[0], check)
	}
	b.refusals([]refusal{
		{"RegisterTargets", bind(b.without), "InvalidParameterValue", "AssignIpv6Addresses"},
		{"UnassignIpv6Addresses", b.eni(b.with, `,"Ipv6Addresses":[{"Address":"2001:db8:200:7::2"}]`), "ResourceInUse", made.ListenerIds[0]},
		{"CreateListener", fmt.Sprintf(`{"LoadBalancerId":%q,"Protocol":"TCP","Ports":[81],"HealthCheck":{"IntervalTime":4}}`, id), "InvalidParameterValue.Range", "5-300"},
		{"CreateListener", fmt.Sprintf(`{"LoadBalancerId":%q,"Protocol":"TCP","Ports":[81],"HealthCheck":{"SourceIpType":1}}`, id), "InvalidParameterValue", "SourceIpType"},
	})
	b.must("ModifyListener", modify(`{"IntervalTime":5}`), nil)
	// Explained with a client of its own family alone.
	var way explainPathOut
	b.must("ExplainPath", fmt.Sprintf(`{"LoadBalancerId":%q,"Source":"2001:db8:113::10","Port":80}`, id), &way)
	if !way.Admitted || way.Destination != "[2001:db8:200:7::3]:80" || way.Gates[1].Port != 80 {
		t.Errorf("got %+v", way)
	}
	b.must("ExplainPath", fmt.Sprintf(`{"InstanceId":%q,"Source":"2001:db8:113::10","Port":80}`, b.with.ID), &way)
	if way.Destination != "[2001:db8:200:7::2]:80" {
		t.Errorf("got %+v", way)
	}
	b.refused("ExplainPath", fmt.Sprintf(`{"InstanceId":%q,"Source":"2001:db8:113::10","Port":80}`, b.without.ID), "InvalidParameterValue", "family")
}
