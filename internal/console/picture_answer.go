// SPDX-License-Identifier: Apache-2.0

package console

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// listed is how many targets an answer names before it only counts them.
const listed = 5

// An answer says which targets may serve the packet that was asked about. What
// the gates say is ExplainPath's; whether a target gets new flows depends on
// its health and weight.
type answer struct {
	Class   string // of the page's alert: ok, warn or bad
	May     string // who may serve it
	Refused string // who would be chosen, and is behind a gate that refuses
	Not     string // who gets no new flows, and why
	Ill     string // that who may serve it is abnormal

	inside  bool                    // gate 1 lets it in
	judged  map[service]gateVerdict // by gate 2
	skipped map[service]string      // why a target of the listener gets no new flow; "" when it may
}

func answerOf(d pictureData) answer {
	a := answer{Class: "bad", judged: map[service]gateVerdict{}, skipped: map[service]string{}}
	if !d.Asked {
		return a
	}
	for _, n := range d.Now.Gates {
		switch {
		case n.Gate == "clb":
			a.inside = n.Action == "ACCEPT"
		case n.Direction == dirIn || n.Direction == "":
			a.judged[service{n.InstanceId, n.Port}] = n
		}
	}
	var may, refused, not []string
	ill := 0
	for _, l := range d.Listeners {
		if l.ListenerId != d.Now.ListenerId || !a.inside {
			continue
		}
		a.chances(l)
		for _, t := range distinct([]listener{l}) {
			name := fmt.Sprintf("%s (%s:%d)", cmp.Or(t.InstanceName, t.InstanceId), joined(t.PrivateIpAddresses), t.Port)
			switch n, why := a.judged[t.service()], a.skipped[t.service()]; {
			case why != "":
				not = append(not, name+": "+why)
			case n.Action == "ACCEPT":
				may = append(may, name)
				ill += b2i(t.Health == "Dead")
			case n.Action != "":
				refused = append(refused, name)
			}
		}
	}
	a.May, a.Refused, a.Not = few5(may), few5(refused), few5(not)
	switch {
	case ill > 0 && ill == len(may):
		a.Ill = "All of them are abnormal: none answers its health checks, so the load balancer tries them all the same"
	case ill > 0:
		a.Ill = fmt.Sprintf("Abnormal among them: %d, tried because all behind the same rule are", ill)
	}
	switch {
	case len(may) > 0 && (len(refused) > 0 || ill > 0):
		a.Class = "warn"
	case len(may) > 0:
		a.Class = "ok"
	case d.Now.Admitted:
		a.Class = "warn"
	}
	return a
}

// chances finds out which of a listener's targets get new flows: those with
// weight that are not abnormal, or all with weight when every one is.
func (a answer) chances(l listener) {
	for _, targets := range l.places() {
		anyWell := slices.ContainsFunc(targets, func(t target) bool { return t.Weight > 0 && t.Health != "Dead" })
		for _, t := range targets {
			why := ""
			switch {
			case t.Weight == 0:
				why = "weight 0, no new flows"
			case t.Health == "Dead" && anyWell:
				why = "abnormal, no new flows"
			}
			if have, known := a.skipped[t.service()]; !known || have != "" {
				a.skipped[t.service()] = why
			}
		}
	}
}

// few5 names some, and counts the others.
func few5(names []string) string {
	if len(names) <= listed {
		return strings.Join(names, "; ")
	}
	return fmt.Sprintf("%s; and %d more", strings.Join(names[:listed], "; "), len(names)-listed)
}

// together lists gates that say the same for the same reason once, with how
// many they are. The one of the instance keep is the one that is shown.
func together(gates []gateVerdict, keep string) []gateVerdict {
	type reason struct {
		gate, direction, action, reason, group, rule string
	}
	at := map[reason]int{}
	var all []gateVerdict
	for _, g := range gates {
		r := reason{g.Gate, g.Direction, g.Action, g.Reason, g.SecurityGroupId, g.PolicyId}
		i, known := at[r]
		switch {
		case !known:
			at[r] = len(all)
			all = append(all, g)
		case keep != "" && g.InstanceId == keep && all[i].InstanceId != keep:
			g.Same = all[i].Same + 1
			all[i] = g
		default:
			all[i].Same++
		}
	}
	return all
}
