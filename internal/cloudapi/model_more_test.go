// SPDX-License-Identifier: Apache-2.0

package cloudapi

import (
	"net/netip"
	"slices"
)

// A modelSubnet is a part of a VPC.
type modelSubnet struct{ vpc, cidr string }

// expanded counts rules, templates by what they hold.
func (m *model) expanded(list []modelRule) (n int) {
	for _, r := range list {
		if n++; r.template != "" {
			n += len(m.templates[r.template]) - 1
		}
	}
	return n
}

// places are all places of a listener that have targets.
func (l *modelListener) places() []*modelPlace {
	if l.kind != "HTTP" {
		return []*modelPlace{&l.modelPlace}
	}
	var all []*modelPlace
	for _, id := range sortedKeys(l.rules) {
		all = append(all, l.rules[id])
	}
	return all
}

// addressFaults are those of a template's list alone.
func (m *model) addressFaults(addresses []string) (codes []string) {
	seen := map[string]bool{}
	for _, a := range addresses {
		if _, err := netip.ParsePrefix(a); err != nil {
			codes = append(codes, "InvalidParameterValue.Malformed")
		}
		if seen[a] {
			codes = append(codes, "InvalidParameterValue.Duplicate")
		}
		seen[a] = true
	}
	if len(addresses) > m.quotas.TemplateMembers {
		codes = append(codes, "LimitExceeded")
	}
	return codes
}

func (m *model) createTemplate(addresses []string) []string {
	codes := m.addressFaults(addresses)
	if len(addresses) == 0 {
		codes = append(codes, "InvalidParameterValue.Empty")
	}
	if len(m.templates) >= m.quotas.Templates {
		codes = append(codes, "LimitExceeded")
	}
	return codes
}

// changeTemplate replaces a template's addresses; none given leaves them.
func (m *model) changeTemplate(id string, addresses []string) []string {
	codes, old := m.addressFaults(addresses), m.templates[id]
	if old == nil {
		return append(codes, codeGone)
	}
	if len(codes) > 0 || len(addresses) == 0 {
		return codes
	}
	m.templates[id] = addresses
	for _, b := range m.clbs {
		for _, g := range b.groups {
			if m.uses(g, id) && m.tooLongToBind(g) {
				codes = append(codes, "UnsupportedOperation.ClbPolicyExceedLimit")
			}
		}
	}
	if len(codes) > 0 {
		m.templates[id] = old
	}
	return codes
}

// uses reports whether a rule of the group names the template.
func (m *model) uses(group, template string) bool {
	for _, list := range m.groups[group].rules {
		if slices.ContainsFunc(list, func(r modelRule) bool { return r.template == template }) {
			return true
		}
	}
	return false
}

// deleteTemplate takes the rules that name it along.
func (m *model) deleteTemplate(id string) []string {
	if m.templates[id] == nil {
		return []string{codeGone}
	}
	for name, g := range m.groups {
		if !m.uses(name, id) {
			continue
		}
		for dir, list := range g.rules {
			g.rules[dir] = slices.DeleteFunc(slices.Clone(list), func(r modelRule) bool { return r.template == id })
		}
		g.version++
	}
	delete(m.templates, id)
	return nil
}

func cidrFaults(cidr string, mostBits int) []string {
	p, err := netip.ParsePrefix(cidr)
	switch {
	case err != nil || p != p.Masked():
		return []string{"InvalidParameterValue.Malformed"}
	case p.Bits() < 12 || p.Bits() > mostBits || !p.Addr().IsPrivate():
		return []string{"InvalidParameterValue.Range"}
	}
	return nil
}

func (m *model) createSubnet(vpc, cidr string) []string {
	codes := cidrFaults(cidr, 29)
	if m.vpcs[vpc] == "" {
		return append(codes, codeGone)
	}
	if len(codes) > 0 {
		return codes
	}
	p, of := netip.MustParsePrefix(cidr), netip.MustParsePrefix(m.vpcs[vpc])
	if p.Bits() < of.Bits() || !of.Contains(p.Addr()) {
		codes = append(codes, "InvalidParameterValue.SubnetRange")
	}
	for _, s := range m.subnets {
		if s.vpc == vpc && netip.MustParsePrefix(s.cidr).Overlaps(p) {
			codes = append(codes, "InvalidParameterValue.SubnetConflict")
		}
	}
	return codes
}

func (m *model) deleteVPC(id string) []string {
	if m.vpcs[id] == "" {
		return []string{codeGone}
	}
	for _, s := range m.subnets {
		if s.vpc == id {
			return []string{"ResourceInUse"}
		}
	}
	delete(m.vpcs, id)
	return nil
}

func (m *model) deleteSubnet(id string) []string {
	if m.subnets[id].vpc == "" {
		return []string{codeGone}
	}
	for _, b := range m.clbs {
		if b.subnet == id {
			return []string{"ResourceInUse"}
		}
	}
	delete(m.subnets, id)
	return nil
}

