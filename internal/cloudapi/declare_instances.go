// SPDX-License-Identifier: Apache-2.0

package cloudapi

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/sallyport/sallyport/internal/lb"
)

func (a *applier) instances() error {
	for i, d := range a.in.Instances {
		path := fmt.Sprintf("Instances.%d.", i)
		if err := a.attempt(path, "Instance", d.Id, d.InstanceName, func() error { return a.instance(path, d) }); err != nil {
			return err
		}
	}
	return nil
}

func (a *applier) instance(path string, d instanceDoc) error {
	if err := a.instanceRefs(path, &d); err != nil {
		return err
	}
	i, id, err := instanceSort().match(a, path, d.Id, d.InstanceName)
	if err != nil {
		return err
	}
	made := i == nil
	if made {
		if id, err = a.runInstance(path, d); err != nil {
			return err
		}
		if err := a.claimNew(path, d.Id, string(id)); err != nil {
			return err
		}
	}
	have := (&exporter{st: a.st(), ids: true}).instance(a.st().Instances.Get(id))
	keep(&d.PrivateIpAddress, have.PrivateIpAddress)
	keep(&d.Ipv6Address, have.Ipv6Address)
	if d.PublicIpAssigned {
		keep(&d.PublicIpAddress, have.PublicIpAddress)
	}
	d.PublicIpAssigned = d.PublicIpAddress != ""
	keepEcho(&d, have)
	changed := unlike(have, d, "Id")
	if err := fixed(path, "an instance", changed, "Network", "Vpc", "Subnet", "PrivateIpAddress", "PublicIpAddress", "PublicIpAssigned", "Joined", "Host", "Device", "MacAddress"); err != nil {
		return err
	}
	for _, name := range echoNames(d) {
		if err := fixed(path, "an instance", changed, name); err != nil && !slices.Contains(changeable(), name) {
			return err
		}
	}
	if err := a.noted(made, "Instance", d.Id, string(id), d.InstanceName, path, changed); err != nil {
		return err
	}
	return a.changeInstance(path, id, d, changed)
}

// changeable are the fields kept for clients that can change.
func changeable() []string { return []string{"HostName", "UserData", "DisableApiTermination"} }

// instanceRefs resolves what the document refers to.
func (a *applier) instanceRefs(path string, d *instanceDoc) error {
	var err error
	if d.SecurityGroups, err = a.groupIDsOf(path+"SecurityGroups", d.SecurityGroups); err != nil || d.Network == networkBasic {
		return err
	}
	d.Network = ""
	if d.Vpc == "" && d.Subnet == "" {
		n := a.sub(nil).defaultSubnet(a.tx)
		d.Vpc, d.Subnet = string(n.VPC), string(n.ID)
	}
	_, network, err := vpcSort().find(a, path+"Vpc", d.Vpc)
	if err != nil {
		return err
	}
	_, subnet, err := subnetSort().find(a, path+"Subnet", d.Subnet)
	if err != nil {
		return err
	}
	d.Vpc, d.Subnet = string(network), string(subnet)
	return nil
}

func (a *applier) runInstance(path string, d instanceDoc) (lb.InstanceID, error) {
	if d.Host != "" {
		return "", refuse(lb.NotFound, path+"Host", "this is a guest, and no host guards it", "run `sallyport node guest add` first")
	}
	if d.Joined {
		return "", refuse(lb.NotFound, path+"Joined", "this is a machine of your own, and it has not joined", "run the command of `sallyport node token --role host` on it first")
	}
	c := a.sub(echoOf(d), d.Id)
	if d.PublicIpAddress != "" {
		var err error
		if c.public, err = netip.ParseAddr(d.PublicIpAddress); err != nil {
			return "", refuse(lb.Malformed, path+"PublicIpAddress", fmt.Sprintf("%q is not an address", clip(d.PublicIpAddress, 60)), "leave it out and set PublicIpAssigned")
		}
	}
	in := &runInstancesIn{InstanceName: d.InstanceName, SecurityGroupIds: d.SecurityGroups,
		VirtualPrivateCloud: privateCloudIn{VpcId: d.Vpc, SubnetId: d.Subnet}}
	in.InternetAccessible.PublicIpAssigned = d.PublicIpAssigned || d.PublicIpAddress != ""
	if d.PrivateIpAddress != "" {
		in.VirtualPrivateCloud.PrivateIpAddresses = []string{d.PrivateIpAddress}
	}
	out, err := &runInstancesOut{}, error(nil)
	if d.Network == networkBasic {
		err = in.makeIn(c, a.tx, &lb.Subnet{Cidr: lb.BasicNetwork()}, nil, out)
	} else {
		out, err = runInstances(c, in)
	}
	if err != nil {
		return "", at(path, "", err)
	}
	return lb.InstanceID(out.InstanceIdSet[0]), nil
}

