// SPDX-License-Identifier: Apache-2.0

package cloudapi

import (
	"slices"
	"strings"
)

// A modelCert is a stored certificate.
type modelCert struct {
	alias   string
	project int64
}

// A givenCert is how a call names one: by id, by what it holds, or not at all.
type givenCert struct {
	id     string
	inline string // "": none; good, or what is wrong with it
}

func (c givenCert) given() bool { return c != givenCert{} }

// certFaults are those of a certificate where one has to be.
func (m *model) certFaults(c givenCert) []string {
	switch _, there := m.certs[c.id]; {
	case !c.given(), c.inline == "partial":
		return []string{codeMissing}
	case c.id != "" && !there, c.inline == "broken":
		return []string{codeValue}
	case c.inline == "another's key":
		return []string{"InvalidParameter"}
	}
	return nil
}

// uploadFaults are those of UploadCertificate.
func uploadFaults(inline string) []string {
	return map[string][]string{"partial": {codeMissing}, "broken": {codeCertificate}, "another's key": {codeMismatch}}[inline]
}

func (m *model) deleteCert(id string) []string {
	if _, there := m.certs[id]; !there {
		return []string{codeNoSuchCert}
	}
	for _, l := range m.listeners {
		if l.cert == id || slices.ContainsFunc(l.places(), func(p *modelPlace) bool { return p.cert == id }) {
			return []string{codeCertInUse}
		}
	}
	delete(m.certs, id)
	delete(m.tags, id)
	return nil
}

// changeTLS gives a listener another certificate, or one to each domain from
// now on.
func (m *model) changeTLS(clb, id string, sni *int64, cert givenCert) []string {
	l, codes := m.listener(clb, id)
	if l == nil {
		return codes
	}
	on := sni != nil && *sni == 1
	switch {
	case l.kind != "HTTPS" && (on || cert.given()):
		return []string{codeValue}
	case l.kind != "HTTPS":
		return nil
	case l.sni && sni != nil && !on:
		codes = append(codes, "UnsupportedOperation")
	}
	if cert.given() {
		codes = append(codes, m.certFaults(cert)...)
		if l.sni || on {
			codes = append(codes, "InvalidParameter")
		}
	}
	if len(codes) > 0 {
		return codes
	}
	if on && !l.sni {
		for _, r := range l.rules {
			r.cert = l.cert
		}
		l.sni, l.cert = true, ""
	}
	if cert.id != "" {
		l.cert = cert.id
	}
	return nil
}

// A modelRewrite sends those who come to a rule to another.
type modelRewrite struct {
	listener, location string
	code               int64
	takeURL, auto      bool
}

// A givenRewrite is one as ManualRewrite has it; code 0 is none.
type givenRewrite struct {
	source, target, domain string
	code                   int64
	takeURL                *bool
}

// redirectedTo reports whether a redirect leads to a rule.
func (m *model) redirectedTo(listener, location string) bool {
	for _, l := range m.listeners {
		for _, r := range l.rules {
			if r.rewrite != nil && r.rewrite.listener == listener && r.rewrite.location == location {
				return true
			}
		}
	}
	return false
}

// rewritesFault is codeValue when some redirect of the load balancer leads to a
// redirect, to no host, or to where the client comes from.
func (m *model) rewritesFault(clb string) []string {
	for id, l := range m.listeners {
		for _, r := range l.rules {
			to := r.rewrite
			if l.clb != clb || to == nil {
				continue
			}
			target := m.listeners[to.listener].rules[to.location]
			switch {
			case target == r, target.rewrite != nil,
				strings.Contains(target.domain, "*") && target.domain != r.domain,
				to.listener == id && target.domain == r.domain && to.takeURL:
				return []string{codeValue}
			}
		}
	}
	return nil
}

// httpListener finds a listener that has rules.
func (m *model) httpListener(clb, id string) (*modelListener, []string) {
	l, codes := m.listener(clb, id)
	if l != nil && !l.layer7() {
		return nil, []string{"InvalidParameter.ProtocolCheckFailed"}
	}
	return l, codes
}

