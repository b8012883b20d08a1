// SPDX-License-Identifier: Apache-2.0

package cloudapi

import (
	"maps"
	"slices"
	"strconv"
)

// there reports whether an object has the id.
func (m *model) there(id string) bool {
	_, cert := m.certs[id]
	return cert || m.groups[id] != nil || m.clbs[id] != nil || m.instances[id] != nil || m.templates[id] != nil || m.vpcs[id] != "" || m.subnets[id].vpc != ""
}

// retag sets and removes tags of an object.
func (m *model) retag(id string, set map[string]string, drop []string) (codes []string) {
	if !m.there(id) {
		codes = append(codes, codeGone)
	}
	for key := range set {
		if key == "" {
			codes = append(codes, codeValue)
		}
		if slices.Contains(drop, key) {
			codes = append(codes, "InvalidParameterCombination")
		}
	}
	if len(codes) > 0 {
		return codes
	}
	tags := map[string]string{}
	maps.Copy(tags, m.tags[id])
	maps.Copy(tags, set)
	for _, key := range drop {
		delete(tags, key)
	}
	m.tags[id] = tags
	return nil
}

func (m *model) moveCLB(id string, project int64) (codes []string) {
	if project < 0 {
		codes = append(codes, codeRange)
	}
	if m.clbs[id] == nil {
		codes = append(codes, codeGoneCLB)
	}
	if len(codes) == 0 {
		m.clbs[id].project = project
	}
	return codes
}

func (m *model) moveInstance(id string, project int64) (codes []string) {
	if project < 0 {
		codes = append(codes, codeValue)
	}
	if m.instances[id] == nil {
		codes = append(codes, codeGoneInstance)
	}
	if len(codes) == 0 {
		m.instances[id].project = project
	}
	return codes
}

// scoped is the project of the key that has one.
const scoped = 7

// ownGroup is what the scoped key sees of groups: those of its project.
func (m *model) ownGroup(id string) bool {
	return m.groups[id] != nil && m.groups[id].project == strconv.Itoa(scoped)
}

// named reports whether an object of the scoped key's project has the group.
func (m *model) named(group string) bool {
	for _, b := range m.clbs {
		if b.project == scoped && slices.Contains(b.groups, group) {
			return true
		}
	}
	for _, i := range m.instances {
		if i.project == scoped && slices.Contains(i.groups, group) {
			return true
		}
	}
	return false // rules name groups of their own project alone
}

// hidden is what the scoped key is told of a group of another project: that it
// is not there, or, where an object of its own has it, that it may not.
func (m *model) hidden(group, gone string) string {
	if m.groups[group] != nil && m.named(group) {
		return codeUnauthorized
	}
	return gone
}

// rename is ModifySecurityGroupAttribute by the scoped key.
func (m *model) rename(id, name string) []string {
	if !m.ownGroup(id) {
		return []string{m.hidden(id, codeGone)}
	}
	m.groups[id].name = name
	return nil
}

// deleteOwnGroup is DeleteSecurityGroup by the scoped key.
func (m *model) deleteOwnGroup(id string) []string {
	if !m.ownGroup(id) {
		return []string{m.hidden(id, codeGone), codeUsed}
	}
	return m.deleteGroup(id)
}

// bindOwn is SetLoadBalancerSecurityGroups by the scoped key: groups of other
// projects are not there, but for those that an object of its own has.
func (m *model) bindOwn(id string, groups []string) (codes []string) {
	b := m.clbs[id]
	if b == nil || b.project != scoped {
		return []string{codeGoneCLB}
	}
	for _, g := range groups {
		if !m.ownGroup(g) && !slices.Contains(b.groups, g) {
			codes = append(codes, m.hidden(g, codeValue))
		}
	}
	if len(codes) > 0 { // which fault of several is told, is open
		if slices.ContainsFunc(groups, func(g string) bool { return (m.ownGroup(g) || slices.Contains(b.groups, g)) && m.tooLongToBind(g) }) {
			codes = append(codes, codeLimit)
		}
		return append(codes, m.boundFaults(groups, m.quotas.GroupsPerBalancer, codeValue, codeTwice, codeLimit)...)
	}
	return m.bindCLB(id, groups)
}
