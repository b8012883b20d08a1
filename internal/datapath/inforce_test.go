// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"path/filepath"
	"testing"
)

// What is in force can be read without opening, also after the process that
// put it there is gone; nothing pinned is no revision.
func TestInForce(t *testing.T) {
	w := newWorld(t)
	gw, host := w.pairOpen()
	pins := filepath.Join(w.dirs["dp-gw"], "pins")
	if got := InForce(pins); got != 0 {
		t.Errorf("%d before the first", got)
	}
	s1, s2 := pair(t, 1, nil, compiled(t, "sg-2", accept("0.0.0.0/0", 8080)))
	put(t, gw, host, s1, s2)
	if got := InForce(pins); got != 1 {
		t.Errorf("%d, want 1", got)
	}
	gw.Close()
	if got := InForce(pins); got != 1 {
		t.Errorf("%d after the process, want 1", got)
	}
	if got := InForce(t.TempDir()); got != 0 {
		t.Errorf("%d where nothing is pinned", got)
	}
}
