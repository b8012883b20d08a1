// SPDX-License-Identifier: Apache-2.0

package cloudapi

import (
	"fmt"
	"reflect"
	"slices"
	"strconv"

	"github.com/sallyport/sallyport/internal/lb"
	"github.com/sallyport/sallyport/internal/store"
)

func sgPolicyActions() []Action {
	return []Action{
		action(serviceVPC, "CreateSecurityGroupPolicies", createSecurityGroupPolicies).needs("SecurityGroupPolicySet.Ingress.0.Action", "SecurityGroupPolicySet.Egress.0.Action").fails("InvalidParameter.Coexist", "InvalidParameterValue", "InvalidParameterValue.Empty", "InvalidParameterValue.Malformed", "InvalidParameterValue.Range", "InvalidParameterValue.TooLong", "LimitExceeded", "LimitExceeded.SecurityGroupPolicySet", "ResourceNotFound", "UnsupportedOperation.ClbPolicyExceedLimit", "UnsupportedOperation.DuplicatePolicy", "UnsupportedOperation.SgNumExceedLimit", "UnsupportedOperation.VersionMismatch").
			like(`{"SecurityGroupId":"sg-1a2b3c4d","SecurityGroupPolicySet":{"Ingress":[{"Protocol":"TCP","Port":"443","CidrBlock":"203.0.113.0/24","Action":"ACCEPT"}]}}`),
		action(serviceVPC, "ModifySecurityGroupPolicies", modifySecurityGroupPolicies).needs("SecurityGroupPolicySet.Ingress.0.Action", "SecurityGroupPolicySet.Egress.0.Action").fails("InvalidParameter.Coexist", "InvalidParameterValue", "InvalidParameterValue.Empty", "InvalidParameterValue.Malformed", "InvalidParameterValue.Range", "InvalidParameterValue.TooLong", "LimitExceeded", "LimitExceeded.SecurityGroupPolicySet", "ResourceNotFound", "UnsupportedOperation.ClbPolicyExceedLimit", "UnsupportedOperation.DuplicatePolicy", "UnsupportedOperation.SgNumExceedLimit").
			like(`{"SecurityGroupId":"sg-1a2b3c4d","SecurityGroupPolicySet":{"Ingress":[{"Protocol":"TCP","Port":"443","CidrBlock":"203.0.113.0/24","Action":"ACCEPT"}]}}`),
		action(serviceVPC, "ReplaceSecurityGroupPolicy", replaceSecurityGroupPolicy).needs("SecurityGroupPolicySet.Ingress.0.Action", "SecurityGroupPolicySet.Egress.0.Action").fails("InvalidParameter.Coexist", "InvalidParameterValue", "InvalidParameterValue.Malformed", "InvalidParameterValue.Range", "InvalidParameterValue.TooLong", "LimitExceeded", "LimitExceeded.SecurityGroupPolicySet", "ResourceNotFound", "UnsupportedOperation.ClbPolicyExceedLimit", "UnsupportedOperation.DuplicatePolicy", "UnsupportedOperation.SgNumExceedLimit", "UnsupportedOperation.VersionMismatch").
			like(`{"SecurityGroupId":"sg-1a2b3c4d","SecurityGroupPolicySet":{"Ingress":[{"PolicyIndex":0,"Protocol":"TCP","Port":"443","CidrBlock":"203.0.113.0/24","Action":"ACCEPT"}]}}`),
		action(serviceVPC, "ReplaceSecurityGroupPolicies", replaceSecurityGroupPolicies).fails("InvalidParameter.Coexist", "InvalidParameterValue", "InvalidParameterValue.Empty", "InvalidParameterValue.Malformed", "InvalidParameterValue.Range", "InvalidParameterValue.TooLong", "LimitExceeded", "LimitExceeded.SecurityGroupPolicySet", "MissingParameter", "ResourceNotFound", "UnsupportedOperation.ClbPolicyExceedLimit", "UnsupportedOperation.DuplicatePolicy", "UnsupportedOperation.SgNumExceedLimit", "UnsupportedOperation.VersionMismatch").
			like(`{"SecurityGroupId":"sg-1a2b3c4d","SecurityGroupPolicySet":{"Ingress":[{"PolicyIndex":0,"Protocol":"TCP","Port":"443","CidrBlock":"203.0.113.0/24","Action":"ACCEPT"}]}}`),
		action(serviceVPC, "DeleteSecurityGroupPolicies", deleteSecurityGroupPolicies).fails("InvalidParameter.Coexist", "InvalidParameterValue.Duplicate", "InvalidParameterValue.Empty", "InvalidParameterValue.Range", "ResourceNotFound", "UnsupportedOperation.VersionMismatch").
			like(`{"SecurityGroupId":"sg-1a2b3c4d","SecurityGroupPolicySet":{"Ingress":[{"Protocol":"TCP","Port":"443","CidrBlock":"203.0.113.0/24","Action":"ACCEPT"}]}}`),
		action(serviceVPC, "DescribeSecurityGroupPolicies", describeSecurityGroupPolicies).fails("ResourceNotFound"),
		action(serviceVPC, "DescribeSecurityGroupExpandedPolicies", describeSecurityGroupExpandedPolicies).fails("ResourceNotFound"),
	}
}

