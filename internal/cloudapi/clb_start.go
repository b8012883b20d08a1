// SPDX-License-Identifier: Apache-2.0

package cloudapi

import (
	"slices"
	"strconv"

	"github.com/sallyport/sallyport/internal/lb"
	"github.com/sallyport/sallyport/internal/store"
)

// flagStop is how listeners and load balancers say that they are stopped.
const flagStop = "Stop"

type setLoadBalancerStartStatusIn struct {
	LoadBalancerId string   `tc:"required"`
	OperationType  string   `tc:"required,enum=Start|Stop"`
	ListenerIds    []string `tc:""`
}

// setLoadBalancerStartStatus stops or starts listeners, those named or all of
// them. A stopped listener answers nobody and probes nothing. A load balancer
// is stopped when all its listeners are, so starting one starts it.
func setLoadBalancerStartStatus(c *Call, in *setLoadBalancerStartStatusIn) (*done, error) {
	return nil, c.Update(func(tx *store.Tx) error {
		st := tx.State()
		b, err := findBalancer(st, in.LoadBalancerId)
		if err != nil {
			return err
		}
		all := listenersIn(tx, b.ID)
		if len(all) == 0 {
			return errorf("FailedOperation.NoListenerInLB", "LoadBalancerId: load balancer %s has no listener to stop or start; create one first", b.ID)
		}
		for i, id := range in.ListenerIds {
			if _, err := findListener(st, in.LoadBalancerId, id); err != nil {
				return inList(err, "ListenerIds", i)
			}
		}
		for _, l := range all {
			if len(in.ListenerIds) > 0 && !slices.Contains(in.ListenerIds, string(l.ID)) {
				continue
			}
			changed := *l
			changed.Stopped = in.OperationType == "Stop"
			tx.PutListener(&changed)
		}
		return nil
	})
}

// attributeFlags are a load balancer's switches as reads list them.
func attributeFlags(listeners []*lb.Listener, b *lb.LoadBalancer) []string {
	var flags []string
	if b.Protected {
		flags = append(flags, "DeleteProtect")
	}
	if len(listeners) > 0 && !slices.ContainsFunc(listeners, func(l *lb.Listener) bool { return !l.Stopped }) {
		flags = append(flags, flagStop)
	}
	return flags
}

type modifyLoadBalancersProjectIn struct {
	LoadBalancerIds []string `tc:"required,count=1-20"`
	ProjectId       int64    `tc:"required,range=0-9007199254740991"`
}

// modifyLoadBalancersProject moves load balancers to a project. A project is a
// number that reads return and filters find.
func modifyLoadBalancersProject(c *Call, in *modifyLoadBalancersProjectIn) (*done, error) {
	return nil, c.Update(func(tx *store.Tx) error {
		for i, id := range in.LoadBalancerIds {
			b, err := changeBalancer(tx.State(), id)
			if err != nil {
				return inList(err, "LoadBalancerIds", i)
			}
			b.Echo = withEcho(b.Echo, "ProjectId", strconv.FormatInt(in.ProjectId, 10))
			tx.PutBalancer(b)
		}
		return nil
	})
}
