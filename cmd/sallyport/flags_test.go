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
