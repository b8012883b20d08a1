// SPDX-License-Identifier: Apache-2.0

package cloudapi

import (
	"fmt"
	"slices"

	"github.com/sallyport/sallyport/internal/lb"
)

func (a *applier) balancers() error {
	for i, d := range a.in.LoadBalancers {
		path := fmt.Sprintf("LoadBalancers.%d.", i)
		if err := a.attempt(path, "LoadBalancer", d.Id, d.LoadBalancerName, func() error { return a.balancer(path, d) }); err != nil {
			return err
		}
		if err := a.depends(len(d.Listeners), path+"Listeners", "LoadBalancer", d.LoadBalancerName, path); err != nil {
			return err
		}
	}
	return nil
}

func (a *applier) balancer(path string, d balancerDoc) error {
	keep(&d.LoadBalancerType, string(lb.Open))
	d.ReturnPath = string(lb.ReturnPathNamed(d.ReturnPath)) // as an export has it
	switch {
	case isFullChain(d.AddressIPVersion):
		d.AddressIPVersion = fullChain
		d.LoadBalancerPassToTarget = true // it always is
	case d.AddressIPVersion != "":
		d.AddressIPVersion = "" // IPV4, in one spelling
	}
	if err := a.balancerRefs(path, &d); err != nil {
		return err
	}
	b, id, err := balancerSort().match(a, path, d.Id, d.LoadBalancerName)
	if err != nil {
		return err
	}
	made := b == nil
	if made {
		if id, err = a.makeBalancer(d); err != nil {
			return at(path, "", err)
		}
		if err := a.claimNew(path, d.Id, string(id)); err != nil {
			return err
		}
	}
	have := (&exporter{st: a.st(), ids: true}).balancer(a.st().Balancers.Get(id))
	keep(&d.Vip, have.Vip)
	keep(&d.CreateTime, have.CreateTime)
	keepEcho(&d, have)
	changed := unlike(have, d, "Id", "Listeners")
	if err := fixed(path, "a load balancer", changed, "LoadBalancerType", "AddressIPVersion", "Classic", "CreateTime", "Network", "Vpc", "Subnet", "Vip", "LBChargeType"); err != nil {
		return err
	}
	if err := a.noted(made, "LoadBalancer", d.Id, string(id), d.LoadBalancerName, path, changed); err != nil {
		return err
	}
	if err := a.changeBalancer(path, id, d, changed); err != nil {
		return err
	}
	if err := a.bindEIP(path, id, have.Address, d.Address); err != nil {
		return err
	}
	return a.listeners(path, a.st().Balancers.Get(id), d.Listeners)
}

// balancerRefs resolves what the document refers to.
func (a *applier) balancerRefs(path string, d *balancerDoc) error {
	var err error
	if d.SecurityGroups, err = a.groupIDsOf(path+"SecurityGroups", d.SecurityGroups); err != nil {
		return err
	}
	if d.Address != "" {
		_, id, err := addressSort().find(a, path+"Address", d.Address)
		if err != nil {
			return err
		}
		d.Address = string(id)
	}
	if d.Network == networkBasic {
		return nil
	}
	d.Network = ""
	if d.Vpc, err = a.network(path+"Vpc", d.Vpc); err != nil || d.Subnet == "" {
		return err
	}
	_, id, err := subnetSort().find(a, path+"Subnet", d.Subnet)
	d.Subnet = string(id)
	return err
}

// makeBalancer makes the load balancer of a document, without EIP and
// listeners.
func (a *applier) makeBalancer(d balancerDoc) (lb.BalancerID, error) {
	c := a.sub(echoOf(d), d.Id)
	if d.Classic || d.Network == networkBasic {
		forward := int64(1)
		if d.Classic {
			forward = 0
		}
		out, err := importLoadBalancer(c, &importLoadBalancerIn{LoadBalancerType: d.LoadBalancerType, LoadBalancerName: d.LoadBalancerName, Forward: &forward,
			Network: d.Network, VpcId: d.Vpc, SubnetId: d.Subnet, Vip: d.Vip, CreateTime: d.CreateTime, Tags: d.Tags})
		if err != nil {
			return "", err
		}
		return lb.BalancerID(out.LoadBalancerId), nil
	}
	out, err := createLoadBalancer(c, &createLoadBalancerIn{LoadBalancerType: d.LoadBalancerType, LoadBalancerName: d.LoadBalancerName,
		VpcId: d.Vpc, SubnetId: d.Subnet, Vip: d.Vip, Tags: d.Tags, AddressIPVersion: d.AddressIPVersion, LoadBalancerPassToTarget: &d.LoadBalancerPassToTarget})
	if err != nil {
		return "", err
	}
	return lb.BalancerID(out.LoadBalancerIds[0]), nil
}

