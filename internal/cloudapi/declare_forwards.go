// SPDX-License-Identifier: Apache-2.0

package cloudapi

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/sallyport/sallyport/internal/lb"
)

// forwards gives an HTTP listener exactly the rules of its document.
func (a *applier) forwards(path, title string, l *lb.Listener, docs []ruleDoc) error {
	place := targetPlace{LoadBalancerId: string(l.Balancer), ListenerId: string(l.ID)}
	ids := make([]lb.LocationID, len(docs))
	var gone []string
	for _, r := range l.Rules {
		i := slices.IndexFunc(docs, func(d ruleDoc) bool {
			if d.Id != "" {
				return d.Id == string(r.ID)
			}
			return d.Domain == r.Domain && d.Url == r.URL
		})
		if i < 0 {
			gone = append(gone, string(r.ID))
			a.note("delete", "Rule", string(r.ID), r.Domain+r.URL+" on "+title, path)
			continue
		}
		if ids[i] = r.ID; r.Domain != docs[i].Domain {
			return fixed(fmt.Sprintf("%sRules.%d.", path, i), "a rule", []string{"Domain"}, "Domain")
		}
	}
	if len(gone) > 0 {
		if _, err := deleteRule(a.sub(nil), &deleteRuleIn{LoadBalancerId: place.LoadBalancerId, ListenerId: place.ListenerId, LocationIds: gone}); err != nil {
			return at(path+"Rules", "", err)
		}
	}
	lost := map[string]string{} // domains of rules with faults, and which
	for i, d := range docs {
		path := fmt.Sprintf("%sRules.%d.", path, i)
		err := a.attempt(path, "Rule", d.Id, "", func() error {
			if first, ok := lost[d.Domain]; ok && l.SNI && d.Certificate == "" { // which brings the domain's certificate
				return &dependence{strings.TrimSuffix(path, "."), "Rule", d.Domain + d.Url, first}
			}
			return a.forward(path, title, place, ids[i], d)
		})
		if err != nil {
			return err
		}
		if a.lost[path] {
			lost[d.Domain] = cmp.Or(lost[d.Domain], path)
		}
	}
	if len(lost) > 0 { // the default domain may be theirs
		return nil
	}
	return a.defaultDomain(path, title, place, docs)
}

func (a *applier) forward(path, title string, place targetPlace, id lb.LocationID, d ruleDoc) error {
	title = d.Domain + d.Url + " on " + title
	var err error
	if d.TargetGroup, d.TargetType, err = a.groupOf(path, d.TargetGroup, d.TargetType, d.Targets); err != nil {
		return err
	}
	if d.Certificate, err = a.certificate(path, d.Certificate); err != nil {
		return err
	}
	if err := a.certify(path, title, place, d); err != nil {
		return err
	}
	made := id == ""
	if made && d.Certificate == "" && !a.certified(place, d.Domain) {
		return refuse(lb.Missing, path+"Certificate", fmt.Sprintf("with SniSwitch 1 each domain shows its own, and %s has none yet", d.Domain), "name one by its alias or id")
	}
	if made {
		out, err := createRule(a.sub(nil, d.Id), &createRuleIn{LoadBalancerId: place.LoadBalancerId, ListenerId: place.ListenerId,
			Rules: []ruleIn{{Domain: d.Domain, Url: d.Url, HealthCheck: d.HealthCheck, choiceIn: d.choice(), CookieName: &d.CookieName, TargetType: d.TargetType, Certificate: certificateNamed(d.Certificate)}}})
		if err != nil {
			return at(path, "Rules.0.", err)
		}
		id = lb.LocationID(out.LocationIds[0])
		if err := a.create("Rule", d.Id, string(id), title, path); err != nil {
			return err
		}
	}
	l := a.st().Listeners.Get(lb.ListenerID(place.ListenerId))
	r := l.Rules[slices.IndexFunc(l.Rules, func(r lb.Rule) bool { return r.ID == id })]
	want, err := wantedCheck(path, d.HealthCheck, l.Protocol, r.From)
	if err != nil {
		return err
	}
	var changed []string
	in := &modifyRuleIn{LoadBalancerId: place.LoadBalancerId, ListenerId: place.ListenerId, LocationId: string(id)}
	if r.URL != d.Url {
		changed, in.Url = append(changed, "Url"), d.Url
	}
	if want != nil && r.Check != *want {
		changed, in.HealthCheck = append(changed, "HealthCheck"), checkDoc(*want)
	}
	if named := d.newChoice(&r); len(named) > 0 {
		changed = append(changed, named...)
		in.choiceIn, in.CookieName = d.choice(), &d.CookieName
		if _, err := setTargetChoice(a.sub(nil), &setTargetChoiceIn{LoadBalancerId: place.LoadBalancerId, ListenerId: place.ListenerId, LocationId: string(id), choiceDoc: d.ours()}); err != nil {
			return at(path, "", err)
		}
	}
	if string(r.From) != d.TargetType {
		return fixed(path, "a rule", []string{"TargetType"}, "TargetType")
	}
	if len(changed) > 0 {
		if _, err := modifyRule(a.sub(nil), in); err != nil {
			return at(path, "", err)
		}
		if !made {
			a.note("change", "Rule", string(id), title, path, changed...)
		}
	}
	place.LocationId = string(id)
	if r.From != lb.TargetNode {
		return a.associate(path, title, place, r.Group, d.TargetGroup)
	}
	return a.targets(path, title, place, r.Targets, d.Targets)
}

