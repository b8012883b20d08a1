// SPDX-License-Identifier: Apache-2.0

package cloudapi

import (
	"cmp"
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/sallyport/sallyport/internal/lb"
)

type describeLoadBalancersIn struct {
	LoadBalancerIds   []string `tc:"count=0-20"`
	LoadBalancerType  string   `tc:"enum=OPEN|INTERNAL"`
	Forward           *int64   `tc:"only=1|0|-1"` // -1: both
	LoadBalancerName  string   `tc:""`
	LoadBalancerVips  []string `tc:""`
	BackendPublicIps  []string `tc:""`
	BackendPrivateIps []string `tc:""`
	Paging
	OrderBy          string   `tc:"enum=LoadBalancerName|CreateTime|Domain|LoadBalancerType"`
	Domain           string   `tc:""`
	MasterZone       string   `tc:""`
	AdditionalFields []string `tc:""`
	OrderType        *int64   `tc:"enum=0|1"`
	SearchKey        string   `tc:""`
	ProjectId        *int64   `tc:""`
	WithRs           *int64   `tc:"enum=-1|0|1"`
	VpcId            string   `tc:""`
	SecurityGroup    string   `tc:""`
	Filters          []Filter `tc:"" filters:"master-zone-id charge-type=POSTPAID_BY_HOUR|POSTPAID|PREPAID internet-charge-type=TRAFFIC_POSTPAID_BY_HOUR|BANDWIDTH_POSTPAID_BY_HOUR|BANDWIDTH_PACKAGE|BANDWIDTH_PREPAID vip-isp=BGP|CMCC|CTCC|CUCC|INTERNAL sla-type exclusive=0|1 function-name tag-key tag:KEY"`
}

type describeLoadBalancersOut struct {
	TotalCount      int
	LoadBalancerSet []loadBalancerOut
}

type loadBalancerOut struct {
	LoadBalancerId, LoadBalancerName, LoadBalancerType, Domain, LoadBalancerDomain string
	LoadBalancerVips                                                               []string
	Forward, Status, OpenBgp, Isolation                                            int
	Snat, SnatPro, IsDDos, IsBlock                                                 bool
	CreateTime, StatusTime                                                         string
	ProjectId                                                                      int64
	VpcId, SubnetId, LogSetId, LogTopicId, VipIsp, SlaType, ConfigId, Egress       string
	AddressIPVersion                                                               string
	IPv6Mode, AddressIPv6                                                          *string
	Tags                                                                           []clbTagOut
	SecureGroups                                                                   []lb.GroupID
	TargetRegionInfo                                                               regionInfo
	MasterZone                                                                     zoneOut
	BackupZoneSet, SnatIps                                                         []none
	AttributeFlags, ClusterIds                                                     []string
	NetworkAttributes                                                              json.RawMessage
	ChargeType                                                                     string
	LoadBalancerPassToTarget                                                       bool
	Zones                                                                          []string
	TargetCount                                                                    *int
}

type clbTagOut struct{ TagKey, TagValue string }

type regionInfo struct{ Region, VpcId string }

type zoneOut struct {
	ZoneId                     int
	Zone, ZoneName, ZoneRegion string
	LocalZone, EdgeZone        bool
}

