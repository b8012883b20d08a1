// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
)

// A server keeps to the quota that it is told, and refuses one that it does not
// know before it begins.
func TestServerQuotas(t *testing.T) {
	c, stop := startServer(t, "--data", t.TempDir(), "--listen", "127.0.0.1:0", "--quota", "groups=3")
	defer stop()
	group := func(i int) error {
		return c.call(t, "CreateSecurityGroup", map[string]any{"GroupName": fmt.Sprint("g", i), "GroupDescription": "d"})
	}
	for i := range 3 {
		if err := group(i); err != nil {
			t.Fatal(err)
		}
	}
	if err := group(3); err == nil || !strings.Contains(err.Error(), "LimitExceeded") {
		t.Errorf("a fourth group: %v", err)
	}
	for text, want := range map[string]string{"groups": "NAME=N", "groups=x": "NAME=N", "groups=-1": "0-1000000", "rules=5": `no quota "rules"; there are groups,`} {
		var said bytes.Buffer
		if code := run(t.Context(), []string{"server", "--data", t.TempDir(), "--quota", text}, &said, &said); code != 2 || !strings.Contains(said.String(), want) {
			t.Errorf("%s: %d %s", text, code, said.String())
		}
	}
}
