// SPDX-License-Identifier: Apache-2.0

package cloudapi

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/sallyport/sallyport/internal/lb"
	"github.com/sallyport/sallyport/internal/policy"
	"github.com/sallyport/sallyport/internal/store"
)

// wideRules are n rules for everybody and ports that do not touch, which
// cost the kernel two ranges each.
func wideRules(block, n int) string {
	var rules []string
	for i := range n {
		var ports []string
		for k := range 5 {
			ports = append(ports, fmt.Sprint(2*(5*(100*block+i)+k)+1))
		}
		rules = append(rules, fmt.Sprintf(`{"Protocol":"TCP","Port":"%s","CidrBlock":"0.0.0.0/0","Action":"ACCEPT"}`, strings.Join(ports, ",")))
	}
	return "[" + strings.Join(rules, ",") + "]"
}

func (b *bench) wideGroup(block, n int) string {
	b.Helper()
	var made struct {
		SecurityGroup struct{ SecurityGroupId string }
	}
	b.must("CreateSecurityGroup", `{"GroupName":"wide","GroupDescription":""}`, &made)
	id := made.SecurityGroup.SecurityGroupId
	b.must("CreateSecurityGroupPolicies", `{"SecurityGroupId":"`+id+`","SecurityGroupPolicySet":{"Ingress":`+wideRules(block, n)+`}}`, nil)
	return id
}

func (b *bench) openBalancer() string {
	b.Helper()
	var made struct{ LoadBalancerIds []string }
	b.must("CreateLoadBalancer", `{"LoadBalancerType":"OPEN"}`, &made)
	return made.LoadBalancerIds[0]
}

