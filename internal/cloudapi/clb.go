// SPDX-License-Identifier: Apache-2.0

package cloudapi

import (
	"cmp"
	"slices"
	"strconv"

	"github.com/sallyport/sallyport/internal/lb"
	"github.com/sallyport/sallyport/internal/store"
)

// clbActions lists the clb service, 2018-03-17.
func clbActions() []Action {
	return []Action{
		action(serviceCLB, "CreateLoadBalancer", createLoadBalancer).fails("InvalidAddressId.NotFound", "InvalidParameterValue.AddressIdMalformed", "InvalidParameterValue.InstanceHasWanIP", "UnsupportedOperation.AddressStatusNotPermit", "InvalidParameter.ClientTokenLimitExceeded", "InvalidParameter.FormatError", "InvalidParameterValue", "InvalidParameterValue.Length", "InvalidParameterValue.Range", "LimitExceeded", "UnsupportedOperation"),
		action(serviceCLB, "DescribeLoadBalancers", describeLoadBalancers).fails("InvalidParameterValue", "InvalidParameterValue.Length", "InvalidParameterValue.Range"),
		action(serviceCLB, "ModifyLoadBalancerAttributes", modifyLoadBalancerAttributes).fails("InvalidParameter.LBIdNotFound", "InvalidParameterValue"),
		action(serviceCLB, "DeleteLoadBalancer", deleteLoadBalancer).fails("FailedOperation", "FailedOperation.TargetNumCheckRisk", "InvalidParameter.LBIdNotFound", "InvalidParameterValue.Length"),
		action(serviceCLB, "SetLoadBalancerSecurityGroups", setLoadBalancerSecurityGroups).fails("InvalidParameter.LBIdNotFound", "InvalidParameterValue", "InvalidParameterValue.Duplicate", "LimitExceeded"),
		action(serviceCLB, "SetSecurityGroupForLoadbalancers", setSecurityGroupForLoadbalancers).fails("InvalidParameter.LBIdNotFound", "InvalidParameterValue", "InvalidParameterValue.Length", "LimitExceeded"),
		action(serviceCLB, "CreateListener", createListener).fails("InvalidParameter.LBIdNotFound", "InvalidParameter.PortCheckFailed", "InvalidParameterValue", "InvalidParameterValue.Range", "LimitExceeded"),
		action(serviceCLB, "DescribeListeners", describeListeners).fails("InvalidParameter.LBIdNotFound"),
		action(serviceCLB, "ModifyListener", modifyListener).fails("InvalidParameter.LBIdNotFound", "InvalidParameter.ListenerIdNotFound", "InvalidParameterValue", "InvalidParameterValue.Length"),
		action(serviceCLB, "DeleteListener", deleteListener).fails("FailedOperation", "InvalidParameter.LBIdNotFound", "InvalidParameter.ListenerIdNotFound"),
		action(serviceCLB, "DeleteLoadBalancerListeners", deleteLoadBalancerListeners).fails("FailedOperation", "InvalidParameter.LBIdNotFound", "InvalidParameter.ListenerIdNotFound"),
		action(serviceCLB, "CreateRule", createRule).fails("InvalidParameter.LBIdNotFound", "InvalidParameter.ListenerIdNotFound", "InvalidParameter.ProtocolCheckFailed", "InvalidParameterValue", "InvalidParameterValue.Duplicate", "LimitExceeded"),
		action(serviceCLB, "ModifyRule", modifyRule).fails("InvalidParameterValue", "InvalidParameter.LBIdNotFound", "InvalidParameter.LocationNotFound", "InvalidParameterValue.Duplicate"),
		action(serviceCLB, "DeleteRule", deleteRule).fails("FailedOperation", "InvalidParameter.LBIdNotFound", "InvalidParameter.ListenerIdNotFound", "InvalidParameter.LocationNotFound", "InvalidParameter.ProtocolCheckFailed", "InvalidParameterValue").
			like(`{"LoadBalancerId":"lb-1a2b3c4d","ListenerId":"lbl-1a2b3c4d","LocationIds":["loc-1a2b3c4d"]}`),
		action(serviceCLB, "ModifyDomain", modifyDomain).fails("InvalidParameter.LBIdNotFound", "InvalidParameterValue", "InvalidParameterValue.Duplicate"),
		action(serviceCLB, "ModifyDomainAttributes", modifyDomainAttributes).fails("InvalidParameter.LBIdNotFound", "InvalidParameterValue"),
		action(serviceCLB, "RegisterTargets", registerTargets).fails("InvalidParameter.LBIdNotFound", "InvalidParameter.ListenerIdNotFound", "InvalidParameter.LocationNotFound", "InvalidParameterValue", "InvalidParameterValue.Duplicate", "InvalidParameterValue.Range", "LimitExceeded").
			like(`{"LoadBalancerId":"lb-1a2b3c4d","ListenerId":"lbl-1a2b3c4d","Targets":[{"InstanceId":"ins-1a2b3c4d","Port":80}]}`),
		action(serviceCLB, "DeregisterTargets", deregisterTargets).fails("InvalidParameter.LBIdNotFound", "InvalidParameter.ListenerIdNotFound", "InvalidParameter.LocationNotFound", "InvalidParameterValue", "InvalidParameterValue.Duplicate", "InvalidParameterValue.Range").
			like(`{"LoadBalancerId":"lb-1a2b3c4d","ListenerId":"lbl-1a2b3c4d","Targets":[{"InstanceId":"ins-1a2b3c4d","Port":80}]}`),
		action(serviceCLB, "DescribeTargets", describeTargets).fails("InvalidParameter.LBIdNotFound"),
		action(serviceCLB, "ModifyTargetWeight", modifyTargetWeight).fails("InvalidParameter.LBIdNotFound", "InvalidParameter.ListenerIdNotFound", "InvalidParameter.LocationNotFound", "InvalidParameterValue", "InvalidParameterValue.Duplicate", "InvalidParameterValue.Range").
			like(`{"LoadBalancerId":"lb-1a2b3c4d","ListenerId":"lbl-1a2b3c4d","Targets":[{"InstanceId":"ins-1a2b3c4d","Port":80}]}`),
		action(serviceCLB, "ModifyTargetPort", modifyTargetPort).fails("InvalidParameter.LBIdNotFound", "InvalidParameterValue", "InvalidParameterValue.Duplicate", "InvalidParameterValue.Range").
			like(`{"LoadBalancerId":"lb-1a2b3c4d","ListenerId":"lbl-1a2b3c4d","Targets":[{"InstanceId":"ins-1a2b3c4d","Port":80}],"NewPort":8080}`),
		action(serviceCLB, "DescribeTargetHealth", describeTargetHealth).fails("InvalidParameter.LBIdNotFound", "InvalidParameterValue.Length"),
		action(serviceCLB, "DescribeTaskStatus", describeTaskStatus).fails("InvalidParameterValue", "MissingParameter"),
	}
}

