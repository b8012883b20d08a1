// SPDX-License-Identifier: Apache-2.0

package cloudapi

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sallyport/sallyport/internal/lb"
)

func vpcAddressActions() []Action {
	return []Action{
		action(serviceVPC, "DescribeUsedIpAddress", describeUsedIPAddress).fails("InvalidParameter.Coexist", "InvalidParameterValue.Malformed", "InvalidParameterValue.ParameterMismatch", "InvalidParameterValue.Range", "ResourceNotFound"),
		action(serviceVPC, "DescribeVpcPrivateIpAddresses", describeVpcPrivateIPAddresses).fails("InvalidParameterValue.Malformed", "ResourceNotFound"),
	}
}

// A usedAddress is a private address that somebody has.
type usedAddress struct {
	addr     netip.Addr
	subnet   *lb.Subnet // nil when none contains it
	kind, id string     // CVM or CLB
	created  time.Time
}

// usedInVPC lists the private addresses in use in a VPC, in order:
// instances' and private load balancers'.
func usedInVPC(st *lb.State, vpc lb.VPCID) []usedAddress {
	var all []usedAddress
	for _, i := range st.Instances.All() {
		if i.VPC == vpc && i.Private.IsValid() {
			all = append(all, usedAddress{i.Private, st.Subnets.Get(i.Subnet), "CVM", string(i.ID), i.Created})
		}
		if i.VPC == vpc && i.IPv6.IsValid() {
			all = append(all, usedAddress{i.IPv6, st.Subnets.Get(i.Subnet), "CVM", string(i.ID), i.Created})
		}
	}
	for _, b := range st.Balancers.All() {
		if b.VPC != vpc || b.Subnet == "" { // its VIP is of the pool
			continue
		}
		for _, vip := range b.VIPs {
			all = append(all, usedAddress{vip, st.Subnets.Get(b.Subnet), "CLB", string(b.ID), b.Created})
		}
	}
	slices.SortFunc(all, func(a, b usedAddress) int { return a.addr.Compare(b.addr) })
	return all
}

type usedIPAddressIn struct {
	VpcId       string   `tc:"required"`
	SubnetId    string   `tc:""`
	IpAddresses []string `tc:"items=100"`
	Filters     []Filter `tc:"" filters:"ip-addresses resource-id"`
	Paging
}

type ipAddressStateOut struct{ VpcId, SubnetId, IpAddress, ResourceType, ResourceId string }

type usedIPAddressOut struct {
	IpAddressStates []ipAddressStateOut
	TotalCount      int
}

// describeUsedIPAddress lists which private addresses of a VPC are in use and
// by whom.
func describeUsedIPAddress(c *Call, in *usedIPAddressIn) (*usedIPAddressOut, error) {
	st := c.State()
	v, err := findVPC(st, "VpcId", in.VpcId)
	if err != nil {
		return nil, err
	}
	ranges := v.Ranges()
	if in.SubnetId != "" {
		n, err := findSubnet(st, "SubnetId", in.SubnetId)
		if err != nil {
			return nil, err
		}
		if n.VPC != v.ID {
			return nil, errorf("InvalidParameterValue.ParameterMismatch", "SubnetId: %s is in %s, not in %s; give that VPC or leave one of them out", n.ID, n.VPC, v.ID)
		}
		ranges = []netip.Prefix{n.Cidr}
	}
	if len(in.IpAddresses) > 0 && len(in.Filters) > 0 {
		return nil, refuse(lb.Coexist, "Filters", "they are given together with IpAddresses", "give one of them")
	}
	asked, err := addressesWithin("IpAddresses", in.IpAddresses, ranges)
	if err != nil {
		return nil, err
	}
	var found []ipAddressStateOut
	for _, u := range usedInVPC(st, v.ID) {
		out := ipAddressStateOut{VpcId: in.VpcId, IpAddress: u.addr.String(), ResourceType: u.kind, ResourceId: u.id}
		if u.subnet != nil {
			out.SubnetId = string(u.subnet.ID)
		}
		if (in.SubnetId == "" || in.SubnetId == out.SubnetId) && (len(asked) == 0 || slices.Contains(asked, u.addr)) {
			found = append(found, out)
		}
	}
	found, err = filter(found, in.Filters, map[string]func(ipAddressStateOut) []string{
		"ip-addresses": func(s ipAddressStateOut) []string { return []string{s.IpAddress} },
		"resource-id":  func(s ipAddressStateOut) []string { return []string{s.ResourceId} },
	}, nil)
	if err != nil {
		return nil, err
	}
	out := &usedIPAddressOut{TotalCount: len(found)}
	out.IpAddressStates = page(found, in.Paging)
	return out, nil
}

