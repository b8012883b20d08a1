// SPDX-License-Identifier: Apache-2.0

package cloudapi

import (
	"fmt"
	"net/netip"
	"time"

	"github.com/sallyport/sallyport/internal/lb"
	"github.com/sallyport/sallyport/internal/store"
)

// importActions take in what can no longer be bought: classic load balancers,
// and whatever stands in the basic network.
func importActions() []Action {
	return []Action{
		action(serviceSallyport, "ImportLoadBalancer", importLoadBalancer).
			fails("InvalidParameterCombination", "InvalidParameterValue", "LimitExceeded", "MissingParameter"),
		action(serviceSallyport, "ImportInstances", importInstances).
			fails("InvalidSecurityGroupId.NotFound"),
	}
}

// The networks that an import names.
const (
	networkVPC   = "VPC"
	networkBasic = "BASIC"
)

type importLoadBalancerIn struct {
	LoadBalancerType string   `tc:"required,enum=OPEN|INTERNAL"`
	LoadBalancerName string   `tc:"len=80"`
	Forward          *int64   `tc:"range=0-1"`      // 0: classic; 1, the default: as they are sold today
	Network          string   `tc:"enum=VPC|BASIC"` // VPC when it is not given
	VpcId            string   `tc:""`
	SubnetId         string   `tc:""`
	Vip              string   `tc:""`
	CreateTime       string   `tc:""` // "2016-12-04 15:59:59" in UTC, or RFC 3339; now when it is not given
	Tags             []clbTag `tc:""`
	_                struct{} `unserved:"Snat SecurityGroups"`
}

type importLoadBalancerOut struct{ LoadBalancerId string }

// importLoadBalancer makes a load balancer of any kind there ever was. Its
// listeners and targets are made with the actions of clb. Clients keep their
// own address with every kind, so Snat is refused.
func importLoadBalancer(c *Call, in *importLoadBalancerIn) (*importLoadBalancerOut, error) {
	if err := checkBalancerName(in.LoadBalancerName); err != nil {
		return nil, err
	}
	created, err := c.importTime(in.CreateTime)
	if err != nil {
		return nil, err
	}
	tags, err := tagsOf(in.Tags)
	if err != nil {
		return nil, err
	}
	out := &importLoadBalancerOut{}
	err = c.Update(func(tx *store.Tx) error {
		b := &lb.LoadBalancer{
			ID: makeID(c, "lb-", tx.State().Balancers), Type: lb.BalancerType(in.LoadBalancerType),
			Classic: in.Forward != nil && *in.Forward == 0, Created: created, Tags: tags,
		}
		if in.Network == networkBasic {
			err = c.placeBasic(tx, b, in.VpcId, in.SubnetId, in.Vip)
		} else {
			err = c.place(tx, b, in.VpcId, in.SubnetId, in.Vip, false)
		}
		if err != nil {
			return err
		}
		nameBalancer(tx.State(), b, in.LoadBalancerName)
		b.Num = tx.NextNum()
		tx.PutBalancer(b)
		out.LoadBalancerId = string(b.ID)
		return nil
	})
	return out, err
}

// importTime reads when an imported object was made.
func (c *Call) importTime(text string) (time.Time, error) {
	now := c.Now().UTC()
	if text == "" {
		return now, nil
	}
	for _, layout := range []string{time.DateTime, time.RFC3339} {
		if t, err := time.Parse(layout, text); err == nil {
			if t.After(now) {
				return t, refuse(lb.Invalid, "CreateTime", text+" is yet to come", "leave it out for now")
			}
			return t.UTC(), nil
		}
	}
	return now, refuse(lb.Malformed, "CreateTime", fmt.Sprintf("%q is not a time", clip(text, 40)), `write "2016-12-04 15:59:59" (UTC) or "2016-12-04T23:59:59+08:00"`)
}

// placeBasic gives a new load balancer its VIP in the basic network.
func (c *Call) placeBasic(tx *store.Tx, b *lb.LoadBalancer, network, subnet, vip string) error {
	st := tx.State()
	for _, f := range []struct{ field, given string }{{"VpcId", network}, {"SubnetId", subnet}} {
		if f.given != "" {
			return refuse(lb.Coexist, f.field, "the basic network is outside any VPC", "leave it out, or use Network VPC")
		}
	}
	if err := c.checkBalancerQuota(st, b.Type); err != nil {
		return err
	}
	var err error
	picked := netip.Addr{}
	if b.Private() {
		picked, err = pickPrivate(basicPlan(st), lb.BasicNetwork(), "the basic network", vip)
	} else {
		picked, err = c.pickVIP(st, vip, false)
	}
	b.VIPs = []netip.Addr{picked}
	return err
}

// basicPlan hands out addresses of the basic network.
func basicPlan(st *lb.State) *addressPlan {
	return newAddressPlan(st, &lb.Subnet{ID: "the basic network", Cidr: lb.BasicNetwork()})
}

type importInstancesIn struct {
	InstanceName     string   `tc:""`
	InstanceCount    *int64   `tc:"range=1-100"`
	SecurityGroupIds []string `tc:""`
	PublicIpAssigned bool     `tc:""`
}

// importInstances makes instances in the basic network, which RunInstances
// knows no way to name.
func importInstances(c *Call, in *importInstancesIn) (*runInstancesOut, error) {
	run := runInstancesIn{InstanceName: in.InstanceName, InstanceCount: in.InstanceCount, SecurityGroupIds: in.SecurityGroupIds}
	run.InternetAccessible.PublicIpAssigned = in.PublicIpAssigned
	if err := instanceName("InstanceName", in.InstanceName); err != nil {
		return nil, err
	}
	out := &runInstancesOut{}
	err := c.Update(func(tx *store.Tx) error {
		out.InstanceIdSet = nil
		return run.makeIn(c, tx, &lb.Subnet{Cidr: lb.BasicNetwork()}, nil, out)
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}
