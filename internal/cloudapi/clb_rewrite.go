// SPDX-License-Identifier: Apache-2.0

package cloudapi

import (
	"fmt"
	"slices"

	"github.com/sallyport/sallyport/internal/lb"
	"github.com/sallyport/sallyport/internal/store"
)

func rewriteActions() []Action {
	const lbID, listener, location = "InvalidParameter.LBIdNotFound", "InvalidParameter.ListenerIdNotFound", "InvalidParameter.LocationNotFound"
	const protocol, exists, value, missing = "InvalidParameter.ProtocolCheckFailed", "InvalidParameter.RewriteAlreadyExist", "InvalidParameterValue", "MissingParameter"
	return []Action{
		action(serviceCLB, "ManualRewrite", manualRewrite).fails(lbID, listener, location, protocol, exists, value, missing),
		action(serviceCLB, "AutoRewrite", autoRewrite).fails(lbID, listener, location, protocol, "InvalidParameter.PortCheckFailed", exists, value, "LimitExceeded"),
		action(serviceCLB, "DescribeRewrite", describeRewrite).fails(lbID),
		action(serviceCLB, "DeleteRewrite", deleteRewrite).fails(lbID, listener, protocol, "InvalidParameter.SomeRewriteNotFound", missing),
	}
}

// A rewriteIn is one redirect between two rules.
type rewriteIn struct {
	SourceLocationId string `tc:"required"`
	TargetLocationId string `tc:"required"`
	RewriteCode      int64  `tc:"enum=301|302|307"`
	TakeUrl          *bool  `tc:""`
	SourceDomain     string `tc:""`
}

type rewritesIn struct {
	LoadBalancerId   string      `tc:"required"`
	SourceListenerId string      `tc:"required"`
	TargetListenerId string      `tc:"required"`
	RewriteInfos     []rewriteIn `tc:"required"`
}

// edit runs fn on the source listener of a load balancer's redirects.
func (in *rewritesIn) edit(c *Call, fn func(tx *store.Tx, source, target *lb.Listener) error) error {
	if len(in.RewriteInfos) == 0 {
		return refuse(lb.Missing, "RewriteInfos", "no redirect is given", "give at least one")
	}
	return c.Update(func(tx *store.Tx) error {
		source, err := changeHTTPListener(tx.State(), in.LoadBalancerId, in.SourceListenerId)
		if err != nil {
			return renamed(err, "ListenerId", "SourceListenerId")
		}
		target, err := changeHTTPListener(tx.State(), in.LoadBalancerId, in.TargetListenerId)
		if err != nil {
			return renamed(err, "ListenerId", "TargetListenerId")
		}
		if err := fn(tx, source, target); err != nil {
			return err
		}
		tx.PutListener(source)
		return rewritesHold(tx, source.Balancer, "RewriteInfos")
	})
}

// rewritesHold refuses a change after which some redirect of the load balancer
// would lead nowhere or round in a circle.
func rewritesHold(tx *store.Tx, id lb.BalancerID, field string) error {
	return lb.RewritesOf(listenersIn(tx, id), field)
}

