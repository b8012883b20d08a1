// SPDX-License-Identifier: Apache-2.0

package cloudapi

import (
	"slices"

	"pgregory.net/rapid"
)

// clbOfRules draws a load balancer, mostly of those that have rules.
func (w *world) clbOfRules() string {
	var all []string
	for _, l := range w.listeners {
		if len(l.rules) > 0 {
			all = append(all, l.clb)
		}
	}
	return w.one("clb", all, "lb-")
}

// httpsListener is listenerOf, mostly of those of HTTPS.
func (w *world) httpsListener() (clb, id string) {
	all := slices.DeleteFunc(keysOf(w.listeners), func(id string) bool { return w.listeners[id].kind != "HTTPS" })
	if len(all) == 0 || rapid.IntRange(0, 4).Draw(w.T, "other") == 4 {
		return w.listenerOf()
	}
	id = w.one("listener", all, "lbl-")
	if l := w.listeners[id]; l != nil {
		return l.clb, id
	}
	return w.clb(), id
}

// ruleOf draws a rule of a load balancer, with its listener.
func (w *world) ruleOf(clb string) (listener, location string) {
	var all []string
	of := map[string]string{}
	for id, l := range w.listeners {
		for rule := range l.rules {
			if l.clb == clb {
				all, of[rule] = append(all, rule), id
			}
		}
	}
	location = w.one("rule", all, "loc-")
	if of[location] == "" || rapid.IntRange(0, 9).Draw(w.T, "elsewhere") == 0 {
		_, id := w.listenerOf()
		return id, location
	}
	return of[location], location
}

// manualRewrites sends a rule on to another, or two of one listener.
func (w *world) manualRewrites() {
	clb := w.clbOfRules()
	from, source := w.ruleOf(clb)
	to, target := w.ruleOf(clb)
	var given []givenRewrite
	var fields []any
	for n := range 1 + rapid.IntRange(0, 3).Draw(w.T, "rewrites")/3 {
		g := givenRewrite{source: source, target: target}
		if l := w.listeners[from]; n > 0 && l != nil {
			g.source = w.one("second", keysOf(l.rules), "loc-")
		}
		field := map[string]any{"SourceLocationId": g.source, "TargetLocationId": g.target}
		if rapid.IntRange(0, 3).Draw(w.T, "take") > 0 {
			take := w.chance()
			g.takeURL, field["TakeUrl"] = &take, take
		}
		if w.chance() {
			g.code = rapid.SampledFrom([]int64{301, 302, 307}).Draw(w.T, "code")
			field["RewriteCode"] = g.code
		}
		if g.code != 0 || w.chance() {
			domains := []string{"a.example.com", "*.example.com", ""}
			if l := w.listeners[from]; l != nil && l.rules[g.source] != nil {
				domains = append(slices.Repeat([]string{l.rules[g.source].domain}, 5), domains...)
			}
			g.domain = rapid.SampledFrom(domains).Draw(w.T, "domain")
			field["SourceDomain"] = g.domain
		}
		given, fields = append(given, g), append(fields, field)
	}
	w.ask("ManualRewrite", map[string]any{"LoadBalancerId": clb, "SourceListenerId": from, "TargetListenerId": to, "RewriteInfos": fields}, w.manualRewrite(clb, from, to, given), nil)
}

// dropRewrite takes a redirect that is there, or none.
func (w *world) dropRewrite() {
	clb := w.clbOfRules()
	from, source := w.ruleOf(clb)
	to, target := w.ruleOf(clb)
	if l := w.listeners[from]; l != nil && l.rules[source] != nil && l.rules[source].rewrite != nil && rapid.IntRange(0, 4).Draw(w.T, "right") > 0 {
		to, target = l.rules[source].rewrite.listener, l.rules[source].rewrite.location
	}
	w.ask("DeleteRewrite", map[string]any{"LoadBalancerId": clb, "SourceListenerId": from, "TargetListenerId": to,
		"RewriteInfos": []any{map[string]any{"SourceLocationId": source, "TargetLocationId": target}}}, w.deleteRewrite(clb, from, to, givenRewrite{source: source, target: target}), nil)
}

