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

func ipv6AddressActions() []Action {
	return []Action{
		action(serviceVPC, "AssignIpv6Addresses", assignIpv6Addresses).
			fails("InvalidParameter.Coexist", "InvalidParameterValue", "InvalidParameterValue.Malformed", "LimitExceeded", "ResourceNotFound", "UnsupportedOperation").
			like(`{"NetworkInterfaceId":"eni-1a2b3c4d","Ipv6AddressCount":1}`),
		action(serviceVPC, "UnassignIpv6Addresses", unassignIpv6Addresses).fails("InvalidParameterValue", "InvalidParameterValue.Malformed", "ResourceInUse", "ResourceNotFound", "UnsupportedOperation"),
		action(serviceVPC, "DescribeVpcIpv6Addresses", describeVpcIpv6Addresses).fails("InvalidParameterValue.Malformed", "InvalidParameterValue.Range", "ResourceNotFound"),
	}
}

type ipv6AddressIn struct {
	Address     string   `tc:"required"`
	Primary     bool     `tc:""` // the only one is the primary one
	AddressType string   `tc:"only=GUA"`
	_           struct{} `unserved:"AddressId Description IsWanIpBlocked State PublicIpAddress"`
}

// ipv6AddressOut is an IPv6 address of an interface; State is the one that it
// has from the moment it was assigned.
type ipv6AddressOut struct {
	Address, AddressId, Description string
	Primary, IsWanIpBlocked         bool
	State                           string
}

func ipv6AddressesOut(i *lb.Instance) []ipv6AddressOut {
	if a := i.OwnIPv6(); a.IsValid() {
		return []ipv6AddressOut{{Address: a.String(), Primary: true, State: "AVAILABLE"}}
	}
	return nil
}

// ipv6Texts are all IPv6 addresses of an instance.
func ipv6Texts(i *lb.Instance) []string {
	var all []string
	for _, a := range i.Addresses() {
		if a.Is6() {
			all = append(all, a.String())
		}
	}
	return all
}

type assignIpv6AddressesIn struct {
	NetworkInterfaceId string          `tc:"required"`
	Ipv6Addresses      []ipv6AddressIn `tc:"items=10"`
	Ipv6AddressCount   *int64          `tc:""`
	ClientToken        string          `tc:"len=64"`
}

type assignIpv6AddressesOut struct{ Ipv6AddressSet []ipv6AddressOut }

// assignIpv6Addresses gives an instance its IPv6 address: the wanted one of its
// subnet, or a free one.
func assignIpv6Addresses(c *Call, in *assignIpv6AddressesIn) (*assignIpv6AddressesOut, error) {
	asked := int64(len(in.Ipv6Addresses))
	if in.Ipv6AddressCount != nil && *in.Ipv6AddressCount != 0 {
		if asked > 0 {
			return nil, refuse(lb.Coexist, "Ipv6AddressCount", "Ipv6Addresses names addresses already", "give one of the two")
		}
		asked = *in.Ipv6AddressCount
	}
	if asked < 1 {
		return nil, refuse(lb.Invalid, "Ipv6AddressCount", "no address is asked for", "give 1, or name an address in Ipv6Addresses")
	}
	out := &assignIpv6AddressesOut{}
	return out, c.Update(func(tx *store.Tx) error {
		_, err := c.once(tx, in.ClientToken, in, func() ([]string, error) {
			old, err := findInterface(tx.State(), "NetworkInterfaceId", in.NetworkInterfaceId)
			if err != nil {
				return nil, err
			}
			if asked > 1 || old.IPv6.IsValid() {
				return nil, refuse(lb.LimitExceeded, "NetworkInterfaceId", fmt.Sprintf("%s would have more than one IPv6 address", old.ID), "an instance has at most one; ask for 1, or UnassignIpv6Addresses first")
			}
			wanted := ""
			if len(in.Ipv6Addresses) > 0 {
				wanted = in.Ipv6Addresses[0].Address
			}
			i := *old
			if err := giveIPv6(tx.State(), &i, "Ipv6Addresses.0.Address", wanted); err != nil {
				return nil, err
			}
			tx.PutInstance(&i)
			return []string{in.NetworkInterfaceId}, c.checkMembers(tx, i.Groups)
		})
		if i, found := findInterface(tx.State(), "NetworkInterfaceId", in.NetworkInterfaceId); err == nil && found == nil {
			out.Ipv6AddressSet = ipv6AddressesOut(i)
		}
		return err
	})
}

// giveIPv6 gives an instance, which the caller puts, an address of its subnet's
// IPv6 range.
func giveIPv6(st *lb.State, i *lb.Instance, field, wanted string) error {
	if i.Joined {
		return refuse(lb.Unsupported, "NetworkInterfaceId", fmt.Sprintf("%s is a machine of your own, which has the addresses that it says", i.ID), "give the address to the machine, and join again")
	}
	n := st.Subnets.Get(i.Subnet)
	if n == nil || !n.Cidr6.IsValid() {
		return refuse(lb.Invalid, field, fmt.Sprintf("the subnet of %s has no IPv6 range", i.ID), "AssignIpv6SubnetCidrBlock gives it one")
	}
	var err error
	i.IPv6, err = newAddressPlan(st, six(n)).private(field, wanted)
	return err
}

