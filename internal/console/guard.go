// SPDX-License-Identifier: Apache-2.0

package console

import (
	"cmp"
	"fmt"
	"net/http"
	"slices"
	"strings"
)

// maxBound is how many groups one object may have.
const maxBound = 5

// A guard is what groups are bound to: a load balancer at gate 1 or an
// instance at gate 2. Both have the same tab.
type guard struct {
	Kind     string // clb or cvm
	Id, Name string
	Bound    []string
}

// Base is the address of the object's tab.
func (g guard) Base() string { return g.Kind + "/" + g.Id + "/security" }

func (v *visit) guardOf(kind string) (guard, error) {
	id := v.r.PathValue("id")
	if kind == "clb" {
		b, err := v.balancer(id)
		return guard{kind, id, b.LoadBalancerName, b.SecureGroups}, err
	}
	i, err := v.instance(id)
	return guard{kind, id, i.InstanceName, i.SecurityGroupIds}, err
}

// set makes the list the bound one.
func (v *visit) set(g guard, ids []string) error {
	if g.Kind == "clb" {
		return v.do(clbVersion, "SetLoadBalancerSecurityGroups", m{"LoadBalancerId": g.Id, "SecurityGroups": ids}, nil)
	}
	return v.do(vpcVersion, "ModifyInstancesAttribute", m{"InstanceIds": []string{g.Id}, "SecurityGroups": ids}, nil)
}

// A preview is the rules of bound groups, in the order in which they are
// tried.
type preview struct {
	Dir    string
	System []systemRule // judged before the groups
	Groups []previewGroup
	Gate   int
	Barred bool // the key may not see the system rules
}

// A systemRule is a rule that nobody wrote and nobody can remove.
type systemRule struct {
	Number                  int
	Direction, Action, Text string
}

type previewGroup struct {
	G    group
	Rows []ruleRow
}

// preview reads the rules of an object's gate; field names the object's id.
func (v *visit) preview(field, id string, ids []string, gate int) (preview, []group, error) {
	p := preview{Dir: v.dir(), Gate: gate}
	var effective struct{ System []systemRule }
	err := v.do(ourVersion, "DescribeEffectiveRules", m{field: id}, &effective)
	if p.Barred = unauthorized(err); err != nil && !p.Barred {
		return p, nil, err
	}
	for _, r := range effective.System {
		if r.Direction == "both" || r.Direction == p.Dir {
			p.System = append(p.System, r)
		}
	}
	groups, err := v.named(ids)
	if err != nil {
		return p, nil, err
	}
	for _, g := range groups {
		set, err := v.policies(g.SecurityGroupId)
		if err != nil {
			return p, nil, err
		}
		pg := previewGroup{G: g}
		for i, r := range set.list(p.Dir) {
			pg.Rows = append(pg.Rows, ruleRow{N: i + 1, R: r, L: lineOf(r)})
		}
		p.Groups = append(p.Groups, pg)
	}
	return p, groups, nil
}

type guardData struct {
	Guard   guard
	Was     string
	Groups  []group
	Preview preview
	B       balancer
	EIP     eip
	I       instance
	Exposed []string
	Moved   string // the button that was pressed, which keeps the focus
	F       form
}

func (v *visit) balancerSecurity() error { return v.showBalancerSecurity(form{}) }

func (v *visit) showBalancerSecurity(f form) error {
	b, err := v.balancer(v.r.PathValue("id"))
	if err != nil {
		return err
	}
	d := guardData{Guard: guard{"clb", b.LoadBalancerId, b.LoadBalancerName, b.SecureGroups}, B: b, Moved: v.r.URL.Query().Get("moved"), F: f}
	if d.Preview, d.Groups, err = v.preview("LoadBalancerId", b.LoadBalancerId, b.SecureGroups, 1); err != nil {
		return err
	}
	if d.Exposed, err = v.exposed(b.LoadBalancerId); err != nil {
		return err
	}
	eips, err := v.eipsOf([]balancer{b})
	if err != nil {
		return err
	}
	d.EIP = eips[b.LoadBalancerId]
	d.Was = strings.Join(d.Guard.Bound, ",")
	return v.show(f.status(), "clb-security", "clb", b.LoadBalancerName+": security group", d)
}

