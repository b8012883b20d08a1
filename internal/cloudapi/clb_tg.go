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

func targetGroupActions() []Action {
	const group, value, limit = "InvalidParameter", "InvalidParameterValue", "LimitExceeded"
	return []Action{
		action(serviceCLB, "CreateTargetGroup", createTargetGroup).fails(value, value+".Length", value+".Range", value+".Duplicate", "MissingParameter", group, limit, "UnsupportedOperation"),
		action(serviceCLB, "ModifyTargetGroupAttribute", modifyTargetGroupAttribute).fails(value, value+".Length", group),
		action(serviceCLB, "DeleteTargetGroups", deleteTargetGroups).fails(value, value+".Length", "FailedOperation"),
		action(serviceCLB, "RegisterTargetGroupInstances", registerTargetGroupInstances).fails(value, value+".Length", value+".Duplicate", "MissingParameter", limit),
		action(serviceCLB, "DeregisterTargetGroupInstances", deregisterTargetGroupInstances).fails(value, value+".Length", group),
		action(serviceCLB, "ModifyTargetGroupInstancesWeight", modifyTargetGroupInstancesWeight).fails(value, value+".Length", group, "MissingParameter"),
		action(serviceCLB, "ModifyTargetGroupInstancesPort", modifyTargetGroupInstancesPort).fails(value, value+".Length", value+".Duplicate", group, "MissingParameter"),
		action(serviceCLB, "AssociateTargetGroups", associateTargetGroups).fails(value, value+".Length", value+".Duplicate", "InvalidParameter.LBIdNotFound", "InvalidParameter.ListenerIdNotFound", "InvalidParameter.LocationNotFound", "MissingParameter", limit),
		action(serviceCLB, "DisassociateTargetGroups", disassociateTargetGroups).fails(value, value+".Length", "InvalidParameter.LBIdNotFound", "InvalidParameter.ListenerIdNotFound", "InvalidParameter.LocationNotFound", "MissingParameter"),
		action(serviceCLB, "DescribeTargetGroups", describeTargetGroups).fails(group, value+".InvalidFilter", value+".Range", limit),
		action(serviceCLB, "DescribeTargetGroupList", describeTargetGroupList).fails(group, value+".InvalidFilter", value+".Range", limit),
		action(serviceCLB, "DescribeTargetGroupInstances", describeTargetGroupInstances).fails("MissingParameter", value+".InvalidFilter", value+".Range"),
	}
}

// groupCheckIn is the health check of a v2 target group, which has names of
// its own for the same things.
type groupCheckIn struct {
	HealthSwitch    *bool    `tc:"required"`
	Protocol        *string  `tc:"only=TCP|HTTP|PING|CUSTOM,enum=TCP|HTTP|PING|CUSTOM|HTTPS|GRPC"`
	Port            *int64   `tc:"range=-1-65535"`
	Timeout         *int64   `tc:"range=2-30"`
	GapTime         *int64   `tc:"range=2-300"`
	GoodLimit       *int64   `tc:"range=2-10"`
	BadLimit        *int64   `tc:"range=2-10"`
	HttpCode        *int64   `tc:"range=0-31"`
	HttpCheckDomain *string  `tc:"len=80"`
	HttpCheckPath   *string  `tc:"len=200"`
	HttpCheckMethod *string  `tc:"enum=HEAD|GET"`
	HttpVersion     *string  `tc:"enum=HTTP/1.0|HTTP/1.1"`
	ContextType     *string  `tc:"enum=TEXT|HEX"`
	SendContext     *string  `tc:""`
	RecvContext     *string  `tc:""`
	_               struct{} `unserved:"JumboFrame ExtendedCode"`
}

// apply changes the group's check as asked and validates the outcome.
func (in *groupCheckIn) apply(g *lb.TargetGroup) error {
	if in == nil {
		return nil
	}
	if g.Type != lb.TargetGroupV2 {
		return refuse(lb.Coexist, "HealthCheck", "a v1 group is checked as its listener or rule says", "leave it out, or make the group with Type v2")
	}
	check := healthCheckIn{
		TimeOut: in.Timeout, IntervalTime: in.GapTime, HealthNum: in.GoodLimit, UnHealthNum: in.BadLimit, CheckPort: in.Port, CheckType: in.Protocol,
		HttpCode: in.HttpCode, HttpCheckDomain: in.HttpCheckDomain, HttpCheckPath: in.HttpCheckPath, HttpCheckMethod: in.HttpCheckMethod, HttpVersion: in.HttpVersion,
		ContextType: in.ContextType, SendContext: in.SendContext, RecvContext: in.RecvContext,
	}
	if in.HealthSwitch != nil {
		on := int64(0)
		if *in.HealthSwitch {
			on = 1
		}
		check.HealthSwitch = &on
	}
	err := check.apply(&g.Check, g.Protocol)
	if e := (*lb.Error)(nil); errors.As(err, &e) {
		own := *e
		own.Field, own.Fault, own.Hint = ownNames(e.Field), ownNames(e.Fault), ownNames(e.Hint)
		return &own
	}
	return err
}

