// SPDX-License-Identifier: Apache-2.0

package cloudapi

import (
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/sallyport/sallyport/internal/lb"
	"github.com/sallyport/sallyport/internal/store"
)

// maxChain and minRSA bound what a certificate may be: how many are in its
// chain, and the bits of an RSA key.
const (
	maxChain = 10
	minRSA   = 2048
)

// parseCertificate checks a chain and its private key, both PEM, and fills in
// what the first certificate says of itself. Content and key name the fields
// that they came in. A key that belongs to another certificate is refused as
// lb.Coexist, everything else as lb.Invalid; the key is in no message.
func parseCertificate(content, key string, now time.Time, contentField, keyField string) (*lb.Certificate, error) {
	chain, err := parseChain(content, contentField)
	if err != nil {
		return nil, err
	}
	leaf := chain[0]
	if now.After(leaf.NotAfter) {
		return nil, errExpired(contentField, leaf.NotAfter)
	}
	pair, err := tls.X509KeyPair([]byte(content), []byte(key))
	switch {
	case err != nil && strings.Contains(err.Error(), "does not match"):
		return nil, refuse(lb.Coexist, keyField, "the private key is not that of the first certificate", "give the key that the certificate was made for, and that certificate first")
	case err != nil:
		return nil, refuse(lb.Invalid, keyField, "it is no private key in PEM", "give it unencrypted, as PKCS #8, PKCS #1 or SEC 1")
	}
	if k, ok := pair.PrivateKey.(*rsa.PrivateKey); ok && k.N.BitLen() < minRSA {
		return nil, refuse(lb.Invalid, keyField, fmt.Sprintf("an RSA key of %d bits is too short", k.N.BitLen()), fmt.Sprintf("use one of %d or more", minRSA))
	}
	c := &lb.Certificate{ProjectID: "0", Chain: content, Subject: leaf.Subject.CommonName, Issuer: leaf.Issuer.CommonName,
		NotBefore: leaf.NotBefore.UTC(), NotAfter: leaf.NotAfter.UTC(), Names: leaf.DNSNames}
	for _, ip := range leaf.IPAddresses {
		c.Names = append(c.Names, ip.String())
	}
	return c, nil
}

func errExpired(field string, at time.Time) error {
	return refuse(lb.Invalid, field, "the certificate expired at "+stamp(at), "give one that is valid")
}

// parseChain reads certificates, each of which is followed by who signed it.
func parseChain(content, field string) ([]*x509.Certificate, error) {
	var chain []*x509.Certificate
	for rest := []byte(content); ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			return nil, refuse(lb.Invalid, field, fmt.Sprintf("it has a block of type %q", clip(block.Type, 40)), "give certificates only, and the key in its own field")
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, refuse(lb.Invalid, field, fmt.Sprintf("certificate %d in it cannot be read", len(chain)+1), "give what the authority issued, unchanged")
		}
		chain = append(chain, c)
	}
	if len(chain) == 0 {
		return nil, refuse(lb.Invalid, field, "it holds no certificate in PEM", "begin it with -----BEGIN CERTIFICATE-----")
	}
	if len(chain) > maxChain {
		return nil, refuse(lb.Invalid, field, count(len(chain), "certificate")+" in one chain", fmt.Sprintf("give at most %d", maxChain))
	}
	for i := range len(chain) - 1 {
		if string(chain[i].RawIssuer) != string(chain[i+1].RawSubject) {
			return nil, refuse(lb.Invalid, field, fmt.Sprintf("certificate %d was not issued by certificate %d, which follows it", i+1, i+2), "put the server's first, and after each the one that signed it")
		}
	}
	return chain, nil
}

// addCertificate stores a certificate under a new id, its key sealed.
func (c *Call) addCertificate(tx *store.Tx, cert *lb.Certificate, key string) *lb.Certificate {
	own := *cert
	own.ID, own.Created = makeID(c, "cert-", tx.State().Certificates), c.Now().UTC()
	own.Sealed = c.Vault.sealKey(own.ID, key)
	tx.PutCertificate(&own)
	return &own
}

// certificateIn is the certificate of an HTTPS listener or of a domain: one
// that is stored, by its id, or a new one.
type certificateIn struct {
	SSLMode     string   `tc:"only=UNIDIRECTIONAL,enum=UNIDIRECTIONAL|MUTUAL"` // "": UNIDIRECTIONAL
	CertId      string   `tc:""`
	CertName    string   `tc:"len=80"`
	CertContent string   `tc:""`
	CertKey     string   `tc:""`
	_           struct{} `unserved:"CertCaId CertCaName CertCaContent SSLVerifyClient"`
}

// given reports whether it asks for a certificate: clients send {} for none.
func (in *certificateIn) given() bool { return in != nil && *in != certificateIn{} }

// resolve finds the certificate, or stores the new one in the project. One that
// has expired is only for who shows it now, for else nothing else of him could
// be changed.
func (in *certificateIn) resolve(c *Call, tx *store.Tx, project int64, field string, shown lb.CertificateID) (lb.CertificateID, error) {
	at := field + "Certificate."
	if in.CertId != "" {
		if in.CertContent+in.CertKey+in.CertName != "" {
			return "", refuse(lb.Coexist, at+"CertContent", "CertId names a certificate already", "give one of the two")
		}
		id := lb.CertificateID(in.CertId)
		cert := tx.State().Certificates.Get(id)
		if cert == nil {
			return "", refuse(lb.NotFound, at+"CertId", fmt.Sprintf("there is no certificate %q", clip(in.CertId, 40)), "upload it with UploadCertificate of the ssl service, or give CertName, CertContent and CertKey")
		}
		if id != shown && c.Now().After(cert.NotAfter) {
			return "", errExpired(at+"CertId", cert.NotAfter)
		}
		return id, nil
	}
	for _, f := range []struct{ name, text string }{{"CertContent", in.CertContent}, {"CertKey", in.CertKey}, {"CertName", in.CertName}} {
		if f.text == "" {
			return "", refuse(lb.Missing, at+f.name, "it is not given", "give CertId, or CertName, CertContent and CertKey")
		}
	}
	cert, err := parseCertificate(in.CertContent, in.CertKey, c.Now(), at+"CertContent", at+"CertKey")
	if err != nil {
		return "", err
	}
	cert.Alias, cert.ProjectID = in.CertName, strconv.FormatInt(project, 10)
	return c.addCertificate(tx, cert, in.CertKey).ID, nil
}

// certificateOut is a listener's or domain's certificate as clients read it.
type certificateOut struct {
	SSLMode, CertId           string
	CertCaId, SSLVerifyClient *string
	ExtCertIds                []string
}

// showCertificate is nil where there is none.
func showCertificate(id lb.CertificateID) *certificateOut {
	if id == "" {
		return nil
	}
	return &certificateOut{SSLMode: "UNIDIRECTIONAL", CertId: string(id)}
}
