// SPDX-License-Identifier: Apache-2.0

package cloudapi

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/sallyport/sallyport/internal/lb"
	"github.com/sallyport/sallyport/internal/store"
)

type associationIn struct {
	LoadBalancerId string `tc:"required"`
	TargetGroupId  string `tc:"required"`
	ListenerId     string `tc:""`
	LocationId     string `tc:""`
	Weight         *int64 `tc:"only=10"` // the default: a listener or rule has one group
}

type associationsIn struct {
	Associations []associationIn `tc:"required,count=1-20"`
}

// A groupPlace is what can be associated with a target group: a layer-4
// listener, or a rule.
type groupPlace struct {
	listener *lb.Listener
	rule     *lb.Rule // nil: the listener itself
}

func (p groupPlace) from() lb.TargetType {
	if p.rule != nil {
		return p.rule.From
	}
	return p.listener.From
}

func (p groupPlace) group() lb.TargetGroupID {
	if p.rule != nil {
		return p.rule.Group
	}
	return p.listener.Group
}

func (p groupPlace) name() string {
	if p.rule != nil {
		return fmt.Sprintf("rule %s of %s", p.rule.ID, p.listener.ID)
	}
	return fmt.Sprintf("listener %s", p.listener.ID)
}

// place finds what an association names, as a copy to edit and put.
func (in *associationIn) place(st *lb.State, field string) (groupPlace, error) {
	if in.ListenerId == "" {
		return groupPlace{}, refuse(lb.Missing, field+"ListenerId", "no listener is named", "give the id of one of the load balancer's")
	}
	l, err := changeListener(st, in.LoadBalancerId, in.ListenerId)
	if err != nil {
		return groupPlace{}, err
	}
	if !l.Protocol.Layer7() {
		if in.LocationId != "" {
			return groupPlace{}, errorf("InvalidParameter.LocationNotFound", "%sLocationId: %s is a %s listener, which has no rules; leave it out", field, l.ID, l.Protocol)
		}
		return groupPlace{l, nil}, nil
	}
	if in.LocationId == "" {
		return groupPlace{}, refuse(lb.Missing, field+"LocationId", "an HTTP listener has its targets in rules", "give the rule's id")
	}
	r, err := findRule(l, in.LocationId, "", "")
	return groupPlace{l, r}, err
}

const maxAssociations = 20

// each runs fn on every association in one transaction.
func (in *associationsIn) each(c *Call, fn func(tx *store.Tx, p groupPlace, g *lb.TargetGroup, field string) error) error {
	return c.Update(func(tx *store.Tx) error {
		for i := range in.Associations {
			field := fmt.Sprintf("Associations.%d.", i)
			if w := in.Associations[i].Weight; w != nil && *w != 10 {
				return refuse(lb.Unsupported, field+"Weight", "a listener or rule has one group, which gets all traffic", "leave it out")
			}
			p, err := in.Associations[i].place(tx.State(), field)
			if err != nil {
				return renamed(err, "LoadBalancerId", field+"LoadBalancerId", "ListenerId", field+"ListenerId", "LocationId", field+"LocationId")
			}
			g, err := findTargetGroup(tx.State(), field+"TargetGroupId", in.Associations[i].TargetGroupId)
			if err != nil {
				return err
			}
			if err := fn(tx, p, g, field); err != nil {
				return renamed(err, "TargetGroupId", field+"TargetGroupId")
			}
			tx.PutListener(p.listener)
		}
		return nil
	})
}

// associateTargetGroups makes groups' members the targets of listeners and
// rules, which must have been made for that.
func associateTargetGroups(c *Call, in *associationsIn) (*done, error) {
	return nil, in.each(c, func(tx *store.Tx, p groupPlace, g *lb.TargetGroup, field string) error {
		network := tx.State().Balancers.Get(p.listener.Balancer).VPC
		switch {
		case p.group() == g.ID:
			return refuse(lb.Duplicate, field+"TargetGroupId", fmt.Sprintf("%s is associated with %s already", g.ID, p.name()), "leave it out")
		case p.group() != "":
			return refuse(lb.LimitExceeded, field+"TargetGroupId", fmt.Sprintf("%s has group %s, and it can have one", p.name(), p.group()), "disassociate that first")
		case p.from() != g.Type:
			return refuse(lb.Invalid, field+"TargetGroupId", fmt.Sprintf("%s was made for targets of type %s, the group is %s", p.name(), p.from().Name(), g.Type.Name()), "set TargetType when making it")
		case g.Type == lb.TargetGroupV2 && g.Protocol != p.listener.Protocol:
			return refuse(lb.Invalid, field+"TargetGroupId", fmt.Sprintf("%s is a group of %s, the listener's protocol is %s", g.ID, g.Protocol, p.listener.Protocol), "the protocols must be the same")
		case g.VPC != network:
			return refuse(lb.Invalid, field+"TargetGroupId", fmt.Sprintf("%s is in %s, the load balancer in %s", g.ID, g.VPC, network), "both must be in one VPC")
		}
		return p.take(tx, g)
	})
}