// createRules adds rules to an HTTP listener.
func (m *model) createRules(clb, id string, rules []modelPlace) []string {
	l, codes := m.listener(clb, id)
	if l != nil && l.kind != "HTTP" {
		codes = append(codes, "InvalidParameter.ProtocolCheckFailed")
	}
	for i, r := range rules {
		same := func(o modelPlace) bool { return o.domain == r.domain && o.url == r.url }
		if slices.IndexFunc(rules, same) < i {
			codes = append(codes, "InvalidParameterValue.Duplicate")
		}
		if r.url[0] != '/' || r.domain == "a b" {
			codes = append(codes, "InvalidParameterValue")
		}
		if l == nil {
			continue
		}
		for _, have := range l.rules {
			if same(*have) {
				codes = append(codes, "InvalidParameterValue.Duplicate")
			}
		}
	}
	if l != nil && len(l.rules)+len(rules) > m.quotas.RulesPerListener {
		codes = append(codes, "LimitExceeded")
	}
	return codes
}

func (m *model) deleteRule(clb, id, location string) []string {
	l, codes := m.listener(clb, id)
	switch {
	case l == nil:
		return codes
	case l.kind != "HTTP":
		return []string{"InvalidParameter.ProtocolCheckFailed"}
	case l.rules[location] == nil:
		return []string{codeGoneLoc}
	}
	delete(l.rules, location)
	return nil
}

func (m *model) createTargetGroup(port int64) (codes []string) {
	if port == 0 {
		codes = append(codes, codeMissing)
	}
	if len(m.members) >= m.quotas.TargetGroups {
		codes = append(codes, "LimitExceeded")
	}
	return codes
}

// following are the places that follow a target group, and their listeners.
func (m *model) following(group string) (listeners []*modelListener, places []*modelPlace) {
	for _, l := range m.listeners {
		for _, p := range l.places() {
			if group != "" && p.group == group {
				listeners, places = append(listeners, l), append(places, p)
			}
		}
	}
	return listeners, places
}

func (m *model) deleteTargetGroup(id string) []string {
	if m.members[id] == nil {
		return []string{"InvalidParameterValue"}
	}
	if _, places := m.following(id); len(places) > 0 {
		return []string{"FailedOperation"}
	}
	delete(m.members, id)
	return nil
}

// enlist adds a member to a target group and to all that follows it.
func (m *model) enlist(group string, t modelTarget) []string {
	codes, members := targetFaults([]modelTarget{t}), m.members[group]
	if members == nil {
		return append(codes, "InvalidParameterValue")
	}
	if m.instances[t.instance] == nil {
		codes = append(codes, "InvalidParameterValue")
	}
	if (&modelPlace{targets: members}).find(t) >= 0 {
		codes = append(codes, "InvalidParameterValue.Duplicate")
	}
	if len(members) >= m.quotas.TargetsPerListener {
		codes = append(codes, "LimitExceeded")
	}
	listeners, places := m.following(group)
	for i, l := range listeners {
		twice := slices.ContainsFunc(listeners[:i], func(o *modelListener) bool { return o.clb == l.clb && o.kind == l.kind && l.kind != "HTTP" })
		if twice || m.shared(l, t) {
			codes = append(codes, "InvalidParameterValue.Duplicate")
		}
	}
	if len(codes) == 0 {
		m.members[group] = append(slices.Clone(members), t)
		for _, p := range places {
			p.targets = m.members[group]
		}
	}
	return codes
}

// delist takes a member out of a target group and of all that follows it.
func (m *model) delist(group string, t modelTarget) []string {
	codes, members := targetFaults([]modelTarget{t}), m.members[group]
	if members == nil || m.instances[t.instance] == nil {
		return append(codes, "InvalidParameterValue")
	}
	at := (&modelPlace{targets: members}).find(t)
	if at < 0 {
		codes = append(codes, "InvalidParameter")
	}
	if len(codes) == 0 {
		m.members[group] = slices.Delete(slices.Clone(members), at, at+1)
		_, places := m.following(group)
		for _, p := range places {
			p.targets = m.members[group]
		}
	}
	return codes
}

func (m *model) follow(clb, id, location, group string) []string {
	l, p, codes := m.place(clb, id, location)
	members := m.members[group]
	if p == nil || members == nil {
		if members == nil {
			codes = append(codes, "InvalidParameterValue")
		}
		return codes
	}
	switch {
	case p.group == group:
		return []string{"InvalidParameterValue.Duplicate"}
	case p.group != "":
		return []string{"LimitExceeded"}
	case !p.grouped, m.clbs[clb].vpc != "":
		return []string{"InvalidParameterValue"}
	}
	for _, t := range members {
		if m.shared(l, t) {
			return []string{"InvalidParameterValue.Duplicate"}
		}
	}
	p.group, p.targets = group, members
	return nil
}

func (m *model) unfollow(clb, id, location, group string) []string {
	_, p, codes := m.place(clb, id, location)
	if m.members[group] == nil {
		codes = append(codes, "InvalidParameterValue")
	}
	if len(codes) > 0 {
		return codes
	}
	if p.group != group {
		return []string{"InvalidParameterValue"}
	}
	p.group, p.targets = "", nil
	return nil
}
