// SPDX-License-Identifier: Apache-2.0

package cloudapi

import (
	"fmt"

	"github.com/sallyport/sallyport/internal/lb"
	"github.com/sallyport/sallyport/internal/store"
)

// tlsIn is what an HTTPS listener shows its clients: one certificate, or with
// SniSwitch 1 that of the domain which they ask for.
type tlsIn struct {
	Certificate *certificateIn `tc:""`
	SniSwitch   *int64         `tc:"range=0-1"`
}

func (in tlsIn) sni() bool { return in.SniSwitch != nil && *in.SniSwitch == 1 }

// plain refuses what only an HTTPS listener has.
func (in tlsIn) plain(p lb.ListenerProtocol) error {
	switch {
	case p == lb.ListenHTTPS:
	case in.Certificate.given():
		return refuse(lb.Invalid, "Certificate", "a listener of "+string(p)+" shows no certificate", "leave it out, or use Protocol HTTPS")
	case in.sni():
		return refuse(lb.Invalid, "SniSwitch", "a listener of "+string(p)+" shows no certificate", "leave it out, or use Protocol HTTPS")
	}
	return nil
}

// of is what new listeners of a protocol show. An inline certificate is stored
// once for all of them.
func (in tlsIn) of(c *Call, tx *store.Tx, p lb.ListenerProtocol, b *lb.LoadBalancer) (lb.CertificateID, bool, error) {
	if err := in.plain(p); err != nil || p != lb.ListenHTTPS {
		return "", false, err
	}
	switch {
	case in.sni() && in.Certificate.given():
		return "", false, errCertificateOfDomains()
	case in.sni():
		return "", true, nil
	case !in.Certificate.given():
		return "", false, refuse(lb.Missing, "Certificate", "an HTTPS listener shows one", "give CertId, or CertName, CertContent and CertKey, or set SniSwitch to 1 and give each domain its own")
	}
	id, err := in.Certificate.resolve(c, tx, projectOf(b), "", "")
	return id, false, err
}

func errCertificateOfDomains() error {
	return refuse(lb.Coexist, "Certificate", "with SniSwitch 1 each domain has its own", "give it to CreateRule or ModifyDomainAttributes, or set SniSwitch to 0")
}

// change gives a listener another certificate, or lets each domain have its
// own from now on, beginning with the one that all had. There is no way back:
// one domain's certificate is not another's.
func (in tlsIn) change(c *Call, tx *store.Tx, l *lb.Listener) error {
	if err := in.plain(l.Protocol); err != nil {
		return err
	}
	if l.SNI && in.SniSwitch != nil && !in.sni() {
		return refuse(lb.Unsupported, "SniSwitch", fmt.Sprintf("listener %s has a certificate for each domain, and cannot go back to one", l.ID), "leave it out, or make another listener")
	}
	if in.sni() && !l.SNI {
		for i := range l.Rules {
			l.Rules[i].Certificate = l.Certificate
		}
		l.SNI, l.Certificate = true, ""
	}
	if !in.Certificate.given() {
		return nil
	}
	if l.SNI {
		return errCertificateOfDomains()
	}
	id, err := in.Certificate.resolve(c, tx, projectOf(tx.State().Balancers.Get(l.Balancer)), "", l.Certificate)
	l.Certificate = id
	return err
}

// certify gives a new rule the certificate of its domain. The first rule of a
// domain brings it, others may name the same.
func (c *Call) certify(tx *store.Tx, l *lb.Listener, r *lb.Rule, in *certificateIn, field string) error {
	if !l.SNI {
		if in.given() {
			return errNoCertificateHere(l, field)
		}
		return nil
	}
	for i := range l.Rules {
		if l.Rules[i].Domain == r.Domain {
			r.Certificate = l.Rules[i].Certificate
		}
	}
	if !in.given() {
		if r.Certificate == "" {
			return refuse(lb.Missing, field+"Certificate", fmt.Sprintf("listener %s has a certificate for each domain, and %s has none yet", l.ID, r.Domain), "give CertId, or CertName, CertContent and CertKey")
		}
		return nil
	}
	if have := r.Certificate; have != "" && string(have) != in.CertId {
		return refuse(lb.Invalid, field+"Certificate", fmt.Sprintf("domain %s shows certificate %s already", r.Domain, have), "leave it out, or change that with ModifyDomainAttributes")
	}
	id, err := in.resolve(c, tx, projectOf(tx.State().Balancers.Get(l.Balancer)), field, r.Certificate)
	r.Certificate = id
	return err
}

func errNoCertificateHere(l *lb.Listener, field string) error {
	return refuse(lb.Invalid, field+"Certificate", fmt.Sprintf("domains of listener %s have none of their own", l.ID), "give it to the listener, or set its SniSwitch to 1")
}

// recertify gives a domain another certificate.
func (c *Call) recertify(tx *store.Tx, l *lb.Listener, domain string, in *certificateIn) error {
	if !in.given() {
		return nil
	}
	if !l.SNI {
		return errNoCertificateHere(l, "")
	}
	var now lb.CertificateID
	for i := range l.Rules {
		if l.Rules[i].Domain == domain {
			now = l.Rules[i].Certificate
		}
	}
	id, err := in.resolve(c, tx, projectOf(tx.State().Balancers.Get(l.Balancer)), "", now)
	if err != nil {
		return err
	}
	for i := range l.Rules {
		if l.Rules[i].Domain == domain {
			l.Rules[i].Certificate = id
		}
	}
	return nil
}

// certificateOf is what a rule's domain shows.
func certificateOf(l *lb.Listener, r *lb.Rule) lb.CertificateID {
	if l.SNI {
		return r.Certificate
	}
	return "" // the listener's own
}
