// SPDX-License-Identifier: Apache-2.0

package cloudapi

import (
	"crypto/hmac"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"hash"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sallyport/sallyport/internal/lb"
)

const (
	algorithmTC3 = "TC3-HMAC-SHA256"
	unsignedBody = "UNSIGNED-PAYLOAD"
	maxSkew      = 300 // seconds
)

// An authorization is a parsed TC3 Authorization header.
type authorization struct {
	id, date, service string
	headers           []string // signed headers, lower case, as listed
	signature         []byte
}

// parseAuthorization reads
// "TC3-HMAC-SHA256 Credential=ID/DATE/SERVICE/tc3_request, SignedHeaders=A;B, Signature=HEX".
// Space around the commas does not matter.
func parseAuthorization(text string) (authorization, bool) {
	var a authorization
	rest, ok := strings.CutPrefix(text, algorithmTC3+" ")
	if !ok {
		return a, false
	}
	parts := strings.Split(rest, ",")
	if len(parts) != 3 {
		return a, false
	}
	values := [3]string{}
	for i, name := range []string{"Credential=", "SignedHeaders=", "Signature="} {
		if values[i], ok = strings.CutPrefix(strings.TrimSpace(parts[i]), name); !ok {
			return a, false
		}
	}
	scope := strings.Split(values[0], "/")
	if len(scope) != 4 || scope[3] != "tc3_request" || scope[0] == "" {
		return a, false
	}
	a.id, a.date, a.service = scope[0], scope[1], scope[2]
	a.headers = strings.Split(values[1], ";")
	for _, name := range a.headers {
		if name == "" || name != strings.ToLower(name) {
			return a, false
		}
	}
	sum, err := hex.DecodeString(values[2])
	a.signature = sum
	return a, err == nil && len(sum) == sha256.Size
}

// verifyTC3 checks who sent r and that what is signed arrived unchanged.
// Clients disagree on small things, so each of their ways is tried: the host
// lower-cased or raw, with its port or without; the path "/" or the real one;
// other values lower-cased or raw. The scope's service is only text: some
// clients put the endpoint's first label there. The body is read only for a key
// that is known and a time that is now.
func (s *Server) verifyTC3(r *http.Request, read func() ([]byte, error)) (*lb.AccessKey, []byte, error) {
	a, ok := parseAuthorization(r.Header.Get("Authorization"))
	if !ok {
		return nil, nil, errorf("AuthFailure.SignatureFailure", "the Authorization header is not of the form %s Credential=…, SignedHeaders=…, Signature=…", algorithmTC3)
	}
	if !slices.Contains(a.headers, "content-type") || !slices.Contains(a.headers, "host") {
		return nil, nil, errorf("AuthFailure.SignatureFailure", "SignedHeaders must hold content-type and host")
	}
	if r.Header.Get("X-TC-Token") != "" {
		return nil, nil, errorf("AuthFailure.TokenFailure", "temporary keys (X-TC-Token) are not served")
	}
	k, err := s.key(a.id)
	if err != nil {
		return nil, nil, err
	}
	at, err := s.checkTime(r.Header.Get("X-TC-Timestamp"), "the X-TC-Timestamp header")
	if err != nil {
		return nil, nil, err
	}
	if a.date != at.Format(time.DateOnly) {
		return nil, nil, errorf("AuthFailure.SignatureFailure", "the scope's date %q is not the UTC date of X-TC-Timestamp", clip(a.date, 20))
	}
	body, err := read()
	if err != nil {
		return nil, nil, err
	}
	secrets, err := s.secrets(k)
	if err != nil {
		return nil, nil, err
	}
	for _, secret := range secrets {
		key := keyTC3(secret, a.date, a.service)
		for canonical := range canonicals(r, a.headers, body) {
			if hmac.Equal(a.signature, signTC3(key, at, a.service, canonical)) {
				return k, body, nil
			}
		}
	}
	return nil, nil, errorf("AuthFailure.SignatureFailure", "the signature does not belong to this request and key")
}

func (s *Server) checkTime(text, what string) (time.Time, error) {
	sec, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return time.Time{}, errorf("AuthFailure.SignatureFailure", "%s is not a Unix time in seconds", what)
	}
	if skew := s.Now().Unix() - sec; skew > maxSkew || skew < -maxSkew {
		return time.Time{}, errorf("AuthFailure.SignatureExpire", "%s is more than %d s from the server's clock", what, maxSkew)
	}
	return time.Unix(sec, 0).UTC(), nil
}

// canonicals yields every canonical request that a client may have signed,
// the documented form first.
func canonicals(r *http.Request, headers []string, body []byte) func(yield func(string) bool) {
	query := ""
	if r.Method == http.MethodGet {
		query = r.URL.RawQuery
		body = nil
	}
	if r.Header.Get("X-TC-Content-SHA256") == unsignedBody {
		body = []byte(unsignedBody)
	}
	sum := hexSHA256(body)
	return func(yield func(string) bool) {
		for _, host := range hosts(r.Host) {
			for _, path := range paths(r.URL) {
				for _, lower := range []bool{true, false} {
					if !yield(canonical(r, headers, host, path, query, sum, lower)) {
						return
					}
				}
			}
		}
	}
}