// defaultDomain makes the domain the default one whose rule says so.
func (a *applier) defaultDomain(path, title string, place targetPlace, docs []ruleDoc) error {
	i := slices.IndexFunc(docs, func(d ruleDoc) bool { return d.DefaultServer })
	if i < 0 || defaultDomain(a.st().Listeners.Get(lb.ListenerID(place.ListenerId))) == docs[i].Domain {
		return nil
	}
	yes := true
	_, err := modifyDomainAttributes(a.sub(nil), &modifyDomainAttributesIn{LoadBalancerId: place.LoadBalancerId, ListenerId: place.ListenerId,
		Domain: docs[i].Domain, DefaultServer: &yes})
	if !a.fresh[place.ListenerId] {
		a.note("change", "Listener", place.ListenerId, title, path, "DefaultServer")
	}
	return at(fmt.Sprintf("%sRules.%d.", path, i), "", err)
}

// targets gives a listener or rule exactly the targets of its document.
func (a *applier) targets(path, title string, place targetPlace, have []lb.Target, docs []targetDoc) error {
	if err := a.unbind(path, title, place, have, docs); err != nil {
		return err
	}
	var fresh, weighed []targetIn
	want := make([]targetIn, len(docs))
	if err := a.each(len(docs), func(i int) error {
		d := docs[i]
		field := fmt.Sprintf("%sTargets.%d.", path, i)
		_, id, err := instanceSort().find(a, field+"Instance", d.Instance)
		if err != nil {
			return err
		}
		want[i] = targetIn{InstanceId: string(id), Port: d.Port, Weight: d.Weight}
		if want[i].Weight == nil {
			usual := int64(defaultWeight)
			want[i].Weight = &usual
		}
		if first := want[i].find(targetsOf(want[:i])); first >= 0 {
			return refuse(lb.Duplicate, field+"Port", fmt.Sprintf("%s port %d is listed already", d.Instance, d.Port), "name each target once")
		}
		switch old := want[i].find(have); {
		case old < 0:
			fresh = append(fresh, a.bound(place, want[i], d.Type == typeENI))
			a.note("create", "Target", string(id), fmt.Sprintf("%s:%d of %s", d.Instance, d.Port, title), field)
		default:
			var changed []string
			if int64(have[old].Weight) != *want[i].Weight {
				changed, weighed = append(changed, "Weight"), append(weighed, want[i])
			}
			if have[old].ByAddress != (d.Type == typeENI) {
				changed = append(changed, "Type")
				a.renameTarget(place, have[old].Num)
			}
			if len(changed) > 0 {
				a.note("change", "Target", string(id), fmt.Sprintf("%s:%d of %s", d.Instance, d.Port, title), field, changed...)
			}
		}
		return nil
	}); err != nil {
		return err
	}
	if len(fresh) > 0 {
		if _, err := registerTargets(a.sub(nil), &targetsIn{targetPlace: place, Targets: fresh}); err != nil {
			return at(path, "", err)
		}
	}
	if len(weighed) > 0 {
		if _, err := modifyTargetWeight(a.sub(nil), &modifyTargetWeightIn{targetsIn: targetsIn{targetPlace: place, Targets: weighed}}); err != nil {
			return at(path, "", err)
		}
	}
	return nil
}

