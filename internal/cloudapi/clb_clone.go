// SPDX-License-Identifier: Apache-2.0

package cloudapi

import (
	"fmt"
	"maps"
	"slices"

	"github.com/sallyport/sallyport/internal/lb"
	"github.com/sallyport/sallyport/internal/store"
)

func cloneActions() []Action {
	return []Action{
		action(serviceCLB, "CloneLoadBalancer", cloneLoadBalancer).fails("InvalidParameter.LBIdNotFound", "InvalidParameterValue", "InvalidParameterValue.Length", "InvalidParameter.FormatError", "LimitExceeded", "UnsupportedOperation"),
	}
}

type cloneLoadBalancerIn struct {
	LoadBalancerId     string              `tc:"required"`
	LoadBalancerName   string              `tc:"len=80"`
	MasterZoneId       string              `tc:""`
	ZoneId             string              `tc:""`
	Vip                string              `tc:""`
	Tags               []clbTag            `tc:""`
	ProjectId          *int64              `tc:"echo,range=0-"`
	InternetAccessible *internetAccessible `tc:"echo"`
	_                  struct{}            `unserved:"SlaveZoneId VipIsp ExclusiveCluster BandwidthPackageId SnatPro SnatIps ClusterIds SlaType ClusterTag Zones EipAddressId"`
}

// cloneLoadBalancer makes a load balancer of the same kind in the same network,
// with the same groups, listeners, rules, targets and redirects. Its VIP, ids
// and numbers are its own; name, project and tags are those of the call. The
// task tells its id.
func cloneLoadBalancer(c *Call, in *cloneLoadBalancerIn) (*done, error) {
	if err := checkBalancerName(in.LoadBalancerName); err != nil {
		return nil, err
	}
	for _, zone := range []struct{ field, name string }{{"MasterZoneId", in.MasterZoneId}, {"ZoneId", in.ZoneId}} {
		if zone.name != "" && zone.name != c.Zone() {
			return nil, refuse(lb.Invalid, zone.field, fmt.Sprintf("there is no zone %q", clip(zone.name, 40)), "the region's zone is "+c.Zone())
		}
	}
	tags, err := tagsOf(in.Tags)
	if err != nil {
		return nil, err
	}
	return nil, c.Update(func(tx *store.Tx) error {
		old, err := findBalancer(tx.State(), in.LoadBalancerId)
		if err != nil {
			return err
		}
		if old.Classic || old.Basic() {
			return refuse(lb.Unsupported, "LoadBalancerId", fmt.Sprintf("%s is classic or in the basic network, where none can be made", old.ID), "clone one that is in a VPC")
		}
		b := &lb.LoadBalancer{ID: makeID(c, "lb-", tx.State().Balancers), Type: old.Type, PassToTarget: old.PassToTarget, Keep: old.Keep, ReturnPath: old.ReturnPath,
			Groups: slices.Clone(old.Groups), Created: c.Now().UTC(), Tags: tags, Echo: cloneEcho(old.Echo, c.Echo)}
		if err := c.place(tx, b, string(old.VPC), string(old.Subnet), in.Vip, old.IPv6()); err != nil {
			return err
		}
		nameBalancer(tx.State(), b, in.LoadBalancerName)
		b.Num = tx.NextNum()
		tx.PutBalancer(b)
		c.cloneListeners(tx, old.ID, b.ID)
		c.made = []string{string(b.ID)}
		return nil
	})
}

// cloneEcho is what is stored without effect: what the call gives, else what
// the original has; the project is the call's or the default one.
func cloneEcho(old, given map[string]string) map[string]string {
	echo := maps.Clone(old)
	if echo == nil {
		echo = map[string]string{}
	}
	delete(echo, "ProjectId")
	maps.Copy(echo, given)
	return echo
}

// cloneListeners copies listeners with all that is theirs, and redirects from
// and to the copies.
func (c *Call) cloneListeners(tx *store.Tx, from, to lb.BalancerID) {
	var copies []*lb.Listener
	listeners, rules := map[lb.ListenerID]lb.ListenerID{}, map[lb.LocationID]lb.LocationID{}
	for _, old := range listenersIn(tx, from) {
		l := copyListener(old)
		l.ID, l.Num, l.Balancer, l.Created = newID("lbl-", tx.State().Listeners), tx.NextNum(), to, c.Now().UTC()
		listeners[old.ID] = l.ID
		c.renumber(tx, l.Targets)
		for i := range l.Rules {
			r := &l.Rules[i]
			id := newLocation(c, tx, l)
			rules[r.ID] = id
			r.ID, r.Created = id, l.Created
			c.renumber(tx, r.Targets)
		}
		tx.PutListener(l) // takes the id; the redirects are put in below
		copies = append(copies, l)
	}
	for _, l := range copies {
		for i := range l.Rules {
			if l.Rules[i].Rewrite == nil {
				continue
			}
			rewrite := *l.Rules[i].Rewrite
			rewrite.Listener, rewrite.Location = listeners[rewrite.Listener], rules[rewrite.Location]
			l.Rules[i].Rewrite = &rewrite
		}
		tx.PutListener(l)
	}
}

func (c *Call) renumber(tx *store.Tx, targets []lb.Target) {
	for i := range targets {
		targets[i].Num, targets[i].Registered = tx.NextNum(), c.Now().UTC()
	}
}
