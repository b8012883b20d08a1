// SPDX-License-Identifier: Apache-2.0

package lb

import (
	"fmt"
	"strings"
)

// A Rewrite makes a rule answer with a redirect to another rule of the same
// load balancer, instead of asking its targets.
type Rewrite struct {
	Listener ListenerID // of the rule redirected to
	Location LocationID
	Code     int  // 301, 302 or 307
	TakeURL  bool // true: the path and query asked for go along; false: the other rule's URL
	Auto     bool // made by AutoRewrite, with its source
}

// RewritesOf checks every redirect of a load balancer, given by its listeners:
// what a redirect leads to exists, is not a redirect itself, has a host that a
// client can be sent to, and is not where the client comes from. It returns
// the first fault as an *Error whose Field is field.
func RewritesOf(listeners []*Listener, field string) error {
	for _, from := range listeners {
		for i := range from.Rules {
			r := &from.Rules[i]
			if r.Rewrite == nil {
				continue
			}
			if err := checkRewrite(listeners, from, r, field); err != nil {
				return err
			}
		}
	}
	return nil
}

func checkRewrite(listeners []*Listener, from *Listener, r *Rule, field string) error {
	to, target := FindRule(listeners, r.Rewrite.Listener, r.Rewrite.Location)
	switch {
	case target == nil:
		return Refuse(InUse, field, fmt.Sprintf("rule %s redirects to rule %s of %s", r.ID, r.Rewrite.Location, r.Rewrite.Listener), "call DeleteRewrite first")
	case target == r:
		return Refuse(Invalid, field, fmt.Sprintf("rule %s would redirect to itself", r.ID), "name another rule")
	case target.Rewrite != nil:
		return Refuse(Invalid, field, fmt.Sprintf("rule %s would redirect to rule %s, which redirects itself; chains are not allowed", r.ID, target.ID), "redirect to the last rule of the chain")
	case strings.Contains(target.Domain, "*") && target.Domain != r.Domain:
		return Refuse(Invalid, field, fmt.Sprintf("rule %s would redirect to domain %s, which is no host", r.ID, target.Domain), "redirect to a rule of an exact domain, or of the same one")
	case to == from && target.Domain == r.Domain && r.Rewrite.TakeURL:
		return Refuse(Invalid, field, fmt.Sprintf("rule %s would redirect every request to where it came from", r.ID), "set TakeUrl to false, or redirect to another listener or domain")
	}
	return nil
}

// FindRule finds a rule by its listener's and its own id; nil, nil when there
// is none.
func FindRule(listeners []*Listener, listener ListenerID, location LocationID) (*Listener, *Rule) {
	for _, l := range listeners {
		if l.ID != listener {
			continue
		}
		for i := range l.Rules {
			if l.Rules[i].ID == location {
				return l, &l.Rules[i]
			}
		}
	}
	return nil, nil
}
