// SPDX-License-Identifier: Apache-2.0

package store

import (
	"net/netip"
	"slices"

	"github.com/sallyport/sallyport/internal/lb"
)

// An Index answers who refers to what in a state, without a look at every
// object: what a change costs must not grow with the number of others. It is
// immutable; the next state's shares all but the parts that changed.
type Index struct {
	instances relation // group → instances that bind it
	balancers relation // group → load balancers that bind it
	naming    relation // group → groups with a rule that names it
	using     relation // template → groups with a rule that names it
	holding   relation // template → groups of templates that hold it
	listeners relation // load balancer → its listeners
	serving   relation // instance → listeners with it as a target
	following relation // target group → listeners that are associated with it
	located   relation // layer-7 rule → its listener
	joined    relation // instance → target groups that it is a member of
	placed    relation // private address of either family → instances that have it
	showing   relation // certificate → listeners that show it

	part *lb.State // when set, only what is in it is answered, see Tx.Try
}

// Instances are the instances that bind the group, sorted.
func (x *Index) Instances(g lb.GroupID) []lb.InstanceID {
	return shown(x, instances, ids[lb.InstanceID](&x.instances, g))
}

// Balancers are the load balancers that bind the group, sorted.
func (x *Index) Balancers(g lb.GroupID) []lb.BalancerID {
	return shown(x, balancers, ids[lb.BalancerID](&x.balancers, g))
}

// Naming are the groups with a rule that names the group, sorted.
func (x *Index) Naming(g lb.GroupID) []lb.GroupID {
	return shown(x, groups, ids[lb.GroupID](&x.naming, g))
}

// Using are the groups with a rule that names the template itself, sorted.
func (x *Index) Using(t lb.TemplateID) []lb.GroupID {
	return shown(x, groups, ids[lb.GroupID](&x.using, t))
}

// Holding are the groups of templates that hold the template, sorted.
func (x *Index) Holding(t lb.TemplateID) []lb.TemplateID {
	return shown(x, templates, ids[lb.TemplateID](&x.holding, t))
}

// Listeners are the listeners of the load balancer, sorted.
func (x *Index) Listeners(b lb.BalancerID) []lb.ListenerID {
	return shown(x, listeners, ids[lb.ListenerID](&x.listeners, b))
}

// Serving are the listeners that have the instance as a target, sorted.
func (x *Index) Serving(i lb.InstanceID) []lb.ListenerID {
	return shown(x, listeners, ids[lb.ListenerID](&x.serving, i))
}

// Following are the listeners that the target group is associated with, itself
// or by a rule, sorted.
func (x *Index) Following(g lb.TargetGroupID) []lb.ListenerID {
	return shown(x, listeners, ids[lb.ListenerID](&x.following, g))
}

// Located is the listener that has the rule; "" when there is none.
func (x *Index) Located(r lb.LocationID) lb.ListenerID {
	if found := shown(x, listeners, ids[lb.ListenerID](&x.located, r)); len(found) > 0 {
		return found[0]
	}
	return ""
}

// Joined are the target groups that the instance is a member of, sorted.
func (x *Index) Joined(i lb.InstanceID) []lb.TargetGroupID {
	return shown(x, targetGroups, ids[lb.TargetGroupID](&x.joined, i))
}

// Placed are the instances with that private or IPv6 address, sorted: one in
// each network at most.
func (x *Index) Placed(a netip.Addr) []lb.InstanceID {
	return shown(x, instances, ids[lb.InstanceID](&x.placed, a.String()))
}

// Showing are the listeners that show clients the certificate, sorted.
func (x *Index) Showing(c lb.CertificateID) []lb.ListenerID {
	return shown(x, listeners, ids[lb.ListenerID](&x.showing, c))
}

func ids[V, K ~string](r *relation, key K) []V {
	found := r.get(string(key))
	out := make([]V, len(found))
	for i, id := range found {
		out[i] = V(id)
	}
	return out
}

