// SPDX-License-Identifier: Apache-2.0

package cloudapi

import (
	"slices"
	"strconv"
	"strings"

	"github.com/sallyport/sallyport/internal/lb"
)

// A templateOut is never set: templates are not served. Clients dereference
// its fields all the same.
type addressTemplateOut struct{ AddressId, AddressGroupId string }

type serviceTemplateOut struct{ ServiceId, ServiceGroupId string }

// A policyOut is a rule as clients read it. No field is ever null, because
// clients do not look.
type policyOut struct {
	PolicyIndex       int
	PolicyId          string // ours: the rule's stable id
	Action            string
	Protocol          string
	Port              string
	CidrBlock         string
	Ipv6CidrBlock     string
	SecurityGroupId   string
	AddressTemplate   addressTemplateOut
	ServiceTemplate   serviceTemplateOut
	PolicyDescription string
	ModifyTime        string
	Priority          int
}

type policyStatisticsOut struct {
	IngressIPv4TotalCount, IngressIPv6TotalCount int
	EgressIPv4TotalCount, EgressIPv6TotalCount   int
}

type policySetOut struct {
	Version          string
	Ingress          []policyOut
	Egress           []policyOut
	PolicyStatistics policyStatisticsOut
}

type describePoliciesIn struct {
	SecurityGroupId string   `tc:"required"`
	Filters         []Filter `tc:""`
}

type describePoliciesOut struct{ SecurityGroupPolicySet policySetOut }

// describeSecurityGroupPolicies lists a group's rules. Filters hide rules;
// what is left keeps its index.
func describeSecurityGroupPolicies(c *Call, in *describePoliciesIn) (*describePoliciesOut, error) {
	g, err := findGroup(c.State(), "SecurityGroupId", in.SecurityGroupId)
	if err != nil {
		return nil, err
	}
	for _, f := range in.Filters {
		if policyFilter(f.Name) == nil {
			return nil, errorf(c.badFilter(), "Filters.Name: filter %q is not served; served: security-group-id, ip, protocol-type, port, poly, direction, description", clip(f.Name, 60))
		}
	}
	out := &describePoliciesOut{policySetOut{Version: strconv.FormatUint(g.Version, 10)}}
	set, stats := &out.SecurityGroupPolicySet, &out.SecurityGroupPolicySet.PolicyStatistics
	set.Ingress, stats.IngressIPv4TotalCount, stats.IngressIPv6TotalCount = policiesOut(g.Ingress, "INBOUND", in.Filters)
	set.Egress, stats.EgressIPv4TotalCount, stats.EgressIPv6TotalCount = policiesOut(g.Egress, "OUTBOUND", in.Filters)
	return out, nil
}

func policiesOut(rules []lb.PolicyRule, direction string, filters []Filter) (out []policyOut, four, six int) {
	for i, r := range rules {
		if r.Peer.Addr().Is6() {
			six++
		} else {
			four++
		}
		p := policyOut{
			PolicyIndex: i, Priority: i, PolicyId: string(r.ID), Action: r.Action.String(),
			Protocol: r.Text.Protocol, Port: r.Text.Port, CidrBlock: r.Text.Cidr, Ipv6CidrBlock: r.Text.Cidr6,
			SecurityGroupId: string(r.PeerGroup), PolicyDescription: r.Description, ModifyTime: stamp(r.Modified),
		}
		hidden := slices.ContainsFunc(filters, func(f Filter) bool {
			match := policyFilter(f.Name)
			return !slices.ContainsFunc(f.Values, func(v string) bool { return match(p, direction, v) })
		})
		if !hidden {
			out = append(out, p)
		}
	}
	return out, four, six
}

// policyFilter is how a filter looks at a rule; nil when it is not served.
func policyFilter(name string) func(p policyOut, direction, v string) bool {
	same := func(a, b string) bool { return strings.EqualFold(a, b) }
	switch name {
	case "security-group-id":
		return func(p policyOut, _, v string) bool { return p.SecurityGroupId == v }
	case "ip":
		return func(p policyOut, _, v string) bool {
			return strings.Contains(p.CidrBlock, v) || strings.Contains(p.Ipv6CidrBlock, v)
		}
	case "protocol-type":
		return func(p policyOut, _, v string) bool { return same(p.Protocol, v) }
	case "port":
		return func(p policyOut, _, v string) bool { return same(v, "ALL") || strings.Contains(p.Port, v) }
	case "poly":
		return func(p policyOut, _, v string) bool { return same(v, "ALL") || same(p.Action, v) }
	case "direction":
		return func(_ policyOut, direction, v string) bool { return same(v, "ALL") || same(direction, v) }
	case "description":
		return func(p policyOut, _, v string) bool { return strings.Contains(p.PolicyDescription, v) }
	}
	return nil
}

type associationStatisticsIn struct {
	SecurityGroupIds []string `tc:"required"`
}

type associationOut struct {
	SecurityGroupId        string
	CVM, CDB, ENI, SG, CLB int
	InstanceStatistics     []instanceStatisticOut
	TotalCount             int
}

type instanceStatisticOut struct {
	InstanceType  string
	InstanceCount int
}

type associationStatisticsOut struct {
	SecurityGroupAssociationStatisticsSet []associationOut
}

// describeSecurityGroupAssociationStatistics counts what each group is bound
// to or named by. A rule that names its own group does not count: it is no
// reason to keep the group.
func describeSecurityGroupAssociationStatistics(c *Call, in *associationStatisticsIn) (*associationStatisticsOut, error) {
	if len(in.SecurityGroupIds) > maxLimit {
		return nil, refuse(lb.LimitExceeded, "SecurityGroupIds", "more than 100 ids are given", "ask in several calls")
	}
	st := c.State()
	out := &associationStatisticsOut{}
	for i, id := range in.SecurityGroupIds {
		g, err := findGroup(st, "SecurityGroupIds."+strconv.Itoa(i), id)
		if err != nil {
			return nil, err
		}
		a := associationOut{SecurityGroupId: id}
		for _, inst := range st.Instances {
			if slices.Contains(inst.Groups, g.ID) {
				a.CVM++
			}
		}
		for _, b := range st.Balancers {
			if slices.Contains(b.Groups, g.ID) {
				a.CLB++
			}
		}
		for _, other := range st.Groups {
			if other.ID != g.ID && namesGroup(other, g.ID) {
				a.SG++
			}
		}
		a.TotalCount = a.CVM + a.CLB + a.SG
		a.InstanceStatistics = []instanceStatisticOut{{"CVM", a.CVM}, {"CLB", a.CLB}, {"SG", a.SG}}
		out.SecurityGroupAssociationStatisticsSet = append(out.SecurityGroupAssociationStatisticsSet, a)
	}
	return out, nil
}

// namesGroup reports whether a rule of g has the group id as its peer.
func namesGroup(g *lb.SecurityGroup, id lb.GroupID) bool {
	named := func(r lb.PolicyRule) bool { return r.PeerGroup == id }
	return slices.ContainsFunc(g.Ingress, named) || slices.ContainsFunc(g.Egress, named)
}

// boundToBalancer names a load balancer that the group is bound to, "" when
// there is none.
func boundToBalancer(st *lb.State, id lb.GroupID) lb.BalancerID {
	for _, b := range sortedKeys(st.Balancers) {
		if slices.Contains(st.Balancers[b].Groups, id) {
			return b
		}
	}
	return ""
}
