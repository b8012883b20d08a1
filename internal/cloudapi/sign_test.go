// SPDX-License-Identifier: Apache-2.0

package cloudapi

import (
	"encoding/base64"
	"encoding/hex"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"crypto/sha1"
	"crypto/sha256"

	"github.com/sallyport/sallyport/internal/store"
)

// The key of the published examples.
const (
	vectorID  = "AKIDz8krbsJ5yKBZQpn74WFkmLPx3EXAMPLE"
	vectorKey = "Gu5t9xGARNpq86cd98joQYCN3EXAMPLE"
)

func TestTC3Vectors(t *testing.T) {
	for _, tc := range []struct {
		name, method, host, query, contentType, body, service string
		unix                                                  int64
		hashed, want                                          string
	}{
		{"official GET", "GET", "cvm.tencentcloudapi.com", "Limit=10&Offset=0", "application/x-www-form-urlencoded", "", "cvm", 1539084154,
			"91c9c192c14460df6c1ffc69e34e6c5e90708de2a6d282cccf957dbf1aa7f3a7", "5da7a33f6993f0614b047e5df4582db9e9bf4672ba50567dba16c6ccf174c474"},
		{"POST", "POST", "clb.tencentcloudapi.com", "", "application/json", `{"LoadBalancerIds":["lb-12345678"]}`, "clb", 1700000000,
			"da9bc44dc1d24a5d84e872b59cbfd302c8e11c66b5806e56cf09386756be2390", "8e44413b02030653aa8543734116d5ffab2ff02a10b7f270f48efbc9b814e75a"},
		{"POST, host with port", "POST", "clb.example.test:8443", "", "application/json", `{"LoadBalancerIds":["lb-12345678"]}`, "clb", 1700000000,
			"", "e3fba1ff59b591433db1bc4e81dc270fcbc86c1a9dde14cedc93533919dacaf5"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := httptest.NewRequest(tc.method, "http://"+tc.host+"/?"+tc.query, nil)
			r.Header.Set("Content-Type", tc.contentType)
			at := time.Unix(tc.unix, 0).UTC()
			text := canonical(r, []string{"content-type", "host"}, tc.host, "/", tc.query, hexSHA256([]byte(tc.body)), true)
			if tc.hashed != "" && hexSHA256([]byte(text)) != tc.hashed {
				t.Errorf("canonical request hashes to %s, want %s:\n%s", hexSHA256([]byte(text)), tc.hashed, text)
			}
			got := hex.EncodeToString(signTC3(keyTC3(vectorKey, at.Format(time.DateOnly), tc.service), at, tc.service, text))
			if got != tc.want {
				t.Errorf("signature %s, want %s", got, tc.want)
			}
			s := vectorServer(t, func() time.Time { return at })
			r.Header.Set("X-TC-Timestamp", strconv.FormatInt(tc.unix, 10))
			r.Header.Set("Authorization", "TC3-HMAC-SHA256 Credential="+vectorID+"/"+at.Format(time.DateOnly)+"/"+tc.service+
				"/tc3_request, SignedHeaders=content-type;host, Signature="+tc.want)
			if _, _, err := s.verifyTC3(r, given(tc.body)); err != nil {
				t.Errorf("the server refuses the vector: %v", err)
			}
		})
	}
}

func TestV1Vectors(t *testing.T) {
	p := map[string]string{"Action": "DescribeInstances", "InstanceIds.0": "ins-09dx96dg", "Limit": "20", "Nonce": "11886", "Offset": "0",
		"Region": "ap-guangzhou", "SecretId": vectorID, "Timestamp": "1465185768", "Version": "2017-03-12"}
	const prefix = "GETcvm.tencentcloudapi.com/?"
	if got, want := base64.StdEncoding.EncodeToString(sum(sha1.New, []byte(vectorKey), prefix+textV1(p))), "EliP9YW3pW28FpsEdkXt/+WcGeI="; got != want {
		t.Errorf("HmacSHA1: %s, want %s", got, want)
	}
	p["SignatureMethod"] = "HmacSHA256"
	if got, want := base64.StdEncoding.EncodeToString(sum(sha256.New, []byte(vectorKey), prefix+textV1(p))), "A8uy2/o7WBZXYCTWEFpMrVGhGBVlEGIOioeqRM+fzFs="; got != want {
		t.Errorf("HmacSHA256: %s, want %s", got, want)
	}
}

// vectorServer knows the key of the examples, and the time.
func vectorServer(t testing.TB, now func() time.Time) *Server {
	s := New(Options{Store: store.NewMemory(), Region: "local", Now: now})
	if _, err := s.Adopt(t.Context(), vectorID, vectorKey, "vector"); err != nil {
		t.Fatal(err)
	}
	return s
}

// given is a body that needs no reading.
func given(body string) func() ([]byte, error) {
	return func() ([]byte, error) { return []byte(body), nil }
}

