// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// clearAway removes whatever r's lab made and still is there: processes, what
// runs inside its namespaces, namespaces, mounts and records. It needs the lock.
func clearAway(r *Record) error {
	for _, p := range r.Processes {
		killRecorded(p.PID, p.Start)
	}
	paths, err := ownNamespaces()
	if err != nil {
		return err
	}
	killInside(paths)
	var errs []error
	for _, path := range paths {
		errs = append(errs, dropNamespace(path))
	}
	if r.NetnsDir {
		_ = os.Remove(netnsDir)
	}
	errs = append(errs, unmountPins())
	for _, path := range []string{ServerRecord, ServerCA, labRecord} {
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	if r.Temporary {
		errs = append(errs, os.RemoveAll(r.DataDir))
	}
	return errors.Join(errs...)
}

// clearLeftovers does so for a lab that was killed.
func clearLeftovers() error {
	r, err := readRecord()
	if errors.Is(err, fs.ErrNotExist) {
		r, err = &Record{}, nil
	}
	if err != nil { // unreadable: the namespaces and mounts are known by name
		r = &Record{}
	}
	return clearAway(r)
}

// killInside ends every process whose namespace is one of paths: the hosts
// are being switched off, and a shell left in one would keep it alive unseen.
func killInside(paths []string) {
	links := map[string]bool{}
	for _, path := range paths {
		if ino := inode(path); ino != 0 && ino != inode("/proc/self/ns/net") {
			links[fmt.Sprintf("net:[%d]", ino)] = true
		}
	}
	entries, err := os.ReadDir("/proc")
	if err != nil || len(links) == 0 {
		return
	}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || pid == os.Getpid() {
			continue
		}
		start := startOf(pid)
		if ns, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/net", pid)); err == nil && links[ns] {
			killRecorded(pid, start)
		}
	}
}

// mountPins gives the nodes a bpf file system of the lab's own, so that
// nothing of theirs outlives it.
func mountPins() error {
	if err := os.MkdirAll(bpfDir, 0o700); err != nil {
		return err
	}
	if err := unix.Mount("sallyport", bpfDir, "bpf", 0, "mode=0700"); err != nil {
		return fmt.Errorf("mount a bpf file system at %s: %w", bpfDir, err)
	}
	return nil
}

func unmountPins() error {
	for unix.Unmount(bpfDir, unix.MNT_DETACH) == nil {
		// Once for each lab that was killed after mounting.
	}
	if err := os.Remove(bpfDir); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
