// SPDX-License-Identifier: Apache-2.0

package cloudapi

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/sallyport/sallyport/internal/lb"
	"github.com/sallyport/sallyport/internal/policy"
	"github.com/sallyport/sallyport/internal/snapshot"
	"github.com/sallyport/sallyport/internal/store"
)

// A pemPair is a certificate and its key.
type pemPair struct {
	chain, key string
	cert       *x509.Certificate
	signer     any
}

// issued makes a certificate for a name; by nil: it signs itself.
func issued(t *testing.T, name string, until time.Time, by *pemPair) pemPair {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return issuedWith(t, name, until, by, key, &key.PublicKey)
}

func issuedWith(t *testing.T, name string, until time.Time, by *pemPair, key, public any) pemPair {
	t.Helper()
	template := &x509.Certificate{SerialNumber: big.NewInt(7), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name}, NotBefore: until.Add(-24 * time.Hour), NotAfter: until,
		IsCA: by == nil, BasicConstraintsValid: true}
	parent, signer := template, key
	if by != nil {
		parent, signer = by.cert, by.signer
	}
	raw, err := x509.CreateCertificate(rand.Reader, template, parent, public, signer)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(raw)
	if err != nil {
		t.Fatal(err)
	}
	return pemPair{string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: raw})), string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret})), cert, key}
}

