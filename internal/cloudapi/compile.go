// SPDX-License-Identifier: Apache-2.0

package cloudapi

import (
	"cmp"
	"errors"
	"fmt"
	"slices"

	"github.com/sallyport/sallyport/internal/lb"
	"github.com/sallyport/sallyport/internal/policy"
)

// checkCompiles refuses a change after which the groups of some load balancer
// or instance would no longer fit into the kernel's maps: nodes would have to
// keep the old rules, while the API says the new ones. Whoever is affected is
// looked at: whose binding changed, whose groups' rules changed, and whose
// groups name one that instances joined or left. What did not fit before may
// change, because some changes repair it.
func (c *Call) checkCompiles(before, after *lb.State) error {
	changed := changedGroups(before, after)
	var affected []binding
	add := func(object string, old, now []lb.GroupID, dirs ...policy.Direction) {
		if len(now) > 0 && (!slices.Equal(old, now) || slices.ContainsFunc(now, func(id lb.GroupID) bool { return changed[id] })) {
			affected = append(affected, binding{object, old, now, dirs, nil})
		}
	}
	for id, b := range after.Balancers {
		var old []lb.GroupID
		if was := before.Balancers[id]; was != nil {
			old = was.Groups
		}
		add("load balancer "+string(id), old, b.Groups, policy.In)
		if n := len(affected); b.Private() && n > 0 && affected[n-1].object == "load balancer "+string(id) {
			affected[n-1].private = b
		}
	}
	for id, i := range after.Instances {
		var old []lb.GroupID
		if was := before.Instances[id]; was != nil {
			old = was.Groups
		}
		add("instance "+string(id), old, i.Groups, policy.In, policy.Out)
	}
	slices.SortFunc(affected, func(x, y binding) int { return -cmp.Compare(x.object, y.object) }) // load balancers first
	d := door{c: c, before: policy.NewResolver(before), after: policy.NewResolver(after), passed: map[string]bool{}}
	for _, b := range affected {
		for _, dir := range b.dirs {
			if err := d.check(b, dir); err != nil {
				return err
			}
		}
	}
	return nil
}

// A binding is an object with the groups it had and has.
type binding struct {
	object   string // "load balancer lb-…"
	old, now []lb.GroupID
	dirs     []policy.Direction // that are judged there
	private  *lb.LoadBalancer   // whose VIP keeps other networks out; nil for all others
}

// changedGroups are the groups whose resolved rules may have changed.
func changedGroups(before, after *lb.State) map[lb.GroupID]bool {
	changed := map[lb.GroupID]bool{}
	for id, g := range after.Groups {
		if before.Groups[id] != g {
			changed[id] = true
		}
	}
	members := map[lb.GroupID]bool{} // groups that instances joined or left
	moved := func(from, to map[lb.InstanceID]*lb.Instance) {
		for id, i := range from {
			other := to[id]
			if other == i || other != nil && other.Private == i.Private && slices.Equal(other.Groups, i.Groups) {
				continue
			}
			for _, g := range i.Groups {
				members[g] = true
			}
		}
	}
	moved(before.Instances, after.Instances)
	moved(after.Instances, before.Instances)
	if len(members) == 0 {
		return changed
	}
	for id, g := range after.Groups {
		names := func(r lb.PolicyRule) bool { return members[r.PeerGroup] }
		if slices.ContainsFunc(g.Ingress, names) || slices.ContainsFunc(g.Egress, names) {
			changed[id] = true
		}
	}
	return changed
}

// A door compiles what a transaction would store.
type door struct {
	c             *Call
	before, after *policy.Resolver
	passed        map[string]bool // lists of groups with a direction: many instances share one
}

func (d *door) check(b binding, dir policy.Direction) error {
	key := fmt.Sprint(dir, b.now)
	groups := d.after.Resolve(b.now, dir)
	if b.private != nil {
		key = b.object
		groups = d.after.Gate1(b.private, b.private.VIPs[0])
	}
	if d.passed[key] {
		return nil
	}
	_, err := d.c.Compile(groups)
	if err == nil {
		d.passed[key] = true
		return nil
	}
	if len(b.old) > 0 {
		if _, already := d.c.Compile(d.before.Resolve(b.old, dir)); already != nil {
			return nil
		}
	}
	e := (*lb.Error)(nil)
	if !errors.As(err, &e) {
		return err
	}
	rules := "inbound rules"
	if dir == policy.Out {
		rules = "outbound rules"
	}
	return refuse(lb.LimitExceeded, e.Field, fmt.Sprintf("%s of %s, bound to %s: with this change %s", rules, listed(b.now), b.object, e.Fault), e.Hint)
}

// listed is "sg-a" or "sg-a, sg-b".
func listed(groups []lb.GroupID) string {
	text := ""
	for i, id := range groups {
		if i > 0 {
			text += ", "
		}
		text += string(id)
	}
	return text
}
