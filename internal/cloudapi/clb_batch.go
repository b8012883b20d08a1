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

func clbBatchActions() []Action {
	return []Action{
		action(serviceCLB, "BatchRegisterTargets", batchRegisterTargets).fails("InvalidParameterValue", "InvalidParameter.LBIdNotFound", "InvalidParameter.ListenerIdNotFound", "InvalidParameter.LocationNotFound", "InvalidParameterValue.Length", "InvalidParameterValue.Duplicate").
			like(`{"LoadBalancerId":"lb-1a2b3c4d","Targets":[{"ListenerId":"lbl-1a2b3c4d","InstanceId":"ins-1a2b3c4d","Port":80}]}`),
		action(serviceCLB, "BatchDeregisterTargets", batchDeregisterTargets).fails("InvalidParameterValue.Duplicate", "InvalidParameter.LBIdNotFound", "InvalidParameter.ListenerIdNotFound", "InvalidParameterValue.Length").
			like(`{"LoadBalancerId":"lb-1a2b3c4d","Targets":[{"ListenerId":"lbl-1a2b3c4d","InstanceId":"ins-1a2b3c4d","Port":80}]}`),
		action(serviceCLB, "BatchModifyTargetWeight", batchModifyTargetWeight).fails("InvalidParameter.LBIdNotFound", "InvalidParameter.ListenerIdNotFound", "InvalidParameter.LocationNotFound", "InvalidParameterValue.Length"),
		action(serviceCLB, "SetLoadBalancerStartStatus", setLoadBalancerStartStatus).fails("InvalidParameter.LBIdNotFound", "InvalidParameter.ListenerIdNotFound", "FailedOperation.NoListenerInLB"),
		action(serviceCLB, "ModifyLoadBalancersProject", modifyLoadBalancersProject).fails("InvalidParameter.LBIdNotFound", "InvalidParameterValue.Length"),
	}
}

// Published bounds of the batch calls.
const (
	maxBatch        = 500 // targets of one call
	maxBatchPlaces  = 100 // listeners and rules of BatchModifyTargetWeight
	maxBatchTargets = 50  // of each of those
)

// A batchTargetIn is a target together with where it is bound.
type batchTargetIn struct {
	ListenerId string   `tc:"required"`
	Port       int64    `tc:"required,range=1-65535"`
	InstanceId string   `tc:""`
	EniIp      string   `tc:""` // of the instance, in its place
	Weight     *int64   `tc:"range=0-100"`
	LocationId string   `tc:""`
	_          struct{} `unserved:"Tag"`
}

type batchTargetsIn struct {
	LoadBalancerId string          `tc:"required"`
	Targets        []batchTargetIn `tc:"required,count=1-500"`
}

// batchTargetsOut names the listeners where nothing was changed, and why.
type batchTargetsOut struct {
	FailListenerIdSet []string
	Message           string
}

// A batchPlace is the part of a batch that goes to one listener or rule.
type batchPlace struct {
	listener, location string
	targets            []targetIn
	index              []int // of the targets in the call
}

func (p *batchPlace) field(i int) string { return fmt.Sprintf("Targets.%d.", p.index[i]) }

// places groups a batch by listener and rule, in order of first naming.
func (in *batchTargetsIn) places() ([]batchPlace, error) {
	var all []batchPlace
	at := map[[2]string]int{}
	seen := map[batchTargetIn]bool{}
	for i, t := range in.Targets {
		field := fmt.Sprintf("Targets.%d.", i)
		target := targetIn{InstanceId: t.InstanceId, EniIp: t.EniIp, Port: t.Port, Weight: t.Weight}
		if err := target.checkName(field); err != nil {
			return nil, err
		}
		id := t
		id.Weight = nil
		if seen[id] {
			return nil, target.twice(field)
		}
		seen[id] = true
		key := [2]string{t.ListenerId, t.LocationId}
		n, ok := at[key]
		if !ok {
			n = len(all)
			at[key] = n
			all = append(all, batchPlace{listener: t.ListenerId, location: t.LocationId})
		}
		all[n].targets = append(all[n].targets, target)
		all[n].index = append(all[n].index, i)
	}
	return all, nil
}

