// SPDX-License-Identifier: Apache-2.0

package cloudapi

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"

	"github.com/sallyport/sallyport/internal/lb"
	"github.com/sallyport/sallyport/internal/store"
)

// The sizes of IPv6 ranges: a VPC has one, each of its subnets may have a part.
const (
	vpcBits6    = 56
	subnetBits6 = 64
)

func ipv6Actions() []Action {
	return append(ipv6AddressActions(),
		action(serviceVPC, "AssignIpv6CidrBlock", assignIpv6CidrBlock).fails("InvalidParameterValue.Malformed", "ResourceInUse", "ResourceNotFound"),
		action(serviceVPC, "UnassignIpv6CidrBlock", unassignIpv6CidrBlock).fails("InvalidParameterValue", "InvalidParameterValue.Malformed", "ResourceInUse", "ResourceNotFound"),
		action(serviceVPC, "AssignIpv6SubnetCidrBlock", assignIpv6SubnetCidrBlock).fails("InvalidParameterValue", "InvalidParameterValue.Malformed", "InvalidParameterValue.SubnetRange", "InvalidParameterValue.SubnetConflict", "ResourceInUse", "ResourceNotFound"),
		action(serviceVPC, "UnassignIpv6SubnetCidrBlock", unassignIpv6SubnetCidrBlock).fails("InvalidParameterValue", "InvalidParameterValue.Malformed", "ResourceInUse", "ResourceNotFound"),
	)
}

// cidr6Text is how a range is shown; "" says that there is none.
func cidr6Text(p netip.Prefix) string {
	if !p.IsValid() {
		return ""
	}
	return p.String()
}

// freePrefix is the lowest range of that size in the pool which overlaps none
// that is taken.
func freePrefix(pool []netip.Prefix, bits int, taken []netip.Prefix) (netip.Prefix, bool) {
	for _, from := range pool {
		if !from.Addr().Is6() || from.Bits() > bits {
			continue
		}
		for p := netip.PrefixFrom(from.Masked().Addr(), bits); from.Contains(p.Addr()); {
			if !slices.ContainsFunc(taken, p.Overlaps) {
				return p, true
			}
			next, ok := nextPrefix(p)
			if !ok {
				break
			}
			p = next
		}
	}
	return netip.Prefix{}, false
}

// nextPrefix is the range of the same size behind p; false at the end of all
// addresses.
func nextPrefix(p netip.Prefix) (netip.Prefix, bool) {
	raw := p.Addr().As16()
	for bit := p.Bits() - 1; bit >= 0; bit-- {
		mask := byte(0x80) >> (bit % 8)
		raw[bit/8] ^= mask
		if raw[bit/8]&mask != 0 { // no carry
			return netip.PrefixFrom(netip.AddrFrom16(raw), p.Bits()), true
		}
	}
	return netip.Prefix{}, false
}

type assignIpv6CidrBlockIn struct {
	VpcId       string `tc:"required"`
	AddressType string `tc:"only=GUA"`
}

type assignIpv6CidrBlockOut struct{ Ipv6CidrBlock, AddressType string }

// assignIpv6CidrBlock gives a VPC a free /56 of the server's --ipv6-pool.
func assignIpv6CidrBlock(c *Call, in *assignIpv6CidrBlockIn) (*assignIpv6CidrBlockOut, error) {
	out := &assignIpv6CidrBlockOut{AddressType: "GUA"}
	return out, c.Update(func(tx *store.Tx) error {
		p, err := c.giveVPC6(tx, in.VpcId, "")
		out.Ipv6CidrBlock = cidr6Text(p)
		return err
	})
}

// giveVPC6 gives a VPC an IPv6 range of the pool: the wanted one, or a free one.
func (c *Call) giveVPC6(tx *store.Tx, id, wanted string) (netip.Prefix, error) {
	old, err := findVPC(tx.State(), "VpcId", id)
	if err != nil {
		return netip.Prefix{}, err
	}
	if old.Cidr6.IsValid() {
		return old.Cidr6, refuse(lb.InUse, "VpcId", fmt.Sprintf("%s has the IPv6 range %v", id, old.Cidr6), "UnassignIpv6CidrBlock takes it away")
	}
	taken := slices.DeleteFunc(slices.Clone(c.VIPPool), func(p netip.Prefix) bool { return !p.Addr().Is6() })
	for _, v := range tx.State().VPCs.All() {
		if v.Cidr6.IsValid() {
			taken = append(taken, v.Cidr6)
		}
	}
	v := *old
	if wanted == "" {
		var ok bool
		if v.Cidr6, ok = freePrefix(c.IPv6Pool, vpcBits6, taken); !ok {
			return v.Cidr6, errorf("ResourceInsufficient", "VpcId: no free /%d is left for VPCs; start the server with a (larger) --ipv6-pool", vpcBits6)
		}
	} else if v.Cidr6, err = c.wantedVPC6(wanted, taken); err != nil {
		return v.Cidr6, err
	}
	tx.PutVPC(&v)
	return v.Cidr6, nil
}