func (m *model) manualRewrite(clb, from, to string, given []givenRewrite) []string {
	source, codes := m.httpListener(clb, from)
	target, more := m.httpListener(clb, to)
	if codes = append(codes, more...); len(codes) > 0 {
		return codes
	}
	before := map[*modelPlace]*modelRewrite{}
	for _, g := range given {
		r := source.rules[g.source]
		if r == nil || target.rules[g.target] == nil {
			codes = append(codes, codeGoneLoc)
			continue
		}
		if r.rewrite != nil {
			codes = append(codes, "InvalidParameter.RewriteAlreadyExist")
		}
		if g.code != 0 && (g.takeURL == nil || g.domain == "") {
			codes = append(codes, codeMissing)
		}
		if g.domain != "" && g.domain != r.domain {
			codes = append(codes, codeValue)
		}
		if _, twice := before[r]; !twice {
			before[r] = r.rewrite
		}
		r.rewrite = &modelRewrite{listener: to, location: g.target, code: 302, takeURL: g.takeURL != nil && *g.takeURL}
		if g.code != 0 {
			r.rewrite.code = g.code
		}
	}
	if codes = append(codes, m.rewritesFault(clb)...); len(codes) > 0 {
		for r, old := range before {
			r.rewrite = old
		}
	}
	return codes
}

func (m *model) deleteRewrite(clb, from, to string, given givenRewrite) []string {
	source, codes := m.httpListener(clb, from)
	_, more := m.httpListener(clb, to)
	if codes = append(codes, more...); len(codes) > 0 {
		return codes
	}
	r := source.rules[given.source]
	if r == nil || r.rewrite == nil || r.rewrite.listener != to || r.rewrite.location != given.target {
		return []string{"InvalidParameter.SomeRewriteNotFound"}
	}
	r.rewrite = nil
	return nil
}

// autoRewrite sends those who come to HTTP:80 on to each rule of an HTTPS
// listener, or of some of its domains. What it makes has no ids yet: source is
// the listener at port 80, and made are its new rules.
func (m *model) autoRewrite(clb, id string, domains []string, code int64, take *bool) (source *modelListener, made []*modelPlace, codes []string) {
	l, codes := m.listener(clb, id)
	if l == nil {
		return nil, nil, codes
	}
	if l.kind != "HTTPS" {
		return nil, nil, []string{"InvalidParameter.ProtocolCheckFailed"}
	}
	if l.port != 443 { // redirects are from HTTP:80 to HTTPS:443
		codes = append(codes, "InvalidParameter.PortCheckFailed")
	}
	for _, d := range domains {
		if !slices.ContainsFunc(l.places(), func(r *modelPlace) bool { return r.domain == d }) {
			codes = append(codes, codeGoneLoc)
		}
	}
	if len(l.rules) == 0 {
		codes = append(codes, codeGoneLoc)
	}
	source, fault := m.redirecting(clb)
	if codes = append(codes, fault...); source == nil {
		return nil, nil, codes
	}
	before := map[*modelPlace]*modelRewrite{}
	for location, to := range l.rules {
		if len(domains) > 0 && !slices.Contains(domains, to.domain) {
			continue
		}
		at := slices.IndexFunc(source.places(), func(r *modelPlace) bool { return sameRule(r, to) })
		var r *modelPlace
		if at < 0 {
			r = &modelPlace{domain: to.domain, url: to.url, from: "NODE"}
			made = append(made, r)
		} else {
			r = source.places()[at]
			before[r] = r.rewrite
			if old := r.rewrite; old != nil && (!old.auto || old.location != location) {
				codes = append(codes, "InvalidParameter.RewriteAlreadyExist")
			}
		}
		if r.rewrite == nil || len(domains) > 0 { // what nobody named stays as it is
			r.rewrite = &modelRewrite{id, location, code, take == nil || *take, true}
		}
		if to.rewrite != nil { // a chain
			codes = append(codes, codeValue)
		}
	}
	if len(source.rules)+len(made) > m.quotas.RulesPerListener {
		codes = append(codes, codeLimit)
	}
	if codes = append(codes, m.rewritesFault(clb)...); len(codes) > 0 {
		for r, old := range before {
			r.rewrite = old
		}
	}
	return source, made, codes
}

// redirecting is the HTTP:80 listener that redirects, or the one to be made.
func (m *model) redirecting(clb string) (*modelListener, []string) {
	n := 0
	for _, l := range m.listeners {
		if l.clb != clb {
			continue
		}
		if n++; l.kind == "UDP" || l.port > 80 || l.last() < 80 {
			continue
		}
		if l.kind != "HTTP" {
			return nil, []string{"InvalidParameter.PortCheckFailed"}
		}
		return l, nil
	}
	fresh := &modelListener{clb: clb, kind: "HTTP", port: 80, modelPlace: modelPlace{from: "NODE"}, rules: map[string]*modelPlace{}}
	if n >= m.quotas.ListenersPerLB {
		return fresh, []string{codeLimit}
	}
	return fresh, nil
}
