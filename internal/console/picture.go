// SPDX-License-Identifier: Apache-2.0

package console

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
)

// The picture's measures, in its own units.
const (
	picWidth   = 1120
	rowHeight  = 78
	boxHeight  = 54
	picTop     = 44
	clientsX   = 16
	gate1X     = 290
	listenersX = 440
	gate2X     = 726
	targetsX   = 872
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

type picture struct {
	W, H      int
	Clients   []box
	Gate1     gatePicture
	Listeners []box
	Gates2    []gatePicture
	Targets   []box
	Edges     []edge
	Empty     bool
}

type pictureData struct {
	balancerData
	Pic   picture
	F     form
	Asked bool
	Now   explained
}

func (v *visit) balancerPicture() error {
	bd, err := v.balancerData()
	if err != nil {
		return err
	}
	q := v.r.URL.Query()
	d := pictureData{balancerData: bd, F: defaults("source", q.Get("source"), "port", q.Get("port"), "protocol", cmp.Or(q.Get("protocol"), "TCP"))}
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
	d.Pic = v.draw(d)
	return v.show(d.F.status(), "clb-picture", "clb", d.B.LoadBalancerName+": picture", d)
}

// draw lays the picture out: clients, gate 1, listeners, gate 2, targets.
func (v *visit) draw(d pictureData) picture {
	p := picture{W: picWidth}
	targets := distinct(d.Listeners)
	clients := v.clientBoxes(d)
	rows := max(len(clients), len(d.Listeners), len(targets), 3)
	p.H = picTop + rows*rowHeight + 18
	mid := picTop + rows*rowHeight/2
	place := func(n, i int) int { return mid - n*rowHeight/2 + i*rowHeight + (rowHeight-boxHeight)/2 }
	for i, c := range clients {
		c.X, c.Y, c.W, c.H = clientsX, place(len(clients), i), boxWidth, boxHeight
		p.Clients = append(p.Clients, c)
	}
	p.Gate1 = v.gate1(d, mid)
	for i, l := range d.Listeners {
		p.Listeners = append(p.Listeners, box{X: listenersX, Y: place(len(d.Listeners), i), W: boxWidth, H: boxHeight,
			Title: fmt.Sprintf("%s:%d", l.Protocol, l.Port), Text: listenerText(l), Href: Root + listenersPath(d.B.LoadBalancerId, l.ListenerId),
			Class: lit(d.Asked && d.Now.ListenerId == l.ListenerId && p.Gate1.Class != "lit-bad", "lit-ok"), Said: "Listener " + l.ListenerName})
	}
	for i, t := range targets {
		y := place(len(targets), i)
		p.Gates2 = append(p.Gates2, v.gate2(d, t, y))
		p.Targets = append(p.Targets, box{X: targetsX, Y: y, W: boxWidth + 56, H: boxHeight, Title: cmp.Or(t.InstanceName, t.InstanceId),
			Text: fmt.Sprintf("%s:%d  weight %d", joined(t.PrivateIpAddresses), t.Port, t.Weight), Href: Root + "cvm/" + t.InstanceId,
			Class: "health-" + t.Health, Said: "Instance " + t.InstanceId + ", " + healthWord(t.Health)})
	}
	p.Empty = len(d.Listeners) == 0
	v.connect(&p, d, targets)
	return p
}

func lit(on bool, class string) string {
	if on {
		return class
	}
	return ""
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

// distinct lists targets once each, by instance and port.
func distinct(listeners []listener) []target {
	var all []target
	add := func(targets []target) {
		for _, t := range targets {
			at := slices.IndexFunc(all, func(o target) bool { return o.InstanceId == t.InstanceId && o.Port == t.Port })
			switch {
			case at < 0:
				all = append(all, t)
			case t.Health == "Dead":
				all[at].Health = t.Health
			}
		}
	}
	for _, l := range listeners {
		add(l.Targets)
		for _, r := range l.Rules {
			add(r.Targets)
		}
	}
	return all
}

// clientBoxes are the networks seen lately, and the address asked about.
func (v *visit) clientBoxes(d pictureData) []box {
	var all []box
	base := Root + "verdicts?" + query("clb", d.B.LoadBalancerId, "gate", "clb")
	if d.Asked {
		class := "lit-bad"
		if d.Now.Admitted {
			class = "lit-ok"
		}
		all = append(all, box{Title: d.Now.Source, Text: "your question", Class: class,
			Href: base + "&" + query("address", d.Now.Source), Said: "Client " + d.Now.Source})
	}
	for _, n := range v.history.clients(d.B.LoadBalancerId, v.Now(), 5) {
		all = append(all, box{Title: n.Prefix, Text: fmt.Sprintf("%d allowed, %d refused", n.Admitted, n.Refused),
			Href: Root + "clb/" + d.B.LoadBalancerId + "/picture?" + query("source", n.Sample, "port", d.F.V("port")), Said: "Ask about a client of " + n.Prefix})
	}
	if len(all) == 0 || len(all) == 1 && d.Asked {
		all = append(all, box{Title: "all clients", Text: "none seen lately", Href: base, Said: "Verdicts of this load balancer"})
	}
	return all
}

func (v *visit) gate1(d pictureData, mid int) gatePicture {
	g := gatePicture{box: box{X: gate1X, Y: mid - gate1High/2, W: gateWidth, H: gate1High, Title: "gate 1", Href: Root + "clb/" + d.B.LoadBalancerId + "/security",
		Said: "Gate 1: the load balancer's security groups"}, Open: len(d.Groups) == 0, Groups: d.Groups}
	g.Rate = v.history.rate(v.Now(), func(k seriesKey) bool { return k.gate == "clb" && k.balancer == d.B.LoadBalancerId })
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

func (v *visit) gate2(d pictureData, t target, y int) gatePicture {
	g := gatePicture{box: box{X: gate2X, Y: y, W: gateWidth, H: gate2High, Title: "gate 2", Href: Root + "cvm/" + t.InstanceId + "/security",
		Said: "Gate 2: security groups of " + t.InstanceId}, Open: d.B.LoadBalancerPassToTarget}
	if g.Open {
		g.Said += ", not asked: the load balancer passes to target"
	}
	g.Rate = v.history.rate(v.Now(), func(k seriesKey) bool {
		return k.gate == "cvm" && k.instance == t.InstanceId && !k.probe && (k.balancer == d.B.LoadBalancerId || k.balancer == "")
	})
	for _, n := range d.Now.Gates {
		if d.Asked && n.Gate == "cvm" && n.InstanceId == t.InstanceId && n.Port == t.Port && n.Direction == dirIn {
			g.judge(n)
		}
	}
	return g
}

func curve(x1, y1, x2, y2 int) string {
	half := (x2 - x1) / 2
	return fmt.Sprintf("M%d %dC%d %d %d %d %d %d", x1, y1, x1+half, y1, x2-half, y2, x2, y2)
}

// connect draws the ways. A way is lit as far as the packet that was asked
// about comes.
func (v *visit) connect(p *picture, d pictureData, targets []target) {
	g := p.Gate1
	verdicts := Root + "verdicts?" + query("clb", d.B.LoadBalancerId)
	for i, c := range p.Clients {
		class := lit(g.Rate.Moving() && !d.Asked, "moving")
		if d.Asked && i == 0 {
			class = "lit " + cmp.Or(g.Class, "lit-ok")
		}
		p.Edges = append(p.Edges, edge{curve(c.X+c.W, c.Mid(), g.X, g.Mid()), class, verdicts + "&gate=clb", "From " + c.Title + " to gate 1"})
	}
	for i, l := range p.Listeners {
		passed := d.Asked && l.Class != "" && d.Now.ListenerId == d.Listeners[i].ListenerId
		p.Edges = append(p.Edges, edge{curve(g.X+g.W, g.Mid(), l.X, l.Mid()), lit(passed, "lit lit-ok"), l.Href, "From gate 1 to " + l.Title})
		for j, t := range targets {
			if !serves(d.Listeners[i], t) {
				continue
			}
			g2 := p.Gates2[j]
			p.Edges = append(p.Edges, edge{curve(l.X+l.W, l.Mid(), g2.X, g2.Mid()), lit(passed && g2.Class != "", "lit "+g2.Class),
				verdicts + "&gate=cvm&cvm=" + t.InstanceId, "From " + l.Title + " to gate 2 of " + t.InstanceId})
		}
	}
	for j, t := range p.Targets {
		g2 := p.Gates2[j]
		class := lit(g2.Rate.Moving() && !d.Asked, "moving")
		if d.Asked {
			class = lit(g2.Class == "lit-ok", "lit lit-ok")
		}
		p.Edges = append(p.Edges, edge{curve(g2.X+g2.W, g2.Mid(), t.X, t.Mid()), class, t.Href, "From gate 2 to " + t.Title})
	}
}

func serves(l listener, t target) bool {
	same := func(o target) bool { return o.InstanceId == t.InstanceId && o.Port == t.Port }
	return slices.ContainsFunc(l.Targets, same) || slices.ContainsFunc(l.Rules, func(r location) bool { return slices.ContainsFunc(r.Targets, same) })
}