// body is a request body of these fields.
func body(t *testing.T, fields map[string]any) string {
	t.Helper()
	raw, err := json.Marshal(fields)
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

// tomorrow is when test certificates expire, by the bench's clock.
func (b *bench) tomorrow() time.Time { return b.Now().Add(24 * time.Hour) }

// upload stores a certificate for a name.
func (b *bench) upload(name string) (string, pemPair) {
	b.Helper()
	pair := issued(b.T, name, b.tomorrow(), nil)
	var made struct{ CertificateId string }
	b.must("UploadCertificate", body(b.T, map[string]any{"CertificatePublicKey": pair.chain, "CertificatePrivateKey": pair.key, "Alias": name}), &made)
	return made.CertificateId, pair
}

// A tlsSite is a site with an HTTPS:443 listener, $https, of certificate $cert.
type tlsSite struct {
	*site
	https, cert string
	pair        pemPair
}

func newTLSSite(t *testing.T, change ...func(*Options)) *tlsSite {
	t.Helper()
	s := &tlsSite{site: newSite(t, change...)}
	s.cert, s.pair = s.upload("www.example.com")
	s.https = s.listen(`"Ports":[443],"Protocol":"HTTPS","Certificate":{"SSLMode":"UNIDIRECTIONAL","CertId":"$cert"}`)
	return s
}

func (s *tlsSite) q(params string) string {
	return s.site.q(strings.NewReplacer("$cert", s.cert, "$https", s.https).Replace(params))
}

func (s *tlsSite) listen(fields string) string {
	s.Helper()
	var made struct{ ListenerIds []string }
	s.must("CreateListener", s.q(`{"LoadBalancerId":"$lb",`+fields+`}`), &made)
	return made.ListenerIds[0]
}

func (s *tlsSite) show(id string) listenerOut {
	s.Helper()
	var out describeListenersOut
	s.must("DescribeListeners", s.q(`{"LoadBalancerId":"$lb","ListenerIds":["`+id+`"]}`), &out)
	return out.Listeners[0]
}

// gateway is what a gateway gets, keys opened.
func (s *tlsSite) gateway() *snapshot.Snapshot {
	s.Helper()
	s.seed(func(tx *store.Tx) { tx.PutNode(&lb.Node{ID: "gateway-1", Num: 1, Role: lb.RoleGateway}) })
	st := s.Store.State()
	snap, err := snapshot.Assemble(st, "gateway-1", func(uint32, uint32) [2]uint64 { return [2]uint64{1, 2} }, policy.Compile)
	if err == nil {
		err = snap.Unseal(st, s.Vault.OpenKey)
	}
	if err == nil {
		err = snap.Validate()
	}
	if err != nil {
		s.Fatal(err)
	}
	return snap
}

// A certificate that is stored is shown by its listener, and its gateway gets
// the key that was given.
func TestHTTPSListener(t *testing.T) {
	s := newTLSSite(t)
	if got := s.show(s.https); got.Protocol != "HTTPS" || got.SniSwitch != 0 || got.Certificate == nil || got.Certificate.CertId != s.cert || got.Certificate.SSLMode != "UNIDIRECTIONAL" || got.Certificate.CertCaId != nil {
		t.Errorf("shown %+v", got)
	}
	s.must("CreateRule", s.q(`{"LoadBalancerId":"$lb","ListenerId":"$https","Rules":[{"Domain":"www.example.com","Url":"/"}]}`), nil)
	snap := s.gateway()
	if len(snap.Certificates) != 1 || snap.Certificates[0].Key != s.pair.key || snap.Certificates[0].Chain != s.pair.chain {
		t.Fatalf("the gateway gets %d certificates", len(snap.Certificates))
	}
	if _, err := tls.X509KeyPair([]byte(snap.Certificates[0].Chain), []byte(snap.Certificates[0].Key)); err != nil {
		t.Error(err)
	}
	other, _ := s.upload("new.example.com")
	s.must("ModifyListener", s.q(`{"LoadBalancerId":"$lb","ListenerId":"$https","Certificate":{"CertId":"`+other+`"}}`), nil)
	if got := s.show(s.https).Certificate.CertId; got != other {
		t.Errorf("it shows %s, want %s", got, other)
	}
	s.must("DeleteCertificate", s.q(`{"CertificateId":"$cert"}`), nil)

	pair := issued(t, "inline.example.com", s.tomorrow(), nil)
	s.must("CreateListener", body(t, map[string]any{"LoadBalancerId": s.lb, "Ports": []int{8443, 9443}, "Protocol": "HTTPS",
		"Certificate": map[string]any{"SSLMode": "UNIDIRECTIONAL", "CertName": "inline", "CertContent": pair.chain, "CertKey": pair.key}}), nil)
	named := 0
	for c := range s.Store.State().Certificates.Values() {
		if c.Alias == "inline" {
			named++
		}
	}
	if named != 1 {
		t.Errorf("two listeners made %d certificates of one", named)
	}
}

// With SniSwitch each domain has its own; what all had is where it begins.
func TestHTTPSByDomain(t *testing.T) {
	s := newTLSSite(t)
	s.must("CreateRule", s.q(`{"LoadBalancerId":"$lb","ListenerId":"$https","Rules":[{"Domain":"www.example.com","Url":"/"}]}`), nil)
	s.must("ModifyListener", s.q(`{"LoadBalancerId":"$lb","ListenerId":"$https","SniSwitch":1}`), nil)
	got := s.show(s.https)
	if got.SniSwitch != 1 || got.Certificate != nil || got.Rules[0].Certificate == nil || got.Rules[0].Certificate.CertId != s.cert {
		t.Fatalf("shown %+v", got)
	}
	other, _ := s.upload("other.example.com")
	s.must("CreateRule", s.q(`{"LoadBalancerId":"$lb","ListenerId":"$https","Rules":[{"Domain":"other.example.com","Url":"/","Certificate":{"CertId":"`+other+`"}},{"Domain":"other.example.com","Url":"/more"}]}`), nil)
	s.must("ModifyDomainAttributes", s.q(`{"LoadBalancerId":"$lb","ListenerId":"$https","Domain":"www.example.com","Certificate":{"CertId":"`+other+`"}}`), nil)
	for _, r := range s.show(s.https).Rules {
		if r.Certificate == nil || r.Certificate.CertId != other {
			t.Errorf("%s%s shows %+v", r.Domain, r.Url, r.Certificate)
		}
	}
	s.must("ModifyDomainAttributes", s.q(`{"LoadBalancerId":"$lb","ListenerId":"$https","Domain":"www.example.com","Certificate":{"CertId":"$cert"}}`), nil)
	s.must("CreateRule", s.q(`{"LoadBalancerId":"$lb","ListenerId":"$https","Rules":[{"Domain":"www.example.com","Url":"/more"}]}`), nil)
	s.must("DeleteRule", s.q(`{"LoadBalancerId":"$lb","ListenerId":"$https","Domain":"other.example.com","Url":"/more"}`), nil)
	s.must("ModifyDomain", s.q(`{"LoadBalancerId":"$lb","ListenerId":"$https","Domain":"other.example.com","NewDomain":"third.example.com"}`), nil)
	snap := s.gateway()
	if len(snap.Certificates) != 2 {
		t.Errorf("the gateway gets %v", snap.Certificates)
	}
	for _, l := range snap.Listeners {
		for _, r := range l.Rules {
			if want := map[string]string{"www.example.com": s.cert, "third.example.com": other}[r.Domain]; l.TLS && string(r.Certificate) != want {
				t.Errorf("%s%s shows %s, want %s", r.Domain, r.URL, r.Certificate, want)
			}
		}
	}
	fresh := s.listen(`"Ports":[8443],"Protocol":"HTTPS","SniSwitch":1`)
	if got := s.show(fresh); got.SniSwitch != 1 || got.Certificate != nil {
		t.Errorf("shown %+v", got)
	}
}

func TestHTTPSRefusals(t *testing.T) {
	s := newTLSSite(t)
	s.must("CreateRule", s.q(`{"LoadBalancerId":"$lb","ListenerId":"$https","Rules":[{"Domain":"www.example.com","Url":"/"}]}`), nil)
	sni := s.listen(`"Ports":[8443],"Protocol":"HTTPS","SniSwitch":1`)
	s.must("CreateRule", s.q(`{"LoadBalancerId":"$lb","ListenerId":"`+sni+`","Rules":[{"Domain":"www.example.com","Url":"/","Certificate":{"CertId":"$cert"}}]}`), nil)
	other, _ := s.upload("other.example.com")
	q := func(params string) string {
		return s.q(strings.NewReplacer("$sni", sni, "$other", other).Replace(params))
	}
	const create, modify = `{"LoadBalancerId":"$lb","Ports":[9443],`, `{"LoadBalancerId":"$lb","ListenerId":"$https",`
	const rule, domain = `{"LoadBalancerId":"$lb","ListenerId":"$sni","Rules":[{"Url":"/x",`, `{"LoadBalancerId":"$lb","ListenerId":"$sni","Domain":"www.example.com",`
	s.refusals([]refusal{
		{"CreateListener", q(create + `"Protocol":"HTTPS"}`), "MissingParameter", "Certificate: an HTTPS listener shows one"},
		{"CreateListener", q(create + `"Protocol":"HTTPS","Certificate":{}}`), "MissingParameter", "Certificate"},
		{"CreateListener", q(create + `"Protocol":"HTTPS","Certificate":{"SSLMode":"UNIDIRECTIONAL"}}`), "MissingParameter", "Certificate.CertContent"},
		{"CreateListener", q(create + `"Protocol":"HTTPS","Certificate":{"SSLMode":"MUTUAL","CertId":"$cert"}}`), "UnsupportedOperation", "SSLMode"},
		{"CreateListener", q(create + `"Protocol":"HTTPS","Certificate":{"CertId":"$cert","CertCaId":"x"}}`), "UnsupportedOperation", "CertCaId"},
		{"CreateListener", q(create + `"Protocol":"HTTPS","Certificate":{"CertId":"cert-00000000"}}`), "InvalidParameterValue", "there is no certificate"},
		{"CreateListener", q(create + `"Protocol":"HTTPS","Certificate":{"CertId":"$cert","CertName":"x"}}`), "InvalidParameter", "names a certificate already"},
		{"CreateListener", q(create + `"Protocol":"HTTPS","SniSwitch":1,"Certificate":{"CertId":"$cert"}}`), "InvalidParameter", "each domain has its own"},
		{"CreateListener", q(create + `"Protocol":"HTTP","Certificate":{"CertId":"$cert"}}`), "InvalidParameterValue", "shows no certificate"},
		{"CreateListener", q(create + `"Protocol":"TCP","SniSwitch":1}`), "InvalidParameterValue", "SniSwitch"},
		{"CreateListener", q(create + `"Protocol":"TCP_SSL","Certificate":{"CertId":"$cert"}}`), "UnsupportedOperation", "TCP_SSL"},
		{"ModifyListener", q(modify + `"Certificate":{"CertId":"none"}}`), "InvalidParameterValue", "Certificate.CertId"},
		{"ModifyListener", q(modify + `"Certificate":{"CertName":"x"}}`), "MissingParameter", "Certificate.CertContent"},
		{"ModifyListener", q(`{"LoadBalancerId":"$lb","ListenerId":"$http","Certificate":{"CertId":"$cert"}}`), "InvalidParameterValue", "shows no certificate"},
		{"ModifyListener", q(`{"LoadBalancerId":"$lb","ListenerId":"$sni","Certificate":{"CertId":"$cert"}}`), "InvalidParameter", "each domain has its own"},
		{"ModifyListener", q(`{"LoadBalancerId":"$lb","ListenerId":"$sni","SniSwitch":0}`), "UnsupportedOperation", "cannot go back"},
		{"CreateRule", q(rule + `"Domain":"new.example.com"}]}`), "MissingParameter", "Rules.0.Certificate"},
		{"CreateRule", q(rule + `"Domain":"www.example.com","Certificate":{"CertId":"$other"}}]}`), "InvalidParameterValue", "already"},
		{"CreateRule", q(rule + `"Domain":"new.example.com","Certificate":{"CertId":"none"}}]}`), "InvalidParameterValue", "Rules.0.Certificate.CertId"},
		{"CreateRule", q(rule + `"Domain":"new.example.com","Certificate":{"CertId":"$cert","CertKey":"x"}}]}`), "InvalidParameter", "Rules.0.Certificate.CertContent"},
		{"CreateRule", q(`{"LoadBalancerId":"$lb","ListenerId":"$https","Rules":[{"Domain":"x.example.com","Url":"/","Certificate":{"CertId":"$cert"}}]}`), "InvalidParameterValue", "none of their own"},
		{"ModifyDomainAttributes", q(domain + `"Certificate":{"CertId":"none"}}`), "InvalidParameterValue", "Certificate.CertId"},
		{"ModifyDomainAttributes", q(domain + `"Certificate":{"CertName":"x"}}`), "MissingParameter", "Certificate.CertContent"},
		{"ModifyDomainAttributes", q(domain + `"Certificate":{"CertId":"$cert","CertName":"x"}}`), "InvalidParameter", "names a certificate already"},
		{"ModifyDomainAttributes", q(`{"LoadBalancerId":"$lb","ListenerId":"$https","Domain":"www.example.com","Certificate":{"CertId":"$cert"}}`), "InvalidParameterValue", "none of their own"},
		{"DeleteCertificate", q(`{"CertificateId":"$cert"}`), codeCertInUse, "is shown by listener"},
		{"DeleteCertificate", q(`{"CertificateId":"cert-00000000"}`), codeNoSuchCert, "there is no certificate"},
		{"DescribeCertificateDetail", q(`{"CertificateId":"cert-00000000"}`), codeNoSuchCert, "there is no certificate"},
		{"ModifyCertificateAlias", q(`{"CertificateId":"cert-00000000","Alias":"x"}`), codeNoSuchCert, "there is no certificate"},
	})
}

// What is no certificate, or not its key, is refused by name, and told without
// the key.
func TestCertificateContents(t *testing.T) {
	b := newBench(t)
	good, other := issued(t, "a.example.com", b.tomorrow(), nil), issued(t, "b.example.com", b.tomorrow(), nil)
	old := issued(t, "old.example.com", b.Now().Add(-time.Minute), nil)
	signed := issued(t, "leaf.example.com", b.tomorrow(), &good)
	weakKey, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	weak := issuedWith(t, "weak.example.com", b.tomorrow(), nil, weakKey, &weakKey.PublicKey)
	for _, tc := range []struct{ what, chain, key, code, text string }{
		{"no key", good.chain, "", "MissingParameter", "CertificatePrivateKey: a server's certificate needs"},
		{"no certificate", "", good.key, "MissingParameter", "CertificatePublicKey: a server's certificate needs"},
		{"nothing", "", "", "MissingParameter", "CertificatePublicKey, CertificatePrivateKey: a server's certificate needs"},
		{"no PEM", "certificate", good.key, codeCertificate, "CertificatePublicKey: it holds no certificate in PEM"},
		{"a key in the chain", good.chain + good.key, good.key, codeCertificate, `"PRIVATE KEY"`},
		{"no certificate inside", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte("nothing")})), good.key, codeCertificate, "certificate 1 in it cannot be read"},
		{"wrong order", good.chain + signed.chain, good.key, codeCertificate, "was not issued by certificate 2"},
		{"too many", strings.Repeat(good.chain, maxChain+1), good.key, codeCertificate, "11 certificates"},
		{"expired", old.chain, old.key, codeCertificate, "expired at"},
		{"no key in PEM", good.chain, "key", codeCertificate, "CertificatePrivateKey: it is no private key"},
		{"another's key", good.chain, other.key, codeMismatch, "CertificatePrivateKey: the private key is not that of"},
		{"a short key", weak.chain, weak.key, codeCertificate, "1024 bits"},
	} {
		t.Run(tc.what, func(t *testing.T) {
			b := *b
			b.T = t
			params := body(t, map[string]any{"CertificatePublicKey": tc.chain, "CertificatePrivateKey": tc.key})
			b.refused("UploadCertificate", params, tc.code, tc.text)
			if err := b.try("UploadCertificate", params, nil); len(tc.key) > 10 && strings.Contains(err.Error(), tc.key[40:60]) {
				t.Errorf("the key is told: %v", err)
			}
		})
	}
	b.refused("UploadCertificate", `{"CertificatePublicKey":"x"}`, "MissingParameter", "CertificatePrivateKey")
	b.refused("UploadCertificate", `{"CertificatePublicKey":"x","CertificatePrivateKey":"x","CertificateType":"CA"}`, "UnsupportedOperation", "CertificateType")
	b.refused("UploadCertificate", body(t, map[string]any{"CertificatePublicKey": good.chain, "CertificatePrivateKey": good.key, "Tags": []any{map[string]any{"TagKey": ""}}}), "InvalidParameterValue", "Tags")
	b.must("UploadCertificate", body(t, map[string]any{"CertificatePublicKey": signed.chain + good.chain, "CertificatePrivateKey": signed.key}), nil)
}

