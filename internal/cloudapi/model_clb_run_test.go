// SPDX-License-Identifier: Apache-2.0

package cloudapi

import (
	"pgregory.net/rapid"

	"github.com/sallyport/sallyport/internal/lb"
)

func (w *world) createLoadBalancer() {
	b := modelCLB{vpc: w.network(), project: max(0, w.project())}
	params := map[string]any{"LoadBalancerType": "OPEN", "ProjectId": b.project}
	if b.vpc != "" {
		params["VpcId"] = b.vpc
		if b.private = w.chance(); b.private {
			b.subnet = w.subnet()
			params["LoadBalancerType"], params["SubnetId"] = "INTERNAL", b.subnet
		}
	}
	var out struct{ LoadBalancerIds []string }
	codes := w.createCLB(b)
	if w.ask("CreateLoadBalancer", params, codes, &out); len(codes) == 0 {
		w.clbs[out.LoadBalancerIds[0]] = &b
	}
}

func (w *world) changeLoadBalancer() {
	id := w.clb()
	if rapid.IntRange(0, 3).Draw(w.T, "delete") == 0 {
		w.did("DeleteLoadBalancer", map[string]any{"LoadBalancerIds": []string{id}}, w.deleteCLB(id), id)
		return
	}
	pass, protected := w.chance(), rapid.IntRange(0, 3).Draw(w.T, "protect") == 0
	w.ask("ModifyLoadBalancerAttributes", map[string]any{"LoadBalancerId": id, "LoadBalancerPassToTarget": pass, "DeleteProtect": protected}, w.modifyCLB(id, &pass, &protected), nil)
}

func (w *world) bindLoadBalancer() {
	id := w.clb()
	if w.chance() {
		group, operation := w.group(), rapid.SampledFrom([]string{"ADD", "DEL", "ADD", "SWAP"}).Draw(w.T, "operation")
		w.ask("SetSecurityGroupForLoadbalancers", map[string]any{"LoadBalancerIds": []string{id}, "SecurityGroup": group, "OperationType": operation},
			w.setGroupForCLB(id, group, operation), nil)
		return
	}
	groups := w.someGroups()
	w.ask("SetLoadBalancerSecurityGroups", map[string]any{"LoadBalancerId": id, "SecurityGroups": groups}, w.bindCLB(id, groups), nil)
}

func (w *world) someGroups() []string {
	groups := []string{}
	for range rapid.IntRange(0, 3).Draw(w.T, "groups") {
		groups = append(groups, w.group())
	}
	return groups
}

// newListener makes one listener, or two, of one port or of a range.
func (w *world) newListener() {
	l := modelListener{clb: w.clb(), kind: rapid.SampledFrom([]string{"TCP", "UDP", "HTTP", "HTTPS"}).Draw(w.T, "protocol")}
	l.from = w.targetType()
	params := map[string]any{"LoadBalancerId": l.clb, "Protocol": l.kind, "TargetType": l.from}
	var cert givenCert
	if (l.kind == "HTTPS") != (rapid.IntRange(0, 9).Draw(w.T, "odd") == 0) {
		if l.sni = rapid.IntRange(0, 2).Draw(w.T, "sni") == 0; l.sni {
			params["SniSwitch"] = 1
		}
		if !l.sni || rapid.IntRange(0, 4).Draw(w.T, "both") == 0 {
			cert, params["Certificate"] = w.someCert()
			l.cert = cert.id
		}
	}
	fresh, odd := w.ports(l, params)
	codes := append(w.createListeners(fresh, cert), odd...)
	var out struct{ ListenerIds []string }
	if w.ask("CreateListener", params, codes, &out); len(codes) > 0 {
		return
	}
	for i, id := range out.ListenerIds {
		w.listeners[id] = fresh[i]
	}
	if cert.inline != "" {
		id := w.learnCert(cert.inline, w.clbs[l.clb].project)
		for _, l := range fresh {
			l.cert = id
		}
	}
}

func (w *world) targetType() string {
	return rapid.SampledFrom([]string{"NODE", "NODE", "NODE", "TARGETGROUP", "TARGETGROUP-V2"}).Draw(w.T, "target type")
}

