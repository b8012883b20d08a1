// SPDX-License-Identifier: Apache-2.0

package replay

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"strings"
	"time"
)

// certificates are made anew for each play: none that is kept in a file would
// be valid for ever.
func certificates() (map[string]any, error) {
	bound := map[string]any{}
	for i, name := range []string{"site", "next", "ca"} {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			return nil, err
		}
		secret, err := x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			return nil, err
		}
		template := &x509.Certificate{SerialNumber: big.NewInt(int64(i + 1)), Subject: pkix.Name{CommonName: "www.example.com"}, DNSNames: []string{"www.example.com"},
			NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour), BasicConstraintsValid: true}
		if name == "ca" {
			template.Subject.CommonName, template.DNSNames, template.IsCA = "a CA of clients", nil, true
			template.KeyUsage = x509.KeyUsageCertSign
		}
		raw, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
		if err != nil {
			return nil, fmt.Errorf("certificate %s: %w", name, err)
		}
		bound["$"+name+"-crt"] = pemText("CERTIFICATE", raw)
		bound["$"+name+"-key"] = pemText("PRIVATE KEY", secret)
	}
	return bound, nil
}

func pemText(kind string, raw []byte) string {
	return strings.TrimSuffix(string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: raw})), "\n")
}
