// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sallyport/sallyport/internal/lb"
	"github.com/sallyport/sallyport/internal/snapshot"
)

func ruleFor(id, domain, url string) snapshot.Rule {
	return snapshot.Rule{ID: lb.LocationID(id), Domain: domain, URL: url, Targets: []snapshot.TargetRef{{Num: 1, Weight: 10}}}
}

// Exact > leading wildcard > trailing wildcard > default
// domain, then the longest URL prefix; /abc is redirected to a rule /abc/.
func TestRouting(t *testing.T) {
	fallback := ruleFor("default", "d.example.com", "/")
	fallback.Default = true
	r := newRoutes([]snapshot.Rule{
		ruleFor("exact", "www.example.com", "/"),
		ruleFor("exact-abc", "www.example.com", "/abc/"),
		ruleFor("exact-abcdef", "www.example.com", "/abc/def"),
		ruleFor("exact-xyz", "www.example.com", "/xyz"),
		ruleFor("lead", "*.example.com", "/"),
		ruleFor("lead-long", "*.eu.example.com", "/"),
		ruleFor("trail", "www.example.*", "/"),
		ruleFor("trail-long", "www.example.co.*", "/"),
		ruleFor("ip", "192.0.2.1", "/only"),
		ruleFor("both", "both.example.com", "/p/"),
		ruleFor("both-bare", "both.example.com", "/p"),
		fallback,
	}, nil, &loads{})
	for _, c := range []struct{ host, path, want, redirect string }{
		{"www.example.com", "/", "exact", ""},
		{"WWW.Example.COM:8080", "/", "exact", ""},
		{"www.example.com.", "/", "exact", ""},
		{"www.example.com", "/abc/x", "exact-abc", ""},
		{"www.example.com", "/abc/", "exact-abc", ""},
		{"www.example.com", "/abc", "", "/abc/"},
		{"www.example.com", "/abcd", "exact", ""},
		{"www.example.com", "/abc/definite", "exact-abcdef", ""},
		{"www.example.com", "/abc/../xyz", "exact-xyz", ""},
		{"www.example.com", "//abc//def", "exact-abcdef", ""},
		{"www.example.com", "/xyz", "exact-xyz", ""},
		{"www.example.com", "/xyz/", "exact-xyz", ""},
		{"both.example.com", "/p", "both-bare", ""},
		{"both.example.com", "/p/q", "both", ""},
		{"a.example.com", "/", "lead", ""},
		{"a.b.example.com", "/", "lead", ""},
		{"a.eu.example.com", "/", "lead-long", ""},
		{"example.com", "/", "default", ""},
		{"www.example.org", "/", "trail", ""},
		{"www.example.co.uk", "/", "trail-long", ""},
		{"192.0.2.1:80", "/only", "ip", ""},
		{"192.0.2.1", "/else", "", ""},
		{"", "/", "default", ""},
		{"[2001:db8::1]:80", "/", "default", ""},
		{"www.example.com", "*", "", ""},
	} {
		match, redirect := r.domain(c.host).location(c.path)
		got := ""
		if match != nil {
			got = string(match.id)
		}
		if got != c.want || redirect != c.redirect {
			t.Errorf("%s %s: rule %q redirect %q, want %q %q", c.host, c.path, got, redirect, c.want, c.redirect)
		}
	}
}

func TestFirstDomainServesWhenNoneIsDefault(t *testing.T) {
	r := newRoutes([]snapshot.Rule{ruleFor("first", "a.example.com", "/"), ruleFor("second", "b.example.com", "/")}, nil, &loads{})
	match, _ := r.domain("else.example.org").location("/")
	if match == nil || match.id != "first" {
		t.Fatalf("got %v", match)
	}
	if newRoutes(nil, nil, nil).domain("a") != nil {
		t.Fatal("a listener without rules has a domain")
	}
}

func TestWheelSpreadsByWeight(t *testing.T) {
	w := newWheel([]snapshot.TargetRef{{Num: 1, Weight: 3}, {Num: 2, Weight: 1}, {Num: 3, Weight: 0}}, nil)
	everyone := func(uint32) bool { return true }
	var got []uint32
	for range 8 {
		num, ok := w.next(everyone, whole)
		if !ok {
			t.Fatal("nobody")
		}
		got = append(got, num)
	}
	if diff := cmp.Diff([]uint32{1, 1, 2, 1, 1, 1, 2, 1}, got); diff != "" {
		t.Error(diff)
	}
	if num, ok := w.next(func(n uint32) bool { return n == 2 }, whole); !ok || num != 2 {
		t.Errorf("only 2 was eligible, got %d %v", num, ok)
	}
	if _, ok := w.next(func(uint32) bool { return false }, whole); ok {
		t.Error("nobody was eligible")
	}
}

// Commits come often; the turn must go on over them.
func TestWheelKeepsItsTurn(t *testing.T) {
	targets := []snapshot.TargetRef{{Num: 1, Weight: 10}, {Num: 2, Weight: 10}}
	var w *wheel
	count := map[uint32]int{}
	for range 10 {
		w = newWheel(targets, w)
		num, _ := w.next(func(uint32) bool { return true }, whole)
		count[num]++
	}
	if count[1] != 5 || count[2] != 5 {
		t.Errorf("got %v, want 5 each", count)
	}
}