func (c *Call) wantedVPC6(text string, taken []netip.Prefix) (netip.Prefix, error) {
	p, err := cidr6("Ipv6CidrBlock", text, vpcBits6)
	switch {
	case err != nil:
		return p, err
	case !slices.ContainsFunc(c.IPv6Pool, func(from netip.Prefix) bool { return within(p, from) }):
		return p, refuse(lb.Invalid, "Ipv6CidrBlock", text+" is not in the server's --ipv6-pool", "leave it out, and AssignIpv6CidrBlock chooses one")
	case slices.ContainsFunc(taken, p.Overlaps):
		return p, refuse(lb.Invalid, "Ipv6CidrBlock", text+" is in use", "leave it out, and AssignIpv6CidrBlock chooses one")
	}
	return p, nil
}

// cidr6 reads an IPv6 range of a size.
func cidr6(field, text string, bits int) (netip.Prefix, error) {
	p, err := netip.ParsePrefix(text)
	switch {
	case err != nil || !p.Addr().Is6() || p.Addr().Is4In6():
		return netip.Prefix{}, refuse(lb.Malformed, field, strconv.Quote(clip(text, 60))+" is not an IPv6 CIDR", fmt.Sprintf(`write "2001:db8:0:1::/%d"`, bits))
	case p.Bits() != bits:
		return netip.Prefix{}, refuse(lb.Malformed, field, fmt.Sprintf("%s is a /%d", text, p.Bits()), fmt.Sprintf("give a /%d", bits))
	case p != p.Masked():
		return netip.Prefix{}, refuse(lb.Malformed, field, text+" has host bits set", fmt.Sprintf("did you mean %v?", p.Masked()))
	}
	return p, nil
}

type unassignIpv6CidrBlockIn struct {
	VpcId         string `tc:"required"`
	Ipv6CidrBlock string `tc:""`
}

// unassignIpv6CidrBlock takes a VPC's IPv6 range away, when no subnet has a
// part of it.
func unassignIpv6CidrBlock(c *Call, in *unassignIpv6CidrBlockIn) (*done, error) {
	return &done{}, c.Update(func(tx *store.Tx) error {
		old, err := findVPC(tx.State(), "VpcId", in.VpcId)
		if err != nil {
			return err
		}
		if err := sameCidr6("Ipv6CidrBlock", in.Ipv6CidrBlock, vpcBits6, string(old.ID), old.Cidr6); err != nil {
			return err
		}
		for _, id := range tx.State().Subnets.Sorted() {
			if n := tx.State().Subnets.Get(id); n.VPC == old.ID && n.Cidr6.IsValid() {
				return refuse(lb.InUse, "VpcId", fmt.Sprintf("subnet %s has %v", id, n.Cidr6), "UnassignIpv6SubnetCidrBlock first")
			}
		}
		v := *old
		v.Cidr6 = netip.Prefix{}
		tx.PutVPC(&v)
		return nil
	})
}

// sameCidr6 refuses a range that is not the one that the object has; "" is that.
func sameCidr6(field, text string, bits int, id string, have netip.Prefix) error {
	if text == "" && have.IsValid() {
		return nil
	}
	p, err := cidr6(field, text, bits)
	if err == nil && p != have {
		return refuse(lb.Invalid, field, fmt.Sprintf("%v is not the IPv6 range of %s", p, id), "DescribeVpcs and DescribeSubnets show what each has")
	}
	return err
}

type subnetCidr6In struct {
	SubnetId      string `tc:"required"`
	Ipv6CidrBlock string `tc:""` // a free one, or the one it has
}

type subnetCidrs6In struct {
	VpcId                string          `tc:"required"`
	Ipv6SubnetCidrBlocks []subnetCidr6In `tc:"required,items=100"`
}

type assignSubnetCidrs6In struct {
	subnetCidrs6In
	ClientToken string `tc:"len=64"`
}

type subnetCidr6Out struct{ SubnetId, Ipv6CidrBlock string }

type subnetCidrs6Out struct{ Ipv6SubnetCidrBlockSet []subnetCidr6Out }

