// SPDX-License-Identifier: Apache-2.0

package cloudapi

import (
	"fmt"
	"slices"

	"github.com/sallyport/sallyport/internal/lb"
	"github.com/sallyport/sallyport/internal/store"
)

type ruleIn struct {
	Domain      string         `tc:"required,len=80"`
	Url         string         `tc:"required,len=200"`
	HealthCheck *healthCheckIn `tc:""`
	choiceIn
	CookieName    *string        `tc:"len=80"`
	ForwardType   string         `tc:"only=HTTP"`
	TargetType    string         `tc:"only=NODE|TARGETGROUP|TARGETGROUP-V2"`
	DefaultServer bool           `tc:""`
	Certificate   *certificateIn `tc:""`
	_             struct{}       `unserved:"Domains Http2 TrpcCallee TrpcFunc Quic MultiCertInfo OAuth"`
}

type createRuleIn struct {
	LoadBalancerId string   `tc:"required"`
	ListenerId     string   `tc:"required"`
	Rules          []ruleIn `tc:"required"`
}

type createRuleOut struct {
	LocationIds []string
}

// createRule adds rules to an HTTP listener. A listener with rules has exactly
// one default domain: the first rule's, until another is named.
func createRule(c *Call, in *createRuleIn) (*createRuleOut, error) {
	if len(in.Rules) == 0 {
		return nil, refuse(lb.Missing, "Rules", "no rule is given", "give at least one")
	}
	for i, r := range in.Rules {
		same := func(o ruleIn) bool { return o.Domain == r.Domain && o.Url == r.Url }
		if first := slices.IndexFunc(in.Rules, same); first < i {
			return nil, refuse(lb.Duplicate, fmt.Sprintf("Rules.%d.Url", i), fmt.Sprintf("Rules.%d is %s%s too", first, clip(r.Domain, 80), clip(r.Url, 80)), "give each once")
		}
	}
	var ids []string
	err := c.Update(func(tx *store.Tx) error {
		ids = nil
		l, err := changeHTTPListener(tx.State(), in.LoadBalancerId, in.ListenerId)
		if err != nil {
			return err
		}
		for i := range in.Rules {
			if len(l.Rules) >= c.Quotas.RulesPerListener {
				return refuse(lb.LimitExceeded, "Rules", fmt.Sprintf("a listener has at most %s", count(c.Quotas.RulesPerListener, "rule")), "delete one")
			}
			r, err := in.Rules[i].rule(l, fmt.Sprintf("Rules.%d.", i))
			if err != nil {
				return err
			}
			if err := c.certify(tx, l, &r, in.Rules[i].Certificate, fmt.Sprintf("Rules.%d.", i)); err != nil {
				return err
			}
			r.ID, r.Created = newLocation(c, tx, l), c.Now().UTC()
			c.probeFrom(tx.State().Balancers.Get(l.Balancer), &r.Check, in.Rules[i].HealthCheck)
			l.Rules = append(l.Rules, r)
			if in.Rules[i].DefaultServer || len(l.Rules) == 1 {
				setDefault(l, r.Domain)
			} else {
				setDefault(l, defaultDomain(l))
			}
			ids = append(ids, string(r.ID))
		}
		tx.PutListener(l)
		return nil
	})
	return &createRuleOut{LocationIds: ids}, err
}

// rule checks a new rule against the listener's others.
func (in *ruleIn) rule(l *lb.Listener, field string) (lb.Rule, error) {
	r := lb.Rule{Domain: in.Domain, URL: in.Url, Check: lb.DefaultCheck(l.Protocol), From: targetType(in.TargetType)}
	if err := lb.ValidateDomain(field+"Domain", r.Domain); err != nil {
		return r, err
	}
	if err := checkURL(l, r.Domain, r.URL, field+"Url"); err != nil {
		return r, err
	}
	if err := in.choiceIn.ofRule(&r, field, in.CookieName); err != nil {
		return r, err
	}
	return r, in.HealthCheck.apply(&r.Check, l.Protocol)
}

func checkURL(l *lb.Listener, domain, url, field string) error {
	if err := lb.ValidateURL(field, url); err != nil {
		return err
	}
	for _, r := range l.Rules {
		if r.Domain == domain && r.URL == url {
			return refuse(lb.Duplicate, field, fmt.Sprintf("rule %s has %s%s already", r.ID, domain, url), "choose another, or change that rule")
		}
	}
	return nil
}

// newLocation makes the id of a rule that is to be the listener's.
func newLocation(c *Call, tx *store.Tx, l *lb.Listener) lb.LocationID {
	var taken lb.Table[lb.LocationID, lb.Rule]
	for _, r := range l.Rules {
		taken.Put(r.ID, nil)
	}
	for {
		id := makeID(c, "loc-", taken)
		if tx.Index().Located(id) == "" {
			return id
		}
		taken.Put(id, nil)
	}
}

// defaultDomain is "" for a listener without rules.
func defaultDomain(l *lb.Listener) string {
	for _, r := range l.Rules {
		if r.Default {
			return r.Domain
		}
	}
	return ""
}