func disassociateTargetGroups(c *Call, in *associationsIn) (*done, error) {
	return nil, in.each(c, func(_ *store.Tx, p groupPlace, g *lb.TargetGroup, field string) error {
		if p.group() != g.ID {
			return refuse(lb.NotFound, field+"TargetGroupId", fmt.Sprintf("%s is not associated with %s", g.ID, p.name()), "DescribeListeners shows what is")
		}
		if p.rule != nil {
			p.rule.Group, p.rule.Targets = "", nil
		} else {
			p.listener.Group, p.listener.Targets = "", nil
		}
		return nil
	})
}

// take gives a place the members of the group. A target that was there keeps
// its number, so its flows go on.
func (p groupPlace) take(tx *store.Tx, g *lb.TargetGroup) error {
	group, targets, check := &p.listener.Group, &p.listener.Targets, &p.listener.Check
	if p.rule != nil {
		group, targets, check = &p.rule.Group, &p.rule.Targets, &p.rule.Check
	}
	var next []lb.Target
	for _, m := range g.Members {
		if err := onceBehind(p.listener, next, m.Instance, "TargetGroupId"); err != nil {
			return err
		}
		t := lb.Target{Instance: m.Instance, Port: m.Port, Weight: m.Weight, Registered: m.Registered, Group: g.ID}
		at := slices.IndexFunc(*targets, func(have lb.Target) bool { return have.Instance == m.Instance && have.Port == m.Port })
		if at >= 0 {
			t.Num = (*targets)[at].Num
		} else {
			if err := soleListener(tx, p.listener, m.Instance, m.Port, "TargetGroupId"); err != nil {
				return err
			}
			t.Num = tx.NextNum()
		}
		next = append(next, t)
	}
	*group, *targets = g.ID, next
	if g.Type == lb.TargetGroupV2 {
		*check = g.Check
	}
	return nil
}

// associations lists what is associated with a group, in order of creation.
// Each is a copy to edit; rules of one listener share theirs.
func associations(tx *store.Tx, id lb.TargetGroupID) []groupPlace {
	var all []groupPlace
	for _, l := range tx.Index().Following(id) {
		all = append(all, placesOf(tx.State().Listeners.Get(l), id)...)
	}
	return inOrderOfCreation(all)
}

// associationsOf is associations for readers.
func associationsOf(st *lb.State, id lb.TargetGroupID) []groupPlace {
	var all []groupPlace
	for _, l := range st.Listeners.All() {
		all = append(all, placesOf(l, id)...)
	}
	return inOrderOfCreation(all)
}

func inOrderOfCreation(places []groupPlace) []groupPlace {
	slices.SortStableFunc(places, func(a, b groupPlace) int { return cmp.Compare(a.listener.Num, b.listener.Num) })
	return places
}

// placesOf are a listener's places that a group is associated with.
func placesOf(l *lb.Listener, id lb.TargetGroupID) []groupPlace {
	if l.Group != id && !slices.ContainsFunc(l.Rules, func(r lb.Rule) bool { return r.Group == id }) {
		return nil
	}
	var all []groupPlace
	own := copyListener(l)
	if l.Group == id {
		all = append(all, groupPlace{own, nil})
	}
	for i := range own.Rules {
		if own.Rules[i].Group == id {
			all = append(all, groupPlace{own, &own.Rules[i]})
		}
	}
	return all
}

// spread makes everything that is associated with a group follow it.
func spread(tx *store.Tx, g *lb.TargetGroup) error {
	for _, p := range associations(tx, g.ID) {
		if err := p.take(tx, g); err != nil {
			return err
		}
		tx.PutListener(p.listener)
	}
	return nil
}

// targetType reads what clients call the type of targets; "" is NODE.
func targetType(text string) lb.TargetType {
	if text == "NODE" {
		return lb.TargetNode
	}
	return lb.TargetType(text)
}

// checkListenerFrom refuses groups where rules have the targets.
func checkListenerFrom(from lb.TargetType, p lb.ListenerProtocol) error {
	if from != lb.TargetNode && p.Layer7() {
		return refuse(lb.Invalid, "TargetType", "an HTTP listener has its targets in rules", "give TargetType to CreateRule")
	}
	return nil
}

// changeFrom changes where a listener has its targets from, as long as it has
// none.
func changeFrom(l *lb.Listener, from lb.TargetType) error {
	if err := checkListenerFrom(from, l.Protocol); err != nil || from == l.From {
		return err
	}
	if len(l.Targets) > 0 || l.Group != "" {
		return refuse(lb.Invalid, "TargetType", fmt.Sprintf("%s has targets of type %s", l.ID, l.From.Name()), "unbind them first")
	}
	l.From = from
	return nil
}

// boundByThemselves refuses single targets where a group's members are.
func boundByThemselves(p groupPlace) error {
	if p.from() == lb.TargetNode {
		return nil
	}
	return refuse(lb.Invalid, "Targets", fmt.Sprintf("%s has targets of type %s", p.name(), p.from().Name()), "change the members of its target group")
}

// keepsCheck refuses to change the check of what a v2 group checks by its own.
// Writing what is there already is no change: clients send it along.
func keepsCheck(from lb.TargetType, before, after lb.HealthCheck) error {
	if from == lb.TargetGroupV2 && before != after {
		return refuse(lb.Invalid, "HealthCheck", "targets of type TARGETGROUP-V2 are checked as their group says", "call ModifyTargetGroupAttribute")
	}
	return nil
}
