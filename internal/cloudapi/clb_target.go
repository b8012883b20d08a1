// SPDX-License-Identifier: Apache-2.0

package cloudapi

import (
	"fmt"
	"slices"

	"github.com/sallyport/sallyport/internal/lb"
	"github.com/sallyport/sallyport/internal/store"
)

type targetIn struct {
	InstanceId string   `tc:"required"`
	Port       int64    `tc:"required"`
	Weight     *int64   `tc:""`
	Type       string   `tc:"only=CVM"`
	_          struct{} `unserved:"EniIp Tag"`
}

// targetPlace names a listener, and at layer 7 one of its rules.
type targetPlace struct {
	LoadBalancerId string `tc:"required"`
	ListenerId     string `tc:"required"`
	LocationId     string `tc:""`
	Domain         string `tc:""`
	Url            string `tc:""`
}

// edit runs fn on the place's targets in one transaction and stores them.
func (in *targetPlace) edit(c *Call, fn func(tx *store.Tx, targets *[]lb.Target) error) error {
	return c.Update(func(tx *store.Tx) error {
		l, err := changeListener(tx.State(), in.LoadBalancerId, in.ListenerId)
		if err != nil {
			return err
		}
		targets := &l.Targets
		switch {
		case l.Protocol.Layer7():
			r, err := findRule(l, in.LocationId, in.Domain, in.Url)
			if err != nil {
				return err
			}
			targets = &r.Targets
		case in.LocationId != "" || in.Domain != "" || in.Url != "":
			return errorf("InvalidParameter.LocationNotFound", "LocationId: %s is a %s listener, which has no rules; leave it out", l.ID, l.Protocol)
		}
		if err := fn(tx, targets); err != nil {
			return err
		}
		tx.PutListener(l)
		return nil
	})
}

type targetsIn struct {
	targetPlace
	Targets []targetIn `tc:"required"`
}

// check refuses lists that are empty, out of range or name a target twice.
func (in *targetsIn) check() error {
	if len(in.Targets) == 0 {
		return refuse(lb.Missing, "Targets", "no target is given", "give at least one")
	}
	for i, t := range in.Targets {
		field := fmt.Sprintf("Targets.%d.", i)
		if t.Port < 1 || t.Port > 65535 {
			return refuse(lb.Range, field+"Port", fmt.Sprintf("%d is outside 1-65535", t.Port), "give a port within it")
		}
		if err := checkWeight(field+"Weight", t.Weight); err != nil {
			return err
		}
		for _, earlier := range in.Targets[:i] {
			if earlier.InstanceId == t.InstanceId && earlier.Port == t.Port {
				return refuse(lb.Duplicate, field+"Port", fmt.Sprintf("%s port %d is named twice", clip(t.InstanceId, 40), t.Port), "name each target once")
			}
		}
	}
	return nil
}

func checkWeight(field string, w *int64) error {
	if w != nil && (*w < 0 || *w > 100) {
		return refuse(lb.Range, field, fmt.Sprintf("%d is outside 0-100", *w), "0 means no new flows")
	}
	return nil
}

// find is the target's place in the list, or -1.
func (t *targetIn) find(targets []lb.Target) int {
	return slices.IndexFunc(targets, func(have lb.Target) bool {
		return have.Instance == lb.InstanceID(t.InstanceId) && int64(have.Port) == t.Port
	})
}

const defaultWeight = 10

func registerTargets(c *Call, in *targetsIn) (*done, error) {
	if err := in.check(); err != nil {
		return nil, err
	}
	return nil, in.edit(c, func(tx *store.Tx, targets *[]lb.Target) error {
		st := tx.State()
		network := st.Balancers[lb.BalancerID(in.LoadBalancerId)].VPC
		for i, t := range in.Targets {
			field := fmt.Sprintf("Targets.%d.", i)
			instance := st.Instances[lb.InstanceID(t.InstanceId)]
			switch {
			case instance == nil || instance.State == lb.Terminating:
				return refuse(lb.NotFound, field+"InstanceId", fmt.Sprintf("there is no instance %q", clip(t.InstanceId, 40)), "DescribeInstances lists them")
			case instance.VPC != network:
				return refuse(lb.Invalid, field+"InstanceId", fmt.Sprintf("%s is in %s, the load balancer in %s", t.InstanceId, instance.VPC, network), "both must be in one VPC")
			case t.find(*targets) >= 0:
				return refuse(lb.Duplicate, field+"Port", fmt.Sprintf("%s port %d is bound already", t.InstanceId, t.Port), "ModifyTargetWeight changes its weight")
			case len(*targets) >= c.Quotas.TargetsPerListener:
				return refuse(lb.LimitExceeded, "Targets", fmt.Sprintf("a listener or rule has at most %s", count(c.Quotas.TargetsPerListener, "target")), "unbind one")
			}
			weight := defaultWeight
			setInt(&weight, t.Weight)
			*targets = append(*targets, lb.Target{Num: tx.NextNum(), Instance: instance.ID, Port: uint16(t.Port), Weight: weight, Registered: c.Now().UTC()})
		}
		return nil
	})
}