func TestDescribeCertificates(t *testing.T) {
	s := newTLSSite(t)
	other, pair := s.upload("*.example.org")
	var all describeCertificatesOut
	s.must("DescribeCertificates", `{}`, &all)
	if all.TotalCount != 2 || all.Certificates[0].CertificateType != "SVR" {
		t.Fatalf("%+v", all)
	}
	for params, want := range map[string]string{`{"SearchKey":"org"}`: other, `{"CertIds":["` + s.cert + `"]}`: s.cert, `{"CertificateType":"CA"}`: "", `{"ProjectId":7}`: "",
		`{"ExpirationSort":"ASC","Offset":0,"Limit":1,"SearchKey":"www"}`: s.cert, `{"ExpirationSort":"DESC","SearchKey":"www"}`: s.cert} {
		var found describeCertificatesOut
		s.must("DescribeCertificates", params, &found)
		got := ""
		for _, c := range found.Certificates {
			got += c.CertificateId
		}
		if got != want {
			t.Errorf("%s: %q, want %q", params, got, want)
		}
		if want == s.cert && (len(found.Certificates[0].BoundResource) != 1 || found.Certificates[0].BoundResource[0] != s.lb) {
			t.Errorf("bound to %v", found.Certificates[0].BoundResource)
		}
		if want == other && !found.Certificates[0].IsWildcard {
			t.Error("no wildcard")
		}
	}
	var one describeCertificateOut
	s.must("DescribeCertificateDetail", `{"CertificateId":"`+other+`"}`, &one)
	if one.CertificatePublicKey != pair.chain || one.CertificatePrivateKey != nil || one.Status != 1 || one.Alias != "*.example.org" || len(one.CertFingerprint) != 40 {
		t.Errorf("%+v", one)
	}
	s.must("ModifyCertificateAlias", `{"CertificateId":"`+other+`","Alias":"wild"}`, nil)
	s.must("ModifyResourceTags", `{"Resource":"qcs::ssl:local:uin/:certificate/`+other+`","ReplaceTags":[{"TagKey":"k","TagValue":"v"}]}`, nil)
	s.must("DescribeCertificateDetail", `{"CertificateId":"`+other+`"}`, &one)
	if one.Alias != "wild" || len(one.Tags) != 1 || one.Tags[0].TagKey != "k" {
		t.Errorf("%+v", one)
	}
	var again uploadCertificateOut
	s.must("UploadCertificate", body(t, map[string]any{"CertificatePublicKey": pair.chain, "CertificatePrivateKey": pair.key, "Repeatable": false}), &again)
	if again.CertificateId != other || again.RepeatCertId == nil || *again.RepeatCertId != other {
		t.Errorf("again %+v", again)
	}
	var gone deleteCertificateOut
	s.must("DeleteCertificate", `{"CertificateId":"`+other+`"}`, &gone)
	if !gone.DeleteResult || s.Store.State().Certificates.Len() != 1 {
		t.Errorf("%+v", gone)
	}
}