// A clbTag is a label as clb writes it.
type clbTag struct {
	TagKey   string `tc:"required"`
	TagValue string `tc:""`
}

func findBalancer(st *lb.State, id string) (*lb.LoadBalancer, error) {
	b := st.Balancers.Get(lb.BalancerID(id))
	if b == nil {
		return nil, errorf("InvalidParameter.LBIdNotFound", "LoadBalancerId: there is no load balancer %q; DescribeLoadBalancers lists them", clip(id, 40))
	}
	return b, nil
}

// changeBalancer is findBalancer for writers: a copy to edit and put.
func changeBalancer(st *lb.State, id string) (*lb.LoadBalancer, error) {
	b, err := findBalancer(st, id)
	if err != nil {
		return nil, err
	}
	c := *b
	c.Groups = slices.Clone(b.Groups)
	return &c, nil
}

func findListener(st *lb.State, balancer, id string) (*lb.Listener, error) {
	if _, err := findBalancer(st, balancer); err != nil {
		return nil, err
	}
	l := st.Listeners.Get(lb.ListenerID(id))
	if l == nil || l.Balancer != lb.BalancerID(balancer) {
		return nil, errorf("InvalidParameter.ListenerIdNotFound", "ListenerId: load balancer %s has no listener %q; DescribeListeners lists them", balancer, clip(id, 40))
	}
	return l, nil
}

// changeListener is findListener for writers: a deep copy to edit and put.
func changeListener(st *lb.State, balancer, id string) (*lb.Listener, error) {
	l, err := findListener(st, balancer, id)
	if err != nil {
		return nil, err
	}
	return copyListener(l), nil
}

// copyListener is a deep copy of what writers change.
func copyListener(l *lb.Listener) *lb.Listener {
	c := *l
	c.Targets = slices.Clone(l.Targets)
	c.Rules = slices.Clone(l.Rules)
	for i := range c.Rules {
		c.Rules[i].Targets = slices.Clone(c.Rules[i].Targets)
	}
	return &c
}

// changeHTTPListener is changeListener for what only layer 7 has.
func changeHTTPListener(st *lb.State, balancer, id string) (*lb.Listener, error) {
	l, err := changeListener(st, balancer, id)
	if err == nil && !l.Protocol.Layer7() {
		return nil, errorf("InvalidParameter.ProtocolCheckFailed", "ListenerId: %s is a %s listener, which has no rules; name an HTTP or HTTPS listener", id, l.Protocol)
	}
	return l, err
}

// listenersOf lists a load balancer's listeners in order of creation.
func listenersOf(st *lb.State, id lb.BalancerID) []*lb.Listener {
	var all []*lb.Listener
	for _, l := range st.Listeners.All() {
		if l.Balancer == id {
			all = append(all, l)
		}
	}
	slices.SortFunc(all, func(a, b *lb.Listener) int { return cmp.Compare(a.Num, b.Num) })
	return all
}

// listenersByBalancer is listenersOf for all load balancers, in one look at the
// state.
func listenersByBalancer(st *lb.State) map[lb.BalancerID][]*lb.Listener {
	all := map[lb.BalancerID][]*lb.Listener{}
	for _, l := range st.Listeners.All() {
		all[l.Balancer] = append(all[l.Balancer], l)
	}
	for _, list := range all {
		slices.SortFunc(list, func(a, b *lb.Listener) int { return cmp.Compare(a.Num, b.Num) })
	}
	return all
}

// listenersIn is listenersOf for writers: it looks at no other load balancer's.
func listenersIn(tx *store.Tx, id lb.BalancerID) []*lb.Listener {
	var all []*lb.Listener
	for _, l := range tx.Index().Listeners(id) {
		all = append(all, tx.State().Listeners.Get(l))
	}
	slices.SortFunc(all, func(a, b *lb.Listener) int { return cmp.Compare(a.Num, b.Num) })
	return all
}

// count says "1 target", "2 targets".
func count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return strconv.Itoa(n) + " " + noun + "s"
}
