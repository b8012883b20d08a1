// SPDX-License-Identifier: Apache-2.0

package console

import "testing"

// The preview of an object's gate begins with the system rules that it has, in
// the direction that is shown.
func TestPreviewShowsSystemRules(t *testing.T) {
	d := newDesk(t)
	w := d.build()
	d.login()
	var subnets struct {
		SubnetSet []struct{ VpcId, SubnetId string }
	}
	d.do(vpcVersion, "DescribeSubnets", m{}, &subnets)
	var made struct{ LoadBalancerIds []string }
	d.do(clbVersion, "CreateLoadBalancer", m{"LoadBalancerType": "INTERNAL", "VpcId": subnets.SubnetSet[0].VpcId, "SubnetId": subnets.SubnetSet[0].SubnetId}, &made)

	d.open("clb/"+made.LoadBalancerIds[0]+"/security", 200)
	d.says("System rules")
	d.says("the network of this private load balancer")
	d.says("everything else is allowed here")
	d.says("every client of its network and every listener port is allowed")
	d.open("clb/"+made.LoadBalancerIds[0], 200)
	d.says("every client of its network is allowed at gate 1")
	d.open("clb/"+w.balancer+"/security", 200)
	d.saysNot("System rules")
	d.open("cvm/"+w.ins1+"/security", 200)
	d.says("the tunnel from a known gateway")
	d.open("cvm/"+w.ins1+"/security?dir=out", 200)
	d.says("address resolution")
	d.saysNot("the tunnel from a known gateway")
}
