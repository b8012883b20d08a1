// SPDX-License-Identifier: Apache-2.0

package cloudapi

import (
	"fmt"
	"strings"

	"github.com/sallyport/sallyport/internal/lb"
)

// A right is what an action needs of the caller's role. Nobody has the zero
// right: an action that declares none is served to no key.
type right uint8

const (
	toRead       right = iota + 1 // every role
	toWrite                       // admin and operator
	toOversee                     // reading about keys and the audit log: admin and auditor
	toAdminister                  // writing about keys and node tokens: admin
)

func (r right) String() string {
	return [...]string{"nothing", "read", "write", "oversee", "administer"}[r]
}

// writes reports whether an action of this right may change anything.
func (r right) writes() bool { return r == toWrite || r == toAdminister }

// has reports whether a role has the right.
func (r right) has(role lb.KeyRole) bool {
	switch r {
	case toRead:
		return role == lb.KeyAdmin || role == lb.KeyOperator || role == lb.KeyAuditor
	case toWrite:
		return role == lb.KeyAdmin || role == lb.KeyOperator
	case toOversee:
		return role == lb.KeyAdmin || role == lb.KeyAuditor
	case toAdminister:
		return role == lb.KeyAdmin
	}
	return false
}

// An access is what an action needs, and whether it keeps to projects: it
// reads objects through Call.State alone and changes them through Call.Update
// alone, which narrow both to the projects of a scoped key. Keys that are
// scoped are refused where it does not.
type access struct {
	right  right
	scoped bool
}

