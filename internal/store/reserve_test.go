// SPDX-License-Identifier: Apache-2.0

package store

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sallyport/sallyport/internal/lb"
)

// smallDisk mounts a file system of its own for a test.
func smallDisk(t *testing.T, size string) string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: it mounts a file system")
	}
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size="+size); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// fill takes all the room in dir but leave bytes, until the returned function
// gives it back.
func fill(t *testing.T, dir string, leave int64) (empty func()) {
	t.Helper()
	path := filepath.Join(dir, "fill")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	free, err := freeBytes(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Fallocate(int(f.Fd()), 0, 0, free-leave); err != nil {
		t.Fatal(err)
	}
	return func() {
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
	}
}

// On a full disk a write is refused before it changes anything, what was
// written can be read, also by a new process, and once there is room
// everything goes on.
func TestFullDisk(t *testing.T) {
	dir := smallDisk(t, "400m")
	put := func(s *Store, id lb.VPCID) error {
		_, err := s.Update(t.Context(), func(tx *Tx) error { tx.PutVPC(&lb.VPC{ID: id}); return nil })
		return err
	}
	refused := func(s *Store, id lb.VPCID) {
		t.Helper()
		if err := put(s, id); !errors.Is(err, ErrNoRoom) {
			t.Errorf("written on a full disk: %v", err)
		}
		if st := s.State(); st.Revision != 1 || st.VPCs.Len() != 1 {
			t.Errorf("revision %d with %d VPCs", st.Revision, st.VPCs.Len())
		}
	}
	s := open(t, dir)
	if err := put(s, "vpc-1"); err != nil {
		t.Fatal(err)
	}
	empty := fill(t, dir, leastFree-1<<20)
	refused(s, "vpc-2")
	empty()
	empty = fill(t, dir, 0)
	refused(s, "vpc-2")
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, dir) // by the reserve, which it gives up for this
	if _, err := os.Stat(filepath.Join(dir, "etcd", "reserve")); err == nil {
		t.Error("the reserve was not used")
	}
	refused(s, "vpc-2")
	empty()
	if err := put(s, "vpc-2"); err != nil {
		t.Fatalf("there is room again: %v", err)
	}
	if info, err := os.Stat(filepath.Join(dir, "etcd", "reserve")); err != nil || info.Size() != reserveSize {
		t.Errorf("no reserve for the next time: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}
