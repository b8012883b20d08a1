// SPDX-License-Identifier: Apache-2.0

package cloudapi

import (
	"cmp"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/sallyport/sallyport/internal/lb"
)

type describeLoadBalancersDetailIn struct {
	Paging
	Fields     []string `tc:""`
	TargetType string   `tc:"enum=NODE|GROUP"`
	Filters    []Filter `tc:"" filters:"loadbalancer-id project-id network=Public|Private vip vpcid zone target-ip fuzzy-search tag-key tag:KEY"`
}

type describeLoadBalancersDetailOut struct {
	TotalCount            int
	LoadBalancerDetailSet []balancerDetail
}

// balancerDetail is one row of the table that DescribeLoadBalancersDetail
// makes. Fields that were not asked for are null.
type balancerDetail struct {
	LoadBalancerId, LoadBalancerName                        string
	LoadBalancerType, Address, AddressIPv6                  *string
	AddressIPVersion, IPv6Mode, Zone, AddressIsp            *string
	VpcId, CreateTime, ChargeType, ConfigId                 *string
	Status, ProjectId, Isolation                            *int64
	NetworkAttributes                                       *json.RawMessage
	PrepaidAttributes, ExtraInfo, AvailableZoneAffinityInfo *struct{}
	Tags                                                    []clbTagOut
	ListenerId, Protocol, LocationId, Domain, Url           *string
	Port, SniSwitch                                         *int
	TargetId, TargetAddress, TargetHealth, Domains          *string
	TargetPort, TargetWeight                                *int
	SecurityGroup, SlaveZone, Zones, AttributeFlags         []string
	LoadBalancerPassToTarget, Exclusive                     *int
	LoadBalancerDomain, Egress, SlaType                     *string
}

// The fields that make rows finer than one for each load balancer.
const (
	listenerFields = "ListenerId Protocol Port SniSwitch"
	ruleFields     = "LocationId Domain Url Domains"
	targetFields   = "TargetId TargetAddress TargetPort TargetWeight TargetHealth"
)

// describeLoadBalancersDetail is everything as one flat table: a row for each
// load balancer, or for each listener, rule or target of it when Fields asks
// for theirs.
func describeLoadBalancersDetail(c *Call, in *describeLoadBalancersDetailIn) (*describeLoadBalancersDetailOut, error) {
	for i, name := range in.Fields {
		if _, ok := reflect.TypeFor[balancerDetail]().FieldByName(name); !ok {
			return nil, refuse(lb.Invalid, fmt.Sprintf("Fields.%d", i), fmt.Sprintf("there is no field %q", clip(name, 40)), "use the names of LoadBalancerDetail's fields")
		}
	}
	st := c.State()
	var all []*lb.LoadBalancer
	for _, b := range st.Balancers.All() {
		all = append(all, b)
	}
	all, err := c.filterDetail(all, in.Filters)
	if err != nil {
		return nil, err
	}
	slices.SortFunc(all, func(a, b *lb.LoadBalancer) int {
		return cmp.Or(a.Created.Compare(b.Created), cmp.Compare(a.Num, b.Num))
	})
	table := c.newDetailTable(in)
	table.behind = slices.DeleteFunc(slices.Clone(in.Filters), func(f Filter) bool { return f.Name != "target-ip" })
	for _, b := range all {
		table.balancer(b)
	}
	cut := page(table.rows, in.Paging)
	return &describeLoadBalancersDetailOut{TotalCount: len(table.rows), LoadBalancerDetailSet: cut}, nil
}

// filterDetail keeps load balancers; target-ip is of rows, see detailTable.
func (c *Call) filterDetail(all []*lb.LoadBalancer, filters []Filter) ([]*lb.LoadBalancer, error) {
	exact := slices.DeleteFunc(slices.Clone(filters), func(f Filter) bool { return f.Name == "fuzzy-search" || f.Name == "target-ip" })
	all, err := filter(all, exact, map[string]func(*lb.LoadBalancer) []string{
		"loadbalancer-id": func(b *lb.LoadBalancer) []string { return []string{string(b.ID)} },
		"project-id":      func(b *lb.LoadBalancer) []string { return []string{fmt.Sprint(projectOf(b))} },
		"network":         func(b *lb.LoadBalancer) []string { return []string{networkWord(b)} },
		"vip":             func(b *lb.LoadBalancer) []string { return texts(b.VIPs) },
		"vpcid":           func(b *lb.LoadBalancer) []string { return []string{string(b.VPC)} },
		"zone":            func(*lb.LoadBalancer) []string { return []string{c.Zone()} },
	}, func(b *lb.LoadBalancer) lb.Tags { return b.Tags })
	for _, f := range filters {
		if f.Name == "fuzzy-search" {
			all = slices.DeleteFunc(all, func(b *lb.LoadBalancer) bool {
				return !slices.ContainsFunc(f.Values, func(v string) bool {
					return slices.ContainsFunc(append(texts(b.VIPs), b.Name), func(s string) bool { return strings.Contains(s, v) })
				})
			})
		}
	}
	return all, err
}

// networkWord is how this action names the type of a load balancer.
func networkWord(b *lb.LoadBalancer) string {
	if b.Type == lb.Internal {
		return "Private"
	}
	return "Public"
}

// A detailTable makes the rows.
type detailTable struct {
	*Call
	health    healthView
	listeners map[lb.BalancerID][]*lb.Listener
	in        *describeLoadBalancersDetailIn
	fine      int      // 0: a row for each load balancer, 1: listener, 2: rule, 3: target
	behind    []Filter // of the addresses of targets: rows without such a target are left out
	rows      []balancerDetail
}