// ownNames turns the names of a listener's check into those of a group's.
func ownNames(text string) string {
	return strings.NewReplacer("TimeOut", "Timeout", "IntervalTime", "GapTime", "UnHealthNum", "BadLimit", "HealthNum", "GoodLimit",
		"CheckPort", "Port", "CheckType", "Protocol").Replace(text)
}

type createTargetGroupIn struct {
	TargetGroupName      string        `tc:"len=80"`
	VpcId                string        `tc:""`
	Port                 int64         `tc:"range=0-65535"`
	TargetGroupInstances []memberIn    `tc:"count=0-50"`
	Type                 string        `tc:"only=v1|v2"`
	Protocol             string        `tc:"only=TCP|UDP|HTTP"`
	HealthCheck          *groupCheckIn `tc:""`
	ScheduleAlgorithm    string        `tc:"only=WRR"`
	Tags                 []clbTag      `tc:""`
	Weight               *int64        `tc:"range=0-100"`
	_                    struct{}      `unserved:"FullListenSwitch KeepaliveEnable SessionExpireTime IpVersion SnatEnable"`
}

type createTargetGroupOut struct {
	TargetGroupId string
}

// createTargetGroup makes a group, with members or without. The type v1 is
// checked by the listener or rule that it is associated with, v2 by itself.
func createTargetGroup(c *Call, in *createTargetGroupIn) (*createTargetGroupOut, error) {
	tags, err := tagsOf(in.Tags)
	if err != nil {
		return nil, err
	}
	var id lb.TargetGroupID
	err = c.Update(func(tx *store.Tx) error {
		st := tx.State()
		if st.TargetGroups.Len() >= c.Quotas.TargetGroups {
			return refuse(lb.LimitExceeded, "", fmt.Sprintf("the region has its %s", count(c.Quotas.TargetGroups, "target group")), "delete one")
		}
		network, err := c.balancerVPC(tx, in.VpcId)
		if err != nil {
			return err
		}
		g := &lb.TargetGroup{ID: makeID(c, "lbtg-", st.TargetGroups), Name: in.TargetGroupName, VPC: network, Type: lb.TargetGroupV1, Port: uint16(in.Port), Created: c.Now().UTC(), Tags: tags}
		if err := in.fill(g); err != nil {
			return err
		}
		if in.Port == 0 && len(in.TargetGroupInstances) == 0 {
			return refuse(lb.Missing, "Port", "neither a default port nor members are given", "give Port, or TargetGroupInstances with ports")
		}
		if len(in.TargetGroupInstances) > 0 {
			if err := c.join(tx, g, in.TargetGroupInstances); err != nil {
				return err
			}
		}
		g.Updated = g.Created
		tx.PutTargetGroup(g)
		id = g.ID
		return nil
	})
	return &createTargetGroupOut{TargetGroupId: string(id)}, err
}

// fill sets what depends on the group's type.
func (in *createTargetGroupIn) fill(g *lb.TargetGroup) error {
	if g.Name == "" {
		g.Name = string(g.ID)
	}
	if err := checkGroupName(g.Name); err != nil {
		return err
	}
	if in.Type != "v2" {
		for _, f := range []struct {
			name  string
			given bool
		}{{"Protocol", in.Protocol != ""}, {"ScheduleAlgorithm", in.ScheduleAlgorithm != ""}, {"Weight", in.Weight != nil}} {
			if f.given {
				return refuse(lb.Coexist, f.name, "a v1 group takes it from its listener or rule", "leave it out, or set Type v2")
			}
		}
		return in.HealthCheck.apply(g)
	}
	if in.Protocol == "" {
		return refuse(lb.Missing, "Protocol", "a v2 group goes with one protocol", "use TCP, UDP or HTTP")
	}
	g.Type, g.Protocol = lb.TargetGroupV2, lb.ListenerProtocol(in.Protocol)
	g.Check = lb.DefaultCheck(g.Protocol)
	if err := noAlgorithm(g, in.ScheduleAlgorithm); err != nil {
		return err
	}
	setGroupWeight(g, in.Weight)
	return in.HealthCheck.apply(g)
}

