// SPDX-License-Identifier: Apache-2.0

package snapshot

import (
	"fmt"
	"strings"

	"github.com/sallyport/sallyport/internal/lb"
)

// redirect resolves where a rule sends clients, from the rule it names; nil
// when it forwards.
func (a *assembly) redirect(from *lb.Listener, r *lb.Rule) (*Redirect, error) {
	if r.Rewrite == nil {
		return nil, nil
	}
	listener := a.state.Listeners.Get(r.Rewrite.Listener)
	if listener == nil || listener.Balancer != from.Balancer {
		return nil, fmt.Errorf("rule %s redirects to listener %s, which %s has not", r.ID, r.Rewrite.Listener, from.Balancer)
	}
	_, target := lb.FindRule([]*lb.Listener{listener}, listener.ID, r.Rewrite.Location)
	if target == nil {
		return nil, fmt.Errorf("rule %s redirects to rule %s, which %s has not", r.ID, r.Rewrite.Location, listener.ID)
	}
	out := &Redirect{Code: r.Rewrite.Code, Scheme: "http", Port: listener.Port, Host: target.Domain, URL: target.URL}
	if listener.Protocol == lb.ListenHTTPS {
		out.Scheme = "https"
	}
	if out.Scheme == "http" && out.Port == 80 || out.Scheme == "https" && out.Port == 443 {
		out.Port = 0
	}
	if strings.Contains(out.Host, "*") { // the same domain on both sides
		out.Host = ""
	}
	if r.Rewrite.TakeURL {
		out.URL = ""
	}
	return out, nil
}

// validate refuses what a client could not be sent to.
func (r *Redirect) validate() error {
	switch {
	case r == nil:
		return nil
	case r.Code != 301 && r.Code != 302 && r.Code != 307:
		return fmt.Errorf("redirects with %d", r.Code)
	case r.Scheme != "http" && r.Scheme != "https":
		return fmt.Errorf("redirects to scheme %q", r.Scheme)
	case r.Host != "" && (lb.ValidateDomain("", r.Host) != nil || strings.Contains(r.Host, "*")):
		return fmt.Errorf("redirects to host %q", r.Host)
	case r.URL != "" && lb.ValidateURL("", r.URL) != nil:
		return fmt.Errorf("redirects to URL %q", r.URL)
	}
	return nil
}
