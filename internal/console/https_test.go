// SPDX-License-Identifier: Apache-2.0

package console

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"testing"
	"time"
)

// uploaded stores a certificate and returns its id.
func (d *desk) uploaded(name string) string {
	d.Helper()
	signer, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		d.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(100 * 365 * 24 * time.Hour)}
	raw, err := x509.CreateCertificate(rand.Reader, template, template, &signer.PublicKey, signer)
	if err != nil {
		d.Fatal(err)
	}
	key, err := x509.MarshalPKCS8PrivateKey(signer)
	if err != nil {
		d.Fatal(err)
	}
	var made struct{ CertificateId string }
	d.do(sslVersion, "UploadCertificate", m{"Alias": name, "CertificatePublicKey": string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: raw})),
		"CertificatePrivateKey": string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key}))}, &made)
	return made.CertificateId
}

// An HTTPS listener is made with a certificate that was uploaded, and rules of
// one with a certificate for each domain bring theirs.
func TestHTTPSListener(t *testing.T) {
	d := newDesk(t)
	d.login()
	w := d.build()
	id := d.uploaded("shop.example.com")
	path := "clb/" + w.balancer + "/listeners/new"
	d.open(path, 200)
	d.says(id)
	d.fill(path, 200, "ListenerName", "secure", "Protocol", "HTTPS", "Port", "443", "CertId", id, "Domain", "shop.example.com", "Url", "/", "HealthSwitch", "")
	d.open("clb/"+w.balancer+"/listeners", 200)
	d.says("HTTPS:443")
	d.says("shows certificate " + id)

	var made struct{ ListenerIds []string }
	d.do(clbVersion, "CreateListener", m{"LoadBalancerId": w.balancer, "Ports": []int{8443}, "Protocol": "HTTPS", "SniSwitch": 1}, &made)
	path = "clb/" + w.balancer + "/listeners/" + made.ListenerIds[0] + "/rules/new"
	d.open(path, 200)
	d.fill(path, 200, "Domain", "own.example.com", "Url", "/", "CertId", id, "HealthSwitch", "")
	found := false
	for l := range d.api.Store.State().Listeners.Values() {
		found = found || l.SNI && len(l.Rules) == 1 && string(l.Rules[0].Certificate) == id
	}
	if !found {
		t.Error("no rule shows the certificate")
	}
}
