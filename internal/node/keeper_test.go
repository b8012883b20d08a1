// SPDX-License-Identifier: Apache-2.0

package node

import (
	"os"
	"strings"
	"testing"

	"github.com/sallyport/sallyport/internal/lb"
	"github.com/sallyport/sallyport/internal/wire"
)

func message(r uint32) *wire.Stage {
	return &wire.Stage{Revision: r, Manifest: []byte("{}"), Blobs: []*wire.Blob{{Hash: "aa", Data: []byte("data")}}}
}

// keep prepares and promotes snapshots of the given revisions.
func keep(t *testing.T, k *keeper, revisions ...uint32) {
	t.Helper()
	for _, r := range revisions {
		if err := k.prepare(message(r)); err != nil {
			t.Fatal(err)
		}
		if err := k.promote(); err != nil {
			t.Fatal(err)
		}
	}
}

// What is loaded after which history, with which revision in the kernel.
func TestKeeperLoad(t *testing.T) {
	damage := func(t *testing.T, k *keeper, name string, edit func([]byte) []byte) {
		t.Helper()
		raw, err := os.ReadFile(k.path(name))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(k.path(name), edit(raw), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	flip := func(raw []byte) []byte { raw[len(raw)-1] ^= 1; return raw }
	for _, c := range []struct {
		name   string
		before func(t *testing.T, k *keeper)
		kernel lb.Revision
		want   uint32 // 0: nothing
		fault  string
	}{
		{"nothing yet", func(*testing.T, *keeper) {}, 0, 0, ""},
		{"the last", func(t *testing.T, k *keeper) { keep(t, k, 1, 2) }, 2, 2, ""},
		{"staged, never committed", func(t *testing.T, k *keeper) { keep(t, k, 1); k.prepare(message(2)) }, 1, 1, ""},
		{"staged, rebooted", func(t *testing.T, k *keeper) { keep(t, k, 1); k.prepare(message(2)) }, 0, 1, ""},
		{"committed, not promoted", func(t *testing.T, k *keeper) { keep(t, k, 1); k.prepare(message(2)) }, 2, 2, ""},
		{"the very first, not promoted", func(t *testing.T, k *keeper) { k.prepare(message(1)) }, 1, 1, ""},
		{"a flipped bit", func(t *testing.T, k *keeper) { keep(t, k, 1, 2); damage(t, k, fileLast, flip) }, 2, 1, "checksum"},
		{"cut", func(t *testing.T, k *keeper) {
			keep(t, k, 1, 2)
			damage(t, k, fileLast, func(raw []byte) []byte { return raw[:30] })
		}, 2, 1, "checksum"},
		{"another's file", func(t *testing.T, k *keeper) {
			keep(t, k, 1)
			damage(t, k, fileLast, func([]byte) []byte { return []byte("hello\n") })
		}, 0, 0, "not a kept snapshot"},
		{"both damaged", func(t *testing.T, k *keeper) {
			keep(t, k, 1, 2)
			damage(t, k, fileLast, flip)
			damage(t, k, filePrevious, flip)
		}, 0, 0, "checksum"},
		{"damaged next", func(t *testing.T, k *keeper) {
			keep(t, k, 1)
			k.prepare(message(2))
			damage(t, k, fileNext, flip)
		}, 2, 1, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			k := &keeper{dir: t.TempDir()}
			c.before(t, k)
			m, err := k.load(c.kernel)
			if m.GetRevision() != c.want {
				t.Errorf("loaded %d, want %d", m.GetRevision(), c.want)
			}
			if (c.fault == "") != (err == nil) || err != nil && !strings.Contains(err.Error(), c.fault) {
				t.Errorf("error %v, want %q", err, c.fault)
			}
			if c.fault == "" {
				return
			}
			if _, err := os.Stat(k.path(fileAside)); err != nil {
				t.Errorf("nothing was set aside: %v", err)
			}
			if again, err := k.load(c.kernel); err != nil || again.GetRevision() != c.want {
				t.Errorf("the second time: %d, %v", again.GetRevision(), err)
			}
		})
	}
}

// A disk that cannot be written is an error, and what was kept stays.
func TestKeeperCannotWrite(t *testing.T) {
	k := &keeper{dir: t.TempDir()}
	keep(t, k, 1)
	gone := &keeper{dir: k.path("missing")}
	if err := gone.prepare(message(2)); err == nil {
		t.Error("written into a folder that is not there")
	}
	if err := gone.promote(); err == nil {
		t.Error("promoted what was never written")
	}
}
