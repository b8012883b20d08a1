// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// serveVariable makes the test's own program a web server instead, for hosts.
const serveVariable = "SALLYPORT_TEST_SERVE"

// serveForTests answers every request with the client's address.
func serveForTests(address string) error {
	return http.ListenAndServe(address, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host, _, _ := net.SplitHostPort(r.RemoteAddr)
		fmt.Fprintln(w, host)
	}))
}

// A site is a network segment with machines on it: plain namespaces, each with
// its own interface, files and bpffs, and nothing of the lab's.
type site struct {
	t        *testing.T
	dir      string // programs
	segment  string // the pid whose namespace has the bridge
	machines map[string]*machine
}

// A machine runs commands as somebody at its console would.
type machine struct {
	*site
	name, address string
	pid           string
	port          string // its end on the bridge
}

// A running is a command that goes on.
type running struct {
	*machine
	line string
	cmd  *exec.Cmd
	mu   sync.Mutex
	said bytes.Buffer
	done chan struct{}
	err  error
}

const (
	siteLimit = 30 * time.Second
	netmask   = "/24"
)

func newSite(t *testing.T) *site {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: makes network namespaces")
	}
	s := &site{t: t, dir: t.TempDir(), machines: map[string]*machine{}}
	build := exec.Command("go", "build", "-trimpath", "-o", s.dir+"/", "../sallyport", ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	s.segment = s.namespaces("--net")
	s.run("nsenter", "-t", s.segment, "-n", "ip", "link", "add", "segment", "type", "bridge")
	s.run("nsenter", "-t", s.segment, "-n", "ip", "link", "set", "segment", "up")
	return s
}