func (v *visit) instanceSecurity() error { return v.showInstanceSecurity(form{}) }

func (v *visit) showInstanceSecurity(f form) error {
	i, err := v.instance(v.r.PathValue("id"))
	if err != nil {
		return err
	}
	d := guardData{Guard: guard{"cvm", i.InstanceId, i.InstanceName, i.SecurityGroupIds}, I: i, Moved: v.r.URL.Query().Get("moved"), F: f}
	if d.Preview, d.Groups, err = v.preview("InstanceId", i.InstanceId, i.SecurityGroupIds, 2); err != nil {
		return err
	}
	d.Was = strings.Join(d.Guard.Bound, ",")
	return v.show(f.status(), "cvm-security", "cvm", i.InstanceName+": security groups", d)
}

// exposed lists what pass-to-target opens: the targets' ports.
func (v *visit) exposed(id string) ([]string, error) {
	listeners, err := v.listeners(id)
	if err != nil {
		return nil, err
	}
	var all []string
	seen := map[string]bool{}
	add := func(l listener, targets []target) {
		for _, t := range targets {
			text := fmt.Sprintf("%s (%s), port %d, by listener %s", t.InstanceId, t.InstanceName, t.Port, l.Title())
			if !seen[text] {
				seen[text], all = true, append(all, text)
			}
		}
	}
	for _, l := range listeners {
		for _, targets := range l.places() {
			add(l, targets)
		}
	}
	return all, nil
}

type bindData struct {
	Guard  guard
	Was    string
	Search string
	Groups []group
	Ticked []string
	Hidden []string // ticked, and not shown by the search
	Total  int
	F      form
}

func (v *visit) bindBalancer() error { return v.bindDialog("clb") }
func (v *visit) bindInstance() error { return v.bindDialog("cvm") }

// bindDialog lets one tick up to five groups. Bound ones keep their order, new
// ones come below.
func (v *visit) bindDialog(kind string) error {
	g, err := v.guardOf(kind)
	if err != nil {
		return err
	}
	d := bindData{Guard: g, Was: strings.Join(g.Bound, ","), F: v.initial(), Ticked: g.Bound}
	if v.draft != nil { // ticked before the login expired
		d.Was, d.Ticked, d.Search = v.draft.Get("was"), v.draft["sg"], v.draft.Get("q")
	}
	if v.posted() {
		d.F = v.typed()
		d.Ticked, d.Search = d.F.Values["sg"], d.F.V("q")
		if d.F.V("search") == "" {
			done, err := v.bindTicked(&d)
			if done || err != nil {
				return err
			}
		}
	}
	if d.Groups, d.Total, err = v.searchGroups(d.Search, 0, pageSize); err != nil {
		return err
	}
	for _, id := range d.Ticked {
		if !slices.ContainsFunc(d.Groups, func(g group) bool { return g.SecurityGroupId == id }) {
			d.Hidden = append(d.Hidden, id)
		}
	}
	return v.show(d.F.status(), "bind", kind, "Configure security groups", d)
}

func (v *visit) bindTicked(d *bindData) (done bool, err error) {
	g := d.Guard
	switch {
	case d.F.V("was") != d.Was:
		d.F = d.F.fault("sg", "Somebody changed the bound groups while you were looking: now they are "+cmp.Or(strings.ReplaceAll(d.Was, ",", ", "), "none")+". Nothing of yours was written; look again and send again.")
		return false, nil
	case len(d.Ticked) > maxBound:
		d.F = d.F.fault("sg", fmt.Sprintf("At most %d groups can be bound; %d are ticked.", maxBound, len(d.Ticked)))
		return false, nil
	case g.Kind == "cvm" && len(d.Ticked) == 0:
		d.F = d.F.fault("sg", "An instance keeps at least one security group.")
		return false, nil
	}
	var ids []string
	for _, id := range g.Bound {
		if contains(d.Ticked, id) {
			ids = append(ids, id)
		}
	}
	for _, id := range d.Ticked {
		if !contains(ids, id) {
			ids = append(ids, id)
		}
	}
	if err = v.set(g, ids); err == nil {
		return true, v.to(g.Base(), "Bound. In force for new and open flows at once.")
	}
	d.F, err = d.F.refused(err)
	return false, err
}

