// SPDX-License-Identifier: Apache-2.0

package cloudapi

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sallyport/sallyport/internal/lb"
)

// audit reads the log.
func (b *bench) audit(params string) describeAuditOut {
	b.Helper()
	var out describeAuditOut
	b.must("DescribeAuditLog", params, &out)
	return out
}

// Every write leaves one line that says who, from where, what, and what it
// changed; a refusal leaves one too.
func TestAuditTellsOfWrites(t *testing.T) {
	b := newBench(t)
	key, auditor := b.addKey(lb.KeyOperator), b.addKey(lb.KeyAuditor)
	start := b.Store.AuditNumber()
	raw, err := b.as(key, "CreateSecurityGroup", `{"GroupName":"web","GroupDescription":"d"}`)
	if err != nil {
		t.Fatal(err)
	}
	var made createGroupOut
	if err := json.Unmarshal([]byte(raw), &made); err != nil {
		t.Fatal(err)
	}
	id := made.SecurityGroup.SecurityGroupId
	rename := fmt.Sprintf(`{"SecurityGroupId":%q,"GroupName":"edge"}`, id)
	for _, who := range []string{key, auditor} {
		if _, err := b.as(who, "ModifySecurityGroupAttribute", rename); (err == nil) != (who == key) {
			t.Fatal(err)
		}
	}
	_, _ = b.as(key, "ModifySecurityGroupAttribute", rename)                                             // again: it changes nothing
	_, _ = b.as(key, "ModifySecurityGroupAttribute", `{"SecurityGroupId":"sg-00000000","GroupName":""}`) // no write at all
	_, _ = b.as(auditor, "DescribeVpcs", `{}`)
	b.must("DeleteSecurityGroup", fmt.Sprintf(`{"SecurityGroupId":%q}`, id), nil)

	got := b.audit(fmt.Sprintf(`{"After":%d}`, start))
	var lines []string
	for _, l := range got.Lines {
		changes, _ := json.Marshal(l.Changes)
		lines = append(lines, fmt.Sprintf("%s %s %s from %q: %s %s", l.Role, l.Action, l.Outcome, l.Address, l.Parameters, changes))
		if l.Number == 0 || l.Time == "" || l.RequestId == "" || l.Service != "vpc" {
			t.Errorf("a line lacks something: %+v", l)
		}
	}
	whole, _ := json.Marshal(got.Lines[0].Changes[0].After)
	gone, _ := json.Marshal(got.Lines[len(got.Lines)-1].Changes[0].Before)
	for i, want := range []string{
		`operator CreateSecurityGroup done from "203.0.113.9": {"GroupName":"web","GroupDescription":"d"} [{"Kind":"group","ID":"` + id + `","After":` + string(whole) + `}]`,
		`operator ModifySecurityGroupAttribute done from "203.0.113.9": ` + rename + ` [{"Kind":"group","ID":"` + id + `","Before":{"Name":"web","Updated":…},"After":{"Name":"edge","Updated":…}}]`,
		`auditor ModifySecurityGroupAttribute refused from "203.0.113.9": ` + rename + ` []`,
		`operator ModifySecurityGroupAttribute done from "203.0.113.9": ` + rename + ` []`,
		` DeleteSecurityGroup done from "": {"SecurityGroupId":"` + id + `"} [{"Kind":"group","ID":"` + id + `","Before":` + string(gone) + `}]`,
	} {
		if i >= len(lines) || !alike(lines[i], want) {
			t.Errorf("line %d is\n%s\nwant\n%s", i, slices.Concat(lines, make([]string, 9))[i], want)
		}
	}
	if len(lines) != 5 || got.Lines[1].SecretId != key || got.Lines[2].ErrorCode != codeUnauthorized || got.More || got.Newest != start+5 {
		t.Errorf("%d lines, %+v", len(lines), got)
	}
	if !strings.Contains(string(whole), `"Name":"web"`) || !strings.Contains(string(gone), `"Name":"edge"`) {
		t.Errorf("made %s, deleted %s", whole, gone)
	}
}

// alike compares with … standing for any text.
func alike(text, pattern string) bool {
	parts := strings.Split(pattern, "…")
	if !strings.HasPrefix(text, parts[0]) {
		return false
	}
	for i, part := range parts {
		at := strings.Index(text, part)
		if at < 0 || i == len(parts)-1 && !strings.HasSuffix(text, part) {
			return false
		}
		text = text[at:]
		if i < len(parts)-1 {
			text = text[len(part):]
		}
	}
	return true
}

