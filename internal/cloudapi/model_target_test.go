// SPDX-License-Identifier: Apache-2.0

package cloudapi

import "slices"

type modelTarget struct {
	instance     string
	port, weight int64
	byAddress    bool // how it was named, and is read
}

// A givenTarget is one as a call names it: whose address it is, or "" of nobody.
type givenTarget struct {
	modelTarget
	both bool // by instance and by address
}

// A modelPool is a target group.
type modelPool struct {
	kind     string // TARGETGROUP or TARGETGROUP-V2
	protocol string // of v2
	vpc      string
	port     int64
	weight   int64 // of members that name none; -1: there is none
	gap      int64 // of v2: seconds between checks
	modelPlace
}

// targetFaults are those of the list alone.
func targetFaults(targets []modelTarget) (codes []string) {
	type key struct {
		instance string
		port     int64
	}
	seen := map[key]bool{}
	for _, t := range targets {
		if t.port < 1 || t.port > 65535 || t.weight < 0 || t.weight > 100 {
			codes = append(codes, codeRange)
		}
		if k := (key{t.instance, t.port}); t.instance != "" || t.byAddress { // nobody's address is one too
			if seen[k] {
				codes = append(codes, codeTwice)
			}
			seen[k] = true
		}
	}
	return codes
}

// givenFaults are those of targets as they are written.
func (m *model) givenFaults(given []givenTarget) (targets []modelTarget, codes []string) {
	for _, g := range given {
		targets = append(targets, g.modelTarget)
		if g.both {
			codes = append(codes, "InvalidParameter")
		}
	}
	return targets, append(codes, targetFaults(targets)...)
}

func (p *modelPlace) find(t modelTarget) int {
	return slices.IndexFunc(p.targets, func(have modelTarget) bool { return have.instance == t.instance && have.port == t.port })
}

// has reports whether an instance is among the targets.
func (p *modelPlace) has(instance string) bool {
	return slices.ContainsFunc(p.targets, func(t modelTarget) bool { return t.instance == instance })
}

// place finds where targets are: a layer-4 listener, or a rule of another.
func (m *model) place(clb, id, location string) (*modelListener, *modelPlace, []string) {
	l, codes := m.listener(clb, id)
	switch {
	case l == nil:
		return nil, nil, codes
	case !l.layer7() && location != "":
		return l, nil, []string{codeGoneLoc}
	case !l.layer7():
		return l, &l.modelPlace, nil
	case location == "":
		return l, nil, []string{codeMissing}
	case l.rules[location] == nil:
		return l, nil, []string{codeGoneLoc}
	}
	return l, l.rules[location], nil
}

// ownPlace is place for targets that are bound by themselves.
func (m *model) ownPlace(clb, id, location string) (*modelListener, *modelPlace, []string) {
	l, p, codes := m.place(clb, id, location)
	if p != nil && p.from != "NODE" {
		return l, nil, []string{codeValue}
	}
	return l, p, codes
}

// served are the ports at which a listener dials a target: its own where it has
// several.
func (l *modelListener) served(t modelTarget) (first, last int64) {
	if l.end != 0 {
		return l.port, l.end
	}
	return t.port, t.port
}

// shared reports whether another layer-4 listener of the load balancer and
// protocol serves by the target what this one would.
func (m *model) shared(l *modelListener, t modelTarget) bool {
	first, last := l.served(t)
	for _, other := range m.listeners {
		if other == l || l.layer7() || other.clb != l.clb || other.kind != l.kind {
			continue
		}
		for _, have := range other.targets {
			from, to := other.served(have)
			if have.instance == t.instance && from <= last && first <= to {
				return true
			}
		}
	}
	return false
}

// twiceBehind reports whether a listener of several ports would have an
// instance twice.
func twiceBehind(l *modelListener, targets []modelTarget) bool {
	for i, t := range targets {
		if l.end != 0 && (&modelPlace{targets: targets[:i]}).has(t.instance) {
			return true
		}
	}
	return false
}

func (m *model) register(clb, id, location string, given []givenTarget) []string {
	l, p, missing := m.ownPlace(clb, id, location)
	targets, codes := m.givenFaults(given)
	codes = append(codes, missing...)
	if p == nil {
		return codes
	}
	for _, t := range targets {
		if i := m.instances[t.instance]; i == nil || i.vpc != m.clbs[clb].vpc {
			codes = append(codes, codeValue)
		}
		if p.find(t) >= 0 || m.shared(l, t) {
			codes = append(codes, codeTwice)
		}
	}
	all := slices.Concat(p.targets, targets)
	if twiceBehind(l, all) {
		codes = append(codes, codeTwice)
	}
	if len(all) > m.quotas.TargetsPerListener {
		codes = append(codes, codeLimit)
	}
	if len(codes) == 0 {
		p.targets = all
	}
	return codes
}

// bound finds where each of the targets is in a place.
func (m *model) boundAt(p *modelPlace, vpc string, targets []modelTarget) (places []int, codes []string) {
	for _, t := range targets {
		at := p.find(t)
		if i := m.instances[t.instance]; t.byAddress && i != nil && i.vpc != vpc {
			at = -1 // nobody's address here
		}
		if places = append(places, at); at < 0 {
			codes = append(codes, "InvalidParameter")
		}
	}
	return places, codes
}

func (m *model) deregister(clb, id, location string, given []givenTarget) []string {
	_, p, missing := m.ownPlace(clb, id, location)
	targets, codes := m.givenFaults(given)
	codes = append(codes, missing...)
	if p == nil {
		return codes
	}
	places, unbound := m.boundAt(p, m.clbs[clb].vpc, targets)
	if codes = append(codes, unbound...); len(codes) > 0 {
		return codes
	}
	var left []modelTarget
	for i, t := range p.targets {
		if !slices.Contains(places, i) {
			left = append(left, t)
		}
	}
	p.targets = left
	return nil
}

func (m *model) weigh(clb, id, location string, given []givenTarget) []string {
	_, p, missing := m.ownPlace(clb, id, location)
	targets, codes := m.givenFaults(given)
	codes = append(codes, missing...)
	if p == nil {
		return codes
	}
	places, unbound := m.boundAt(p, m.clbs[clb].vpc, targets)
	if codes = append(codes, unbound...); len(codes) > 0 {
		return codes
	}
	p.targets = slices.Clone(p.targets)
	for i, at := range places {
		p.targets[at].weight = targets[i].weight
	}
	return nil
}