// setDefault makes domain the only default one.
func setDefault(l *lb.Listener, domain string) {
	for i := range l.Rules {
		l.Rules[i].Default = l.Rules[i].Domain == domain
	}
}

func hasDomain(l *lb.Listener, domain string) bool {
	return slices.ContainsFunc(l.Rules, func(r lb.Rule) bool { return r.Domain == domain })
}

func errNoDomain(field, domain string) error {
	return refuse(lb.NotFound, field, fmt.Sprintf("the listener has no rule of domain %q", clip(domain, 80)), "DescribeListeners lists them")
}

// findRule picks a rule by LocationId, or by Domain and Url.
func findRule(l *lb.Listener, location, domain, url string) (*lb.Rule, error) {
	if location == "" && (domain == "" || url == "") {
		return nil, refuse(lb.Missing, "LocationId", "an HTTP listener has its targets in rules", "give LocationId, or Domain and Url")
	}
	for i, r := range l.Rules {
		if location == string(r.ID) || location == "" && r.Domain == domain && r.URL == url {
			return &l.Rules[i], nil
		}
	}
	if location == "" {
		location = domain + url
	}
	return nil, errorf("InvalidParameter.LocationNotFound", "LocationId: listener %s has no rule %q; DescribeListeners lists them", l.ID, clip(location, 120))
}

type modifyRuleIn struct {
	LoadBalancerId string         `tc:"required"`
	ListenerId     string         `tc:"required"`
	LocationId     string         `tc:"required"`
	Url            string         `tc:"len=200"`
	HealthCheck    *healthCheckIn `tc:""`
	choiceIn
	CookieName  *string  `tc:"len=80"`
	ForwardType string   `tc:"only=HTTP"`
	_           struct{} `unserved:"TrpcCallee TrpcFunc OAuth"`
}

func modifyRule(c *Call, in *modifyRuleIn) (*done, error) {
	return nil, c.Update(func(tx *store.Tx) error {
		l, err := changeHTTPListener(tx.State(), in.LoadBalancerId, in.ListenerId)
		if err != nil {
			return err
		}
		r, err := findRule(l, in.LocationId, "", "")
		if err != nil {
			return err
		}
		if in.Url != "" && in.Url != r.URL {
			if err := checkURL(l, r.Domain, in.Url, "Url"); err != nil {
				return err
			}
			r.URL = in.Url
		}
		if err := in.choiceIn.ofRule(r, "", in.CookieName); err != nil {
			return err
		}
		before := r.Check
		if err := in.HealthCheck.apply(&r.Check, l.Protocol); err != nil {
			return err
		}
		if err := keepsCheck(r.From, before, r.Check); err != nil {
			return err
		}
		tx.PutListener(l)
		return nil
	})
}

type deleteRuleIn struct {
	LoadBalancerId         string   `tc:"required"`
	ListenerId             string   `tc:"required"`
	LocationIds            []string `tc:""`
	Domain                 string   `tc:""`
	Url                    string   `tc:""`
	NewDefaultServerDomain string   `tc:""`
}

// deleteRule deletes rules by id, or those of a domain, or the one of a domain
// and URL. When the default domain goes, the one named takes its place, else
// that of the earliest rule left.
func deleteRule(c *Call, in *deleteRuleIn) (*done, error) {
	if len(in.LocationIds) == 0 && in.Domain == "" {
		return nil, refuse(lb.Missing, "LocationIds", "no rule is named", "give LocationIds, or Domain with or without Url")
	}
	if len(in.LocationIds) > 0 && in.Domain != "" {
		return nil, refuse(lb.Coexist, "Domain", "rules are named by LocationIds already", "give one of the two")
	}
	return nil, c.Update(func(tx *store.Tx) error {
		l, err := changeHTTPListener(tx.State(), in.LoadBalancerId, in.ListenerId)
		if err != nil {
			return err
		}
		for i, id := range in.LocationIds {
			if _, err := findRule(l, id, "", ""); err != nil {
				return inList(err, "LocationIds", i)
			}
		}
		before, old := len(l.Rules), defaultDomain(l)
		l.Rules = slices.DeleteFunc(l.Rules, func(r lb.Rule) bool {
			if len(in.LocationIds) > 0 {
				return slices.Contains(in.LocationIds, string(r.ID))
			}
			return r.Domain == in.Domain && (in.Url == "" || r.URL == in.Url)
		})
		if len(l.Rules) == before {
			return errorf("InvalidParameter.LocationNotFound", "Domain: listener %s has no rule of %q; DescribeListeners lists them", l.ID, clip(in.Domain+in.Url, 120))
		}
		if err := replaceDefault(l, old, in.NewDefaultServerDomain); err != nil {
			return err
		}
		tx.PutListener(l)
		return rewritesHold(tx, l.Balancer, "LocationIds")
	})
}