// editRules changes a group's rules in one transaction: fn gets a copy of the
// group. The Version grows by one if fn changed anything; if it did not,
// nothing is written.
func editRules(c *Call, id string, fn func(g *lb.SecurityGroup) error) error {
	return c.Update(func(tx *store.Tx) error { return c.editRulesIn(tx, id, fn) })
}

// editRulesIn is editRules within a transaction.
func (c *Call) editRulesIn(tx *store.Tx, id string, fn func(g *lb.SecurityGroup) error) error {
	old, err := findGroup(tx.State(), "SecurityGroupId", id)
	if err != nil {
		return err
	}
	g := *old
	g.Ingress, g.Egress = slices.Clone(old.Ingress), slices.Clone(old.Egress)
	if err := fn(&g); err != nil {
		return err
	}
	now := c.Now().UTC()
	for _, d := range directions() {
		adopt(*d.stored(old), *d.stored(&g), now)
	}
	if unchanged(old.Ingress, g.Ingress) && unchanged(old.Egress, g.Egress) {
		return nil
	}
	if err := c.checkRules(tx, &g, "LimitExceeded.SecurityGroupPolicySet"); err != nil {
		return err
	}
	g.Version, g.Updated = old.Version+1, now
	tx.PutGroup(&g)
	if err := c.checkBound(tx, g.ID); err != nil {
		return err
	}
	return c.checkNamed(tx, old, &g)
}

// unchanged reports whether a list is what it was; without rules it may be nil
// or empty.
func unchanged(old, now []lb.PolicyRule) bool {
	return len(old)+len(now) == 0 || reflect.DeepEqual(old, now)
}

// checkRules checks what one rule alone cannot know: duplicates, quotas and
// the groups that rules refer to. Too many rules answer tooMany.
func (c *Call) checkRules(tx *store.Tx, g *lb.SecurityGroup, tooMany string) error {
	st, peers := tx.State(), map[lb.GroupID]bool{}
	for _, d := range directions() {
		rules := *d.stored(g)
		if len(rules) > c.Quotas.RulesPerDirection {
			return errorf(tooMany, "%s.%s: the group would have %d rules in this direction; at most %d are allowed (a rule without peer counts as two); delete some, or put their peers into one address template",
				rulesField, d.name, len(rules), c.Quotas.RulesPerDirection)
		}
		if err := d.noDuplicates(rules); err != nil {
			return err
		}
		for _, r := range rules {
			if err := c.templatesExist(st, d, r); err != nil {
				return err
			}
			if r.PeerGroup == "" {
				continue
			}
			peers[r.PeerGroup] = true
			if err := c.checkPeer(st, g, d, r.PeerGroup); err != nil {
				return err
			}
		}
	}
	if len(peers) > c.Quotas.References {
		return refuse(lb.LimitExceeded, rulesField, fmt.Sprintf("the group's rules would name %d other groups; at most %d are allowed", len(peers), c.Quotas.References), "name addresses instead")
	}
	return c.checkOnBalancer(tx, g, rulesField+": ")
}

