// SPDX-License-Identifier: Apache-2.0

package cloudapi

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/sallyport/sallyport/internal/lb"
	"github.com/sallyport/sallyport/internal/store"
)

// maxMembersPerCall is how many members one call names.
const maxMembersPerCall = 50

type memberIn struct {
	BindIP  string `tc:"required"`
	Port    *int64 `tc:"range=1-65535"`
	Weight  *int64 `tc:"range=0-100"`
	NewPort *int64 `tc:"range=1-65535"`
}

type membersIn struct {
	TargetGroupId        string     `tc:"required"`
	TargetGroupInstances []memberIn `tc:"required,count=1-50"`
}

func checkMemberList(list []memberIn) error {
	return nil
}

// edit runs fn on each member named, which is one of the group's; at is its
// place there and field begins the names in faults.
func (in *membersIn) edit(c *Call, fn func(g *lb.TargetGroup, m memberIn, at int, field string) error) error {
	if err := checkMemberList(in.TargetGroupInstances); err != nil {
		return err
	}
	return c.changeGroup(in.TargetGroupId, func(tx *store.Tx, g *lb.TargetGroup) error {
		for i, m := range in.TargetGroupInstances {
			field := fmt.Sprintf("TargetGroupInstances.%d.", i)
			instance, port, err := member(tx, g, m, field)
			if err != nil {
				return err
			}
			at := findMember(g, instance.ID, port)
			if at < 0 {
				return errorf("InvalidParameter", "%sBindIP: %s port %d is not in group %s; DescribeTargetGroupInstances lists its members", field, m.BindIP, port, g.ID)
			}
			if err := fn(g, m, at, field); err != nil {
				return err
			}
		}
		return nil
	})
}

// member finds the instance that a member is, and its port.
func member(tx *store.Tx, g *lb.TargetGroup, m memberIn, field string) (*lb.Instance, uint16, error) {
	port := g.Port
	if m.Port != nil {
		port = uint16(*m.Port)
	}
	if port == 0 {
		return nil, 0, refuse(lb.Missing, field+"Port", "neither the member nor the group has a port", "give it")
	}
	addr, err := netip.ParseAddr(m.BindIP)
	if err != nil {
		return nil, 0, refuse(lb.Invalid, field+"BindIP", fmt.Sprintf("%q is not an address", clip(m.BindIP, 60)), "give an instance's private address")
	}
	for _, id := range tx.Index().Placed(addr) {
		if i := tx.State().Instances.Get(id); i.VPC == g.VPC && i.Private == addr && i.State != lb.Terminating {
			return i, port, nil
		}
	}
	return nil, 0, refuse(lb.NotFound, field+"BindIP", fmt.Sprintf("no instance in %s has the private address %v", g.VPC, addr), "give one that DescribeInstances lists")
}

func findMember(g *lb.TargetGroup, id lb.InstanceID, port uint16) int {
	return slices.IndexFunc(g.Members, func(m lb.Member) bool { return m.Instance == id && m.Port == port })
}

func registerTargetGroupInstances(c *Call, in *membersIn) (*done, error) {
	if err := checkMemberList(in.TargetGroupInstances); err != nil {
		return nil, err
	}
	return nil, c.changeGroup(in.TargetGroupId, func(tx *store.Tx, g *lb.TargetGroup) error {
		return c.join(tx, g, in.TargetGroupInstances)
	})
}

// join adds members to a group.
func (c *Call) join(tx *store.Tx, g *lb.TargetGroup, list []memberIn) error {
	if err := checkMemberList(list); err != nil {
		return err
	}
	for i, m := range list {
		field := fmt.Sprintf("TargetGroupInstances.%d.", i)
		instance, port, err := member(tx, g, m, field)
		switch {
		case err != nil:
			return err
		case m.NewPort != nil:
			return refuse(lb.Invalid, field+"NewPort", "a new member has its port in Port", "leave it out")
		case findMember(g, instance.ID, port) >= 0:
			return refuse(lb.Duplicate, field+"Port", fmt.Sprintf("%s port %d is in the group already", m.BindIP, port), "name each member once")
		case len(g.Members) >= c.Quotas.TargetsPerListener:
			return refuse(lb.LimitExceeded, "TargetGroupInstances", fmt.Sprintf("a target group has at most %s", count(c.Quotas.TargetsPerListener, "member")), "deregister one")
		case m.Weight == nil && g.Type == lb.TargetGroupV2 && g.Weight == nil:
			return refuse(lb.Missing, field+"Weight", "neither the member nor its v2 group has a weight", "give it")
		}
		weight := defaultWeight
		if g.Weight != nil {
			weight = *g.Weight
		}
		setInt(&weight, m.Weight)
		g.Members = append(g.Members, lb.Member{Instance: instance.ID, Port: port, Weight: weight, Registered: c.Now().UTC()})
	}
	return nil
}

func deregisterTargetGroupInstances(c *Call, in *membersIn) (*done, error) {
	return nil, in.edit(c, func(g *lb.TargetGroup, _ memberIn, at int, _ string) error {
		g.Members = slices.Delete(g.Members, at, at+1)
		return nil
	})
}

func modifyTargetGroupInstancesWeight(c *Call, in *membersIn) (*done, error) {
	return nil, in.edit(c, func(g *lb.TargetGroup, m memberIn, at int, field string) error {
		if m.Weight == nil {
			return refuse(lb.Missing, field+"Weight", "no weight is given", "give 0 to 100")
		}
		g.Members[at].Weight = int(*m.Weight)
		return nil
	})
}

// modifyTargetGroupInstancesPort moves members to other ports of their
// instances.
func modifyTargetGroupInstancesPort(c *Call, in *membersIn) (*done, error) {
	return nil, in.edit(c, func(g *lb.TargetGroup, m memberIn, at int, field string) error {
		if m.NewPort == nil {
			return refuse(lb.Missing, field+"NewPort", "no port to move to is given", "give 1 to 65535")
		}
		moved := &g.Members[at]
		if other := findMember(g, moved.Instance, uint16(*m.NewPort)); other >= 0 && other != at {
			return refuse(lb.Duplicate, field+"NewPort", fmt.Sprintf("%s port %d is in the group already", m.BindIP, *m.NewPort), "choose another port")
		}
		moved.Port = uint16(*m.NewPort)
		return nil
	})
}

// leaveTargetGroups takes an instance that ends out of all target groups. Its
// targets behind listeners and rules are taken away with it.
func leaveTargetGroups(tx *store.Tx, id lb.InstanceID) {
	gone := func(m lb.Member) bool { return m.Instance == id }
	for _, group := range tx.Index().Joined(id) {
		old := tx.State().TargetGroups.Get(group)
		g := *old
		g.Members = slices.DeleteFunc(slices.Clone(old.Members), gone)
		tx.PutTargetGroup(&g)
	}
}
