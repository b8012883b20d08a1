// SPDX-License-Identifier: Apache-2.0

package console

import (
	"cmp"
	"slices"
	"strings"
)

type dashboardData struct {
	Revision      uint32
	Nodes         []node // with trouble first
	MoreNodes     int
	Behind        int // connected nodes that have not the newest revision in force
	Down          int
	Balancers     []balancerRow // the ones with trouble first
	BalancerTotal int
	GroupTotal    int
	InstanceTotal int
	T             tally
	Traffic       traffic
	Clb, Cvm      rate
}

// overviewRows is how many load balancers the first page lists.
const overviewRows = 10

// worst are load balancers, those with the most abnormal targets among them
// wherever in the region they are.
func (v *visit) worst(tallies map[string]tally) (list []balancer, total int, err error) {
	if list, total, err = v.balancers(m{"Limit": 100}); err != nil || total == len(list) {
		return list, total, err
	}
	var ill []string
	for id, t := range tallies {
		if t.Dead > 0 && !slices.ContainsFunc(list, func(b balancer) bool { return b.LoadBalancerId == id }) {
			ill = append(ill, id)
		}
	}
	slices.SortFunc(ill, func(a, b string) int {
		return cmp.Or(cmp.Compare(tallies[b].Dead, tallies[a].Dead), strings.Compare(a, b))
	})
	if len(ill) == 0 {
		return list, total, nil
	}
	more, _, err := v.balancers(m{"LoadBalancerIds": ill[:min(overviewRows, len(ill))]})
	return append(list, more...), total, err
}

// overviewNodes is how many nodes the first page lists.
const overviewNodes = 30

// troubled lists nodes, those that are away, fail or lag first, then gateways;
// more is how many are left out.
func troubled(s status) (list []node, more int) {
	rank := func(n node) int {
		switch {
		case !n.Connected:
			return 0
		case n.Error != "":
			return 1
		case n.Revision < s.Revision:
			return 2
		case n.Role == "gateway":
			return 3
		}
		return 4
	}
	list = slices.Clone(s.Nodes)
	if len(list) > overviewNodes {
		slices.SortStableFunc(list, func(a, b node) int { return cmp.Compare(rank(a), rank(b)) })
		more = len(list) - overviewNodes
		return list[:overviewNodes], more
	}
	slices.SortStableFunc(list, func(a, b node) int { return cmp.Compare(b2i(b.Role == "gateway"), b2i(a.Role == "gateway")) })
	return list, 0
}

// dashboard is the first page: what is in force, who is ill, what is refused.
func (v *visit) dashboard() error {
	s, err := v.status()
	if err != nil {
		return err
	}
	d := dashboardData{Revision: s.Revision}
	for _, n := range s.Nodes {
		switch {
		case !n.Connected:
			d.Down++
		case n.Revision < s.Revision:
			d.Behind++
		}
	}
	d.Nodes, d.MoreNodes = troubled(s)
	tallies := s.tallies()
	var list []balancer
	if list, d.BalancerTotal, err = v.worst(tallies); err != nil {
		return err
	}
	for _, t := range tallies {
		d.T.Alive, d.T.Dead, d.T.Unknown, d.T.Close = d.T.Alive+t.Alive, d.T.Dead+t.Dead, d.T.Unknown+t.Unknown, d.T.Close+t.Close
	}
	for _, b := range list {
		d.Balancers = append(d.Balancers, balancerRow{b, tallies[b.LoadBalancerId]})
	}
	slices.SortStableFunc(d.Balancers, func(a, b balancerRow) int {
		return cmp.Or(cmp.Compare(b.T.Dead, a.T.Dead), strings.Compare(a.B.LoadBalancerName, b.B.LoadBalancerName))
	})
	d.Balancers = d.Balancers[:min(overviewRows, len(d.Balancers))]
	if _, d.GroupTotal, err = v.searchGroups("", 0, 1); err != nil {
		return err
	}
	if _, d.InstanceTotal, err = v.instances(m{"Limit": 1}); err != nil {
		return err
	}
	if d.Traffic, err = v.trafficOf("", func() (chart, error) { return v.requests("") }, func() (chart, error) { return v.flowsByGate("") },
		func() (chart, error) { return v.byRule("Refusals by rule", "refusals", "", "") }); err != nil {
		return err
	}
	if v.who().Scoped() {
		return v.show(200, "dashboard", "home", "Overview", d)
	}
	d.Clb = v.history.rate(v.Now(), func(k seriesKey) bool { return k.gate == "clb" })
	d.Cvm = v.history.rate(v.Now(), func(k seriesKey) bool { return k.gate == "cvm" && !k.probe })
	return v.show(200, "dashboard", "home", "Overview", d)
}
