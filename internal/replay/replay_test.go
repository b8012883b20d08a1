// SPDX-License-Identifier: Apache-2.0

package replay

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
)

func TestPlay(t *testing.T) {
	const text = `# A story.
== create
vpc Make {"Name":"a"}
-> {"Id":"$id","List":[{"N":1}]}
== read
vpc Show {"Ids":["$id"],
  "Resource":"qcs::x/$id"}
-> {"Id":"$id",
  "Name":"a","Seen":"*"}
== again read
== delete
vpc Drop {"Id":"$id"}
-> ! ResourceNotFound
`
	answers := map[string]string{
		"Make": `{"Id":"vpc-1","List":[{"N":1,"More":2}],"RequestId":"r"}`,
		"Show": `{"Id":"vpc-1","Name":"a","Seen":false}`,
	}
	for _, tc := range []struct{ name, action, answer, want string }{
		{"as recorded", "", "", ""},
		{"another id", "Show", `{"Id":"vpc-2","Name":"a","Seen":1}`, ".Id is vpc-2, want vpc-1"},
		{"a field less", "Show", `{"Id":"vpc-1","Seen":1}`, ".Name is not there"},
		{"null", "Show", `{"Id":"vpc-1","Name":"a","Seen":null}`, ".Seen is null"},
		{"an item more", "Make", `{"Id":"vpc-1","List":[{"N":1},{"N":1}]}`, ".List has 2 items, want 1 items"},
		{"another number", "Make", `{"Id":"vpc-1","List":[{"N":2}]}`, ".List.0.N is 2, want 1"},
		{"no id", "Make", `{"Id":"","List":[{"N":1}]}`, ".Id is empty"},
		{"another code", "Drop", `!InUse: bound`, "is refused with InUse: bound, want ResourceNotFound"},
		{"no refusal", "Drop", `{}`, "want ResourceNotFound"},
		{"a refusal", "Make", `!LimitExceeded: all`, "LimitExceeded: all"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s, err := Parse("story", []byte(text))
			if err != nil {
				t.Fatal(err)
			}
			var asked []string
			err = s.Play(func(service, version, action string, params json.RawMessage) (json.RawMessage, error) {
				asked = append(asked, action+" "+string(params))
				answer := answers[action]
				if action == "Drop" {
					answer = "!ResourceNotFound: gone"
				}
				if action == tc.action {
					answer = tc.answer
				}
				if refusal, ok := strings.CutPrefix(answer, "!"); ok {
					return nil, errors.New(refusal)
				}
				return json.RawMessage(answer), nil
			}, nil)
			if tc.want == "" {
				if err != nil || len(asked) != 4 || asked[2] != `Show {"Ids":["vpc-1"],"Resource":"qcs::x/vpc-1"}` {
					t.Errorf("%v, asked %q", err, asked)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), tc.want) || !strings.HasPrefix(err.Error(), "story:") {
				t.Errorf("got %v, want %s", err, tc.want)
			}
		})
	}
}

// Instances are moved by who plays; without a host such sections are left out.
func TestPlayWithAHost(t *testing.T) {
	s, err := Parse("story", []byte("== create\nvpc Make {\"Crt\":\"$site-crt\"}\n-> {\"Id\":\"$ins\"}\n== reset with a host\nstate $ins RUNNING\nvpc Reset {\"Id\":\"$ins\"}\n"))
	if err != nil {
		t.Fatal(err)
	}
	var did []string
	call := func(_, _, action string, params json.RawMessage) (json.RawMessage, error) {
		if action == "Make" && !strings.Contains(string(params), "BEGIN CERTIFICATE") {
			t.Errorf("%s", params)
		}
		did = append(did, action)
		return json.RawMessage(`{"Id":"ins-1"}`), nil
	}
	if err := s.Play(call, nil); err != nil || strings.Join(did, " ") != "Make" {
		t.Errorf("%v, did %v", err, did)
	}
	did = nil
	if err := s.Play(call, func(id, state string) error { did = append(did, id+" "+state); return nil }); err != nil || strings.Join(did, " ") != "Make ins-1 RUNNING Reset" {
		t.Errorf("%v, did %v", err, did)
	}
	if err := s.Play(call, func(string, string) error { return errors.New("no such instance") }); err == nil || err.Error() != "story:5: no such instance" {
		t.Error(err)
	}
	if got := s.Actions(); strings.Join(got, " ") != "Make Reset" {
		t.Errorf("actions %q", got)
	}
}

func TestParseRefuses(t *testing.T) {
	for text, want := range map[string]string{
		"vpc Make {}\n":          "x:1: want SERVICE ACTION JSON in a section",
		"== a\nnosuch Make {}\n": "x:2: want SERVICE",
		"== a\n== a\n":           `x:2: section "a" is there already`,
		"== again a\n":           "x:1:",
		"== a\nvpc Make\n":       "x:2:",
		"== a\nstate $i RUNNING": "x:2: want state INSTANCE STATE in a section with a host",
	} {
		if _, err := Parse("x", []byte(text)); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%q: %v, want %s", text, err, want)
		}
	}
}

// Each sequence creates, reads, reads again and deletes.
func TestSequences(t *testing.T) {
	all, err := Sequences()
	if err != nil {
		t.Fatal(err)
	}
	resources, err := Resources()
	if err != nil || len(resources) < 20 || len(all) < 20 {
		t.Errorf("%d sequences of %d resources, %v", len(all), len(resources), err)
	}
	for _, s := range all {
		order := strings.Join(s.order, " ")
		if !strings.Contains(order, "create read read ") || !strings.HasSuffix(order, "delete") {
			t.Errorf("%s plays %s", s.Name, order)
		}
	}
}