// Every way in which a real client signs is accepted; every change of what is
// signed is refused.
func TestVerifyVariants(t *testing.T) {
	now := time.Unix(1700000000, 0).UTC()
	const body = `{"LoadBalancerIds":[]}`
	type signing struct {
		host, path, body string
		headers          []string
		lower            bool
		service, secret  string
		skew             time.Duration
		id               string
	}
	for _, tc := range []struct {
		name   string
		change func(*signing)
		header map[string]string
		want   string // code; "" is accepted
	}{
		{name: "documented"},
		{name: "raw host with port and /", change: func(s *signing) { s.host = "Lb.Example.Test:7780" }},
		{name: "host without port and real path", change: func(s *signing) { s.host, s.path = "lb.example.test", "/api/v3" }},
		{name: "raw host without port", change: func(s *signing) { s.host = "Lb.Example.Test" }},
		{name: "service is only text", change: func(s *signing) { s.service = "127" }},
		{name: "signed action, lower case", change: func(s *signing) { s.headers = []string{"content-type", "host", "x-tc-action"} }},
		{name: "signed action, raw", change: func(s *signing) { s.headers, s.lower = []string{"content-type", "host", "x-tc-action"}, false }},
		{name: "unsigned payload", change: func(s *signing) { s.body = unsignedBody }, header: map[string]string{"X-TC-Content-SHA256": unsignedBody}},
		{name: "skew of 300 s", change: func(s *signing) { s.skew = -300 * time.Second }},
		{name: "skew of 301 s", change: func(s *signing) { s.skew = -301 * time.Second }, want: "AuthFailure.SignatureExpire"},
		{name: "from the future", change: func(s *signing) { s.skew = 301 * time.Second }, want: "AuthFailure.SignatureExpire"},
		{name: "other body", change: func(s *signing) { s.body = "{}" }, want: "AuthFailure.SignatureFailure"},
		{name: "other host", change: func(s *signing) { s.host = "example.test" }, want: "AuthFailure.SignatureFailure"},
		{name: "other key", change: func(s *signing) { s.secret = "x" }, want: "AuthFailure.SignatureFailure"},
		{name: "unknown id", change: func(s *signing) { s.id = "AKIDnobody" }, want: "AuthFailure.SecretIdNotFound"},
		{name: "host not signed", change: func(s *signing) { s.headers = []string{"content-type"} }, want: "AuthFailure.SignatureFailure"},
		{name: "temporary key", header: map[string]string{"X-TC-Token": "t"}, want: "AuthFailure.TokenFailure"},
		{name: "no signature", header: map[string]string{"Authorization": "SKIP"}, want: "AuthFailure.SignatureFailure"},
		{name: "no time", header: map[string]string{"X-TC-Timestamp": "soon"}, want: "AuthFailure.SignatureFailure"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := signing{host: "lb.example.test:7780", path: "/", body: body, headers: []string{"content-type", "host"}, lower: true,
				service: "clb", secret: vectorKey, id: vectorID}
			if tc.change != nil {
				tc.change(&s)
			}
			r := httptest.NewRequest(http.MethodPost, "http://Lb.Example.Test:7780/api/v3", nil)
			r.Header.Set("Content-Type", "application/json; charset=utf-8")
			r.Header.Set("X-TC-Action", "DescribeLoadBalancers")
			at := now.Add(s.skew)
			r.Header.Set("X-TC-Timestamp", strconv.FormatInt(at.Unix(), 10))
			text := canonical(r, s.headers, s.host, s.path, "", hexSHA256([]byte(s.body)), s.lower)
			mac := signTC3(keyTC3(s.secret, at.Format(time.DateOnly), s.service), at, s.service, text)
			r.Header.Set("Authorization", "TC3-HMAC-SHA256 Credential="+s.id+"/"+at.Format(time.DateOnly)+"/"+s.service+
				"/tc3_request, SignedHeaders="+strings.Join(s.headers, ";")+", Signature="+hex.EncodeToString(mac))
			for k, v := range tc.header {
				r.Header.Set(k, v)
			}
			server := vectorServer(t, func() time.Time { return now })
			_, _, err := server.verifyTC3(r, given(body))
			if got := code(err); got != tc.want {
				t.Errorf("%v, want code %q", err, tc.want)
			}
		})
	}
}

func code(err error) string {
	if err == nil {
		return ""
	}
	return asError(err).Code
}

func FuzzParseAuthorization(f *testing.F) {
	good := "TC3-HMAC-SHA256 Credential=a/2023-11-14/clb/tc3_request, SignedHeaders=content-type;host, Signature=" + strings.Repeat("0f", 32)
	for _, seed := range []string{good, strings.ReplaceAll(good, ", ", ","), "SKIP", "", "TC3-HMAC-SHA256 ", "TC3-HMAC-SHA256 Credential=///,SignedHeaders=,Signature="} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		a, ok := parseAuthorization(text)
		if !ok {
			return
		}
		if a.id == "" || len(a.signature) != 32 || len(a.headers) == 0 {
			t.Fatalf("accepted %q as %+v", text, a)
		}
		again := "TC3-HMAC-SHA256 Credential=" + a.id + "/" + a.date + "/" + a.service + "/tc3_request, SignedHeaders=" +
			strings.Join(a.headers, ";") + ", Signature=" + hex.EncodeToString(a.signature)
		if _, ok := parseAuthorization(again); !ok {
			t.Fatalf("%q was accepted, its own form %q is not", text, again)
		}
	})
}
