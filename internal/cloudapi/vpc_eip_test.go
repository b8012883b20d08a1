// SPDX-License-Identifier: Apache-2.0

package cloudapi

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/sallyport/sallyport/internal/lb"
)

// allocate makes EIPs and checks the task that clients poll.
func (n *netBench) allocate(params string) []string {
	n.Helper()
	var made struct {
		AddressSet []string
		TaskId     string
	}
	n.must("AllocateAddresses", params, &made)
	n.taskDone(made.TaskId)
	return made.AddressSet
}

func (n *netBench) taskDone(id string) {
	n.Helper()
	var task struct{ Result string }
	n.must("DescribeTaskResult", `{"TaskId":`+id+`}`, &task)
	if task.Result != "SUCCESS" {
		n.Errorf("task %s: %q", id, task.Result)
	}
}

func (n *netBench) eips(params string) []eipOut {
	n.Helper()
	var got struct {
		TotalCount int
		AddressSet []eipOut
	}
	n.must("DescribeAddresses", params, &got)
	if got.AddressSet == nil {
		n.Errorf("%s: AddressSet is null", params)
	}
	return got.AddressSet
}

// An EIP's life, as Terraform drives and polls it.
func TestAddresses(t *testing.T) {
	n := newNet(t)
	const create = `{"AddressCount":2,"AddressName":"front","AddressType":"EIP","InternetServiceProvider":"BGP","InternetChargeType":"TRAFFIC_POSTPAID_BY_HOUR","InternetMaxBandwidthOut":5,"Tags":[{"Key":"k","Value":"v"}],"ClientToken":"once"}`
	ids := n.allocate(create)
	if again := n.allocate(create); len(ids) != 2 || !slices.Equal(ids, again) {
		t.Fatalf("made %v, then %v", ids, again)
	}
	eip := ids[0]
	one := `{"AddressIds":["` + eip + `"]}`
	if a := n.eips(one)[0]; a.AddressStatus != "UNBIND" || a.AddressIp != "192.0.2.65" || a.AddressName != "front" || a.Bandwidth != 5 || a.InstanceId != nil ||
		a.InternetChargeType != "TRAFFIC_POSTPAID_BY_HOUR" || a.TagSet[0] != (Tag{"k", "v"}) || !strings.HasSuffix(a.CreatedTime, "Z") {
		t.Errorf("got %+v", a)
	}
	clb := n.private()
	var task struct{ TaskId string }
	n.must("AssociateAddress", `{"AddressId":"`+eip+`","InstanceId":"`+clb+`"}`, &task)
	n.taskDone(task.TaskId)
	if a := n.eips(one)[0]; a.AddressStatus != "BIND" || *a.InstanceId != clb || *a.InstanceType != "CLB" || *a.PrivateAddressIp != "10.20.1.2" {
		t.Errorf("got %+v", a)
	}
	if b := n.balancer(clb); b.EIP != netip.MustParseAddr("192.0.2.65") || len(b.VIPs) != 1 {
		t.Errorf("got %+v", b)
	}
	for params, want := range map[string]int{
		`{}`: 2, `{"Limit":1}`: 1, `{"AddressIds":["eip-none0000"]}`: 0,
		`{"Filters":[{"Name":"instance-id","Values":["` + clb + `"]}]}`:           1,
		`{"Filters":[{"Name":"instance-id","Values":["ins-00000000"]}]}`:          0,
		`{"Filters":[{"Name":"address-status","Values":["UNBIND"]}]}`:             1,
		`{"Filters":[{"Name":"address-ip","Values":["192.0.2.66"]}]}`:             1,
		`{"Filters":[{"Name":"address-name","Values":["front"]}]}`:                2,
		`{"Filters":[{"Name":"address-type","Values":["WanIP"]}]}`:                0,
		`{"Filters":[{"Name":"private-ip-address","Values":["10.20.1.2"]}]}`:      1,
		`{"Filters":[{"Name":"tag:k","Values":["v"]}]}`:                           2,
		`{"Filters":[{"Name":"tag-value","Values":["w"]}]}`:                       0,
		`{"Filters":[{"Name":"is-arrears","Values":["FALSE"]}]}`:                  2,
		`{"Filters":[{"Name":"address-id","Values":["` + eip + `"]}],"Offset":0}`: 1,
	} {
		if got := n.eips(n.q(params)); len(got) != want {
			t.Errorf("%s lists %d, want %d", params, len(got), want)
		}
	}
	n.must("ModifyAddressAttribute", `{"AddressId":"`+eip+`","AddressName":"back"}`, nil)
	n.must("ModifyAddressesBandwidth", `{"AddressIds":["`+eip+`"],"InternetMaxBandwidthOut":9}`, nil)
	n.must("ModifyAddressInternetChargeType", `{"AddressId":"`+eip+`","InternetChargeType":"BANDWIDTH_POSTPAID_BY_HOUR","InternetMaxBandwidthOut":8}`, nil)
	if a := n.eips(one)[0]; a.AddressName != "back" || a.Bandwidth != 8 || a.InternetChargeType != "BANDWIDTH_POSTPAID_BY_HOUR" {
		t.Errorf("got %+v", a)
	}
	n.refuseAddresses(eip, ids[1], clb)
	n.must("DisassociateAddress", `{"AddressId":"`+eip+`"}`, &task)
	n.taskDone(task.TaskId)
	if a, b := n.eips(one)[0], n.balancer(clb); a.AddressStatus != "UNBIND" || b.EIP.IsValid() {
		t.Errorf("got %+v of %+v", a, b)
	}
	n.refused("DisassociateAddress", `{"AddressId":"`+eip+`"}`, "UnsupportedOperation.AddressStatusNotPermit", "bound to nothing")
	n.must("ReleaseAddresses", one, &task)
	n.taskDone(task.TaskId)
	if left := n.eips(`{}`); len(left) != 1 {
		t.Errorf("left: %+v", left)
	}
	// A load balancer frees its EIP with its own end, and may be born with one.
	var made struct{ LoadBalancerIds []string }
	n.must("CreateLoadBalancer", n.q(`{"LoadBalancerType":"INTERNAL","VpcId":"$vpc","SubnetId":"$subnet","EipAddressId":"`+ids[1]+`"}`), &made)
	if a := n.eips(`{}`)[0]; a.AddressStatus != "BIND" {
		t.Errorf("got %+v", a)
	}
	n.must("DeleteLoadBalancer", `{"LoadBalancerIds":["`+made.LoadBalancerIds[0]+`"]}`, nil)
	if a := n.eips(`{}`)[0]; a.AddressStatus != "UNBIND" {
		t.Errorf("got %+v", a)
	}
	var quota struct{ QuotaSet []addressQuotaOut }
	if n.must("DescribeAddressQuota", `{}`, &quota); quota.QuotaSet[0].QuotaCurrent != 1 {
		t.Errorf("got %+v", quota)
	}
	n.must("DescribeBandwidthPackages", `{"Filters":[{"Name":"resource.resource-id","Values":["`+eip+`"]}]}`, nil)
}

