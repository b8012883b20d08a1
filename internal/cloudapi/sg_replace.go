// SPDX-License-Identifier: Apache-2.0

package cloudapi

import (
	"fmt"
	"slices"

	"github.com/sallyport/sallyport/internal/lb"
)

type replacePolicyIn struct {
	policiesIn
	OriginalSecurityGroupPolicySet policySetIn `tc:""`
}

// replaceSecurityGroupPolicy replaces one rule: that at PolicyIndex, or that
// at the original's index, or the original by its content, or, with neither,
// the rule that has the same content (which changes its description).
func replaceSecurityGroupPolicy(c *Call, in *replacePolicyIn) (*done, error) {
	set := &in.SecurityGroupPolicySet
	if err := c.settle(rulesField, set, true); err != nil {
		return nil, err
	}
	if err := c.settle(originalField, &in.OriginalSecurityGroupPolicySet, false); err != nil {
		return nil, err
	}
	d, err := oneDirection(set)
	if err != nil {
		return nil, err
	}
	given := d.given(set)
	if len(given) > 1 {
		return nil, refuse(lb.Invalid, rulesField+"."+d.name, fmt.Sprintf("%d rules are given", len(given)), "one call replaces one rule")
	}
	rules, err := d.parseRules(set)
	if err != nil {
		return nil, err
	}
	wanted, err := d.original(in, given[0])
	if err != nil {
		return nil, err
	}
	return &done{}, editRules(c, in.SecurityGroupId, func(g *lb.SecurityGroup) error {
		if err := checkVersion(g, rulesField, set); err != nil {
			return err
		}
		list := d.stored(g)
		places, err := d.find(*list, wanted, 0)
		if err != nil {
			return err
		}
		at := places[0]
		for _, i := range slices.Backward(places) {
			*list = slices.Delete(*list, i, i+1)
		}
		*list = slices.Insert(*list, at, slices.Clone(rules)...)
		return nil
	})
}

// original is what names the rule to replace.
func (d direction) original(in *replacePolicyIn, given policyIn) (policyIn, error) {
	if given.PolicyIndex != nil {
		return policyIn{PolicyIndex: given.PolicyIndex}, nil
	}
	switch named := d.given(&in.OriginalSecurityGroupPolicySet); len(named) {
	case 0:
		given.PolicyDescription = "" // that is what changes
		return given, nil
	case 1:
		if named[0].PolicyIndex != nil {
			return policyIn{PolicyIndex: named[0].PolicyIndex, ModifyTime: named[0].ModifyTime}, nil
		}
		return named[0], nil
	}
	return policyIn{}, refuse(lb.Invalid, originalField+"."+d.name, "several rules are given", "one call replaces one rule")
}

type replacePoliciesIn struct {
	policiesIn
	OriginalSecurityGroupPolicySet policySetIn `tc:""`
	UpdateType                     string      `tc:"enum=Policy|Priority|Both"` // Policy when it is not given
}

// A replacement is one of the rules that a call changes.
type replacement struct {
	from  []int // the places of the rule, two where it names every address
	to    int
	rules []lb.PolicyRule // what stands there afterwards
}

// replaceSecurityGroupPolicies changes several rules of one direction: their
// content, their places, or both. A rule is named by the original given for
// it, or by its own PolicyIndex; when places change, that is the new place, and
// the rules that are not named keep their order around.
func replaceSecurityGroupPolicies(c *Call, in *replacePoliciesIn) (*done, error) {
	set := &in.SecurityGroupPolicySet
	if err := c.settle(rulesField, set, true); err != nil {
		return nil, err
	}
	if err := c.settle(originalField, &in.OriginalSecurityGroupPolicySet, false); err != nil {
		return nil, err
	}
	d, err := oneDirection(set)
	if err != nil {
		return nil, err
	}
	given, originals := d.given(set), d.given(&in.OriginalSecurityGroupPolicySet)
	moves := in.UpdateType == "Priority" || in.UpdateType == "Both"
	switch {
	case moves && len(originals) == 0:
		return nil, refuse(lb.Missing, originalField+"."+d.name, "UpdateType "+in.UpdateType+" moves rules, and nothing says where they stand now", "name each rule there, in the same order")
	case len(originals) > 0 && len(originals) != len(given):
		return nil, refuse(lb.Invalid, originalField+"."+d.name, fmt.Sprintf("%d originals are given for %d rules", len(originals), len(given)), "give one for each, in the same order")
	}
	return &done{}, editRules(c, in.SecurityGroupId, func(g *lb.SecurityGroup) error {
		if err := checkVersion(g, rulesField, set); err != nil {
			return err
		}
		list := d.stored(g)
		var all []replacement
		for i := range given {
			r, err := d.replacement(*list, in, i)
			if err != nil {
				return err
			}
			for _, other := range all {
				if slices.Contains(other.from, r.from[0]) || moves && other.to == r.to {
					return refuse(lb.Invalid, d.at(i)+"PolicyIndex", "another rule of the call has the same place", "name each rule and each place once")
				}
			}
			all = append(all, r)
		}
		*list = replaced(*list, all, moves)
		return nil
	})
}

