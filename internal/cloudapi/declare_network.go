// SPDX-License-Identifier: Apache-2.0

package cloudapi

import (
	"fmt"
	"maps"
	"reflect"
	"slices"

	"github.com/sallyport/sallyport/internal/lb"
)

// keep fills what a document does not say, and need not, from what there is.
func keep(to *string, have string) {
	if *to == "" {
		*to = have
	}
}

// keepEcho is keep for the fields without effect. want points to a document.
func keepEcho(want any, have any) {
	w, h := reflect.ValueOf(want).Elem(), reflect.ValueOf(have)
	for i := range w.NumField() {
		if keptAs(w.Type().Field(i)) != "" && w.Field(i).IsZero() {
			w.Field(i).Set(h.Field(i))
		}
	}
}

// tags gives an object exactly the tags of its document.
func (a *applier) tags(path, service, prefix, id string, tags []Tag) error {
	want, err := tagsIn("Tags", tags)
	if err != nil {
		return at(path, "", err)
	}
	kind, err := findTaggable(path+"Tags", service, prefix)
	if err != nil {
		return err
	}
	if have, _ := kind.tags(a.st(), id); !maps.Equal(have, want) {
		kind.put(a.tx, id, want)
	}
	return nil
}

func (a *applier) vpcs() error {
	for i, d := range a.in.Vpcs {
		path := fmt.Sprintf("Vpcs.%d.", i)
		if err := a.attempt(path, "Vpc", d.Id, d.VpcName, func() error { return a.vpc(path, d) }); err != nil {
			return err
		}
	}
	return nil
}

func (a *applier) vpc(path string, d vpcDoc) error {
	v, id, err := vpcSort().match(a, path, d.Id, d.VpcName)
	if err != nil {
		return err
	}
	made := v == nil
	switch {
	case made && d.IsDefault:
		v = a.sub(nil, d.Id).defaultVPC(a.tx)
		id = v.ID
	case made:
		out, err := createVpc(a.sub(echoOf(d), d.Id), &createVpcIn{VpcName: d.VpcName, CidrBlock: d.CidrBlock, Tags: d.Tags,
			vpcEcho: vpcEcho{EnableMulticast: d.EnableMulticast, DnsServers: d.DnsServers, DomainName: d.DomainName}})
		if err != nil {
			return at(path, "", err)
		}
		id = lb.VPCID(out.Vpc.VpcId)
	}
	if made {
		if err := a.claimNew(path, d.Id, string(id)); err != nil {
			return err
		}
	}
	have := (&exporter{st: a.st(), ids: true}).vpc(a.st().VPCs.Get(id))
	keep(&d.Ipv6CidrBlock, have.Ipv6CidrBlock)
	keepEcho(&d, have)
	if slices.Equal(slices.Sorted(slices.Values(have.AssistantCidrs)), slices.Sorted(slices.Values(d.AssistantCidrs))) {
		d.AssistantCidrs = have.AssistantCidrs // their order means nothing
	}
	changed := unlike(have, d, "Id")
	if err := fixed(path, "a VPC", changed, "CidrBlock", "IsDefault"); err != nil {
		return err
	}
	if err := a.noted(made, "Vpc", d.Id, string(id), d.VpcName, path, changed); err != nil {
		return err
	}
	if len(changed) == 0 {
		return nil
	}
	if _, err := modifyVpcAttribute(a.sub(echoOf(d)), &modifyVpcIn{VpcId: string(id), VpcName: &d.VpcName, vpcEcho: vpcEcho{EnableMulticast: d.EnableMulticast, DnsServers: d.DnsServers}}); err != nil {
		return at(path, "", err)
	}
	if slices.Contains(changed, "Ipv6CidrBlock") {
		if err := a.vpcIPv6(path, string(id), have.Ipv6CidrBlock, d.Ipv6CidrBlock); err != nil {
			return err
		}
	}
	if slices.Contains(changed, "AssistantCidrs") {
		without := func(list, other []string) []string {
			return slices.DeleteFunc(slices.Clone(list), func(p string) bool { return slices.Contains(other, p) })
		}
		in := &modifyAssistantIn{VpcId: string(id), NewCidrBlocks: without(d.AssistantCidrs, have.AssistantCidrs), OldCidrBlocks: without(have.AssistantCidrs, d.AssistantCidrs)}
		if _, err := modifyAssistantCidr(a.sub(nil), in); err != nil {
			return at(path, "", err)
		}
	}
	return a.tags(path, "vpc", "vpc", string(id), d.Tags)
}

func (a *applier) subnets() error {
	for i, d := range a.in.Subnets {
		path := fmt.Sprintf("Subnets.%d.", i)
		if err := a.attempt(path, "Subnet", d.Id, d.SubnetName, func() error { return a.subnet(path, d) }); err != nil {
			return err
		}
	}
	return nil
}

func (a *applier) subnet(path string, d subnetDoc) error {
	_, network, err := vpcSort().find(a, path+"Vpc", d.Vpc)
	if err != nil {
		return err
	}
	d.Vpc = string(network)
	keep(&d.Zone, a.c.Zone())
	n, id, err := subnetSort().match(a, path, d.Id, d.SubnetName)
	if err != nil {
		return err
	}
	made := n == nil
	switch {
	case made && d.IsDefault:
		id = a.sub(nil, d.Id).defaultSubnet(a.tx).ID
	case made:
		out, err := createSubnet(a.sub(nil, d.Id), &createSubnetIn{VpcId: d.Vpc, SubnetName: d.SubnetName, CidrBlock: d.CidrBlock, Zone: d.Zone, Tags: d.Tags})
		if err != nil {
			return at(path, "", err)
		}
		id = lb.SubnetID(out.Subnet.SubnetId)
	}
	if made {
		if err := a.claimNew(path, d.Id, string(id)); err != nil {
			return err
		}
	}
	have := (&exporter{st: a.st(), ids: true}).subnet(a.st().Subnets.Get(id))
	keep(&d.Ipv6CidrBlock, have.Ipv6CidrBlock)
	keepEcho(&d, have)
	changed := unlike(have, d, "Id")
	if err := fixed(path, "a subnet", changed, "CidrBlock", "Vpc", "Zone", "IsDefault"); err != nil {
		return err
	}
	if err := a.noted(made, "Subnet", d.Id, string(id), d.SubnetName, path, changed); err != nil {
		return err
	}
	if len(changed) == 0 {
		return nil
	}
	if _, err := modifySubnetAttribute(a.sub(echoOf(d)), &modifySubnetIn{SubnetId: string(id), SubnetName: &d.SubnetName, EnableBroadcast: d.EnableBroadcast}); err != nil {
		return at(path, "", err)
	}
	if slices.Contains(changed, "Ipv6CidrBlock") {
		if err := a.subnetIPv6(path, d.Vpc, string(id), have.Ipv6CidrBlock, d.Ipv6CidrBlock); err != nil {
			return err
		}
	}
	return a.tags(path, "vpc", "subnet", string(id), d.Tags)
}
