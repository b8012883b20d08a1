// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"net/netip"
	"slices"

	"github.com/sallyport/sallyport/internal/lb"
)

// Resolve makes the groups of ids, in that order, ready to be judged in one
// direction. A rule that names a group gets the private addresses of all
// instances bound to that group at this state. An id that the state does not
// have becomes a group without rules: it refuses, it never opens. Whoever
// resolves for many objects of one state uses a Resolver.
func Resolve(state *lb.State, ids []lb.GroupID, dir Direction) []Group {
	return NewResolver(state).Resolve(ids, dir)
}

// A Resolver resolves against one state and looks up each group's members
// only once. It is for one goroutine.
type Resolver struct {
	state   *lb.State
	members map[lb.GroupID][]netip.Prefix // nil until a rule names a group
}

// NewResolver makes a Resolver for the state, which must not change.
func NewResolver(state *lb.State) *Resolver { return &Resolver{state: state} }

// Resolve is the function Resolve on the resolver's state.
func (v *Resolver) Resolve(ids []lb.GroupID, dir Direction) []Group {
	groups := make([]Group, 0, len(ids))
	for _, id := range ids {
		group := Group{ID: id}
		if source := v.state.Groups[id]; source != nil {
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
		if r.PeerGroup != "" {
			rules[i].Peers = v.membersOf(r.PeerGroup)
		} else if r.Peer.IsValid() {
			rules[i].Peers = []netip.Prefix{r.Peer}
		}
	}
	return rules
}

// membersOf is sorted, so equal memberships give equal groups.
func (v *Resolver) membersOf(id lb.GroupID) []netip.Prefix {
	if v.members == nil {
		v.members = make(map[lb.GroupID][]netip.Prefix)
		for _, instance := range v.state.Instances {
			if !instance.Private.IsValid() {
				continue
			}
			own := netip.PrefixFrom(instance.Private, instance.Private.BitLen())
			for _, bound := range instance.Groups {
				v.members[bound] = append(v.members[bound], own)
			}
		}
		for bound, prefixes := range v.members {
			slices.SortFunc(prefixes, func(a, b netip.Prefix) int { return a.Addr().Compare(b.Addr()) })
			v.members[bound] = slices.Compact(prefixes)
		}
	}
	return v.members[id]
}
