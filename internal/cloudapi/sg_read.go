// SPDX-License-Identifier: Apache-2.0

package cloudapi

import (
	"slices"
	"strconv"
	"strings"

	"github.com/sallyport/sallyport/internal/lb"
)

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
	AddressTemplate   addressTemplateSpec
	ServiceTemplate   serviceTemplateSpec
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
	Filters         []Filter `tc:"" filters:"security-group-id ip address-module service-module protocol-type=TCP|UDP|ICMP|ICMPv6|GRE|ALL port poly=ACCEPT|DROP|ALL direction=INBOUND|OUTBOUND|ALL description"`
}

type describePoliciesOut struct{ SecurityGroupPolicySet policySetOut }

// describeSecurityGroupPolicies lists a group's rules. Filters hide rules;
// what is left keeps its index.
func describeSecurityGroupPolicies(c *Call, in *describePoliciesIn) (*describePoliciesOut, error) {
	return c.listPolicies(in, func(_ *lb.State, r lb.PolicyRule) []lb.PolicyRule { return []lb.PolicyRule{r} })
}

// describeSecurityGroupExpandedPolicies lists what a group's rules stand for:
// each address of a template with each service, one entry each. Entries have
// index and id of the rule that they come from; groups as peers stay as named.
func describeSecurityGroupExpandedPolicies(c *Call, in *describePoliciesIn) (*describePoliciesOut, error) {
	return c.listPolicies(in, expanded)
}

// listPolicies shows a group's rules, each as what expand makes of it.
func (c *Call) listPolicies(in *describePoliciesIn, expand func(*lb.State, lb.PolicyRule) []lb.PolicyRule) (*describePoliciesOut, error) {
	st := c.State()
	g, err := findGroup(st, "SecurityGroupId", in.SecurityGroupId)
	if err != nil {
		return nil, err
	}
	out := &describePoliciesOut{policySetOut{Version: strconv.FormatUint(g.Version, 10)}}
	set, stats := &out.SecurityGroupPolicySet, &out.SecurityGroupPolicySet.PolicyStatistics
	set.Ingress, stats.IngressIPv4TotalCount, stats.IngressIPv6TotalCount = policiesOut(st, g.Ingress, "INBOUND", in.Filters, expand)
	set.Egress, stats.EgressIPv4TotalCount, stats.EgressIPv6TotalCount = policiesOut(st, g.Egress, "OUTBOUND", in.Filters, expand)
	return out, nil
}

func policiesOut(st *lb.State, rules []lb.PolicyRule, direction string, filters []Filter, expand func(*lb.State, lb.PolicyRule) []lb.PolicyRule) (out []policyOut, four, six int) {
	for i, rule := range rules {
		for _, r := range expand(st, rule) {
			if r.Text.Cidr6 != "" {
				six++
			} else {
				four++
			}
			p := policyToOut(i, rule, r)
			hidden := slices.ContainsFunc(filters, func(f Filter) bool {
				match := policyFilter(f.Name)
				return !slices.ContainsFunc(f.Values, func(v string) bool { return match(p, direction, v) })
			})
			if !hidden {
				out = append(out, p)
			}
		}
	}
	return out, four, six
}

// policyToOut shows r, which is the i-th rule or one that it stands for.
func policyToOut(i int, rule, r lb.PolicyRule) policyOut {
	p := policyOut{
		PolicyIndex: i, Priority: i, PolicyId: string(rule.ID), Action: r.Action.String(),
		Protocol: r.Text.Protocol, Port: r.Text.Port, CidrBlock: r.Text.Cidr, Ipv6CidrBlock: r.Text.Cidr6,
		SecurityGroupId: string(r.PeerGroup), PolicyDescription: r.Description, ModifyTime: stamp(r.Modified),
	}
	if id := string(r.PeerTemplate); r.PeerTemplate.IsGroup() {
		p.AddressTemplate.AddressGroupId = id
	} else {
		p.AddressTemplate.AddressId = id
	}
	if id := string(r.Service); r.Service.IsGroup() {
		p.ServiceTemplate.ServiceGroupId = id
	} else {
		p.ServiceTemplate.ServiceId = id
	}
	return p
}

// expanded is every address of a rule's template with every service of its
// template, as rules of their own.
func expanded(st *lb.State, r lb.PolicyRule) []lb.PolicyRule {
	peers := []lb.PolicyRule{r}
	if r.PeerTemplate != "" {
		peers = nil
		for _, m := range st.Members(r.PeerTemplate) {
			one := r
			one.PeerTemplate, one.Text.Cidr = "", m.Text
			if m.Peers.First.Is6() {
				one.Text.Cidr, one.Text.Cidr6 = "", m.Text
			}
			peers = append(peers, one)
		}
	}
	if r.Service == "" {
		return peers
	}
	var all []lb.PolicyRule
	for _, peer := range peers {
		for _, m := range st.Members(r.Service) {
			one := peer
			one.Service, one.Text.Protocol, one.Text.Port = "", m.Service.Proto.String(), lb.FormatPorts(m.Service.Ports)
			all = append(all, one)
		}
	}
	return all
}

// policyFilter is how a filter looks at a rule; nil when it is not served.
func policyFilter(name string) func(p policyOut, direction, v string) bool {
	same := strings.EqualFold
	switch name {
	case "security-group-id":
		return func(p policyOut, _, v string) bool { return p.SecurityGroupId == v }
	case "ip":
		return func(p policyOut, _, v string) bool {
			return strings.Contains(p.CidrBlock, v) || strings.Contains(p.Ipv6CidrBlock, v)
		}
	case "address-module":
		return func(p policyOut, _, v string) bool {
			return p.AddressTemplate.AddressId+p.AddressTemplate.AddressGroupId == v
		}
	case "service-module":
		return func(p policyOut, _, v string) bool {
			return p.ServiceTemplate.ServiceId+p.ServiceTemplate.ServiceGroupId == v
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
