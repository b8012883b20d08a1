// SPDX-License-Identifier: Apache-2.0

package cloudapi

import (
	"fmt"
	"strings"

	"pgregory.net/rapid"

	"github.com/sallyport/sallyport/internal/lb"
)

func (w *world) template() string { return w.one("template", keysOf(w.templates), "ipm-") }
func (w *world) vpc() string      { return w.one("vpc", keysOf(w.vpcs), "vpc-") }
func (w *world) subnet() string   { return w.one("subnet", keysOf(w.subnets), "subnet-") }
func (w *world) targetGroup() string {
	return w.one("target group", keysOf(w.members), "lbtg-")
}

// location draws a rule of an HTTP listener, and mostly none for others.
func (w *world) location(listener string) string {
	l := w.listeners[listener]
	if wrong := rapid.IntRange(0, 9).Draw(w.T, "wrong") == 0; l != nil && (l.kind == "HTTP") != wrong {
		return w.one("location", keysOf(l.rules), "loc-")
	}
	return ""
}

// forget notes an id that is no more.
func (w *world) forget(id string, codes []string) {
	if len(codes) == 0 {
		w.gone = append([]string{id}, w.gone...)
	}
}

func (w *world) addresses() []string {
	all := []string{"10.1.0.0/16", "10.2.0.0/16", "203.0.113.0/24", "2001:db8:1::/48", "10.0.0.0/33"}
	return rapid.SliceOfN(rapid.SampledFrom(all), 0, 4).Draw(w.T, "addresses")
}

func (w *world) newTemplate() {
	var out struct {
		AddressTemplate struct{ AddressTemplateId string }
	}
	addresses := w.addresses()
	codes := w.createTemplate(addresses)
	w.ask("CreateAddressTemplate", map[string]any{"AddressTemplateName": "office", "Addresses": addresses}, codes, &out)
	if len(codes) == 0 {
		w.templates[out.AddressTemplate.AddressTemplateId] = addresses
	}
}

func (w *world) editTemplate() {
	id := w.template()
	if rapid.IntRange(0, 3).Draw(w.T, "delete") == 0 {
		codes := w.model.deleteTemplate(id)
		w.ask("DeleteAddressTemplate", map[string]any{"AddressTemplateId": id}, codes, nil)
		w.forget(id, codes)
		return
	}
	addresses := w.addresses()
	w.ask("ModifyAddressTemplateAttribute", map[string]any{"AddressTemplateId": id, "Addresses": addresses}, w.changeTemplate(id, addresses), nil)
}

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
	vpc, cidr := w.vpc(), rapid.SampledFrom([]string{"10.1.1.0/24", "10.1.0.0/20", "192.168.1.0/28", "10.1.1.0/30", "192.168.1.1/24"}).Draw(w.T, "cidr")
	codes := w.model.createSubnet(vpc, cidr)
	w.ask("CreateSubnet", map[string]any{"VpcId": vpc, "SubnetName": "floor", "CidrBlock": cidr, "Zone": "local-1"}, codes, &out)
	if len(codes) == 0 {
		w.subnets[out.Subnet.SubnetId] = modelSubnet{vpc, cidr}
	}
}

func (w *world) dropNetwork() {
	if w.chance() {
		id := w.vpc()
		codes := w.deleteVPC(id)
		w.ask("DeleteVpc", map[string]any{"VpcId": id}, codes, nil)
		w.forget(id, codes)
		return
	}
	id := w.subnet()
	codes := w.model.deleteSubnet(id)
	w.ask("DeleteSubnet", map[string]any{"SubnetId": id}, codes, nil)
	w.forget(id, codes)
}

func (w *world) newRules() {
	clb, id := w.listenerOf()
	var rules []modelPlace
	var fields []any
	for range rapid.IntRange(1, 2).Draw(w.T, "rules") {
		r := modelPlace{
			domain: rapid.SampledFrom([]string{"a.example.com", "a.example.com", "*.example.com", "a b"}).Draw(w.T, "domain"),
			url:    rapid.SampledFrom([]string{"/", "/api", "/img", "api"}).Draw(w.T, "url"), grouped: rapid.Bool().Draw(w.T, "grouped"),
		}
		rules = append(rules, r)
		fields = append(fields, map[string]any{"Domain": r.domain, "Url": r.url, "TargetType": map[bool]string{false: "NODE", true: "TARGETGROUP"}[r.grouped]})
	}
	var out struct{ LocationIds []string }
	codes := w.createRules(clb, id, rules)
	w.ask("CreateRule", map[string]any{"LoadBalancerId": clb, "ListenerId": id, "Rules": fields}, codes, &out)
	for i, location := range out.LocationIds {
		w.listeners[id].rules[location] = &rules[i]
	}
}

func (w *world) dropRule() {
	clb, id := w.listenerOf()
	location := "loc-00000000"
	if l := w.listeners[id]; l != nil {
		location = w.one("location", keysOf(l.rules), "loc-")
	}
	codes := w.model.deleteRule(clb, id, location)
	w.ask("DeleteRule", map[string]any{"LoadBalancerId": clb, "ListenerId": id, "LocationIds": []string{location}}, codes, nil)
	w.forget(location, codes)
}

