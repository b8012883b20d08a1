// SPDX-License-Identifier: Apache-2.0

package cloudapi

import (
	"cmp"
	"slices"

	"github.com/sallyport/sallyport/internal/lb"
)

func clbListActions() []Action {
	return []Action{
		action(serviceCLB, "DescribeQuota", describeQuota),
		action(serviceCLB, "DescribeResources", describeResources).fails("InvalidParameterValue.Range"),
		action(serviceCLB, "DescribeLBListeners", describeLBListeners).fails("InvalidParameterValue.Length"),
		action(serviceCLB, "DescribeLoadBalancersDetail", describeLoadBalancersDetail).fails("InvalidParameterValue", "InvalidParameterValue.Range"),
		action(serviceCLB, "DescribeLoadBalancerOverview", describeLoadBalancerOverview),
	}
}

type describeQuotaIn struct{}

type describeQuotaOut struct {
	QuotaSet []quotaOut
}

// quotaOut has a null QuotaCurrent where the quota is one object's, not the
// region's.
type quotaOut struct {
	QuotaId      string
	QuotaCurrent *int
	QuotaLimit   int
}

// describeQuota lists all quotas that the vendor names: those that are enforced,
// and 0 for what there cannot be here.
func describeQuota(c *Call, _ *describeQuotaIn) (*describeQuotaOut, error) {
	used := map[lb.BalancerType]int{}
	for _, b := range c.State().Balancers.All() {
		used[b.Type]++
	}
	public, private, none := used[lb.Open], used[lb.Internal], 0
	return &describeQuotaOut{QuotaSet: []quotaOut{
		{"TOTAL_OPEN_CLB_QUOTA", &public, c.Quotas.BalancersPerType},
		{"TOTAL_INTERNAL_CLB_QUOTA", &private, c.Quotas.BalancersPerType},
		{"TOTAL_LISTENER_QUOTA", nil, c.Quotas.ListenersPerLB},
		{"TOTAL_LISTENER_RULE_QUOTA", nil, c.Quotas.RulesPerListener},
		{"TOTAL_TARGET_BIND_QUOTA", nil, c.Quotas.TargetsPerListener},
		{"TOTAL_SNAT_IP_QUOTA", nil, 0},                  // targets see the client's own address
		{"TOTAL_ISP_CLB_QUOTA", &none, 0},                // VipIsp is not served
		{"TOTAL_FULL_PORT_RANGE_LISTENER_QUOTA", nil, 1}, // of each protocol: a second one's ports would be taken
	}}, nil
}

type describeLoadBalancerOverviewIn struct{}

type describeLoadBalancerOverviewOut struct {
	TotalCount, RunningCount, IsolationCount, WillExpireCount int
}

// describeLoadBalancerOverview counts load balancers. None is ever isolated or
// expires: nobody pays for them.
func describeLoadBalancerOverview(c *Call, _ *describeLoadBalancerOverviewIn) (*describeLoadBalancerOverviewOut, error) {
	n := c.State().Balancers.Len()
	return &describeLoadBalancerOverviewOut{TotalCount: n, RunningCount: n}, nil
}

type describeResourcesIn struct {
	Paging
	Filters []Filter `tc:"" filters:"master-zone ip-version=IPv4|IPv6|IPv6_Nat isp=BGP|CMCC|CTCC|CUCC|INTERNAL"`
}

type describeResourcesOut struct {
	TotalCount      int
	ZoneResourceSet []zoneResource
}

type zoneResource struct {
	MasterZone, IPVersion, ZoneRegion, ZoneResourceType, Egress string
	SlaveZone                                                   *string
	LocalZone, EdgeZone                                         bool
	ResourceSet                                                 []zoneISP
}

type zoneISP struct {
	Type            []string
	Isp             string
	AvailabilitySet []ispAvailability
	TypeSet         []ispType
}

type ispAvailability struct{ Type, Availability string }

type ispType struct {
	Type                string
	SpecAvailabilitySet []specAvailability
}

type specAvailability struct{ SpecType, Availability string }

