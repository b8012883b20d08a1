// SPDX-License-Identifier: Apache-2.0

package cloudapi

import (
	"maps"
	"slices"
)

type modelCLB struct {
	private     bool
	vpc, subnet string // "" is the default VPC
	groups      []string
	pass        bool
	protected   bool
	project     int64
}

type modelListener struct {
	clb       string
	kind      string // TCP, UDP, HTTP or HTTPS
	port, end int64  // end is 0 for one port
	cert      string // of HTTPS without sni
	sni       bool
	modelPlace
	rules map[string]*modelPlace // of HTTP and HTTPS
}

// A modelPlace has targets: a layer-4 listener, or a rule.
type modelPlace struct {
	domain, url string // of a rule
	cert        string // of a rule whose listener has one for each domain
	from        string // NODE, TARGETGROUP or TARGETGROUP-V2
	group       string // the one that it follows
	targets     []modelTarget
	rewrite     *modelRewrite
}

func (l *modelListener) layer7() bool { return l.kind == "HTTP" || l.kind == "HTTPS" }

// last is the last of the listener's ports.
func (l *modelListener) last() int64 { return max(l.port, l.end) }

// places are all places of a listener that have targets.
func (l *modelListener) places() []*modelPlace {
	if !l.layer7() {
		return []*modelPlace{&l.modelPlace}
	}
	var all []*modelPlace
	for _, id := range sortedKeys(l.rules) {
		all = append(all, l.rules[id])
	}
	return all
}

// createCLB makes a public load balancer, or a private one of a subnet.
func (m *model) createCLB(b modelCLB) (codes []string) {
	n := 0
	for _, other := range m.clbs {
		if other.private == b.private {
			n++
		}
	}
	if n >= m.quotas.BalancersPerType {
		codes = append(codes, codeLimit)
	}
	if b.vpc != "" && m.vpcs[b.vpc] == "" {
		codes = append(codes, codeValue)
	}
	if b.private && m.subnets[b.subnet].vpc != b.vpc {
		codes = append(codes, codeValue)
	}
	return codes
}

func (m *model) deleteCLB(id string) []string {
	b := m.clbs[id]
	switch {
	case b == nil:
		return []string{codeGoneCLB}
	case b.protected:
		return []string{"FailedOperation"}
	}
	delete(m.clbs, id)
	delete(m.tags, id)
	maps.DeleteFunc(m.listeners, func(_ string, l *modelListener) bool { return l.clb == id })
	return nil
}

func (m *model) modifyCLB(id string, pass, protected *bool) []string {
	b := m.clbs[id]
	if b == nil {
		return []string{codeGoneCLB}
	}
	if pass != nil {
		b.pass = *pass
	}
	if protected != nil {
		b.protected = *protected
	}
	return nil
}

func (m *model) bindCLB(id string, groups []string) (codes []string) {
	b := m.clbs[id]
	if b == nil {
		return []string{codeGoneCLB}
	}
	codes = m.boundFaults(groups, m.quotas.GroupsPerBalancer, codeValue, codeTwice, codeLimit)
	if slices.ContainsFunc(groups, m.tooLongToBind) {
		codes = append(codes, codeLimit)
	}
	if len(codes) == 0 {
		b.groups = groups
	}
	return codes
}

func (m *model) boundFaults(groups []string, most int, gone, twice, tooMany string) (codes []string) {
	seen := map[string]bool{}
	for _, g := range groups {
		if m.groups[g] == nil {
			codes = append(codes, gone)
		}
		if seen[g] {
			codes = append(codes, twice)
		}
		seen[g] = true
	}
	if len(groups) > most {
		codes = append(codes, tooMany)
	}
	return codes
}

// setGroupForCLB is SetSecurityGroupForLoadbalancers with one load balancer.
func (m *model) setGroupForCLB(id, group, operation string) []string {
	b := m.clbs[id]
	switch {
	case operation != "ADD" && operation != "DEL":
		return []string{codeValue}
	case b == nil:
		return []string{codeGoneCLB}
	case m.groups[group] == nil:
		return []string{codeValue}
	case operation == "DEL":
		b.groups = slices.DeleteFunc(slices.Clone(b.groups), func(g string) bool { return g == group })
	case !slices.Contains(b.groups, group):
		if len(b.groups) >= m.quotas.GroupsPerBalancer || m.tooLongToBind(group) {
			return []string{codeLimit}
		}
		b.groups = append(slices.Clone(b.groups), group)
	}
	return nil
}