// replacement finds the rule that the i-th given one changes, and what becomes
// of it.
func (d direction) replacement(list []lb.PolicyRule, in *replacePoliciesIn, i int) (r replacement, err error) {
	given, originals := d.given(&in.SecurityGroupPolicySet)[i], d.given(&in.OriginalSecurityGroupPolicySet)
	index, moves := given.PolicyIndex, in.UpdateType == "Priority" || in.UpdateType == "Both"
	switch {
	case len(originals) > 0:
		named := originals[i]
		if named.PolicyIndex != nil {
			named = policyIn{PolicyIndex: named.PolicyIndex, ModifyTime: named.ModifyTime}
		}
		r.from, err = d.in(originalField).find(list, named, i)
	case index != nil:
		r.from, err = d.find(list, policyIn{PolicyIndex: index}, i)
	default:
		return r, refuse(lb.Missing, d.at(i)+"PolicyIndex", "nothing says which rule this replaces", "give its index")
	}
	if err != nil {
		return r, err
	}
	r.to = r.from[0]
	switch {
	case moves && index == nil:
		return r, refuse(lb.Missing, d.at(i)+"PolicyIndex", "nothing says where the rule shall stand", "give its new index")
	case moves && len(r.from) > 1:
		return r, refuse(lb.Invalid, originalField+"."+d.name, "it names two rules, one of each address family, and one place is given", "name each by its index")
	case index != nil && (*index < 0 || *index >= int64(len(list))):
		return r, refuse(lb.Range, d.at(i)+"PolicyIndex", fmt.Sprintf("%d is no place, the group has %d rules in this direction", *index, len(list)), "indexes begin at 0")
	case moves:
		r.to = int(*index)
	case index != nil && *index != int64(r.to):
		return r, refuse(lb.Invalid, d.at(i)+"PolicyIndex", fmt.Sprintf("the original stands at %d, and UpdateType Policy moves nothing", r.to), "give UpdateType Both")
	}
	r.rules, err = d.content(list, in.UpdateType, given, r.from[0], i)
	return r, err
}

// content is what the i-th given rule says. UpdateType Priority leaves the
// rule as it is, so what is given there must say the same.
func (d direction) content(list []lb.PolicyRule, update string, given policyIn, from, i int) ([]lb.PolicyRule, error) {
	given.PolicyIndex = nil
	if update != "Priority" {
		return given.parse(d.at(i))
	}
	if given != (policyIn{}) {
		rules, err := given.parse(d.at(i))
		if err != nil {
			return nil, err
		}
		if len(rules) != 1 || ruleKey(rules[0]) != ruleKey(list[from]) || given.PolicyDescription != "" && given.PolicyDescription != list[from].Description {
			return nil, refuse(lb.Invalid, d.field+"."+d.name, fmt.Sprintf("the rule at %d is %s, and UpdateType Priority changes no content", from, ruleLine(list[from])), "give UpdateType Both")
		}
	}
	return []lb.PolicyRule{list[from]}, nil
}

// replaced is the list after all replacements: when rules move, the places
// that nobody takes are for the others, in their order.
func replaced(list []lb.PolicyRule, all []replacement, moves bool) []lb.PolicyRule {
	at, gone := map[int][]lb.PolicyRule{}, map[int]bool{}
	for _, r := range all {
		at[r.to] = r.rules
		for _, i := range r.from {
			gone[i] = true
		}
	}
	var rest, out []lb.PolicyRule
	for i, r := range list {
		if !gone[i] {
			rest = append(rest, r)
		}
	}
	for i := range list {
		switch rules, taken := at[i]; {
		case taken:
			out = append(out, rules...)
		case !moves && gone[i]: // the second half of a pair
		default:
			out, rest = append(out, rest[0]), rest[1:]
		}
	}
	return out
}
