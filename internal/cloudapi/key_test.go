// SPDX-License-Identifier: Apache-2.0

package cloudapi

import (
	"bytes"
	"crypto/sha1"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/sallyport/sallyport/internal/lb"
	"github.com/sallyport/sallyport/internal/store"
)

// A keyBench has a clock that moves by hand.
type keyBench struct {
	*bench
	now time.Time
}

func newKeyBench(t *testing.T) *keyBench {
	k := &keyBench{now: time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)}
	k.bench = newBench(t, func(o *Options) { o.Now = func() time.Time { return k.now } })
	return k
}

// signed sends one signed request and returns the code of its answer, "" for
// success.
func (k *keyBench) signed(id, secret string) string {
	k.Helper()
	r := httptest.NewRequest(http.MethodPost, "http://vpc.example.test/", strings.NewReader("{}"))
	(&Client{SecretID: id, SecretKey: secret}).sign(r, "vpc", []byte("{}"), k.now)
	r.Header.Set("X-TC-Action", "DescribeVpcs")
	r.Header.Set("X-TC-Version", serviceVPC.Version)
	w := httptest.NewRecorder()
	k.ServeHTTP(w, r)
	var answer struct{ Response struct{ Error Error } }
	if err := json.Unmarshal(w.Body.Bytes(), &answer); err != nil {
		k.Fatal(err)
	}
	return answer.Response.Error.Code
}

// A key is made, used, rotated with an overlap and revoked.
func TestKeyLife(t *testing.T) {
	k := newKeyBench(t)
	var made, rotated newKeyOut
	k.must("CreateAccessKey", `{"Name":"ci","Role":"operator","Projects":["7","07","3"]}`, &made)
	if len(made.SecretId) < 20 || len(made.SecretKey) < 20 || made.ExpiredTime != "" {
		t.Fatalf("made %+v", made)
	}
	expect := func(what, secret, want string) {
		t.Helper()
		if got := k.signed(made.SecretId, secret); got != want {
			t.Errorf("%s: %q, want %q", what, got, want)
		}
		if got := k.LogIn(made.SecretId, secret); got != (want == "") {
			t.Errorf("%s: LogIn says %v", what, got)
		}
	}
	expect("new", made.SecretKey, "")
	expect("wrong", "wrong", "AuthFailure.SignatureFailure")
	expect("empty", "", "AuthFailure.SignatureFailure")

	k.must("RotateAccessKey", fmt.Sprintf(`{"SecretId":%q,"OverlapSeconds":60}`, made.SecretId), &rotated)
	if rotated.SecretKey == made.SecretKey || rotated.ExpiredTime != "2026-11-23 12:01:00" {
		t.Errorf("rotated %+v", rotated)
	}
	expect("old within the overlap", made.SecretKey, "")
	expect("new within the overlap", rotated.SecretKey, "")
	k.refused("RotateAccessKey", fmt.Sprintf(`{"SecretId":%q}`, made.SecretId), "ResourceUnavailable.Overlap", "two valid secrets until 2026-11-23 12:01:00")
	k.now = k.now.Add(time.Minute)
	expect("old after the overlap", made.SecretKey, "AuthFailure.SignatureFailure")
	expect("new after the overlap", rotated.SecretKey, "")
	var listed describeKeysOut
	k.must("DescribeAccessKeys", fmt.Sprintf(`{"SecretIds":[%q]}`, made.SecretId), &listed)
	if len(listed.AccessKeys) != 1 || listed.AccessKeys[0].Status != "active" || !slices.Equal(listed.AccessKeys[0].Projects, []string{"3", "7"}) ||
		!slices.Equal(listed.AccessKeys[0].Secrets, []secretOut{{"2026-11-23 12:00:00", ""}}) {
		t.Errorf("listed %+v", listed)
	}

	// An emergency: both old secrets end at once.
	last := rotated.SecretKey
	k.must("RotateAccessKey", fmt.Sprintf(`{"SecretId":%q,"OverlapSeconds":0}`, made.SecretId), &rotated)
	expect("old after an emergency", last, "AuthFailure.SignatureFailure")
	expect("new after an emergency", rotated.SecretKey, "")

	k.must("RevokeAccessKey", fmt.Sprintf(`{"SecretId":%q}`, made.SecretId), nil)
	expect("revoked", rotated.SecretKey, "AuthFailure.SecretIdNotFound")
	if k.Known(made.SecretId) || !k.Known(vectorID) {
		t.Error("Known is wrong about the revoked key or the other one")
	}
	k.must("DescribeAccessKeys", `{"Filters":[{"Name":"status","Values":["revoked"]}]}`, &listed)
	if listed.TotalCount != 1 || listed.AccessKeys[0].RevokedTime == "" || len(listed.AccessKeys[0].Secrets) != 0 {
		t.Errorf("revoked: %+v", listed)
	}
	for _, secret := range []string{made.SecretKey, rotated.SecretKey, last, vectorKey} {
		whole, _ := json.Marshal(k.State())
		lines, _ := k.Store.AuditLines(t.Context(), 1, 1000)
		audit, _ := json.Marshal(lines)
		for where, text := range map[string]string{"state": string(whole), "audit log": string(audit), "log": k.log.String()} {
			if strings.Contains(text, secret) {
				t.Errorf("the %s holds a secret", where)
			}
		}
	}
	if sealed := k.State().Keys.Get(vectorID).Secrets[0].Sealed; bytes.Contains(sealed, []byte(vectorKey)) {
		t.Error("a secret is stored in plain")
	}
}

