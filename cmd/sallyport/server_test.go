// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sallyport/sallyport/internal/cloudapi"
)

// startServer runs `sallyport server` in this process and returns its record
// and a function that stops it and gives exit code and last words.
func startServer(t *testing.T, args ...string) (connection, func() (int, string)) {
	t.Helper()
	record := filepath.Join(t.TempDir(), "run", "server.json")
	if at := slices.Index(args, "--record"); at >= 0 {
		record = args[at+1]
	}
	args = append([]string{"server", "--node-listen", "127.0.0.1:0", "--record", record}, args...)
	ctx, cancel := context.WithCancel(t.Context())
	reader, writer := io.Pipe()
	ready := make(chan struct{})
	var said bytes.Buffer
	read := make(chan struct{})
	go func() {
		defer close(read)
		for lines := bufio.NewScanner(reader); lines.Scan(); {
			said.WriteString(lines.Text() + "\n")
			if strings.Contains(lines.Text(), "msg=serving") {
				close(ready)
			}
		}
	}()
	ended := make(chan int, 1)
	go func() { ended <- run(ctx, args, io.Discard, writer); writer.Close() }()
	stop := func() (int, string) {
		cancel()
		code := <-ended
		<-read
		return code, said.String()
	}
	t.Cleanup(cancel)
	select {
	case <-ready:
	case <-read:
		t.Fatalf("ended at once: %s", said.String())
	case <-time.After(30 * time.Second):
		t.Fatal("never ready")
	}
	raw, err := os.ReadFile(record)
	if err != nil {
		t.Fatal(err)
	}
	var c connection
	if err := json.Unmarshal(raw, &c); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(record); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the record is %v, %v", info.Mode(), err)
	}
	return c, stop
}

// call makes one signed request.
func (c connection) call(t *testing.T, action string, in any) error {
	t.Helper()
	client := &cloudapi.Client{Endpoint: c.Endpoint, SecretID: c.SecretID, SecretKey: c.SecretKey, Region: c.Region}
	var out map[string]any
	return client.Do(t.Context(), "vpc", "2017-03-12", action, in, &out)
}

// A server serves API, metrics and health, ends soon after its signal, and
// the next one on the same folder has the same key and state.
func TestServerLife(t *testing.T) {
	dir := t.TempDir()
	first, stop := startServer(t, "--data", dir, "--listen", "127.0.0.1:0")
	if err := first.call(t, "CreateSecurityGroup", map[string]string{"GroupName": "web", "GroupDescription": "d"}); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{"/healthz": "revision ", "/metrics": "sallyport_server_revision"} {
		answer, err := http.Get(first.Endpoint + path)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(answer.Body)
		answer.Body.Close()
		if err != nil || answer.StatusCode != http.StatusOK || !strings.Contains(string(body), want) {
			t.Errorf("%s: %d, %v", path, answer.StatusCode, err)
		}
	}
	stranger := first
	stranger.SecretKey = "wrong"
	if err := stranger.call(t, "DescribeSecurityGroups", nil); err == nil {
		t.Error("a wrong key was taken")
	}
	began := time.Now()
	if code, said := stop(); code != 0 || time.Since(began) > 3*time.Second {
		t.Errorf("exit %d after %v: %s", code, time.Since(began), said)
	}
	if info, err := os.Stat(filepath.Join(dir, "admin.json")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the admin key is %v, %v", info.Mode(), err)
	}

	// The next server inherits its listener, as under `up`.
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	f, err := l.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	fd, err := syscall.Dup(int(f.Fd())) // the server closes its own
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	second, stop := startServer(t, "--data", dir, "--listen", l.Addr().String(), "--listen-fd", strconv.Itoa(fd))
	if second.SecretID != first.SecretID || second.SecretKey != first.SecretKey || second.Endpoint != "http://"+l.Addr().String() {
		t.Errorf("record %+v, was %+v", second, first)
	}
	var out struct{ TotalCount int }
	client := &cloudapi.Client{Endpoint: second.Endpoint, SecretID: second.SecretID, SecretKey: second.SecretKey, Region: second.Region}
	if err := client.Do(t.Context(), "vpc", "2017-03-12", "DescribeSecurityGroups", nil, &out); err != nil || out.TotalCount < 1 {
		t.Errorf("%d groups after the restart, %v", out.TotalCount, err)
	}
	if code, said := stop(); code != 0 {
		t.Errorf("exit %d: %s", code, said)
	}
}

// What a server cannot begin with: one sentence each.
func TestServerRefuses(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	damaged := t.TempDir()
	if err := os.WriteFile(filepath.Join(damaged, "admin.json"), []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		args []string
		code int
		want string
	}{
		{"no folder", nil, exitUsage, "--data"},
		{"a file for a folder", []string{"--data", file}, exitError, "not a directory"},
		{"port taken", []string{"--data", t.TempDir(), "--listen", taken.Addr().String()}, exitError, "is taken by another program"},
		{"node port taken", []string{"--data", t.TempDir(), "--node-listen", taken.Addr().String()}, exitError, "--node-listen"},
		{"bad pool", []string{"--data", t.TempDir(), "--vip-pool", "192.0.2.1/26"}, exitUsage, "did you mean 192.0.2.0/26?"},
		{"IPv4 for VPCs' IPv6", []string{"--data", t.TempDir(), "--ipv6-pool", "192.0.2.0/26"}, exitUsage, "holds no /56"},
		{"not a pool", []string{"--data", t.TempDir(), "--eip-pool", "all"}, exitUsage, "not a CIDR block"},
		{"damaged key", []string{"--data", damaged}, exitError, "holds no key"},
		{"no listener", []string{"--data", t.TempDir(), "--listen-fd", "999"}, exitUsage, "--listen-fd 999"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var errs bytes.Buffer
			args := append([]string{"server", "--listen", "127.0.0.1:0", "--node-listen", "127.0.0.1:0", "--record", ""}, c.args...)
			if code := run(t.Context(), args, io.Discard, &errs); code != c.code || !strings.Contains(errs.String(), c.want) || strings.Count(errs.String(), "\n") != 1 {
				t.Errorf("exit %d, want %d; said %q, want %q", code, c.code, errs.String(), c.want)
			}
		})
	}
}
