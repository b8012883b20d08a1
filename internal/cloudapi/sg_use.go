// SPDX-License-Identifier: Apache-2.0

package cloudapi

import (
	"slices"
	"strconv"

	"github.com/sallyport/sallyport/internal/lb"
)

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
	cvm, clb, named := uses(st)
	for i, id := range in.SecurityGroupIds {
		g, err := findGroup(st, "SecurityGroupIds."+strconv.Itoa(i), id)
		if err != nil {
			return nil, err
		}
		a := associationOut{SecurityGroupId: id}
		a.CVM, a.CLB, a.SG = cvm[g.ID], clb[g.ID], len(named[g.ID])
		a.TotalCount = a.CVM + a.CLB // not those that name it
		a.InstanceStatistics = []instanceStatisticOut{{"CVM", a.CVM}, {"CLB", a.CLB}}
		out.SecurityGroupAssociationStatisticsSet = append(out.SecurityGroupAssociationStatisticsSet, a)
	}
	return out, nil
}

type referencesIn struct {
	SecurityGroupIds []string `tc:"required,items=100"`
}

type referredOut struct {
	SecurityGroupId          string
	ReferredSecurityGroupIds []string
}

type referencesOut struct{ ReferredSecurityGroupSet []referredOut }

// describeSecurityGroupReferences lists the other groups whose rules name each
// group.
func describeSecurityGroupReferences(c *Call, in *referencesIn) (*referencesOut, error) {
	st, out := c.State(), &referencesOut{}
	_, _, named := uses(st)
	for i, id := range in.SecurityGroupIds {
		g, err := findGroup(st, "SecurityGroupIds."+strconv.Itoa(i), id)
		if err != nil {
			return nil, err
		}
		one := referredOut{SecurityGroupId: id}
		for _, by := range named[g.ID] {
			one.ReferredSecurityGroupIds = append(one.ReferredSecurityGroupIds, string(by))
		}
		slices.Sort(one.ReferredSecurityGroupIds)
		out.ReferredSecurityGroupSet = append(out.ReferredSecurityGroupSet, one)
	}
	return out, nil
}

type securityGroupLimitsIn struct{}

// securityGroupLimitOut names limits as the vendor spells them.
type securityGroupLimitOut struct {
	SecurityGroupLimit                 int
	SecurityGroupPolicyLimit           int // each way
	ReferedSecurityGroupLimit          int
	SecurityGroupInstanceLimit         int
	InstanceSecurityGroupLimit         int
	SecurityGroupExtendedPolicyLimit   int
	SecurityGroupReferedCvmAndEniLimit int
	SecurityGroupReferedSvcLimit       int // references stand for instances alone
}

type securityGroupLimitsOut struct {
	SecurityGroupLimitSet securityGroupLimitOut
}

// describeSecurityGroupLimits tells the quotas of groups.
func describeSecurityGroupLimits(c *Call, _ *securityGroupLimitsIn) (*securityGroupLimitsOut, error) {
	q := c.Quotas
	return &securityGroupLimitsOut{securityGroupLimitOut{
		SecurityGroupLimit: q.Groups, SecurityGroupPolicyLimit: q.RulesPerDirection, ReferedSecurityGroupLimit: q.References,
		SecurityGroupInstanceLimit: q.InstancesPerGroup, InstanceSecurityGroupLimit: q.GroupsPerInstance,
		SecurityGroupExtendedPolicyLimit: q.ExpandedRules, SecurityGroupReferedCvmAndEniLimit: q.InstancesPerGroup,
	}}, nil
}
