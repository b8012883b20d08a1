// SPDX-License-Identifier: Apache-2.0

package console

import (
	"cmp"
	"fmt"
	"slices"
)

// So many listeners and targets have a box of their own; the rest share some.
const (
	maxPicListeners = 12
	maxPicTargets   = 12
)

// ways are what the picture's parts have in common.
type ways struct {
	data      pictureData
	rates     map[wayKey]rate
	listeners []listenerNode
	targets   []targetNode
}

// A listenerNode is a listener, or all that have no box of their own.
type listenerNode struct{ all []listener }

// A targetNode is a target, or several of the same health.
type targetNode struct{ all []target }

// A service is what tells targets apart: the instance and its port.
type service struct {
	instance string
	port     int
}

func (t target) service() service { return service{t.InstanceId, t.Port} }

// places are where a listener's targets stand: the listener itself, or its
// rules.
func (l listener) places() [][]target {
	if !l.Layer7() {
		return [][]target{l.Targets}
	}
	var all [][]target
	for _, r := range l.Rules {
		all = append(all, r.Targets)
	}
	return all
}

// distinct lists targets once each, in the worst health that a listener sees.
func distinct(listeners []listener) []target {
	var all []target
	at := map[service]int{}
	for _, l := range listeners {
		for _, targets := range l.places() {
			for _, t := range targets {
				i, known := at[t.service()]
				switch {
				case !known:
					at[t.service()] = len(all)
					all = append(all, t)
				case t.Health == "Dead":
					all[i].Health = t.Health
				}
			}
		}
	}
	return all
}

// listenerNodes gives listeners their boxes. The one that is asked about always
// has its own.
func listenerNodes(d pictureData) []listenerNode {
	list := slices.Clone(d.Listeners)
	if len(list) > maxPicListeners {
		slices.SortStableFunc(list, func(a, b listener) int {
			return cmp.Compare(b2i(b.ListenerId == d.Now.ListenerId), b2i(a.ListenerId == d.Now.ListenerId))
		})
	}
	var all []listenerNode
	for i, l := range list {
		if i >= maxPicListeners && len(list) > maxPicListeners {
			all[len(all)-1].all = append(all[len(all)-1].all, l)
			continue
		}
		all = append(all, listenerNode{[]listener{l}})
	}
	return all
}

func b2i(b bool) int {
	if b {
		return 1
	}
	return 0
}

// targetNodes gives targets their boxes: when there are too many, those of the
// listener that was asked about come first, and among them the ill ones.
func targetNodes(targets []target, asked map[service]string) []targetNode {
	var all []targetNode
	if len(targets) <= maxPicTargets {
		for _, t := range targets {
			all = append(all, targetNode{[]target{t}})
		}
		return all
	}
	rank := func(t target) int {
		health := slices.Index([]string{"Dead", "Unknown", "Alive", "Close"}, t.Health)
		if _, known := asked[t.service()]; known {
			return health - 10
		}
		return health
	}
	targets = slices.Clone(targets)
	slices.SortStableFunc(targets, func(a, b target) int { return cmp.Compare(rank(a), rank(b)) })
	for _, t := range targets[:maxPicTargets-4] {
		all = append(all, targetNode{[]target{t}})
	}
	own := len(all)
	for _, t := range targets[own:] {
		if last := len(all) - 1; last >= own && rank(all[last].all[0]) == rank(t) {
			all[last].all = append(all[last].all, t)
			continue
		}
		all = append(all, targetNode{[]target{t}})
	}
	return all
}

// health is the worst of a node's targets.
func (n listenerNode) health() string {
	var t tally
	for _, l := range n.all {
		for _, targets := range l.places() {
			for _, one := range targets {
				t.add(one.Health)
			}
		}
	}
	return t.Word()
}

func (n listenerNode) has(id string) bool {
	return slices.ContainsFunc(n.all, func(l listener) bool { return l.ListenerId == id })
}

// passes reports whether the packet that was asked about comes to a listener.
func (w *ways) passes(n listenerNode) bool {
	return w.data.Asked && w.data.Now.ListenerId != "" && n.has(w.data.Now.ListenerId) && w.data.Answer.inside
}

// bound lists a node's targets that stand behind a listener node, in the
// worst health that it sees.
func (t targetNode) bound(n listenerNode) (all []target) {
	of := map[service]target{}
	for _, l := range n.all {
		for _, targets := range l.places() {
			for _, one := range targets {
				if have, known := of[one.service()]; !known || have.Health != "Dead" {
					of[one.service()] = one
				}
			}
		}
	}
	for _, one := range t.all {
		if found, ok := of[one.service()]; ok {
			all = append(all, found)
		}
	}
	return all
}

func (w *ways) rate(match func(wayKey) bool) (sum rate) {
	for k, r := range w.rates {
		if match(k) {
			sum.Admitted, sum.Refused = sum.Admitted+r.Admitted, sum.Refused+r.Refused
		}
	}
	return sum
}

// gate2Rate is what gate 2 said lately to what came to targets, through one
// node's listeners or, with nil, through all.
func (w *ways) gate2Rate(t targetNode, n *listenerNode) rate {
	return w.rate(func(k wayKey) bool {
		return k.gate == "cvm" && (n == nil || n.has(k.listener)) && slices.ContainsFunc(t.all, func(one target) bool { return one.InstanceId == k.instance })
	})
}

func curve(x1, y1, x2, y2 int) string {
	half := (x2 - x1) / 2
	return fmt.Sprintf("M%d %dC%d %d %d %d %d %d", x1, y1, x1+half, y1, x2-half, y2, x2, y2)
}

