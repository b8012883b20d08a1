// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"net/netip"
	"slices"

	"github.com/sallyport/sallyport/internal/lb"
)

// Resolve makes the groups of ids, in that order, ready to be judged in one
// direction. A rule that names a group gets the private addresses of all
// instances bound to that group at this state, one that names a template the
// template's addresses or services. An id that the state does not
// have becomes a group without rules: it refuses, it never opens. Whoever
// resolves for many objects of one state uses a Resolver.
func Resolve(state *lb.State, ids []lb.GroupID, dir Direction) []Group {
	return NewResolver(state).Resolve(ids, dir)
}

// A Resolver resolves against one state and looks up each group's members
// only once. It is for one goroutine.
type Resolver struct {
	state   *lb.State
	members map[lb.GroupID][]netip.Prefix    // nil until a rule names a group
	peers   map[lb.TemplateID][]netip.Prefix // of address templates that rules have named
	beyond  map[lb.VPCID][]netip.Prefix      // outside the network; nil until a private load balancer asks
	joined  map[lb.VPCID][]*lb.Instance      // with beyond
}

// NewResolver makes a Resolver for the state, which must not change.
func NewResolver(state *lb.State) *Resolver {
	return &Resolver{state: state, peers: make(map[lb.TemplateID][]netip.Prefix)}
}

// Resolve is the function Resolve on the resolver's state.
func (v *Resolver) Resolve(ids []lb.GroupID, dir Direction) []Group {
	groups := make([]Group, 0, len(ids))
	for _, id := range ids {
		group := Group{ID: id}
		if source := v.state.Groups.Get(id); source != nil {
			group.Rules = v.rules(source, dir)
		}
		groups = append(groups, group)
	}
	return groups
}

func (v *Resolver) rules(group *lb.SecurityGroup, dir Direction) []Rule {
	source := group.Ingress
	if dir == Out {
		source = group.Egress
	}
	rules := make([]Rule, len(source))
	for i, r := range source {
		rules[i] = Rule{ID: r.ID, Pos: i + 1, Action: r.Action, Proto: r.Proto, Ports: r.Ports}
		switch {
		case r.PeerGroup != "":
			rules[i].Peers = v.membersOf(r.PeerGroup)
		case r.PeerTemplate != "":
			rules[i].Peers = v.addressesOf(r.PeerTemplate)
		case r.Peer.IsValid():
			rules[i].Peers = []netip.Prefix{r.Peer}
		}
		if r.Service == "" {
			continue
		}
		for _, m := range v.state.Members(r.Service) {
			rules[i].Services = append(rules[i].Services, m.Service)
		}
		if len(rules[i].Services) == 0 { // a template that names nothing matches nothing
			rules[i].Peers = nil
		}
	}
	return rules
}

// addressesOf is sorted and without what others of the template contain, so
// equal templates give equal groups.
func (v *Resolver) addressesOf(id lb.TemplateID) []netip.Prefix {
	if known, ok := v.peers[id]; ok {
		return known
	}
	var all []netip.Prefix
	for _, m := range v.state.Members(id) {
		all = append(all, m.Peers.Prefixes()...)
	}
	slices.SortFunc(all, netip.Prefix.Compare)
	var kept []netip.Prefix
	for _, p := range all {
		if len(kept) == 0 || !kept[len(kept)-1].Overlaps(p) { // wider ones come first
			kept = append(kept, p)
		}
	}
	v.peers[id] = kept
	return kept
}

// membersOf is sorted, so equal memberships give equal groups.
func (v *Resolver) membersOf(id lb.GroupID) []netip.Prefix {
	if v.members == nil {
		v.members = make(map[lb.GroupID][]netip.Prefix)
		for _, instance := range v.state.Instances.All() {
			for _, own := range instance.Internals() {
				for _, bound := range instance.Groups {
					v.members[bound] = append(v.members[bound], netip.PrefixFrom(own, own.BitLen()))
				}
			}
		}
		for bound, prefixes := range v.members {
			slices.SortFunc(prefixes, func(a, b netip.Prefix) int { return a.Addr().Compare(b.Addr()) })
			v.members[bound] = slices.Compact(prefixes)
		}
	}
	return v.members[id]
}
