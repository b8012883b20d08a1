// SPDX-License-Identifier: Apache-2.0

package cloudapi

import "slices"

func (m *model) createPool(p *modelPool) (codes []string) {
	v2 := p.kind == "TARGETGROUP-V2"
	if p.port == 0 || v2 && p.protocol == "" {
		codes = append(codes, codeMissing)
	}
	if !v2 && (p.protocol != "" || p.weight >= 0 || p.gap != 0) { // a v1 group takes them from its listener
		codes = append(codes, "InvalidParameter")
	}
	if p.weight > 100 || p.gap == 1 {
		codes = append(codes, codeRange)
	}
	if p.vpc != "" && m.vpcs[p.vpc] == "" {
		codes = append(codes, codeValue)
	}
	if len(m.pools) >= m.quotas.TargetGroups {
		codes = append(codes, codeLimit)
	}
	return codes
}

// modifyPool changes what later members get, and how v2 members are checked.
func (m *model) modifyPool(id string, weight, gap int64) (codes []string) {
	p := m.pools[id]
	if p == nil {
		codes = append(codes, codeValue)
	}
	if weight > 100 || gap == 1 {
		codes = append(codes, codeRange)
	}
	if p != nil && p.kind == "TARGETGROUP" && (weight >= 0 || gap != 0) {
		codes = append(codes, "InvalidParameter")
	}
	if len(codes) > 0 {
		return codes
	}
	if weight >= 0 {
		p.weight = weight
	}
	if gap > 0 {
		p.gap = gap
	}
	return nil
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

func (m *model) deletePool(id string) []string {
	if m.pools[id] == nil {
		return []string{codeValue}
	}
	if _, places := m.following(id); len(places) > 0 {
		return []string{"FailedOperation"}
	}
	delete(m.pools, id)
	return nil
}

// enlist adds a member to a target group and to all that follows it.
func (m *model) enlist(group string, t modelTarget) []string {
	g := m.pools[group]
	if g == nil {
		return append(targetFaults([]modelTarget{t}), codeValue)
	}
	var codes []string
	if t.weight == noWeight {
		if t.weight = g.weight; t.weight < 0 {
			if t.weight = 10; g.kind == "TARGETGROUP-V2" {
				codes = append(codes, codeMissing)
			}
		}
	}
	codes = append(codes, targetFaults([]modelTarget{t})...)
	if i := m.instances[t.instance]; i == nil || i.vpc != g.vpc {
		codes = append(codes, codeValue)
	}
	if g.find(t) >= 0 {
		codes = append(codes, codeTwice)
	}
	if len(g.targets) >= m.quotas.TargetsPerListener {
		codes = append(codes, codeLimit)
	}
	all := append(slices.Clone(g.targets), t)
	listeners, places := m.following(group)
	for i, l := range listeners {
		first, last := l.served(t)
		twice := slices.ContainsFunc(listeners[:i], func(o *modelListener) bool {
			from, to := o.served(t)
			return o.clb == l.clb && o.kind == l.kind && !l.layer7() && from <= last && first <= to
		})
		if twice || m.shared(l, t) || twiceBehind(l, all) {
			codes = append(codes, codeTwice)
		}
	}
	if len(codes) == 0 {
		g.targets = all
		for _, p := range places {
			p.targets = all
		}
	}
	return codes
}

// noWeight is that of a member that names none.
const noWeight = -2

// delist takes a member out of a target group and of all that follows it.
func (m *model) delist(group string, t modelTarget) []string {
	if t.weight == noWeight {
		t.weight = 0
	}
	codes, g := targetFaults([]modelTarget{t}), m.pools[group]
	if g == nil || m.instances[t.instance] == nil || m.instances[t.instance].vpc != g.vpc {
		return append(codes, codeValue)
	}
	at := g.find(t)
	if at < 0 {
		codes = append(codes, "InvalidParameter")
	}
	if len(codes) == 0 {
		g.targets = slices.Delete(slices.Clone(g.targets), at, at+1)
		_, places := m.following(group)
		for _, p := range places {
			p.targets = g.targets
		}
	}
	return codes
}

func (m *model) follow(clb, id, location, group string) []string {
	l, p, codes := m.place(clb, id, location)
	g := m.pools[group]
	if p == nil || g == nil {
		if g == nil {
			codes = append(codes, codeValue)
		}
		return codes
	}
	switch {
	case p.group == group:
		return []string{codeTwice}
	case p.group != "":
		return []string{codeLimit}
	case p.from != g.kind, m.clbs[clb].vpc != g.vpc, g.protocol != "" && g.protocol != l.kind:
		return []string{codeValue}
	case twiceBehind(l, g.targets):
		return []string{codeTwice}
	}
	for _, t := range g.targets {
		if m.shared(l, t) {
			return []string{codeTwice}
		}
	}
	p.group, p.targets = group, g.targets
	return nil
}

func (m *model) unfollow(clb, id, location, group string) []string {
	_, p, codes := m.place(clb, id, location)
	if m.pools[group] == nil {
		codes = append(codes, codeValue)
	}
	if len(codes) > 0 {
		return codes
	}
	if p.group != group {
		return []string{codeValue}
	}
	p.group, p.targets = "", nil
	return nil
}
