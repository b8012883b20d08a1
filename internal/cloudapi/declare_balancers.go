// SPDX-License-Identifier: Apache-2.0

package cloudapi

import (
	"fmt"
	"slices"

	"github.com/sallyport/sallyport/internal/lb"
)

func (a *applier) balancers() error {
	for i := range a.in.LoadBalancers {
		if err := a.balancer(fmt.Sprintf("LoadBalancers.%d.", i), a.in.LoadBalancers[i]); err != nil {
			return err
		}
	}
	return nil
}

func (a *applier) balancer(path string, d balancerDoc) error {
	keep(&d.LoadBalancerType, string(lb.Open))
	if d.Vpc == "" {
		d.Vpc = string(a.sub(nil).defaultVPC(a.tx).ID)
	}
	_, network, err := vpcSort().find(a, path+"Vpc", d.Vpc)
	if err != nil {
		return err
	}
	d.Vpc = string(network)
	if d.SecurityGroups, err = a.groupIDsOf(path+"SecurityGroups", d.SecurityGroups); err != nil {
		return err
	}
	b, id, err := balancerSort().match(a, path, d.Id, d.LoadBalancerName)
	if err != nil {
		return err
	}
	made := b == nil
	if made {
		out, err := createLoadBalancer(a.sub(echoOf(d), d.Id), &createLoadBalancerIn{LoadBalancerType: d.LoadBalancerType,
			LoadBalancerName: d.LoadBalancerName, VpcId: d.Vpc, Vip: d.Vip, Tags: d.Tags, LoadBalancerPassToTarget: d.LoadBalancerPassToTarget})
		if err != nil {
			return at(path, "", err)
		}
		id = lb.BalancerID(out.LoadBalancerIds[0])
		if d.Id == "" {
			if err := a.claim(path, string(id)); err != nil {
				return err
			}
		}
	}
	have := (&exporter{st: a.st(), ids: true}).balancer(a.st().Balancers[id])
	keep(&d.Vip, have.Vip)
	keepEcho(&d, have)
	changed := unlike(have, d, "Id", "Listeners")
	if err := fixed(path, "a load balancer", changed, "LoadBalancerType", "Vpc", "Vip", "ProjectId", "LBChargeType"); err != nil {
		return err
	}
	if made {
		if err := a.create("LoadBalancer", d.Id, string(id), d.LoadBalancerName, path); err != nil {
			return err
		}
	} else if len(changed) > 0 {
		a.note("change", "LoadBalancer", string(id), d.LoadBalancerName, path, changed...)
	}
	if err := a.changeBalancer(path, id, d, changed); err != nil {
		return err
	}
	return a.listeners(path, a.st().Balancers[id], d.Listeners)
}

func (a *applier) changeBalancer(path string, id lb.BalancerID, d balancerDoc, changed []string) error {
	if len(changed) == 0 {
		return nil
	}
	if _, err := modifyLoadBalancerAttributes(a.sub(nil), &modifyLoadBalancerAttributesIn{LoadBalancerId: string(id), LoadBalancerName: &d.LoadBalancerName,
		LoadBalancerPassToTarget: &d.LoadBalancerPassToTarget, DeleteProtect: &d.DeleteProtect}); err != nil {
		return at(path, "", err)
	}
	if slices.Contains(changed, "SecurityGroups") {
		if _, err := setLoadBalancerSecurityGroups(a.sub(nil), &setLoadBalancerSecurityGroupsIn{LoadBalancerId: string(id), SecurityGroups: d.SecurityGroups}); err != nil {
			return at(path, "", err)
		}
	}
	var tags []Tag
	for _, t := range d.Tags {
		tags = append(tags, Tag{Key: t.TagKey, Value: t.TagValue})
	}
	return a.tags(path, "clb", "clb", string(id), tags)
}

// groupIDsOf resolves a list of groups, in its order.
func (a *applier) groupIDsOf(path string, refs []string) ([]string, error) {
	var ids []string
	for i, ref := range refs {
		_, id, err := groupSort().find(a, fmt.Sprintf("%s.%d", path, i), ref)
		if err != nil {
			return nil, err
		}
		ids = append(ids, string(id))
	}
	return ids, nil
}