// errNotBound has the code that clients take for "already gone".
func errNotBound(i int, t targetIn) error {
	return errorf("InvalidParameter", "Targets.%d: %s port %d is not bound here; DescribeTargets lists them", i, clip(t.InstanceId, 40), t.Port)
}

func deregisterTargets(c *Call, in *targetsIn) (*done, error) {
	if err := in.check(); err != nil {
		return nil, err
	}
	return nil, in.edit(c, func(_ *store.Tx, targets *[]lb.Target) error {
		for i, t := range in.Targets {
			at := t.find(*targets)
			if at < 0 {
				return errNotBound(i, t)
			}
			*targets = slices.Delete(*targets, at, at+1)
		}
		return nil
	})
}

type modifyTargetWeightIn struct {
	targetsIn
	Weight *int64 `tc:""`
}

// modifyTargetWeight gives every target its own Weight, or else the call's, or
// else the default.
func modifyTargetWeight(c *Call, in *modifyTargetWeightIn) (*done, error) {
	if err := in.check(); err != nil {
		return nil, err
	}
	if err := checkWeight("Weight", in.Weight); err != nil {
		return nil, err
	}
	return nil, in.edit(c, func(_ *store.Tx, targets *[]lb.Target) error {
		for i, t := range in.Targets {
			at := t.find(*targets)
			if at < 0 {
				return errNotBound(i, t)
			}
			weight := defaultWeight
			setInt(&weight, in.Weight)
			setInt(&weight, t.Weight)
			(*targets)[at].Weight = weight
		}
		return nil
	})
}

type modifyTargetPortIn struct {
	targetsIn
	NewPort int64 `tc:"required"`
}

// modifyTargetPort moves targets to another port of their instance. A moved
// target gets a new number: flows of the old port are not its own.
func modifyTargetPort(c *Call, in *modifyTargetPortIn) (*done, error) {
	if err := in.check(); err != nil {
		return nil, err
	}
	if in.NewPort < 1 || in.NewPort > 65535 {
		return nil, refuse(lb.Range, "NewPort", fmt.Sprintf("%d is outside 1-65535", in.NewPort), "give a port within it")
	}
	return nil, in.edit(c, func(tx *store.Tx, targets *[]lb.Target) error {
		for i, t := range in.Targets {
			at := t.find(*targets)
			if at < 0 {
				return errNotBound(i, t)
			}
			if t.Port == in.NewPort {
				continue
			}
			moved := targetIn{InstanceId: t.InstanceId, Port: in.NewPort}
			if moved.find(*targets) >= 0 {
				return refuse(lb.Duplicate, "NewPort", fmt.Sprintf("%s port %d is bound already", t.InstanceId, in.NewPort), "choose another port")
			}
			(*targets)[at].Port, (*targets)[at].Num = uint16(in.NewPort), tx.NextNum()
		}
		return nil
	})
}

type describeTargetsIn struct {
	listenerChoice
	_ struct{} `unserved:"Filters"`
}

type describeTargetsOut struct {
	Listeners []listenerBackend
}

// listenerBackend is a listener's entry, present even without targets.
type listenerBackend struct {
	ListenerId, Protocol string
	Port, EndPort        int
	Rules                []ruleTargets
	Targets              []backendOut
}

type ruleTargets struct {
	LocationId, Domain, Url string
	Targets                 []backendOut
}

type backendOut struct {
	Type, InstanceId, InstanceName, RegisteredTime string
	Port, Weight                                   int
	PublicIpAddresses, PrivateIpAddresses          []string
	EniId, Tag                                     *string
	Zone                                           string
}

func describeTargets(c *Call, in *describeTargetsIn) (*describeTargetsOut, error) {
	st := c.State()
	listeners, err := in.choose(st)
	if err != nil {
		return nil, err
	}
	out := &describeTargetsOut{}
	for _, l := range listeners {
		entry := listenerBackend{ListenerId: string(l.ID), Protocol: string(l.Protocol), Port: int(l.Port), Targets: c.showTargets(st, l.Targets)}
		for _, r := range l.Rules {
			entry.Rules = append(entry.Rules, ruleTargets{string(r.ID), r.Domain, r.URL, c.showTargets(st, r.Targets)})
		}
		out.Listeners = append(out.Listeners, entry)
	}
	return out, nil
}

func (c *Call) showTargets(st *lb.State, targets []lb.Target) []backendOut {
	var all []backendOut
	for _, t := range targets {
		b := backendOut{Type: "CVM", InstanceId: string(t.Instance), Port: int(t.Port), Weight: t.Weight, RegisteredTime: stamp(t.Registered), Zone: c.Zone()}
		if i := st.Instances[t.Instance]; i != nil {
			b.InstanceName, b.PrivateIpAddresses = i.Name, []string{i.Private.String()}
			if i.Public.IsValid() {
				b.PublicIpAddresses = []string{i.Public.String()}
			}
		}
		all = append(all, b)
	}
	return all
}