// createListeners makes listeners of one load balancer and kind.
func (m *model) createListeners(fresh []*modelListener, cert givenCert) (codes []string) {
	first := fresh[0]
	if first.from != "NODE" && first.layer7() {
		codes = append(codes, codeValue)
	}
	if m.clbs[first.clb] == nil {
		codes = append(codes, codeGoneCLB)
	}
	n := len(fresh)
	for _, have := range m.listeners {
		if have.clb == first.clb {
			n++
		}
	}
	for i, l := range fresh {
		for _, have := range slices.Concat(fresh[:i], slices.Collect(maps.Values(m.listeners))) {
			if have.clb == l.clb && (have.kind == "UDP") == (l.kind == "UDP") && have.port <= l.last() && l.port <= have.last() {
				codes = append(codes, "InvalidParameter.PortCheckFailed")
			}
		}
		if l.port < 1 || l.last() > 65535 || l.end != 0 && l.end <= l.port {
			codes = append(codes, codeRange)
		}
		if l.end != 0 && l.layer7() {
			codes = append(codes, "UnsupportedOperation")
		}
	}
	if n > m.quotas.ListenersPerLB {
		codes = append(codes, codeLimit)
	}
	switch {
	case first.kind != "HTTPS" && (cert.given() || first.sni):
		codes = append(codes, codeValue)
	case first.sni && cert.given():
		codes = append(codes, "InvalidParameter")
	case first.kind == "HTTPS" && !first.sni:
		codes = append(codes, m.certFaults(cert)...)
	}
	return codes
}

// listener finds a listener of a load balancer.
func (m *model) listener(clb, id string) (*modelListener, []string) {
	if m.clbs[clb] == nil {
		return nil, []string{codeGoneCLB}
	}
	if l := m.listeners[id]; l != nil && l.clb == clb {
		return l, nil
	}
	return nil, []string{codeGoneLbl}
}

func (m *model) deleteListener(clb, id string) []string {
	_, codes := m.listener(clb, id)
	if len(codes) > 0 {
		return codes
	}
	for other, l := range m.listeners {
		for _, r := range l.rules {
			if other != id && r.rewrite != nil && r.rewrite.listener == id {
				return []string{"FailedOperation"}
			}
		}
	}
	delete(m.listeners, id)
	return nil
}

// sameRule is true of two rules of one domain and URL.
func sameRule(a, b *modelPlace) bool { return a.domain == b.domain && a.url == b.url }

// createRules adds rules to an HTTP or HTTPS listener. A rule of an HTTPS
// listener with a certificate for each domain brings that, or its domain has one.
func (m *model) createRules(clb, id string, rules []*modelPlace, certs []givenCert) []string {
	l, codes := m.listener(clb, id)
	if l != nil && !l.layer7() {
		codes = append(codes, "InvalidParameter.ProtocolCheckFailed")
	}
	for i, r := range rules {
		if slices.ContainsFunc(rules[:i], func(o *modelPlace) bool { return sameRule(o, r) }) {
			codes = append(codes, codeTwice)
		}
		if r.url[0] != '/' || r.domain == "a b" {
			codes = append(codes, codeValue)
		}
		if l == nil {
			continue
		}
		for _, have := range l.rules {
			if sameRule(have, r) {
				codes = append(codes, codeTwice)
			}
		}
		if !l.sni && certs[i].given() {
			codes = append(codes, codeValue)
		}
		if l.sni {
			codes = append(codes, m.certify(r, slices.Concat(l.places(), rules[:i]), certs[i])...)
		}
	}
	if l != nil && len(l.rules)+len(rules) > m.quotas.RulesPerListener {
		codes = append(codes, codeLimit)
	}
	return codes
}

// certify gives a rule the certificate of its domain, which others have already
// or which is given.
func (m *model) certify(r *modelPlace, others []*modelPlace, given givenCert) []string {
	at := slices.IndexFunc(others, func(o *modelPlace) bool { return o.domain == r.domain })
	switch {
	case at < 0:
		r.cert = given.id // "" of one that comes along: it gets its id by being made
		return m.certFaults(given)
	case given.given() && (given.id == "" || given.id != others[at].cert):
		return append(m.certFaults(given), codeValue)
	}
	r.cert = others[at].cert
	return nil
}

func (m *model) deleteRule(clb, id, location string) []string {
	l, codes := m.listener(clb, id)
	switch {
	case l == nil:
		return codes
	case !l.layer7():
		return []string{"InvalidParameter.ProtocolCheckFailed"}
	case l.rules[location] == nil:
		return []string{codeGoneLoc}
	case m.redirectedTo(id, location):
		return []string{"FailedOperation"}
	}
	delete(l.rules, location)
	return nil
}