// autoRewrites sends those who come to port 80 on to HTTPS.
func (w *world) autoRewrites() {
	clb, id := w.httpsListener()
	params := map[string]any{"LoadBalancerId": clb, "ListenerId": id}
	var domains []string
	var take *bool
	code, odd := int64(301), []string(nil)
	if w.chance() {
		domains = []string{rapid.SampledFrom([]string{"a.example.com", "*.example.com"}).Draw(w.T, "domain")}
		params["Domains"] = domains
		if w.chance() {
			code = rapid.SampledFrom([]int64{302, 307, 200}).Draw(w.T, "code")
			params["RewriteCodes"] = []int64{code}
			if code == 200 {
				odd = []string{codeValue}
			}
		}
	}
	if rapid.IntRange(0, 3).Draw(w.T, "take") == 0 {
		take = new(bool)
		params["TakeUrls"] = []bool{false}
		if len(domains) == 0 {
			odd = append(odd, codeValue)
		}
	}
	var source *modelListener
	var made []*modelPlace
	codes := odd
	if len(odd) == 0 {
		source, made, codes = w.autoRewrite(clb, id, domains, code, take)
	} else if _, fault := w.listener(clb, id); len(fault) > 0 {
		codes = append(codes, fault...)
	}
	if w.ask("AutoRewrite", params, codes, nil); len(codes) == 0 {
		w.learnRules(clb, source, made)
	}
}

// learnRules finds the ids of what AutoRewrite made.
func (w *world) learnRules(clb string, source *modelListener, made []*modelPlace) {
	var out describeListenersOut
	w.ask("DescribeListeners", map[string]any{"LoadBalancerId": clb}, nil, &out)
	at := slices.IndexFunc(out.Listeners, func(l listenerOut) bool { return l.Protocol == "HTTP" && l.Port == 80 })
	if at < 0 {
		w.Fatalf("%s has no HTTP:80 listener after AutoRewrite", clb)
	}
	w.listeners[out.Listeners[at].ListenerId] = source
	for _, r := range made {
		is := slices.IndexFunc(out.Listeners[at].Rules, func(o ruleOut) bool { return o.Domain == r.domain && o.Url == r.url })
		if is < 0 {
			w.Fatalf("%s has no rule %s%s after AutoRewrite", clb, r.domain, r.url)
		}
		source.rules[out.Listeners[at].Rules[is].LocationId] = r
	}
}

func (w *world) upload() {
	inline := rapid.SampledFrom([]string{"good", "good", "good", "partial", "another's key", "broken"}).Draw(w.T, "paper")
	paper, project := w.papers[inline], max(0, w.project())
	var out struct{ CertificateId string }
	codes := uploadFaults(inline)
	w.ask("UploadCertificate", map[string]any{"CertificatePublicKey": paper.chain, "CertificatePrivateKey": paper.key, "Alias": "uploaded", "ProjectId": project}, codes, &out)
	if len(codes) == 0 {
		w.certs[out.CertificateId] = modelCert{"uploaded", project}
	}
}

func (w *world) dropCert() {
	id := w.cert()
	w.did("DeleteCertificate", map[string]any{"CertificateId": id}, w.deleteCert(id), id)
}

// learnCert finds the certificate that came along with a call.
func (w *world) learnCert(alias string, project int64) string {
	var out describeCertificatesOut
	w.ask("DescribeCertificates", map[string]any{"Limit": 1000}, nil, &out)
	for _, c := range out.Certificates {
		if _, known := w.certs[c.CertificateId]; !known {
			w.certs[c.CertificateId] = modelCert{alias, project}
			return c.CertificateId
		}
	}
	w.Fatalf("no new certificate")
	return ""
}

// learnRuleCert finds that which came along with a rule.
func (w *world) learnRuleCert(clb, id, location string, rule *modelPlace) {
	var out describeListenersOut
	w.ask("DescribeListeners", map[string]any{"LoadBalancerId": clb, "ListenerIds": []string{id}}, nil, &out)
	for _, r := range out.Listeners[0].Rules {
		if r.LocationId == location && r.Certificate != nil {
			rule.cert = r.Certificate.CertId
			if _, known := w.certs[rule.cert]; !known {
				w.certs[rule.cert] = modelCert{"good", w.clbs[clb].project}
			}
		}
	}
}

// editTLS changes what an HTTPS listener shows.
func (w *world) editTLS() {
	clb, id := w.httpsListener()
	params := map[string]any{"LoadBalancerId": clb, "ListenerId": id}
	var cert givenCert
	var sni *int64
	if w.chance() {
		cert, params["Certificate"] = w.someCert()
	}
	if w.chance() {
		sni = ptr(rapid.Int64Range(0, 1).Draw(w.T, "sni"))
		params["SniSwitch"] = *sni
	}
	codes := w.changeTLS(clb, id, sni, cert)
	if w.ask("ModifyListener", params, codes, nil); len(codes) == 0 && cert.inline != "" {
		w.listeners[id].cert = w.learnCert(cert.inline, w.clbs[clb].project)
	}
}
