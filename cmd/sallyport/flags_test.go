// SPDX-License-Identifier: Apache-2.0

package main

import (
	"path/filepath"
	"testing"
)

// Names that zones are made from, and files that are written last, are checked first.
func TestFlagsAreCheckedFirst(t *testing.T) {
	for name, ok := range map[string]bool{"local": true, "ap-guangzhou": true, "r1": true, "": false, "A B": false, "-x": false, "x-": false} {
		if err := checkRegion(name); (err == nil) != ok {
			t.Errorf("region %q: %v, want accepted %v", name, err, ok)
		}
	}
	dir := t.TempDir()
	for file, ok := range map[string]bool{"": true, filepath.Join(dir, "ready"): true, filepath.Join(dir, "missing", "ready"): false} {
		if err := checkReadyFile(file); (err == nil) != ok {
			t.Errorf("ready file %q: %v, want accepted %v", file, err, ok)
		}
	}
	if left, _ := filepath.Glob(filepath.Join(dir, ".*")); len(left) > 0 {
		t.Errorf("the check left %v", left)
	}
}

func TestKindsFlags(t *testing.T) {
	for value, ok := range map[int]bool{0: true, 1: true, 2: false, -1: false} {
		k := kinds{sourceIPType: value}
		if err := k.check(); (err == nil) != ok {
			t.Errorf("--source-ip-type %d: %v, want accepted %v", value, err, ok)
		}
	}
	// What `up` was told reaches the server that it starts.
	given := kinds{seedMode: true, sourceIPType: 1}
	cmd := newServerCommand()
	if err := cmd.ParseFlags(given.args()); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"seed-mode": "true", "source-ip-type": "1"} {
		if got := cmd.Flags().Lookup(name).Value.String(); got != want {
			t.Errorf("--%s is %s", name, got)
		}
	}
}
