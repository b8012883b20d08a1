// SPDX-License-Identifier: Apache-2.0

package store

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"

	"golang.org/x/sys/unix"
)

// ErrNoRoom is wrapped by what Update returns when the disk under the embedded
// database is too full for another write. Nothing has changed then, and the
// same Update succeeds once there is room.
var ErrNoRoom = errors.New("the disk has no room left")

const (
	// reserveSize is room that only a database starting on a full disk gets,
	// in bytes.
	reserveSize = 32 << 20
	// leastFree is what a write must find free, in bytes: the next file of the
	// database's log, which is allocated whole, and the largest transaction.
	leastFree = 64<<20 + maxRequest
)

// A reserve keeps the embedded database away from a full disk. etcd ends the
// process when a write of its own fails, so writes are refused well before
// that. Somebody else may still fill the disk at once, while a write is under
// way: the server that starts after it is given the room of a file that was
// kept for this, and serves readers until there is room for writes again.
type reserve struct {
	dir, path string

	mu   sync.Mutex
	held bool
}

// openReserve readies the reserve in dir before the database starts there.
func openReserve(dir string) *reserve {
	r := &reserve{dir: dir, path: filepath.Join(dir, "reserve")}
	if free, err := freeBytes(dir); err == nil && free < leastFree {
		_ = os.Remove(r.path) // if that fails the database says what is wrong
	}
	info, err := os.Stat(r.path)
	r.held = err == nil && info.Size() == reserveSize
	return r
}

// check refuses a write for which there is too little room, and takes the
// reserve again once there is enough for it too.
func (r *reserve) check() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	free, err := freeBytes(r.dir)
	if err != nil {
		return fmt.Errorf("free room in %s: %w", r.dir, err)
	}
	need := int64(leastFree)
	if !r.held {
		need += reserveSize
	}
	if free < need {
		return fmt.Errorf("%w: %d MB are free in %s, a write needs %d MB", ErrNoRoom, free>>20, r.dir, need>>20)
	}
	if r.held {
		return nil
	}
	if err := r.take(); err != nil {
		return fmt.Errorf("keep room for the database: %w", err)
	}
	r.held = true
	return nil
}

func (r *reserve) take() error {
	f, err := os.OpenFile(r.path, os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	err = unix.Fallocate(int(f.Fd()), 0, 0, reserveSize)
	if errors.Is(err, unix.EOPNOTSUPP) {
		err = nil // such a file system gets the check alone
	}
	err = errors.Join(err, f.Close())
	if err != nil {
		return errors.Join(err, os.Remove(r.path))
	}
	return nil
}

// freeBytes is what an ordinary user may still write under dir.
func freeBytes(dir string) (int64, error) {
	var s unix.Statfs_t
	if err := unix.Statfs(dir, &s); err != nil {
		return 0, err
	}
	return int64(s.Bavail) * s.Bsize, nil
}
