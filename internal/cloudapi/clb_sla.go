// SPDX-License-Identifier: Apache-2.0

package cloudapi

import (
	"fmt"

	"github.com/sallyport/sallyport/internal/lb"
	"github.com/sallyport/sallyport/internal/store"
)

func clbSlaActions() []Action {
	return []Action{
		action(serviceCLB, "ModifyLoadBalancerSla", modifyLoadBalancerSla).fails("InvalidParameter.LBIdNotFound", "InvalidParameterValue.Length"),
		action(serviceCLB, "SetLoadBalancerClsLog", setLoadBalancerClsLog).fails("InvalidParameter.LBIdNotFound"),
	}
}

type slaIn struct {
	LoadBalancerId string `tc:"required"`
	SlaType        string `tc:"required,only="` // shared, the one kind there is
}

type modifyLoadBalancerSlaIn struct {
	LoadBalancerSla []slaIn  `tc:"required,count=1-20"`
	_               struct{} `unserved:"Force"`
}

// modifyLoadBalancerSla leaves load balancers what they are: of the shared
// kind. Others cannot be had, which the schema says.
func modifyLoadBalancerSla(c *Call, in *modifyLoadBalancerSlaIn) (*done, error) {
	return nil, c.Update(func(tx *store.Tx) error {
		for i, sla := range in.LoadBalancerSla {
			if err := c.unchanged(tx, fmt.Sprintf("LoadBalancerSla.%d.", i), sla.LoadBalancerId); err != nil {
				return err
			}
		}
		return nil
	})
}

type setLoadBalancerClsLogIn struct {
	LoadBalancerId string `tc:"required"`
	LogSetId       string `tc:"required,only="`
	LogTopicId     string `tc:"required,only="`
	LogType        string `tc:"enum=ACCESS|HEALTH"` // ACCESS when it is not given
}

// setLoadBalancerClsLog takes a load balancer's logs away, of which there are
// none: no log service is here.
func setLoadBalancerClsLog(c *Call, in *setLoadBalancerClsLogIn) (*done, error) {
	return nil, c.Update(func(tx *store.Tx) error { return c.unchanged(tx, "", in.LoadBalancerId) })
}

// unchanged asks only that the caller may write about a load balancer; to
// whom it is not visible, it is not there. Field names begin with at.
func (c *Call) unchanged(tx *store.Tx, at, id string) error {
	st := tx.State()
	b := st.Balancers.Get(lb.BalancerID(id))
	if b == nil || c.narrow() && narrowed(st, c.Key).Balancers.Get(b.ID) == nil {
		return errorf("InvalidParameter.LBIdNotFound", "%sLoadBalancerId: there is no load balancer %q; DescribeLoadBalancers lists them", at, clip(id, 40))
	}
	return nil
}
