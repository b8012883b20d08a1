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

func vpcActions() []Action {
	return slices.Concat([]Action{
		action(serviceVPC, "CreateVpc", createVpc).fails("InvalidParameterValue", "InvalidParameterValue.Malformed", "InvalidParameterValue.Range", "InvalidParameterValue.TooLong"),
		action(serviceVPC, "DescribeVpcs", describeVpcs).fails("InvalidParameter.Coexist", "InvalidParameterValue.Malformed", "ResourceNotFound"),
		action(serviceVPC, "ModifyVpcAttribute", modifyVpcAttribute).fails("InvalidParameterValue", "InvalidParameterValue.Malformed", "ResourceNotFound"),
		action(serviceVPC, "DeleteVpc", deleteVpc).fails("InvalidParameterValue.Malformed", "ResourceInUse", "ResourceNotFound"),
	}, assistantActions(), ipv6Actions(), vpcAddressActions(), interfaceActions(), vpcSubnetActions(), sgActions())
}

type vpcOut struct {
	VpcId            string
	VpcName          string
	CidrBlock        string
	Ipv6CidrBlock    string
	IsDefault        bool
	EnableMulticast  bool
	EnableDhcp       bool
	CreatedTime      string
	DnsServerSet     []string
	DomainName       string
	DhcpOptionsId    string
	TagSet           []Tag
	AssistantCidrSet []assistantOut
	// What a VPC publishes to networks beyond it: nothing.
	EnableRouteVpcPublish, EnableRouteVpcPublishIpv6 bool
}

func vpcToOut(st *lb.State, v *lb.VPC) vpcOut {
	multicast, err := flag("", echoed(v.Echo, "EnableMulticast", ""))
	return vpcOut{
		VpcId: string(v.ID), VpcName: v.Name, CidrBlock: v.Cidr.String(), Ipv6CidrBlock: cidr6Text(v.Cidr6), IsDefault: v.IsDefault,
		EnableMulticast: multicast && err == nil, CreatedTime: stamp(v.Created), TagSet: tagsOut(v.Tags),
		DnsServerSet: echoed(v.Echo, "DnsServers", []string{}), DomainName: echoed(v.Echo, "DomainName", ""),
		AssistantCidrSet: assistantsOut(st, v),
	}
}

// A vpcEcho holds what is stored with a VPC without effect.
type vpcEcho struct {
	EnableMulticast string   `tc:"echo"`
	DnsServers      []string `tc:"echo"`
	DomainName      string   `tc:"echo"`
}

type createVpcIn struct {
	VpcName   string `tc:"required,len=60"`
	CidrBlock string `tc:"required"`
	vpcEcho
	Tags []Tag    `tc:""`
	_    struct{} `unserved:"EnableRouteVpcPublish EnableRouteVpcPublishIpv6"`
}

type createVpcOut struct{ Vpc vpcOut }

