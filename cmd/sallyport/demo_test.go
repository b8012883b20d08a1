// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sallyport/sallyport/internal/lab"
)

// A livingLab is a `sallyport up` that the test started.
type livingLab struct {
	program string
	ready   string
	cmd     *exec.Cmd
	ended   chan struct{}

	mu   sync.Mutex
	said bytes.Buffer
}

// Write keeps what `up` says.
func (l *livingLab) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.said.Write(p)
}

func (l *livingLab) text() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.said.String()
}

// buildPrograms builds both programs as `make build` does.
func buildPrograms(t *testing.T) string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("a lab needs root")
	}
	dir := t.TempDir()
	cmd := exec.Command("go", "build", "-o", dir+"/", "./cmd/sallyport", "./cmd/sallyport-node")
	cmd.Dir = "../.."
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	return filepath.Join(dir, "sallyport")
}

// startUp runs `up --demo` until its ready file is there, after waiting for
// the end of other tests' labs.
func startUp(t *testing.T, program, data string, flags ...string) *livingLab {
	t.Helper()
	for deadline := time.Now().Add(14 * time.Minute); ; {
		if err := onlyLab(t).Release(); err != nil {
			t.Fatal(err)
		}
		l := &livingLab{program: program, ready: filepath.Join(t.TempDir(), "ready.json"), ended: make(chan struct{})}
		l.cmd = exec.Command(program, append([]string{"up", "--demo", "--data", data, "--ready-file", l.ready}, flags...)...)
		l.cmd.Stdout, l.cmd.Stderr = l, l
		if err := l.cmd.Start(); err != nil {
			t.Fatal(err)
		}
		go func() {
			_ = l.cmd.Wait()
			close(l.ended)
		}()
		t.Cleanup(func() { l.end(t) })
		until(t, "up is ready or has ended", func() bool {
			_, err := os.Stat(l.ready)
			return err == nil || l.gone()
		})
		if !l.gone() {
			return l
		}
		if !strings.Contains(l.text(), "already running") || time.Now().After(deadline) {
			t.Fatalf("up ended: %s", l.text())
		}
	}
}

func (l *livingLab) gone() bool {
	select {
	case <-l.ended:
		return true
	default:
		return false
	}
}

// end is Ctrl-C.
func (l *livingLab) end(t *testing.T) {
	t.Helper()
	if l.gone() {
		return
	}
	began := time.Now()
	if err := l.cmd.Process.Signal(os.Interrupt); err != nil {
		t.Error(err)
	}
	select {
	case <-l.ended:
		t.Logf("ended after %v", time.Since(began).Round(time.Millisecond))
	case <-time.After(10 * time.Second):
		t.Errorf("up has not ended within 10 s of Ctrl-C: %s", l.text())
		_ = l.cmd.Process.Kill()
		<-l.ended
	}
}

// shell runs a line as if it were pasted.
func (l *livingLab) shell(t *testing.T, line string) (code int, out string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "sh", "-c", line)
	text, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), string(text)
}

// run runs the program with arguments and wants exit code 0.
func (l *livingLab) run(t *testing.T, args ...string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), l.program, args...).Output()
	if err != nil {
		t.Errorf("%s: %v", strings.Join(args, " "), err)
	}
	return string(out)
}

