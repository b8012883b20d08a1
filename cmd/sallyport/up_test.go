// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sallyport/sallyport/internal/lab"
)

// programCopy puts this test, as the program, beside an empty sallyport-node,
// where people of any id can run it.
func programCopy(t *testing.T) string {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "program-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	from, err := os.Open(exe)
	if err != nil {
		t.Fatal(err)
	}
	defer from.Close()
	path := filepath.Join(dir, "sallyport")
	to, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY, 0o755)
	if err != nil {
		t.Fatal(err)
	}
	_, err = io.Copy(to, from)
	if err := errors.Join(err, to.Close(), os.WriteFile(path+"-node", nil, 0o755)); err != nil {
		t.Fatal(err)
	}
	return path
}

// runProgram runs the copy and returns its exit code and what it said.
func runProgram(t *testing.T, path string, uid uint32, args ...string) (int, string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), path, args...)
	cmd.Env = append(os.Environ(), asProgram+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), string(out)
}

// onlyLab takes the machine's one lab for the test, waiting for others.
func onlyLab(t *testing.T) *lab.Lock {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("a lab needs root")
	}
	for deadline := time.Now().Add(10 * time.Minute); ; {
		lock, err := lab.Acquire("http://127.0.0.1:7799")
		var busy *lab.BusyError
		switch {
		case err == nil:
			return lock
		case !errors.As(err, &busy) || time.Now().After(deadline):
			t.Fatal(err)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// traces are what a refused `up` must not leave.
func traces(t *testing.T, data string) []string {
	t.Helper()
	var found []string
	for _, pattern := range []string{"/run/netns/sp-*", lab.RunDir + "/*.json", lab.ServerCA, lab.RunDir + "/bpf", data} {
		m, _ := filepath.Glob(pattern)
		found = append(found, m...)
	}
	return found
}

func TestUpRefusesInOneSentenceAndLeavesNothing(t *testing.T) {
	lock := onlyLab(t)
	defer func() { _ = lock.Release() }()
	program := programCopy(t)
	data := filepath.Join(t.TempDir(), "data")
	before := traces(t, data)
	refused := func(name, want string, uid uint32, path string, args ...string) {
		t.Helper()
		code, said := runProgram(t, path, uid, args...)
		if code != 1 || !strings.Contains(said, want) || strings.Count(said, "\n") != 1 || !strings.HasPrefix(said, "sallyport: ") {
			t.Errorf("%s: exit %d, said %q, want exit 1 and one line with %q", name, code, said, want)
		}
		if left := traces(t, data); len(left) != len(before) {
			t.Errorf("%s: left %v", name, left)
		}
	}
	// On a machine without a lab: a /run of its own, of which what is left is told too.
	alone := func(name, want string, args ...string) {
		t.Helper()
		const script = `mount -t tmpfs none /run && "$0" "$@"; code=$?; ls -d /run/netns/sp-* ` + lab.RunDir + `/*.json ` + lab.RunDir + `/bpf 2>/dev/null; exit $code`
		refused(name, want, 0, "unshare", append([]string{"--mount", "sh", "-c", script, program, "up", "--data", data}, args...)...)
	}

	refused("not root", "needs root", 65534, program, "up", "--data", data)
	pid, _, _ := strings.Cut(strings.TrimPrefix((&lab.BusyError{PID: os.Getpid()}).Error(), "a lab is already running on this machine: "), ",")
	refused("second lab", pid+", API http://127.0.0.1:7799", 0, program, "up", "--data", data)

	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	alone("port taken", taken.Addr().String()+" is taken by another program", "--listen", taken.Addr().String())
	alone("plain HTTP for everybody", "insist with --insecure-http", "--listen", "0.0.0.0:0")
	if err := os.Remove(program + "-node"); err != nil {
		t.Fatal(err)
	}
	alone("no node program", "sallyport-node is missing; `make build`")
}

func TestLogHintQuotesTheLastWords(t *testing.T) {
	dir := t.TempDir()
	logs := filepath.Join(dir, "logs")
	if err := os.Mkdir(logs, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"server.log": "starting\ncannot open the store\n", "gateway-1.log": "", "ins-a.log": "an access log", "ins-a.agent.log": "no such device\n",
	} {
		if err := os.WriteFile(filepath.Join(logs, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	u := &upper{o: upOptions{data: dir}}
	want := "\n  ins-a.agent.log: no such device\n  server.log: cannot open the store"
	if got := u.logHint(); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestCopyLogFollowsUntilTheEnd(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.log")
	if err := os.WriteFile(path, []byte("one\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := copyLog(t.Context(), &out, path, false); err != nil || out.String() != "one\n" {
		t.Errorf("%q, %v", out.String(), err)
	}
	r, w := io.Pipe()
	done := make(chan error, 1)
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		done <- copyLog(ctx, w, path, true)
		w.Close()
	}()
	buf := make([]byte, 4)
	if _, err := io.ReadFull(r, buf); err != nil || string(buf) != "one\n" {
		t.Fatalf("%q, %v", buf, err)
	}
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString("two\n"); err != nil {
		t.Fatal(err)
	}
	f.Close()
	if _, err := io.ReadFull(r, buf); err != nil || string(buf) != "two\n" {
		t.Fatalf("%q, %v", buf, err)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
