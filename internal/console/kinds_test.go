// SPDX-License-Identifier: Apache-2.0

package console

import (
	"strings"
	"testing"

	"github.com/sallyport/sallyport/internal/lb"
)

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

// Every kind of load balancer that the API makes can be made here, and every
// kind that there is shows what it is.
func TestKindsOfLoadBalancers(t *testing.T) {
	d := newDesk(t)
	d.build()
	d.login()
	var nets struct {
		SubnetSet []struct{ VpcId, SubnetId, CidrBlock string }
	}
	d.do(vpcVersion, "DescribeSubnets", m{}, &nets)
	n := nets.SubnetSet[0]
	var eips struct{ AddressSet []string }
	d.do(vpcVersion, "AllocateAddresses", m{"AddressCount": 2}, &eips)

	d.open("clb/new", 200)
	d.says(`value="` + n.VpcId + `" selected`)
	before := d.api.Store.State().Revision
	for _, tt := range []struct{ field, want, subnet, vip string }{
		{"e-SubnetId", "comes from a subnet", "", ""},
		{"e-SubnetId", "has no subnet", "subnet-00000000", ""},
		{"e-Vip", "is not an address", n.SubnetId, "ten"},
		{"e-Vip", "192.0.2.9", n.SubnetId, "192.0.2.9"},
	} {
		d.fill("clb/new", 422, "LoadBalancerType", "INTERNAL", "LoadBalancerName", "inside", "VpcId", n.VpcId, "SubnetId", tt.subnet, "Vip", tt.vip, "EipAddressId", eips.AddressSet[0])
		d.faultSays(tt.field, tt.want)
		d.says(`value="INTERNAL" checked`)
		d.says(`value="inside"`)
		d.says(`value="` + eips.AddressSet[0] + `" selected`)
		if tt.subnet == n.SubnetId {
			d.says(`value="` + n.SubnetId + `" selected`)
			d.says(`value="` + tt.vip + `"`)
		}
	}
	d.fill("clb/new", 422, "LoadBalancerType", "OPEN", "LoadBalancerName", "outside", "VpcId", n.VpcId, "SubnetId", n.SubnetId)
	d.faultSays("e-SubnetId", "not from a subnet")
	d.fill("clb/new", 422, "LoadBalancerType", "INTERNAL", "VpcId", n.VpcId, "SubnetId", n.SubnetId, "EipAddressId", "eip-00000000")
	d.faultSays("e-EipAddressId", "there is no EIP")
	if d.api.Store.State().Revision != before {
		t.Error("a refusal changed the state")
	}

	d.fill("clb/new", 200, "LoadBalancerType", "INTERNAL", "LoadBalancerName", "inside", "VpcId", n.VpcId, "SubnetId", n.SubnetId, "Vip", "10.200.0.77", "EipAddressId", eips.AddressSet[0])
	d.says("every client is allowed at gate 1")
	inside := d.balancerNamed("inside")
	if inside.Type != lb.Internal || inside.VIPs[0].String() != "10.200.0.77" || !inside.EIP.IsValid() {
		t.Fatalf("made is %+v", inside)
	}
	base := "clb/" + string(inside.ID)
	d.open(base, 200)
	for _, text := range []string{"<dd>private</dd>", n.VpcId + " " + n.SubnetId, inside.EIP.String(), eips.AddressSet[0], "none: every client is allowed"} {
		d.says(text)
	}
	d.open("clb", 200)
	d.says(inside.EIP.String())
	d.open(base+"/eip/unbind", 200)
	d.fill(base+"/eip/unbind", 200, "AddressId", eips.AddressSet[0])
	d.says("none: every client of its network is allowed")
	d.open(base+"/eip/unbind", 404)
	d.open(base+"/eip", 200)
	d.fill(base+"/eip", 422, "AddressId", "eip-00000000")
	d.faultSays("e-AddressId", "there is no EIP")
	d.fill(base+"/eip", 200, "AddressId", eips.AddressSet[1])
	d.says(eips.AddressSet[1])

	for name, in := range map[string]m{
		"basic":   {"LoadBalancerType": "INTERNAL", "Network": "BASIC"},
		"classic": {"LoadBalancerType": "INTERNAL", "Forward": 0, "VpcId": n.VpcId, "SubnetId": n.SubnetId},
	} {
		in["LoadBalancerName"] = name
		d.do(ourVersion, "ImportLoadBalancer", in, nil)
	}
	d.open("clb", 200)
	d.says("private classic")
	d.says("basic network")
	d.open("clb/"+string(d.balancerNamed("basic").ID), 200)
	d.says("<dd>basic network</dd>")
	d.saysNot("<dt>EIP</dt>")
	d.open("clb/"+string(d.balancerNamed("classic").ID), 200)
	d.says("<dd>private classic</dd>")
}

func (d *desk) balancerNamed(name string) *lb.LoadBalancer {
	d.Helper()
	for _, b := range d.api.Store.State().Balancers.All() {
		if b.Name == name {
			return b
		}
	}
	d.Fatalf("there is no load balancer %s", name)
	return nil
}

// faultSays checks the fault beside a field.
func (d *desk) faultSays(id, want string) {
	d.Helper()
	_, rest, ok := strings.Cut(d.page, `class="fault" id="`+id+`">`)
	fault, _, _ := strings.Cut(rest, "</p>")
	if !ok || !strings.Contains(fault, want) {
		d.Errorf("the field %s says %q, want %q", id, fault, want)
	}
}