// six is a subnet with its IPv6 range in place of the other, for handing out
// addresses.
func six(n *lb.Subnet) *lb.Subnet {
	c := *n
	c.Cidr = n.Cidr6
	return &c
}

type unassignIpv6AddressesIn struct {
	NetworkInterfaceId string          `tc:"required"`
	Ipv6Addresses      []ipv6AddressIn `tc:"required,items=10"`
}

// unassignIpv6Addresses takes an instance's IPv6 address away, when no IPv6
// load balancer sends it anything.
func unassignIpv6Addresses(c *Call, in *unassignIpv6AddressesIn) (*done, error) {
	return &done{}, c.Update(func(tx *store.Tx) error {
		old, err := findInterface(tx.State(), "NetworkInterfaceId", in.NetworkInterfaceId)
		switch {
		case err != nil:
			return err
		case old.Joined:
			return refuse(lb.Unsupported, "NetworkInterfaceId", fmt.Sprintf("%s is a machine of your own, which has the addresses that it says", old.ID), "take the address off the machine")
		case len(in.Ipv6Addresses) == 0:
			return refuse(lb.Invalid, "Ipv6Addresses", "no address is named", "DescribeNetworkInterfaces shows the one there is")
		}
		for k, given := range in.Ipv6Addresses {
			field := fmt.Sprintf("Ipv6Addresses.%d.Address", k)
			a, err := netip.ParseAddr(given.Address)
			switch {
			case err != nil:
				return refuse(lb.Malformed, field, strconv.Quote(clip(given.Address, 60))+" is not an address", `write "2001:db8::7"`)
			case a != old.IPv6:
				return refuse(lb.Invalid, field, fmt.Sprintf("%v is not an address of %s", a, in.NetworkInterfaceId), "DescribeNetworkInterfaces shows the one there is")
			}
		}
		if l := servedBySix(tx.State(), old.ID); l != nil {
			return refuse(lb.InUse, "Ipv6Addresses", fmt.Sprintf("%s is a target of %s of IPv6 load balancer %s", old.ID, l.ID, l.Balancer), "DeregisterTargets first")
		}
		i := *old
		i.IPv6 = netip.Addr{}
		tx.PutInstance(&i)
		return nil
	})
}

// servedBySix finds a listener of an IPv6 load balancer that has the instance
// among its targets; nil: there is none.
func servedBySix(st *lb.State, id lb.InstanceID) *lb.Listener {
	for _, key := range st.Listeners.Sorted() {
		l := st.Listeners.Get(key)
		if b := st.Balancers.Get(l.Balancer); b != nil && b.IPv6() && slices.ContainsFunc(allTargets(l), func(t lb.Target) bool { return t.Instance == id }) {
			return l
		}
	}
	return nil
}

// allTargets are a listener's and those of its rules.
func allTargets(l *lb.Listener) []lb.Target {
	all := slices.Clone(l.Targets)
	for _, r := range l.Rules {
		all = append(all, r.Targets...)
	}
	return all
}

type describeVpcIpv6In struct {
	VpcId         string   `tc:"required"`
	SubnetId      string   `tc:""`
	Ipv6Addresses []string `tc:"items=10"`
	Paging
}

type vpcIpv6Out struct{ Ipv6Address, CidrBlock, Ipv6AddressType, CreatedTime string }

type vpcIpv6sOut struct {
	Ipv6AddressSet []vpcIpv6Out
	TotalCount     int
}

// describeVpcIpv6Addresses lists the IPv6 addresses in use in a VPC.
func describeVpcIpv6Addresses(c *Call, in *describeVpcIpv6In) (*vpcIpv6sOut, error) {
	st := c.State()
	v, err := findVPC(st, "VpcId", in.VpcId)
	if err != nil {
		return nil, err
	}
	if in.SubnetId != "" {
		if _, err := findSubnet(st, "SubnetId", in.SubnetId); err != nil {
			return nil, err
		}
	}
	var asked []netip.Addr
	for i, text := range in.Ipv6Addresses {
		a, err := netip.ParseAddr(text)
		if err != nil || !a.Is6() {
			return nil, refuse(lb.Malformed, fmt.Sprintf("Ipv6Addresses.%d", i), strconv.Quote(clip(text, 60))+" is not an IPv6 address", `write "2001:db8::7"`)
		}
		asked = append(asked, a)
	}
	var found []vpcIpv6Out
	for _, u := range usedInVPC(st, v.ID) {
		if !u.addr.Is6() || in.SubnetId != "" && (u.subnet == nil || string(u.subnet.ID) != in.SubnetId) || len(asked) > 0 && !slices.Contains(asked, u.addr) {
			continue
		}
		one := vpcIpv6Out{Ipv6Address: u.addr.String(), Ipv6AddressType: u.kind, CreatedTime: stamp(u.created)}
		if u.subnet != nil {
			one.CidrBlock = cidr6Text(u.subnet.Cidr6)
		}
		found = append(found, one)
	}
	out := &vpcIpv6sOut{TotalCount: len(found)}
	out.Ipv6AddressSet = page(found, in.Paging)
	return out, nil
}