func (s *site) run(name string, args ...string) string {
	s.t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		s.t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// namespaces starts a process that holds new namespaces until the test ends.
func (s *site) namespaces(kinds ...string) string {
	s.t.Helper()
	cmd := exec.Command("unshare", append(kinds, "sh", "-c", "echo ready; exec sleep 100000")...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	out, err := cmd.StdoutPipe()
	if err != nil {
		s.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	if _, err := out.Read(make([]byte, 6)); err != nil {
		s.t.Fatal(err)
	}
	return fmt.Sprint(cmd.Process.Pid)
}

// add puts a machine on the segment.
func (s *site) add(name, address string) *machine {
	s.t.Helper()
	m := &machine{site: s, name: name, address: address, port: name}
	m.pid = s.namespaces("--net", "--mount", "--uts", "--propagation", "private")
	s.run("nsenter", "-t", s.segment, "-n", "ip", "link", "add", m.port, "type", "veth", "peer", "name", "eth0", "netns", m.pid)
	s.run("nsenter", "-t", s.segment, "-n", "ip", "link", "set", m.port, "master", "segment", "up")
	for _, line := range []string{
		"mount -t tmpfs none /var/lib", "mount -t tmpfs none /run", "mount -t bpf none /sys/fs/bpf",
		"ip link set lo up", "ip addr add " + address + netmask + " dev eth0", "ip link set eth0 up",
		"ethtool -K eth0 tx off", // no wire delivers unfinished checksums
	} {
		m.sh(line)
	}
	s.machines[name] = m
	return m
}

func (m *machine) command(line string) *exec.Cmd {
	cmd := exec.Command("nsenter", "-t", m.pid, "-n", "-m", "-u", "--", "sh", "-c", line)
	cmd.Env = append(os.Environ(), "PATH="+m.dir+":"+os.Getenv("PATH")+":/usr/sbin:/sbin")
	return cmd
}

// try runs a line to its end, and gives both outputs and the exit code.
func (m *machine) try(line string) (out, errs string, code int) {
	m.t.Helper()
	var o, e bytes.Buffer
	cmd := m.command(line)
	cmd.Stdout, cmd.Stderr = &o, &e
	if err := cmd.Run(); err != nil && cmd.ProcessState == nil {
		m.t.Fatalf("on %s: %s: %v", m.name, line, err)
	}
	return o.String(), e.String(), cmd.ProcessState.ExitCode()
}

// sh is try for what has to succeed.
func (m *machine) sh(line string) string {
	m.t.Helper()
	out, errs, code := m.try(line)
	if code != 0 {
		m.t.Fatalf("on %s: %s\nended with %d: %s%s", m.name, line, code, out, errs)
	}
	return out
}

// begin starts a line that goes on until the test ends it.
func (m *machine) begin(line string) *running {
	m.t.Helper()
	r := &running{machine: m, line: line, cmd: m.command("exec " + line), done: make(chan struct{})}
	r.cmd.Stdout, r.cmd.Stderr = r, r
	if err := r.cmd.Start(); err != nil {
		m.t.Fatal(err)
	}
	go func() { r.err = r.cmd.Wait(); close(r.done) }()
	m.t.Cleanup(func() {
		r.end(syscall.SIGTERM)
		if m.t.Failed() {
			m.t.Logf("on %s: %s said\n%s", m.name, line, regexp.MustCompile(`(?m)^.* msg=api .*\n`).ReplaceAllString(r.text(), ""))
		}
	})
	return r
}

func (r *running) Write(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.said.Write(p)
}

func (r *running) text() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.said.String()
}

func (r *running) end(signal syscall.Signal) {
	r.cmd.Process.Signal(signal)
	select {
	case <-r.done:
	case <-time.After(20 * time.Second):
		r.cmd.Process.Kill()
		<-r.done
	}
}

// eventually waits for a condition, which says what is missing.
func (s *site) eventually(what string, ok func() string) {
	s.t.Helper()
	for deadline := time.Now().Add(siteLimit); ; time.Sleep(50 * time.Millisecond) {
		missing := ok()
		if missing == "" {
			return
		}
		if time.Now().After(deadline) {
			s.t.Fatalf("never: %s; %s", what, missing)
		}
	}
}

// call is an action of the API, asked on the server.
func (s *site) call(service, action string, in, out any) {
	s.t.Helper()
	params, err := json.Marshal(in)
	if err != nil {
		s.t.Fatal(err)
	}
	raw := s.machines["server"].sh(fmt.Sprintf("sallyport call --wait %s %s '%s'", service, action, params))
	if out != nil {
		if err := json.Unmarshal([]byte(raw), out); err != nil {
			s.t.Fatalf("%s: %v in %s", action, err, raw)
		}
	}
}

// fetch asks for a page from a machine; the answer is the client's address as
// the host saw it, "" for silence.
func (m *machine) fetch(url string) string {
	m.t.Helper()
	out, _, code := m.try("curl -s -m 2 " + url)
	if code != 0 {
		return ""
	}
	return strings.TrimSpace(out)
}

// answers waits until a page comes, and from whom.
func (m *machine) answers(url, want string) {
	m.t.Helper()
	m.eventually(url+" answers "+want, func() string {
		if got := m.fetch(url); got != want {
			return fmt.Sprintf("it answers %q", got)
		}
		return ""
	})
}

// A step is one line of the README's section, and where it is to be run.
type step struct{ where, line string }

// steps reads the commands of a section of the README.
func steps(t *testing.T, section string) []step {
	t.Helper()
	raw, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, text, found := strings.Cut(string(raw), "\n## "+section+"\n")
	if !found {
		t.Fatalf("the README has no section %q", section)
	}
	text, _, _ = strings.Cut(text, "\n## ")
	var all []step
	where := ""
	for line := range strings.Lines(text) {
		line, code := strings.CutPrefix(strings.TrimRight(line, "\n"), "    ")
		switch {
		case !code:
		case strings.HasPrefix(line, "# on the "):
			where = line
		default:
			all = append(all, step{where, line})
		}
	}
	return all
}

// only gives the section's one line that matches.
func only(t *testing.T, all []step, where, pattern string) string {
	t.Helper()
	var found []string
	for _, s := range all {
		if strings.Contains(s.where, where) && regexp.MustCompile(pattern).MatchString(s.line) {
			found = append(found, s.line)
		}
	}
	if len(found) != 1 {
		t.Fatalf("the README has %d lines %q %s: %q", len(found), pattern, where, found)
	}
	return found[0]
}

// waitFor reads from r until it has said text.
func (r *running) waitFor(text string) {
	r.t.Helper()
	r.eventually(r.name+" says "+text, func() string {
		if strings.Contains(r.text(), text) {
			return ""
		}
		return "so far: " + r.text()
	})
}
