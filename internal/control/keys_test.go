// SPDX-License-Identifier: Apache-2.0

package control

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/sallyport/sallyport/internal/lb"
	"github.com/sallyport/sallyport/internal/store"
)

// Whatever is sent at one epoch is accepted by a host of the same, the
// former and the next one; and keys do go out of use.
func TestTunnelKeysOverlap(t *testing.T) {
	secret := make([]byte, secretSize)
	sent := map[uint64]bool{}
	for epoch := range uint32(20) {
		now, next := tunnelKeys(secret, 1, 2, epoch), tunnelKeys(secret, 1, 2, epoch+1)
		if now[0] == now[1] {
			t.Errorf("epoch %d has one key", epoch)
		}
		if !slices.Contains(next[:], now[0]) || !slices.Contains(now[:], next[0]) {
			t.Errorf("epochs %d and %d: %x and %x do not understand each other", epoch, epoch+1, now, next)
		}
		sent[now[0]] = true
	}
	if len(sent) != 11 {
		t.Errorf("%d keys were sent in 20 epochs", len(sent))
	}
	if tunnelKeys(secret, 1, 2, 0) == tunnelKeys(secret, 1, 3, 0) || tunnelKeys(secret, 1, 2, 0) == tunnelKeys(secret, 2, 1, 0) {
		t.Error("two tunnels share keys")
	}
}

// A gateway's epoch follows its age one step at a time.
func TestRotateKeys(t *testing.T) {
	r := newRegion(t)
	born := time.Now()
	r.update(func(tx *store.Tx) {
		tx.PutNode(&lb.Node{ID: "gateway-1", Num: tx.NextNum(), Role: lb.RoleGateway, Created: born})
	})
	r.stop()
	c, err := New(Options{Store: r.store, DataDir: r.dir, Now: func() time.Time { return born.Add(3*keyPeriod + time.Minute) }})
	if err != nil {
		t.Fatal(err)
	}
	for want := range uint32(5) {
		if got := r.store.State().Nodes.Get("gateway-1").KeyEpoch; got != min(want, 3) {
			t.Errorf("after %d steps at epoch %d", want, got)
		}
		if err := c.rotateKeys(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}

// The secret survives, is for root alone, and is not taken when cut.
func TestOpenSecret(t *testing.T) {
	dir := t.TempDir()
	first, err := openSecret(dir)
	if err != nil {
		t.Fatal(err)
	}
	again, err := openSecret(dir)
	if err != nil || !slices.Equal(first, again) {
		t.Errorf("read back %x, %v; was %x", again, err, first)
	}
	path := filepath.Join(dir, secretFile)
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	if err := os.WriteFile(path, first[:5], 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := openSecret(dir); err == nil {
		t.Error("a cut secret was taken")
	}
}
