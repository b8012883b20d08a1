// SPDX-License-Identifier: Apache-2.0

package store

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sallyport/sallyport/internal/lb"
)

func lines(t *testing.T, s *Store) []Audit {
	t.Helper()
	all, err := s.AuditLines(t.Context(), 0, s.AuditNumber()+1)
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// Whatever raises the revision has its line; what is refused has one when it
// says so; numbers have no gaps, also across a restart.
func TestEveryChangeHasItsLine(t *testing.T) {
	bothBackends(t, func(t *testing.T, s *Store) {
		update(t, s, func(tx *Tx) {
			tx.SetAudit(Audit{Action: "Create", Key: "AKID1"})
			tx.PutVPC(&lb.VPC{ID: "vpc-1", Name: "a"})
		})
		update(t, s, func(tx *Tx) { tx.PutVPC(&lb.VPC{ID: "vpc-1", Name: "b"}) }) // nobody said who
		update(t, s, func(tx *Tx) { tx.SetAudit(Audit{Action: "Create", Refusal: "UnauthorizedOperation"}) })
		update(t, s, func(tx *Tx) { tx.PutTask(Task{ID: "t"}) })
		update(t, s, func(tx *Tx) { _ = tx.State() })
		if err := s.Raise(t.Context(), 10); err != nil {
			t.Fatal(err)
		}
		update(t, s, func(tx *Tx) { tx.SetAudit(Audit{Action: "Delete"}); tx.DeleteVPC("vpc-1") })
		var got []string
		for _, a := range lines(t, s) {
			changes, _ := json.Marshal(a.Changes)
			got = append(got, fmt.Sprintf("%d %d %s%s%s %s", a.Number, a.Revision, a.Key, a.Action, a.Refusal, changes))
			if a.Time.IsZero() {
				t.Errorf("line %d has no time", a.Number)
			}
		}
		whole := func(name string) string {
			raw, _ := encode(&lb.VPC{ID: "vpc-1", Name: name})
			return string(raw)
		}
		want := []string{
			`1 1 AKID1Create [{"Kind":"vpc","ID":"vpc-1","After":` + whole("a") + `}]`,
			`2 2  [{"Kind":"vpc","ID":"vpc-1","Before":{"Name":"a"},"After":{"Name":"b"}}]`,
			`3 2 CreateUnauthorizedOperation null`,
			`4 11  null`,
			`5 12 Delete [{"Kind":"vpc","ID":"vpc-1","Before":` + whole("b") + `}]`,
		}
		if !slices.Equal(got, want) {
			t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	})
}

func TestAuditOutlivesTheProcess(t *testing.T) {
	dir := t.TempDir()
	s, err := Open(t.Context(), Options{DataDir: dir})
	if err != nil {
		t.Fatal(err)
	}
	update(t, s, func(tx *Tx) { tx.PutVPC(&lb.VPC{ID: "vpc-1"}) })
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, dir)
	update(t, s, func(tx *Tx) { tx.PutVPC(&lb.VPC{ID: "vpc-2"}) })
	if all := lines(t, s); len(all) != 2 || all[1].Number != 2 || all[1].Changes[0].ID != "vpc-2" {
		t.Errorf("%+v", all)
	}
}

// A second store on the same cluster sees lines, and goes on with the numbers.
func TestAuditIsShared(t *testing.T) {
	one := open(t, t.TempDir())
	other, err := Open(t.Context(), Options{Endpoints: []string{one.back.(*etcd).server.endpoint}})
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	for n := range 6 {
		update(t, []*Store{one, other}[n%2], func(tx *Tx) { tx.PutVPC(&lb.VPC{ID: lb.VPCID(fmt.Sprint("vpc-", n))}) })
	}
	one.AwaitAudit(t.Context(), 5)
	for i, a := range lines(t, one) {
		if a.Number != uint64(i+1) || a.Changes[0].ID != fmt.Sprint("vpc-", i) {
			t.Errorf("line %d: %+v", i, a)
		}
	}
	if one.AuditNumber() != 6 {
		t.Errorf("%d lines", one.AuditNumber())
	}
}

func TestTrimAudit(t *testing.T) {
	at := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	for _, tc := range []struct {
		keep   int
		before time.Time
		first  uint64 // 0: none is left
	}{
		{0, time.Time{}, 1}, {100, time.Time{}, 1}, {4, time.Time{}, 7}, {0, at.Add(3 * time.Hour), 4}, {4, at.Add(3 * time.Hour), 7}, {9, at.Add(3 * time.Hour), 4},
		{0, at.Add(-time.Hour), 1}, {0, at.Add(99 * time.Hour), 0},
	} {
		bothBackends(t, func(t *testing.T, s *Store) {
			for n := range 10 {
				update(t, s, func(tx *Tx) { tx.SetAudit(Audit{Time: at.Add(time.Duration(n) * time.Hour)}) })
			}
			for range 2 { // again: what is gone does not matter
				if err := s.TrimAudit(t.Context(), tc.keep, tc.before); err != nil {
					t.Fatal(err)
				}
			}
			all := lines(t, s)
			if tc.first == 0 && len(all) > 0 || tc.first > 0 && (len(all) != int(11-tc.first) || all[0].Number != tc.first) {
				t.Errorf("keep %d, before %v: %d lines, %+v; want them from %d on", tc.keep, tc.before, len(all), all[:min(1, len(all))], tc.first)
			}
			update(t, s, func(tx *Tx) { tx.SetAudit(Audit{}) })
			if s.AuditNumber() != 11 {
				t.Errorf("the next line has number %d", s.AuditNumber())
			}
		})
	}
}

func TestDiffering(t *testing.T) {
	for _, tc := range []struct{ before, after, old, now string }{
		{`{"a":1,"b":2}`, `{"a":1,"b":3}`, `{"b":2}`, `{"b":3}`},
		{`{"a":1}`, `{"a":1}`, `{}`, `{}`},
		{`{"a":1}`, `{"b":1}`, `{"a":1}`, `{"b":1}`},
		{`{"l":[1,2,3,4]}`, `{"l":[1,2,9,3,4]}`, `{"l[2:2]":[]}`, `{"l[2:3]":[9]}`},
		{`{"l":[1,2,3]}`, `{"l":[3,2,1]}`, `{"l[0:3]":[1,2,3]}`, `{"l[0:3]":[3,2,1]}`},
		{`{"l":[1,1,1]}`, `{"l":[1,1]}`, `{"l[2:3]":[1]}`, `{"l[2:2]":[]}`},
		{`{"l":[]}`, `{"l":[1]}`, `{"l[0:0]":[]}`, `{"l[0:1]":[1]}`},
		{`{"l":null}`, `{"l":[1]}`, `{"l":null}`, `{"l":[1]}`},
		{``, `{"a":1}`, ``, `{"a":1}`},
		{`{"a":1}`, ``, `{"a":1}`, ``},
	} {
		raw := func(text string) json.RawMessage {
			if text == "" {
				return nil
			}
			return json.RawMessage(text)
		}
		if old, now := differing(raw(tc.before), raw(tc.after)); string(old) != tc.old || string(now) != tc.now {
			t.Errorf("%s → %s: %s and %s, want %s and %s", tc.before, tc.after, old, now, tc.old, tc.now)
		}
	}
}

// A line does not grow with what one write changes.
func TestLinesAreBounded(t *testing.T) {
	s := NewMemory()
	update(t, s, func(tx *Tx) {
		for n := range 10 {
			tx.PutVPC(&lb.VPC{ID: lb.VPCID(fmt.Sprint("vpc-", n)), Name: strings.Repeat("x", maxLine/4)})
		}
	})
	all := lines(t, s)
	raw, _ := json.Marshal(all)
	if len(raw) > maxLine+4096 || len(all[0].Changes) != 10 || all[0].Changes[0].Cut || !all[0].Changes[9].Cut || all[0].Changes[9].After != nil {
		t.Errorf("%d bytes", len(raw))
	}
}

func TestRedact(t *testing.T) {
	for in, want := range map[string]string{
		`{"Password":"p","Name":"n"}`:                             `{"Name":"n","Password":"(redacted)"}`,
		`{"A":[{"SecretKey":{"x":1}}],"SecretId":"AKID"}`:         `{"A":[{"SecretKey":"(redacted)"}],"SecretId":"AKID"}`,
		`{"Secrets":[{"Sealed":"c","Created":"t"}]}`:              `{"Secrets":[{"Created":"t","Sealed":"(redacted)"}]}`,
		`{"LoginSettings.Password":"p"}`:                          `{"LoginSettings.Password":"(redacted)"}`,
		`{"ClientToken":"t","Token":"u"}`:                         `{"ClientToken":"t","Token":"(redacted)"}`,
		`{"Certificate":{"CertKey":"k","CertContent":"c"}}`:       `{"Certificate":{"CertContent":"c","CertKey":"(redacted)"}}`,
		`{"Description":"my password is in the safe","Tags":[1]}`: `{"Description":"my password is in the safe","Tags":[1]}`,
		`{"Key":"owner"}`:                                         `{"Key":"owner"}`,
		`{"password":`:                                            `"(redacted)"`,
		`{"big":12345678901234567890,"UserData":"u"}`:             `{"big":12345678901234567890,"UserData":"(redacted)"}`,
	} {
		var got, expected any
		raw := Redact(json.RawMessage(in))
		if json.Unmarshal(raw, &got) != nil || json.Unmarshal([]byte(want), &expected) != nil || fmt.Sprint(got) != fmt.Sprint(expected) {
			t.Errorf("%s: %s, want %s", in, raw, want)
		}
	}
	if Redact(nil) != nil {
		t.Error("nothing became something")
	}
}

func FuzzRedact(f *testing.F) {
	f.Add(`{"Password":"p","A":[{"Secret":1}]}`)
	f.Add(`{"password":`)
	f.Fuzz(func(t *testing.T, in string) {
		out := Redact(json.RawMessage(in))
		if json.Valid([]byte(in)) && !json.Valid(out) {
			t.Errorf("%s became %s", in, out)
		}
		if _, now := differing(json.RawMessage(`{}`), out); json.Valid(out) && len(now) == 0 {
			t.Errorf("nothing is left of %s", out)
		}
	})
}