func TestKeyRefusals(t *testing.T) {
	k := newKeyBench(t)
	gone := k.addKey(lb.KeyOperator)
	k.must("RevokeAccessKey", fmt.Sprintf(`{"SecretId":%q}`, gone), nil)
	scoped := k.addKey(lb.KeyAdmin, "7")
	k.refusals([]refusal{
		{"CreateAccessKey", `{"Name":"x","Role":"admin","Projects":["p"]}`, "InvalidParameterValue", "Projects.0"},
		{"CreateAccessKey", `{"Name":"x","Role":"admin","Projects":[""]}`, "InvalidParameterValue", "Projects.0"},
		{"CreateAccessKey", `{"Name":"x","Role":"admin","Projects":[]}`, "InvalidParameterValue", "Projects"}, // not a key for all
		{"CreateAccessKey", `{"Name":"x","Role":"admin","Projects":["7",""]}`, "InvalidParameterValue", "Projects.1"},
		{"CreateAccessKey", `{"Name":" ","Role":"admin"}`, "InvalidParameterValue", "Name"},
		{"CreateAccessKey", `{"Name":"vector ","Role":"admin"}`, "InvalidParameterValue", "Name: key "},
		{"CreateAccessKey", `{"Name":"x","Role":"root"}`, "InvalidParameterValue", "Role"},
		{"DescribeAccessKeys", `{"Filters":[{"Name":"colour","Values":["x"]}]}`, "InvalidParameterValue.InvalidFilter", "colour"},
		{"DescribeAccessKeys", `{"Limit":101}`, "InvalidParameterValue", "Limit"},
		{"DescribeAccessKeys", `{"Offset":-1}`, "InvalidParameterValue", "Offset"},
		{"RotateAccessKey", `{"SecretId":"AKIDNONE"}`, "ResourceNotFound", "AKIDNONE"},
		{"RotateAccessKey", `{"SecretId":"` + gone + `"}`, "ResourceNotFound", "revoked"},
		{"RevokeAccessKey", `{"SecretId":"AKIDNONE"}`, "ResourceNotFound", "AKIDNONE"},
		{"RevokeAccessKey", `{"SecretId":"` + gone + `"}`, "ResourceNotFound", "revoked"},
		{"RevokeAccessKey", `{"SecretId":"` + vectorID + `"}`, "UnsupportedOperation", "last admin key"}, // the scoped one makes none
	})
	if _, err := k.as(scoped, "CreateAccessKey", `{"Name":"x","Role":"admin"}`); code(err) != codeUnauthorized {
		t.Errorf("a scoped admin made a key: %v", err)
	}
	// The last but one may go, from either side.
	other := k.addKey(lb.KeyAdmin)
	k.must("RevokeAccessKey", fmt.Sprintf(`{"SecretId":%q}`, vectorID), nil)
	k.refused("RevokeAccessKey", fmt.Sprintf(`{"SecretId":%q}`, other), "UnsupportedOperation", "last admin key")
	if secret, err := k.Adopt(t.Context(), vectorID, vectorKey, ""); err != nil || secret != "" || k.Known(vectorID) {
		t.Errorf("a revoked key came back: %q, %v", secret, err)
	}
}

