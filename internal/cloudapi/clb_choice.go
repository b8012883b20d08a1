// SPDX-License-Identifier: Apache-2.0

package cloudapi

import (
	"fmt"

	"github.com/sallyport/sallyport/internal/lb"
	"github.com/sallyport/sallyport/internal/store"
)

// choiceActions say what the vendor's actions have no fields for.
func choiceActions() []Action {
	return []Action{
		action(serviceSallyport, "DescribeTargetChoice", describeTargetChoice).fails("InvalidParameter.LBIdNotFound"),
		action(serviceSallyport, "SetTargetChoice", setTargetChoice).like(`{"LoadBalancerId":"lb-1a2b3c4d","ListenerId":"lbl-1a2b3c4d","WhenAllUnhealthy":"NONE","SlowStart":60}`).
			fails("InvalidParameter.LBIdNotFound", "InvalidParameter.ListenerIdNotFound", "InvalidParameter.LocationNotFound", "InvalidParameterValue", "MissingParameter"),
	}
}

// choiceIn is how targets are chosen, in what makes or changes a listener or a
// rule.
type choiceIn struct {
	Scheduler         string `tc:"enum=WRR|LEAST_CONN|IP_HASH"`
	SessionExpireTime *int64 `tc:"range=0-86400"` // 0, or from 30; at layer 4 up to 3600
}

// ofListener takes over what is given. Rules of an HTTP listener have their
// own choice; what means nothing there is accepted.
func (in choiceIn) ofListener(l *lb.Listener) error {
	if l.Protocol.Layer7() {
		for field, given := range map[string]bool{
			"Scheduler":         in.Scheduler != "" && in.Scheduler != lb.SchedulerWRR,
			"SessionExpireTime": in.SessionExpireTime != nil && *in.SessionExpireTime != 0,
		} {
			if given {
				return refuse(lb.Invalid, field, "the rules of an HTTP listener choose targets", "give "+field+" to CreateRule or ModifyRule")
			}
		}
		return nil
	}
	in.into(&l.Scheduler, &l.Choice)
	return l.Choice.Validate("", l.Scheduler, false)
}

// ofRule takes over what is given; field is the rule's place in the request.
func (in choiceIn) ofRule(r *lb.Rule, field string, cookie *string) error {
	in.into(&r.Scheduler, &r.Choice)
	if cookie != nil {
		r.Choice.Cookie = *cookie
	}
	return r.Choice.Validate(field, r.Scheduler, true)
}

func (in choiceIn) into(scheduler *string, c *lb.Choice) {
	if in.Scheduler != "" {
		*scheduler = in.Scheduler
	}
	if *scheduler == "" {
		*scheduler = lb.SchedulerWRR
	}
	if in.SessionExpireTime == nil {
		return
	}
	if c.Session = int(*in.SessionExpireTime); c.Session == 0 {
		c.Cookie = ""
	}
}

// What becomes of new flows and requests when no target is healthy.
const (
	unhealthyAll  = "ALL"
	unhealthyNone = "NONE"
)

// choiceDoc is what is ours of a choice: in files, and in what is read.
type choiceDoc struct {
	WhenAllUnhealthy string `tc:"enum=ALL|NONE"` // ALL when it is not given
	SlowStart        *int64 `tc:"range=0-900"`   // seconds; 0, the default: no slow start
}

// into takes over what is given.
func (in choiceDoc) into(c *lb.Choice) {
	if in.WhenAllUnhealthy != "" {
		c.HealthyOnly = in.WhenAllUnhealthy == unhealthyNone
	}
	if in.SlowStart != nil {
		c.SlowStart = int(*in.SlowStart)
	}
}

func whenAllUnhealthy(c lb.Choice) string {
	if c.HealthyOnly {
		return unhealthyNone
	}
	return unhealthyAll
}

type setTargetChoiceIn struct {
	LoadBalancerId string `tc:"required"`
	ListenerId     string `tc:"required"`
	LocationId     string `tc:""` // of an HTTP listener's rule
	choiceDoc
}

// setTargetChoice changes what is given and leaves the rest.
func setTargetChoice(c *Call, in *setTargetChoiceIn) (*done, error) {
	return nil, c.Update(func(tx *store.Tx) error {
		l, err := changeListener(tx.State(), in.LoadBalancerId, in.ListenerId)
		if err != nil {
			return err
		}
		choice := &l.Choice
		if l.Protocol.Layer7() {
			r, err := findRule(l, in.LocationId, "", "")
			if err != nil {
				return err
			}
			choice = &r.Choice
		} else if in.LocationId != "" {
			return refuse(lb.Invalid, "LocationId", fmt.Sprintf("%s is a %s listener and has no rules", l.ID, l.Protocol), "leave it out")
		}
		in.into(choice)
		tx.PutListener(l)
		return nil
	})
}

type describeTargetChoiceIn struct {
	listenerChoice
}

type describeTargetChoiceOut struct {
	TotalCount int
	Choices    []targetChoiceOut
}

// targetChoiceOut is how a listener or rule chooses; LocationId is null at
// layer 4.
type targetChoiceOut struct {
	ListenerId        string
	LocationId        *string
	Scheduler         string
	SessionExpireTime int
	CookieName        *string // null where no cookie is set
	WhenAllUnhealthy  string
	SlowStart         int
}

// describeTargetChoice lists all there is to a choice of target, the vendor's
// fields and ours.
func describeTargetChoice(c *Call, in *describeTargetChoiceIn) (*describeTargetChoiceOut, error) {
	listeners, err := in.choose(c.State())
	if err != nil {
		return nil, err
	}
	out := &describeTargetChoiceOut{}
	for _, l := range listeners {
		if !l.Protocol.Layer7() {
			out.Choices = append(out.Choices, showChoice(l, l.Scheduler, l.Choice))
		}
		for _, r := range l.Rules {
			row := showChoice(l, r.Scheduler, r.Choice)
			id := string(r.ID)
			row.LocationId = &id
			if name := cookieOf(r.Choice); name != "" {
				row.CookieName = &name
			}
			out.Choices = append(out.Choices, row)
		}
	}
	out.TotalCount = len(out.Choices)
	return out, nil
}

func showChoice(l *lb.Listener, scheduler string, c lb.Choice) targetChoiceOut {
	return targetChoiceOut{ListenerId: string(l.ID), Scheduler: scheduler, SessionExpireTime: c.Session,
		WhenAllUnhealthy: whenAllUnhealthy(c), SlowStart: c.SlowStart}
}

// cookieOf is the name of the cookie that a rule sets; "": none.
func cookieOf(c lb.Choice) string {
	if c.Session == 0 {
		return ""
	}
	if c.Cookie == "" {
		return lb.DefaultCookie
	}
	return c.Cookie
}
