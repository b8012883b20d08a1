// SPDX-License-Identifier: Apache-2.0

package lb

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
