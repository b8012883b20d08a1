// SPDX-License-Identifier: Apache-2.0

package cloudapi

import (
	"fmt"
	"slices"
	"strings"

	"github.com/sallyport/sallyport/internal/lb"
)

// A model is what groups, load balancers, listeners, targets and instances
// mean, in the fewest words: plain lists, no store, no transactions. Each
// method that changes it says which codes the real thing may answer instead;
// with none it must succeed. Where a request has several faults, any of their
// codes will do.
type model struct {
	quotas    lb.Quotas
	groups    map[string]*modelGroup
	clbs      map[string]*modelCLB
	listeners map[string]*modelListener
	instances map[string]*modelInstance
	templates map[string][]string // what each of the four kinds holds
	vpcs      map[string]string   // CIDRs; the default VPC is "" and not here
	subnets   map[string]modelSubnet
	pools     map[string]*modelPool // target groups
	certs     map[string]modelCert
	tags      map[string]map[string]string // by id of what has some
}

type modelGroup struct {
	name, project string
	rules         map[string][]modelRule // by direction
	version       int
}

// A modelRule is a rule as it reads back.
type modelRule struct{ action, proto, port, cidr, cidr6, group, template, service, text string }

// same is what makes two rules one: everything but the description.
func (r modelRule) same() modelRule { r.text = ""; return r }

func newModel(q lb.Quotas) *model {
	return &model{q, map[string]*modelGroup{}, map[string]*modelCLB{}, map[string]*modelListener{}, map[string]*modelInstance{},
		map[string][]string{}, map[string]string{}, map[string]modelSubnet{}, map[string]*modelPool{}, map[string]modelCert{}, map[string]map[string]string{}}
}

const (
	codeMissing   = "MissingParameter"
	codeGone      = "ResourceNotFound"
	codeGoneCLB   = "InvalidParameter.LBIdNotFound"
	codeGoneLbl   = "InvalidParameter.ListenerIdNotFound"
	codeGoneLoc   = "InvalidParameter.LocationNotFound"
	codeDuplicate = "UnsupportedOperation.DuplicatePolicy"
	codeVersion   = "UnsupportedOperation.VersionMismatch"
	codeValue     = "InvalidParameterValue"
	codeTwice     = "InvalidParameterValue.Duplicate"
	codeRange     = "InvalidParameterValue.Range"
	codeLimit     = "LimitExceeded"
	codeUsed      = "ResourceInUse"
)

// A writtenRule is a generated rule: how it is written, what it becomes, and the
// codes of what is wrong with it.
type writtenRule struct {
	fields  map[string]any
	becomes []modelRule
	codes   []string
}

func (m *model) createGroup(name, project string) (codes []string) {
	if project == "x" {
		codes = append(codes, "InvalidParameterValue.Malformed")
	}
	switch {
	case name == "":
		codes = append(codes, "InvalidParameterValue")
	case len([]rune(name)) > 60:
		codes = append(codes, "InvalidParameterValue.TooLong")
	}
	if len(m.groups) >= m.quotas.Groups {
		codes = append(codes, "LimitExceeded")
	}
	return codes
}

func (m *model) deleteGroup(id string) []string {
	if m.groups[id] == nil {
		return []string{codeGone}
	}
	if m.bound(id) {
		return []string{codeUsed}
	}
	for other, g := range m.groups {
		for _, list := range g.rules {
			if other != id && slices.ContainsFunc(list, func(r modelRule) bool { return r.group == id }) {
				return []string{codeUsed}
			}
		}
	}
	delete(m.groups, id)
	delete(m.tags, id)
	return nil
}

// bound reports whether an instance or a load balancer has the group.
func (m *model) bound(group string) bool {
	for _, i := range m.instances {
		if slices.Contains(i.groups, group) {
			return true
		}
	}
	for _, b := range m.clbs {
		if slices.Contains(b.groups, group) {
			return true
		}
	}
	return false
}

// listFaults says what is wrong with a group whose direction would be list.
func (m *model) listFaults(id, dir string, list []modelRule, tooMany string) (codes []string) {
	g, seen, peers := m.groups[id], map[modelRule]bool{}, map[string]bool{}
	for _, r := range list {
		if seen[r.same()] {
			codes = append(codes, codeDuplicate)
		}
		seen[r.same()] = true
	}
	before := g.rules[dir]
	g.rules[dir] = list
	defer func() { g.rules[dir] = before }()
	for _, r := range slices.Concat(g.rules["Ingress"], g.rules["Egress"]) {
		for _, t := range []string{r.template, r.service} {
			if t != "" && m.templates[t] == nil {
				codes = append(codes, codeGone)
			}
		}
		if r.group == "" {
			continue
		}
		peers[r.group] = true
		switch peer := m.groups[r.group]; {
		case peer == nil:
			codes = append(codes, codeGone)
		case peer.project != g.project:
			codes = append(codes, codeValue)
		}
	}
	if len(list) > m.quotas.RulesPerDirection {
		codes = append(codes, tooMany)
	}
	if len(peers) > m.quotas.References {
		codes = append(codes, codeLimit)
	}
	return append(codes, m.overfull()...)
}