func (c *Call) newDetailTable(in *describeLoadBalancersDetailIn) *detailTable {
	t := &detailTable{Call: c, health: c.newHealth(), in: in}
	t.listeners = listenersByBalancer(t.health.state)
	for depth, group := range []string{listenerFields, ruleFields, targetFields} {
		if overlap(in.Fields, strings.Fields(group)) {
			t.fine = depth + 1
		}
	}
	return t
}

// has reports whether one of the targets has the addresses asked for.
func (t *detailTable) has(b *lb.LoadBalancer, targets ...lb.Target) bool {
	return len(t.behind) == 0 || slices.ContainsFunc(targets, func(target lb.Target) bool {
		addresses := backendAddress(t.health.state, b, target.Instance)
		return !slices.ContainsFunc(t.behind, func(f Filter) bool { return !overlap(f.Values, addresses) })
	})
}

// balancer adds a load balancer's rows. A listener without rules, or a rule
// without targets, has a row too.
func (t *detailTable) balancer(b *lb.LoadBalancer) {
	listeners := t.listeners[b.ID]
	if t.fine == 0 || len(listeners) == 0 {
		var all []lb.Target
		for _, l := range listeners {
			all = append(all, targetsUnder(l)...)
		}
		if t.has(b, all...) {
			t.add(b, nil, nil, nil)
		}
		return
	}
	for _, l := range listeners {
		if t.fine == 1 || len(l.Rules) == 0 {
			t.targets(b, l, nil, targetsUnder(l))
			continue
		}
		for i := range l.Rules {
			t.targets(b, l, &l.Rules[i], l.Rules[i].Targets)
		}
	}
}

// targetsUnder are a listener's own targets and those of its rules.
func targetsUnder(l *lb.Listener) []lb.Target {
	all := slices.Clone(l.Targets)
	for _, r := range l.Rules {
		all = append(all, r.Targets...)
	}
	return all
}

func (t *detailTable) targets(b *lb.LoadBalancer, l *lb.Listener, r *lb.Rule, all []lb.Target) {
	if len(t.behind) > 0 {
		all = slices.DeleteFunc(slices.Clone(all), func(target lb.Target) bool { return !t.has(b, target) })
	}
	any := false
	for i := range all {
		if t.fine == 3 && (t.in.TargetType == "" || (t.in.TargetType == "GROUP") == (all[i].Group != "")) {
			t.add(b, l, r, &all[i])
			any = true
		}
	}
	if !any && (len(t.behind) == 0 || t.fine < 3 && len(all) > 0) {
		t.add(b, l, r, nil)
	}
}

// add adds one row; l, r and target may be nil.
func (t *detailTable) add(b *lb.LoadBalancer, l *lb.Listener, r *lb.Rule, target *lb.Target) {
	shown := t.showBalancer(b, t.listeners[b.ID])
	network, zone, isp := networkWord(b), t.Zone(), "BGP"
	if b.Type == lb.Internal {
		isp = "INTERNAL"
	}
	version, status, isolation, pass, exclusive := "IPv4", int64(1), int64(0), 0, 0
	if b.PassToTarget {
		pass = 1
	}
	row := balancerDetail{
		LoadBalancerId: shown.LoadBalancerId, LoadBalancerName: shown.LoadBalancerName, LoadBalancerType: &network,
		AddressIPVersion: &version, Zone: &zone, AddressIsp: &isp, VpcId: &shown.VpcId, CreateTime: &shown.CreateTime,
		ChargeType: &shown.ChargeType, ConfigId: &shown.ConfigId, Status: &status, ProjectId: &shown.ProjectId, Isolation: &isolation,
		NetworkAttributes: &shown.NetworkAttributes, Tags: shown.Tags, SecurityGroup: groupTextsOf(b.Groups), Zones: shown.Zones,
		AttributeFlags: shown.AttributeFlags, LoadBalancerPassToTarget: &pass, Exclusive: &exclusive,
		LoadBalancerDomain: &shown.LoadBalancerDomain, Egress: &shown.Egress, SlaType: &shown.SlaType,
	}
	if len(b.VIPs) > 0 {
		address := b.VIPs[0].String()
		row.Address = &address
	}
	if b.IPv6() {
		version, row.AddressIPv6, row.IPv6Mode = "IPv6", shown.AddressIPv6, shown.IPv6Mode
	}
	check := lb.HealthCheck{}
	if l != nil {
		id, protocol, port, sni := string(l.ID), string(l.Protocol), int(l.Port), 0
		if l.SNI {
			sni = 1
		}
		row.ListenerId, row.Protocol, row.Port, row.SniSwitch, check = &id, &protocol, &port, &sni, l.Check
	}
	if r != nil {
		id := string(r.ID)
		row.LocationId, row.Domain, row.Url, row.Domains, check = &id, &r.Domain, &r.URL, &r.Domain, r.Check
	}
	if target != nil {
		id, port := string(target.Instance), int(target.Port)
		row.TargetId, row.TargetPort, row.TargetWeight = &id, &port, &target.Weight
		for _, address := range backendAddress(t.health.state, b, target.Instance) {
			row.TargetAddress = &address
		}
		word, _ := t.health.judge(b, check, *target)
		row.TargetHealth = &word
	}
	row.keepOnly(t.in.Fields)
	t.rows = append(t.rows, row)
}

// keepOnly makes every field null that was not asked for; id and name stay.
func (row *balancerDetail) keepOnly(fields []string) {
	v := reflect.ValueOf(row).Elem()
	for i := range v.NumField() {
		name := v.Type().Field(i).Name
		if name != "LoadBalancerId" && name != "LoadBalancerName" && !slices.Contains(fields, name) {
			v.Field(i).SetZero()
		}
	}
}
