// SPDX-License-Identifier: Apache-2.0

package cloudapi

import (
	"slices"
	"strconv"

	"pgregory.net/rapid"
)

// A taggedKind is how the tag service names a kind of object.
type taggedKind struct{ prefix, service, resource string }

func taggedKinds() []taggedKind {
	return []taggedKind{
		{"sg-", "cvm", "sg"}, {"lb-", "clb", "clb"}, {"ins-", "cvm", "instance"}, {"vpc-", "vpc", "vpc"}, {"subnet-", "vpc", "subnet"},
		{"cert-", "ssl", "certificate"}, {"ipm-", "vpc", "address"}, {"ipmg-", "vpc", "addressgroup"}, {"ppm-", "vpc", "service"}, {"ppmg-", "vpc", "servicegroup"},
	}
}

// objects are all that can have tags, of one kind.
func (w *world) objects(prefix string) []string {
	all := slices.Concat(keysOf(w.groups), keysOf(w.clbs), keysOf(w.model.instances), keysOf(w.vpcs), keysOf(w.subnets), keysOf(w.certs), keysOf(w.templates))
	return w.kindOf(all, prefix)
}

// kindOf keeps the ids of a kind.
func (w *world) kindOf(ids []string, prefix string) []string {
	return slices.DeleteFunc(ids, func(id string) bool { return kindOfID(id) != prefix })
}

func (w *world) tagSomething() {
	kind := rapid.SampledFrom(taggedKinds()).Draw(w.T, "kind")
	id, set, drop := w.one("object", w.objects(kind.prefix), kind.prefix), map[string]string{}, []string(nil)
	var replaced, deleted []any
	for _, key := range rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"team", "team", "env", "env", ""}), 0, 2, rapid.ID).Draw(w.T, "set") {
		set[key] = rapid.SampledFrom([]string{"a", "b", ""}).Draw(w.T, "value")
		replaced = append(replaced, map[string]any{"TagKey": key, "TagValue": set[key]})
	}
	for _, key := range rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"team", "env", "none"}), 0, 1, rapid.ID).Draw(w.T, "drop") {
		drop = append(drop, key)
		deleted = append(deleted, map[string]any{"TagKey": key})
	}
	w.ask("ModifyResourceTags", map[string]any{"Resource": "qcs::" + kind.service + ":local:uin/:" + kind.resource + "/" + id, "ReplaceTags": replaced, "DeleteTags": deleted},
		w.retag(id, set, drop), nil)
}

// readTags is what the tag service answers, by id.
func (w *world) readTags(lines map[string]string) {
	for _, kind := range taggedKinds() {
		ids := w.objects(kind.prefix)
		if len(ids) == 0 {
			continue
		}
		var out describeTagsOut
		w.ask("DescribeResourceTagsByResourceIds", map[string]any{"ServiceType": kind.service, "ResourcePrefix": kind.resource, "ResourceIds": ids, "ResourceRegion": "local", "Limit": 400}, nil, &out)
		for _, t := range out.Tags {
			lines[t.ResourceId+" "+t.TagKey] = t.TagValue
		}
	}
}

// moveSomething gives a load balancer or an instance to another project.
func (w *world) moveSomething() {
	project := w.project()
	if w.chance() {
		id := w.clb()
		w.ask("ModifyLoadBalancersProject", map[string]any{"LoadBalancerIds": []string{id}, "ProjectId": project}, w.moveCLB(id, project), nil)
		return
	}
	id := w.instance()
	w.ask("ModifyInstancesProject", map[string]any{"InstanceIds": []string{id}, "ProjectId": project}, w.moveInstance(id, project), nil)
}

// scopedCall is one by the key of a project.
func (w *world) scopedCall() {
	w.key = w.keys["scoped"]
	defer func() { w.key = "" }()
	switch rapid.IntRange(0, 6).Draw(w.T, "call") {
	case 0:
		id, name := w.group(), rapid.SampledFrom([]string{"mine", "ours"}).Draw(w.T, "name")
		w.ask("ModifySecurityGroupAttribute", map[string]any{"SecurityGroupId": id, "GroupName": name}, w.rename(id, name), nil)
	case 1:
		id := w.group()
		w.did("DeleteSecurityGroup", map[string]any{"SecurityGroupId": id}, w.deleteOwnGroup(id), id)
	case 2:
		id, groups := w.clb(), w.someGroups()
		w.ask("SetLoadBalancerSecurityGroups", map[string]any{"LoadBalancerId": id, "SecurityGroups": groups}, w.bindOwn(id, groups), nil)
	case 3:
		project := rapid.SampledFrom([]string{"7", "7", "0"}).Draw(w.T, "project")
		codes := w.model.createGroup("mine", project)
		if project != "7" {
			codes = append(codes, codeUnauthorized)
		}
		w.makeGroup("mine", project, codes)
	case 4: // what is about the region as a whole
		w.ask("CreateVpc", map[string]any{"VpcName": "mine", "CidrBlock": "10.9.0.0/16"}, []string{codeUnauthorized}, nil)
		w.ask("CreateServiceTemplate", map[string]any{"ServiceTemplateName": "mine", "Services": []string{"tcp:80"}}, []string{codeUnauthorized}, nil)
	default:
		w.readOwn()
	}
}

// readOwn compares the lists that the scoped key gets with what its project has.
func (w *world) readOwn() {
	var want, got []string
	for id, g := range w.groups {
		if g.project == strconv.Itoa(scoped) {
			want = append(want, id)
		}
	}
	for id, b := range w.clbs {
		if b.project == scoped {
			want = append(want, id)
		}
	}
	for id, i := range w.model.instances {
		if i.project == scoped {
			want = append(want, id)
		}
	}
	for id, c := range w.certs {
		if c.project == scoped {
			want = append(want, id)
		}
	}
	var groups struct{ SecurityGroupSet []groupView }
	w.ask("DescribeSecurityGroups", map[string]any{"Limit": "100"}, nil, &groups)
	for _, g := range groups.SecurityGroupSet {
		got = append(got, g.SecurityGroupId)
	}
	var clbs struct {
		LoadBalancerSet []struct{ LoadBalancerId string }
	}
	w.ask("DescribeLoadBalancers", map[string]any{"Limit": 100}, nil, &clbs)
	for _, b := range clbs.LoadBalancerSet {
		got = append(got, b.LoadBalancerId)
	}
	var instances struct{ InstanceSet []struct{ InstanceId string } }
	w.ask("DescribeInstances", map[string]any{"Limit": 100}, nil, &instances)
	for _, i := range instances.InstanceSet {
		got = append(got, i.InstanceId)
	}
	var certs describeCertificatesOut
	w.ask("DescribeCertificates", map[string]any{}, nil, &certs)
	for _, c := range certs.Certificates {
		got = append(got, c.CertificateId)
	}
	slices.Sort(want)
	if slices.Sort(got); !slices.Equal(want, got) {
		w.Fatalf("the scoped key is shown %v\nand its project has %v", got, want)
	}
}