func (c *Call) checkPeer(st *lb.State, g *lb.SecurityGroup, d direction, id lb.GroupID) error {
	if id == g.ID {
		return nil
	}
	field := c.placeOf(d, "SecurityGroupId", func(p policyIn) bool { return p.SecurityGroupId == string(id) })
	peer := st.Groups.Get(id)
	if peer == nil {
		return refuse(lb.NotFound, field, "there is no security group "+string(id), "DescribeSecurityGroups lists them")
	}
	if peer.ProjectID != g.ProjectID {
		return refuse(lb.Invalid, field, fmt.Sprintf("%s is not in project %s, as this group is", id, g.ProjectID), "refer to a group of the same project")
	}
	return nil
}

// versionOf reads the Version of the set in that field; nil when none is given.
func versionOf(field string, set *policySetIn) (*uint64, error) {
	if set.Version == "" {
		return nil, nil
	}
	n, err := strconv.ParseUint(set.Version, 10, 64)
	if err != nil || strconv.FormatUint(n, 10) != set.Version {
		return nil, refuse(lb.Malformed, field+".Version", strconv.Quote(clip(set.Version, 40))+" is not a version", "DescribeSecurityGroupPolicies tells it")
	}
	return &n, nil
}

// checkVersion compares the Version that a client read, which is in the set of
// that field, with the present one.
func checkVersion(g *lb.SecurityGroup, field string, set *policySetIn) error {
	n, err := versionOf(field, set)
	if err != nil {
		return err
	}
	if n != nil && *n != g.Version {
		return errorf("UnsupportedOperation.VersionMismatch", "%s.Version: the rules are at version %d, not %d; read them again", field, g.Version, *n)
	}
	return nil
}

type policiesIn struct {
	SecurityGroupId        string      `tc:"required"`
	SecurityGroupPolicySet policySetIn `tc:"required"`
}

// createSecurityGroupPolicies inserts rules of one direction, at one index or
// at the end.
func createSecurityGroupPolicies(c *Call, in *policiesIn) (*done, error) {
	set := &in.SecurityGroupPolicySet
	if err := c.settle(rulesField, set, true); err != nil {
		return nil, err
	}
	d, err := oneDirection(set)
	if err != nil {
		return nil, err
	}
	rules, err := d.parseRules(set)
	if err != nil {
		return nil, err
	}
	index, err := d.commonIndex(set)
	if err != nil {
		return nil, err
	}
	return &done{}, editRules(c, in.SecurityGroupId, func(g *lb.SecurityGroup) error {
		if err := checkVersion(g, rulesField, set); err != nil {
			return err
		}
		list := d.stored(g)
		at := len(*list)
		if index != nil {
			if *index > int64(at) {
				return refuse(lb.Range, d.at(0)+"PolicyIndex", fmt.Sprintf("%d is behind the end, the group has %d rules", *index, at), "leave it out to append")
			}
			at = int(*index)
		}
		*list = slices.Insert(*list, at, slices.Clone(rules)...)
		return nil
	})
}

// commonIndex is the index that all given rules name, nil when none does.
func (d direction) commonIndex(set *policySetIn) (*int64, error) {
	given := d.given(set)
	first := given[0].PolicyIndex
	for i, p := range given {
		if (p.PolicyIndex == nil) != (first == nil) || first != nil && *p.PolicyIndex != *first {
			return nil, refuse(lb.Invalid, d.at(i)+"PolicyIndex", "it differs from that of the call's first rule", "give all rules the same, or none")
		}
	}
	return first, nil
}

type modifyPoliciesIn struct {
	policiesIn
	SortPolicys bool `tc:""`
}