// bound is a new target as it is registered: by its instance's id, or by the
// address that the load balancer dials.
func (a *applier) bound(place targetPlace, t targetIn, byAddress bool) targetIn {
	addr := a.st().Instances.Get(lb.InstanceID(t.InstanceId)).ServiceFor(a.st().Balancers.Get(lb.BalancerID(place.LoadBalancerId)))
	if byAddress && addr.IsValid() { // registering says what is wrong with another
		t.InstanceId, t.EniIp = "", addr.String()
	}
	return t
}

// renameTarget turns the way in which a target is named: it stays what it is,
// and so do its flows.
func (a *applier) renameTarget(place targetPlace, num uint32) {
	l := *a.st().Listeners.Get(lb.ListenerID(place.ListenerId))
	turn := func(targets []lb.Target) []lb.Target {
		targets = slices.Clone(targets)
		for i := range targets {
			if targets[i].Num == num {
				targets[i].ByAddress = !targets[i].ByAddress
			}
		}
		return targets
	}
	l.Targets, l.Rules = turn(l.Targets), slices.Clone(l.Rules)
	for i := range l.Rules {
		l.Rules[i].Targets = turn(l.Rules[i].Targets)
	}
	a.tx.PutListener(&l)
}

// unbind takes away the targets that the documents do not have.
func (a *applier) unbind(path, title string, place targetPlace, have []lb.Target, docs []targetDoc) error {
	var gone []targetIn
	for _, t := range have {
		i := a.st().Instances.Get(t.Instance)
		if !slices.ContainsFunc(docs, func(d targetDoc) bool {
			return d.Port == int64(t.Port) && (d.Instance == string(t.Instance) || i != nil && d.Instance == i.Name)
		}) {
			gone = append(gone, targetIn{InstanceId: string(t.Instance), Port: int64(t.Port)})
			a.note("delete", "Target", string(t.Instance), fmt.Sprintf("%s:%d of %s", t.Instance, t.Port, title), path)
		}
	}
	if len(gone) == 0 {
		return nil
	}
	_, err := deregisterTargets(a.sub(nil), &targetsIn{targetPlace: place, Targets: gone})
	return at(path, "", err)
}

// targetsOf is what targets of a request look like when they are bound.
func targetsOf(given []targetIn) []lb.Target {
	targets := make([]lb.Target, len(given))
	for i, t := range given {
		targets[i] = lb.Target{Instance: lb.InstanceID(t.InstanceId), Port: uint16(t.Port)}
	}
	return targets
}

// redirectOf is the document's redirect with its default filled in; nil for none.
func redirectOf(docs []listenerDoc, port int64, domain, url string) *redirectDoc {
	for _, d := range docs {
		for _, r := range d.Rules {
			if d.Port == port && r.Domain == domain && r.Url == url && r.Redirect != nil {
				to := *r.Redirect
				to.RewriteCode = cmp.Or(to.RewriteCode, 302)
				return &to
			}
		}
	}
	return nil
}