func (a *applier) changeBalancer(path string, id lb.BalancerID, d balancerDoc, changed []string) error {
	if len(changed) == 0 {
		return nil
	}
	in := &modifyLoadBalancerAttributesIn{LoadBalancerId: string(id), LoadBalancerName: &d.LoadBalancerName, DeleteProtect: &d.DeleteProtect}
	if slices.Contains(changed, "LoadBalancerPassToTarget") {
		in.LoadBalancerPassToTarget = &d.LoadBalancerPassToTarget
	}
	var echo map[string]string
	if slices.Contains(changed, "InternetAccessible") {
		in.InternetChargeInfo = d.InternetAccessible
		echo = map[string]string{"InternetChargeInfo": echoOf(d)["InternetAccessible"]}
	}
	if _, err := modifyLoadBalancerAttributes(a.sub(echo), in); err != nil {
		return at(path, "", err)
	}
	if slices.Contains(changed, "SecurityGroups") {
		if _, err := setLoadBalancerSecurityGroups(a.sub(nil), &setLoadBalancerSecurityGroupsIn{LoadBalancerId: string(id), SecurityGroups: d.SecurityGroups}); err != nil {
			return at(path, "", err)
		}
	}
	if slices.Contains(changed, "KeepFlows") {
		if _, err := modifyFlowKeeping(a.sub(nil), &modifyFlowKeepingIn{LoadBalancerId: string(id), KeepFlows: d.KeepFlows}); err != nil {
			return at(path, "", err)
		}
	}
	if slices.Contains(changed, "ReturnPath") {
		if _, err := modifyReturnPath(a.sub(nil), &modifyReturnPathIn{LoadBalancerId: string(id), ReturnPath: lb.ReturnPath(d.ReturnPath).Name()}); err != nil {
			return at(path, "", err)
		}
	}
	if slices.Contains(changed, "ProjectId") {
		if _, err := modifyLoadBalancersProject(a.sub(nil), &modifyLoadBalancersProjectIn{LoadBalancerIds: []string{string(id)}, ProjectId: *d.ProjectId}); err != nil {
			return at(path, "", err)
		}
	}
	return a.tags(path, "clb", "clb", string(id), plainTags(d.Tags))
}

// groupIDsOf resolves a list of groups, in its order.
func (a *applier) groupIDsOf(path string, refs []string) ([]string, error) {
	var ids []string
	err := a.each(len(refs), func(i int) error {
		_, id, err := groupSort().find(a, fmt.Sprintf("%s.%d", path, i), refs[i])
		ids = append(ids, string(id))
		return err
	})
	return ids, err
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
	if err := a.dropRedirects(path, b, of, docs); err != nil {
		return err
	}
	for _, l := range have {
		if slices.ContainsFunc(of, func(o *lb.Listener) bool { return o != nil && o.ID == l.ID }) {
			continue
		}
		if _, err := deleteListener(a.sub(nil), &deleteListenerIn{LoadBalancerId: string(b.ID), ListenerId: string(l.ID)}); err != nil {
			return at(path+"Listeners", "", err)
		}
		a.note("delete", "Listener", string(l.ID), listenerTitle(b, string(l.Protocol), int64(l.Port)), path)
	}
	for i, d := range docs { // before any target is bound: a service may move from one listener to another
		if of[i] != nil {
			of[i] = a.st().Listeners.Get(of[i].ID)
		}
		if of[i] != nil && of[i].From == lb.TargetNode {
			place := targetPlace{LoadBalancerId: string(b.ID), ListenerId: string(of[i].ID)}
			if err := a.unbind(fmt.Sprintf("%sListeners.%d.", path, i), listenerTitle(b, d.Protocol, d.Port), place, of[i].Targets, d.Targets); err != nil {
				return err
			}
			of[i] = a.st().Listeners.Get(of[i].ID)
		}
	}
	for i, d := range docs {
		path, title := fmt.Sprintf("%sListeners.%d.", path, i), listenerTitle(b, d.Protocol, d.Port)
		if err := a.attempt(path, "Listener", d.Id, title, func() error { return a.listener(path, b, of[i], d) }); err != nil {
			return err
		}
		if err := a.depends(len(d.Rules), path+"Rules", "Listener", title, path); err != nil {
			return err
		}
	}
	return a.makeRedirects(path, b, docs)
}

func listenerTitle(b *lb.LoadBalancer, protocol string, port int64) string {
	return fmt.Sprintf("%s:%d of %s", protocol, port, b.Name)
}

