// SPDX-License-Identifier: Apache-2.0

package lb

import "time"

// A CertificateID names a certificate: cert-xxxxxxxx.
type CertificateID string

// A Certificate is what HTTPS listeners show their clients. It never changes
// but in name, project and tags: a new one takes its place. It never holds a
// private key that can be read: Sealed is sealed with a key that is not in the
// database.
type Certificate struct {
	ID        CertificateID
	Alias     string // for people; may be empty
	ProjectID string // decimal integer, "0" by default
	Chain     string // PEM: the certificate, then those that sign it
	Sealed    []byte // the private key in PEM, encrypted
	Subject   string // common name; may be empty
	Names     []string
	Issuer    string // common name of who signed it
	NotBefore time.Time
	NotAfter  time.Time
	Created   time.Time
	Tags      Tags
}

// Certificates are all that a listener shows clients, each once.
func (l *Listener) Certificates() []CertificateID {
	var all []CertificateID
	seen := map[CertificateID]bool{"": true}
	add := func(id CertificateID) {
		if !seen[id] {
			seen[id] = true
			all = append(all, id)
		}
	}
	add(l.Certificate)
	for i := range l.Rules {
		add(l.Rules[i].Certificate)
	}
	return all
}