// checkGroupName refuses names that the published rule does not allow.
func checkGroupName(name string) error {
	switch {
	case name == "":
		return refuse(lb.Invalid, "TargetGroupName", "a name has 1 to 80 characters", "leave it out to keep the name")
	}
	return nil
}

// noAlgorithm refuses to be asked for an algorithm where there is none to
// choose: at layer 4 the listener has it.
func noAlgorithm(g *lb.TargetGroup, given string) error {
	if given != "" && !g.Protocol.Layer7() {
		return refuse(lb.Coexist, "ScheduleAlgorithm", "only a v2 group of HTTP has one", "leave it out")
	}
	return nil
}

type modifyTargetGroupAttributeIn struct {
	TargetGroupId     string        `tc:"required"`
	TargetGroupName   *string       `tc:"len=80"`
	Port              *int64        `tc:"range=1-65535"`
	ScheduleAlgorithm string        `tc:"only=WRR"`
	HealthCheck       *groupCheckIn `tc:""`
	Weight            *int64        `tc:"range=0-100"`
	_                 struct{}      `unserved:"KeepaliveEnable SessionExpireTime SnatEnable"`
}

// modifyTargetGroupAttribute changes a group. Default port and weight count
// for members that come later.
func modifyTargetGroupAttribute(c *Call, in *modifyTargetGroupAttributeIn) (*done, error) {
	return nil, c.changeGroup(in.TargetGroupId, func(_ *store.Tx, g *lb.TargetGroup) error {
		if in.TargetGroupName != nil {
			if err := checkGroupName(*in.TargetGroupName); err != nil {
				return err
			}
			g.Name = *in.TargetGroupName
		}
		if in.Port != nil {
			g.Port = uint16(*in.Port)
		}
		if in.Weight != nil && g.Type != lb.TargetGroupV2 {
			return refuse(lb.Coexist, "Weight", "a v1 group has no default weight", "give each member its own")
		}
		setGroupWeight(g, in.Weight)
		if err := noAlgorithm(g, in.ScheduleAlgorithm); err != nil {
			return err
		}
		return in.HealthCheck.apply(g)
	})
}

type deleteTargetGroupsIn struct {
	TargetGroupIds []string `tc:"required,count=1-20"`
}

// deleteTargetGroups deletes groups that nothing is associated with.
func deleteTargetGroups(c *Call, in *deleteTargetGroupsIn) (*done, error) {
	return nil, c.Update(func(tx *store.Tx) error {
		for _, id := range in.TargetGroupIds {
			g, err := findTargetGroup(tx.State(), "TargetGroupIds", id)
			if err != nil {
				return err
			}
			if bound := associations(tx, g.ID); len(bound) > 0 {
				return refuse(lb.InUse, "TargetGroupIds", fmt.Sprintf("%s is associated with listener %s", id, bound[0].listener.ID), "call DisassociateTargetGroups first")
			}
			tx.DeleteTargetGroup(g.ID)
		}
		return nil
	})
}

func findTargetGroup(st *lb.State, field, id string) (*lb.TargetGroup, error) {
	if g := st.TargetGroups.Get(lb.TargetGroupID(id)); g != nil {
		return g, nil
	}
	return nil, refuse(lb.NotFound, field, fmt.Sprintf("there is no target group %q", clip(id, 40)), "DescribeTargetGroups lists them")
}

// changeGroup edits a group in one transaction, and with it all listeners and
// rules that are associated with it.
func (c *Call) changeGroup(id string, edit func(tx *store.Tx, g *lb.TargetGroup) error) error {
	return c.Update(func(tx *store.Tx) error {
		old, err := findTargetGroup(tx.State(), "TargetGroupId", id)
		if err != nil {
			return err
		}
		g := *old
		g.Members = slices.Clone(old.Members)
		if err := edit(tx, &g); err != nil {
			return err
		}
		g.Updated = c.Now().UTC()
		tx.PutTargetGroup(&g)
		return spread(tx, &g)
	})
}

// setGroupWeight sets the weight of members that name none, if it is given.
func setGroupWeight(g *lb.TargetGroup, given *int64) {
	if given != nil {
		weight := int(*given)
		g.Weight = &weight
	}
}