// each runs fn on every subnet named, which is one of the VPC's, and stores
// what fn makes of it.
func (in *subnetCidrs6In) each(tx *store.Tx, fn func(v *lb.VPC, n *lb.Subnet, field, wanted string) error) error {
	if len(in.Ipv6SubnetCidrBlocks) == 0 {
		return refuse(lb.Invalid, "Ipv6SubnetCidrBlocks", "no subnet is named", "give at least one")
	}
	v, err := findVPC(tx.State(), "VpcId", in.VpcId)
	if err != nil {
		return err
	}
	for i, one := range in.Ipv6SubnetCidrBlocks {
		field := fmt.Sprintf("Ipv6SubnetCidrBlocks.%d.", i)
		old, err := findSubnet(tx.State(), field+"SubnetId", one.SubnetId)
		if err != nil {
			return err
		}
		if old.VPC != v.ID {
			return refuse(lb.NotFound, field+"SubnetId", fmt.Sprintf("%s belongs to %s, not to %s", old.ID, old.VPC, v.ID), "name the subnet's own VPC")
		}
		n := *old
		if err := fn(v, &n, field, one.Ipv6CidrBlock); err != nil {
			return err
		}
		tx.PutSubnet(&n)
	}
	return nil
}

// assignIpv6SubnetCidrBlock gives subnets /64 parts of their VPC's IPv6 range:
// those that are wanted, or free ones.
func assignIpv6SubnetCidrBlock(c *Call, in *assignSubnetCidrs6In) (*subnetCidrs6Out, error) {
	out := &subnetCidrs6Out{}
	return out, c.Update(func(tx *store.Tx) error {
		given, err := c.once(tx, in.ClientToken, in, func() (given []string, err error) {
			err = in.each(tx, func(v *lb.VPC, n *lb.Subnet, field, wanted string) error {
				err := giveSubnet6(tx.State(), v, n, field, wanted)
				given = append(given, n.Cidr6.String())
				return err
			})
			return given, err
		})
		out.Ipv6SubnetCidrBlockSet = nil
		for i, text := range given {
			out.Ipv6SubnetCidrBlockSet = append(out.Ipv6SubnetCidrBlockSet, subnetCidr6Out{in.Ipv6SubnetCidrBlocks[i].SubnetId, text})
		}
		return err
	})
}

// giveSubnet6 gives a subnet, which the caller puts, a part of its VPC's IPv6
// range: the wanted one, or a free one.
func giveSubnet6(st *lb.State, v *lb.VPC, n *lb.Subnet, field, wanted string) error {
	switch {
	case n.Cidr6.IsValid():
		return refuse(lb.InUse, field+"SubnetId", fmt.Sprintf("%s has the IPv6 range %v", n.ID, n.Cidr6), "UnassignIpv6SubnetCidrBlock takes it away")
	case !v.Cidr6.IsValid():
		return errorf("InvalidParameterValue.SubnetRange", "%sIpv6CidrBlock: %s has no IPv6 range; AssignIpv6CidrBlock gives it one", field, v.ID)
	}
	var taken []netip.Prefix
	for _, id := range st.Subnets.Sorted() {
		if other := st.Subnets.Get(id); other.Cidr6.IsValid() {
			taken = append(taken, other.Cidr6)
			if wanted != "" && other.Cidr6.String() == wanted { // two /64 overlap only when they are the same
				return errorf("InvalidParameterValue.SubnetConflict", "%sIpv6CidrBlock: subnet %s has %s; choose a range that is free", field, id, wanted)
			}
		}
	}
	if wanted == "" {
		var ok bool
		if n.Cidr6, ok = freePrefix([]netip.Prefix{v.Cidr6}, subnetBits6, taken); !ok {
			return errorf("InvalidParameterValue.SubnetConflict", "%sIpv6CidrBlock: every part of %v is in use; UnassignIpv6SubnetCidrBlock frees one", field, v.Cidr6)
		}
		return nil
	}
	p, err := cidr6(field+"Ipv6CidrBlock", wanted, subnetBits6)
	if err == nil && !within(p, v.Cidr6) {
		err = errorf("InvalidParameterValue.SubnetRange", "%sIpv6CidrBlock: %v is not within the VPC's %v; choose a part of it", field, p, v.Cidr6)
	}
	n.Cidr6 = p
	return err
}

// unassignIpv6SubnetCidrBlock takes the IPv6 ranges of subnets away of which no
// address is in use.
func unassignIpv6SubnetCidrBlock(c *Call, in *subnetCidrs6In) (*done, error) {
	return &done{}, c.Update(func(tx *store.Tx) error {
		return in.each(tx, func(_ *lb.VPC, n *lb.Subnet, field, given string) error {
			if err := sameCidr6(field+"Ipv6CidrBlock", given, subnetBits6, string(n.ID), n.Cidr6); err != nil {
				return err
			}
			for _, u := range usedInVPC(tx.State(), n.VPC) {
				if n.Cidr6.Contains(u.addr) {
					return refuse(lb.InUse, field+"SubnetId", fmt.Sprintf("%s has the address %v", u.id, u.addr), "take the address away first")
				}
			}
			n.Cidr6 = netip.Prefix{}
			return nil
		})
	})
}
