// SPDX-License-Identifier: Apache-2.0

package console

import (
	"fmt"
	"slices"
	"strings"
)

// A tally counts targets by health.
type tally struct {
	Alive, Dead, Unknown, Close int

	Barred bool // the key may not know
}

// Total is how many targets there are.
func (t tally) Total() int { return t.Alive + t.Dead + t.Unknown + t.Close }

// Word is the worst of them, as a class and a label; "" without targets.
func (t tally) Word() string {
	switch {
	case t.Dead > 0:
		return "Dead"
	case t.Unknown > 0:
		return "Unknown"
	case t.Alive > 0:
		return "Alive"
	case t.Close > 0:
		return "Close"
	}
	return ""
}

func (t *tally) add(word string) {
	switch word {
	case "Alive":
		t.Alive++
	case "Dead":
		t.Dead++
	case "Close":
		t.Close++
	default:
		t.Unknown++
	}
}

// tallyOf is one load balancer's of all tallies.
func (s status) tallyOf(b balancer, all map[string]tally) tally {
	t := all[b.LoadBalancerId]
	t.Barred = s.Barred
	return t
}

// tallies are those of each load balancer that has targets.
func (s *summary) tallies() map[string]tally {
	all := make(map[string]tally, len(s.TargetCounts))
	for _, t := range s.TargetCounts {
		all[t.LoadBalancerId] = t.tally
	}
	return all
}

type balancerRow struct {
	B   balancer
	T   tally
	EIP string
}

type balancerListData struct {
	Rows []balancerRow
	P    pager
}

// balancerSearch asks for load balancers by a part of their names, a VIP or an
// id.
func balancerSearch(search string, offset, limit int) m {
	if strings.HasPrefix(search, "lb-") {
		return m{"LoadBalancerIds": []string{search}}
	}
	return m{"SearchKey": search, "Offset": offset, "Limit": limit}
}

func (v *visit) balancerList() error {
	search, offset := v.r.URL.Query().Get("q"), v.offset()
	all, total, err := v.balancers(balancerSearch(search, offset, pageSize))
	if err != nil {
		return err
	}
	s, err := v.summary()
	if err != nil {
		return err
	}
	eips, err := v.eipsOf(all)
	if err != nil {
		return err
	}
	tallies := s.Summary.tallies()
	d := balancerListData{P: v.pager("clb", search, offset, len(all), total)}
	for _, b := range all {
		d.Rows = append(d.Rows, balancerRow{b, s.tallyOf(b, tallies), eips[b.LoadBalancerId].AddressIp})
	}
	return v.show(200, "clb-list", "clb", "Load balancers", d)
}

type balancerFormData struct {
	F     form
	B     balancer
	Stamp string // of what is edited
}

func (v *visit) editBalancer() error {
	b, err := v.balancer(v.r.PathValue("id"))
	if err != nil {
		return err
	}
	d := balancerFormData{B: b, Stamp: stamp(b.LoadBalancerName, b.Protected()), F: v.initial("LoadBalancerName", b.LoadBalancerName, "DeleteProtect", fmt.Sprint(b.Protected()))}
	if v.posted() {
		d.F = v.typed()
		if d.F.V("stamp") != d.Stamp {
			protected := map[bool]string{true: "protected", false: "not protected"}[b.Protected()]
			d.F = d.F.changed(fmt.Sprintf("the name is now %q, and it is %s", b.LoadBalancerName, protected))
			return v.show(d.F.status(), "clb-edit", "clb", "Name and protection", d)
		}
		err := v.do(clbVersion, "ModifyLoadBalancerAttributes", m{"LoadBalancerId": b.LoadBalancerId,
			"LoadBalancerName": d.F.V("LoadBalancerName"), "DeleteProtect": d.F.V("DeleteProtect") == "true"}, nil)
		if err == nil {
			return v.to("clb/"+b.LoadBalancerId, "Saved.")
		}
		if d.F, err = d.F.refused(err); err != nil {
			return err
		}
	}
	return v.show(d.F.status(), "clb-edit", "clb", "Name and protection", d)
}