// createVpc makes a private network. Networks may overlap; the addresses of
// instances are unique in the region all the same.
func createVpc(c *Call, in *createVpcIn) (*createVpcOut, error) {
	v := &lb.VPC{Name: in.VpcName, Echo: c.Echo}
	if err := networkName("VpcName", in.VpcName); err != nil {
		return nil, err
	}
	if _, err := flag("EnableMulticast", in.EnableMulticast); err != nil {
		return nil, err
	}
	err := checkResolvers(in.DnsServers)
	if err != nil {
		return nil, err
	}
	if v.Cidr, err = networkCidr("CidrBlock", in.CidrBlock, 12, 28); err != nil {
		return nil, err
	}
	if err := privateRange("CidrBlock", v.Cidr); err != nil {
		return nil, err
	}
	if v.Tags, err = tagsIn("Tags", in.Tags); err != nil {
		return nil, err
	}
	err = c.Update(func(tx *store.Tx) error {
		v.ID, v.Created = makeID(c, "vpc-", tx.State().VPCs), c.Now().UTC()
		tx.PutVPC(v)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &createVpcOut{vpcToOut(c.State(), v)}, nil
}

// checkResolvers refuses name servers that are no addresses.
func checkResolvers(list []string) error {
	for i, text := range list {
		if a, err := netip.ParseAddr(text); err != nil || !a.Is4() {
			return refuse(lb.Malformed, "DnsServers."+strconv.Itoa(i), strconv.Quote(clip(text, 40))+" is not an IPv4 address", "write one like 10.0.0.2")
		}
	}
	return nil
}

// privateRange refuses what is no part of a private network.
func privateRange(field string, p netip.Prefix) error {
	if !slices.ContainsFunc(privateNetworks(), func(n netip.Prefix) bool { return n.Contains(p.Addr()) }) {
		return refuse(lb.Range, field, p.String()+" is not a private network", "lie within 10.0.0.0/8, 172.16.0.0/12 or 192.168.0.0/16")
	}
	return nil
}

func privateNetworks() []netip.Prefix {
	return []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("172.16.0.0/12"), netip.MustParsePrefix("192.168.0.0/16")}
}

// networkCidr reads the range of a VPC or subnet.
func networkCidr(field, text string, minBits, maxBits int) (netip.Prefix, error) {
	p, err := netip.ParsePrefix(text)
	switch {
	case err != nil || !p.Addr().Is4():
		return netip.Prefix{}, refuse(lb.Malformed, field, strconv.Quote(clip(text, 40))+" is not an IPv4 CIDR", `write "10.0.0.0/16"`)
	case p != p.Masked():
		return netip.Prefix{}, refuse(lb.Malformed, field, text+" has host bits set", fmt.Sprintf("did you mean %v?", p.Masked()))
	case p.Bits() < minBits || p.Bits() > maxBits:
		return netip.Prefix{}, refuse(lb.Range, field, fmt.Sprintf("a mask of %d bits is outside %d-%d", p.Bits(), minBits, maxBits), "choose one within")
	}
	return p, nil
}

func networkName(field, text string) error {
	switch {
	case text == "":
		return refuse(lb.Invalid, field, "the name is empty", "give one of 1 to 60 characters")
	}
	return nil
}

// findVPC finds a VPC by its id.
func findVPC(st *lb.State, field, id string) (*lb.VPC, error) {
	if !hasShape("vpc-", id) {
		return nil, refuse(lb.Malformed, field, strconv.Quote(clip(id, 40))+" is not the id of a VPC", "ids look like vpc-12345678")
	}
	v := st.VPCs.Get(lb.VPCID(id))
	if v == nil {
		return nil, refuse(lb.NotFound, field, "there is no VPC "+id, "DescribeVpcs lists them")
	}
	return v, nil
}

type describeVpcsIn struct {
	VpcIds  []string `tc:""`
	Filters []Filter `tc:"" filters:"vpc-id vpc-name cidr-block ipv6-cidr-block is-default=true|false isp-type=BGP|CMCC|CTCC|CUCC address-type=GUA|ULA tag-key tag:KEY"`
	TextPaging
}

type describeVpcsOut struct {
	TotalCount int
	VpcSet     []vpcOut
}

// describeVpcs lists VPCs, oldest first.
func describeVpcs(c *Call, in *describeVpcsIn) (*describeVpcsOut, error) {
	st := c.State()
	vpcs, total, err := listObjects(c, query[lb.VPCID, lb.VPC]{
		field: "VpcIds", ids: in.VpcIds, filters: in.Filters, text: in.TextPaging,
		objects: st.VPCs, find: findVPC,
		match: map[string]func(*lb.VPC, string) bool{
			"vpc-name": func(v *lb.VPC, text string) bool { return strings.Contains(v.Name, text) },
		},
		keys: map[string]func(*lb.VPC) []string{
			"vpc-id":          func(v *lb.VPC) []string { return []string{string(v.ID)} },
			"cidr-block":      func(v *lb.VPC) []string { return []string{v.Cidr.String()} },
			"ipv6-cidr-block": func(v *lb.VPC) []string { return []string{cidr6Text(v.Cidr6)} },
			"is-default":      func(v *lb.VPC) []string { return []string{strconv.FormatBool(v.IsDefault)} },
			"isp-type":        func(v *lb.VPC) []string { return ispsOf(v.Cidr6) },
			"address-type":    func(v *lb.VPC) []string { return addressTypes(v.Cidr6) },
		},
		tags:  func(v *lb.VPC) lb.Tags { return v.Tags },
		order: func(a, b *lb.VPC) int { return older(a.Created, b.Created, a.ID, b.ID) },
	})
	if err != nil {
		return nil, err
	}
	out := &describeVpcsOut{TotalCount: total}
	for _, v := range vpcs {
		out.VpcSet = append(out.VpcSet, vpcToOut(st, v))
	}
	return out, nil
}

type modifyVpcIn struct {
	VpcId   string  `tc:"required"`
	VpcName *string `tc:"len=60"`
	vpcEcho
	_ struct{} `unserved:"EnableRouteVpcPublish EnableCdcPublish EnableRouteVpcPublishIpv6"`
}

// modifyVpcAttribute renames a VPC and changes what is stored with it.
func modifyVpcAttribute(c *Call, in *modifyVpcIn) (*done, error) {
	if in.VpcName != nil {
		if err := networkName("VpcName", *in.VpcName); err != nil {
			return nil, err
		}
	}
	if _, err := flag("EnableMulticast", in.EnableMulticast); err != nil {
		return nil, err
	}
	if err := checkResolvers(in.DnsServers); err != nil {
		return nil, err
	}
	return &done{}, c.Update(func(tx *store.Tx) error {
		old, err := findVPC(tx.State(), "VpcId", in.VpcId)
		if err != nil {
			return err
		}
		v := *old
		if in.VpcName != nil {
			v.Name = *in.VpcName
		}
		v.Echo = merged(old.Echo, c.Echo)
		tx.PutVPC(&v)
		return nil
	})
}

type deleteVpcIn struct {
	VpcId string `tc:"required"`
}

// deleteVpc removes a VPC that has no subnets and no load balancers.
func deleteVpc(c *Call, in *deleteVpcIn) (*done, error) {
	return &done{}, c.Update(func(tx *store.Tx) error {
		st := tx.State()
		v, err := findVPC(st, "VpcId", in.VpcId)
		if err != nil {
			return err
		}
		for _, id := range st.Subnets.Sorted() {
			if st.Subnets.Get(id).VPC == v.ID {
				return refuse(lb.InUse, "VpcId", fmt.Sprintf("%s has subnet %s", v.ID, id), "DeleteSubnet first")
			}
		}
		for _, id := range st.Balancers.Sorted() {
			if st.Balancers.Get(id).VPC == v.ID {
				return refuse(lb.InUse, "VpcId", fmt.Sprintf("load balancer %s belongs to %s", id, v.ID), "DeleteLoadBalancer first")
			}
		}
		for _, id := range st.TargetGroups.Sorted() {
			if st.TargetGroups.Get(id).VPC == v.ID {
				return refuse(lb.InUse, "VpcId", fmt.Sprintf("target group %s belongs to %s", id, v.ID), "DeleteTargetGroups first")
			}
		}
		for _, id := range st.Instances.Sorted() {
			if st.Instances.Get(id).VPC == v.ID {
				return refuse(lb.InUse, "VpcId", fmt.Sprintf("instance %s is in %s", id, v.ID), "TerminateInstances first")
			}
		}
		tx.DeleteVPC(v.ID)
		return nil
	})
}
