// SPDX-License-Identifier: Apache-2.0

package cloudapi

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/sallyport/sallyport/internal/lb"
	"github.com/sallyport/sallyport/internal/store"
)

func vpcSubnetActions() []Action {
	return append(routeActions(),
		action(serviceVPC, "CreateSubnet", createSubnet).fails("InvalidParameterValue", "InvalidParameterValue.Malformed", "InvalidParameterValue.Range", "InvalidParameterValue.SubnetConflict", "InvalidParameterValue.SubnetRange", "ResourceNotFound"),
		action(serviceVPC, "DescribeSubnets", describeSubnets).fails("ResourceNotFound"),
		action(serviceVPC, "ModifySubnetAttribute", modifySubnetAttribute).fails("InvalidParameterValue", "ResourceNotFound"),
		action(serviceVPC, "DeleteSubnet", deleteSubnet).fails("ResourceInUse", "ResourceNotFound"),
	)
}

type subnetOut struct {
	VpcId                   string
	SubnetId                string
	SubnetName              string
	CidrBlock               string
	Ipv6CidrBlock           string
	IsDefault               bool
	EnableBroadcast         bool
	Zone                    string
	RouteTableId            string
	NetworkAclId            string
	CdcId                   string
	CreatedTime             string
	AvailableIpAddressCount int
	TotalIpAddressCount     int
	TagSet                  []Tag
}

func subnetToOut(st *lb.State, n *lb.Subnet) subnetOut {
	broadcast, err := flag("", echoed(n.Echo, "EnableBroadcast", ""))
	total := 1<<(32-n.Cidr.Bits()) - 3 // without network, router and broadcast
	used := 0
	for a := range usedAddresses(st) {
		if n.Cidr.Contains(a) {
			used++
		}
	}
	return subnetOut{
		VpcId: string(n.VPC), SubnetId: string(n.ID), SubnetName: n.Name, CidrBlock: n.Cidr.String(), Ipv6CidrBlock: cidr6Text(n.Cidr6), IsDefault: n.IsDefault,
		EnableBroadcast: broadcast && err == nil, Zone: n.Zone, RouteTableId: mainTable(n.VPC), CreatedTime: stamp(n.Created),
		TotalIpAddressCount: total, AvailableIpAddressCount: max(0, total-used), TagSet: tagsOut(n.Tags),
	}
}

// ispsOf is who brings an IPv6 range, if there is one.
func ispsOf(cidr6 netip.Prefix) []string {
	if !cidr6.IsValid() {
		return nil
	}
	return []string{"BGP"}
}

// addressTypes is of which kind an IPv6 range is, if there is one: global, or
// of one site.
func addressTypes(cidr6 netip.Prefix) []string {
	switch {
	case !cidr6.IsValid():
		return nil
	case cidr6.Addr().IsPrivate():
		return []string{"ULA"}
	}
	return []string{"GUA"}
}

// mainTable is the id of a VPC's only route table.
func mainTable(id lb.VPCID) string { return "rtb-" + strings.TrimPrefix(string(id), "vpc-") }

type createSubnetIn struct {
	VpcId      string   `tc:"required"`
	SubnetName string   `tc:"required,len=60"`
	CidrBlock  string   `tc:"required"`
	Zone       string   `tc:"required"`
	Tags       []Tag    `tc:""`
	_          struct{} `unserved:"CdcId"`
}

type createSubnetOut struct{ Subnet subnetOut }

