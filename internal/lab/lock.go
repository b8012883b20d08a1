// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// A Lock is the right to be this machine's only lab. It ends with the process.
type Lock struct{ f *os.File }

// holder is what the lock file says, for people who come second.
type holder struct {
	PID int    `json:"pid"`
	API string `json:"api"`
}

// A BusyError says that another lab runs on this machine.
type BusyError struct {
	PID int    // of the other `sallyport up`; 0 if it has not said yet
	API string // where its API answers; "" if it has not said yet
}

// Error names the other lab.
func (e *BusyError) Error() string {
	if e.PID == 0 {
		return "another lab is just starting on this machine"
	}
	return fmt.Sprintf("a lab is already running on this machine: pid %d, API %s", e.PID, e.API)
}

// Acquire takes the lock or fails at once with a *BusyError. api is what the
// next one to try is told.
func Acquire(api string) (*Lock, error) {
	for {
		if err := os.MkdirAll(RunDir, 0o755); err != nil {
			return nil, err
		}
		f, err := os.OpenFile(lockFile, os.O_CREATE|os.O_RDWR, 0o644)
		if err != nil {
			return nil, err
		}
		if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
			busy := busyFrom(f)
			_ = f.Close()
			if errors.Is(err, unix.EWOULDBLOCK) {
				return nil, busy
			}
			return nil, err
		}
		if !stillNamed(f) { // the last lab ended between our open and our lock
			_ = f.Close()
			continue
		}
		l := &Lock{f: f}
		return l, l.say(holder{PID: os.Getpid(), API: api})
	}
}

// Release removes the lock file, and the run directory if nothing else is in
// it, and gives the lock up.
func (l *Lock) Release() error {
	err := os.Remove(lockFile)
	_ = os.Remove(RunDir)
	return errors.Join(err, l.f.Close())
}

func (l *Lock) say(h holder) error {
	data, err := json.Marshal(h)
	if err != nil {
		return err
	}
	if err := l.f.Truncate(0); err != nil {
		return err
	}
	_, err = l.f.WriteAt(data, 0)
	return err
}

func busyFrom(f *os.File) *BusyError {
	var h holder
	_ = json.NewDecoder(f).Decode(&h)
	return &BusyError{PID: h.PID, API: h.API}
}

func stillNamed(f *os.File) bool {
	mine, err := f.Stat()
	if err != nil {
		return false
	}
	named, err := os.Stat(lockFile)
	return err == nil && os.SameFile(mine, named)
}
