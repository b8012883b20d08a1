// SPDX-License-Identifier: Apache-2.0

package cloudapi

import (
	"fmt"
	"slices"
	"strings"

	"github.com/sallyport/sallyport/internal/lb"
	"github.com/sallyport/sallyport/internal/store"
)

type targetIn struct {
	InstanceId string   `tc:""`
	Port       int64    `tc:"required,range=1-65535"`
	Weight     *int64   `tc:"range=0-100"`
	Type       string   `tc:"only=CVM|ENI"` // goes with InstanceId, or with EniIp
	EniIp      string   `tc:""`             // of the instance, in its place
	_          struct{} `unserved:"Tag"`
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
func (in *targetPlace) edit(c *Call, fn func(tx *store.Tx, l *lb.Listener, targets *[]lb.Target) error) error {
	return c.Update(func(tx *store.Tx) error {
		l, err := changeListener(tx.State(), in.LoadBalancerId, in.ListenerId)
		if err != nil {
			return err
		}
		targets, err := placeTargets(l, in.LocationId, in.Domain, in.Url)
		if err != nil {
			return err
		}
		if err := fn(tx, l, targets); err != nil {
			return err
		}
		tx.PutListener(l)
		return nil
	})
}

// placeTargets are the targets of a layer-4 listener, or of the rule named.
func placeTargets(l *lb.Listener, location, domain, url string) (*[]lb.Target, error) {
	if !l.Protocol.Layer7() {
		if location != "" || domain != "" || url != "" {
			return nil, errorf("InvalidParameter.LocationNotFound", "LocationId: %s is a %s listener, which has no rules; leave out LocationId, Domain and Url", l.ID, l.Protocol)
		}
		return &l.Targets, boundByThemselves(groupPlace{l, nil})
	}
	r, err := findRule(l, location, domain, url)
	if err != nil {
		return nil, err
	}
	if err := boundByThemselves(groupPlace{l, r}); err != nil {
		return nil, err
	}
	return &r.Targets, nil
}

type targetsIn struct {
	targetPlace
	Targets []targetIn `tc:"required"`
}

// at is how faults begin the names of the i-th target's fields.
func (in *targetsIn) at(i int) string { return fmt.Sprintf("Targets.%d.", i) }

// check refuses lists that are empty, out of range or name a target twice.
func (in *targetsIn) check() error { return checkTargets("Targets", in.Targets) }

func checkTargets(name string, targets []targetIn) error {
	if len(targets) == 0 {
		return refuse(lb.Missing, name, "no target is given", "give at least one")
	}
	for i, t := range targets {
		field := fmt.Sprintf("%s.%d.", name, i)
		if err := t.checkName(field); err != nil {
			return err
		}
		if err := checkPort(field+"Port", t.Port); err != nil {
			return err
		}
		if err := checkWeight(field+"Weight", t.Weight); err != nil {
			return err
		}
		for _, earlier := range targets[:i] {
			if earlier.InstanceId == t.InstanceId && earlier.EniIp == t.EniIp && earlier.Port == t.Port {
				return t.twice(field)
			}
		}
	}
	return nil
}

func checkPort(field string, port int64) error {
	if port < 1 || port > 65535 {
		return refuse(lb.Range, field, fmt.Sprintf("%d is outside 1-65535", port), "choose a port within")
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
	return nil, in.edit(c, func(tx *store.Tx, l *lb.Listener, targets *[]lb.Target) error {
		return c.bindTargets(tx, l, targets, in.Targets, in.at)
	})
}

// bindTargets adds targets that were checked by themselves to a listener or
// one of its rules. field is how a fault names the i-th, such as "Targets.0.".
func (c *Call) bindTargets(tx *store.Tx, l *lb.Listener, targets *[]lb.Target, given []targetIn, field func(i int) string) error {
	st := tx.State()
	network := st.Balancers.Get(l.Balancer).VPC
	given, err := byInstance(tx, l, given, field)
	if err != nil {
		return err
	}
	for i, t := range given {
		at := field(i)
		instance := st.Instances.Get(lb.InstanceID(t.InstanceId))
		switch {
		case t.EniIp != "" && (instance == nil || instance.State == lb.Terminating || c.hides(st, instance, *targets)):
			return t.nowhere(st.Balancers.Get(l.Balancer), at)
		case instance == nil || instance.State == lb.Terminating || c.hides(st, instance, *targets):
			return refuse(lb.NotFound, at+"InstanceId", fmt.Sprintf("there is no instance %q", clip(t.InstanceId, 40)), "name one that DescribeInstances lists")
		case instance.VPC != network:
			return refuse(lb.Invalid, at+"InstanceId", fmt.Sprintf("%s is in %s, the load balancer in %s", t.InstanceId, networkText(instance.VPC), networkText(network)), "both must be in one network")
		case t.find(*targets) >= 0:
			return refuse(lb.Duplicate, at+"Port", fmt.Sprintf("%s port %d is bound already", t.name(), t.Port), "leave it out")
		case len(*targets) >= c.Quotas.TargetsPerListener:
			return refuse(lb.LimitExceeded, "Targets", fmt.Sprintf("a listener or rule has at most %s", count(c.Quotas.TargetsPerListener, "target")), "unbind one")
		}
		if err := hasFamily(st.Balancers.Get(l.Balancer), instance, at+t.field()); err != nil {
			return err
		}
		if err := onceBehind(l, *targets, instance.ID, at+t.field()); err != nil {
			return err
		}
		if err := soleListener(tx, l, instance.ID, uint16(t.Port), at+"Port"); err != nil {
			return err
		}
		weight := defaultWeight
		setInt(&weight, t.Weight)
		*targets = append(*targets, lb.Target{Num: tx.NextNum(), Instance: instance.ID, Port: uint16(t.Port), Weight: weight, Registered: c.Now().UTC(), ByAddress: t.EniIp != ""})
	}
	return nil
}

// errNotBound has the code that clients take for "already gone".
func errNotBound(at string, t targetIn) error {
	return errorf("InvalidParameter", "%s: %s port %d is not bound here; DescribeTargets lists what is", strings.TrimSuffix(at, "."), t.name(), t.Port)
}

func deregisterTargets(c *Call, in *targetsIn) (*done, error) {
	if err := in.check(); err != nil {
		return nil, err
	}
	return nil, in.edit(c, func(tx *store.Tx, l *lb.Listener, targets *[]lb.Target) error {
		return unbindTargets(tx, l, targets, in.Targets, in.at)
	})
}

// unbindTargets takes targets away. field is how a fault names the i-th.
func unbindTargets(tx *store.Tx, l *lb.Listener, targets *[]lb.Target, given []targetIn, field func(i int) string) error {
	given, err := byInstance(tx, l, given, field)
	if err != nil {
		return err
	}
	for i, t := range given {
		at := t.find(*targets)
		if at < 0 {
			return errNotBound(field(i), t)
		}
		*targets = slices.Delete(*targets, at, at+1)
	}
	return nil
}

type modifyTargetWeightIn struct {
	targetsIn
	Weight *int64 `tc:"range=0-100"`
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
	return nil, in.edit(c, func(tx *store.Tx, l *lb.Listener, targets *[]lb.Target) error {
		return weigh(tx, l, *targets, in.Targets, in.Weight, in.at)
	})
}

// weigh gives bound targets their weights. field is how a fault names the i-th.
func weigh(tx *store.Tx, l *lb.Listener, targets []lb.Target, given []targetIn, all *int64, field func(i int) string) error {
	given, err := byInstance(tx, l, given, field)
	if err != nil {
		return err
	}
	for i, t := range given {
		at := t.find(targets)
		if at < 0 {
			return errNotBound(field(i), t)
		}
		weight := defaultWeight
		setInt(&weight, all)
		setInt(&weight, t.Weight)
		targets[at].Weight = weight
	}
	return nil
}

type modifyTargetPortIn struct {
	targetsIn
	NewPort int64 `tc:"required,range=1-65535"`
}

// modifyTargetPort moves targets to another port of their instance. A moved
// target gets a new number: flows of the old port are not its own.
func modifyTargetPort(c *Call, in *modifyTargetPortIn) (*done, error) {
	if err := in.check(); err != nil {
		return nil, err
	}
	if err := checkPort("NewPort", in.NewPort); err != nil {
		return nil, err
	}
	return nil, in.edit(c, func(tx *store.Tx, l *lb.Listener, targets *[]lb.Target) error {
		given, err := byInstance(tx, l, in.Targets, in.at)
		if err != nil {
			return err
		}
		for i, t := range given {
			at := t.find(*targets)
			if at < 0 {
				return errNotBound(in.at(i), t)
			}
			if t.Port == in.NewPort {
				continue
			}
			moved := targetIn{InstanceId: t.InstanceId, Port: in.NewPort}
			if moved.find(*targets) >= 0 {
				return refuse(lb.Duplicate, "NewPort", fmt.Sprintf("%s port %d is bound already", t.name(), in.NewPort), "choose another port")
			}
			if err := soleListener(tx, l, lb.InstanceID(t.InstanceId), uint16(in.NewPort), "NewPort"); err != nil {
				return err
			}
			(*targets)[at].Port, (*targets)[at].Num = uint16(in.NewPort), tx.NextNum()
		}
		return nil
	})
}

type describeTargetsIn struct {
	listenerChoice
	Filters []Filter `tc:"" filters:"location-id private-ip-address"`
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

// describeTargets lists what is bound to a load balancer's listeners. Filters
// keep rules and targets; the entry of a listener stays, also when it is
// empty, because clients dereference it.
func describeTargets(c *Call, in *describeTargetsIn) (*describeTargetsOut, error) {
	st := c.State()
	listeners, err := in.choose(st)
	if err != nil {
		return nil, err
	}
	balancer := st.Balancers.Get(lb.BalancerID(in.LoadBalancerId))
	var ofRules, ofTargets []Filter
	for _, f := range in.Filters {
		if f.Name == "location-id" {
			ofRules = append(ofRules, f)
		} else {
			ofTargets = append(ofTargets, f)
		}
	}
	kept := func(targets []lb.Target) ([]backendOut, error) {
		targets, err := filter(targets, ofTargets, map[string]func(lb.Target) []string{
			"private-ip-address": func(t lb.Target) []string { return backendAddress(st, balancer, t.Instance) },
		}, nil)
		return c.showTargets(st, balancer, targets), err
	}
	out := &describeTargetsOut{}
	for _, l := range listeners {
		entry := listenerBackend{ListenerId: string(l.ID), Protocol: string(l.Protocol), Port: int(l.Port), EndPort: int(l.EndPort)}
		rules, err := filter(l.Rules, ofRules, map[string]func(lb.Rule) []string{
			"location-id": func(r lb.Rule) []string { return []string{string(r.ID)} },
		}, nil)
		if err != nil {
			return nil, err
		}
		for _, r := range rules {
			targets, err := kept(r.Targets)
			if err != nil {
				return nil, err
			}
			entry.Rules = append(entry.Rules, ruleTargets{string(r.ID), r.Domain, r.URL, targets})
		}
		if len(ofRules) == 0 {
			if entry.Targets, err = kept(l.Targets); err != nil {
				return nil, err
			}
		}
		out.Listeners = append(out.Listeners, entry)
	}
	return out, nil
}

// privateOf is the instance's private address, if it is there and has one.
func privateOf(st *lb.State, id lb.InstanceID) []string {
	if i := st.Instances.Get(id); i != nil && i.Private.IsValid() {
		return []string{i.Private.String()}
	}
	return nil
}

func (c *Call) showTargets(st *lb.State, balancer *lb.LoadBalancer, targets []lb.Target) []backendOut {
	var all []backendOut
	for _, t := range targets {
		b := backendOut{Type: typeCVM, InstanceId: string(t.Instance), Port: int(t.Port), Weight: t.Weight, RegisteredTime: stamp(t.Registered), Zone: c.Zone()}
		if i := st.Instances.Get(t.Instance); i != nil {
			if t.ByAddress {
				eni := interfaceID(i.ID)
				b.Type, b.EniId = typeENI, &eni
			}
			b.InstanceName, b.PrivateIpAddresses = i.Name, backendAddress(st, balancer, i.ID)
			if i.Public.IsValid() {
				b.PublicIpAddresses = []string{i.Public.String()}
			}
		}
		all = append(all, b)
	}
	return all
}