func describeLoadBalancers(c *Call, in *describeLoadBalancersIn) (*describeLoadBalancersOut, error) {
	for i, name := range in.AdditionalFields {
		if name != "TargetCount" {
			return nil, refuse(lb.Invalid, fmt.Sprintf("AdditionalFields.%d", i), fmt.Sprintf("%q is not a field to add", clip(name, 40)), "use TargetCount")
		}
	}
	st := c.State()
	listeners := listenersByBalancer(st)
	var all []*lb.LoadBalancer
	for _, b := range st.Balancers.All() {
		if in.matches(st, b, listeners[b.ID]) && (in.MasterZone == "" || in.MasterZone == c.Zone()) {
			all = append(all, b)
		}
	}
	all, err := filter(all, in.Filters, map[string]func(*lb.LoadBalancer) []string{
		"master-zone-id":       func(*lb.LoadBalancer) []string { return []string{c.Zone()} },
		"charge-type":          func(b *lb.LoadBalancer) []string { return []string{chargeType(b)} },
		"internet-charge-type": func(b *lb.LoadBalancer) []string { return []string{internetOf(b).InternetChargeType} },
		"vip-isp":              func(b *lb.LoadBalancer) []string { return []string{ispOf(b)} },
		"sla-type":             func(*lb.LoadBalancer) []string { return []string{"shared"} },
		"exclusive":            func(*lb.LoadBalancer) []string { return []string{"0"} },
		"function-name":        func(*lb.LoadBalancer) []string { return nil }, // no target is a function
	}, func(b *lb.LoadBalancer) lb.Tags { return b.Tags })
	if err != nil {
		return nil, err
	}
	in.sort(all)
	cut := page(all, in.Paging)
	out := &describeLoadBalancersOut{TotalCount: len(all)}
	for _, b := range cut {
		shown := c.showBalancer(b, listeners[b.ID])
		if slices.Contains(in.AdditionalFields, "TargetCount") {
			n := boundTargets(listeners[b.ID])
			shown.TargetCount = &n
		}
		out.LoadBalancerSet = append(out.LoadBalancerSet, shown)
	}
	return out, nil
}

func (in *describeLoadBalancersIn) matches(st *lb.State, b *lb.LoadBalancer, listeners []*lb.Listener) bool {
	if len(in.LoadBalancerIds) > 0 && !slices.Contains(in.LoadBalancerIds, string(b.ID)) {
		return false
	}
	vips := texts(b.VIPs)
	switch {
	case in.LoadBalancerType != "" && in.LoadBalancerType != string(b.Type),
		in.Forward != nil && *in.Forward != -1 && (*in.Forward == 0) != b.Classic,
		!strings.Contains(b.Name, in.LoadBalancerName),
		len(in.LoadBalancerVips) > 0 && !overlap(in.LoadBalancerVips, vips),
		in.ProjectId != nil && *in.ProjectId != projectOf(b),
		in.VpcId != "" && in.VpcId != cmp.Or(string(b.VPC), "0"), // the basic network is "0"
		in.Domain != "", // none has a domain of ours
		in.SecurityGroup != "" && !slices.Contains(b.Groups, lb.GroupID(in.SecurityGroup)):
		return false
	case in.SearchKey != "" && !slices.ContainsFunc(append(vips, b.Name, string(b.ID)), func(s string) bool { return strings.Contains(s, in.SearchKey) }):
		return false
	}
	if in.WithRs != nil && *in.WithRs == -1 { // all
		in.WithRs = nil
	}
	if len(in.BackendPublicIps) == 0 && len(in.BackendPrivateIps) == 0 && in.WithRs == nil {
		return true
	}
	public, private := backends(st, listeners)
	return (in.WithRs == nil || (*in.WithRs == 1) == (len(private) > 0)) &&
		(len(in.BackendPublicIps) == 0 || overlap(in.BackendPublicIps, public)) &&
		(len(in.BackendPrivateIps) == 0 || overlap(in.BackendPrivateIps, private))
}

// backends lists the addresses of everything bound to a load balancer.
func backends(st *lb.State, listeners []*lb.Listener) (public, private []string) {
	for _, l := range listeners {
		targets := slices.Clone(l.Targets)
		for _, r := range l.Rules {
			targets = append(targets, r.Targets...)
		}
		for _, t := range targets {
			if i := st.Instances.Get(t.Instance); i != nil {
				private = append(private, i.ServiceFor(st.Balancers.Get(l.Balancer)).String())
				if i.Public.IsValid() {
					public = append(public, i.Public.String())
				}
			}
		}
	}
	return public, private
}

