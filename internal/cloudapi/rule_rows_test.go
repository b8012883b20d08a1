// SPDX-License-Identifier: Apache-2.0

package cloudapi

import (
	"fmt"
	"testing"
)

// What calls about rules and their targets say of listeners and rules that are
// not there, and of listeners that have none.
func TestRulesThatAreNotThere(t *testing.T) {
	b := newBench(t)
	var made struct{ LoadBalancerIds []string }
	b.must("CreateLoadBalancer", `{"LoadBalancerType":"OPEN"}`, &made)
	lb := made.LoadBalancerIds[0]
	var http, tcp struct{ ListenerIds []string }
	b.must("CreateListener", fmt.Sprintf(`{"LoadBalancerId":%q,"Protocol":"HTTP","Ports":[80]}`, lb), &http)
	b.must("CreateListener", fmt.Sprintf(`{"LoadBalancerId":%q,"Protocol":"TCP","Ports":[81]}`, lb), &tcp)
	at := func(listener, rest string) string {
		return fmt.Sprintf(`{"LoadBalancerId":%q,"ListenerId":%q,%s}`, lb, listener, rest)
	}
	const target = `"LocationId":"loc-00000000","Targets":[{"InstanceId":"ins-a","Port":80}]`
	for _, row := range [][4]string{
		{"CreateRule", at("lbl-00000000", `"Rules":[{"Domain":"a.example","Url":"/"}]`), "InvalidParameter.ListenerIdNotFound", "ListenerId"},
		{"DeleteRule", at("lbl-00000000", `"LocationIds":["loc-00000000"]`), "InvalidParameter.ListenerIdNotFound", "ListenerId"},
		{"DeleteRule", at(tcp.ListenerIds[0], `"LocationIds":["loc-00000000"]`), "InvalidParameter.ProtocolCheckFailed", "ListenerId"},
		{"DeregisterTargets", at(http.ListenerIds[0], target), "InvalidParameter.LocationNotFound", "LocationId"},
		{"ModifyTargetWeight", at(http.ListenerIds[0], target+`,"Weight":5`), "InvalidParameter.LocationNotFound", "LocationId"},
	} {
		b.refused(row[0], row[1], row[2], row[3])
	}
	var vpc struct{ Vpc struct{ VpcId string } }
	b.must("CreateVpc", `{"VpcName":"v","CidrBlock":"192.168.0.0/16"}`, &vpc)
	b.refused("CreateSubnet", fmt.Sprintf(`{"VpcId":%q,"SubnetName":"s","CidrBlock":"192.168.1.1/24","Zone":"local-1"}`, vpc.Vpc.VpcId), "InvalidParameterValue.Malformed", "CidrBlock")
}