func (v *visit) deleteBalancer() error {
	b, err := v.balancer(v.r.PathValue("id"))
	if err != nil {
		return err
	}
	q := confirmation{Heading: "Delete " + b.LoadBalancerName, Danger: true, Button: "Delete", Back: Root + "clb/" + b.LoadBalancerId,
		Text: "This deletes the load balancer with its listeners and frees " + joined(b.LoadBalancerVips) + ". Instances and security groups stay."}
	if v.posted() {
		err := v.do(clbVersion, "DeleteLoadBalancer", m{"LoadBalancerIds": []string{b.LoadBalancerId}}, nil)
		if err == nil {
			return v.to("clb", "Deleted "+b.LoadBalancerName+".")
		}
		if q.F, err = v.typed().refused(err); err != nil {
			return err
		}
	}
	return v.confirm("clb", q)
}

type balancerData struct {
	B         balancer
	EIP       eip
	Groups    []group
	Listeners []listener
	T         tally
	Selected  string
	Traffic   traffic
	Return    string // the way of answers: direct or gateway
	Keep      bool   // open flows keep their verdict
}

func (v *visit) balancerData() (balancerData, error) {
	b, err := v.balancer(v.r.PathValue("id"))
	if err != nil {
		return balancerData{}, err
	}
	d := balancerData{B: b}
	if d.Listeners, err = v.listeners(b.LoadBalancerId); err != nil {
		return d, err
	}
	for _, l := range d.Listeners {
		for _, t := range l.Targets {
			d.T.add(t.Health)
		}
		for _, r := range l.Rules {
			for _, t := range r.Targets {
				d.T.add(t.Health)
			}
		}
	}
	d.Groups, err = v.named(b.SecureGroups)
	return d, err
}

func (v *visit) balancerBasic() error {
	d, err := v.balancerData()
	if err != nil {
		return err
	}
	eips, err := v.eipsOf([]balancer{d.B})
	if err != nil {
		return err
	}
	d.EIP = eips[d.B.LoadBalancerId]
	if d.Return, err = v.returnPathOf(d.B.LoadBalancerId); err != nil {
		return err
	}
	if d.Keep, err = v.keepsFlows("LoadBalancerId", d.B.LoadBalancerId); err != nil {
		return err
	}
	if d.Traffic, err = v.balancerTraffic("clb/"+d.B.LoadBalancerId, d.B.LoadBalancerId); err != nil {
		return err
	}
	return v.show(200, "clb-basic", "clb", d.B.LoadBalancerName, d)
}

// balancerTraffic are the charts of one load balancer.
func (v *visit) balancerTraffic(path, id string) (traffic, error) {
	t, err := v.trafficOf(path, func() (chart, error) { return v.requests(id) }, func() (chart, error) { return v.flowsByGate(id) },
		func() (chart, error) { return v.byRule("Refusals by rule", "refusals", "LoadBalancerId", id) })
	if err != nil {
		return t, err
	}
	probes, err := v.probes("LoadBalancerId", id)
	t.Strip = &probes
	return t, err
}

func (v *visit) balancerListeners() error {
	d, err := v.balancerData()
	if err != nil {
		return err
	}
	d.Selected = v.r.URL.Query().Get("listener")
	shorten(d.Listeners, d.Selected)
	return v.show(200, "clb-listeners", "clb", d.B.LoadBalancerName+": listeners", d)
}

// Targets that the listeners' page shows altogether, and of a listener that is
// not the chosen one once there are more.
const (
	maxTargetsShown = 150
	fewTargetsShown = 3
)

// shorten leaves a few targets to each listener when there are very many, the
// abnormal ones first. The chosen one keeps its own.
func shorten(listeners []listener, chosen string) {
	total := 0
	for _, l := range listeners {
		total += len(l.Targets)
		for _, r := range l.Rules {
			total += len(r.Targets)
		}
	}
	if total <= maxTargetsShown {
		return
	}
	for i := range listeners {
		l := &listeners[i]
		if l.ListenerId == chosen {
			continue
		}
		l.Targets, l.More = few(l.Targets, l.More)
		for j := range l.Rules {
			l.Rules[j].Targets, l.More = few(l.Rules[j].Targets, l.More)
		}
	}
}

func few(targets []target, more int) ([]target, int) {
	slices.SortStableFunc(targets, func(a, b target) int {
		switch {
		case a.Health == b.Health:
			return 0
		case a.Health == "Dead":
			return -1
		case b.Health == "Dead":
			return 1
		}
		return 0
	})
	n := min(fewTargetsShown, len(targets))
	return targets[:n], more + len(targets) - n
}
