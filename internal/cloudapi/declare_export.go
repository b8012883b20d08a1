// SPDX-License-Identifier: Apache-2.0

package cloudapi

import (
	"cmp"
	"slices"

	"github.com/sallyport/sallyport/internal/lb"
)

// An exporter writes the state's objects as documents.
type exporter struct {
	st    *lb.State
	names names
	ids   bool // refer by id always: for comparing
}

// names counts per kind how many objects have a name: only one that is alone
// can be referred to by it.
type names struct {
	vpcs, subnets, groups, instances, addresses, targetGroups, certificates map[string]int
	templates                                                               map[string]map[string]int // by prefix
}

func namesOf(st *lb.State) names {
	templates := map[string]map[string]int{}
	for _, k := range templateKinds() {
		templates[k.prefix] = countNames(k.all(st), func(t *lb.Template) string { return t.Name })
	}
	return names{
		templates:    templates,
		vpcs:         countNames(st.VPCs, func(v *lb.VPC) string { return v.Name }),
		subnets:      countNames(st.Subnets, func(n *lb.Subnet) string { return n.Name }),
		groups:       countNames(st.Groups, func(g *lb.SecurityGroup) string { return g.Name }),
		instances:    countNames(st.Instances, func(i *lb.Instance) string { return i.Name }),
		addresses:    countNames(st.Addresses, func(e *lb.Address) string { return e.Name }),
		certificates: countNames(st.Certificates, func(c *lb.Certificate) string { return c.Alias }),
		targetGroups: countNames(st.TargetGroups, func(g *lb.TargetGroup) string { return g.Name }),
	}
}

func countNames[K ~string, V any](objects lb.Table[K, V], name func(*V) string) map[string]int {
	n := make(map[string]int, objects.Len())
	for _, o := range objects.All() {
		n[name(o)]++
	}
	return n
}

// reference is how documents name an object: by its name where that is enough.
// A name that could be an id is not.
func reference[K ~string](x *exporter, counts map[string]int, id K, name string) string {
	if x.ids || name == "" || counts[name] != 1 || idLike(name) {
		return string(id)
	}
	return name
}

// inOrder lists objects by name, then id.
func inOrder[K ~string, V any](objects lb.Table[K, V], name func(*V) string) []*V {
	keys := objects.Sorted()
	slices.SortStableFunc(keys, func(a, b K) int { return cmp.Compare(name(objects.Get(a)), name(objects.Get(b))) })
	list := make([]*V, len(keys))
	for i, k := range keys {
		list[i] = objects.Get(k)
	}
	return list
}

func each[K ~string, V, D any](objects lb.Table[K, V], name func(*V) string, doc func(*V) D) []D {
	var docs []D
	for _, o := range inOrder(objects, name) {
		docs = append(docs, doc(o))
	}
	return docs
}

func (x *exporter) all() configuration {
	return configuration{
		Vpcs:               each(x.st.VPCs, func(v *lb.VPC) string { return v.Name }, x.vpc),
		Subnets:            each(x.st.Subnets, func(n *lb.Subnet) string { return n.Name }, x.subnet),
		ParameterTemplates: x.templates(),
		SecurityGroups:     each(x.st.Groups, func(g *lb.SecurityGroup) string { return g.Name }, x.group),
		Addresses:          each(x.st.Addresses, func(e *lb.Address) string { return e.Name }, x.address),
		TargetGroups:       each(x.st.TargetGroups, func(g *lb.TargetGroup) string { return g.Name }, x.targetGroup),
		Instances:          each(x.st.Instances, func(i *lb.Instance) string { return i.Name }, x.instance),
		LoadBalancers:      each(x.st.Balancers, func(b *lb.LoadBalancer) string { return b.Name }, x.balancer),
	}
}

func (x *exporter) vpcRef(id lb.VPCID) string {
	if v := x.st.VPCs.Get(id); v != nil {
		return reference(x, x.names.vpcs, id, v.Name)
	}
	return string(id)
}

func (x *exporter) groupRef(id lb.GroupID) string {
	if g := x.st.Groups.Get(id); g != nil {
		return reference(x, x.names.groups, id, g.Name)
	}
	return string(id)
}

func (x *exporter) groupRefs(ids []lb.GroupID) []string {
	refs := make([]string, len(ids))
	for i, id := range ids {
		refs[i] = x.groupRef(id)
	}
	return refs
}

func (x *exporter) vpc(v *lb.VPC) vpcDoc {
	d := vpcDoc{Id: string(v.ID), VpcName: v.Name, CidrBlock: v.Cidr.String(), Ipv6CidrBlock: cidr6Text(v.Cidr6), IsDefault: v.IsDefault, Tags: tagsOut(v.Tags)}
	for _, p := range v.Assistant {
		d.AssistantCidrs = append(d.AssistantCidrs, p.String())
	}
	fillEcho(&d, v.Echo)
	return d
}