// accesses says what each action needs. An action that is not here is served
// to nobody, and a test fails. What is about the region as a whole, or tells of
// packets of all projects, is not for scoped keys.
func accesses() map[string]access {
	all := map[string]access{}
	for _, part := range []struct {
		right  right
		scoped bool
		names  string
	}{
		{toRead, true, `DescribeStatus DescribeLoadBalancers DescribeListeners DescribeTargets DescribeTargetHealth DescribeTaskStatus
			DescribeSecurityGroups DescribeSecurityGroupPolicies DescribeSecurityGroupAssociationStatistics SearchSecurityGroups
			DescribeSecurityGroupExpandedPolicies DescribeSecurityGroupReferences DescribeSecurityGroupLimits DescribeTemplateLimits
			DescribeAssistantCidr DescribeUsedIpAddress DescribeVpcIpv6Addresses DescribeVpcPrivateIpAddresses DescribeNetworkInterfaces
			DescribeVpcs DescribeSubnets DescribeRouteTables DescribeInstances DescribeResourceTagsByResourceIds
			DescribeInstancesStatus DescribeInstancesAttributes DescribeImages DescribeZones DescribeRegions
			DescribeInstanceTypeConfigs DescribeZoneInstanceConfigInfos DescribeKeyPairs
			DescribeCaller DescribeProbeSources DescribeReturnPaths DescribeFlowKeeping
			DescribeLBListeners DescribeLoadBalancersDetail DescribeLoadBalancerOverview DescribeQuota DescribeResources DescribeRewrite DescribeTargetChoice
			DescribeCertificates DescribeCertificateDetail`},
		{toRead, false, `DescribeVerdicts DescribeFlows DescribeRuleCounters DescribeHosts DescribeSeries DescribeConfiguration DescribeEffectiveRules ExplainPath CheckAssistantCidr
			DescribeAddresses DescribeAddressQuota DescribeBandwidthPackages DescribeTaskResult
			DescribeAddressTemplates DescribeAddressTemplateGroups DescribeServiceTemplates DescribeServiceTemplateGroups
			DescribeTargetGroups DescribeTargetGroupList DescribeTargetGroupInstances`},
		{toWrite, true, `CreateLoadBalancer ModifyLoadBalancerAttributes DeleteLoadBalancer SetLoadBalancerSecurityGroups SetSecurityGroupForLoadbalancers
			CreateListener ModifyListener DeleteListener DeleteLoadBalancerListeners
			SetTargetChoice ManualRewrite AutoRewrite DeleteRewrite CloneLoadBalancer CreateRule ModifyRule DeleteRule ModifyDomain ModifyDomainAttributes
			RegisterTargets DeregisterTargets BatchRegisterTargets BatchDeregisterTargets BatchModifyTargetWeight
			ModifyLoadBalancerSla SetLoadBalancerClsLog ModifyLoadBalancersProject SetLoadBalancerStartStatus ModifyTargetPort ModifyTargetWeight
			CreateSecurityGroup CreateSecurityGroupWithPolicies CreateDefaultSecurityGroup ModifySecurityGroupAttribute DeleteSecurityGroup
			CreateSecurityGroupPolicies ModifySecurityGroupPolicies ReplaceSecurityGroupPolicy DeleteSecurityGroupPolicies SetSecurityGroupPolicies
			ReplaceSecurityGroupPolicies CloneSecurityGroup AssociateNetworkInterfaceSecurityGroups DisassociateNetworkInterfaceSecurityGroups
			RunInstances TerminateInstances StartInstances StopInstances RebootInstances ResetInstance ModifyInstancesProject ModifyInstancesAttribute AssociateSecurityGroups DisassociateSecurityGroups
			UploadCertificate ModifyCertificateAlias ModifyCertificateProject DeleteCertificate
			ModifyResourceTags ModifyReturnPath ModifyFlowKeeping`},
		{toWrite, false, `CreateVpc ModifyVpcAttribute DeleteVpc CreateSubnet ModifySubnetAttribute DeleteSubnet
			AssignIpv6CidrBlock UnassignIpv6CidrBlock AssignIpv6SubnetCidrBlock UnassignIpv6SubnetCidrBlock AssignIpv6Addresses UnassignIpv6Addresses
			CreateAssistantCidr ModifyAssistantCidr DeleteAssistantCidr ReplaceRouteTableAssociation
			CreateAddressTemplate ModifyAddressTemplateAttribute DeleteAddressTemplate
			CreateAddressTemplateGroup ModifyAddressTemplateGroupAttribute DeleteAddressTemplateGroup
			CreateServiceTemplate ModifyServiceTemplateAttribute DeleteServiceTemplate
			CreateServiceTemplateGroup ModifyServiceTemplateGroupAttribute DeleteServiceTemplateGroup
			AddTemplateMember DeleteTemplateMember ModifyTemplateMember
			AllocateAddresses AssociateAddress DisassociateAddress ModifyAddressAttribute ModifyAddressInternetChargeType ModifyAddressesBandwidth ReleaseAddresses
			CreateTargetGroup DeleteTargetGroups ModifyTargetGroupAttribute AssociateTargetGroups DisassociateTargetGroups
			RegisterTargetGroupInstances DeregisterTargetGroupInstances ModifyTargetGroupInstancesPort ModifyTargetGroupInstancesWeight
			ImportInstances ImportLoadBalancer ApplyConfiguration`},
		{toOversee, false, `DescribeAccessKeys DescribeAuditLog`},
		{toAdminister, false, `CreateAccessKey RotateAccessKey RevokeAccessKey CreateNodeToken ForgetNode AddGuest RemoveGuest DrainNode UndrainNode`},
	} {
		for name := range strings.FieldsSeq(part.names) {
			all[name] = access{part.right, part.scoped}
		}
	}
	return all
}

// codeUnauthorized is the code of every refusal by role or project.
const codeUnauthorized = "UnauthorizedOperation"

// authorise refuses a call that its key's role or projects do not allow.
func (a *Action) authorise(k *lb.AccessKey) error {
	if !a.access.right.has(k.Role) {
		return errorf(codeUnauthorized, "the role %s of key %s does not allow %s; %s", k.Role, k.ID, a.Name, rolesFor(a.access.right))
	}
	if len(k.Projects) > 0 && !a.access.scoped {
		return errorf(codeUnauthorized, "the role %s of key %s is for project %s only, and %s is about the whole region; use a key without projects",
			k.Role, k.ID, strings.Join(k.Projects, ", "), a.Name)
	}
	return nil
}

func rolesFor(r right) string {
	var roles []string
	for _, role := range lb.KeyRoles() {
		if r.has(role) {
			roles = append(roles, string(role))
		}
	}
	if len(roles) == 0 {
		return "no role does"
	}
	return fmt.Sprintf("use a key of role %s", strings.Join(roles, " or "))
}
