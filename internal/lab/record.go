// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// A Record is what the running lab writes down about itself: for the commands
// that use it, and for the next lab, which clears away what a killed one left.
type Record struct {
	PID       int             `json:"pid"` // of `sallyport up`
	Start     uint64          `json:"start"`
	API       string          `json:"api"` // http://ADDR
	Region    string          `json:"region"`
	DataDir   string          `json:"dataDir"`
	Temporary bool            `json:"temporary"`   // DataDir goes with the lab
	NetnsDir  bool            `json:"netnsDirOur"` // /run/netns was not there before
	Hosts     []HostRecord    `json:"hosts"`       // in order of creation
	Processes []ProcessRecord `json:"processes"`   // in order of start
}

// A HostRecord is one host as the ready file and `lab ls` show it.
type HostRecord struct {
	Name       string       `json:"name"`
	Role       Role         `json:"role"`
	InstanceID string       `json:"instanceId"`
	PID        int          `json:"pid"`       // of a process that lives in the host's namespace; 0 while it restarts
	Addresses  []netip.Addr `json:"addresses"` // IPv4
	IPv6       []netip.Addr `json:"ipv6,omitempty"`
	Title      string       `json:"-"`
}

// A ProcessRecord identifies a process beyond reuse of its number.
type ProcessRecord struct {
	Name  string `json:"name"`
	Host  string `json:"host"`
	PID   int    `json:"pid"`
	Start uint64 `json:"start"` // clock ticks since boot
	Log   string `json:"log"`
}

// ErrNoLab says that no lab runs on this machine.
var ErrNoLab = errors.New("no lab is running on this machine; start one with `sallyport up`")

// Current is the record of the lab that runs now, or ErrNoLab.
func Current() (*Record, error) {
	r, err := readRecord()
	if errors.Is(err, fs.ErrNotExist) {
		return nil, ErrNoLab
	}
	if err != nil {
		return nil, err
	}
	if r.PID != os.Getpid() && startOf(r.PID) != r.Start {
		return nil, ErrNoLab
	}
	return r, nil
}

// Host finds a host by its name, or an instance's by the name its owner gave
// it if no other has the same.
func (r *Record) Host(name string) (HostRecord, error) {
	var titled []HostRecord
	for _, h := range r.Hosts {
		if h.Name == name {
			return h, nil
		}
		if h.Title == name {
			titled = append(titled, h)
		}
	}
	switch len(titled) {
	case 1:
		return titled[0], nil
	case 0:
		names := make([]string, len(r.Hosts))
		for i, h := range r.Hosts {
			names[i] = h.Name
		}
		return HostRecord{}, fmt.Errorf("the lab has no host %q; it has %s", name, strings.Join(names, ", "))
	}
	return HostRecord{}, fmt.Errorf("%d instances are named %q; use an id such as %s", len(titled), name, titled[0].Name)
}

// storedHost adds to the record what the ready file does not show.
type storedHost struct {
	HostRecord
	Title string `json:"title"`
}

// storedRecord is the Record on disk.
type storedRecord struct {
	Record
	Hosts []storedHost `json:"hosts"`
}

func readRecord() (*Record, error) {
	data, err := os.ReadFile(labRecord)
	if err != nil {
		return nil, err
	}
	var stored storedRecord
	if err := json.Unmarshal(data, &stored); err != nil {
		return nil, fmt.Errorf("%s: %w", labRecord, err)
	}
	r := stored.Record
	for _, h := range stored.Hosts {
		h.HostRecord.Title = h.Title
		r.Hosts = append(r.Hosts, h.HostRecord)
	}
	return &r, nil
}

func writeRecord(r Record) error {
	stored := storedRecord{Record: r}
	for _, h := range r.Hosts {
		stored.Hosts = append(stored.Hosts, storedHost{h, h.Title})
	}
	data, err := json.MarshalIndent(stored, "", "  ")
	if err != nil {
		return err
	}
	return WriteFile(labRecord, append(data, '\n'))
}

// WriteFile writes a file that only root reads, by rename: a reader finds the
// old one or the new one, never a part.
func WriteFile(path string, data []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	err = errors.Join(err, f.Chmod(0o600), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		_ = os.Remove(f.Name())
	}
	return err
}

// startOf is when the process with this number began, in clock ticks since
// boot; 0 if there is none or it is only waiting to be reaped.
func startOf(pid int) uint64 {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	// The command's name may hold anything, so fields count from its end.
	fields := bytes.Fields(data[bytes.LastIndexByte(data, ')')+1:])
	if len(fields) < 20 || string(fields[0]) == "Z" {
		return 0
	}
	start, _ := strconv.ParseUint(string(fields[19]), 10, 64)
	return start
}

// killRecorded ends the process if it is still the one recorded and waits
// until it is gone.
func killRecorded(pid int, start uint64) {
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return
	}
	defer func() { _ = unix.Close(fd) }()
	// The descriptor holds the process; only now is its number worth comparing.
	if start == 0 || startOf(pid) != start {
		return
	}
	if unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0) != nil {
		return
	}
	waitGone(fd, 3*time.Second)
}

// waitGone waits until the process behind a pidfd has ended.
func waitGone(pidfd int, limit time.Duration) {
	deadline := time.Now().Add(limit)
	for {
		left := time.Until(deadline)
		if left <= 0 {
			return
		}
		fds := []unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}
		_, err := unix.Poll(fds, int(left.Milliseconds())+1)
		if !errors.Is(err, unix.EINTR) {
			return
		}
	}
}