func (in *describeLoadBalancersIn) sort(all []*lb.LoadBalancer) {
	by := func(a, b *lb.LoadBalancer) int { return a.Created.Compare(b.Created) }
	switch in.OrderBy {
	case "", "CreateTime":
	case "Domain":
		by = func(a, b *lb.LoadBalancer) int { return 0 } // none has one
	case "LoadBalancerName":
		by = func(a, b *lb.LoadBalancer) int { return cmp.Compare(a.Name, b.Name) }
	case "LoadBalancerType":
		by = func(a, b *lb.LoadBalancer) int { return cmp.Compare(a.Type, b.Type) }
	}
	slices.SortFunc(all, func(a, b *lb.LoadBalancer) int { return cmp.Or(by(a, b), cmp.Compare(a.Num, b.Num)) })
	if in.OrderType == nil || *in.OrderType != 0 {
		slices.Reverse(all)
	}
}

func (c *Call) showBalancer(b *lb.LoadBalancer, listeners []*lb.Listener) loadBalancerOut {
	out := loadBalancerOut{
		LoadBalancerId: string(b.ID), LoadBalancerName: b.Name, LoadBalancerType: string(b.Type),
		LoadBalancerVips: texts(b.VIPs), Forward: 1, Status: 1, CreateTime: stamp(b.Created), StatusTime: stamp(b.Created),
		ProjectId: projectOf(b), VpcId: string(b.VPC), SubnetId: string(b.Subnet), AddressIPVersion: "ipv4",
		SecureGroups: b.Groups, TargetRegionInfo: regionInfo{c.Region, string(b.VPC)},
		MasterZone: zoneOut{Zone: c.Zone(), ZoneName: c.Zone(), ZoneRegion: c.Region}, Zones: []string{c.Zone()},
		NetworkAttributes: json.RawMessage(cmp.Or(b.Echo["InternetAccessible"], "null")),
		ChargeType:        chargeType(b), LoadBalancerPassToTarget: b.PassToTarget,
	}
	if b.IPv6() {
		mode, address := fullChain, b.VIPs[0].String()
		out.AddressIPVersion, out.IPv6Mode, out.AddressIPv6 = "ipv6", &mode, &address
	}
	out.AttributeFlags = attributeFlags(listeners, b)
	if b.Classic {
		out.Forward = 0
	}
	for _, key := range sortedKeys(b.Tags) {
		out.Tags = append(out.Tags, clbTagOut{key, b.Tags[key]})
	}
	return out
}

// projectOf and chargeType read what was stored without effect.
func projectOf(b *lb.LoadBalancer) int64 { return echoed(b.Echo, "ProjectId", int64(0)) }

func chargeType(b *lb.LoadBalancer) string { return echoed(b.Echo, "LBChargeType", "POSTPAID_BY_HOUR") }

// internetOf reads how the traffic would be paid for.
func internetOf(b *lb.LoadBalancer) (paid struct{ InternetChargeType string }) {
	return echoed(b.Echo, "InternetAccessible", paid)
}

// ispOf is the line that a load balancer's address is on.
func ispOf(b *lb.LoadBalancer) string {
	if b.Private() {
		return "INTERNAL"
	}
	return "BGP"
}

// boundTargets counts what is bound to a load balancer.
func boundTargets(listeners []*lb.Listener) int {
	n := 0
	for _, l := range listeners {
		n += targetCount(l)
	}
	return n
}

// echoed reads a stored echo field; or is what reads return when it was never
// given.
func echoed[T any](echo map[string]string, name string, or T) T {
	v := or
	if text, ok := echo[name]; ok && json.Unmarshal([]byte(text), &v) != nil {
		return or
	}
	return v
}

func texts(addrs []netip.Addr) []string {
	all := make([]string, len(addrs))
	for i, a := range addrs {
		all[i] = a.String()
	}
	return all
}

func overlap(a, b []string) bool {
	return slices.ContainsFunc(a, func(s string) bool { return slices.Contains(b, s) })
}
