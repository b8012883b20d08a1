// SPDX-License-Identifier: Apache-2.0

package cloudapi

import (
	"fmt"
	"slices"
	"strings"

	"github.com/sallyport/sallyport/internal/lb"
	"github.com/sallyport/sallyport/internal/policy"
	"github.com/sallyport/sallyport/internal/store"
)

// usersOfTemplate lists the groups whose rules use a template, directly or by
// a group of templates, sorted.
func usersOfTemplate(tx *store.Tx, id lb.TemplateID) []lb.GroupID {
	users := tx.Index().Using(id)
	for _, group := range tx.Index().Holding(id) {
		users = append(users, tx.Index().Using(group)...)
	}
	slices.Sort(users)
	return slices.Compact(users)
}

// checkUsers refuses lists that more groups than allowed would use.
func (c *Call) checkUsers(tx *store.Tx, field string, lists []lb.TemplateID) error {
	for _, list := range lists {
		if n := len(usersOfTemplate(tx, list)); n > c.Quotas.GroupsPerTemplate {
			return refuse(lb.LimitExceeded, field, fmt.Sprintf("%d security groups would use %s; at most %d are allowed", n, list, c.Quotas.GroupsPerTemplate), "use a copy of the template")
		}
	}
	return nil
}

// checkUses checks, after a template has changed, what its rules now stand
// for: the groups bound to load balancers and instances, expanded.
func (c *Call) checkUses(tx *store.Tx, id lb.TemplateID) error {
	for _, g := range usersOfTemplate(tx, id) {
		if err := c.checkOnBalancer(tx, tx.State().Groups.Get(g), ""); err != nil {
			return err
		}
		if err := c.checkBound(tx, g); err != nil {
			return err
		}
	}
	return nil
}

// checkOnBalancer counts the rules of a group that is bound to a load
// balancer: both directions, templates expanded. field is what the call gives
// of the rules.
func (c *Call) checkOnBalancer(tx *store.Tx, g *lb.SecurityGroup, field string) error {
	bound := tx.Index().Balancers(g.ID)
	if len(bound) == 0 {
		return nil
	}
	if n := expandedRules(tx.State(), g); n > c.Quotas.RulesOnBalancer {
		return errorf("UnsupportedOperation.ClbPolicyExceedLimit", "%s%s is bound to load balancer %s and would have %d rules, both directions together and templates expanded; at most %d are allowed; delete some, or unbind the group",
			field, g.ID, bound[0], n, c.Quotas.RulesOnBalancer)
	}
	return nil
}

// expandedRules is how many rules a group has in both directions, templates
// expanded.
func expandedRules(st *lb.State, g *lb.SecurityGroup) int {
	n := 0
	for _, rules := range [][]lb.PolicyRule{g.Ingress, g.Egress} {
		for _, r := range rules {
			n += st.Expanded(r)
		}
	}
	return n
}

// templatesExist checks that the templates of a rule are there.
func (c *Call) templatesExist(st *lb.State, d direction, r lb.PolicyRule) error {
	for field, id := range map[string]lb.TemplateID{"AddressTemplate": r.PeerTemplate, "ServiceTemplate": r.Service} {
		if id == "" {
			continue
		}
		at := c.placeOf(d, field, func(p policyIn) bool { return slices.Contains(p.templates(), string(id)) })
		k, err := kindOfTemplate(at, string(id))
		if err != nil {
			return err
		}
		if _, err := k.find(st, at, string(id)); err != nil {
			return err
		}
	}
	return nil
}

// templatesOf are the templates that a group's rules name, sorted.
func templatesOf(g *lb.SecurityGroup) []lb.TemplateID {
	var named []lb.TemplateID
	if g == nil {
		return nil
	}
	for _, rules := range [][]lb.PolicyRule{g.Ingress, g.Egress} {
		for _, r := range rules {
			for _, id := range []lb.TemplateID{r.PeerTemplate, r.Service} {
				if id != "" {
					named = append(named, id)
				}
			}
		}
	}
	slices.Sort(named)
	return slices.Compact(named)
}

// checkNamed checks the templates that a group names and did not name before:
// they must not get too many users.
func (c *Call) checkNamed(tx *store.Tx, old, g *lb.SecurityGroup) error {
	had := templatesOf(old)
	for _, id := range templatesOf(g) {
		if slices.Contains(had, id) {
			continue
		}
		lists := []lb.TemplateID{id}
		if t := tx.State().Templates.Get(id); t != nil && id.IsGroup() {
			lists = t.Templates
		}
		if err := c.checkUsers(tx, rulesField, lists); err != nil {
			return err
		}
	}
	return nil
}

// through names the templates by which the rule of a verdict matched, such as
// " (ipm-12345678)"; "" when it named none, or is there no more.
func through(st *lb.State, v policy.Verdict) string {
	g := st.Groups.Get(v.Group)
	if g == nil {
		return ""
	}
	for _, rules := range [][]lb.PolicyRule{g.Ingress, g.Egress} {
		for _, r := range rules {
			if r.ID != v.Rule {
				continue
			}
			if text := strings.TrimSpace(string(r.PeerTemplate + " " + r.Service)); text != "" {
				return " (" + text + ")"
			}
			return ""
		}
	}
	return ""
}

// serves reports whether a template's service is the packet's.
func serves(s lb.Service, p lb.Packet) bool {
	return s.Proto == p.Proto && (len(s.Ports) == 0 || slices.ContainsFunc(s.Ports, func(n lb.PortRange) bool { return n.First <= p.DstPort && p.DstPort <= n.Last }))
}

func serviceOf(p lb.Packet) string {
	if !p.Proto.HasPorts() {
		return p.Proto.String()
	}
	return fmt.Sprintf("%v %d", p.Proto, p.DstPort)
}