// replaceDefault keeps exactly one default domain after rules were removed or
// renamed.
func replaceDefault(l *lb.Listener, old, wanted string) error {
	if wanted != "" && !hasDomain(l, wanted) {
		return errNoDomain("NewDefaultServerDomain", wanted)
	}
	switch {
	case wanted != "":
		setDefault(l, wanted)
	case hasDomain(l, old):
		setDefault(l, old)
	case len(l.Rules) > 0:
		setDefault(l, l.Rules[0].Domain)
	}
	return nil
}

type modifyDomainIn struct {
	LoadBalancerId string `tc:"required"`
	ListenerId     string `tc:"required"`
	Domain         string `tc:"required"`
	NewDomain      string `tc:"required,len=80"`
}

func modifyDomain(c *Call, in *modifyDomainIn) (*done, error) {
	return modifyDomainAttributes(c, &modifyDomainAttributesIn{LoadBalancerId: in.LoadBalancerId, ListenerId: in.ListenerId,
		Domain: in.Domain, NewDomain: in.NewDomain})
}

type modifyDomainAttributesIn struct {
	LoadBalancerId         string         `tc:"required"`
	ListenerId             string         `tc:"required"`
	Domain                 string         `tc:"required"`
	NewDomain              string         `tc:"len=80"`
	DefaultServer          *bool          `tc:""`
	NewDefaultServerDomain string         `tc:""`
	Certificate            *certificateIn `tc:""`
	_                      struct{}       `unserved:"Http2 Quic NewDomains MultiCertInfo"`
}

// modifyDomainAttributes renames a domain, makes it the default one, or hands
// that to another. The default domain cannot stop being it without an heir.
func modifyDomainAttributes(c *Call, in *modifyDomainAttributesIn) (*done, error) {
	return nil, c.Update(func(tx *store.Tx) error {
		l, err := changeHTTPListener(tx.State(), in.LoadBalancerId, in.ListenerId)
		if err != nil {
			return err
		}
		if !hasDomain(l, in.Domain) {
			return errNoDomain("Domain", in.Domain)
		}
		old, domain := defaultDomain(l), in.Domain
		if in.NewDomain != "" && in.NewDomain != in.Domain {
			if err := rename(l, in.Domain, in.NewDomain); err != nil {
				return err
			}
			domain = in.NewDomain
			if old == in.Domain {
				old = domain
			}
		}
		if err := c.recertify(tx, l, domain, in.Certificate); err != nil {
			return err
		}
		heir := in.NewDefaultServerDomain
		if in.DefaultServer != nil && *in.DefaultServer {
			if heir != "" && heir != domain {
				return refuse(lb.Coexist, "NewDefaultServerDomain", "DefaultServer makes another domain the default one", "give one of the two")
			}
			heir = domain
		}
		if in.DefaultServer != nil && !*in.DefaultServer && old == domain && (heir == "" || heir == domain) {
			return refuse(lb.Missing, "NewDefaultServerDomain", domain+" is the default domain, and a listener has exactly one", "name the domain that takes over")
		}
		if err := replaceDefault(l, old, heir); err != nil {
			return err
		}
		tx.PutListener(l)
		return rewritesHold(tx, l.Balancer, "NewDomain")
	})
}

func rename(l *lb.Listener, from, to string) error {
	if err := lb.ValidateDomain("NewDomain", to); err != nil {
		return err
	}
	at := slices.IndexFunc(l.Rules, func(r lb.Rule) bool { return r.Domain == to })
	for i := range l.Rules {
		if l.Rules[i].Domain != from {
			continue
		}
		if at >= 0 { // it becomes a part of that domain, which shows its own certificate
			l.Rules[i].Certificate = l.Rules[at].Certificate
		}
		if err := checkURL(l, to, l.Rules[i].URL, "NewDomain"); err != nil {
			return err
		}
		l.Rules[i].Domain = to
	}
	return nil
}

// ruleOut is a layer-7 rule as clients read it.
type ruleOut struct {
	LocationId, Domain, Url, Scheduler, ForwardType, TargetType, ListenerId string
	CreateTime                                                              string
	BeAutoCreated                                                           bool
	Domains                                                                 []string
	DefaultServer, Http2                                                    bool
	SessionExpireTime                                                       int
	HealthCheck                                                             *healthCheckOut
	Certificate                                                             *certificateOut
	RewriteTarget                                                           *rewriteOut
	TargetGroup                                                             *basicGroup
	TargetGroupList                                                         []basicGroup
}

func showRule(st *lb.State, l *lb.Listener, r *lb.Rule) ruleOut {
	group, groups := showGroup(st, r.Group)
	return ruleOut{
		LocationId: string(r.ID), Domain: r.Domain, Url: r.URL, Scheduler: r.Scheduler, ForwardType: "HTTP", TargetType: r.From.Name(), TargetGroup: group, TargetGroupList: groups, RewriteTarget: showRewrite(r),
		ListenerId: string(l.ID), CreateTime: stamp(r.Created), BeAutoCreated: r.Rewrite != nil && r.Rewrite.Auto, Certificate: showCertificate(certificateOf(l, r)), Domains: []string{r.Domain},
		DefaultServer: r.Default, Http2: false, HealthCheck: showCheck(r.Check), SessionExpireTime: r.Choice.Session,
	}
}
