// SPDX-License-Identifier: Apache-2.0

package wire

import (
	"strings"
	"testing"
)

// A token reads back as it was written, and anything else is refused without
// being repeated.
func TestToken(t *testing.T) {
	want := Token{Secret: strings.Repeat("ab", 16), Authority: AuthorityHash([]byte("a certificate"))}
	got, err := ParseToken(" " + want.String() + "\n")
	if err != nil || got != want {
		t.Fatalf("ParseToken(%q) = %v, %v", want, got, err)
	}
	want.Server = "198.51.100.1:7781"
	if got, err := ParseToken(want.String()); err != nil || got != want {
		t.Errorf("with the server's address: %v, %v", got, err)
	}
	want.Server = ""
	for _, bad := range []string{
		"", "sp1", "sp1..", "sp2" + want.String()[3:], want.String() + ".x",
		"sp1.zz" + want.Secret[2:] + "." + want.Authority,
		"sp1." + want.Secret + "." + want.Authority[:62],
	} {
		if _, err := ParseToken(bad); err == nil {
			t.Errorf("ParseToken(%q) was taken", bad)
		} else if len(bad) > 4 && strings.Contains(err.Error(), bad) {
			t.Errorf("the error repeats the token: %v", err)
		}
	}
}