func (v *visit) orderBalancer() error { return v.orderBound("clb", v.showBalancerSecurity) }
func (v *visit) orderInstance() error { return v.orderBound("cvm", v.showInstanceSecurity) }

// orderBound moves or unbinds one group.
func (v *visit) orderBound(kind string, show func(form) error) error {
	g, err := v.guardOf(kind)
	if err != nil {
		return err
	}
	f := v.typed()
	if f.V("was") != strings.Join(g.Bound, ",") {
		return show(f.fault("", "Somebody changed the bound groups while you were looking. Nothing of yours was written; this is how they are now."))
	}
	notice := "Moved. Groups are tried from the top."
	if id := f.V("unbind"); id != "" {
		err = v.bindMany(id, kind, []string{g.Id}, false)
		notice = "Unbound " + id + "."
	} else {
		ids, wrong := reorder(g.Bound, f)
		if wrong != nil {
			return show(f.fault("", wrong.Error()))
		}
		err = v.set(g, ids)
	}
	if err == nil {
		return v.to(g.Base()+"?"+query("moved", f.V("move")), notice)
	}
	if f, err = f.refused(err); err != nil {
		return err
	}
	return show(f)
}

// passToTarget switches gate 2 off or on for what comes through a load
// balancer, after saying what that exposes.
func (v *visit) passToTarget() error {
	b, err := v.balancer(v.r.PathValue("id"))
	if err != nil {
		return err
	}
	on := !b.LoadBalancerPassToTarget
	base := "clb/" + b.LoadBalancerId + "/security"
	q := confirmation{Heading: "Ask gate 2 again", Button: "Ask gate 2", Back: Root + base,
		Text:   "Traffic from " + b.LoadBalancerName + " will be judged by the backend instances' own security groups too. They must allow the clients and, for health checks, the VIP.",
		Hidden: [][2]string{{"on", fmt.Sprint(on)}}}
	if on {
		q.Heading, q.Button, q.Danger = "Pass to target", "Skip gate 2", true
		q.Text = "Traffic from " + b.LoadBalancerName + " will not be judged at gate 2 any more: the backend instances' security groups do not count for it, a Refuse in them neither. " + onlyGate1(b)
		if q.List, err = v.exposed(b.LoadBalancerId); err != nil {
			return err
		}
		q.List = fewExposed(q.List)
	}
	if !v.posted() {
		return v.confirm("clb", q)
	}
	f := v.typed()
	if f.V("on") != fmt.Sprint(on) {
		return v.problem(http.StatusConflict, "The switch was changed meanwhile", "Somebody set it to what you asked for already. Nothing was changed.")
	}
	err = v.do(clbVersion, "ModifyLoadBalancerAttributes", m{"LoadBalancerId": b.LoadBalancerId, "LoadBalancerPassToTarget": on}, nil)
	if err == nil {
		return v.to(base, "Pass to target is "+map[bool]string{true: "on: gate 2 is skipped.", false: "off: both gates are asked."}[on])
	}
	if q.F, err = f.refused(err); err != nil {
		return err
	}
	return v.confirm("clb", q)
}

// fewExposed names so many ports and counts the others.
func fewExposed(all []string) []string {
	if more := len(all) - 2*pageSize; more > 0 {
		return append(slices.Clone(all[:2*pageSize]), fmt.Sprintf("and %d more", more))
	}
	return all
}

func onlyGate1(b balancer) string {
	if len(b.SecureGroups) == 0 {
		return "No group is bound at gate 1 either, so every client reaches these ports:"
	}
	return "Whoever gate 1 allows reaches these ports:"
}