// dropRedirects ends the redirects that the documents do not have. It comes
// before rules go, because what a redirect leads to cannot go.
func (a *applier) dropRedirects(path string, b *lb.LoadBalancer, of []*lb.Listener, docs []listenerDoc) error {
	x := &exporter{st: a.st(), ids: true}
	for _, l := range of {
		if l == nil {
			continue
		}
		for i := range l.Rules {
			r := &l.Rules[i]
			if r.Rewrite == nil {
				continue
			}
			have, want := x.rule(r).Redirect, redirectOf(docs, int64(l.Port), r.Domain, r.URL)
			if want != nil && *want == *have {
				continue
			}
			if _, err := deleteRewrite(a.sub(nil), redirects(b, l.ID, r.Rewrite.Listener, rewriteIn{SourceLocationId: string(r.ID), TargetLocationId: string(r.Rewrite.Location)})); err != nil {
				return at(path+"Listeners", "", err)
			}
			a.note("delete", "Redirect", string(r.ID), r.Domain+r.URL, path)
		}
	}
	return nil
}

func redirects(b *lb.LoadBalancer, from, to lb.ListenerID, info rewriteIn) *rewritesIn {
	return &rewritesIn{LoadBalancerId: string(b.ID), SourceListenerId: string(from), TargetListenerId: string(to), RewriteInfos: []rewriteIn{info}}
}

// makeRedirects makes the redirects that are not there yet, when all rules are.
func (a *applier) makeRedirects(path string, b *lb.LoadBalancer, docs []listenerDoc) error {
	for i, d := range docs {
		for n, r := range d.Rules {
			if r.Redirect == nil {
				continue
			}
			field := fmt.Sprintf("%sListeners.%d.Rules.%d.Redirect.", path, i, n)
			if err := a.attempt(field, "Redirect", "", "", func() error { return a.makeRedirect(path, field, b, docs, d.Port, r) }); err != nil {
				return err
			}
		}
	}
	return nil
}

func (a *applier) makeRedirect(path, field string, b *lb.LoadBalancer, docs []listenerDoc, port int64, r ruleDoc) error {
	from, source := a.ruleAt(b, port, r.Domain, r.Url)
	to, target := a.ruleAt(b, r.Redirect.Port, r.Redirect.Domain, r.Redirect.Url)
	switch {
	case source == nil: // it, or its listener, was refused
		return nil
	case target == nil:
		if on := a.lostRule(path, docs, r.Redirect); on != "" {
			return &dependence{field + "Url", "Rule", r.Redirect.Domain + r.Redirect.Url, on}
		}
		return refuse(lb.NotFound, field+"Url", fmt.Sprintf("%s has no rule %s%s on port %d", b.Name, r.Redirect.Domain, r.Redirect.Url, r.Redirect.Port), "name a rule of an HTTP listener")
	case source.Rewrite != nil:
		return nil
	}
	want := redirectOf(docs, port, r.Domain, r.Url)
	info := rewriteIn{SourceLocationId: string(source.ID), TargetLocationId: string(target.ID), RewriteCode: want.RewriteCode, TakeUrl: &want.TakeUrl, SourceDomain: source.Domain}
	if _, err := manualRewrite(a.sub(nil), redirects(b, from, to, info)); err != nil {
		return at(field, "RewriteInfos.0.", err)
	}
	if want.Auto {
		a.markAuto(from, source.ID)
	}
	if !a.fresh[string(source.ID)] {
		a.note("create", "Redirect", string(source.ID), r.Domain+r.Url, field)
	}
	return nil
}

// lostRule is the path of the document of the rule that a redirect leads to,
// when that, or its listener, has faults; "" otherwise.
func (a *applier) lostRule(path string, docs []listenerDoc, to *redirectDoc) string {
	for i, d := range docs {
		for n, r := range d.Rules {
			listener := fmt.Sprintf("%sListeners.%d.", path, i)
			rule := fmt.Sprintf("%sRules.%d.", listener, n)
			if d.Port == to.Port && r.Domain == to.Domain && r.Url == to.Url && (a.lost[listener] || a.lost[rule]) {
				return rule
			}
		}
	}
	return ""
}

func (a *applier) ruleAt(b *lb.LoadBalancer, port int64, domain, url string) (lb.ListenerID, *lb.Rule) {
	for _, l := range listenersOf(a.st(), b.ID) {
		for i := range l.Rules {
			if int64(l.Port) == port && l.Rules[i].Domain == domain && l.Rules[i].URL == url {
				return l.ID, &l.Rules[i]
			}
		}
	}
	return "", nil
}
