// SPDX-License-Identifier: Apache-2.0

package cloudapi

import (
	"fmt"
	"slices"

	"github.com/sallyport/sallyport/internal/lb"
	"github.com/sallyport/sallyport/internal/store"
)

type autoRewriteIn struct {
	LoadBalancerId string   `tc:"required"`
	ListenerId     string   `tc:"required"`
	Domains        []string `tc:""` // none: all
	RewriteCodes   []int64  `tc:""` // 301, 302 or 307, of the domains in their order; none: 301
	TakeUrls       []bool   `tc:""` // of the domains, in their order; none: true
}

// check refuses lists that do not fit each other.
func (in *autoRewriteIn) check() error {
	for field, n := range map[string]int{"RewriteCodes": len(in.RewriteCodes), "TakeUrls": len(in.TakeUrls)} {
		if n != 0 && n != len(in.Domains) {
			return refuse(lb.Invalid, field, fmt.Sprintf("%s for %s", count(n, "value"), count(len(in.Domains), "domain")), "name each domain in Domains and give one value for each, or none")
		}
	}
	for i, code := range in.RewriteCodes {
		if code != 301 && code != 302 && code != 307 {
			return refuse(lb.Invalid, fmt.Sprintf("RewriteCodes.%d", i), fmt.Sprintf("%d is no code of redirects", code), "use 301, 302 or 307")
		}
	}
	return nil
}

// httpsPort is where a browser goes that is told nothing else.
const httpsPort = 443

// autoRewrite sends those who come to port 80 on to HTTPS:443: for each
// of its rules there is one at HTTP:80 that redirects there. What is missing
// there, the listener too, is made. Rules that come later need another call,
// which leaves the redirects that are there alone but for those of Domains.
func autoRewrite(c *Call, in *autoRewriteIn) (*done, error) {
	if err := in.check(); err != nil {
		return nil, err
	}
	return nil, c.Update(func(tx *store.Tx) error {
		target, err := changeListener(tx.State(), in.LoadBalancerId, in.ListenerId)
		if err != nil {
			return err
		}
		if target.Protocol != lb.ListenHTTPS {
			return errorf("InvalidParameter.ProtocolCheckFailed", "ListenerId: %s is a listener of %s, and automatic redirects lead to HTTPS; name an HTTPS listener, or use ManualRewrite", target.ID, target.Protocol)
		}
		if target.Port != httpsPort {
			return errorf("InvalidParameter.PortCheckFailed", "ListenerId: %s listens on port %d, and automatic redirects lead to HTTPS:%d; name the listener of that port, or use ManualRewrite", target.ID, target.Port, httpsPort)
		}
		for i, domain := range in.Domains {
			if !hasDomain(target, domain) {
				return errorf("InvalidParameter.LocationNotFound", "Domains.%d: listener %s has no rule of domain %q; DescribeListeners lists them", i, target.ID, clip(domain, 80))
			}
		}
		if len(target.Rules) == 0 {
			return errorf("InvalidParameter.LocationNotFound", "ListenerId: %s has no rules; make some with CreateRule first", target.ID)
		}
		source, err := c.redirecting(tx, target)
		if err != nil {
			return err
		}
		for i := range target.Rules {
			at := slices.Index(in.Domains, target.Rules[i].Domain)
			if at < 0 && len(in.Domains) > 0 {
				continue
			}
			if err := c.mirror(tx, source, target, &target.Rules[i], in.redirect(at), at >= 0); err != nil {
				return err
			}
		}
		if defaultDomain(source) == "" {
			setDefault(source, source.Rules[0].Domain)
		}
		setDefault(source, defaultDomain(source))
		tx.PutListener(source)
		return rewritesHold(tx, source.Balancer, "ListenerId")
	})
}

// redirect is what the domain at a place in Domains gets; -1: not named.
func (in *autoRewriteIn) redirect(at int) lb.Rewrite {
	r := lb.Rewrite{Code: 301, TakeURL: true, Auto: true}
	if at >= 0 && len(in.RewriteCodes) > 0 {
		r.Code = int(in.RewriteCodes[at])
	}
	if at >= 0 && len(in.TakeUrls) > 0 {
		r.TakeURL = in.TakeUrls[at]
	}
	return r
}

// redirecting is the HTTP listener on port 80 beside an HTTPS one, made when
// there is none.
func (c *Call) redirecting(tx *store.Tx, target *lb.Listener) (*lb.Listener, error) {
	for _, l := range listenersIn(tx, target.Balancer) {
		if ports := l.Ports(); l.Protocol.Transport() != lb.TCP || ports.First > 80 || ports.Last < 80 {
			continue
		}
		if l.Protocol != lb.ListenHTTP {
			return nil, errorf("InvalidParameter.PortCheckFailed", "ListenerId: port 80, from which clients are redirected, belongs to listener %s (%s); delete that one, or use ManualRewrite with an HTTP listener on another port", l.ID, l.Protocol)
		}
		return copyListener(l), nil
	}
	l := &lb.Listener{Balancer: target.Balancer, Protocol: lb.ListenHTTP, Port: 80, Created: c.Now().UTC()}
	return l, c.addListener(tx, l)
}

// mirror makes the rule of source with a rule's domain and URL redirect to it.
// One that does already is made anew only if the call names its domain.
func (c *Call) mirror(tx *store.Tx, source, target *lb.Listener, to *lb.Rule, redirect lb.Rewrite, named bool) error {
	redirect.Listener, redirect.Location = target.ID, to.ID
	for i := range source.Rules {
		r := &source.Rules[i]
		if r.Domain != to.Domain || r.URL != to.URL {
			continue
		}
		if old := r.Rewrite; old != nil && (old.Location != to.ID || !old.Auto) {
			return errorf("InvalidParameter.RewriteAlreadyExist", "Domains: rule %s redirects to %s already; call DeleteRewrite first", r.ID, old.Location)
		}
		if r.Rewrite == nil || named {
			r.Rewrite = &redirect
		}
		return nil
	}
	if len(source.Rules) >= c.Quotas.RulesPerListener {
		return refuse(lb.LimitExceeded, "ListenerId", fmt.Sprintf("listener %s has %s, and no more fit", source.ID, count(len(source.Rules), "rule")), "delete one")
	}
	r := lb.Rule{ID: newLocation(c, tx, source), Domain: to.Domain, URL: to.URL, Created: c.Now().UTC(), Scheduler: lb.SchedulerWRR,
		Check: lb.DefaultCheck(source.Protocol), Rewrite: &redirect}
	c.probeFrom(tx.State().Balancers.Get(source.Balancer), &r.Check, nil)
	source.Rules = append(source.Rules, r)
	return nil
}