// describeResources lists where load balancers can be made: the region's zone,
// public ones as long as the VIP pool has a free address, and private ones.
func describeResources(c *Call, in *describeResourcesIn) (*describeResourcesOut, error) {
	isp := func(name string, available bool) zoneISP {
		word := "Unavailable"
		if available {
			word = "Available"
		}
		return zoneISP{Type: []string{name}, Isp: name, AvailabilitySet: []ispAvailability{{name, word}},
			TypeSet: []ispType{{name, []specAvailability{{"shared", word}}}}}
	}
	_, err := c.pickVIP(c.State(), "", false)
	of := func(version string, set ...zoneISP) zoneResource {
		return zoneResource{MasterZone: c.Zone(), IPVersion: version, ZoneRegion: c.Region, ZoneResourceType: "SHARED", ResourceSet: set}
	}
	in6, out6 := c.placesIPv6()
	all := []zoneResource{of("IPv4", isp("BGP", err == nil), isp("INTERNAL", true)), of("IPv6", isp("BGP", out6), isp("INTERNAL", in6))}
	all, err = filter(all, in.Filters, map[string]func(zoneResource) []string{
		"master-zone": func(z zoneResource) []string { return []string{z.MasterZone} },
		"ip-version":  func(z zoneResource) []string { return []string{z.IPVersion} },
		"isp": func(z zoneResource) []string {
			var names []string
			for _, r := range z.ResourceSet {
				names = append(names, r.Isp)
			}
			return names
		},
	}, nil)
	if err != nil {
		return nil, err
	}
	cut := page(all, in.Paging)
	return &describeResourcesOut{TotalCount: len(all), ZoneResourceSet: cut}, nil
}

type backendIn struct {
	VpcId     string `tc:"required"`
	PrivateIp string `tc:"required"`
}

type describeLBListenersIn struct {
	Backends []backendIn `tc:"required,count=1-20"`
}

type describeLBListenersOut struct {
	LoadBalancers []boundBalancer
}

type boundBalancer struct {
	LoadBalancerId, Vip, Region string
	Listeners                   []boundListener
}

type boundListener struct {
	ListenerId, Protocol string
	Port, EndPort        int
	Rules                []boundRule
	Targets              []boundTarget
}

type boundRule struct {
	LocationId, Domain, Url string
	Targets                 []boundTarget
}

// boundTarget has a null VpcId: the vendor's is a number, and VPCs have none.
type boundTarget struct {
	Type, PrivateIp string
	Port            int
	VpcId           *int
	Weight          int
}

// maxBackends is how many addresses one describeLBListeners asks about.
const maxBackends = 20

// describeLBListeners finds the listeners and rules behind which instances
// stand, by the private addresses of those.
func describeLBListeners(c *Call, in *describeLBListenersIn) (*describeLBListenersOut, error) {
	st := c.State()
	wanted := func(b *lb.LoadBalancer, targets []lb.Target) []boundTarget {
		var all []boundTarget
		for _, t := range targets {
			i := st.Instances.Get(t.Instance)
			if i == nil || b == nil || !slices.Contains(in.Backends, backendIn{string(i.VPC), i.ServiceFor(b).String()}) {
				continue
			}
			all = append(all, boundTarget{Type: "cvm", PrivateIp: i.ServiceFor(b).String(), Port: int(t.Port), Weight: t.Weight})
		}
		return all
	}
	balancers := map[lb.BalancerID]*boundBalancer{}
	listeners := make([]*lb.Listener, 0, st.Listeners.Len())
	for _, l := range st.Listeners.All() {
		listeners = append(listeners, l)
	}
	slices.SortFunc(listeners, func(a, b *lb.Listener) int { return cmp.Compare(a.Num, b.Num) })
	out := &describeLBListenersOut{}
	for _, l := range listeners {
		bound := boundListener{ListenerId: string(l.ID), Protocol: string(l.Protocol), Port: int(l.Port), Targets: wanted(st.Balancers.Get(l.Balancer), l.Targets)}
		for _, r := range l.Rules {
			if targets := wanted(st.Balancers.Get(l.Balancer), r.Targets); len(targets) > 0 {
				bound.Rules = append(bound.Rules, boundRule{string(r.ID), r.Domain, r.URL, targets})
			}
		}
		if len(bound.Targets)+len(bound.Rules) == 0 {
			continue
		}
		if balancers[l.Balancer] == nil {
			balancers[l.Balancer] = &boundBalancer{LoadBalancerId: string(l.Balancer), Region: c.Region}
			if b := st.Balancers.Get(l.Balancer); b != nil && len(b.VIPs) > 0 {
				balancers[l.Balancer].Vip = b.VIPs[0].String()
			}
		}
		b := balancers[l.Balancer]
		b.Listeners = append(b.Listeners, bound)
	}
	for _, id := range sortedKeys(balancers) {
		out.LoadBalancers = append(out.LoadBalancers, *balancers[id])
	}
	return out, nil
}
