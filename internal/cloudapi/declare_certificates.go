// SPDX-License-Identifier: Apache-2.0

package cloudapi

import (
	"fmt"
	"slices"
	"strings"

	"github.com/sallyport/sallyport/internal/lb"
)

func certificateSort() sort[lb.CertificateID, lb.Certificate] {
	return sort[lb.CertificateID, lb.Certificate]{"Certificate", "cert-", func(s *lb.State) lb.Table[lb.CertificateID, lb.Certificate] { return s.Certificates }, func(c *lb.Certificate) string { return c.Alias }}
}

// certificateRef names a certificate by its alias, else by its fingerprint: both
// are the same where it is uploaded again, its id is not.
func (x *exporter) certificateRef(id lb.CertificateID) string {
	c := x.st.Certificates.Get(id)
	if c == nil {
		return string(id)
	}
	ref := reference(x, x.names.certificates, id, c.Alias)
	if ref == string(id) && !x.ids && len(printed(x.st, fingerprint(c))) == 1 {
		return fingerprint(c)
	}
	return ref
}

// printed lists the certificates with a fingerprint.
func printed(st *lb.State, print string) []lb.CertificateID {
	var found []lb.CertificateID
	for id, c := range st.Certificates.All() {
		if strings.EqualFold(fingerprint(c), print) {
			found = append(found, id)
		}
	}
	return found
}

// certificate resolves the one that a document names. Documents hold none:
// a private key is not for files.
func (a *applier) certificate(path, ref string) (string, error) {
	if ref == "" {
		return "", nil
	}
	if len(ref) == fingerprintLength {
		if found := printed(a.st(), ref); len(found) == 1 {
			return string(found[0]), nil
		}
	}
	_, id, err := certificateSort().find(a, path+"Certificate", ref)
	if err != nil && id == "" && !a.hasCertificate(ref) {
		return "", refuse(lb.NotFound, path+"Certificate", fmt.Sprintf("there is no certificate with the alias, fingerprint or id %q", clip(ref, 60)), "upload it first, with UploadCertificate of the ssl service")
	}
	return string(id), err
}

func (a *applier) hasCertificate(alias string) bool {
	for c := range a.st().Certificates.Values() {
		if c.Alias == alias {
			return true
		}
	}
	return false
}

func certificateNamed(id string) *certificateIn {
	if id == "" {
		return nil
	}
	return &certificateIn{CertId: id}
}

// tls is what the document's listener shows, its certificate resolved.
func (d listenerDoc) tls() tlsIn { return tlsIn{certificateNamed(d.Certificate), &d.SniSwitch} }

// certify gives the domain of a rule's document its certificate, where the
// domain is there and has another one.
func (a *applier) certify(path, title string, place targetPlace, d ruleDoc) error {
	l := a.st().Listeners.Get(lb.ListenerID(place.ListenerId))
	for i := range l.Rules {
		if l.Rules[i].Domain != d.Domain || d.Certificate == "" || string(l.Rules[i].Certificate) == d.Certificate {
			continue
		}
		_, err := modifyDomainAttributes(a.sub(nil), &modifyDomainAttributesIn{LoadBalancerId: place.LoadBalancerId, ListenerId: place.ListenerId,
			Domain: d.Domain, Certificate: certificateNamed(d.Certificate)})
		a.note("change", "Rule", string(l.Rules[i].ID), title, path, "Certificate")
		return at(path, "", err)
	}
	return nil
}

// certified reports whether a new rule of a domain needs no certificate: because
// an earlier one brought it, or the listener has one for all.
func (a *applier) certified(place targetPlace, domain string) bool {
	l := a.st().Listeners.Get(lb.ListenerID(place.ListenerId))
	return !l.SNI || slices.ContainsFunc(l.Rules, func(r lb.Rule) bool { return r.Domain == domain && r.Certificate != "" })
}

// markAuto says of a redirect that AutoRewrite would have made it.
func (a *applier) markAuto(listener lb.ListenerID, rule lb.LocationID) {
	l := copyListener(a.st().Listeners.Get(listener))
	for i := range l.Rules {
		if r := &l.Rules[i]; r.ID == rule {
			redirect := *r.Rewrite
			redirect.Auto = true
			r.Rewrite = &redirect
		}
	}
	a.tx.PutListener(l)
}
