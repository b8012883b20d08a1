// SPDX-License-Identifier: Apache-2.0

package console

import (
	"cmp"
	"slices"
)

// The kinds of load balancers that can be made.
const (
	kindPublic  = "OPEN"
	kindPrivate = "INTERNAL"
)

type vpc struct {
	VpcId, VpcName, CidrBlock string
	IsDefault                 bool
	Subnets                   []subnet `json:"-"`
}

type subnet struct{ VpcId, SubnetId, SubnetName, CidrBlock string }

// An eip is an elastic public address.
type eip struct {
	AddressId, AddressName, AddressIp string
	InstanceId                        *string
}

type newBalancerData struct {
	F      form
	VPCs   []vpc // with their subnets, the default one first
	EIPs   []eip // that are free
	Barred bool  // the key may not see EIPs
}

// Default is the default VPC's id; "" before the first use has made it.
func (d newBalancerData) Default() string {
	if len(d.VPCs) > 0 && d.VPCs[0].IsDefault {
		return d.VPCs[0].VpcId
	}
	return ""
}

func (v *visit) vpcs() ([]vpc, error) {
	var networks struct{ VpcSet []vpc }
	if err := v.do(vpcVersion, "DescribeVpcs", m{"Limit": "100"}, &networks); err != nil {
		return nil, err
	}
	var parts struct{ SubnetSet []subnet }
	if err := v.do(vpcVersion, "DescribeSubnets", m{"Limit": "100"}, &parts); err != nil {
		return nil, err
	}
	all := networks.VpcSet
	for i := range all {
		for _, n := range parts.SubnetSet {
			if n.VpcId == all[i].VpcId {
				all[i].Subnets = append(all[i].Subnets, n)
			}
		}
	}
	slices.SortStableFunc(all, func(a, b vpc) int { return cmp.Compare(b2i(b.IsDefault), b2i(a.IsDefault)) })
	return all, nil
}

// eips are EIPs with a property. A key for some projects may not see them.
func (v *visit) eips(filter string, values []string) (all []eip, barred bool, err error) {
	var out struct{ AddressSet []eip }
	err = v.do(vpcVersion, "DescribeAddresses", m{"Limit": 100, "Filters": []m{{"Name": filter, "Values": values}}}, &out)
	if unauthorized(err) {
		return nil, true, nil
	}
	return out.AddressSet, false, err
}

// eipsOf are the EIPs of load balancers that have one, by their ids.
func (v *visit) eipsOf(list []balancer) (map[string]eip, error) {
	var ids []string
	for _, b := range list {
		if b.TakesEIP() {
			ids = append(ids, b.LoadBalancerId)
		}
	}
	if len(ids) == 0 {
		return nil, nil
	}
	bound, _, err := v.eips("instance-id", ids)
	all := map[string]eip{}
	for _, a := range bound {
		if a.InstanceId != nil {
			all[*a.InstanceId] = a
		}
	}
	return all, err
}

func (v *visit) newBalancer() error {
	var d newBalancerData
	var err error
	if d.VPCs, err = v.vpcs(); err != nil {
		return err
	}
	if d.EIPs, d.Barred, err = v.eips("address-status", []string{"UNBIND"}); err != nil {
		return err
	}
	d.F = v.initial("LoadBalancerType", kindPublic, "VpcId", d.Default())
	if v.posted() {
		d.F = v.typed()
		kind := cmp.Or(d.F.V("LoadBalancerType"), kindPublic)
		in := m{"LoadBalancerType": kind}
		for _, field := range []string{"LoadBalancerName", "VpcId", "SubnetId", "Vip", "EipAddressId", "AddressIPVersion"} {
			of(in, field, d.F.V(field))
		}
		var out struct{ LoadBalancerIds []string }
		err := v.do(clbVersion, "CreateLoadBalancer", in, &out)
		if err == nil {
			who := "every client"
			if kind == kindPrivate && d.F.V("EipAddressId") == "" {
				who = "every client of its network"
			}
			return v.to("clb/"+firstText(out.LoadBalancerIds)+"/listeners", "Created. No security group is bound, so "+who+" is allowed at gate 1. Add a listener next.")
		}
		if d.F, err = d.F.refused(err); err != nil {
			return err
		}
	}
	return v.show(d.F.status(), "clb-new", "clb", "Create a load balancer", d)
}

type eipData struct {
	F      form
	B      balancer
	EIPs   []eip // that are free
	Barred bool
}

// bindEIP gives a private load balancer a public address.
func (v *visit) bindEIP() error {
	b, err := v.balancer(v.r.PathValue("id"))
	if err != nil {
		return err
	}
	d := eipData{B: b, F: v.initial()}
	if d.EIPs, d.Barred, err = v.eips("address-status", []string{"UNBIND"}); err != nil {
		return err
	}
	if v.posted() {
		d.F = v.typed()
		err := v.do(vpcVersion, "AssociateAddress", m{"AddressId": d.F.V("AddressId"), "InstanceId": b.LoadBalancerId}, nil)
		if err == nil {
			return v.to("clb/"+b.LoadBalancerId, "Bound. Whoever gate 1 allows now reaches it from outside too.")
		}
		if d.F, err = d.F.refused(err); err != nil {
			return err
		}
	}
	return v.show(d.F.status(), "clb-eip", "clb", "Bind an EIP", d)
}

func (v *visit) unbindEIP() error {
	b, err := v.balancer(v.r.PathValue("id"))
	if err != nil {
		return err
	}
	bound, err := v.eipsOf([]balancer{b})
	if err != nil {
		return err
	}
	a, ok := bound[b.LoadBalancerId]
	if !ok {
		return missing("EIP of", b.LoadBalancerId)
	}
	q := confirmation{Heading: "Unbind " + a.AddressIp, Button: "Unbind", Back: Root + "clb/" + b.LoadBalancerId, Hidden: [][2]string{{"AddressId", a.AddressId}},
		Text: "Clients from outside can no longer reach " + b.LoadBalancerName + ". Its own network still can, and the EIP stays yours."}
	if v.posted() {
		err := v.do(vpcVersion, "DisassociateAddress", m{"AddressId": v.r.PostFormValue("AddressId")}, nil)
		if err == nil {
			return v.to("clb/"+b.LoadBalancerId, "Unbound "+a.AddressIp+".")
		}
		if q.F, err = v.typed().refused(err); err != nil {
			return err
		}
	}
	return v.confirm("clb", q)
}
