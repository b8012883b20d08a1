// SPDX-License-Identifier: Apache-2.0

package scenario

import (
	"slices"
	"testing"
	"time"
)

// What an attempt is judged by are the verdicts on its own packets. One on a packet of
// another, before it, says nothing about it, although it may arrive later; one by rules that
// were said to be out of force says much.
func TestTellsOwnVerdictsOnly(t *testing.T) {
	client, vip := clients()["client-1"], clients()["client-2"]
	began := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	verdict := func(after time.Duration, reason string) event {
		return event{Time: began.Add(after).Format(time.RFC3339Nano), Gate: "cvm", Action: "DROP", Reason: reason, Source: client.String() + ":41000", ListenerId: "lbl-1"}
	}
	l := &Lab{verdicts: &follower{events: []event{verdict(-time.Second, "no_groups"), verdict(-time.Millisecond, "no_match"), verdict(time.Millisecond, "rule")}}}
	a := attempt{Send: Send{From: Host{Address: client}, To: vip, Port: 80, Listener: "lbl-1", Layer7: true, Wanted: []string{"drop cvm rule"}}, port: 20001}
	results := make([]Result, 1)
	if err := l.tell(t.Context(), mark{place: 1, at: began}, []attempt{a}, results); err != nil {
		t.Fatal(err)
	}
	if want := []string{"drop cvm rule"}; !slices.Equal(results[0].Verdicts, want) {
		t.Errorf("verdicts %v, want %v", results[0].Verdicts, want)
	}
	if _, err := (&follower{events: []event{{Time: "noon"}}}).since(mark{}); err == nil {
		t.Error("a verdict without time is taken")
	}
}

// A mark lies between what was judged before it was asked for and what is judged after.
func TestMarkLiesBetween(t *testing.T) {
	before := coarseNow()
	m, err := new(follower).mark(t.Context())
	if after := coarseNow(); err != nil || m.at.Before(before) || !m.at.Before(after) {
		t.Errorf("%v: mark at %v, clock at %v before and %v after", err, m.at, before, after)
	}
}
