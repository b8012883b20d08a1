// SPDX-License-Identifier: Apache-2.0

package cloudapi

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/sallyport/sallyport/internal/lb"
)

func routeActions() []Action {
	return []Action{
		action(serviceVPC, "DescribeRouteTables", describeRouteTables).fails("InvalidParameterValue.Malformed", "ResourceNotFound"),
		action(serviceVPC, "ReplaceRouteTableAssociation", replaceRouteTableAssociation).fails("InvalidParameterValue.Malformed", "MissingParameter", "ResourceNotFound", "UnsupportedOperation.VpcMismatch"),
	}
}

type routeAssociationOut struct{ SubnetId, RouteTableId string }

type routeOut struct {
	RouteId              int
	RouteItemId          string
	RouteTableId         string
	DestinationCidrBlock string
	GatewayType          string
	GatewayId            string
	RouteType            string
	RouteDescription     string
	Enabled              bool
	CreatedTime          string
}

type routeTableOut struct {
	VpcId          string
	RouteTableId   string
	RouteTableName string
	Main           bool
	CreatedTime    string
	AssociationSet []routeAssociationOut
	RouteSet       []routeOut
	TagSet         []Tag
}

// mainRoutes is a VPC's only route table: its own ranges, for all subnets.
func mainRoutes(st *lb.State, v *lb.VPC) routeTableOut {
	id := mainTable(v.ID)
	out := routeTableOut{
		VpcId: string(v.ID), RouteTableId: id, RouteTableName: "default", Main: true, CreatedTime: stamp(v.Created),
	}
	for i, p := range v.Ranges() {
		out.RouteSet = append(out.RouteSet, routeOut{RouteId: i, RouteItemId: fmt.Sprintf("rti-%.7s%d", strings.TrimPrefix(id, "rtb-"), i), RouteTableId: id, DestinationCidrBlock: p.String(),
			GatewayType: "LOCAL", GatewayId: "Local", RouteType: "NETD", RouteDescription: "within the VPC", Enabled: true, CreatedTime: stamp(v.Created)})
	}
	for _, n := range st.Subnets.Sorted() {
		if st.Subnets.Get(n).VPC == v.ID {
			out.AssociationSet = append(out.AssociationSet, routeAssociationOut{string(n), id})
		}
	}
	return out
}

// findTable finds the VPC that a route table belongs to.
func findTable(st *lb.State, field, id string) (*lb.VPC, error) {
	if !hasShape("rtb-", id) {
		return nil, refuse(lb.Malformed, field, strconv.Quote(clip(id, 40))+" is not the id of a route table", "ids look like rtb-12345678")
	}
	if v := st.VPCs.Get("vpc-" + lb.VPCID(strings.TrimPrefix(id, "rtb-"))); v != nil {
		return v, nil
	}
	return nil, refuse(lb.NotFound, field, "there is no route table "+id, "each VPC has one")
}

type describeRouteTablesIn struct {
	RouteTableIds []string `tc:""`
	Filters       []Filter `tc:"" filters:"vpc-id route-table-id route-table-name association.main=true|false"`
	TextPaging
	NeedRouterInfo *bool `tc:""` // routes are always there
}

type describeRouteTablesOut struct {
	TotalCount    int
	RouteTableSet []routeTableOut
}

// describeRouteTables lists the one table that each VPC has. Tables cannot be
// made or changed.
func describeRouteTables(c *Call, in *describeRouteTablesIn) (*describeRouteTablesOut, error) {
	st := c.State()
	vpcs, total, err := listObjects(c, query[lb.VPCID, lb.VPC]{
		field: "RouteTableIds", ids: in.RouteTableIds, filters: in.Filters, text: in.TextPaging,
		objects: st.VPCs,
		find:    findTable,
		keys: map[string]func(*lb.VPC) []string{
			"vpc-id":           func(v *lb.VPC) []string { return []string{string(v.ID)} },
			"route-table-id":   func(v *lb.VPC) []string { return []string{mainTable(v.ID)} },
			"route-table-name": func(*lb.VPC) []string { return []string{"default"} },
			"association.main": func(*lb.VPC) []string { return []string{"true"} },
		},
		order: func(a, b *lb.VPC) int { return older(a.Created, b.Created, a.ID, b.ID) },
	})
	if err != nil {
		return nil, err
	}
	out := &describeRouteTablesOut{TotalCount: total}
	for _, v := range vpcs {
		out.RouteTableSet = append(out.RouteTableSet, mainRoutes(st, v))
	}
	return out, nil
}

type replaceAssociationIn struct {
	RouteTableId string `tc:"required"`
	SubnetId     string `tc:""` // needed: every subnet has an id here
}

// replaceRouteTableAssociation gives a subnet the route table of its VPC,
// which it has: there is no other.
func replaceRouteTableAssociation(c *Call, in *replaceAssociationIn) (*done, error) {
	st := c.State()
	v, err := findTable(st, "RouteTableId", in.RouteTableId)
	if err != nil {
		return nil, err
	}
	if in.SubnetId == "" {
		return nil, refuse(lb.Missing, "SubnetId", "no subnet is given", "DescribeSubnets lists them")
	}
	n, err := findSubnet(st, "SubnetId", in.SubnetId)
	if err != nil {
		return nil, err
	}
	if n.VPC != v.ID {
		return nil, errorf("UnsupportedOperation.VpcMismatch", "RouteTableId: %s belongs to %s and %s to %s; give %s", in.RouteTableId, v.ID, n.ID, n.VPC, mainTable(n.VPC))
	}
	return &done{}, nil
}