// The private key is nowhere but, sealed, in the store: not in the audit log,
// the export, what a host gets, or any answer.
func TestPrivateKeysStayIn(t *testing.T) {
	s := newTLSSite(t)
	pair := issued(t, "inline.example.com", s.tomorrow(), nil)
	s.must("CreateListener", body(t, map[string]any{"LoadBalancerId": s.lb, "Ports": []int{8443}, "Protocol": "HTTPS",
		"Certificate": map[string]any{"CertName": "inline", "CertContent": pair.chain, "CertKey": pair.key}}), nil)
	var secrets []string
	for _, key := range []string{s.pair.key, pair.key} {
		lines := strings.Split(key, "\n")
		secrets = append(secrets, lines[1], lines[2])
	}
	safe := func(where string, v any) {
		t.Helper()
		raw, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		for _, secret := range secrets {
			if strings.Contains(string(raw), secret) {
				t.Errorf("%s holds a private key", where)
			}
		}
	}
	lines, err := s.Store.AuditLines(t.Context(), 0, 1000)
	if err != nil || len(lines) == 0 {
		t.Fatal(len(lines), err)
	}
	safe("the audit log", lines)
	st := s.Store.State()
	for c := range st.Certificates.Values() {
		safe("the store", c)
		if key, err := s.Vault.OpenKey(c); err != nil || !strings.Contains(key, "PRIVATE KEY") {
			t.Errorf("%s does not open: %v", c.ID, err)
		}
		foreign := *c
		foreign.ID = "cert-elsewher"
		if _, err := s.Vault.OpenKey(&foreign); err == nil {
			t.Error("a sealed key opens under another id")
		}
	}
	if err := randomVault().Check(st); err == nil {
		t.Error("another key file passes for the right one")
	}
	for _, action := range []string{"DescribeConfiguration", "DescribeCertificates", "DescribeAuditLog"} {
		var raw json.RawMessage
		s.must(action, `{}`, &raw)
		safe(action, raw)
	}
	s.seed(func(tx *store.Tx) {
		tx.PutNode(&lb.Node{ID: "ins-a", Num: 2, Role: lb.RoleHost, Instance: "ins-a"})
	})
	host, err := snapshot.Assemble(s.Store.State(), "ins-a", func(uint32, uint32) [2]uint64 { return [2]uint64{1, 2} }, policy.Compile)
	if err != nil || len(host.Certificates) != 0 {
		t.Errorf("a host gets %v: %v", host, err)
	}
}