// addressesWithin reads addresses, each of which lies in one of the ranges.
func addressesWithin(field string, texts []string, ranges []netip.Prefix) ([]netip.Addr, error) {
	var all []netip.Addr
	for i, text := range texts {
		at := field + "." + strconv.Itoa(i)
		a, err := netip.ParseAddr(text)
		if err != nil {
			return nil, refuse(lb.Malformed, at, strconv.Quote(clip(text, 60))+" is not an address", `write "10.0.0.7"`)
		}
		if !slices.ContainsFunc(ranges, func(p netip.Prefix) bool { return p.Contains(a) }) {
			return nil, errorf("InvalidParameterValue.ParameterMismatch", "%s: %v is outside of %s; ask for addresses within", at, a, joined(ranges))
		}
		all = append(all, a)
	}
	return all, nil
}

func joined(ranges []netip.Prefix) string {
	texts := make([]string, len(ranges))
	for i, p := range ranges {
		texts[i] = p.String()
	}
	return strings.Join(texts, ", ")
}

type vpcPrivateIPIn struct {
	VpcId              string   `tc:"required"`
	PrivateIpAddresses []string `tc:"required,items=100"`
}

type vpcPrivateIPOut struct{ PrivateIpAddress, CidrBlock, PrivateIpAddressType, CreatedTime string }

type vpcPrivateIPsOut struct{ VpcPrivateIpAddressSet []vpcPrivateIPOut }

// describeVpcPrivateIPAddresses tells of those of the addresses asked for that
// are in use. Type GATEWAY is a subnet's router, which is never given out.
func describeVpcPrivateIPAddresses(c *Call, in *vpcPrivateIPIn) (*vpcPrivateIPsOut, error) {
	st := c.State()
	v, err := findVPC(st, "VpcId", in.VpcId)
	if err != nil {
		return nil, err
	}
	var asked []netip.Addr
	for i, text := range in.PrivateIpAddresses {
		a, err := netip.ParseAddr(text)
		if err != nil {
			return nil, refuse(lb.Malformed, fmt.Sprintf("PrivateIpAddresses.%d", i), strconv.Quote(clip(text, 60))+" is not an address", `write "10.0.0.7"`)
		}
		asked = append(asked, a)
	}
	used := usedInVPC(st, v.ID)
	for _, id := range st.Subnets.Sorted() {
		if n := st.Subnets.Get(id); n.VPC == v.ID {
			used = append(used, usedAddress{n.Cidr.Addr().Next(), n, "GATEWAY", string(id), n.Created})
		}
	}
	out := &vpcPrivateIPsOut{}
	for _, a := range asked {
		at := slices.IndexFunc(used, func(u usedAddress) bool { return u.addr == a })
		if at < 0 {
			continue
		}
		one := vpcPrivateIPOut{PrivateIpAddress: a.String(), PrivateIpAddressType: used[at].kind, CreatedTime: stamp(used[at].created)}
		if used[at].subnet != nil {
			one.CidrBlock = used[at].subnet.Cidr.String()
		}
		out.VpcPrivateIpAddressSet = append(out.VpcPrivateIpAddressSet, one)
	}
	return out, nil
}
