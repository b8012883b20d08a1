// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/sallyport/sallyport/internal/flow"
	"github.com/sallyport/sallyport/internal/health"
	"github.com/sallyport/sallyport/internal/lb"
	"github.com/sallyport/sallyport/internal/snapshot"
)

// TestMain also makes the program the web server that stories put on hosts.
func TestMain(m *testing.M) {
	if address := os.Getenv(serveVariable); address != "" {
		fmt.Fprintln(os.Stderr, serveForTests(address))
		os.Exit(1)
	}
	goleak.VerifyTestMain(m)
}

// Mistakes in the command line end with 2 and one sentence that names them.
func TestUsage(t *testing.T) {
	run1 := []string{"run", "--name", "gateway-1", "--role", "gateway", "--server", "192.0.2.253:7781", "--data", t.TempDir(), "--device", "eth0", "--address", "192.0.2.129"}
	with := func(flag, value string) []string {
		args := slices.Clone(run1)
		if at := slices.Index(args, flag); at >= 0 {
			args[at+1] = value
			return args
		}
		return append(args, flag, value)
	}
	for _, c := range []struct {
		name string
		args []string
		code int
		want string
	}{
		{"version", []string{"version"}, 0, ""},
		{"help", []string{"--help"}, 0, ""},
		{"unknown command", []string{"walk"}, 2, `unknown command "walk"`},
		{"unknown flag", []string{"run", "--fast"}, 2, "unknown flag: --fast"},
		{"argument", []string{"version", "now"}, 2, "usage: sallyport-node version"},
		{"not joined", []string{"run", "--data", t.TempDir()}, 1, "this machine has not joined"},
		{"half said", []string{"run", "--name", "gateway-1"}, 2, "run needs --role"},
		{"join without token", []string{"join"}, 2, "needs the token"},
		{"join with no token", []string{"join", "hello"}, 2, "not a join token"},
		{"join nowhere", []string{"join", "sp1." + strings.Repeat("ab", 16) + "." + strings.Repeat("ab", 32)}, 2, "give --server"},
		{"leave without having joined", []string{"leave", "--data", t.TempDir()}, 1, "this machine has not joined"},
		{"odd size", with("--flows", "3000"), 2, "not a power of two"},
		{"too many flows", with("--flows", "33554432"), 2, "not a power of two from 1024 to 16777216"},
		{"bad role", with("--role", "router"), 2, "neither gateway nor host"},
		{"bad address", with("--address", "fe80::1%eth0"), 2, "is not an address"},
		{"server without port", with("--server", "192.0.2.253"), 2, "--server"},
		{"server by name", with("--server", "server.example:7781"), 2, "is not an address with a port"},
		{"detach without place", []string{"detach"}, 2, "detach needs --pin"},
		{"detach nothing", []string{"detach", "--pin", t.TempDir() + "/none"}, 0, ""},
		{"no such device", with("--device", "none0"), 1, "sallyport-node: "},
	} {
		t.Run(c.name, func(t *testing.T) {
			var errs bytes.Buffer
			args := c.args
			if args[0] == "run" && len(args) > 2 {
				args = append(slices.Clone(args), "--pin", t.TempDir()+"/none") // not in a bpffs
			}
			if code := run(t.Context(), args, io.Discard, &errs); code != c.code || !strings.Contains(errs.String(), c.want) {
				t.Errorf("exit %d, want %d; said %q, want %q", code, c.code, errs.String(), c.want)
			}
			if c.want != "" && strings.Count(errs.String(), "\n") != 1 {
				t.Errorf("not one line: %q", errs.String())
			}
		})
	}
}

// A taken metrics address is an error, not a silent loss of metrics.
func TestServeMetrics(t *testing.T) {
	stop, err := serveMetrics("", nil)
	if err != nil {
		t.Fatal(err)
	}
	stop()
	stop, err = serveMetrics("127.0.0.1:0", http.NotFoundHandler())
	if err != nil {
		t.Fatal(err)
	}
	stop()
	if _, err := serveMetrics("127.0.0.1:99999", nil); err == nil {
		t.Error("a port beyond all ports was taken")
	}
}

// a gate remembers what it was told about targets.
type gate map[uint32]bool

func (g gate) SetShare(uint32, uint32) error { return nil }

func (g gate) SetHealth(target uint32, alive bool) error { g[target] = alive; return nil }

// The kernel is told what takes new traffic, whatever its state is called.
func TestTeller(t *testing.T) {
	for _, c := range []struct {
		name  string
		state health.State
		takes bool
	}{
		{"unknown and new", health.Unknown, false},
		{"unknown, but it took traffic before", health.Unknown, true},
		{"alive", health.Alive, true},
		{"dead", health.Dead, false},
		{"check off", health.Close, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			g, out := gate{}, make(chan flow.Health, 1)
			tell := newTeller(t.Context(), g, out, slog.New(slog.DiscardHandler))
			id := snapshot.TargetID{Listener: "lbl-aaaaaaaa", Port: 8080}
			if err := tell.Stage(t.Context(), &snapshot.Snapshot{Targets: []snapshot.Target{{Num: 9, ID: id}}}); err != nil {
				t.Fatal(err)
			}
			if err := tell.Commit(t.Context(), 1); err != nil {
				t.Fatal(err)
			}
			tell.report(health.Result{Target: 9, State: c.state, Kind: "x", Text: "y", Since: time.Unix(1, 0), Takes: c.takes})
			if alive, told := g[9]; !told || alive != c.takes {
				t.Errorf("the kernel was told: %v, alive: %v", told, alive)
			}
			h := <-out
			if h.Target != 9 || h.ID != id || h.State != flow.HealthState(c.state) || h.Kind != "x" || h.Text != "y" || !h.Since.Equal(time.Unix(1, 0)) {
				t.Errorf("reported %+v", h)
			}
		})
	}
	for a, b := range map[health.State]flow.HealthState{health.Unknown: flow.HealthUnknown, health.Alive: flow.HealthAlive,
		health.Dead: flow.HealthDead, health.Close: flow.HealthClose} {
		if flow.HealthState(a) != b {
			t.Errorf("state %d of the prober is not %d of the wire", a, b)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	newTeller(ctx, gate{}, nil, slog.New(slog.DiscardHandler)).report(health.Result{}) // nobody listens: must not block
}

// An applier counts what it was told.
type applier struct {
	refuse            error
	staged, committed lb.Revision
}

func (a *applier) Stage(_ context.Context, s *snapshot.Snapshot) error {
	a.staged = s.Revision
	return a.refuse
}

func (a *applier) Commit(_ context.Context, r lb.Revision) error { a.committed = r; return nil }

// Layer 7 serves what was kept, or waits when that cannot be; then it is told
// why.
func TestResume(t *testing.T) {
	for _, c := range []struct {
		refuse error
		want   lb.Revision
		said   string
	}{
		{nil, 7, "layer 7 serves what was kept"},
		{errors.New("the port is taken"), 0, "the port is taken"},
	} {
		var logs bytes.Buffer
		a := &applier{refuse: c.refuse}
		resume(t.Context(), a, &snapshot.Snapshot{Revision: 7}, slog.New(slog.NewTextHandler(&logs, nil)))
		if a.staged != 7 || a.committed != c.want || !strings.Contains(logs.String(), c.said) {
			t.Errorf("staged %d, committed %d, said %s", a.staged, a.committed, logs.String())
		}
	}
}
