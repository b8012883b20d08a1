// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"crypto/tls"
	"net/http"
	"net/netip"
	"path"
	"strings"
	"sync"

	"github.com/sallyport/sallyport/internal/lb"
	"github.com/sallyport/sallyport/internal/snapshot"
)

// A view is a snapshot as requests read it. It has an upstream pool of its
// own: a connection that was dialled under one revision never serves a
// request of a later one.
type view struct {
	revision lb.Revision
	routes   map[netip.AddrPort]*routes
	targets  map[uint32]snapshot.Target
	shown    map[lb.CertificateID]shown
	upstream *http.Transport
}

// newView fails when a certificate and its key are not what TLS needs.
func (p *Proxy) newView(s *snapshot.Snapshot, previous *view) (*view, error) {
	shown, err := certificates(s, previous)
	if err != nil {
		return nil, err
	}
	v := &view{
		shown:    shown,
		revision: s.Revision,
		routes:   map[netip.AddrPort]*routes{},
		targets:  map[uint32]snapshot.Target{},
	}
	for _, t := range s.Targets {
		v.targets[t.Num] = t
	}
	turns := map[lb.LocationID]*wheel{}
	if previous != nil {
		for _, r := range previous.routes {
			for _, location := range r.all {
				turns[location.id] = location.choose.wheel
			}
		}
	}
	for _, l := range s.Listeners {
		if !l.Layer7 {
			continue
		}
		r := newRoutes(l.Rules, turns, &p.loads)
		r.count(&p.books, l)
		r.certify(l, shown)
		for _, vip := range l.VIPs {
			v.routes[netip.AddrPortFrom(vip, l.Port)] = r
		}
	}
	v.upstream = p.newTransport(v)
	return v, nil
}

// routes are one listener's rules in the order of looking up.
type routes struct {
	exact    map[string]*domain
	leading  map[string]*domain // "*.example.com" under ".example.com"
	trailing map[string]*domain // "www.example.*" under "www.example."
	fallback *domain            // nil: a listener without rules
	all      []*location
	own      *tally // requests that no rule took

	tls         bool             // clients speak HTTP inside TLS
	certificate *tls.Certificate // with tls: of all domains; nil: each has its own
}

// A domain is the rules that share a domain.
type domain struct {
	locations   []*location
	certificate *tls.Certificate // nil: the listener's, or none
}

// A location is a rule: a URL prefix and who serves it.
type location struct {
	id       lb.LocationID
	url      string
	choose   *chooser
	tally    *tally
	redirect *snapshot.Redirect // nil: the rule has targets
}

func newRoutes(rules []snapshot.Rule, turns map[lb.LocationID]*wheel, loads *loads) *routes {
	r := &routes{exact: map[string]*domain{}, leading: map[string]*domain{}, trailing: map[string]*domain{}}
	for _, rule := range rules {
		d := r.domainOf(rule.Domain)
		l := &location{id: rule.ID, url: rule.URL, choose: newChooser(rule, turns[rule.ID], loads), redirect: rule.Redirect}
		d.locations = append(d.locations, l)
		r.all = append(r.all, l)
		if r.fallback == nil || rule.Default {
			r.fallback = d
		}
	}
	return r
}

// domainOf is the domain of that name, made when there is none yet.
func (r *routes) domainOf(name string) *domain {
	table, key := r.exact, strings.ToLower(name)
	if after, ok := strings.CutPrefix(key, "*"); ok {
		table, key = r.leading, after
	} else if before, ok := strings.CutSuffix(key, "*"); ok {
		table, key = r.trailing, before
	}
	if table[key] == nil {
		table[key] = &domain{}
	}
	return table[key]
}

// domain finds the rules for a request's Host: exact before leading wildcard
// before trailing wildcard, the longest of a kind first, else the default
// domain. It returns nil only when the listener has no rules.
func (r *routes) domain(host string) *domain {
	host = hostName(host)
	if d := r.exact[host]; d != nil {
		return d
	}
	for i := range host {
		if host[i] == '.' && i > 0 {
			if d := r.leading[host[i:]]; d != nil {
				return d
			}
		}
	}
	for i := len(host) - 1; i > 0; i-- {
		if host[i-1] == '.' {
			if d := r.trailing[host[:i]]; d != nil {
				return d
			}
		}
	}
	return r.fallback
}

// hostName strips port, brackets and the root's dot from a Host header.
func hostName(host string) string {
	host = strings.ToLower(host)
	if rest, ok := strings.CutPrefix(host, "["); ok {
		host, _, _ = strings.Cut(rest, "]")
		return host
	}
	host, _, _ = strings.Cut(host, ":")
	return strings.TrimSuffix(host, ".")
}

// location finds the longest URL that is a prefix of the decoded path. When
// the path lacks only the slash that a rule ends in, redirect is that rule's
// URL. Both are zero when nothing matches.
func (d *domain) location(requested string) (match *location, redirect string) {
	if !strings.HasPrefix(requested, "/") {
		return nil, ""
	}
	clean := path.Clean(requested)
	if strings.HasSuffix(requested, "/") && clean != "/" {
		clean += "/"
	}
	for _, l := range d.locations {
		if l.url == clean+"/" {
			redirect = l.url
		}
		if strings.HasPrefix(clean, l.url) && (match == nil || len(l.url) > len(match.url)) {
			match = l
		}
	}
	if redirect != "" && (match == nil || match.url != clean) {
		return nil, redirect
	}
	return match, ""
}

// A wheel is smooth weighted round robin: over one turn each target gets its
// weight's share, spread evenly. It is safe for concurrent use.
type wheel struct {
	mu    sync.Mutex
	seats []seat
}

type seat struct {
	num    uint32
	weight int
	credit int
}

// newWheel goes on where previous (which may be nil) stands, so that frequent
// commits don't send everything to the first target.
func newWheel(targets []snapshot.TargetRef, previous *wheel) *wheel {
	credit := map[uint32]int{}
	if previous != nil {
		previous.mu.Lock()
		for _, s := range previous.seats {
			credit[s.num] = s.credit
		}
		previous.mu.Unlock()
	}
	w := &wheel{}
	for _, t := range targets {
		if t.Weight > 0 {
			w.seats = append(w.seats, seat{num: t.Num, weight: t.Weight, credit: credit[t.Num]})
		}
	}
	return w
}

// nums are all targets that may get new requests. It takes no lock: only
// credit ever changes.
func (w *wheel) nums() []uint32 {
	nums := make([]uint32, len(w.seats))
	for i := range w.seats {
		nums[i] = w.seats[i].num
	}
	return nums
}

// next picks among the eligible by their weights, each reduced to its share;
// ok is false when none is.
func (w *wheel) next(eligible func(num uint32) bool, share func(num uint32) uint32) (num uint32, ok bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	var best *seat
	total := 0
	for i := range w.seats {
		s := &w.seats[i]
		if !eligible(s.num) {
			continue
		}
		weight := max(1, s.weight*int(share(s.num)))
		s.credit += weight
		total += weight
		if best == nil || s.credit > best.credit {
			best = s
		}
	}
	if best == nil {
		return 0, false
	}
	best.credit -= total
	return best.num, true
}