// listeners gives a load balancer exactly the listeners of its document. Those
// that go, go first: their ports may be taken anew.
func (a *applier) listeners(path string, b *lb.LoadBalancer, docs []listenerDoc) error {
	have := listenersOf(a.st(), b.ID)
	of := make([]*lb.Listener, len(docs)) // of each document; nil: to be made
	for i, d := range docs {
		at := slices.IndexFunc(have, func(l *lb.Listener) bool {
			if d.Id != "" {
				return string(l.ID) == d.Id
			}
			return string(l.Protocol) == d.Protocol && int64(l.Port) == d.Port
		})
		if at >= 0 {
			of[i] = have[at]
			if err := a.claim(fmt.Sprintf("%sListeners.%d.", path, i), string(have[at].ID)); err != nil {
				return err
			}
		}
	}
	for _, l := range have {
		if slices.Contains(of, l) {
			continue
		}
		if _, err := deleteListener(a.sub(nil), &deleteListenerIn{LoadBalancerId: string(b.ID), ListenerId: string(l.ID)}); err != nil {
			return at(path+"Listeners", "", err)
		}
		a.note("delete", "Listener", string(l.ID), listenerTitle(b, string(l.Protocol), int64(l.Port)), path)
	}
	for i, d := range docs { // before any target is bound: a service may move from one listener to another
		if of[i] != nil {
			place := targetPlace{LoadBalancerId: string(b.ID), ListenerId: string(of[i].ID)}
			if err := a.unbind(fmt.Sprintf("%sListeners.%d.", path, i), listenerTitle(b, d.Protocol, d.Port), place, of[i].Targets, d.Targets); err != nil {
				return err
			}
			of[i] = a.st().Listeners[of[i].ID]
		}
	}
	for i, d := range docs {
		if err := a.listener(fmt.Sprintf("%sListeners.%d.", path, i), b, of[i], d); err != nil {
			return err
		}
	}
	return nil
}

func listenerTitle(b *lb.LoadBalancer, protocol string, port int64) string {
	return fmt.Sprintf("%s:%d of %s", protocol, port, b.Name)
}

func (a *applier) listener(path string, b *lb.LoadBalancer, l *lb.Listener, d listenerDoc) error {
	title := listenerTitle(b, d.Protocol, d.Port)
	made := l == nil
	if made {
		out, err := createListener(a.sub(nil, d.Id), &createListenerIn{LoadBalancerId: string(b.ID), Ports: []int64{d.Port}, Protocol: d.Protocol,
			ListenerNames: []string{d.ListenerName}, HealthCheck: d.HealthCheck, Scheduler: d.Scheduler})
		if err != nil {
			return at(path, "", err)
		}
		l = a.st().Listeners[lb.ListenerID(out.ListenerIds[0])]
		if err := a.create("Listener", d.Id, string(l.ID), title, path); err != nil {
			return err
		}
	}
	want := lb.DefaultCheck(l.Protocol)
	if err := d.HealthCheck.apply(&want, l.Protocol); err != nil {
		return at(path, "", err)
	}
	have := (&exporter{st: a.st(), ids: true}).listener(l)
	changed := unlike(have, d, "Id", "HealthCheck", "Scheduler", "Targets", "Rules")
	if err := fixed(path, "a listener", changed, "Protocol", "Port"); err != nil {
		return err
	}
	if l.Protocol.Layer7() {
		if len(d.Targets) > 0 {
			return refuse(lb.Invalid, path+"Targets", "the targets of an HTTP listener are those of its rules", "move them below a rule")
		}
	} else if want != l.Check {
		changed = append(changed, "HealthCheck")
	}
	if len(changed) > 0 && !made {
		in := &modifyListenerIn{LoadBalancerId: string(b.ID), ListenerId: string(l.ID), ListenerName: &d.ListenerName}
		if !l.Protocol.Layer7() {
			in.HealthCheck = checkDoc(want)
		}
		if _, err := modifyListener(a.sub(nil), in); err != nil {
			return at(path, "", err)
		}
		a.note("change", "Listener", string(l.ID), title, path, changed...)
	}
	if l.Protocol.Layer7() {
		return a.forwards(path, title, l, d.Rules)
	}
	if len(d.Rules) > 0 {
		return refuse(lb.Invalid, path+"Rules", "a "+d.Protocol+" listener has no rules", "use Protocol HTTP")
	}
	return a.targets(path, title, targetPlace{LoadBalancerId: string(b.ID), ListenerId: string(l.ID)}, l.Targets, d.Targets)
}

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
	for i, d := range docs {
		if err := a.forward(fmt.Sprintf("%sRules.%d.", path, i), title, place, ids[i], d); err != nil {
			return err
		}
	}
	return a.defaultDomain(path, title, place, docs)
}

