// SPDX-License-Identifier: Apache-2.0

package snapshot

import (
	"fmt"

	"github.com/sallyport/sallyport/internal/lb"
)

// A Certificate is what a gateway shows to clients of HTTPS listeners, and the
// key with which it proves that it may. Assemble leaves Key empty: only who
// sends the snapshot can open it (see Unseal).
type Certificate struct {
	ID    lb.CertificateID
	Chain string // PEM, its own certificate first
	Key   string // PEM, unencrypted: never to be logged, shown or told to a host
}

// String keeps the key out of logs.
func (c Certificate) String() string { return "certificate " + string(c.ID) }

// GoString keeps the key out of %#v.
func (c Certificate) GoString() string { return c.String() }

// certificates adds those that the snapshot's listeners name.
func (a *assembly) certificates() error {
	seen := map[lb.CertificateID]bool{"": true}
	add := func(id lb.CertificateID) error {
		if seen[id] {
			return nil
		}
		seen[id] = true
		c := a.state.Certificates.Get(id)
		if c == nil {
			return fmt.Errorf("a listener shows certificate %s, which does not exist", id)
		}
		a.out.Certificates = append(a.out.Certificates, Certificate{ID: id, Chain: c.Chain})
		return nil
	}
	for _, l := range a.out.Listeners {
		if err := add(l.Certificate); err != nil {
			return err
		}
		for _, r := range l.Rules {
			if err := add(r.Certificate); err != nil {
				return err
			}
		}
	}
	return nil
}

// Unseal fills in the private keys, which open takes from the state. It fails
// with the first that does not open.
func (s *Snapshot) Unseal(state *lb.State, open func(*lb.Certificate) (string, error)) error {
	for i := range s.Certificates {
		c := &s.Certificates[i]
		key, err := open(state.Certificates.Get(c.ID))
		if err != nil {
			return fmt.Errorf("certificate %s: %w", c.ID, err)
		}
		c.Key = key
	}
	return nil
}

// certificates are in order, and each has a chain.
func (v *validation) certificates() error {
	last := lb.CertificateID("")
	for _, c := range v.s.Certificates {
		if c.ID <= last || c.Chain == "" {
			return fmt.Errorf("certificate %q after %q, or without a chain", c.ID, last)
		}
		last, v.shown[c.ID] = c.ID, true
	}
	return nil
}

// shows refuses a listener that names a certificate which is not here, or has
// one without TLS.
func (v *validation) shows(l Listener) error {
	ids := []lb.CertificateID{l.Certificate}
	for _, r := range l.Rules {
		ids = append(ids, r.Certificate)
	}
	if l.TLS && !l.Layer7 {
		return fmt.Errorf("TLS at layer 4")
	}
	for _, id := range ids {
		switch {
		case id == "":
		case !l.TLS:
			return fmt.Errorf("certificate %s without TLS", id)
		case !v.shown[id]:
			return fmt.Errorf("shows certificate %s, which is not here", id)
		}
	}
	return nil
}