// A relation is a set of pairs, found by the first. The lists are sorted and
// immutable.
type relation struct {
	lists lb.Table[string, []string]
}

func (r *relation) get(key string) []string {
	if list := r.lists.Get(key); list != nil {
		return *list
	}
	return nil
}

func (r *relation) add(key, id string) {
	list := r.get(key)
	if at, there := slices.BinarySearch(list, id); !there {
		r.set(key, slices.Insert(slices.Clone(list), at, id))
	}
}

func (r *relation) drop(key, id string) {
	list := r.get(key)
	if at, there := slices.BinarySearch(list, id); there {
		r.set(key, slices.Delete(slices.Clone(list), at, at+1))
	}
}

func (r *relation) set(key string, list []string) {
	if len(list) == 0 {
		r.lists.Delete(key)
		return
	}
	r.lists.Put(key, &list)
}

// A reference is one pair of one relation: to is what is referred to.
type reference struct {
	in *relation
	to string
}

// move replaces the references of one object.
func (x *Index) move(id string, old, now []reference) {
	for _, ref := range old {
		if !slices.Contains(now, ref) {
			ref.in.drop(ref.to, id)
		}
	}
	for _, ref := range now {
		if !slices.Contains(old, ref) {
			ref.in.add(ref.to, id)
		}
	}
}

// references are those of one object; kinds that are not named here have none
// that anybody asks for.
func (x *Index) references(object any) []reference {
	switch v := object.(type) {
	case *lb.SecurityGroup:
		return groupReferences(x, v)
	case *lb.Template:
		var refs []reference
		for _, list := range v.Templates {
			refs = append(refs, reference{&x.holding, string(list)})
		}
		return refs
	case *lb.Instance:
		refs := bound(&x.instances, v.Groups)
		addrs := []netip.Addr{v.Private, v.OwnIPv4(), v.OwnIPv6()}
		for n, a := range addrs {
			if a.IsValid() && !slices.Contains(addrs[:n], a) {
				refs = append(refs, reference{&x.placed, a.String()})
			}
		}
		return refs
	case *lb.TargetGroup:
		var refs []reference
		for _, m := range v.Members {
			refs = append(refs, reference{&x.joined, string(m.Instance)})
		}
		return refs
	case *lb.LoadBalancer:
		return bound(&x.balancers, v.Groups)
	case *lb.Listener:
		return listenerReferences(x, v)
	}
	return nil
}

func groupReferences(x *Index, g *lb.SecurityGroup) []reference {
	var refs []reference
	for _, rules := range [...][]lb.PolicyRule{g.Ingress, g.Egress} {
		for _, r := range rules {
			if r.PeerGroup != "" {
				refs = append(refs, reference{&x.naming, string(r.PeerGroup)})
			}
			for _, t := range [...]lb.TemplateID{r.PeerTemplate, r.Service} {
				if t != "" {
					refs = append(refs, reference{&x.using, string(t)})
				}
			}
		}
	}
	return refs
}

func bound(in *relation, groups []lb.GroupID) []reference {
	var refs []reference
	for _, g := range groups {
		refs = append(refs, reference{in, string(g)})
	}
	return refs
}

func listenerReferences(x *Index, l *lb.Listener) []reference {
	refs := []reference{{&x.listeners, string(l.Balancer)}}
	add := func(targets []lb.Target) {
		for _, t := range targets {
			refs = append(refs, reference{&x.serving, string(t.Instance)})
		}
	}
	follow := func(g lb.TargetGroupID) {
		if g != "" {
			refs = append(refs, reference{&x.following, string(g)})
		}
	}
	add(l.Targets)
	follow(l.Group)
	for _, c := range l.Certificates() {
		refs = append(refs, reference{&x.showing, string(c)})
	}
	for _, r := range l.Rules {
		refs = append(refs, reference{&x.located, string(r.ID)})
		add(r.Targets)
		follow(r.Group)
	}
	return refs
}
