// SPDX-License-Identifier: Apache-2.0

package cloudapi

import (
	"net/netip"

	"github.com/sallyport/sallyport/internal/lb"
)

// vpcIPv6 gives a VPC the IPv6 range of its document in place of the one it has.
// A document without one leaves what there is, as with every address.
func (a *applier) vpcIPv6(path, id, have, want string) error {
	if have != "" {
		if _, err := unassignIpv6CidrBlock(a.sub(nil), &unassignIpv6CidrBlockIn{VpcId: id, Ipv6CidrBlock: have}); err != nil {
			return at(path, "", err)
		}
	}
	_, err := a.sub(nil).giveVPC6(a.tx, id, want)
	return at(path, "", err)
}

// subnetIPv6 is vpcIPv6 for a subnet.
func (a *applier) subnetIPv6(path, network, id, have, want string) error {
	in := func(text string) *subnetCidrs6In {
		return &subnetCidrs6In{VpcId: network, Ipv6SubnetCidrBlocks: []subnetCidr6In{{SubnetId: id, Ipv6CidrBlock: text}}}
	}
	if have != "" {
		if _, err := unassignIpv6SubnetCidrBlock(a.sub(nil), in(have)); err != nil {
			return at(path, "Ipv6SubnetCidrBlocks.0.", err)
		}
	}
	_, err := assignIpv6SubnetCidrBlock(a.sub(nil), &assignSubnetCidrs6In{subnetCidrs6In: *in(want)})
	return at(path, "Ipv6SubnetCidrBlocks.0.", err)
}

// ipv6Address is vpcIPv6 for an instance and its address.
func (a *applier) ipv6Address(path string, id lb.InstanceID, want string) error {
	i := *a.st().Instances.Get(id)
	i.IPv6 = netip.Addr{}
	if l := servedBySix(a.st(), id); l != nil {
		return refuse(lb.InUse, path+"Ipv6Address", string(id)+" is a target of "+string(l.ID)+", by its IPv6 address", "unbind it first")
	}
	if err := giveIPv6(a.st(), &i, "Ipv6Address", want); err != nil {
		return at(path, "", err)
	}
	a.tx.PutInstance(&i)
	return a.sub(nil).checkMembers(a.tx, i.Groups)
}