func (a *applier) listener(path string, b *lb.LoadBalancer, l *lb.Listener, d listenerDoc) error {
	title := listenerTitle(b, d.Protocol, d.Port)
	var err error
	if d.TargetGroup, d.TargetType, err = a.groupOf(path, d.TargetGroup, d.TargetType, d.Targets); err != nil {
		return err
	}
	if d.Certificate, err = a.certificate(path, d.Certificate); err != nil {
		return err
	}
	made := l == nil
	if made && d.Protocol == string(lb.ListenHTTPS) && d.Certificate == "" && d.SniSwitch == 0 {
		return refuse(lb.Missing, path+"Certificate", "an HTTPS listener shows one", "name one by its alias or id, or set SniSwitch to 1 and give each domain its own")
	}
	if made {
		out, err := createListener(a.sub(nil, d.Id), &createListenerIn{LoadBalancerId: string(b.ID), Ports: []int64{d.Port}, EndPort: &d.EndPort, Protocol: d.Protocol,
			ListenerNames: []string{d.ListenerName}, HealthCheck: d.HealthCheck, choiceIn: d.choice(), tlsIn: d.tls(), TargetType: d.TargetType})
		if err != nil {
			return at(path, "", renamed(err, "Ports", "Port"))
		}
		l = a.st().Listeners.Get(lb.ListenerID(out.ListenerIds[0]))
		if err := a.create("Listener", d.Id, string(l.ID), title, path); err != nil {
			return err
		}
	}
	have := (&exporter{st: a.st(), ids: true}).listener(l)
	changed := unlike(have, d, append(choiceFields(), "Id", "HealthCheck", "TargetGroup", "Targets", "Rules")...)
	if err := fixed(path, "a listener", changed, "Protocol", "Port", "EndPort", "TargetType"); err != nil {
		return err
	}
	want, err := wantedCheck(path, d.HealthCheck, l.Protocol, l.From)
	if err != nil {
		return err
	}
	if want != nil && *want != l.Check && !l.Protocol.Layer7() {
		changed = append(changed, "HealthCheck")
	}
	if named := d.newChoice(l); !l.Protocol.Layer7() {
		changed = append(changed, named...)
	} else if len(named) > 0 {
		return refuse(lb.Invalid, path+named[0], "the rules of an HTTP listener choose targets", "move it below a rule")
	}
	if err := a.changeListener(path, title, made, l, d, want, changed); err != nil {
		return err
	}
	place := targetPlace{LoadBalancerId: string(b.ID), ListenerId: string(l.ID)}
	if l.Protocol.Layer7() {
		if len(d.Targets) > 0 || d.TargetGroup != "" {
			return refuse(lb.Invalid, path+"Targets", "the targets of an HTTP listener are those of its rules", "move them below a rule")
		}
		return a.forwards(path, title, l, d.Rules)
	}
	if len(d.Rules) > 0 {
		return refuse(lb.Invalid, path+"Rules", "a "+d.Protocol+" listener has no rules", "use Protocol HTTP")
	}
	if l.From != lb.TargetNode {
		return a.associate(path, title, place, l.Group, d.TargetGroup)
	}
	return a.targets(path, title, place, l.Targets, d.Targets)
}

// wantedCheck is the check that a document asks for; nil where it is not the
// listener's or rule's to say.
func wantedCheck(path string, in *healthCheckIn, p lb.ListenerProtocol, from lb.TargetType) (*lb.HealthCheck, error) {
	if from == lb.TargetGroupV2 {
		if in != nil {
			return nil, refuse(lb.Invalid, path+"HealthCheck", "targets of type TARGETGROUP-V2 are checked as their group says", "leave it out, and write it at the group")
		}
		return nil, nil
	}
	check := lb.DefaultCheck(p)
	return &check, at(path, "", in.apply(&check, p))
}

func (a *applier) changeListener(path, title string, made bool, l *lb.Listener, d listenerDoc, check *lb.HealthCheck, changed []string) error {
	if len(changed) == 0 {
		return nil
	}
	in := &modifyListenerIn{LoadBalancerId: string(l.Balancer), ListenerId: string(l.ID), ListenerName: &d.ListenerName, choiceIn: d.choice(), tlsIn: d.tls()}
	if !l.Protocol.Layer7() && check != nil {
		in.HealthCheck = checkDoc(*check)
	}
	if _, err := modifyListener(a.sub(nil), in); err != nil {
		return at(path, "", err)
	}
	if !l.Protocol.Layer7() {
		if _, err := setTargetChoice(a.sub(nil), &setTargetChoiceIn{LoadBalancerId: string(l.Balancer), ListenerId: string(l.ID), choiceDoc: d.ours()}); err != nil {
			return at(path, "", err)
		}
	}
	if slices.Contains(changed, "Stopped") {
		verb := "Start"
		if d.Stopped {
			verb = "Stop"
		}
		if _, err := setLoadBalancerStartStatus(a.sub(nil), &setLoadBalancerStartStatusIn{LoadBalancerId: string(l.Balancer), ListenerIds: []string{string(l.ID)}, OperationType: verb}); err != nil {
			return at(path, "", err)
		}
	}
	if !made {
		a.note("change", "Listener", string(l.ID), title, path, changed...)
	}
	return nil
}

// groupOf resolves a document's target group, which also says the type of
// targets.
func (a *applier) groupOf(path, ref, from string, targets []targetDoc) (id, kind string, err error) {
	if from == lb.TargetNode.Name() {
		from = ""
	}
	if ref == "" {
		return "", from, nil
	}
	if len(targets) > 0 {
		return "", "", refuse(lb.Coexist, path+"Targets", "the targets are the members of "+ref, "write them at the target group, or leave out TargetGroup")
	}
	g, _, err := targetGroupSort().find(a, path+"TargetGroup", ref)
	if err != nil {
		return "", "", err
	}
	keep(&from, string(g.Type))
	return string(g.ID), from, nil
}