// overfull is what is answered by whatever would make rules stand for too much:
// those of a group on a load balancer, or of all groups of an instance, and
// lists that too many groups use.
func (m *model) overfull() (codes []string) {
	for _, b := range m.clbs {
		if slices.ContainsFunc(b.groups, m.tooLongToBind) {
			codes = append(codes, "UnsupportedOperation.ClbPolicyExceedLimit")
		}
	}
	for _, i := range m.instances {
		n := 0
		for _, g := range i.groups {
			for _, r := range m.rulesOf(g) {
				each := m.standsFor(r)
				if r.group != "" {
					each *= m.members(r.group)
				}
				n += each
			}
		}
		if n > m.quotas.ExpandedRules {
			codes = append(codes, "UnsupportedOperation.SgNumExceedLimit")
		}
	}
	for list := range m.templates {
		n := 0
		for g := range m.groups {
			if m.uses(g, list) {
				n++
			}
		}
		if !isGroupOfLists(list) && n > m.quotas.GroupsPerTemplate {
			codes = append(codes, codeLimit)
		}
	}
	return codes
}

// allRules are those of every group.
func (m *model) allRules() (all [][]modelRule) {
	for id := range m.groups {
		all = append(all, m.rulesOf(id))
	}
	return all
}

// rulesOf are a group's rules in both directions; none of one that is not there.
func (m *model) rulesOf(group string) []modelRule {
	if g := m.groups[group]; g != nil {
		return slices.Concat(g.rules["Ingress"], g.rules["Egress"])
	}
	return nil
}

// members counts the instances in a group.
func (m *model) members(group string) (n int) {
	for _, i := range m.instances {
		if slices.Contains(i.groups, group) {
			n++
		}
	}
	return n
}

// set makes list the direction's rules unless that is refused.
func (m *model) set(id, dir string, list []modelRule, codes []string) []string {
	g := m.groups[id]
	if g == nil {
		return append(codes, codeGone)
	}
	if len(codes) == 0 && slices.Equal(list, g.rules[dir]) {
		return nil
	}
	if codes = append(codes, m.listFaults(id, dir, list, "LimitExceeded.SecurityGroupPolicySet")...); len(codes) > 0 {
		return codes
	}
	g.rules[dir] = list
	g.version++
	return nil
}

// becoming gathers what rules become and what is wrong with them.
func becoming(rules []writtenRule) (list []modelRule, codes []string) {
	for _, r := range rules {
		list, codes = append(list, r.becomes...), append(codes, r.codes...)
	}
	return list, codes
}

func (m *model) insert(id, dir string, rules []writtenRule, index *int64, version string) []string {
	fresh, codes := becoming(rules)
	if index != nil && *index < 0 {
		codes = append(codes, "InvalidParameterValue.Range")
	}
	g := m.groups[id]
	if g == nil {
		return append(codes, codeGone)
	}
	if version != "" && version != fmt.Sprint(g.version) {
		codes = append(codes, codeVersion)
	}
	list := g.rules[dir]
	at := int64(len(list))
	if index != nil {
		if *index < 0 || *index > at {
			codes = append(codes, "InvalidParameterValue.Range")
			return codes
		}
		at = *index
	}
	return m.set(id, dir, slices.Insert(slices.Clone(list), int(at), fresh...), codes)
}

func (m *model) replace(id, dir string, rule writtenRule, index int64, version string) []string {
	codes := slices.Clone(rule.codes)
	if index < 0 {
		codes = append(codes, "InvalidParameterValue.Range")
	}
	g := m.groups[id]
	if g == nil {
		return append(codes, codeGone)
	}
	if version != "" && version != fmt.Sprint(g.version) {
		codes = append(codes, codeVersion)
	}
	if index < 0 || index >= int64(len(g.rules[dir])) {
		return append(codes, "InvalidParameterValue.Range")
	}
	list := slices.Delete(slices.Clone(g.rules[dir]), int(index), int(index)+1)
	return m.set(id, dir, slices.Insert(list, int(index), rule.becomes...), codes)
}

func (m *model) remove(id, dir string, indexes []int64, version string) (codes []string) {
	g := m.groups[id]
	if g == nil {
		return []string{codeGone}
	}
	if version != "" && version != fmt.Sprint(g.version) {
		codes = append(codes, codeVersion)
	}
	var list []modelRule
	for i, r := range g.rules[dir] {
		if !slices.Contains(indexes, int64(i)) {
			list = append(list, r)
		}
	}
	for _, i := range indexes {
		if i < 0 || i >= int64(len(g.rules[dir])) {
			codes = append(codes, "InvalidParameterValue.Range")
		}
	}
	return m.set(id, dir, list, codes)
}

// reset is ModifySecurityGroupPolicies with one direction and SortPolicys.
func (m *model) reset(id, dir string, rules []writtenRule) []string {
	fresh, codes := becoming(rules)
	return m.set(id, dir, fresh, codes)
}

// clear is ModifySecurityGroupPolicies with Version "0".
func (m *model) clear(id string) []string {
	g := m.groups[id]
	if g == nil {
		return []string{codeGone}
	}
	if len(g.rules["Ingress"])+len(g.rules["Egress"]) > 0 {
		g.version++
	}
	g.rules = map[string][]modelRule{}
	return nil
}

// ruleText is a rule as the lists below compare it.
func (r modelRule) String() string {
	return strings.Join([]string{r.action, r.proto, r.port, r.cidr, r.cidr6, r.group, r.template, r.service, r.text}, "|")
}
