// SPDX-License-Identifier: Apache-2.0

package cloudapi

import (
	"fmt"
	"strings"
	"testing"
)

// What is stored without effect has values too, and numbers mean what they say.
func TestRefusalsOfValues(t *testing.T) {
	b := newBench(t)
	ins := b.runInstances(`{"InstanceName":"web"}`)[0]
	var vpc struct{ Vpc struct{ VpcId string } }
	b.must("CreateVpc", `{"VpcName":"v","CidrBlock":"10.20.0.0/16"}`, &vpc)
	groups := make([]string, 6)
	for i := range groups {
		groups[i] = b.wideGroup(i, 1)
	}
	open := func(text string) string { return `{"LoadBalancerType":"OPEN",` + text + `}` }
	duplicate := `{"Action":"ACCEPT","Protocol":"TCP","Port":"80","CidrBlock":"10.0.0.0/8"}`
	b.refusals([]refusal{
		{"CreateLoadBalancer", open(`"Forward":0`), "UnsupportedOperation", "Forward: 0, a classic load balancer"},
		{"CreateLoadBalancer", open(`"ProjectId":-3`), "InvalidParameterValue.Range", "ProjectId: -3"},
		{"CreateLoadBalancer", open(`"LBChargeType":"zonk"`), "InvalidParameterValue", "LBChargeType"},
		{"CreateLoadBalancer", open(`"InternetAccessible":{"InternetChargeType":"zonk"}`), "InvalidParameterValue", "InternetAccessible.InternetChargeType"},
		{"CreateLoadBalancer", open(`"InternetAccessible":{"InternetMaxBandwidthOut":-5}`), "InvalidParameterValue.Range", "InternetAccessible.InternetMaxBandwidthOut"},
		{"RunInstances", `{"InstanceChargeType":"zonk"}`, "InvalidParameterValue", "InstanceChargeType"},
		{"RunInstances", `{"SystemDisk":{"DiskType":"zonk"}}`, "InvalidParameterValue", "SystemDisk.DiskType"},
		{"RunInstances", `{"SystemDisk":{"DiskSize":-1}}`, "InvalidParameterValue", "SystemDisk.DiskSize"},
		{"AllocateAddresses", `{"InternetChargeType":"zonk"}`, "InvalidParameterValue", "InternetChargeType"},
		{"AllocateAddresses", `{"InternetMaxBandwidthOut":-1}`, "InvalidParameterValue.BandwidthOutOfRange", "InternetMaxBandwidthOut"},
		{"CreateVpc", `{"VpcName":"w","CidrBlock":"10.30.0.0/16","DnsServers":["10.0.0.2","zonk"]}`, "InvalidParameterValue.Malformed", "DnsServers.1"},
		{"ModifyVpcAttribute", fmt.Sprintf(`{"VpcId":%q,"DnsServers":["zonk"]}`, vpc.Vpc.VpcId), "InvalidParameterValue.Malformed", "DnsServers.0"},
		{"ApplyConfiguration", `{"LoadBalancers":[{"LoadBalancerName":"x","LBChargeType":"zonk"}]}`, "InvalidParameterValue", "LBChargeType"},
		{"ApplyConfiguration", `{"Vpcs":[{"VpcName":"x","CidrBlock":"10.9.0.0/16","DnsServers":["zonk"]}]}`, "InvalidParameterValue", "DnsServers.0"},
		{"ApplyConfiguration", `{"SecurityGroups":[{"GroupName":"x","Ingress":[` + duplicate + `,` + duplicate + `]}]}`, "UnsupportedOperation.DuplicatePolicy", "Ingress"},
		{"ModifyInstancesAttribute", fmt.Sprintf(`{"InstanceIds":[%q],"InstanceName":""}`, ins.ID), "MissingParameter", "nothing to change"},
		{"ModifyInstancesAttribute", fmt.Sprintf(`{"InstanceIds":[%q],"SecurityGroups":[%s]}`, ins.ID, `"`+strings.Join(groups, `","`)+`"`), "LimitExceeded.AssociateUSGLimitExceeded", "leave some out"},
		{"CreateTargetGroup", `{"Port":1,"Type":"v2","Protocol":"TCP","HealthCheck":{"HealthSwitch":true,"Timeout":31,"GapTime":60}}`, "InvalidParameterValue.Range", "HealthCheck.Timeout: 31 is outside 2-30"},
		{"DeleteVpc", `{"VpcId":"zonk"}`, "InvalidParameterValue.Malformed", "VpcId"},
		{"DescribeSubnets", `{"Filters":[{"Name":"zonk","Values":["x"]}]}`, "InvalidParameter.FilterInvalidKey", "zonk"},
		{"DescribeLoadBalancers", `{"Filters":[` + strings.TrimSuffix(strings.Repeat(`{"Name":"vpc-id","Values":["x"]},`, 11), ",") + `]}`, "InvalidParameterValue.Length", "Filters"},
		{"CreateServiceTemplate", `{"ServiceTemplateName":"w","Services":["tcp:70000"]}`, "InvalidParameterValue.Range", "Services.0"},
	})
	lbID := b.openBalancer()
	b.refused("CreateListener", fmt.Sprintf(`{"LoadBalancerId":%q,"Ports":[80],"Protocol":"TCP","HealthCheck":{"CheckPort":0}}`, lbID), "InvalidParameterValue.Range", "HealthCheck.CheckPort: 0 is no port")
	b.Quotas.Groups = 6
	b.refused("ApplyConfiguration", `{"SecurityGroups":[{"GroupName":"x"}]}`, "LimitExceeded", "security groups")
	b.must("ModifyLoadBalancerAttributes", fmt.Sprintf(`{"LoadBalancerId":%q,"DeleteProtect":true}`, lbID), nil)
	b.refused("DeleteLoadBalancer", fmt.Sprintf(`{"LoadBalancerIds":[%q]}`, lbID), "FailedOperation", "LoadBalancerIds.0: ")
}

// A query has parameters where a body has headers.
func TestNamelessCall(t *testing.T) {
	s := &Server{}
	for _, q := range []struct {
		request
		want string
	}{{request{}, "the parameter Action"}, {request{action: "DescribeVpcs"}, "the parameter Version"}} {
		if _, err := s.find(&q.request); code(err) != "MissingParameter" || !strings.Contains(err.Error(), q.want) {
			t.Errorf("got %v, want %q", err, q.want)
		}
	}
}
