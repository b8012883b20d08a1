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
	Traffic       traffic
	Clb, Cvm      rate
}

// overviewRows is how many load balancers the first page lists.
const overviewRows = 10

// worst are load balancers: those with the most abnormal targets, wherever in
// the region they are, and then the newest.
func (v *visit) worst(tallies map[string]tally) ([]balancer, error) {
	var ill []string
	for id, t := range tallies {
		if t.Dead > 0 {
			ill = append(ill, id)
		}
	}
	slices.SortFunc(ill, func(a, b string) int {
		return cmp.Or(cmp.Compare(tallies[b].Dead, tallies[a].Dead), strings.Compare(a, b))
	})
	ill = ill[:min(overviewRows, len(ill))]
	var list []balancer
	var err error
	if len(ill) > 0 {
		if list, _, err = v.balancers(m{"LoadBalancerIds": ill}); err != nil {
			return nil, err
		}
	}
	if len(list) < overviewRows {
		newest, _, err := v.balancers(m{"Limit": overviewRows})
		if err != nil {
			return nil, err
		}
		list = append(list, slices.DeleteFunc(newest, func(b balancer) bool { return contains(ill, b.LoadBalancerId) })...)
	}
	return list[:min(overviewRows, len(list))], nil
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
		case n.Revision < s.Revision, len(n.Alarms) > 0:
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
	s, err := v.summary()
	if err != nil {
		return err
	}
	d := dashboardData{Revision: s.Revision, BalancerTotal: s.Summary.LoadBalancers, GroupTotal: s.Summary.SecurityGroups, InstanceTotal: s.Summary.Instances}
	for _, n := range s.Nodes {
		switch {
		case !n.Connected:
			d.Down++
		case n.Revision < s.Revision:
			d.Behind++
		}
	}
	d.Nodes, d.MoreNodes = troubled(s)
	tallies := s.Summary.tallies()
	list, err := v.worst(tallies)
	if err != nil {
		return err
	}
	for _, b := range list {
		d.Balancers = append(d.Balancers, balancerRow{B: b, T: s.tallyOf(b, tallies)})
	}
	slices.SortStableFunc(d.Balancers, func(a, b balancerRow) int {
		return cmp.Or(cmp.Compare(b.T.Dead, a.T.Dead), strings.Compare(a.B.LoadBalancerName, b.B.LoadBalancerName))
	})
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
