// SPDX-License-Identifier: Apache-2.0

package console

import (
	"cmp"
	"fmt"
	"strconv"
)

// The picture's measures, in its own units.
const (
	picWidth   = 1130
	rowHeight  = 78
	boxHeight  = 54
	picTop     = 44
	clientsX   = 16
	gate1X     = 304
	listenersX = 464
	gate2X     = 758
	targetsX   = 914
	boxWidth   = 176
	gateWidth  = 66
	gate1High  = 150
	gate2High  = 54
)

// A box is a thing in the picture, and where it leads.
type box struct {
	X, Y, W, H  int
	Title, Text string
	Href, Class string
	Said        string
}

// Mid is the height of its middle.
func (b box) Mid() int { return b.Y + b.H/2 }

// A gatePicture is one gate: closed by groups, or open because there are none
// or because it is not asked.
type gatePicture struct {
	box
	Open   bool
	Groups []group
	Rate   rate
	Judged string // what it said to the address that was asked about
}

// An edge is a way between two things.
type edge struct{ Path, Class, Href, Said string }

// A rateLabel is the traffic on a way, or on several that meet where it stands.
type rateLabel struct {
	X, Y            int
	Allowed, Denied string // "" is not shown
	End             bool   // X is where the text ends
}

type picture struct {
	W, H      int
	Clients   []box
	Gate1     gatePicture
	Listeners []box
	Gates2    []gatePicture
	Targets   []box
	Edges     []edge
	Labels    []rateLabel
	Empty     bool
}

type pictureData struct {
	balancerData
	Pic    picture
	F      form
	Asked  bool
	Barred bool // the key may not know the rates
	Now    explained
	Answer answer
}

func (v *visit) balancerPicture() error {
	bd, err := v.balancerData()
	if err != nil {
		return err
	}
	q := v.r.URL.Query()
	d := pictureData{balancerData: bd, Barred: v.who().Scoped(), F: defaults("source", q.Get("source"), "port", q.Get("port"), "protocol", cmp.Or(q.Get("protocol"), "TCP"))}
	if d.F.V("port") == "" && len(d.Listeners) > 0 {
		d.F.Values.Set("port", strconv.Itoa(d.Listeners[0].Port))
	}
	if d.Asked = q.Get("source") != ""; d.Asked {
		in := m{"LoadBalancerId": d.B.LoadBalancerId, "Source": d.F.V("source"), "Protocol": d.F.V("protocol")}
		port, err := d.F.number("port")
		if err == nil && (d.F.V("protocol") == "TCP" || d.F.V("protocol") == "UDP") {
			in["Port"] = port
		}
		if err == nil {
			d.Now, err = v.explain(in)
		}
		if err != nil {
			if d.F, err = d.F.wrong(err); err != nil {
				return err
			}
			d.Asked = false
		}
	}
	if d.Traffic, err = v.balancerTraffic("clb/"+d.B.LoadBalancerId+"/picture", d.B.LoadBalancerId); err != nil {
		return err
	}
	d.Answer = answerOf(d)
	d.Pic = v.draw(d)
	d.Now.Gates = together(d.Now.Gates, "")
	return v.show(d.F.status(), "clb-picture", "clb", d.B.LoadBalancerName+": picture", d)
}

// draw lays the picture out: clients, gate 1, listeners, gate 2, targets.
func (v *visit) draw(d pictureData) picture {
	p := picture{W: picWidth, Empty: len(d.Listeners) == 0}
	w := &ways{data: d, rates: v.rates(d.B.LoadBalancerId), listeners: listenerNodes(d), targets: targetNodes(distinct(d.Listeners), d.Answer.skipped)}
	clients, rates := v.clientBoxes(d)
	rows := max(len(clients), len(w.listeners), len(w.targets), 3)
	p.H = picTop + rows*rowHeight + 18
	mid := picTop + rows*rowHeight/2
	place := func(n, i int) int { return mid - n*rowHeight/2 + i*rowHeight + (rowHeight-boxHeight)/2 }
	for i, c := range clients {
		c.X, c.Y, c.W, c.H = clientsX, place(len(clients), i), boxWidth, boxHeight
		p.Clients = append(p.Clients, c)
	}
	p.Gate1 = w.gate1(mid)
	for i, l := range w.listeners {
		p.Listeners = append(p.Listeners, w.listenerBox(l, place(len(w.listeners), i)))
	}
	for i, t := range w.targets {
		y := place(len(w.targets), i)
		p.Gates2 = append(p.Gates2, w.gate2(t, y))
		p.Targets = append(p.Targets, w.targetBox(t, y))
	}
	w.connect(&p, rates)
	return p
}

// rates are those of a load balancer's ways, if the key may know of traffic.
func (v *visit) rates(balancer string) map[wayKey]rate {
	if v.who().Scoped() {
		return nil
	}
	return v.history.ways(balancer, v.Now())
}

// clients are the networks that a load balancer's clients came from lately, if
// the key may know of traffic.
func (v *visit) clients(balancer string) []network {
	if v.who().Scoped() {
		return nil
	}
	return v.history.clients(balancer, v.Now(), 5)
}

