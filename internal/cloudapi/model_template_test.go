// SPDX-License-Identifier: Apache-2.0

package cloudapi

import (
	"net/netip"
	"slices"
	"strings"
)

// isGroupOfLists is true of the ids of groups of templates.
func isGroupOfLists(template string) bool {
	return strings.HasPrefix(template, "ipmg-") || strings.HasPrefix(template, "ppmg-")
}

// standsFor counts what a rule says: each address of its template with each
// service of its other one.
func (m *model) standsFor(r modelRule) int { return m.holds(r.template) * m.holds(r.service) }

// holds counts what a template says, 1 for none.
func (m *model) holds(template string) (n int) {
	if !isGroupOfLists(template) {
		return max(1, len(m.templates[template]))
	}
	for _, list := range m.templates[template] {
		n += len(m.templates[list])
	}
	return max(1, n)
}

// expanded counts what rules say.
func (m *model) expanded(list []modelRule) (n int) {
	for _, r := range list {
		n += m.standsFor(r)
	}
	return n
}

// tooLongToBind is true of a group with more rules than one that is bound to a
// load balancer may have.
func (m *model) tooLongToBind(group string) bool {
	return m.expanded(m.rulesOf(group)) > m.quotas.RulesOnBalancer
}

// uses reports whether a rule of the group names the template, or a group of
// templates that holds it.
func (m *model) uses(group, template string) bool {
	names := func(id string) bool {
		return id == template || isGroupOfLists(id) && slices.Contains(m.templates[id], template)
	}
	return slices.ContainsFunc(m.rulesOf(group), func(r modelRule) bool { return names(r.template) || names(r.service) })
}

// memberFault is what is wrong with one member of a template, by its kind.
func (m *model) memberFault(kind, member string) string {
	switch {
	case kind == "ipm-":
		low, high, isRange := strings.Cut(member, "-")
		if !isRange {
			if _, err := netip.ParsePrefix(member); err != nil {
				return "InvalidParameterValue.Malformed"
			}
			return ""
		}
		if netip.MustParseAddr(high).Less(netip.MustParseAddr(low)) {
			return "InvalidParameterValue.Malformed"
		}
		return ""
	case kind == "ppm-":
		return map[string]string{"tcp": "InvalidParameterValue.Malformed", "sctp:80": "InvalidParameterValue.Malformed", "tcp:90-80": codeRange}[member]
	case m.templates[member] == nil:
		return codeGone
	}
	return ""
}

// kindOfID is the prefix of an id.
func kindOfID(id string) string { return id[:strings.Index(id, "-")+1] }

func (m *model) memberFaults(kind string, members []string) (codes []string) {
	for i, text := range members {
		if fault := m.memberFault(kind, text); fault != "" {
			codes = append(codes, fault)
		}
		if slices.Index(members, text) < i {
			codes = append(codes, codeTwice)
		}
	}
	if len(members) > m.quotas.TemplateMembers {
		codes = append(codes, codeLimit)
	}
	return codes
}

func (m *model) createTemplate(kind string, members []string) []string {
	codes, n := m.memberFaults(kind, members), 0
	if len(members) == 0 {
		codes = append(codes, "InvalidParameterValue.Empty", codeValue, codeMissing)
	}
	for id := range m.templates {
		if kindOfID(id) == kind {
			n++
		}
	}
	if n >= m.quotas.Templates {
		codes = append(codes, codeLimit)
	}
	return codes
}

// changeTemplate replaces what a template holds; nothing given leaves it.
func (m *model) changeTemplate(id string, members []string) []string {
	codes, old := m.memberFaults(kindOfID(id), members), m.templates[id]
	if old == nil {
		return append(codes, codeGone)
	}
	if len(members) == 0 {
		return codes
	}
	m.templates[id] = members
	if codes = append(codes, m.overfull()...); len(codes) > 0 {
		m.templates[id] = old
	}
	return codes
}

// deleteTemplate takes the rules that name it along. What a group of templates
// holds stays.
func (m *model) deleteTemplate(id string) []string {
	if m.templates[id] == nil {
		return []string{codeGone}
	}
	for group, lists := range m.templates {
		if isGroupOfLists(group) && slices.Contains(lists, id) {
			return []string{"UnsupportedOperation"}
		}
	}
	for name, g := range m.groups {
		if !m.uses(name, id) {
			continue
		}
		for dir, list := range g.rules {
			g.rules[dir] = slices.DeleteFunc(slices.Clone(list), func(r modelRule) bool { return r.template == id || r.service == id })
		}
		g.version++
	}
	delete(m.templates, id)
	delete(m.tags, id)
	return nil
}