// ports draws the ports of listeners like l, and writes them; odd are the codes
// of a list of last ports that does not fit that of the first ones.
func (w *world) ports(l modelListener, params map[string]any) (fresh []*modelListener, odd []string) {
	var firsts, lasts []int64
	ranges := l.kind != "HTTP" && rapid.IntRange(0, 2).Draw(w.T, "ranges") == 0
	for range 1 + rapid.IntRange(0, 4).Draw(w.T, "listeners")/4 {
		own := l
		own.port, own.rules = w.somePort(), map[string]*modelPlace{}
		if ranges {
			own.end = rapid.SampledFrom([]int64{81, 82, 443, 8081, 65535, 65536, 1}).Draw(w.T, "last")
			lasts = append(lasts, own.end)
		}
		firsts, fresh = append(firsts, own.port), append(fresh, &own)
	}
	params["Ports"] = firsts
	switch {
	case !ranges:
	case len(lasts) == 1 && w.chance():
		params["EndPort"] = lasts[0]
	default:
		if rapid.IntRange(0, 9).Draw(w.T, "odd") == 0 {
			lasts, odd = append(lasts, 90), []string{codeValue}
		}
		params["FullEndPorts"] = lasts
	}
	return fresh, odd
}

func (w *world) dropListener() {
	clb, id := w.listenerOf()
	w.did("DeleteListener", map[string]any{"LoadBalancerId": clb, "ListenerId": id}, w.deleteListener(clb, id), id)
}

func (w *world) newRules() {
	clb, id := w.listenerOf()
	var rules []*modelPlace
	var certs []givenCert
	var fields []any
	for range rapid.IntRange(1, 2).Draw(w.T, "rules") {
		r := &modelPlace{
			domain: rapid.SampledFrom([]string{"a.example.com", "a.example.com", "*.example.com", "a b"}).Draw(w.T, "domain"),
			url:    rapid.SampledFrom([]string{"/", "/api", "/img", "api"}).Draw(w.T, "url"), from: w.targetType(),
		}
		field, cert := map[string]any{"Domain": r.domain, "Url": r.url, "TargetType": r.from}, givenCert{}
		if l := w.listeners[id]; (l != nil && l.sni) != (rapid.IntRange(0, 9).Draw(w.T, "odd") == 0) {
			cert, field["Certificate"] = w.someCert()
		}
		rules, certs, fields = append(rules, r), append(certs, cert), append(fields, field)
	}
	var out struct{ LocationIds []string }
	codes := w.createRules(clb, id, rules, certs)
	w.ask("CreateRule", map[string]any{"LoadBalancerId": clb, "ListenerId": id, "Rules": fields}, codes, &out)
	for i, location := range out.LocationIds {
		w.listeners[id].rules[location] = rules[i]
		if w.listeners[id].sni && rules[i].cert == "" {
			w.learnRuleCert(clb, id, location, rules[i])
		}
	}
}

func (w *world) dropRule() {
	clb, id := w.listenerOf()
	location := "loc-00000000"
	if l := w.listeners[id]; l != nil {
		location = w.one("location", keysOf(l.rules), "loc-")
	}
	w.did("DeleteRule", map[string]any{"LoadBalancerId": clb, "ListenerId": id, "LocationIds": []string{location}}, w.model.deleteRule(clb, id, location), location)
}

// targets draws targets and how they are written: by instance, by address, by
// the address of nobody, or by both, which is a fault.
func (w *world) targets() (targets []givenTarget, fields []map[string]any) {
	for range rapid.IntRange(1, 2).Draw(w.T, "targets") {
		t := givenTarget{modelTarget: modelTarget{instance: w.instance(), port: w.targetPort(), weight: w.weight()}}
		field := map[string]any{"InstanceId": t.instance, "Port": t.port, "Weight": t.weight}
		how := rapid.IntRange(0, 9).Draw(w.T, "named")
		address := "203.0.113.99" // of nobody
		if i := w.b.Store.State().Instances.Get(lb.InstanceID(t.instance)); i != nil && how != 0 {
			address = i.Private.String()
		}
		switch {
		case how < 4:
			delete(field, "InstanceId")
			field["EniIp"], t.byAddress = address, true
			if address == "203.0.113.99" {
				t.instance = ""
			}
		case how == 4:
			field["EniIp"], t.both = address, true
		}
		targets, fields = append(targets, t), append(fields, field)
	}
	return targets, fields
}

func (w *world) registerTargets() {
	clb, id := w.listenerOf()
	targets, fields := w.targets()
	location, params := w.location(id), map[string]any{"LoadBalancerId": clb, "ListenerId": id, "Targets": fields}
	if location != "" {
		params["LocationId"] = location
	}
	w.ask("RegisterTargets", params, w.register(clb, id, location, targets), nil)
}

func (w *world) changeTargets() {
	clb, id := w.listenerOf()
	targets, fields := w.targets()
	location, params := w.location(id), map[string]any{"LoadBalancerId": clb, "ListenerId": id, "Targets": fields}
	if location != "" {
		params["LocationId"] = location
	}
	if w.chance() {
		w.ask("ModifyTargetWeight", params, w.weigh(clb, id, location, targets), nil)
		return
	}
	w.ask("DeregisterTargets", params, w.deregister(clb, id, location, targets), nil)
}