// clientBoxes are the networks seen lately with their rates, and the address
// asked about first.
func (v *visit) clientBoxes(d pictureData) (all []box, rates []rate) {
	base := Root + "verdicts?" + query("clb", d.B.LoadBalancerId, "gate", "clb")
	if d.Asked {
		class := "lit-bad"
		if d.Now.Admitted {
			class = "lit-ok"
		}
		all, rates = append(all, box{Title: d.Now.Source, Text: "your question", Class: class,
			Href: base + "&" + query("address", d.Now.Source), Said: "Client " + d.Now.Source}), append(rates, rate{})
	}
	for _, n := range v.clients(d.B.LoadBalancerId) {
		all, rates = append(all, box{Title: n.Prefix, Text: fmt.Sprintf("%d allowed, %d refused", n.Admitted, n.Refused),
			Href: Root + "clb/" + d.B.LoadBalancerId + "/picture?" + query("source", n.Sample, "port", d.F.V("port")), Said: "Ask about a client of " + n.Prefix}), append(rates, n.Rate)
	}
	if len(all) == 0 || len(all) == 1 && d.Asked {
		all, rates = append(all, box{Title: "all clients", Text: "none seen lately", Href: base, Said: "Verdicts of this load balancer"}), append(rates, rate{})
	}
	return all, rates
}

func (w *ways) gate1(mid int) gatePicture {
	d := w.data
	g := gatePicture{box: box{X: gate1X, Y: mid - gate1High/2, W: gateWidth, H: gate1High, Title: "gate 1", Href: Root + "clb/" + d.B.LoadBalancerId + "/security",
		Said: "Gate 1: the load balancer's security groups"}, Open: len(d.Groups) == 0, Groups: d.Groups}
	g.Rate = w.rate(func(k wayKey) bool { return k.gate == "clb" })
	for _, n := range d.Now.Gates {
		if d.Asked && n.Gate == "clb" {
			g.judge(n)
		}
	}
	return g
}

func (g *gatePicture) judge(n gateVerdict) {
	g.Judged, g.Class = n.Text, "lit-bad"
	if n.Action == "ACCEPT" {
		g.Class = "lit-ok"
	}
	if n.SecurityGroupId != "" {
		g.Href = Root + "sg/" + n.SecurityGroupId + "#rule-" + n.PolicyId
	}
}

func (w *ways) listenerBox(n listenerNode, y int) box {
	b := box{X: listenersX, Y: y, W: boxWidth, H: boxHeight, Class: "health-" + n.health(), Href: Root + "clb/" + w.data.B.LoadBalancerId + "/listeners"}
	if len(n.all) > 1 {
		b.Title, b.Text = plural(len(n.all), "more listener"), fmt.Sprintf("ports %d to %d", n.all[0].Port, n.all[len(n.all)-1].Port)
		b.Said = b.Title
	} else {
		l := n.all[0]
		b.Title, b.Text, b.Href = l.Title(), listenerText(l), Root+listenersPath(w.data.B.LoadBalancerId, l.ListenerId)
		b.Said = "Listener " + b.Title + " " + l.ListenerName
	}
	b.Said += ", targets " + healthWord(n.health())
	if w.passes(n) {
		b.Class += " lit-ok"
	}
	return b
}

func listenerText(l listener) string {
	switch n := len(l.Rules); {
	case !l.Layer7():
		return plural(len(l.Targets), "target")
	case n == 1:
		return clip(l.Rules[0].Domain+l.Rules[0].Url, 26)
	default:
		return plural(n, "rule")
	}
}

func (w *ways) gate2(t targetNode, y int) gatePicture {
	first := t.all[0]
	g := gatePicture{box: box{X: gate2X, Y: y, W: gateWidth, H: gate2High, Title: "gate 2", Href: Root + "cvm/" + first.InstanceId + "/security",
		Said: "Gate 2: security groups of " + first.InstanceId}, Open: w.data.B.LoadBalancerPassToTarget}
	if len(t.all) > 1 {
		g.Href, g.Said = Root+"clb/"+w.data.B.LoadBalancerId+"/listeners", fmt.Sprintf("Gate 2 of %d instances", len(t.all))
	}
	if g.Open {
		g.Said += ", not asked: the load balancer passes to target"
	}
	pass, stop := 0, 0
	for _, one := range t.all {
		switch n := w.data.Answer.judged[one.service()]; n.Action {
		case "":
		case "ACCEPT":
			pass++
			w.judgeOne(&g, t, n)
		default:
			stop++
			w.judgeOne(&g, t, n)
		}
	}
	if len(t.all) > 1 && pass+stop > 0 {
		g.Judged = fmt.Sprintf("%d pass, %d are refused", pass, stop)
		g.Class = map[bool]string{true: "lit-ok", false: "lit-bad"}[pass > 0]
	}
	return g
}

func (w *ways) judgeOne(g *gatePicture, t targetNode, n gateVerdict) {
	if len(t.all) == 1 {
		g.judge(n)
	}
}

func (w *ways) targetBox(t targetNode, y int) box {
	first := t.all[0]
	b := box{X: targetsX, Y: y, W: boxWidth + 24, H: boxHeight, Title: cmp.Or(first.InstanceName, first.InstanceId), Text: fmt.Sprintf("%s:%d  weight %d", joined(first.PrivateIpAddresses), first.Port, first.Weight),
		Href: Root + "cvm/" + first.InstanceId, Class: "health-" + first.Health, Said: "Instance " + first.InstanceId + ", " + healthWord(first.Health)}
	if len(t.all) > 1 {
		b.Title, b.Text = fmt.Sprintf("%d more targets", len(t.all)), healthWord(first.Health)
		b.Href, b.Said = Root+"clb/"+w.data.B.LoadBalancerId+"/listeners", fmt.Sprintf("%d more targets, %s", len(t.all), healthWord(first.Health))
	}
	if w.data.Asked && len(t.all) == 1 {
		if why := w.data.Answer.skipped[first.service()]; why != "" && w.data.Answer.judged[first.service()].Action != "" {
			b.Text, b.Class = clip(why, 34), b.Class+" skipped"
			b.Said += ", " + why
		}
	}
	return b
}
