// SPDX-License-Identifier: Apache-2.0

package cloudapi

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/sallyport/sallyport/internal/lb"
	"github.com/sallyport/sallyport/internal/policy"
	"github.com/sallyport/sallyport/internal/store"
)

// checkCompiles refuses a change after which the groups of some load balancer
// or instance would no longer fit into the kernel's maps: nodes would have to
// keep the old rules, while the API says the new ones. Whoever is affected is
// looked at: whose binding changed, whose groups' rules changed, and whose
// groups name one that instances joined or left. What did not fit before may
// change, because some changes repair it.
func (c *Call) checkCompiles(tx *store.Tx, before *lb.State) error {
	after := tx.State()
	changed := changedGroups(tx, before)
	d := door{c: c, before: policy.NewResolver(before), after: policy.NewResolver(after), passed: map[string]bool{}}
	for _, b := range affected(tx, before, changed) {
		for _, dir := range b.dirs {
			if err := d.check(b, dir); err != nil {
				return err
			}
		}
	}
	return nil
}

// affected are the objects whose groups or whose groups' rules have changed,
// load balancers first. Only who is bound to a changed group is looked at: a
// change must not cost more because there are more objects.
func affected(tx *store.Tx, before *lb.State, changed []lb.GroupID) []binding {
	after := tx.State()
	found := map[string]binding{}
	balancer := func(id lb.BalancerID, always bool) {
		b, was := after.Balancers.Get(id), before.Balancers.Get(id)
		if b == nil || len(b.Groups) == 0 || !always && was != nil && slices.Equal(was.Groups, b.Groups) {
			return
		}
		var old []lb.GroupID
		if was != nil {
			old = was.Groups
		}
		door := binding{"load balancer " + string(id), old, b.Groups, []policy.Direction{policy.In}, nil}
		if b.Private() {
			door.private = b
		}
		found[string(id)] = door
	}
	instance := func(id lb.InstanceID, always bool) {
		i, was := after.Instances.Get(id), before.Instances.Get(id)
		if i == nil || len(i.Groups) == 0 || !always && was != nil && slices.Equal(was.Groups, i.Groups) {
			return
		}
		var old []lb.GroupID
		if was != nil {
			old = was.Groups
		}
		found[string(id)] = binding{"instance " + string(id), old, i.Groups, []policy.Direction{policy.In, policy.Out}, nil}
	}
	for _, id := range tx.TouchedBalancers() {
		balancer(id, false)
	}
	for _, id := range tx.TouchedInstances() {
		instance(id, false)
	}
	for _, g := range changed {
		for _, id := range tx.Index().Balancers(g) {
			balancer(id, true)
		}
		for _, id := range tx.Index().Instances(g) {
			instance(id, true)
		}
	}
	return slices.SortedFunc(maps.Values(found), func(x, y binding) int { return -cmp.Compare(x.object, y.object) })
}

// A binding is an object with the groups it had and has.
type binding struct {
	object   string // "load balancer lb-…"
	old, now []lb.GroupID
	dirs     []policy.Direction // that are judged there
	private  *lb.LoadBalancer   // whose VIP keeps other networks out; nil for all others
}

// changedGroups are the groups whose resolved rules may have changed: those
// that the transaction touched, those that name a group which an instance
// joined or left, and those that use a template which it touched.
func changedGroups(tx *store.Tx, before *lb.State) []lb.GroupID {
	after := tx.State()
	changed := map[lb.GroupID]bool{}
	for _, id := range tx.TouchedGroups() {
		if before.Groups.Get(id) != after.Groups.Get(id) {
			changed[id] = true
		}
	}
	for _, id := range tx.TouchedInstances() {
		was, is := before.Instances.Get(id), after.Instances.Get(id)
		if was != nil && is != nil && slices.Equal(was.Internals(), is.Internals()) && slices.Equal(was.Groups, is.Groups) {
			continue
		}
		for _, i := range []*lb.Instance{was, is} {
			if i == nil {
				continue
			}
			for _, joined := range i.Groups {
				for _, naming := range tx.Index().Naming(joined) {
					changed[naming] = true
				}
			}
		}
	}
	for _, id := range tx.TouchedTemplates() {
		for _, using := range usersOfTemplate(tx, id) {
			changed[using] = true
		}
	}
	return sortedKeys(changed)
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
