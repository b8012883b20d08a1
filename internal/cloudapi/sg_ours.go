// SPDX-License-Identifier: Apache-2.0

package cloudapi

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/sallyport/sallyport/internal/lb"
	"github.com/sallyport/sallyport/internal/store"
)

type setPoliciesIn struct {
	SecurityGroupId string     `tc:"required"`
	Version         string     `tc:"required"`
	Direction       string     `tc:"required"` // Ingress or Egress
	Policies        []policyIn `tc:""`
	KeepFlows       bool       `tc:""` // open flows keep their verdict until they are idle
	DryRun          bool       `tc:""` // everything is checked, nothing written
}

// setSecurityGroupPolicies makes the given list one direction's rules, in its
// order, if the group still has the Version that the caller read. An empty
// list removes all. A rule that was there already keeps its id. A dry run refuses
// what the call would refuse, and writes nothing.
func setSecurityGroupPolicies(c *Call, in *setPoliciesIn) (*done, error) {
	out, err := setPolicies(c, in)
	return out, in.named(err)
}

// named gives an error the names of fields that this action has.
func (in *setPoliciesIn) named(err error) error {
	return renamed(err, rulesField+"."+in.Direction, "Policies", rulesField+".Version", "Version", rulesField, "Policies")
}

func setPolicies(c *Call, in *setPoliciesIn) (*done, error) {
	both := directions()
	at := slices.IndexFunc(both, func(d direction) bool { return d.name == in.Direction })
	if at < 0 {
		return nil, refuse(lb.Invalid, "Direction", fmt.Sprintf("%q is not a direction", clip(in.Direction, 40)), "use Ingress or Egress")
	}
	if in.Version == "" {
		return nil, refuse(lb.Missing, "Version", "no version is given", "DescribeSecurityGroupPolicies tells it")
	}
	d, set := both[at], &policySetIn{Version: in.Version}
	if d.name == "Ingress" {
		set.Ingress = in.Policies
	} else {
		set.Egress = in.Policies
	}
	if err := c.settle(rulesField, set, true); err != nil {
		return nil, err
	}
	rules, err := d.parseRules(set)
	if err != nil {
		return nil, err
	}
	c.keepFlows = in.KeepFlows
	err = c.Update(func(tx *store.Tx) error {
		err := c.editRulesIn(tx, in.SecurityGroupId, func(g *lb.SecurityGroup) error {
			*d.stored(g) = slices.Clone(rules)
			return checkVersion(g, rulesField, set)
		})
		if err == nil && in.DryRun {
			return errDryRun
		}
		return err
	})
	if errors.Is(err, errDryRun) {
		err = nil
	}
	return &done{}, err
}

type searchGroupsIn struct {
	Text string `tc:""` // part of a name, remark or id, or a whole tag value; any case
	Paging
}

type searchGroupsOut struct {
	TotalCount     int
	SecurityGroups []groupSummary
}

// groupSummary is a group with what people look for in a list.
type groupSummary struct {
	securityGroupOut
	Version         uint64
	Ingress, Egress int // rules in each direction
	CVM, CLB, SG    int // bound to instances and load balancers, named by other groups
}

// searchSecurityGroups lists groups that contain a text, oldest first, with
// their counts, in one pass over the state.
func searchSecurityGroups(c *Call, in *searchGroupsIn) (*searchGroupsOut, error) {
	st, text := c.State(), strings.ToLower(strings.TrimSpace(in.Text))
	var found []*lb.SecurityGroup
	for _, g := range st.Groups.All() {
		if text == "" || strings.Contains(strings.ToLower(g.Name+"\n"+g.Desc+"\n"+string(g.ID)), text) || hasTagValue(g.Tags, text) {
			found = append(found, g)
		}
	}
	slices.SortFunc(found, func(a, b *lb.SecurityGroup) int { return older(a.Created, b.Created, a.ID, b.ID) })
	shown := page(found, in.Paging)
	out := &searchGroupsOut{TotalCount: len(found)}
	cvm, clb, named := uses(st)
	for _, g := range shown {
		out.SecurityGroups = append(out.SecurityGroups, groupSummary{
			securityGroupOut: groupOut(g), Version: g.Version, Ingress: len(g.Ingress), Egress: len(g.Egress),
			CVM: cvm[g.ID], CLB: clb[g.ID], SG: len(named[g.ID]),
		})
	}
	return out, nil
}

func hasTagValue(tags lb.Tags, text string) bool {
	for k, v := range tags {
		if strings.ToLower(v) == text || strings.ToLower(k) == text {
			return true
		}
	}
	return false
}

// uses counts what every group is bound to, and lists the other groups whose
// rules name it.
func uses(st *lb.State) (cvm, clb map[lb.GroupID]int, named map[lb.GroupID][]lb.GroupID) {
	cvm, clb, named = map[lb.GroupID]int{}, map[lb.GroupID]int{}, map[lb.GroupID][]lb.GroupID{}
	for _, i := range st.Instances.All() {
		for _, id := range i.Groups {
			cvm[id]++
		}
	}
	for _, b := range st.Balancers.All() {
		for _, id := range b.Groups {
			clb[id]++
		}
	}
	for _, g := range st.Groups.All() {
		for _, rules := range [][]lb.PolicyRule{g.Ingress, g.Egress} {
			for i := range rules {
				r := &rules[i]
				if r.PeerGroup == "" || r.PeerGroup == g.ID { // most rules name no group
					continue
				}
				if by := named[r.PeerGroup]; len(by) == 0 || by[len(by)-1] != g.ID {
					named[r.PeerGroup] = append(by, g.ID)
				}
			}
		}
	}
	return cvm, clb, named
}
