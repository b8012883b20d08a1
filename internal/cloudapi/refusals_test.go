// SPDX-License-Identifier: Apache-2.0

package cloudapi

import (
	"strings"
	"testing"

	"github.com/sallyport/sallyport/internal/lb"
)

// Rows that random sequences (TestModel) found to be missing elsewhere.
func TestRefusalsOfTargets(t *testing.T) {
	s := newSite(t)
	twice := `"Targets":[{"InstanceId":"ins-a","Port":8080},{"InstanceId":"ins-a","Port":8080}]`
	one := `"Targets":[{"InstanceId":"ins-a","Port":8080,"Weight":10}]`
	for _, action := range []string{"RegisterTargets", "DeregisterTargets", "ModifyTargetWeight"} {
		s.refusals([]refusal{
			{action, s.q(`{"LoadBalancerId":"$lb","ListenerId":"lbl-none",` + one + `}`), codeGoneLbl, `ListenerId: load balancer ` + s.lb + ` has no listener "lbl-none"`},
			{action, s.q(`{"LoadBalancerId":"$lb","ListenerId":"$tcp",` + twice + `}`), "InvalidParameterValue.Duplicate", "Targets.1.Port: ins-a port 8080 is named twice"},
			{action, s.q(`{"LoadBalancerId":"$lb","ListenerId":"$tcp",` + strings.Replace(one, ":10", ":101", 1) + `}`), "InvalidParameterValue.Range", "Targets.0.Weight: 101 is outside 0-100"},
			{action, s.q(`{"LoadBalancerId":"$lb","ListenerId":"$tcp",` + strings.Replace(one, "8080", "0", 1) + `}`), "InvalidParameterValue.Range", "Targets.0.Port: 0 is outside 1-65535"},
		})
	}
}

func TestRefusalsOfQuotas(t *testing.T) {
	q := lb.DefaultQuotas()
	q.InstancesPerGroup, q.RulesOnBalancer, q.RulesPerDirection = 1, 1, 3
	b := newBench(t, func(o *Options) { o.Quotas = q })
	full, other := b.wideGroup(1, 1), b.wideGroup(2, 1)
	run := `{"ImageId":"img-lab","Placement":{"Zone":"local-1"},"SecurityGroupIds":["`
	b.must("RunInstances", run+full+`"]}`, nil)
	var second struct{ InstanceIdSet []string }
	b.must("RunInstances", run+other+`"]}`, &second)
	id := second.InstanceIdSet[0]
	clb := b.openBalancer()
	b.must("SetLoadBalancerSecurityGroups", `{"LoadBalancerId":"`+clb+`","SecurityGroups":["`+other+`"]}`, nil)
	rule := `{"Protocol":"TCP","Port":"443","CidrBlock":"203.0.113.0/24","Action":"ACCEPT"}`
	rules := func(n int) string {
		var list []string
		for i := range n {
			list = append(list, strings.Replace(rule, "443", []string{"80", "81", "82", "83"}[i], 1))
		}
		return `{"SecurityGroupId":"` + other + `","SecurityGroupPolicySet":{"Ingress":[` + strings.Join(list, ",") + `]}}`
	}
	b.refusals([]refusal{
		{"AssociateSecurityGroups", `{"InstanceIds":["` + id + `"],"SecurityGroupIds":["` + full + `"]}`, "LimitExceeded.CvmsVifsPerSecGroupLimitExceeded", full + " would be bound to 2 instances"},
		{"ModifyInstancesAttribute", `{"InstanceIds":["` + id + `"],"SecurityGroups":["` + full + `"]}`, "LimitExceeded.CvmsVifsPerSecGroupLimitExceeded", full + " would be bound to 2 instances"},
		{"ModifySecurityGroupPolicies", rules(2), "UnsupportedOperation.ClbPolicyExceedLimit", "would have 2 rules"},
		{"ModifySecurityGroupPolicies", rules(4), "LimitExceeded.SecurityGroupPolicySet", "would have 4 rules in this direction; at most 3"},
	})
	var named []string
	for range 11 {
		var made struct {
			SecurityGroup struct{ SecurityGroupId string }
		}
		b.must("CreateSecurityGroup", `{"GroupName":"named","GroupDescription":""}`, &made)
		named = append(named, strings.Replace(rule, `"CidrBlock":"203.0.113.0/24"`, `"SecurityGroupId":"`+made.SecurityGroup.SecurityGroupId+`"`, 1))
	}
	b.Quotas.RulesPerDirection, b.Quotas.RulesOnBalancer = 100, 100
	b.refused("ModifySecurityGroupPolicies", `{"SecurityGroupId":"`+other+`","SecurityGroupPolicySet":{"Ingress":[`+strings.Join(named, ",")+`]}}`, "LimitExceeded", "would name 11 other groups; at most 10")
	replace := func(port, text string) string {
		return `{"SecurityGroupId":"` + other + `","SecurityGroupPolicySet":{"Ingress":[{"PolicyIndex":0,"Protocol":"TCP","Port":"` + port + `","CidrBlock":"203.0.113.0/24","Action":"ACCEPT","PolicyDescription":"` + text + `"}]}}`
	}
	b.refusals([]refusal{
		{"ReplaceSecurityGroupPolicy", replace("80-", ""), "InvalidParameterValue.Malformed", "Ingress.0.Port"},
		{"ReplaceSecurityGroupPolicy", replace("80", strings.Repeat("d", 101)), "InvalidParameterValue.TooLong", "Ingress.0.PolicyDescription: 101 characters"},
	})
}