// createSubnet makes a part of a VPC. Subnets of one VPC do not overlap.
func createSubnet(c *Call, in *createSubnetIn) (*createSubnetOut, error) {
	n := &lb.Subnet{Name: in.SubnetName, Zone: in.Zone}
	if err := networkName("SubnetName", in.SubnetName); err != nil {
		return nil, err
	}
	if in.Zone != c.Zone() {
		return nil, refuse(lb.Invalid, "Zone", strconv.Quote(clip(in.Zone, 40))+" is not a zone of this region", "the only one is "+c.Zone())
	}
	var err error
	if n.Cidr, err = networkCidr("CidrBlock", in.CidrBlock, 12, 29); err != nil {
		return nil, err
	}
	if n.Tags, err = tagsIn("Tags", in.Tags); err != nil {
		return nil, err
	}
	err = c.Update(func(tx *store.Tx) error {
		st := tx.State()
		v, err := findVPC(st, "VpcId", in.VpcId)
		if err != nil {
			return err
		}
		if !slices.ContainsFunc(v.Ranges(), func(p netip.Prefix) bool { return within(n.Cidr, p) }) {
			return errorf("InvalidParameterValue.SubnetRange", "CidrBlock: %v is not within the VPC's %v; choose a part of one of them", n.Cidr, v.Ranges())
		}
		for _, id := range st.Subnets.Sorted() {
			if other := st.Subnets.Get(id); other.VPC == v.ID && other.Cidr.Overlaps(n.Cidr) {
				return errorf("InvalidParameterValue.SubnetConflict", "CidrBlock: %v overlaps subnet %s (%v); choose a range that is free", n.Cidr, id, other.Cidr)
			}
		}
		n.ID, n.VPC, n.Created = makeID(c, "subnet-", st.Subnets), v.ID, c.Now().UTC()
		tx.PutSubnet(n)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &createSubnetOut{subnetToOut(c.State(), n)}, nil
}

// within reports whether a range is a part of another, or the same.
func within(p, of netip.Prefix) bool { return of.Bits() <= p.Bits() && of.Contains(p.Addr()) }

// findSubnet finds a subnet by its id.
func findSubnet(st *lb.State, field, id string) (*lb.Subnet, error) {
	if !hasShape("subnet-", id) {
		return nil, refuse(lb.Malformed, field, strconv.Quote(clip(id, 40))+" is not the id of a subnet", "ids look like subnet-12345678")
	}
	n := st.Subnets.Get(lb.SubnetID(id))
	if n == nil {
		return nil, refuse(lb.NotFound, field, "there is no subnet "+id, "DescribeSubnets lists them")
	}
	return n, nil
}

type describeSubnetsIn struct {
	SubnetIds []string `tc:""`
	Filters   []Filter `tc:"" filters:"subnet-id vpc-id subnet-name cidr-block ipv6-cidr-block zone is-default=true|false route-table-id is-remote-vpc-snat=true|false cdc-id is-cdc-subnet=0|1|false|true isp-type=BGP|CMCC|CTCC|CUCC address-type=GUA|ULA tag-key tag:KEY"`
	TextPaging
	_ struct{} `unserved:"MaxResults NextToken"`
}

type describeSubnetsOut struct {
	TotalCount int
	SubnetSet  []subnetOut
}

// describeSubnets lists subnets, oldest first.
func describeSubnets(c *Call, in *describeSubnetsIn) (*describeSubnetsOut, error) {
	st := c.State()
	subnets, total, err := listObjects(c, query[lb.SubnetID, lb.Subnet]{
		field: "SubnetIds", ids: in.SubnetIds, filters: in.Filters, text: in.TextPaging,
		objects: st.Subnets, find: findSubnet,
		keys: map[string]func(*lb.Subnet) []string{
			"subnet-id":       func(n *lb.Subnet) []string { return []string{string(n.ID)} },
			"vpc-id":          func(n *lb.Subnet) []string { return []string{string(n.VPC)} },
			"subnet-name":     func(n *lb.Subnet) []string { return []string{n.Name} },
			"cidr-block":      func(n *lb.Subnet) []string { return []string{n.Cidr.String()} },
			"ipv6-cidr-block": func(n *lb.Subnet) []string { return []string{cidr6Text(n.Cidr6)} },
			"zone":            func(n *lb.Subnet) []string { return []string{n.Zone} },
			"is-default":      func(n *lb.Subnet) []string { return []string{strconv.FormatBool(n.IsDefault)} },
			"route-table-id":  func(n *lb.Subnet) []string { return []string{mainTable(n.VPC)} },
			// None is of an address pool for SNAT, or in a dedicated cluster.
			"is-remote-vpc-snat": func(*lb.Subnet) []string { return []string{"false"} },
			"cdc-id":             func(*lb.Subnet) []string { return nil },
			"is-cdc-subnet":      func(*lb.Subnet) []string { return []string{"0", "false"} },
			"isp-type":           func(n *lb.Subnet) []string { return ispsOf(n.Cidr6) },
			"address-type":       func(n *lb.Subnet) []string { return addressTypes(n.Cidr6) },
		},
		tags:  func(n *lb.Subnet) lb.Tags { return n.Tags },
		order: func(a, b *lb.Subnet) int { return older(a.Created, b.Created, a.ID, b.ID) },
	})
	if err != nil {
		return nil, err
	}
	out := &describeSubnetsOut{TotalCount: total}
	for _, n := range subnets {
		out.SubnetSet = append(out.SubnetSet, subnetToOut(st, n))
	}
	return out, nil
}

type modifySubnetIn struct {
	SubnetId        string  `tc:"required"`
	SubnetName      *string `tc:"len=60"`
	EnableBroadcast string  `tc:"echo"`
}

// modifySubnetAttribute renames a subnet.
func modifySubnetAttribute(c *Call, in *modifySubnetIn) (*done, error) {
	if in.SubnetName != nil {
		if err := networkName("SubnetName", *in.SubnetName); err != nil {
			return nil, err
		}
	}
	if _, err := flag("EnableBroadcast", in.EnableBroadcast); err != nil {
		return nil, err
	}
	return &done{}, c.Update(func(tx *store.Tx) error {
		old, err := findSubnet(tx.State(), "SubnetId", in.SubnetId)
		if err != nil {
			return err
		}
		n := *old
		if in.SubnetName != nil {
			n.Name = *in.SubnetName
		}
		n.Echo = merged(old.Echo, c.Echo)
		tx.PutSubnet(&n)
		return nil
	})
}

type deleteSubnetIn struct {
	SubnetId string `tc:"required"`
}

// deleteSubnet removes a subnet without instances and load balancers.
func deleteSubnet(c *Call, in *deleteSubnetIn) (*done, error) {
	return &done{}, c.Update(func(tx *store.Tx) error {
		st := tx.State()
		n, err := findSubnet(st, "SubnetId", in.SubnetId)
		if err != nil {
			return err
		}
		for _, id := range st.Instances.Sorted() {
			if st.Instances.Get(id).Subnet == n.ID {
				return refuse(lb.InUse, "SubnetId", fmt.Sprintf("instance %s is in %s", id, n.ID), "TerminateInstances first")
			}
		}
		for _, id := range st.Balancers.Sorted() {
			if st.Balancers.Get(id).Subnet == n.ID {
				return refuse(lb.InUse, "SubnetId", fmt.Sprintf("load balancer %s has its address in %s", id, n.ID), "DeleteLoadBalancer first")
			}
		}
		tx.DeleteSubnet(n.ID)
		return nil
	})
}