func (x *exporter) subnet(n *lb.Subnet) subnetDoc {
	d := subnetDoc{Id: string(n.ID), SubnetName: n.Name, Vpc: x.vpcRef(n.VPC), CidrBlock: n.Cidr.String(), Ipv6CidrBlock: cidr6Text(n.Cidr6), Zone: n.Zone,
		IsDefault: n.IsDefault, Tags: tagsOut(n.Tags)}
	fillEcho(&d, n.Echo)
	return d
}

func (x *exporter) group(g *lb.SecurityGroup) groupDoc {
	d := groupDoc{Id: string(g.ID), GroupName: g.Name, GroupDescription: g.Desc, ProjectId: g.ProjectID, IsDefault: g.IsDefault, Tags: tagsOut(g.Tags)}
	for _, r := range g.Ingress {
		d.Ingress = append(d.Ingress, x.policy(r))
	}
	for _, r := range g.Egress {
		d.Egress = append(d.Egress, x.policy(r))
	}
	return d
}

func (x *exporter) policy(r lb.PolicyRule) policyDoc {
	d := policyDoc{Action: r.Action.String(), Protocol: r.Text.Protocol, Port: r.Text.Port, CidrBlock: r.Text.Cidr,
		Ipv6CidrBlock: r.Text.Cidr6, PolicyDescription: r.Description}
	if r.PeerGroup != "" {
		d.SecurityGroup = x.groupRef(r.PeerGroup)
	}
	if r.PeerTemplate != "" {
		d.AddressTemplate = x.templateRef(r.PeerTemplate)
	}
	if r.Service != "" {
		d.ServiceTemplate = x.templateRef(r.Service)
	}
	return d
}

func (x *exporter) instance(i *lb.Instance) instanceDoc {
	d := instanceDoc{Id: string(i.ID), InstanceName: i.Name, Vpc: x.vpcRef(i.VPC), PrivateIpAddress: addrText(i.Private),
		PublicIpAddress: addrText(i.Public), Ipv6Address: addrText(i.IPv6), PublicIpAssigned: i.Public.IsValid(), Joined: i.Joined, Host: string(i.Host), Device: i.Port, MacAddress: i.MAC, Observe: i.Observe, KeepFlows: i.Keep, SecurityGroups: x.groupRefs(i.Groups), Tags: tagsOut(i.Tags)}
	fillEcho(&d, i.Echo)
	if d.Subnet = x.subnetRef(i.Subnet); i.Basic() {
		d.Network = networkBasic
	}
	return d
}

func (x *exporter) subnetRef(id lb.SubnetID) string {
	if n := x.st.Subnets.Get(id); n != nil {
		return reference(x, x.names.subnets, id, n.Name)
	}
	return string(id)
}

func (x *exporter) instanceRef(id lb.InstanceID) string {
	if i := x.st.Instances.Get(id); i != nil {
		return reference(x, x.names.instances, id, i.Name)
	}
	return string(id)
}

func (x *exporter) targetGroupRef(id lb.TargetGroupID) string {
	if g := x.st.TargetGroups.Get(id); g != nil {
		return reference(x, x.names.targetGroups, id, g.Name)
	}
	return string(id)
}

func clbTags(tags lb.Tags) []clbTag {
	var list []clbTag
	for _, k := range sortedKeys(tags) {
		list = append(list, clbTag{TagKey: k, TagValue: tags[k]})
	}
	return list
}

func plainTags(tags []clbTag) []Tag {
	var list []Tag
	for _, t := range tags {
		list = append(list, Tag{Key: t.TagKey, Value: t.TagValue})
	}
	return list
}

func (x *exporter) balancer(b *lb.LoadBalancer) balancerDoc {
	d := balancerDoc{Id: string(b.ID), LoadBalancerName: b.Name, LoadBalancerType: string(b.Type), Vpc: x.vpcRef(b.VPC),
		SecurityGroups: x.groupRefs(b.Groups), LoadBalancerPassToTarget: b.PassToTarget, KeepFlows: b.Keep, ReturnPath: string(b.ReturnPath), DeleteProtect: b.Protected,
		Classic: b.Classic, Subnet: x.subnetRef(b.Subnet), Address: x.eipOf(b), Tags: clbTags(b.Tags)}
	if b.IPv6() {
		d.AddressIPVersion = fullChain
	}
	if b.Classic {
		d.CreateTime = stamp(b.Created)
	}
	if b.Basic() {
		d.Network = networkBasic
	}
	if len(b.VIPs) > 0 {
		d.Vip = b.VIPs[0].String()
	}
	fillEcho(&d, b.Echo)
	for _, l := range listenersOf(x.st, b.ID) {
		d.Listeners = append(d.Listeners, x.listener(l))
	}
	return d
}