// refuseAddresses asks for what is refused while eip is bound to clb and free
// is not bound.
func (n *netBench) refuseAddresses(eip, free, clb string) {
	n.Helper()
	var open struct{ LoadBalancerIds []string }
	n.must("CreateLoadBalancer", `{"LoadBalancerType":"OPEN"}`, &open)
	classic := n.imported(`{"LoadBalancerType":"INTERNAL","Forward":0,"VpcId":"$vpc","SubnetId":"$subnet"}`)
	other := n.private()
	bind := func(eip, to string) string { return `{"AddressId":"` + eip + `","InstanceId":"` + to + `"}` }
	n.refusals([]refusal{
		{"AllocateAddresses", `{"AddressCount":0}`, "InvalidParameterValue.Range", "AddressCount"},
		{"AllocateAddresses", `{"AddressCount":21}`, "InvalidParameterValue.Range", "AddressCount"},
		{"AllocateAddresses", `{"AddressCount":19}`, "AddressQuotaLimitExceeded", "AddressCount"},
		{"AllocateAddresses", `{"AddressName":"` + strings.Repeat("n", 21) + `"}`, "InvalidParameterValue.TooLong", "AddressName"},
		{"AllocateAddresses", `{"ClientToken":"` + strings.Repeat("n", 65) + `"}`, "InvalidParameterValue.TooLong", "ClientToken"},
		{"AllocateAddresses", `{"AddressType":"AnycastEIP"}`, "UnsupportedOperation", "AnycastEIP"},
		{"AllocateAddresses", `{"Egress":"e"}`, "UnsupportedOperation", "Egress"},
		{"AllocateAddresses", `{"Tags":[{"Key":"k"},{"Key":"k"}]}`, "InvalidParameterValue.Duplicate", "Tags"},
		{"DescribeAddresses", `{"AddressIds":["x"]}`, "InvalidParameterValue.AddressIdMalformed", "AddressIds.0"},
		{"DescribeAddresses", `{"AddressIds":["` + eip + `"],"Filters":[{"Name":"address-id","Values":["x"]}]}`, "InvalidParameter.Coexist", "AddressIds"},
		{"DescribeAddresses", `{"Filters":[{"Name":"colour","Values":["red"]}]}`, "InvalidParameter.InvalidFilter", "colour"},
		{"DescribeAddresses", `{"Limit":101}`, "InvalidParameterValue.Range", "Limit"},
		{"AssociateAddress", `{"AddressId":"` + eip + `"}`, "MissingParameter", "InstanceId"},
		{"AssociateAddress", bind("x", clb), "InvalidParameterValue.AddressIdMalformed", "AddressId"},
		{"AssociateAddress", bind("eip-none0000", clb), "InvalidAddressId.NotFound", "eip-none0000"},
		{"AssociateAddress", bind(free, "lb-none0000"), "InvalidInstanceId.NotFound", "lb-none0000"},
		{"AssociateAddress", bind(free, "ins-12345678"), "UnsupportedOperation", "InstanceId"},
		{"AssociateAddress", bind(free, clb), "InvalidInstanceId.AlreadyBindEip", clb},
		{"AssociateAddress", bind(free, open.LoadBalancerIds[0]), "InvalidParameterValue.InstanceHasWanIP", "is public"},
		{"AssociateAddress", bind(free, classic), "UnsupportedOperation", "classic"},
		{"AssociateAddress", bind(eip, other), "UnsupportedOperation.AddressStatusNotPermit", clb},
		{"AssociateAddress", `{"AddressId":"` + free + `","NetworkInterfaceId":"eni-1"}`, "UnsupportedOperation", "NetworkInterfaceId"},
		{"DisassociateAddress", `{"AddressId":"x"}`, "InvalidParameterValue.AddressIdMalformed", "AddressId"},
		{"DisassociateAddress", `{"AddressId":"eip-none0000"}`, "InvalidAddressId.NotFound", "AddressId"},
		{"ReleaseAddresses", `{"AddressIds":[]}`, "InvalidParameterValue", "0 ids"},
		{"ReleaseAddresses", `{"AddressIds":["` + free + `","x"]}`, "InvalidParameterValue.AddressIdMalformed", "AddressIds.1"},
		{"ReleaseAddresses", `{"AddressIds":["` + free + `","eip-none0000"]}`, "InvalidAddressId.NotFound", "AddressIds.1"},
		{"ReleaseAddresses", `{"AddressIds":["` + eip + `"]}`, "UnsupportedOperation.AddressStatusNotPermit", clb},
		{"ModifyAddressAttribute", `{"AddressId":"` + eip + `"}`, "MissingParameter", "AddressName"},
		{"ModifyAddressAttribute", `{"AddressId":"` + eip + `","AddressName":"` + strings.Repeat("n", 21) + `"}`, "InvalidParameterValue.TooLong", "AddressName"},
		{"ModifyAddressAttribute", `{"AddressId":"x","AddressName":"n"}`, "InvalidParameterValue.AddressIdMalformed", "AddressId"},
		{"ModifyAddressAttribute", `{"AddressId":"eip-none0000","AddressName":"n"}`, "InvalidAddressId.NotFound", "AddressId"},
		{"ModifyAddressesBandwidth", `{"AddressIds":[],"InternetMaxBandwidthOut":1}`, "InvalidParameterValue", "0 ids"},
		{"ModifyAddressesBandwidth", `{"AddressIds":["x"],"InternetMaxBandwidthOut":1}`, "InvalidParameterValue.AddressIdMalformed", "AddressIds.0"},
		{"ModifyAddressesBandwidth", `{"AddressIds":["eip-none0000"],"InternetMaxBandwidthOut":1}`, "InvalidAddressId.NotFound", "AddressIds.0"},
		{"ModifyAddressInternetChargeType", `{"AddressId":"x","InternetChargeType":"t","InternetMaxBandwidthOut":1}`, "InvalidParameterValue.AddressIdMalformed", "AddressId"},
		{"ModifyAddressInternetChargeType", `{"AddressId":"eip-none0000","InternetChargeType":"t","InternetMaxBandwidthOut":1}`, "InvalidAddressId.NotFound", "AddressId"},
		{"DescribeTaskResult", `{}`, "MissingParameter", "TaskId"},
		{"DescribeTaskResult", `{"TaskId":0}`, "InvalidParameterValue", "TaskId"},
		{"CreateLoadBalancer", n.q(`{"LoadBalancerType":"INTERNAL","VpcId":"$other","SubnetId":"$far","EipAddressId":"` + eip + `"}`), "UnsupportedOperation.AddressStatusNotPermit", "EipAddressId"},
		{"CreateLoadBalancer", `{"LoadBalancerType":"OPEN","EipAddressId":"` + free + `"}`, "InvalidParameterValue.InstanceHasWanIP", "is public"},
	})
	n.must("DeleteLoadBalancer", fmt.Sprintf(`{"LoadBalancerIds":[%q,%q,%q]}`, open.LoadBalancerIds[0], classic, other), nil)
}

// Instances and EIPs share one pool, and an address has one owner.
func TestAddressesAreNotGivenOutTwice(t *testing.T) {
	n := newNet(t, func(o *Options) { o.EIPPool = []netip.Prefix{netip.MustParsePrefix("192.0.2.64/30")} })
	n.allocate(`{}`)
	n.must("ImportInstances", `{"PublicIpAssigned":true}`, nil)
	n.refused("AllocateAddresses", `{}`, "ResourceInsufficient", "public pool")
	seen := map[netip.Addr]bool{}
	for _, a := range n.Store.State().Addresses.All() {
		seen[a.IP] = true
	}
	for _, i := range n.Store.State().Instances.All() {
		if seen[i.Public] {
			t.Errorf("%v has two owners", i.Public)
		}
	}
	if b := (&lb.LoadBalancer{}); len(b.Addresses()) != 0 {
		t.Error("a load balancer without VIP has addresses")
	}
}