// A key that is scoped sees and uses the certificates of its projects only.
func TestScopedCertificates(t *testing.T) {
	s := newTLSSite(t)
	own, foreign := s.addKey(lb.KeyOperator, "0"), s.addKey(lb.KeyOperator, "7")
	if out, err := s.as(own, "DescribeCertificates", `{}`); err != nil || !strings.Contains(out, s.cert) {
		t.Errorf("%s %v", out, err)
	}
	if out, err := s.as(foreign, "DescribeCertificates", `{}`); err != nil || strings.Contains(out, s.cert) {
		t.Errorf("%s %v", out, err)
	}
	if _, err := s.as(foreign, "DeleteCertificate", s.q(`{"CertificateId":"$cert"}`)); err == nil || asError(err).Code != codeNoSuchCert {
		t.Errorf("another project's certificate: %v", err)
	}
	repeat, err := s.as(foreign, "UploadCertificate", body(t, map[string]any{"CertificatePublicKey": s.pair.chain, "CertificatePrivateKey": s.pair.key, "ProjectId": 7, "Repeatable": false}))
	if err != nil || strings.Contains(repeat, s.cert) {
		t.Errorf("a repeat of another project's: %s %v", repeat, err)
	}
	pair := issued(t, "own.example.com", s.tomorrow(), nil)
	if _, err := s.as(own, "CreateListener", body(t, map[string]any{"LoadBalancerId": s.lb, "Ports": []int{8443}, "Protocol": "HTTPS",
		"Certificate": map[string]any{"CertName": "own", "CertContent": pair.chain, "CertKey": pair.key}})); err != nil {
		t.Error(err)
	}
}