func (a *applier) forward(path, title string, place targetPlace, id lb.LocationID, d ruleDoc) error {
	title = d.Domain + d.Url + " on " + title
	made := id == ""
	if made {
		out, err := createRule(a.sub(nil, d.Id), &createRuleIn{LoadBalancerId: place.LoadBalancerId, ListenerId: place.ListenerId,
			Rules: []ruleIn{{Domain: d.Domain, Url: d.Url, HealthCheck: d.HealthCheck, Scheduler: d.Scheduler}}})
		if err != nil {
			return at(path, "Rules.0.", err)
		}
		id = lb.LocationID(out.LocationIds[0])
		if err := a.create("Rule", d.Id, string(id), title, path); err != nil {
			return err
		}
	}
	l := a.st().Listeners[lb.ListenerID(place.ListenerId)]
	r := l.Rules[slices.IndexFunc(l.Rules, func(r lb.Rule) bool { return r.ID == id })]
	want := lb.DefaultCheck(l.Protocol)
	if err := d.HealthCheck.apply(&want, l.Protocol); err != nil {
		return at(path, "", err)
	}
	var changed []string
	if r.URL != d.Url {
		changed = append(changed, "Url")
	}
	if r.Check != want {
		changed = append(changed, "HealthCheck")
	}
	if len(changed) > 0 {
		if _, err := modifyRule(a.sub(nil), &modifyRuleIn{LoadBalancerId: place.LoadBalancerId, ListenerId: place.ListenerId, LocationId: string(id),
			Url: d.Url, HealthCheck: checkDoc(want)}); err != nil {
			return at(path, "", err)
		}
		if !made {
			a.note("change", "Rule", string(id), title, path, changed...)
		}
	}
	place.LocationId = string(id)
	return a.targets(path, title, place, r.Targets, d.Targets)
}

// defaultDomain makes the domain the default one whose rule says so.
func (a *applier) defaultDomain(path, title string, place targetPlace, docs []ruleDoc) error {
	i := slices.IndexFunc(docs, func(d ruleDoc) bool { return d.DefaultServer })
	if i < 0 || defaultDomain(a.st().Listeners[lb.ListenerID(place.ListenerId)]) == docs[i].Domain {
		return nil
	}
	yes := true
	_, err := modifyDomainAttributes(a.sub(nil), &modifyDomainAttributesIn{LoadBalancerId: place.LoadBalancerId, ListenerId: place.ListenerId,
		Domain: docs[i].Domain, DefaultServer: &yes})
	a.note("change", "Listener", place.ListenerId, title, path, "DefaultServer")
	return at(fmt.Sprintf("%sRules.%d.", path, i), "", err)
}

// targets gives a listener or rule exactly the targets of its document.
func (a *applier) targets(path, title string, place targetPlace, have []lb.Target, docs []targetDoc) error {
	if err := a.unbind(path, title, place, have, docs); err != nil {
		return err
	}
	var fresh, weighed []targetIn
	want := make([]targetIn, len(docs))
	for i, d := range docs {
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
			fresh = append(fresh, want[i])
			a.note("create", "Target", string(id), fmt.Sprintf("%s:%d of %s", d.Instance, d.Port, title), field)
		case int64(have[old].Weight) != *want[i].Weight:
			weighed = append(weighed, want[i])
			a.note("change", "Target", string(id), fmt.Sprintf("%s:%d of %s", d.Instance, d.Port, title), field, "Weight")
		}
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

// unbind takes away the targets that the documents do not have.
func (a *applier) unbind(path, title string, place targetPlace, have []lb.Target, docs []targetDoc) error {
	var gone []targetIn
	for _, t := range have {
		i := a.st().Instances[t.Instance]
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
