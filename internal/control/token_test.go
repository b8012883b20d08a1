// SPDX-License-Identifier: Apache-2.0

package control

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/sallyport/sallyport/internal/lb"
)

// A token lives ten minutes, across restarts, and serves once.
func TestTokenLife(t *testing.T) {
	dir, now := t.TempDir(), time.Unix(1000, 0)
	clock := func() time.Time { return now }
	open := func() *tokens {
		t.Helper()
		all, err := openTokens(dir, clock)
		if err != nil {
			t.Fatal(err)
		}
		return all
	}
	id := identity{Name: "ins-aaaaaaaa", Role: lb.RoleHost, Instance: "ins-aaaaaaaa"}
	create := func() string {
		t.Helper()
		token, err := open().create(invitation{identity: id, Expires: now.Add(tokenLife)}, []byte("the CA"), "")
		if err != nil {
			t.Fatal(err)
		}
		return token.String()
	}
	first, second := create(), create()
	if first == second {
		t.Fatal("two tokens are alike")
	}
	now = now.Add(tokenLife - time.Second)
	if got, err := open().redeem(first); err != nil || got.identity != id {
		t.Errorf("within its life: %v, %v", got, err)
	}
	if _, err := open().redeem(first); !errors.Is(err, errToken) {
		t.Errorf("again: %v", err)
	}
	now = now.Add(time.Second)
	if _, err := open().redeem(second); !errors.Is(err, errToken) {
		t.Errorf("after its life: %v", err)
	}
	if err := os.WriteFile(filepath.Join(dir, tokensFile), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := openTokens(dir, clock); err == nil {
		t.Error("a cut file was taken")
	}
}

// What a token may not be made for.
func TestIdentityValidate(t *testing.T) {
	for _, c := range []struct {
		id   identity
		good bool
	}{
		{identity{"gateway-1", lb.RoleGateway, ""}, true},
		{identity{"ins-a", lb.RoleHost, "ins-a"}, true},
		{identity{"", lb.RoleGateway, ""}, false},
		{identity{"x", "router", ""}, false},
		{identity{"ins-a", lb.RoleHost, ""}, false},
		{identity{"gateway-1", lb.RoleGateway, "ins-a"}, false},
	} {
		if err := c.id.validate(); (err == nil) != c.good {
			t.Errorf("%+v: %v", c.id, err)
		}
	}
}