func (w *world) newTargetGroup() {
	var out struct{ TargetGroupId string }
	port := rapid.SampledFrom([]int64{8080, 8080, 0}).Draw(w.T, "port")
	codes := w.model.createTargetGroup(port)
	w.ask("CreateTargetGroup", map[string]any{"TargetGroupName": "workers", "Port": port}, codes, &out)
	if len(codes) == 0 {
		w.members[out.TargetGroupId] = []modelTarget{}
	}
}

// editTargetGroup adds a member, takes one out, or deletes the group.
func (w *world) editTargetGroup() {
	id := w.targetGroup()
	if rapid.IntRange(0, 4).Draw(w.T, "delete") == 0 {
		codes := w.deleteTargetGroup(id)
		w.ask("DeleteTargetGroups", map[string]any{"TargetGroupIds": []string{id}}, codes, nil)
		w.forget(id, codes)
		return
	}
	t := modelTarget{w.instance(), w.targetPort(), w.weight()}
	address := "203.0.113.99" // of nobody
	if i := w.b.Store.State().Instances.Get(lb.InstanceID(t.instance)); i != nil {
		address = i.Private.String()
	}
	params := map[string]any{"TargetGroupId": id, "TargetGroupInstances": []any{map[string]any{"BindIP": address, "Port": t.port, "Weight": t.weight}}}
	if rapid.IntRange(0, 2).Draw(w.T, "leave") == 0 {
		w.ask("DeregisterTargetGroupInstances", params, w.delist(id, t), nil)
		return
	}
	w.ask("RegisterTargetGroupInstances", params, w.enlist(id, t), nil)
}

func (w *world) associateGroup() {
	clb, id := w.listenerOf()
	location, group := w.location(id), w.targetGroup()
	params := map[string]any{"Associations": []any{map[string]any{"LoadBalancerId": clb, "ListenerId": id, "LocationId": location, "TargetGroupId": group}}}
	if rapid.IntRange(0, 3).Draw(w.T, "apart") == 0 {
		w.ask("DisassociateTargetGroups", params, w.unfollow(clb, id, location, group), nil)
		return
	}
	w.ask("AssociateTargetGroups", params, w.follow(clb, id, location, group), nil)
}

type targetView struct {
	InstanceId   string
	Port, Weight int64
}

func targetViews(list []targetView) []modelTarget {
	targets := []modelTarget{}
	for _, t := range list {
		targets = append(targets, modelTarget{t.InstanceId, t.Port, t.Weight})
	}
	return targets
}

// describeMore is the rest of the model as text.
func (w *world) describeMore(b *strings.Builder) {
	for _, id := range keysOf(w.templates) {
		fmt.Fprintf(b, "%s %v\n", id, w.templates[id])
	}
	for _, id := range keysOf(w.vpcs) {
		fmt.Fprintf(b, "%s %s\n", id, w.vpcs[id])
	}
	for _, id := range keysOf(w.subnets) {
		fmt.Fprintf(b, "%s %v\n", id, w.subnets[id])
	}
	for _, id := range keysOf(w.members) {
		fmt.Fprintf(b, "%s %v\n", id, w.members[id])
	}
}

// readMore is what Describe actions answer of it, in the same words.
func (w *world) readMore(b *strings.Builder) {
	lines := map[string]string{}
	flush := func() {
		for _, id := range keysOf(lines) {
			fmt.Fprintf(b, "%s %s\n", id, lines[id])
		}
		clear(lines)
	}
	var templates struct{ AddressTemplateSet []addressListOut }
	w.ask("DescribeAddressTemplates", map[string]any{}, nil, &templates)
	for _, t := range templates.AddressTemplateSet {
		lines[t.AddressTemplateId] = fmt.Sprint(t.AddressSet)
	}
	flush()
	var vpcs struct{ VpcSet []vpcOut }
	w.ask("DescribeVpcs", map[string]any{}, nil, &vpcs)
	for _, v := range vpcs.VpcSet {
		if !v.IsDefault {
			lines[v.VpcId] = v.CidrBlock
		}
	}
	flush()
	var subnets struct{ SubnetSet []subnetOut }
	w.ask("DescribeSubnets", map[string]any{}, nil, &subnets)
	for _, s := range subnets.SubnetSet {
		if !s.IsDefault {
			lines[s.SubnetId] = fmt.Sprint(modelSubnet{s.VpcId, s.CidrBlock})
		}
	}
	flush()
	for _, id := range keysOf(w.members) {
		var members struct {
			TargetGroupInstanceSet []struct {
				InstanceId   string
				Port, Weight int64
			}
		}
		w.ask("DescribeTargetGroupInstances", map[string]any{"Filters": []any{map[string]any{"Name": "TargetGroupId", "Values": []string{id}}}}, nil, &members)
		targets := []modelTarget{}
		for _, t := range members.TargetGroupInstanceSet {
			targets = append(targets, modelTarget{t.InstanceId, t.Port, t.Weight})
		}
		lines[id] = fmt.Sprint(targets)
	}
	flush()
}