// Lines are found by every filter and in either direction, page by page.
func TestAuditPagesAndFilters(t *testing.T) {
	now := time.Date(2016, 11, 23, 12, 0, 0, 0, time.UTC)
	b := newBench(t, func(o *Options) { o.Now = func() time.Time { return now } })
	one, other := b.addKey(lb.KeyOperator), b.addKey(lb.KeyOperator)
	start := b.Store.AuditNumber()
	for n := range 50 {
		now = now.Add(time.Minute)
		if _, err := b.as([]string{one, other}[n%2], "CreateSecurityGroup", fmt.Sprintf(`{"GroupName":"g%d","GroupDescription":"d"}`, n)); err != nil {
			t.Fatal(err)
		}
	}
	_, _ = b.as(other, "CreateAccessKey", `{"Name":"x","Role":"admin"}`)
	var first []lb.GroupID
	for id, g := range b.State().Groups.All() {
		if g.Name == "g0" {
			first = append(first, id)
		}
	}
	for _, tc := range []struct {
		filter string
		want   int
	}{
		{`"Filters":[{"Name":"secret-id","Values":["` + one + `"]}]`, 25},
		{`"Filters":[{"Name":"secret-id","Values":["` + one + `","` + other + `"]},{"Name":"outcome","Values":["done"]}]`, 50},
		{`"Filters":[{"Name":"outcome","Values":["refused"]}]`, 1},
		{`"Filters":[{"Name":"action","Values":["CreateAccessKey"]},{"Name":"role","Values":["operator"]}]`, 1},
		{`"Filters":[{"Name":"object-id","Values":["` + string(first[0]) + `"]}]`, 1},
		{`"Filters":[{"Name":"revision","Values":["` + fmt.Sprint(b.State().Revision) + `"]}]`, 2}, // the last write, and the refusal after it
		{`"Filters":[{"Name":"address","Values":["203.0.113.9"]}]`, 51},
		{`"StartTime":"2016-11-23 12:10:00","EndTime":"2016-11-23T12:20:00Z"`, 10},
	} {
		for _, way := range []string{"After", "Before"} {
			var numbers []uint64
			at := map[string]uint64{"After": start, "Before": 1 << 40}[way]
			for {
				page := b.audit(fmt.Sprintf(`{%q:%d,"Limit":7,%s}`, way, at, tc.filter))
				for _, l := range page.Lines {
					numbers = append(numbers, l.Number)
				}
				if !page.More {
					break
				}
				if page.Next == at {
					t.Fatalf("%s %s stands still at %d", way, tc.filter, at)
				}
				at = page.Next
			}
			sorted := slices.Clone(numbers)
			slices.Sort(sorted)
			if len(slices.Compact(sorted)) != tc.want {
				t.Errorf("%s %s found %v, want %d lines", way, tc.filter, numbers, tc.want)
			}
			if way == "Before" {
				slices.Reverse(numbers)
			}
			if !slices.IsSorted(numbers) {
				t.Errorf("%s %s is out of order: %v", way, tc.filter, numbers)
			}
		}
	}
}

// A follower gets a line as soon as it is there.
func TestAuditFollows(t *testing.T) {
	b := newBench(t)
	answer := make(chan describeAuditOut)
	newest := b.Store.AuditNumber()
	go func() { answer <- b.audit(fmt.Sprintf(`{"After":%d,"WaitSeconds":60}`, newest)) }()
	b.must("CreateVpc", `{"VpcName":"v","CidrBlock":"10.0.0.0/16"}`, nil)
	if got := <-answer; len(got.Lines) != 1 || got.Lines[0].Action != "CreateVpc" || got.Next != newest+1 {
		t.Errorf("got %+v", got)
	}
}

func TestAuditRefusals(t *testing.T) {
	many, _ := json.Marshal(map[string]any{"Filters": slices.Repeat([]Filter{{"action", []string{"x"}}}, 11)})
	newBench(t).refusals([]refusal{
		{"DescribeAuditLog", `{"After":1,"Before":2}`, "InvalidParameterCombination", "Before"},
		{"DescribeAuditLog", string(many), "LimitExceeded", "Filters"},
		{"DescribeAuditLog", `{"After":-1}`, "InvalidParameterValue", "After"},
		{"DescribeAuditLog", `{"Before":-1}`, "InvalidParameterValue", "Before"},
		{"DescribeAuditLog", `{"WaitSeconds":61}`, "InvalidParameterValue", "WaitSeconds"},
		{"DescribeAuditLog", `{"StartTime":"noon"}`, "InvalidParameterValue", "StartTime"},
		{"DescribeAuditLog", `{"EndTime":"2026-13-01 00:00:00"}`, "InvalidParameterValue", "EndTime"},
		{"DescribeAuditLog", `{"Filters":[{"Name":"colour","Values":["x"]}]}`, "InvalidParameterValue.InvalidFilter", "colour"},
	})
}

// Parameters are kept without secrets, and not beyond a bound.
func TestAuditParameters(t *testing.T) {
	long := `{"A":"` + strings.Repeat("x", maxParams) + `"}`
	for _, tc := range []struct {
		raw  request
		want string
	}{
		{request{}, ``},
		{request{body: json.RawMessage(`{"Name":"n"}`)}, `{"Name":"n"}`},
		{request{body: json.RawMessage(`{"Login":{"Password":"p"},"UserData":"u"}`)}, `{"Login":{"Password":"(redacted)"},"UserData":"(redacted)"}`},
		{request{flat: map[string]string{"LoginSettings.Password": "p", "Name": "n"}}, `{"LoginSettings.Password":"(redacted)","Name":"n"}`},
		{request{body: json.RawMessage(long)}, fmt.Sprintf(`{"Bytes":%d,"Cut":true}`, len(long))},
	} {
		c := &Call{raw: &tc.raw}
		if got := string(c.params()); got != tc.want {
			t.Errorf("got %s, want %s", got, tc.want)
		}
	}
}

// What writes elsewhere than to the store has its line too.
func TestAuditOfNodeTokens(t *testing.T) {
	b := newBench(t, func(o *Options) { o.Tokens = &tokens{} })
	start := b.Store.AuditNumber()
	b.must("CreateNodeToken", `{"Role":"gateway","Name":"gateway-1"}`, nil)
	got := b.audit(fmt.Sprintf(`{"After":%d}`, start))
	if len(got.Lines) != 1 || got.Lines[0].Action != "CreateNodeToken" || !strings.HasPrefix(got.Lines[0].Message, "made a token for gateway name, good until 1970-01-01T00:16:40Z") {
		t.Errorf("got %+v", got)
	}
}

func FuzzMoment(f *testing.F) {
	f.Add("2026-11-23 08:00:00")
	f.Add("2026-11-23T08:00:00+01:00")
	f.Fuzz(func(t *testing.T, text string) {
		at, err := moment("StartTime", text)
		if err == nil && text != "" && at.Location() != time.UTC {
			t.Errorf("%q is %v", text, at)
		}
	})
}
