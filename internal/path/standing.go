// SPDX-License-Identifier: Apache-2.0

package path

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/sallyport/sallyport/internal/lb"
	"github.com/sallyport/sallyport/internal/policy"
)

// StandingOfBalancer are the system rules that gate 1 of a load balancer has,
// by number, each with a text about this one.
func StandingOfBalancer(state *lb.State, b *lb.LoadBalancer) []policy.Standing {
	if !b.Private() {
		return nil
	}
	r := policy.SystemRules()[policy.SystemPrivate-1]
	r.Text = fmt.Sprintf("to the VIP %s from outside %s, the network of this private load balancer", addresses(b.VIPs), prefixes(state.Networks(b)))
	return []policy.Standing{r}
}

// StandingOfInstance are the system rules that gate 2 of an instance has, by
// number: those of every machine, and one for each port that is checked by
// probes that need no other rule.
func StandingOfInstance(state *lb.State, i *lb.Instance) []policy.Standing {
	rules := policy.SystemRules()
	all := slices.Clone(rules[:policy.SystemProbeRange-1])
	for _, l := range state.Listeners.All() {
		b := state.Balancers.Get(l.Balancer)
		if b == nil || l.Stopped || b.PassToTarget {
			continue
		}
		for _, c := range candidates(l) {
			if c.target.Instance != i.ID || !c.check.On || b.ProbesNeedRule(c.check) {
				continue
			}
			port, source := c.target.Port, addresses(b.VIPs)
			if c.check.Port != 0 {
				port = uint16(c.check.Port)
			}
			r := rules[policy.ProbeRule(c.check)-1]
			if r.Number == policy.SystemProbeRange {
				source = "100.64.0.0/16"
			}
			what := fmt.Sprintf("to port %d", port)
			if c.check.Type == lb.CheckPing {
				what += " and by ping"
			}
			r.Text = fmt.Sprintf("health checks of %s %s from %s %s, through the tunnel", b.ID, l.ID, source, what)
			if !slices.Contains(all, r) {
				all = append(all, r)
			}
		}
	}
	slices.SortFunc(all, func(x, y policy.Standing) int {
		return cmp.Or(cmp.Compare(x.Number, y.Number), cmp.Compare(x.Text, y.Text))
	})
	return all
}

func addresses(all []netip.Addr) string {
	texts := make([]string, len(all))
	for i, a := range all {
		texts[i] = a.String()
	}
	return strings.Join(texts, ", ")
}

func prefixes(all []netip.Prefix) string {
	texts := make([]string, len(all))
	for i, p := range all {
		texts[i] = p.String()
	}
	return strings.Join(texts, ", ")
}
