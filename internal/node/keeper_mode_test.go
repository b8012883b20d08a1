// SPDX-License-Identifier: Apache-2.0

package node

import (
	"os"
	"testing"

	"github.com/sallyport/sallyport/internal/wire"
)

// A gateway's snapshot has private keys in it: nobody but its owner reads what
// is kept of it.
func TestKeptSnapshotIsPrivate(t *testing.T) {
	k := &keeper{dir: t.TempDir()}
	for range 2 { // the second makes the first the previous one
		if err := k.prepare(&wire.Stage{Revision: 7}); err != nil {
			t.Fatal(err)
		}
		if err := k.promote(); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{fileLast, filePrevious} {
		info, err := os.Stat(k.path(name))
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %04o", name, info.Mode().Perm())
		}
	}
}