func jsonText(t *testing.T, v any) string {
	t.Helper()
	raw, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

// Groups that are fine one by one may be too much together. Binding them is
// refused, and so is every rule that would make bound ones too much; what the
// state has stays in force.
func TestTooMuchForTheKernelIsRefused(t *testing.T) {
	b := newBench(t)
	var groups []string
	for block := range 4 {
		groups = append(groups, b.wideGroup(block, 100))
	}
	clb := b.openBalancer()
	bind := func(ids []string) string {
		return `{"LoadBalancerId":"` + clb + `","SecurityGroups":` + jsonText(t, ids) + `}`
	}
	fifth := b.wideGroup(4, 5)
	b.must("SetLoadBalancerSecurityGroups", bind(append(groups, fifth)), nil)
	more := `{"SecurityGroupId":"` + fifth + `","SecurityGroupPolicySet":{"Ingress":` + wideRules(5, 90) + `}}`
	b.refused("CreateSecurityGroupPolicies", more, "LimitExceeded", "the limit is 4096")
	b.refused("CreateSecurityGroupPolicies", more, "LimitExceeded", "inbound rules of "+strings.Join(append(groups, fifth), ", ")+", bound to load balancer "+clb)

	b.must("SetLoadBalancerSecurityGroups", bind(groups), nil)
	b.must("CreateSecurityGroupPolicies", more, nil) // unbound, it is only a list
	b.refused("SetLoadBalancerSecurityGroups", bind(append(groups, fifth)), "LimitExceeded", clb)
	b.refused("SetSecurityGroupForLoadbalancers", `{"SecurityGroup":"`+fifth+`","OperationType":"ADD","LoadBalancerIds":["`+clb+`"]}`, "LimitExceeded", fifth)

	var run struct{ InstanceIdSet []string }
	b.must("RunInstances", `{"ImageId":"img-lab","Placement":{"Zone":"local-1"},"SecurityGroupIds":`+jsonText(t, groups)+`}`, &run)
	b.refused("AssociateSecurityGroups", `{"SecurityGroupIds":["`+fifth+`"],"InstanceIds":["`+run.InstanceIdSet[0]+`"]}`, "LimitExceeded", "bound to instance "+run.InstanceIdSet[0])
	b.refused("RunInstances", `{"ImageId":"img-lab","Placement":{"Zone":"local-1"},"SecurityGroupIds":`+jsonText(t, append(groups, fifth))+`}`, "LimitExceeded", "bound to instance ins-")
}

// An instance that joins a group makes every list grow that names the group.
func TestMembersTooManyForTheKernelAreRefused(t *testing.T) {
	b := newBench(t, func(o *Options) {
		o.Quotas = lb.DefaultQuotas()
		o.Quotas.InstancesPerGroup, o.Quotas.RulesOnBalancer = 10000, 10000
	})
	var members, edge, spare struct {
		SecurityGroup struct{ SecurityGroupId lb.GroupID }
	}
	b.must("CreateSecurityGroup", `{"GroupName":"members","GroupDescription":""}`, &members)
	b.must("CreateSecurityGroup", `{"GroupName":"edge","GroupDescription":""}`, &edge)
	b.must("CreateSecurityGroup", `{"GroupName":"spare","GroupDescription":""}`, &spare)
	named := members.SecurityGroup.SecurityGroupId
	b.must("CreateSecurityGroupPolicies", `{"SecurityGroupId":"`+string(edge.SecurityGroup.SecurityGroupId)+
		`","SecurityGroupPolicySet":{"Ingress":[{"Protocol":"TCP","Port":"80","SecurityGroupId":"`+string(named)+`","Action":"ACCEPT"}]}}`, nil)
	clb := b.openBalancer()
	b.must("SetLoadBalancerSecurityGroups", `{"LoadBalancerId":"`+clb+`","SecurityGroups":["`+string(edge.SecurityGroup.SecurityGroupId)+`"]}`, nil)
	// Addresses that do not touch cost two ranges each, and the rest of the space one.
	const most = (policy.MaxIntervals - 1) / 2
	const instances = 2000 // the rest are a template's: nodes have no room for so many instances
	b.seed(func(tx *store.Tx) {
		list := &lb.Template{ID: "ipm-00000001"}
		for i := range most - instances {
			list.Members = append(list.Members, lb.TemplateMember{Peers: lb.AddressRange{First: netip.AddrFrom4([4]byte{172, 31, byte(i >> 7), byte(2 * i)}), Last: netip.AddrFrom4([4]byte{172, 31, byte(i >> 7), byte(2 * i)})}})
		}
		tx.PutTemplate(list)
		g := *tx.State().Groups.Get(edge.SecurityGroup.SecurityGroupId)
		g.Ingress = append(slices.Clone(g.Ingress), lb.PolicyRule{ID: "pol-00000001", Action: lb.Accept, Proto: lb.TCP, PeerTemplate: list.ID, Ports: []lb.PortRange{{First: 80, Last: 80}}})
		tx.PutGroup(&g)
		for i := range instances {
			id := lb.InstanceID(fmt.Sprintf("ins-%08d", i))
			tx.PutInstance(&lb.Instance{ID: id, Private: netip.AddrFrom4([4]byte{172, 16, byte(i >> 7), byte(2 * i)}), Groups: []lb.GroupID{named}})
		}
	})
	run := func(id lb.GroupID) string {
		return `{"ImageId":"img-lab","Placement":{"Zone":"local-1"},"SecurityGroupIds":["` + string(id) + `"]}`
	}
	b.refused("RunInstances", run(named), "LimitExceeded", fmt.Sprintf("%d ranges of IPv4 addresses; the limit is %d", policy.MaxIntervals+1, policy.MaxIntervals))
	b.refused("RunInstances", run(named), "LimitExceeded", string(edge.SecurityGroup.SecurityGroupId)+", bound to load balancer "+clb)
	var other struct{ InstanceIdSet []string }
	b.must("RunInstances", run(spare.SecurityGroup.SecurityGroupId), &other)
	b.refused("AssociateSecurityGroups", `{"SecurityGroupIds":["`+string(named)+`"],"InstanceIds":["`+other.InstanceIdSet[0]+`"]}`, "LimitExceeded", clb)

	// Two that leave make room for one; what is too much already may shrink.
	b.must("TerminateInstances", `{"InstanceIds":["ins-00000001","ins-00000003"]}`, nil)
	b.must("RunInstances", run(named), nil)
	b.seed(func(tx *store.Tx) {
		for i := range 9 {
			id := lb.InstanceID(fmt.Sprintf("ins-9000000%d", i))
			tx.PutInstance(&lb.Instance{ID: id, Private: netip.AddrFrom4([4]byte{172, 20, 0, byte(2 * i)}), Groups: []lb.GroupID{named}})
		}
	})
	b.must("TerminateInstances", `{"InstanceIds":["ins-90000000"]}`, nil)
}

// Only what a change affects is compiled.
func TestDoorCompilesOnlyWhatChanged(t *testing.T) {
	compiled := 0
	b := newBench(t, func(o *Options) {
		o.Compile = func(g []policy.Group) (*policy.Compiled, error) { compiled++; return policy.Compile(g) }
	})
	one, two := b.wideGroup(1, 3), b.wideGroup(2, 3)
	b.must("RunInstances", `{"ImageId":"img-lab","Placement":{"Zone":"local-1"},"InstanceCount":10,"SecurityGroupIds":["`+one+`"]}`, nil)
	if compiled != 2 {
		t.Errorf("ten instances with one list of groups cost %d compilations, want one each way", compiled)
	}
	for _, c := range []struct {
		action, params string
		want           int
	}{
		{"CreateSecurityGroupPolicies", `{"SecurityGroupId":"` + two + `","SecurityGroupPolicySet":{"Ingress":` + wideRules(3, 1) + `}}`, 0},
		{"CreateVpc", `{"VpcName":"x","CidrBlock":"10.9.0.0/16"}`, 0},
		{"CreateSecurityGroupPolicies", `{"SecurityGroupId":"` + one + `","SecurityGroupPolicySet":{"Ingress":` + wideRules(3, 1) + `}}`, 2},
	} {
		compiled = 0
		if b.must(c.action, c.params, nil); compiled != c.want {
			t.Errorf("%s cost %d compilations, want %d", c.action, compiled, c.want)
		}
	}
}