// said is a way's traffic in words.
func (r rate) said() string {
	return fmt.Sprintf("%s allowed, %s refused", perSecond(r.Admitted), perSecond(r.Refused))
}

// said is a way's traffic, for who may know it.
func (w *ways) said(r rate) string {
	if w.data.Barred {
		return "rates not shown"
	}
	return r.said()
}

// admits is what passes on a way, for who may know it.
func (w *ways) admits(r rate) string {
	if w.data.Barred {
		return "rates not shown"
	}
	return perSecond(r.Admitted) + " allowed"
}

// class is how a way looks that nobody asked about: by the health of where it
// leads, and moving while something passes.
func (w *ways) class(health string, moving bool) string {
	class := "health-" + health
	if moving && !w.data.Asked {
		class += " moving"
	}
	return class
}

// connect draws the ways. A way is lit as far as the packet that was asked
// about comes, and only to targets that may serve it.
func (w *ways) connect(p *picture, clients []rate) {
	d, g := w.data, p.Gate1
	verdicts := Root + "verdicts?" + query("clb", d.B.LoadBalancerId)
	for i, c := range p.Clients {
		r := clients[i]
		class := w.class("", r.Moving())
		if d.Asked && i == 0 {
			class = "lit " + cmp.Or(g.Class, "lit-ok")
		} else if r.Refused > r.Admitted {
			class += " refused"
		}
		p.Edges = append(p.Edges, edge{curve(c.X+c.W, c.Mid(), g.X, g.Mid()), class, verdicts + "&gate=clb", fmt.Sprintf("From %s to gate 1: %s", c.Title, w.said(r))})
		p.label(c.X+c.W+8, c.Mid()-7, false, r.Admitted, r.Refused)
	}
	for i, l := range p.Listeners {
		node := w.listeners[i]
		passed := w.passes(node)
		r := w.rate(func(k wayKey) bool { return k.gate == "clb" && node.has(k.listener) })
		class := w.class(node.health(), r.Moving())
		if passed {
			class = "lit lit-ok"
		}
		p.Edges = append(p.Edges, edge{curve(g.X+g.W, g.Mid(), l.X, l.Mid()), class, l.Href, fmt.Sprintf("From gate 1 to %s: %s; targets %s", l.Title, w.admits(r), healthWord(node.health()))})
		p.label(l.X-8, l.Mid()-7, true, r.Admitted, 0)
		w.connectListener(p, node, l, passed, verdicts)
	}
	for j, t := range p.Targets {
		node, g2 := w.targets[j], p.Gates2[j]
		r := w.gate2Rate(node, nil)
		class := w.class(node.all[0].Health, r.Moving())
		if d.Asked && g2.Class == "lit-ok" && w.served(node) {
			class = "lit " + lightOf(node)
		}
		p.Edges = append(p.Edges, edge{curve(g2.X+g2.W, g2.Mid(), t.X, t.Mid()), class, t.Href, fmt.Sprintf("From gate 2 to %s: %s; %s", t.Title, w.admits(r), healthWord(node.all[0].Health))})
		p.label(g2.X-8, g2.Mid()-9, true, 0, r.Refused)
		p.label(t.X-8, t.Mid()-7, true, r.Admitted, 0)
	}
}

// connectListener draws the ways from a listener to the gates of its targets.
func (w *ways) connectListener(p *picture, node listenerNode, l box, passed bool, verdicts string) {
	for j, t := range w.targets {
		bound := t.bound(node)
		if len(bound) == 0 {
			continue
		}
		g2, r := p.Gates2[j], w.gate2Rate(t, &node)
		health := tally{}
		for _, one := range bound {
			health.add(one.Health)
		}
		class := w.class(health.Word(), r.Moving())
		said := fmt.Sprintf("From %s to gate 2 of %s: %s; %s", l.Title, p.Targets[j].Title, w.said(r), healthWord(health.Word()))
		if passed && g2.Class != "" {
			class = "skipped"
			if w.served(t) {
				class = "lit " + g2.Class
				if g2.Class == "lit-ok" {
					class = "lit " + lightOf(t)
				}
			} else {
				said += "; gets no new flow"
			}
		}
		href := verdicts + "&gate=cvm"
		if len(t.all) == 1 {
			href += "&cvm=" + t.all[0].InstanceId
		}
		p.Edges = append(p.Edges, edge{curve(l.X+l.W, l.Mid(), g2.X, g2.Mid()), class, href, said})
	}
}

// lightOf is how the way to targets is lit that gate 2 allows: what is abnormal
// is tried, and hardly served.
func lightOf(t targetNode) string {
	if t.all[0].Health == "Dead" {
		return "lit-warn"
	}
	return "lit-ok"
}

// served reports whether one of a node's targets may get the flow that was
// asked about.
func (w *ways) served(t targetNode) bool {
	return slices.ContainsFunc(t.all, func(one target) bool {
		why, known := w.data.Answer.skipped[one.service()]
		return known && why == ""
	})
}

// label writes rates that are not 0 on a way.
func (p *picture) label(x, y int, end bool, allowed, refused float64) {
	l := rateLabel{X: x, Y: y, End: end}
	if allowed > 0 {
		l.Allowed = perSecond(allowed)
	}
	if refused > 0 {
		l.Denied = perSecond(refused)
	}
	if l.Allowed+l.Denied != "" {
		p.Labels = append(p.Labels, l)
	}
}