// modifySecurityGroupPolicies replaces whole lists. A direction without rules
// stays as it is; Version "0" clears both. The Version is not compared.
func modifySecurityGroupPolicies(c *Call, in *modifyPoliciesIn) (*done, error) {
	set := &in.SecurityGroupPolicySet
	if _, err := versionOf(rulesField, set); err != nil {
		return nil, err
	}
	if set.Version == "0" {
		return &done{}, editRules(c, in.SecurityGroupId, func(g *lb.SecurityGroup) error {
			g.Ingress, g.Egress = nil, nil
			return nil
		})
	}
	if len(set.Ingress)+len(set.Egress) == 0 {
		return nil, errorf("InvalidParameterValue.Empty", `%s: no rules are given; Version "0" clears both directions`, rulesField)
	}
	if err := listsOnly(set); err != nil {
		return nil, err
	}
	if err := c.settle(rulesField, set, true); err != nil {
		return nil, err
	}
	fresh := map[string][]lb.PolicyRule{}
	for _, d := range directions() {
		var err error
		if fresh[d.name], err = d.parseRules(set); err != nil {
			return nil, err
		}
	}
	return &done{}, editRules(c, in.SecurityGroupId, func(g *lb.SecurityGroup) error {
		for _, d := range directions() {
			rules := slices.Clone(fresh[d.name])
			if len(rules) == 0 {
				continue
			}
			list := d.stored(g)
			if !in.SortPolicys {
				keepOrder(*list, rules)
			}
			*list = rules
		}
		return nil
	})
}

// listsOnly refuses places of rules where the list's order says them.
func listsOnly(set *policySetIn) error {
	for _, d := range directions() {
		for i, p := range d.given(set) {
			for _, f := range []struct {
				name  string
				given *int64
			}{{"Priority", p.Priority}, {"PolicyIndex", p.PolicyIndex}} {
				if f.given != nil {
					return refuse(lb.Invalid, d.at(i)+f.name, fmt.Sprintf("%d is given, and this action takes rules in the order of the list", *f.given), "leave it out")
				}
			}
		}
	}
	return nil
}

// keepOrder puts those of rules that are in old already into the order they
// have there; the places of new rules stay.
func keepOrder(old, rules []lb.PolicyRule) {
	place := make(map[string]int, len(old))
	for i, r := range old {
		place[ruleKey(r)] = i
	}
	var slots []int
	var known []lb.PolicyRule
	for i, r := range rules {
		if _, ok := place[ruleKey(r)]; ok {
			slots, known = append(slots, i), append(known, r)
		}
	}
	slices.SortStableFunc(known, func(a, b lb.PolicyRule) int { return place[ruleKey(a)] - place[ruleKey(b)] })
	for i, slot := range slots {
		rules[slot] = known[i]
	}
}

// deleteSecurityGroupPolicies removes rules of one direction, named by index
// or by content.
func deleteSecurityGroupPolicies(c *Call, in *policiesIn) (*done, error) {
	set := &in.SecurityGroupPolicySet
	if err := c.settle(rulesField, set, false); err != nil {
		return nil, err
	}
	d, err := oneDirection(set)
	if err != nil {
		return nil, err
	}
	given := d.given(set)
	for i, p := range given {
		byIndex := p.PolicyIndex != nil
		if index := p.PolicyIndex; byIndex {
			p.PolicyIndex, p.ModifyTime = nil, ""
			if p != (policyIn{}) {
				return nil, refuse(lb.Coexist, d.at(i)+"PolicyIndex", fmt.Sprintf("index %d is given together with a rule's content", *index), "name rules by index or by content")
			}
		}
		if first := slices.IndexFunc(given, func(q policyIn) bool {
			return byIndex && q.PolicyIndex != nil && *q.PolicyIndex == *given[i].PolicyIndex
		}); byIndex && first < i {
			return nil, refuse(lb.Duplicate, d.at(i)+"PolicyIndex", fmt.Sprintf("rule %d is named twice", *given[i].PolicyIndex), "name each rule once")
		}
		if byIndex != (given[0].PolicyIndex != nil) {
			return nil, refuse(lb.Coexist, d.at(i)+"PolicyIndex", "some rules are named by index and some by content", "name all of them in one way")
		}
	}
	return &done{}, editRules(c, in.SecurityGroupId, func(g *lb.SecurityGroup) error {
		if err := checkVersion(g, rulesField, set); err != nil {
			return err
		}
		list := d.stored(g)
		gone := map[int]bool{}
		for i, p := range given {
			places, err := d.find(*list, p, i)
			if err != nil {
				return err
			}
			for _, at := range places {
				gone[at] = true
			}
		}
		var kept []lb.PolicyRule
		for i, r := range *list {
			if !gone[i] {
				kept = append(kept, r)
			}
		}
		*list = kept
		return nil
	})
}