// manualRewrite makes rules redirect to others: all of them or none. The
// default code is 302, and the URL of the rule redirected to is taken.
func manualRewrite(c *Call, in *rewritesIn) (*done, error) {
	return nil, in.edit(c, func(_ *store.Tx, source, target *lb.Listener) error {
		for i, info := range in.RewriteInfos {
			field := fmt.Sprintf("RewriteInfos.%d.", i)
			r, err := findRule(source, info.SourceLocationId, "", "")
			if err != nil {
				return renamed(err, "LocationId", field+"SourceLocationId")
			}
			if _, err := findRule(target, info.TargetLocationId, "", ""); err != nil {
				return renamed(err, "LocationId", field+"TargetLocationId")
			}
			switch {
			case r.Rewrite != nil:
				return errorf("InvalidParameter.RewriteAlreadyExist", "%sSourceLocationId: rule %s redirects to %s already; call DeleteRewrite first", field, r.ID, r.Rewrite.Location)
			case info.RewriteCode != 0 && info.TakeUrl == nil:
				return refuse(lb.Missing, field+"TakeUrl", "it goes with RewriteCode", "give true to take the URL asked for along")
			case info.RewriteCode != 0 && info.SourceDomain == "":
				return refuse(lb.Missing, field+"SourceDomain", "it goes with RewriteCode", "give "+r.Domain)
			case info.SourceDomain != "" && info.SourceDomain != r.Domain:
				return refuse(lb.Invalid, field+"SourceDomain", fmt.Sprintf("rule %s is of domain %s", r.ID, r.Domain), "give that, or another rule")
			}
			r.Rewrite = &lb.Rewrite{Listener: target.ID, Location: lb.LocationID(info.TargetLocationId), Code: 302}
			setInt(&r.Rewrite.Code, nonZero(info.RewriteCode))
			r.Rewrite.TakeURL = info.TakeUrl != nil && *info.TakeUrl
		}
		return nil
	})
}

// nonZero is nil for 0.
func nonZero(n int64) *int64 {
	if n == 0 {
		return nil
	}
	return &n
}

func deleteRewrite(c *Call, in *rewritesIn) (*done, error) {
	return nil, in.edit(c, func(_ *store.Tx, source, target *lb.Listener) error {
		for i, info := range in.RewriteInfos {
			at := slices.IndexFunc(source.Rules, func(r lb.Rule) bool {
				return string(r.ID) == info.SourceLocationId && r.Rewrite != nil && r.Rewrite.Listener == target.ID && string(r.Rewrite.Location) == info.TargetLocationId
			})
			if at < 0 {
				return errorf("InvalidParameter.SomeRewriteNotFound", "RewriteInfos.%d: rule %q does not redirect to %q; DescribeRewrite lists what does", i, clip(info.SourceLocationId, 40), clip(info.TargetLocationId, 40))
			}
			source.Rules[at].Rewrite = nil
		}
		return nil
	})
}

type describeRewriteIn struct {
	LoadBalancerId    string   `tc:"required"`
	SourceListenerIds []string `tc:""`
	SourceLocationIds []string `tc:""`
}

type describeRewriteOut struct {
	RewriteSet []ruleOut
}

// rewriteOut is where a rule redirects to.
type rewriteOut struct {
	TargetListenerId, TargetLocationId, RewriteType string
	RewriteCode                                     int
	TakeUrl                                         bool
}

// describeRewrite lists the rules that redirect.
func describeRewrite(c *Call, in *describeRewriteIn) (*describeRewriteOut, error) {
	st := c.State()
	b, err := findBalancer(st, in.LoadBalancerId)
	if err != nil {
		return nil, err
	}
	out := &describeRewriteOut{}
	for _, l := range listenersOf(st, b.ID) {
		for i := range l.Rules {
			r := &l.Rules[i]
			if r.Rewrite != nil &&
				(len(in.SourceListenerIds) == 0 || slices.Contains(in.SourceListenerIds, string(l.ID))) &&
				(len(in.SourceLocationIds) == 0 || slices.Contains(in.SourceLocationIds, string(r.ID))) {
				out.RewriteSet = append(out.RewriteSet, showRule(st, l, r))
			}
		}
	}
	return out, nil
}

// showRewrite is nil when the rule forwards.
func showRewrite(r *lb.Rule) *rewriteOut {
	if r.Rewrite == nil {
		return nil
	}
	out := &rewriteOut{TargetListenerId: string(r.Rewrite.Listener), TargetLocationId: string(r.Rewrite.Location), RewriteType: "Manual",
		RewriteCode: r.Rewrite.Code, TakeUrl: r.Rewrite.TakeURL}
	if r.Rewrite.Auto {
		out.RewriteType = "Auto"
	}
	return out
}