// batch runs fn on every place of the batch in one transaction. A place that
// does not exist refuses the whole call; a place whose targets are refused
// stays as it was, with all others of its listener, and is named in the answer.
func (in *batchTargetsIn) batch(c *Call, fn func(tx *store.Tx, l *lb.Listener, targets *[]lb.Target, part *batchPlace) error) (*batchTargetsOut, error) {
	places, err := in.places()
	if err != nil {
		return nil, err
	}
	var out *batchTargetsOut
	err = c.Update(func(tx *store.Tx) error {
		out = &batchTargetsOut{}
		var faults []string
		for _, listener := range listenersNamed(places) {
			l, err := changeListener(tx.State(), in.LoadBalancerId, listener)
			if err != nil {
				at := slices.IndexFunc(in.Targets, func(t batchTargetIn) bool { return t.ListenerId == listener })
				return renamed(err, "ListenerId", fmt.Sprintf("Targets.%d.ListenerId", at))
			}
			fault, err := changePlaces(tx, l, places, fn)
			if err != nil {
				return err
			}
			if fault != nil {
				out.FailListenerIdSet = append(out.FailListenerIdSet, listener)
				faults = append(faults, listener+": "+fault.Error())
				continue
			}
			tx.PutListener(l)
		}
		out.Message = strings.Join(faults, " | ")
		return nil
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

func listenersNamed(places []batchPlace) []string {
	var all []string
	seen := map[string]bool{}
	for _, p := range places {
		if !seen[p.listener] {
			seen[p.listener] = true
			all = append(all, p.listener)
		}
	}
	return all
}

// changePlaces runs fn on the places of one listener. fault is why its targets
// are refused; err refuses the whole call.
func changePlaces(tx *store.Tx, l *lb.Listener, places []batchPlace, fn func(*store.Tx, *lb.Listener, *[]lb.Target, *batchPlace) error) (fault, err error) {
	for i := range places {
		p := &places[i]
		if p.listener != string(l.ID) {
			continue
		}
		targets, err := placeTargets(l, p.location, "", "")
		if err != nil {
			return nil, renamed(err, "LocationId", p.field(0)+"LocationId", "ListenerId", p.field(0)+"ListenerId")
		}
		if err := fn(tx, l, targets, p); err != nil {
			if !ofTargets(err) {
				return nil, err
			}
			return err, nil
		}
	}
	return nil, nil
}

// ofTargets reports whether an error is a refusal, not a failure of ours.
func ofTargets(err error) bool {
	refusal, coded := (*lb.Error)(nil), (*Error)(nil)
	return errors.As(err, &refusal) || errors.As(err, &coded)
}

func batchRegisterTargets(c *Call, in *batchTargetsIn) (*batchTargetsOut, error) {
	return in.batch(c, func(tx *store.Tx, l *lb.Listener, targets *[]lb.Target, part *batchPlace) error {
		return c.bindTargets(tx, l, targets, part.targets, part.field)
	})
}

func batchDeregisterTargets(c *Call, in *batchTargetsIn) (*batchTargetsOut, error) {
	return in.batch(c, func(tx *store.Tx, l *lb.Listener, targets *[]lb.Target, part *batchPlace) error {
		return unbindTargets(tx, l, targets, part.targets, part.field)
	})
}

type weightRuleIn struct {
	ListenerId string     `tc:"required"`
	Targets    []targetIn `tc:"required,count=1-50"`
	LocationId string     `tc:""`
	Domain     string     `tc:""`
	Url        string     `tc:""`
	Weight     *int64     `tc:"range=0-100"`
}

type batchModifyTargetWeightIn struct {
	LoadBalancerId string         `tc:"required"`
	ModifyList     []weightRuleIn `tc:"required,count=1-100"`
}

// batchModifyTargetWeight is modifyTargetWeight for several listeners and
// rules in one transaction: all of them or none.
func batchModifyTargetWeight(c *Call, in *batchModifyTargetWeightIn) (*done, error) {
	total := 0
	for i, m := range in.ModifyList {
		field := fmt.Sprintf("ModifyList.%d.", i)
		if err := checkTargets(field+"Targets", m.Targets); err != nil {
			return nil, err
		}
		if total += len(m.Targets); total > maxBatch {
			return nil, refuse(lb.TooLong, "ModifyList", fmt.Sprintf("more than %d targets in all", maxBatch), "call several times")
		}
	}
	return nil, c.Update(func(tx *store.Tx) error {
		for i, m := range in.ModifyList {
			at := fmt.Sprintf("ModifyList.%d.", i)
			l, err := changeListener(tx.State(), in.LoadBalancerId, m.ListenerId)
			if err != nil {
				return renamed(err, "ListenerId", at+"ListenerId")
			}
			targets, err := placeTargets(l, m.LocationId, m.Domain, m.Url)
			if err != nil {
				return renamed(err, "LocationId", at+"LocationId", "ListenerId", at+"ListenerId")
			}
			if err := weigh(tx, l, *targets, m.Targets, m.Weight, func(n int) string { return fmt.Sprintf("%sTargets.%d.", at, n) }); err != nil {
				return err
			}
			tx.PutListener(l)
		}
		return nil
	})
}
