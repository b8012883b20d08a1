// SPDX-License-Identifier: Apache-2.0

package cloudapi

import (
	"net/netip"

	"pgregory.net/rapid"

	"github.com/sallyport/sallyport/internal/lb"
	"github.com/sallyport/sallyport/internal/store"
)

// newNetwork makes a VPC, or a subnet of one.
func (w *world) newNetwork() {
	if len(w.vpcs) < 2 && w.chance() {
		var out struct{ Vpc struct{ VpcId string } }
		cidr := rapid.SampledFrom([]string{"10.1.0.0/16", "192.168.0.0/16", "8.8.0.0/16", "10.1.0.1/16", "10.0.0.0/8"}).Draw(w.T, "cidr")
		codes := cidrFaults(cidr, 28)
		if w.ask("CreateVpc", map[string]any{"VpcName": "office", "CidrBlock": cidr}, codes, &out); len(codes) == 0 {
			w.vpcs[out.Vpc.VpcId] = cidr
		}
		return
	}
	var out struct{ Subnet struct{ SubnetId string } }
	vpc, cidr := w.vpc(), rapid.SampledFrom([]string{"10.1.1.0/24", "10.1.0.0/20", "192.168.1.0/26", "10.1.1.0/30", "192.168.1.1/24"}).Draw(w.T, "cidr")
	codes := w.model.createSubnet(vpc, cidr)
	w.ask("CreateSubnet", map[string]any{"VpcId": vpc, "SubnetName": "floor", "CidrBlock": cidr, "Zone": "local-1"}, codes, &out)
	if len(codes) == 0 {
		w.subnets[out.Subnet.SubnetId] = modelSubnet{vpc, cidr}
	}
}

func (w *world) dropNetwork() {
	if w.chance() {
		id := w.vpc()
		w.did("DeleteVpc", map[string]any{"VpcId": id}, w.deleteVPC(id), id)
		return
	}
	id := w.subnet()
	w.did("DeleteSubnet", map[string]any{"SubnetId": id}, w.model.deleteSubnet(id), id)
}

// runInstance makes an instance and its host, in the default VPC or another.
func (w *world) runInstance() {
	i := modelInstance{groups: []string{w.group()}, state: "PENDING", project: max(0, w.project())}
	if w.chance() {
		i.groups = append(i.groups, w.group())
	}
	params := map[string]any{"ImageId": "img-lab", "SecurityGroupIds": i.groups, "Placement": map[string]any{"Zone": "local-1", "ProjectId": i.project}}
	if len(w.vpcs) > 0 && w.chance() {
		i.vpc, i.subnet = w.vpc(), w.subnet()
		if rapid.IntRange(0, 4).Draw(w.T, "right") > 0 && w.subnets[i.subnet].vpc != "" {
			i.vpc = w.subnets[i.subnet].vpc
		}
		params["VirtualPrivateCloud"] = map[string]any{"VpcId": i.vpc, "SubnetId": i.subnet}
	}
	codes := w.run("ins-fresh", i)
	delete(w.model.instances, "ins-fresh")
	var out struct{ InstanceIdSet []string }
	if w.ask("RunInstances", params, codes, &out); len(codes) > 0 {
		return
	}
	id := out.InstanceIdSet[0]
	w.model.instances[id] = &i
	w.b.seed(func(tx *store.Tx) {
		tx.PutNode(&lb.Node{ID: lb.NodeID(id), Num: tx.NextNum(), Role: lb.RoleHost, Instance: lb.InstanceID(id), Address: netip.AddrFrom4([4]byte{10, 9, 1, byte(tx.NextNum())})})
	})
}

func (w *world) bindInstance() {
	id, group := w.instance(), w.group()
	params := map[string]any{"InstanceIds": []string{id}, "SecurityGroupIds": []string{group}}
	switch rapid.IntRange(0, 2).Draw(w.T, "how") {
	case 0:
		w.ask("AssociateSecurityGroups", params, w.associate(id, group), nil)
	case 1:
		w.ask("DisassociateSecurityGroups", params, w.disassociate(id, group), nil)
	default:
		groups := []string{group, w.group()}[:1+rapid.IntRange(0, 1).Draw(w.T, "more")]
		w.ask("ModifyInstancesAttribute", map[string]any{"InstanceIds": []string{id}, "SecurityGroups": groups}, w.regroup(id, groups), nil)
	}
}

func (w *world) endInstance() {
	id := w.instance()
	codes := w.terminate(id)
	if w.did("TerminateInstances", map[string]any{"InstanceIds": []string{id}}, codes, id); len(codes) == 0 {
		w.b.seed(func(tx *store.Tx) { tx.DeleteNode(lb.NodeID(id)) })
	}
}

// powerInstance switches an instance, or lets its node tell what came of it.
func (w *world) powerInstance() {
	id := w.instance()
	ids := map[string]any{"InstanceIds": []string{id}}
	if i := w.model.instances[id]; i != nil && i.settle() != "" && w.chance() {
		w.settle(id, i)
	}
	switch rapid.IntRange(0, 4).Draw(w.T, "switch") {
	case 0:
		w.ask("StopInstances", ids, w.turn(id, "RUNNING", "STOPPING"), nil)
	case 1:
		w.ask("StartInstances", ids, w.turn(id, "STOPPED", "STARTING"), nil)
	case 2:
		w.ask("RebootInstances", ids, w.turn(id, "RUNNING", "REBOOTING"), nil)
	case 3:
		image := rapid.SampledFrom([]string{labImage, labImage, "img-00000000"}).Draw(w.T, "image")
		w.ask("ResetInstance", map[string]any{"InstanceId": id, "ImageId": image}, w.reinstall(id), nil)
	}
}

// settle lets an instance's node tell what came of a switch.
func (w *world) settle(id string, i *modelInstance) {
	i.state = i.settle()
	w.b.seed(func(tx *store.Tx) {
		own := *tx.State().Instances.Get(lb.InstanceID(id))
		own.State = lb.InstanceState(i.state)
		tx.PutInstance(&own)
	})
}