func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(90 * time.Second); !ok(); {
		if time.Now().After(deadline) {
			t.Fatalf("not within 90 s: %s", what)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func (l *livingLab) readyFile(t *testing.T) ready {
	t.Helper()
	data, err := os.ReadFile(l.ready)
	if err != nil {
		t.Fatal(err)
	}
	var r ready
	if err := json.Unmarshal(data, &r); err != nil {
		t.Fatal(err)
	}
	return r
}

// TestDemo is the README's first command, from beginning to end.
func TestDemo(t *testing.T) {
	program := buildPrograms(t)
	data := filepath.Join(t.TempDir(), "data")
	began := time.Now()
	l := startUp(t, program, data)
	t.Logf("ready after %v\n%s", time.Since(began).Round(time.Millisecond), l.text())
	first := l.readyFile(t)

	t.Run("lab ls", func(t *testing.T) {
		var live ready
		if err := json.Unmarshal([]byte(l.run(t, "lab", "ls", "--json")), &live); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(plain(first), plain(live)); diff != "" {
			t.Errorf("ready file and lab ls differ:\n%s", diff)
		}
		if len(first.Hosts) != 7 || len(first.LoadBalancers) != 1 || first.LoadBalancers[0].Name != "demo" {
			t.Errorf("not the example: %+v", first)
		}
	})
	t.Run("five commands", func(t *testing.T) { fiveCommands(t, l) })
	t.Run("exec", func(t *testing.T) {
		if code, out := l.shell(t, program+" lab exec client-2 -- sh -c 'ls /sys/class/net; exit 7'"); code != 7 || !strings.Contains(out, "lo") {
			t.Errorf("exit code %d, said %q", code, out)
		}
	})
	t.Run("logs", func(t *testing.T) {
		if log := l.run(t, "lab", "logs", "web-1") + l.run(t, "lab", "logs", "web-2"); !strings.Contains(log, "request peer=203.0.113.10:") {
			t.Errorf("no request of client-1 in the access logs:\n%s", log)
		}
	})
	t.Run("instances come and go", func(t *testing.T) { comeAndGo(t, l) })
	t.Run("deaths", func(t *testing.T) { deaths(t, l, first.LoadBalancers[0].VIPs[0]) })
	if t.Failed() {
		for _, name := range []string{"server", "gateway-1"} {
			log, _ := os.ReadFile(filepath.Join(data, "logs", name+".log"))
			t.Logf("%s:\n%s", name, tail(string(log), 20))
		}
	}

	l.end(t)
	if left := traces(t, data+"-none"); len(left) > 0 {
		t.Errorf("left after the end: %v", left)
	}
	again := startUp(t, program, data, "--tls")
	second := again.readyFile(t)
	overTLS(t, again, second.API)
	if second.API = first.API; plain(first) != plain(second) {
		t.Errorf("the same data brought back another lab:\n%s", cmp.Diff(plain(first), plain(second)))
	}
}

// overTLS checks that what `up --tls` says is so, and that the commands find
// and trust its server by themselves.
func overTLS(t *testing.T, l *livingLab, api string) {
	t.Helper()
	if !strings.HasPrefix(api, "https://127.0.0.1:") || !strings.Contains(l.text(), "CA           "+lab.ServerCA) {
		t.Errorf("the API is %s; up said\n%s", api, l.text())
	}
	ca := l.run(t, "ca")
	if _, err := shown(t, api, []byte(ca)); err != nil {
		t.Errorf("by the certificate that `ca` prints: %v", err)
	}
	if out := l.run(t, "status", "--json"); !strings.Contains(out, "gateway-1") {
		t.Errorf("status says %s", out)
	}
	if out := l.run(t, "lab", "ls", "--json"); !strings.Contains(out, api) {
		t.Errorf("lab ls says %s", out)
	}
}

// plain is a ready file without what differs from run to run.
func plain(r ready) string {
	var b strings.Builder
	for _, h := range r.Hosts {
		b.WriteString(h.Name + " " + string(h.Role) + " " + h.InstanceID + " " + joined(h.Addresses) + "\n")
	}
	for _, v := range r.LoadBalancers {
		b.WriteString(v.ID + " " + v.Name + " " + strings.Join(v.VIPs, " ") + "\n")
	}
	return b.String() + r.API + r.Region + r.SecretID + r.SecretKey
}

func tail(text string, lines int) string {
	all := strings.Split(strings.TrimSpace(text), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}

// fiveCommands takes the commands from the output and checks that each does
// what its line says, at the gate it names.
func fiveCommands(t *testing.T, l *livingLab) {
	found := regexp.MustCompile(`(?m)^# \d\. (.*)\n(.*)$`).FindAllStringSubmatch(l.text(), -1)
	if len(found) != 5 {
		t.Fatalf("%d commands in:\n%s", len(found), l.text())
	}
	rows := []struct {
		line   string
		code   int
		prints string
		gate   string // that refused, by the verdicts
		client string
	}{
		{"Served", 0, `"peer":"203.0.113.10"`, "", ""},
		{"Refused by gate 1", 3, "refused: silence", "clb", "198.51.100.20"},
		{"Refused by gate 2", 3, "refused: silence", "cvm", "203.0.113.10"},
		{"Gate 1 turns", 0, `"peer":"198.51.100.20"`, "", ""},
		{"Gate 2 turns", 0, `"port":8081`, "", ""},
	}
	for i, r := range rows {
		if !strings.HasPrefix(found[i][1], r.line) {
			t.Errorf("line %d is %q, want one that begins with %q", i+1, found[i][1], r.line)
		}
		code, out := l.shell(t, found[i][2])
		if code != r.code || !strings.Contains(out, r.prints) {
			t.Errorf("%s: exit %d, want %d and %q:\n%s\n%s", r.line, code, r.code, r.prints, found[i][2], out)
		}
		if r.gate != "" {
			until(t, "a verdict of gate "+r.gate+" about "+r.client, func() bool {
				for line := range strings.Lines(l.run(t, "verdicts", "--json")) {
					var v struct{ Gate, Action, Source string }
					if json.Unmarshal([]byte(line), &v) == nil && v.Gate == r.gate && strings.EqualFold(v.Action, "drop") && strings.HasPrefix(v.Source, r.client+":") {
						return true
					}
				}
				return false
			})
		}
	}
}

// comeAndGo makes an instance by the API, uses its host, and ends it.
func comeAndGo(t *testing.T, l *livingLab) {
	var run struct{ InstanceIdSet []string }
	out := l.run(t, "call", "cvm", "RunInstances", `{"InstanceName":"third","InternetAccessible":{"PublicIpAssigned":true},"Placement":{"Zone":"local-1"}}`)
	if err := json.Unmarshal([]byte(out), &run); err != nil || len(run.InstanceIdSet) != 1 {
		t.Fatalf("%v: %s", err, out)
	}
	id := run.InstanceIdSet[0]
	until(t, "the new instance runs", func() bool {
		return strings.Contains(l.run(t, "call", "cvm", "DescribeInstances", `{"InstanceIds":["`+id+`"]}`), `"RUNNING"`)
	})
	if code, out := l.shell(t, l.program+" lab exec third -- cat /proc/net/dev"); code != 0 || !strings.Contains(out, "eth0") {
		t.Errorf("exec on the new instance: exit %d, %s", code, out)
	}
	l.run(t, "call", "cvm", "TerminateInstances", `{"InstanceIds":["`+id+`"]}`)
	until(t, "its host is gone", func() bool {
		_, err := os.Stat(lab.Namespace(id))
		return errors.Is(err, os.ErrNotExist)
	})
	until(t, "all that is left is up to date", func() bool {
		var s statusAnswer
		err := json.Unmarshal([]byte(l.run(t, "status", "--json")), &s)
		return err == nil && len(s.Nodes) == 3
	})
	if code, _ := l.shell(t, l.program+" lab exec "+id+" -- true"); code != 1 {
		t.Errorf("exec on a host that is gone: exit %d", code)
	}
}

// deaths kills one process of each kind; each comes back and service goes on.
func deaths(t *testing.T, l *livingLab, vip string) {
	r, err := lab.Current()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range r.Processes {
		if p.Name != "server" && p.Name != "gateway-1.agent" && !strings.HasPrefix(p.Name, "ins-") {
			continue
		}
		if err := syscall.Kill(p.PID, syscall.SIGKILL); err != nil {
			t.Errorf("%s: %v", p.Name, err)
			continue
		}
		until(t, p.Name+" is running again", func() bool {
			now, err := lab.Current()
			if err != nil {
				return false
			}
			for _, q := range now.Processes {
				if q.Name == p.Name {
					return q.PID != 0 && q.PID != p.PID
				}
			}
			return false
		})
	}
	until(t, "all nodes are connected and all targets Alive again", func() bool {
		var s statusAnswer
		out, err := exec.Command(l.program, "status", "--json").Output()
		if err != nil || json.Unmarshal(out, &s) != nil || len(s.Nodes) != 3 {
			return false
		}
		for _, n := range s.Nodes {
			if !n.Connected || n.Revision < s.Revision {
				return false
			}
		}
		return s.unhealthy(s.Targets[0].LoadBalancerId) == ""
	})
	if code, out := l.shell(t, l.program+" lab get --from client-3 http://"+vip+"/"); code != 0 {
		t.Errorf("after the deaths: exit %d\n%s", code, out)
	}
}
