// SPDX-License-Identifier: Apache-2.0

package lb

import (
	"fmt"
	"strings"
)

// maxQuota bounds what a quota can be set to.
const maxQuota = 1_000_000

// Quotas bound what one region holds. The zero Quotas allow nothing.
type Quotas struct {
	Groups             int // security groups
	RulesPerDirection  int // policy rules of one group, each way
	ExpandedRules      int // rules of one instance's groups together, templates expanded, references counted by member
	GroupsPerInstance  int
	InstancesPerGroup  int
	References         int // groups that one group's rules name
	GroupsPerBalancer  int
	RulesOnBalancer    int // both directions of a group that is bound to a load balancer, templates expanded
	Templates          int // of each of the four kinds
	TemplateMembers    int // addresses or services of a list, lists of a group
	GroupsPerTemplate  int // security groups whose rules use one list, directly or by a group of lists
	AssistantCidrs     int // of one VPC, beside its own range
	ListenersPerLB     int
	RulesPerListener   int // layer 7
	TargetsPerListener int // of a layer-4 listener or a layer-7 rule
	BalancersPerType   int
	TargetGroups       int

	Node NodeRoom // of the whole region
}

// DefaultQuotas are the published limits.
func DefaultQuotas() Quotas {
	return Quotas{
		Groups: 50, RulesPerDirection: 100, ExpandedRules: 2000,
		GroupsPerInstance: 5, InstancesPerGroup: 2000, References: 10,
		GroupsPerBalancer: 5, RulesOnBalancer: 512,
		Templates: 1000, TemplateMembers: 20, GroupsPerTemplate: 50, AssistantCidrs: 5,
		ListenersPerLB: 50, RulesPerListener: 50, TargetsPerListener: 100, BalancersPerType: 100, TargetGroups: 100,
		Node: NodeRoom{MaxListenerRows, MaxTargetRows, MaxVIPRows, MaxPeerRows, MaxGatewayWords, MaxCounterSlots},
	}
}

// named lists the quotas that can be set, by name.
func (q *Quotas) named() []namedQuota {
	return []namedQuota{
		{"groups", &q.Groups},
		{"rules-per-direction", &q.RulesPerDirection},
		{"expanded-rules", &q.ExpandedRules},
		{"groups-per-instance", &q.GroupsPerInstance},
		{"instances-per-group", &q.InstancesPerGroup},
		{"references", &q.References},
		{"groups-per-balancer", &q.GroupsPerBalancer},
		{"rules-on-balancer", &q.RulesOnBalancer},
		{"templates", &q.Templates},
		{"template-members", &q.TemplateMembers},
		{"groups-per-template", &q.GroupsPerTemplate},
		{"assistant-cidrs", &q.AssistantCidrs},
		{"listeners-per-lb", &q.ListenersPerLB},
		{"rules-per-listener", &q.RulesPerListener},
		{"targets-per-listener", &q.TargetsPerListener},
		{"balancers-per-type", &q.BalancersPerType},
		{"target-groups", &q.TargetGroups},
	}
}

type namedQuota struct {
	name  string
	value *int
}

// Set sets one quota by its name, such as "groups" or "listeners-per-lb", to 0 up
// to 1,000,000, targets-per-listener up to MaxRoster: gateways serve no more. What
// nodes have room for (Node) cannot be set: it is what their tables hold.
func (q *Quotas) Set(name string, n int) error {
	var names []string
	for _, f := range q.named() {
		most := maxQuota
		if f.value == &q.TargetsPerListener {
			most = MaxRoster
		}
		if f.name == name {
			if n < 0 || n > most {
				return fmt.Errorf("quota %s: %d is not within 0-%d", name, n, most)
			}
			*f.value = n
			return nil
		}
		names = append(names, f.name)
	}
	return fmt.Errorf("there is no quota %q; there are %s", name, strings.Join(names, ", "))
}

// Names lists the quotas that Set knows, with their values: NAME=N.
func (q Quotas) Names() []string {
	var all []string
	for _, f := range q.named() {
		all = append(all, fmt.Sprintf("%s=%d", f.name, *f.value))
	}
	return all
}