func TestKeyLimit(t *testing.T) {
	k := newKeyBench(t)
	k.seed(func(tx *store.Tx) {
		for n := range maxKeys {
			id := lb.KeyID(fmt.Sprint("AKID", n))
			tx.PutKey(&lb.AccessKey{ID: id, Role: lb.KeyAuditor, Secrets: []lb.SealedSecret{{Sealed: []byte("x")}}})
		}
	})
	k.refused("CreateAccessKey", `{"Name":"x","Role":"auditor"}`, "LimitExceeded", "at most 1000")
}

// A vault opens what it sealed, under the same id, and nothing else.
func TestVault(t *testing.T) {
	one, other := randomVault(), randomVault()
	sealed := one.seal("AKID1", "secret")
	if text, err := one.open("AKID1", sealed); err != nil || text != "secret" {
		t.Errorf("open: %q, %v", text, err)
	}
	if _, err := one.open("AKID2", sealed); err == nil {
		t.Error("a secret was moved to another key")
	}
	if _, err := other.open("AKID1", sealed); err == nil {
		t.Error("another vault opens it")
	}
	st := &lb.State{Keys: lb.TableOf(map[lb.KeyID]*lb.AccessKey{"AKID1": {ID: "AKID1", Secrets: []lb.SealedSecret{{Sealed: sealed}}}, "AKID0": {}})}
	if err := one.Check(st); err != nil {
		t.Error(err)
	}
	if err := other.Check(st); !errors.Is(err, ErrVault) {
		t.Errorf("a wrong key file: %v", err)
	}
	for _, size := range []int{0, 16, 31, 33} {
		if _, err := NewVault(make([]byte, size)); err == nil {
			t.Errorf("a key of %d bytes was taken", size)
		}
	}
}

func FuzzVaultOpen(f *testing.F) {
	v := randomVault()
	f.Add("AKID1", v.seal("AKID1", "secret"))
	f.Add("", []byte{})
	f.Fuzz(func(t *testing.T, id string, sealed []byte) {
		if text, err := v.open(lb.KeyID(id), sealed); err == nil && text != "secret" {
			t.Errorf("opened %q", text)
		}
	})
}

// Calls that come too soon get the code that clients retry, each key and
// action for itself.
func TestRateLimits(t *testing.T) {
	b := newBench(t, func(o *Options) { o.Rates = Rates{Reads: 3, Writes: 1} })
	one, other := b.addKey(lb.KeyOperator), b.addKey(lb.KeyOperator)
	times := func(key, action, params string) (n int) {
		for range 10 {
			_, err := b.as(key, action, params)
			switch code(err) {
			case "RequestLimitExceeded":
				return n
			case "":
				n++
			default:
				t.Fatal(err)
			}
		}
		return n
	}
	for _, tc := range []struct {
		key, action, params string
		want                int
	}{
		{one, "DescribeVpcs", `{}`, 3}, {one, "DescribeSubnets", `{}`, 3}, {other, "DescribeVpcs", `{}`, 3},
		{one, "CreateVpc", `{"VpcName":"v","CidrBlock":"10.0.0.0/16"}`, 1},
	} {
		if got := times(tc.key, tc.action, tc.params); got != tc.want {
			t.Errorf("%s: %d calls passed, want %d", tc.action, got, tc.want)
		}
	}
	free := newBench(t)
	if got := (&keyBench{bench: free}).free(free.addKey(lb.KeyOperator)); got != 100 {
		t.Errorf("without a bound %d calls of 100 passed", got)
	}
}

func (k *keyBench) free(key string) (n int) {
	for range 100 {
		if _, err := k.as(key, "DescribeVpcs", `{}`); err == nil {
			n++
		}
	}
	return n
}