func (a *applier) changeInstance(path string, id lb.InstanceID, d instanceDoc, changed []string) error {
	if slices.Contains(changed, "InstanceName") {
		if _, err := modifyInstancesAttribute(a.sub(nil), &modifyInstancesIn{InstanceIds: []string{string(id)}, InstanceName: &d.InstanceName}); err != nil {
			return at(path, "", err)
		}
	}
	if slices.Contains(changed, "SecurityGroups") || slices.Contains(changed, "Observe") {
		if d.Observe {
			return refuse(lb.Unsupported, path+"Observe", "a gate that enforces does not go back to observing", "leave it out")
		}
		if len(d.SecurityGroups) == 0 {
			return refuse(lb.Missing, path+"SecurityGroups", "an instance has at least one group", "name one")
		}
		if _, err := modifyInstancesAttribute(a.sub(nil), &modifyInstancesIn{InstanceIds: []string{string(id)}, SecurityGroups: d.SecurityGroups}); err != nil {
			return at(path, "", err)
		}
	}
	if slices.Contains(changed, "KeepFlows") {
		if _, err := modifyFlowKeeping(a.sub(nil), &modifyFlowKeepingIn{InstanceId: string(id), KeepFlows: d.KeepFlows}); err != nil {
			return at(path, "", err)
		}
	}
	if slices.Contains(changed, "Ipv6Address") {
		if err := a.ipv6Address(path, id, d.Ipv6Address); err != nil {
			return err
		}
	}
	for _, name := range changeable() {
		in := &modifyInstancesIn{InstanceIds: []string{string(id)}}
		switch name {
		case "HostName":
			in.HostName = d.HostName
		case "UserData":
			in.UserData = d.UserData
		case "DisableApiTermination":
			in.DisableApiTermination = d.DisableApiTermination
		}
		if slices.Contains(changed, name) {
			if _, err := modifyInstancesAttribute(a.sub(echoOf(d)), in); err != nil {
				return at(path, "", err)
			}
		}
	}
	return a.tags(path, "cvm", "instance", string(id), d.Tags)
}

// prune deletes what has no document. Defaults of the region stay: they are
// made on first use and cannot be deleted.
func (a *applier) prune() error {
	unclaimed := func(id string) bool { _, ok := a.claimed[id]; return !ok }
	for _, id := range a.st().Balancers.Sorted() {
		if b := a.st().Balancers.Get(id); unclaimed(string(id)) {
			if _, err := deleteLoadBalancer(a.sub(nil), &deleteLoadBalancerIn{LoadBalancerIds: []string{string(id)}, ForceDelete: true}); err != nil {
				return at("LoadBalancers", "LoadBalancerIds.0", err)
			}
			a.note("delete", "LoadBalancer", string(id), b.Name, "")
		}
	}
	for _, id := range a.st().Instances.Sorted() {
		if i := a.st().Instances.Get(id); unclaimed(string(id)) {
			if _, err := terminateInstances(a.sub(nil), &terminateInstancesIn{InstanceIds: []string{string(id)}}); err != nil {
				return at("Instances", "InstanceIds.0", err)
			}
			a.note("delete", "Instance", string(id), i.Name, "")
		}
	}
	for _, id := range a.st().TargetGroups.Sorted() {
		if g := a.st().TargetGroups.Get(id); unclaimed(string(id)) {
			if _, err := deleteTargetGroups(a.sub(nil), &deleteTargetGroupsIn{TargetGroupIds: []string{string(id)}}); err != nil {
				return at("TargetGroups", "TargetGroupIds", err)
			}
			a.note("delete", "TargetGroup", string(id), g.Name, "")
		}
	}
	for _, id := range a.st().Addresses.Sorted() {
		if e := a.st().Addresses.Get(id); unclaimed(string(id)) {
			if _, err := releaseAddresses(a.sub(nil), &releaseAddressesIn{AddressIds: []string{string(id)}}); err != nil {
				return at("Addresses", "AddressIds.0", err)
			}
			a.note("delete", "Address", string(id), e.Name, "")
		}
	}
	if err := a.pruneGroups(unclaimed); err != nil {
		return err
	}
	if err := a.pruneTemplates(unclaimed); err != nil {
		return err
	}
	for _, id := range a.st().Subnets.Sorted() {
		if n := a.st().Subnets.Get(id); unclaimed(string(id)) && !n.IsDefault {
			if _, err := deleteSubnet(a.sub(nil), &deleteSubnetIn{SubnetId: string(id)}); err != nil {
				return at("Subnets", "SubnetId", err)
			}
			a.note("delete", "Subnet", string(id), n.Name, "")
		}
	}
	for _, id := range a.st().VPCs.Sorted() {
		if v := a.st().VPCs.Get(id); unclaimed(string(id)) && !v.IsDefault {
			if _, err := deleteVpc(a.sub(nil), &deleteVpcIn{VpcId: string(id)}); err != nil {
				return at("Vpcs", "VpcId", err)
			}
			a.note("delete", "Vpc", string(id), v.Name, "")
		}
	}
	return nil
}

// pruneGroups empties groups before it deletes them, because they may refer to
// one another.
func (a *applier) pruneGroups(unclaimed func(id string) bool) error {
	var gone []lb.GroupID
	for _, id := range a.st().Groups.Sorted() {
		if g := a.st().Groups.Get(id); unclaimed(string(id)) && !g.IsDefault {
			gone = append(gone, id)
			if err := editRules(a.sub(nil), string(id), func(g *lb.SecurityGroup) error { g.Ingress, g.Egress = nil, nil; return nil }); err != nil {
				return at("SecurityGroups", "SecurityGroupId", err)
			}
		}
	}
	for _, id := range gone {
		name := a.st().Groups.Get(id).Name
		if _, err := deleteSecurityGroup(a.sub(nil), &deleteGroupIn{SecurityGroupId: string(id)}); err != nil {
			return at("SecurityGroups", "SecurityGroupId", err)
		}
		a.note("delete", "SecurityGroup", string(id), name, "")
	}
	return nil
}