// exportsTo applies what b exports to a system that was filled before, which has
// to export the same.
func (b *bench) exportsTo(twin *bench, fill func(*bench)) {
	b.Helper()
	before := b.export()
	fill(twin)
	twin.apply(before, false, false)
	for name, text := range twin.export() {
		if before[name] != text {
			b.Errorf("%s became\n%s\nfrom\n%s", name, text, before[name])
		}
	}
}

// Files name certificates; applying an export to a system that has them is that
// system.
func TestFilesNameCertificates(t *testing.T) {
	b := newBench(t)
	certificate, other := issued(t, "www.example.com", b.tomorrow(), nil), issued(t, "other.example.com", b.tomorrow(), nil)
	fill := func(b *bench) {
		for alias, pair := range map[string]pemPair{"web": certificate, "other": other} {
			b.must("UploadCertificate", body(t, map[string]any{"CertificatePublicKey": pair.chain, "CertificatePrivateKey": pair.key, "Alias": alias}), nil)
		}
	}
	fill(b)
	const file = `LoadBalancers:
- LoadBalancerName: shop
  Listeners:
  - {Protocol: HTTP, Port: 80, Rules: [{Domain: www.example.com, Url: /, Redirect: {Port: 443, Domain: www.example.com, Url: /, RewriteCode: 301, TakeUrl: true, Auto: true}}]}
  - {Protocol: HTTPS, Port: 443, Certificate: web, Rules: [{Domain: www.example.com, Url: /}]}
  - {Protocol: HTTPS, Port: 8443, SniSwitch: 1, Rules: [{Domain: a.example.com, Url: /, Certificate: web}, {Domain: b.example.com, Url: /, Certificate: other}]}
`
	b.apply(map[string]string{"a.yaml": file}, false, false)
	if again := b.apply(map[string]string{"a.yaml": file}, true, false); len(again) > 0 {
		t.Errorf("a second time it would %s", again)
	}
	b.exportsTo(newBench(t), fill)
	b.apply(map[string]string{"a.yaml": strings.NewReplacer("Certificate: web, Rules", "Certificate: other, Rules", "Url: /, Certificate: web}", "Url: /new, Certificate: other}").Replace(file)}, false, false)
	for l := range b.Store.State().Listeners.Values() {
		for _, id := range l.Certificates() {
			if alias := b.Store.State().Certificates.Get(id).Alias; alias != "other" {
				t.Errorf("listener on %d shows %s", l.Port, alias)
			}
		}
	}
	empty := newBench(t)
	c := load(t, map[string]string{"a.yaml": file})
	params, err := c.JSON(false, false, false)
	if err != nil {
		t.Fatal(err)
	}
	empty.refused("ApplyConfiguration", string(params), "ResourceNotFound", `there is no certificate with the alias, fingerprint or id "web"; upload it first`)
}