// A nonce is good once with its time, and is forgotten when its time is over.
func TestNonces(t *testing.T) {
	now := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	n := newNonces(func() time.Time { return now })
	first := now
	for _, step := range []struct {
		after     time.Duration
		key, text string
		at        time.Time
		ok        bool
	}{
		{0, "AKID1", "7", first, true},
		{0, "AKID1", "7", first, false},
		{0, "AKID1", "8", first, true},
		{0, "AKID2", "7", first, true},
		{0, "AKID1", "7", first.Add(time.Second), true},
		{10 * time.Minute, "AKID1", "9", first, true},
		{time.Second, "AKID1", "7", first, false}, // a generation later still
		{0, "AKID1", "", first, false},
		{0, "AKID1", strings.Repeat("1", 65), first, false},
	} {
		now = now.Add(step.after)
		if err := n.use(lb.KeyID(step.key), map[string]string{"Nonce": step.text, "Action": "DeleteVpc"}, step.at, false); (err == nil) != step.ok {
			t.Errorf("%+v: %v", step, err)
		}
	}
	if err := n.use("AKID1", map[string]string{"Nonce": "7", "Action": "DeleteSubnet"}, first, false); err != nil {
		t.Errorf("another call that drew the same number: %v", err)
	}
	for range 3 {
		now = now.Add(11 * time.Minute)
		_ = n.use("AKID1", map[string]string{"Nonce": now.String()[:20]}, now, false)
	}
	if len(n.recent)+len(n.old) > 2 {
		t.Errorf("%d nonces are kept for ever", len(n.recent)+len(n.old))
	}
}

// Who polls draws the same nonce twice in a second before long: what only reads may come
// again for as long as calls of one second are on their way, and no longer.
func TestPollsMayRepeat(t *testing.T) {
	began := time.Now()
	now := began
	b := newBench(t, func(o *Options) { o.Now = func() time.Time { return now } })
	p := map[string]string{"Version": "2017-03-12", "Region": "local", "Nonce": "1", "SecretId": vectorID, "Timestamp": strconv.FormatInt(began.Unix(), 10)}
	for _, step := range []struct {
		action string
		after  time.Duration
		want   string
	}{
		{"DescribeVpcs", 0, ""},
		{"DescribeVpcs", 0, ""},
		{"DescribeVpcs", 4 * time.Second, ""},
		{"DescribeVpcs", 6 * time.Second, "AuthFailure.SignatureFailure"},
		{"DescribeVpcs", 250 * time.Second, "AuthFailure.SignatureFailure"},
		{"DeleteVpc", 250 * time.Second, "MissingParameter"},
		{"DeleteVpc", 250 * time.Second, "AuthFailure.SignatureFailure"},
	} {
		p["Action"], now = step.action, began.Add(step.after)
		form := url.Values{"Signature": {base64.StdEncoding.EncodeToString(sum(sha1.New, []byte(vectorKey), "GETvpc.example.test/?"+textV1(p)))}}
		for name, value := range p {
			form.Set(name, value)
		}
		w := httptest.NewRecorder()
		b.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "http://vpc.example.test/?"+form.Encode(), nil))
		var out struct {
			Response struct{ Error struct{ Code string } }
		}
		if err := json.Unmarshal(w.Body.Bytes(), &out); err != nil || out.Response.Error.Code != step.want {
			t.Errorf("%s after %v: %s (%v), want %q", step.action, step.after, w.Body, err, step.want)
		}
	}
}

// Clients of our own wait and repeat what came too soon.
func TestClientRetries(t *testing.T) {
	left := 2
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if left--; left >= 0 {
			_, _ = w.Write(errorEnvelope(&Error{Code: "RequestLimitExceeded", Message: "slow"}, "r"))
			return
		}
		_, _ = w.Write(envelope(json.RawMessage(`{"Done":true}`), "r"))
	}))
	defer server.Close()
	var out struct{ Done bool }
	client := &Client{Endpoint: server.URL, SecretID: vectorID, SecretKey: vectorKey}
	if err := client.Do(t.Context(), "vpc", serviceVPC.Version, "DescribeVpcs", nil, &out); err != nil || !out.Done {
		t.Errorf("%v, %+v", err, out)
	}
}