func canonical(r *http.Request, headers []string, host, path, query, sum string, lower bool) string {
	var b strings.Builder
	b.WriteString(r.Method + "\n" + path + "\n" + query + "\n")
	for _, name := range headers {
		v := host
		if name != "host" {
			v = strings.TrimSpace(strings.Join(r.Header.Values(name), ","))
			if lower {
				v = strings.ToLower(v)
			}
		}
		b.WriteString(name + ":" + v + "\n")
	}
	b.WriteString("\n" + strings.Join(headers, ";") + "\n" + sum)
	return b.String()
}

// hosts lists the forms of a Host header that clients sign, without repeats.
func hosts(host string) []string {
	forms := []string{strings.ToLower(host), host}
	if bare, _, err := net.SplitHostPort(host); err == nil {
		forms = append(forms, strings.ToLower(bare), bare)
	}
	var all []string
	for _, f := range forms {
		if !slices.Contains(all, f) {
			all = append(all, f)
		}
	}
	return all
}

func paths(u *url.URL) []string {
	if p := u.EscapedPath(); p != "" && p != "/" {
		return []string{"/", p}
	}
	return []string{"/"}
}

func keyTC3(secret, date, service string) []byte {
	key := sum(sha256.New, []byte("TC3"+secret), date)
	key = sum(sha256.New, key, service)
	return sum(sha256.New, key, "tc3_request")
}

func signTC3(key []byte, at time.Time, service, canonical string) []byte {
	text := algorithmTC3 + "\n" + strconv.FormatInt(at.Unix(), 10) + "\n" +
		at.Format(time.DateOnly) + "/" + service + "/tc3_request\n" + hexSHA256([]byte(canonical))
	return sum(sha256.New, key, text)
}

func sum(h func() hash.Hash, key []byte, text string) []byte {
	m := hmac.New(h, key)
	m.Write([]byte(text))
	return m.Sum(nil)
}

func hexSHA256(b []byte) string {
	s := sha256.Sum256(b)
	return hex.EncodeToString(s[:])
}

// commonV1 are the parameters of the old signature that belong to no action.
var commonV1 = [...]string{"Action", "Version", "Region", "Timestamp", "Nonce", "SecretId", "Signature",
	"SignatureMethod", "Token", "Language", "RequestClient"}

// receiveV1 takes a request with the old signature, which carries everything
// in a query or form.
func (s *Server) receiveV1(q *request, r *http.Request, contentType string, body []byte) (*request, error) {
	raw := r.URL.RawQuery
	if r.Method == http.MethodPost {
		if contentType != "application/x-www-form-urlencoded" {
			return q, errorf("AuthFailure.SignatureFailure", "the request has no Authorization header")
		}
		raw = string(body)
	}
	p, err := flatQuery(raw)
	if err != nil {
		return q, err
	}
	if p["Signature"] == "" || p["SecretId"] == "" {
		return q, errorf("AuthFailure.SignatureFailure", "the request has neither an Authorization header nor SecretId and Signature")
	}
	q.action, q.version, q.region = p["Action"], p["Version"], p["Region"]
	if p["Token"] != "" {
		return q, errorf("AuthFailure.TokenFailure", "temporary keys (Token) are not served")
	}
	k, err := s.key(p["SecretId"])
	if err != nil {
		return q, err
	}
	at, err := s.checkTime(p["Timestamp"], "Timestamp")
	if err != nil {
		return q, err
	}
	secrets, err := s.secrets(k)
	if err != nil {
		return q, err
	}
	if !slices.ContainsFunc(secrets, func(secret string) bool { return verifyV1(r, p, secret) }) {
		return q, errorf("AuthFailure.SignatureFailure", "the signature does not belong to this request and key")
	}
	a := s.actions[actionKey{q.version, q.action}]
	if err := s.nonces.use(k.ID, p, at, a != nil && !a.access.right.writes()); err != nil {
		return q, err
	}
	q.key, q.caller.KeyID = k, string(k.ID)
	for _, name := range commonV1 {
		delete(p, name)
	}
	q.flat = p
	return q, nil
}

func verifyV1(r *http.Request, p map[string]string, secret string) bool {
	h := sha1.New
	switch p["SignatureMethod"] {
	case "", "HmacSHA1":
	case "HmacSHA256":
		h = sha256.New
	default:
		return false
	}
	given, err := base64.StdEncoding.DecodeString(p["Signature"])
	if err != nil {
		return false
	}
	text := textV1(p)
	for _, host := range hosts(r.Host) {
		for _, path := range paths(r.URL) {
			if hmac.Equal(given, sum(h, []byte(secret), r.Method+host+path+"?"+text)) {
				return true
			}
		}
	}
	return false
}

// textV1 joins all parameters but the signature, sorted, values unescaped.
func textV1(p map[string]string) string {
	var pairs []string
	for _, k := range sortedKeys(p) {
		if k != "Signature" {
			pairs = append(pairs, k+"="+p[k])
		}
	}
	return strings.Join(pairs, "&")
}
