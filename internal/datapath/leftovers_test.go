// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// A process that is killed, or that fuzzes for another one, ends without its
// tests' clean-up. What it leaves mounted and named bears its number, and the
// next process that needs a world takes it away.

// ofProcess marks a mount and a namespace as pid's.
func ofProcess(name string, pid int) string { return fmt.Sprintf("%s-%d", name, pid) }

// pidOf reads the mark; 0: there is none.
func pidOf(marked string) int {
	at := strings.LastIndexByte(marked, '-')
	if !strings.HasPrefix(marked, "dp-") || at < 0 {
		return 0
	}
	pid, _ := strconv.Atoi(marked[at+1:])
	return pid
}

func gone(pid int) bool { return pid > 0 && errors.Is(unix.Kill(pid, 0), unix.ESRCH) }

// mountPins mounts a bpf file system on dir.
func mountPins(dir string, pid int) error {
	return unix.Mount(ofProcess("dp-pins", pid), dir, "bpf", 0, "")
}

// sweepOnce takes away what processes that are gone have left.
var sweepOnce = sync.OnceFunc(sweep)

func sweep() {
	mounts, _ := os.ReadFile("/proc/self/mounts")
	for line := range strings.Lines(string(mounts)) {
		if f := strings.Fields(line); len(f) > 2 && f[2] == "bpf" && gone(pidOf(f[0])) {
			unix.Unmount(f[1], unix.MNT_DETACH)
			os.Remove(f[1])
			os.Remove(filepath.Dir(f[1]))
		}
	}
	names, _ := filepath.Glob("/run/netns/dp-*")
	for _, name := range names {
		if gone(pidOf(filepath.Base(name))) {
			exec.Command("ip", "netns", "del", filepath.Base(name)).Run()
		}
	}
}

// What a process that is gone has left is taken away, and nothing of one that
// goes on.
func TestSweep(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root: mounts")
	}
	ended := exec.Command("true")
	if err := ended.Run(); err != nil {
		t.Fatal(err)
	}
	left := map[int]string{os.Getpid(): t.TempDir(), ended.Process.Pid: t.TempDir()}
	for pid, dir := range left {
		if err := mountPins(dir, pid); err != nil {
			t.Fatal(err)
		}
		defer unix.Unmount(dir, unix.MNT_DETACH)
		ns := ofProcess("dp-swept", pid)
		if out, err := exec.Command("ip", "netns", "add", ns).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		defer exec.Command("ip", "netns", "del", ns).Run()
	}
	sweep()
	for pid, dir := range left {
		var fs unix.Statfs_t
		mounted := unix.Statfs(dir, &fs) == nil && fs.Type == unix.BPF_FS_MAGIC
		_, err := os.Stat("/run/netns/" + ofProcess("dp-swept", pid))
		if own := pid == os.Getpid(); mounted != own || (err == nil) != own {
			t.Errorf("of process %d, which goes on: %v, the mount is there: %v, the namespace: %v", pid, own, mounted, err == nil)
		}
	}
}