func (x *exporter) listener(l *lb.Listener) listenerDoc {
	d := listenerDoc{Id: string(l.ID), Protocol: string(l.Protocol), Port: int64(l.Port), EndPort: int64(l.EndPort), ListenerName: l.Name, Stopped: l.Stopped}
	if l.Protocol.Layer7() {
		if d.Certificate = x.certificateRef(l.Certificate); l.SNI {
			d.SniSwitch = 1
		}
		for i := range l.Rules {
			d.Rules = append(d.Rules, x.rule(&l.Rules[i]))
		}
		return d
	}
	d.Scheduler, d.TargetType, d.TargetGroup = l.Scheduler, string(l.From), x.targetGroupRef(l.Group)
	d.HealthCheck, d.Targets = x.ownOf(l.From, l.Check, l.Targets)
	d.SessionExpireTime, d.SlowStart = int64(l.Choice.Session), int64(l.Choice.SlowStart)
	if l.Choice.HealthyOnly {
		d.WhenAllUnhealthy = unhealthyNone
	}
	return d
}

func (x *exporter) rule(r *lb.Rule) ruleDoc {
	d := ruleDoc{Id: string(r.ID), Domain: r.Domain, Url: r.URL, DefaultServer: r.Default, Scheduler: r.Scheduler,
		TargetType: string(r.From), TargetGroup: x.targetGroupRef(r.Group), Certificate: x.certificateRef(r.Certificate)}
	d.HealthCheck, d.Targets = x.ownOf(r.From, r.Check, r.Targets)
	d.SessionExpireTime, d.CookieName, d.SlowStart = int64(r.Choice.Session), r.Choice.Cookie, int64(r.Choice.SlowStart)
	if r.Choice.HealthyOnly {
		d.WhenAllUnhealthy = unhealthyNone
	}
	if w := r.Rewrite; w != nil {
		d.Redirect = &redirectDoc{RewriteCode: int64(w.Code), TakeUrl: w.TakeURL, Auto: w.Auto}
		if to := x.st.Listeners.Get(w.Listener); to != nil {
			d.Redirect.Port = int64(to.Port)
			if i := slices.IndexFunc(to.Rules, func(r lb.Rule) bool { return r.ID == w.Location }); i >= 0 {
				d.Redirect.Domain, d.Redirect.Url = to.Rules[i].Domain, to.Rules[i].URL
			}
		}
	}
	return d
}

// ownOf is what a listener or rule says by itself: the members of a group are
// the group's, and so is the check of one that checks.
func (x *exporter) ownOf(from lb.TargetType, check lb.HealthCheck, targets []lb.Target) (*healthCheckIn, []targetDoc) {
	switch from {
	case lb.TargetGroupV1:
		return checkDoc(check), nil
	case lb.TargetGroupV2:
		return nil, nil
	}
	return checkDoc(check), x.targets(targets)
}

func (x *exporter) targets(list []lb.Target) []targetDoc {
	var docs []targetDoc
	for _, t := range list {
		weight := int64(t.Weight)
		d := targetDoc{Instance: x.instanceRef(t.Instance), Port: int64(t.Port), Weight: &weight}
		if t.ByAddress {
			d.Type = typeENI
		}
		docs = append(docs, d)
	}
	return docs
}

// checkDoc is a health check with every field that its type has.
func checkDoc(h lb.HealthCheck) *healthCheckIn {
	number := func(n int) *int64 { v := int64(n); return &v }
	on := 0
	if h.On {
		on = 1
	}
	in := &healthCheckIn{HealthSwitch: number(on), CheckType: &h.Type, TimeOut: number(h.TimeOut), IntervalTime: number(h.IntervalTime),
		HealthNum: number(h.HealthNum), UnHealthNum: number(h.UnHealthNum), SourceIpType: number(h.SourceIPType)}
	if h.Port != 0 {
		in.CheckPort = number(h.Port)
	}
	if h.HTTPCode != 0 {
		in.HttpCode, in.HttpCheckPath, in.HttpCheckMethod = number(h.HTTPCode), &h.HTTPPath, &h.HTTPMethod
		in.HttpCheckDomain, in.HttpVersion = &h.HTTPDomain, &h.HTTPVersion
	}
	if h.ContextType != "" {
		in.ContextType, in.SendContext, in.RecvContext = &h.ContextType, &h.SendContext, &h.RecvContext
	}
	return in
}
