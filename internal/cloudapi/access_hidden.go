// SPDX-License-Identifier: Apache-2.0

package cloudapi

import (
	"regexp"
	"slices"

	"github.com/sallyport/sallyport/internal/lb"
	"github.com/sallyport/sallyport/internal/store"
)

// within makes a write, and checks it. That of a scoped key is tried first on
// what the key sees: when it is refused there, that is the answer, so that an
// object of another project is refused in the words for one that is not there.
// What the whole state then has against it is told without such objects.
func (c *Call) within(tx *store.Tx, fn func(*store.Tx) error, check func() error) error {
	c.made, c.forbidden = nil, nil
	if !c.narrow() {
		if err := fn(tx); err != nil {
			return err
		}
		return check()
	}
	whole := *tx.State()
	part := trialState(&whole, c.Key)
	refused := tx.Try(part, func(trial *store.Tx) error {
		if err := fn(trial); err != nil {
			return err
		}
		return c.checkScope(trial)
	})
	c.made = nil
	err := fn(tx)
	if err == nil {
		err = c.checkScope(tx)
	}
	switch {
	case refused != nil:
		if err != nil && asError(err).Code == codeUnauthorized {
			c.forbidden = err // for the audit log alone
		}
		return refused
	case err == nil:
		err = check()
	}
	return c.masked(err, &whole, part)
}

// trialState is what a scoped key sees, and what that names outside of the
// key's projects: handlers work with it, and their callers know its ids.
func trialState(st *lb.State, k *lb.AccessKey) *lb.State {
	n := narrowed(st, k)
	groups, instances := map[lb.GroupID]bool{}, map[lb.InstanceID]bool{}
	bind := func(all []lb.GroupID) {
		for _, id := range all {
			groups[id] = true
		}
	}
	serve := func(g lb.TargetGroupID, targets []lb.Target) {
		if tg := st.TargetGroups.Get(g); tg != nil {
			n.TargetGroups.Put(g, tg)
		}
		for _, t := range targets {
			instances[t.Instance] = true
		}
	}
	for _, i := range n.Instances.All() {
		bind(i.Groups)
	}
	for _, b := range n.Balancers.All() {
		bind(b.Groups)
	}
	for _, l := range n.Listeners.All() {
		for _, id := range l.Certificates() {
			if cert := st.Certificates.Get(id); cert != nil {
				n.Certificates.Put(id, cert)
			}
		}
		serve(l.Group, l.Targets)
		for _, r := range l.Rules {
			serve(r.Group, r.Targets)
		}
	}
	for _, g := range n.Groups.All() {
		for _, rules := range [...][]lb.PolicyRule{g.Ingress, g.Egress} {
			for _, r := range rules {
				groups[r.PeerGroup] = true
			}
		}
	}
	for id := range groups {
		if g := st.Groups.Get(id); g != nil {
			n.Groups.Put(id, g)
		}
	}
	for id := range instances {
		if i := st.Instances.Get(id); i != nil {
			n.Instances.Put(id, i)
		}
	}
	return n
}

// masked is a refusal without the ids of objects that are not in part.
func (c *Call) masked(err error, whole, part *lb.State) error {
	if err == nil {
		return nil
	}
	e := asError(c.Action.explain(err))
	if e.Code == codeInternal {
		return err
	}
	message := regexp.MustCompile(`\b[a-z]+-[a-z0-9]+\b`).ReplaceAllStringFunc(e.Message, func(id string) string {
		for _, kind := range []string{"group", "balancer", "listener", "instance", "template", "target group", "certificate"} {
			if stored(whole, kind, id) != nil && stored(part, kind, id) == nil {
				return "an object outside of the key's projects"
			}
		}
		return id
	})
	return &Error{Code: e.Code, Message: message}
}

// hides reports whether an instance is in none of the caller's projects, and
// nothing that the caller sees there names it: for handlers that answer with
// faults instead of failing, which within cannot compare.
func (c *Call) hides(st *lb.State, i *lb.Instance, named []lb.Target) bool {
	return c.narrow() && !c.inScope(st, i) && !slices.ContainsFunc(named, func(t lb.Target) bool { return t.Instance == i.ID })
}