// A certificate without an alias of its own is named by its fingerprint, which
// a system that it is uploaded to again knows too.
func TestFilesNameCertificatesByFingerprint(t *testing.T) {
	b := newBench(t)
	pairs := []pemPair{issued(t, "a.example.com", b.tomorrow(), nil), issued(t, "b.example.com", b.tomorrow(), nil), issued(t, "c.example.com", b.tomorrow(), nil)}
	fill := func(b *bench) {
		for i, pair := range pairs {
			b.must("UploadCertificate", body(t, map[string]any{"CertificatePublicKey": pair.chain, "CertificatePrivateKey": pair.key, "Alias": []string{"", "two", "two"}[i]}), nil)
		}
	}
	fill(b)
	file := "LoadBalancers:\n- LoadBalancerName: shop\n  Listeners:\n"
	for i, pair := range pairs {
		file += fmt.Sprintf("  - {Protocol: HTTPS, Port: %d, Certificate: %s}\n", 8443+i, strings.ToLower(fingerprint(&lb.Certificate{Chain: pair.chain})))
	}
	b.apply(map[string]string{"a.yaml": file}, false, false)
	b.exportsTo(newBench(t), fill)
}

// What has expired says so, is left where it is shown, and goes nowhere else.
func TestExpiredCertificate(t *testing.T) {
	now := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	s := newTLSSite(t, func(o *Options) { o.Now = func() time.Time { return now } })
	s.must("CreateRule", s.q(`{"LoadBalancerId":"$lb","ListenerId":"$https","Rules":[{"Domain":"www.example.com","Url":"/"}]}`), nil)
	now = now.Add(25 * time.Hour)
	var one describeCertificateOut
	s.must("DescribeCertificateDetail", s.q(`{"CertificateId":"$cert"}`), &one)
	if one.Status != 3 || one.StatusName != "expired" || one.Deployable {
		t.Errorf("told as %+v", one)
	}
	s.refused("CreateListener", s.q(`{"LoadBalancerId":"$lb","Ports":[8443],"Protocol":"HTTPS","Certificate":{"CertId":"$cert"}}`), "InvalidParameterValue", "Certificate.CertId: the certificate expired at 2026-11-24 12:00:00; give one that is valid")
	s.must("ModifyListener", s.q(`{"LoadBalancerId":"$lb","ListenerId":"$https","ListenerName":"same","Certificate":{"CertId":"$cert"}}`), nil)
	s.must("ModifyListener", s.q(`{"LoadBalancerId":"$lb","ListenerId":"$https","SniSwitch":1}`), nil)
	s.must("CreateRule", s.q(`{"LoadBalancerId":"$lb","ListenerId":"$https","Rules":[{"Domain":"www.example.com","Url":"/more","Certificate":{"CertId":"$cert"}}]}`), nil)
	s.must("ModifyDomainAttributes", s.q(`{"LoadBalancerId":"$lb","ListenerId":"$https","Domain":"www.example.com","Certificate":{"CertId":"$cert"}}`), nil)
	s.refused("CreateRule", s.q(`{"LoadBalancerId":"$lb","ListenerId":"$https","Rules":[{"Domain":"new.example.com","Url":"/","Certificate":{"CertId":"$cert"}}]}`), "InvalidParameterValue", "Rules.0.Certificate.CertId: the certificate expired at")
}

// All of a list are moved to the project, or none.
func TestCertificatesMoveToAProject(t *testing.T) {
	b := newBench(t)
	one, _ := b.upload("one.example.com")
	two, _ := b.upload("two.example.com")
	b.refused("ModifyCertificateProject", `{"CertificateIdList":["`+one+`","cert-none"],"ProjectId":7}`, "FailedOperation.CertificateNotFound", `CertificateIdList.1: there is no certificate "cert-none"`)
	b.must("ModifyCertificateProject", `{"CertificateIdList":["`+one+`","`+two+`"],"ProjectId":7}`, nil)
	var found describeCertificatesOut
	if b.must("DescribeCertificates", `{"ProjectId":7}`, &found); found.TotalCount != 2 || !strings.HasSuffix(found.Certificates[0].ProductZhName, ".example.com") || found.Certificates[0].ValidityPeriod != "0" {
		t.Errorf("%+v", found)
	}
}
