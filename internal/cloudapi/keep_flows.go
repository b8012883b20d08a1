// SPDX-License-Identifier: Apache-2.0

package cloudapi

import (
	"fmt"
	"slices"

	"github.com/sallyport/sallyport/internal/lb"
	"github.com/sallyport/sallyport/internal/store"
)

// flowKeepingActions are about open flows when rules change: the vendor does not
// say what becomes of them.
func flowKeepingActions() []Action {
	return []Action{
		action(serviceSallyport, "ModifyFlowKeeping", modifyFlowKeeping).fails("InvalidInstanceId.NotFound", "InvalidParameter.LBIdNotFound", "InvalidParameterCombination"),
		action(serviceSallyport, "DescribeFlowKeeping", describeFlowKeeping).fails("InvalidInstanceId.NotFound", "InvalidParameter.LBIdNotFound"),
	}
}

type modifyFlowKeepingIn struct {
	LoadBalancerId string `tc:""` // flows that gate 1 let in
	InstanceId     string `tc:""` // flows that gate 2 let in
	KeepFlows      bool   `tc:""`
}

// modifyFlowKeeping says whether open flows of a load balancer or an instance
// keep their verdict until they are idle when rules change. Switched off, they
// are judged by today's rules at once.
func modifyFlowKeeping(c *Call, in *modifyFlowKeepingIn) (*done, error) {
	if (in.InstanceId == "") == (in.LoadBalancerId == "") {
		return nil, refuse(lb.Coexist, "InstanceId", "one of InstanceId and LoadBalancerId is needed", "give one of the two")
	}
	return &done{}, c.Update(func(tx *store.Tx) error {
		if in.LoadBalancerId != "" {
			b, err := changeBalancer(tx.State(), in.LoadBalancerId)
			if err != nil {
				return err
			}
			b.Keep = in.KeepFlows
			tx.PutBalancer(b)
			return nil
		}
		old := tx.State().Instances.Get(lb.InstanceID(in.InstanceId))
		if old == nil {
			return noInstance(in.InstanceId)
		}
		i := *old
		i.Keep = in.KeepFlows
		tx.PutInstance(&i)
		return nil
	})
}

func noInstance(id string) error {
	return errorf("InvalidInstanceId.NotFound", "InstanceId: there is no instance %s; DescribeInstances lists them", clip(id, 40))
}

type describeFlowKeepingIn struct {
	LoadBalancerIds []string `tc:""`
	InstanceIds     []string `tc:""`
}

type describeFlowKeepingOut struct{ FlowKeepingSet []flowKeepingOut }

// flowKeepingOut is one load balancer's or instance's setting. KeptSince is the
// first revision of the newest changes of its rules that all were told to keep
// open flows; 0: the newest was not.
type flowKeepingOut struct {
	LoadBalancerId, InstanceId string
	KeepFlows                  bool
	KeptSince                  lb.Revision
}

// describeFlowKeeping lists the settings of what is named, of everything
// without names, load balancers first, by id.
func describeFlowKeeping(c *Call, in *describeFlowKeepingIn) (*describeFlowKeepingOut, error) {
	st := c.State()
	for i, id := range in.LoadBalancerIds {
		if _, err := findBalancer(st, id); err != nil {
			return nil, inList(err, "LoadBalancerIds", i)
		}
	}
	for i, id := range in.InstanceIds {
		if st.Instances.Get(lb.InstanceID(id)) == nil {
			return nil, inList(noInstance(id), "InstanceIds", i)
		}
	}
	all := len(in.LoadBalancerIds)+len(in.InstanceIds) == 0
	out := &describeFlowKeepingOut{}
	for _, id := range st.Balancers.Sorted() {
		if b := st.Balancers.Get(id); all || slices.Contains(in.LoadBalancerIds, string(id)) {
			out.FlowKeepingSet = append(out.FlowKeepingSet, flowKeepingOut{LoadBalancerId: string(id), KeepFlows: b.Keep, KeptSince: b.KeptSince})
		}
	}
	for _, id := range st.Instances.Sorted() {
		if i := st.Instances.Get(id); all || slices.Contains(in.InstanceIds, string(id)) {
			out.FlowKeepingSet = append(out.FlowKeepingSet, flowKeepingOut{InstanceId: string(id), KeepFlows: i.Keep, KeptSince: i.KeptSince})
		}
	}
	return out, nil
}

// noteKept writes down, with those whose effective rules a transaction changes,
// that their open flows are to keep their verdict; or, when nobody said so, that
// they are not any more.
func (c *Call) noteKept(tx *store.Tx, before *lb.State) {
	next := tx.State().Revision + 1
	for _, b := range affected(tx, before, changedGroups(tx, before)) {
		if old := tx.State().Balancers.Get(lb.BalancerID(b.id())); old != nil {
			if since, moved := c.keptSince(old.KeptSince, next); moved {
				changed := *old
				changed.KeptSince = since
				tx.PutBalancer(&changed)
			}
		}
		if old := tx.State().Instances.Get(lb.InstanceID(b.id())); old != nil {
			if since, moved := c.keptSince(old.KeptSince, next); moved {
				changed := *old
				changed.KeptSince = since
				tx.PutInstance(&changed)
			}
		}
	}
}

// keptSince is what becomes of an object's note at revision next.
func (c *Call) keptSince(old, next lb.Revision) (since lb.Revision, moved bool) {
	switch {
	case c.keepFlows && old == 0:
		return next, true
	case !c.keepFlows && old != 0:
		return 0, true
	}
	return old, false
}

// id is the object's without its kind.
func (b *binding) id() string {
	var kind, id string
	if n, _ := fmt.Sscanf(b.object, "load balancer %s", &id); n == 1 {
		return id
	}
	fmt.Sscanf(b.object, "%s %s", &kind, &id)
	return id
}
