// SPDX-License-Identifier: Apache-2.0

// Package e2e tells stories of the whole product: a lab of the programs built
// from the tree, the document's example on it, clients that keep asking, and
// processes that die meanwhile. It is for tests only.
package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sallyport/sallyport/internal/cloudapi"
	"github.com/sallyport/sallyport/internal/lab"
)

const (
	patience = 14 * time.Minute // for another lab on the machine to end
	readyIn  = 30 * time.Second
	endsIn   = 20 * time.Second
	poll     = 5 * time.Millisecond
)

// A Lab is a running `sallyport up`. End it with Close.
type Lab struct {
	Client cloudapi.Client // of its API, with the admin key
	Dir    string          // holds the programs, and the lab's data in Data

	cmd   *exec.Cmd
	ended chan struct{}

	mu   sync.Mutex
	said bytes.Buffer
}

// Build builds both programs of the tree at top into dir. flags go to `go build`.
func Build(ctx context.Context, top, dir string, flags ...string) error {
	args := append([]string{"build", "-trimpath"}, flags...)
	cmd := exec.CommandContext(ctx, "go", append(args, "-o", dir+"/", "./cmd/sallyport", "./cmd/sallyport-node")...)
	cmd.Dir = top
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build: %w\n%s", err, out)
	}
	return nil
}

// Start runs the programs in dir as a lab without the demo and waits until it
// is ready, after waiting for the end of any other lab on the machine.
func Start(ctx context.Context, dir string) (*Lab, error) {
	for deadline := time.Now().Add(patience); ; {
		l, err := start(ctx, dir)
		if err == nil || !strings.Contains(err.Error(), "already running") && !strings.Contains(err.Error(), "just starting") || time.Now().After(deadline) {
			return l, err
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func start(ctx context.Context, dir string) (*Lab, error) {
	ready := filepath.Join(dir, "ready.json")
	l := &Lab{Dir: dir, ended: make(chan struct{})}
	l.cmd = exec.Command(filepath.Join(dir, "sallyport"), "up", "--data", l.Data(), "--ready-file", ready)
	l.cmd.Stdout, l.cmd.Stderr = l, l
	// Whatever becomes of the test, the lab ends with it. The signal comes when
	// the thread that started it ends, so that one is kept.
	l.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	started := make(chan error)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := l.cmd.Start()
		started <- err
		if err == nil {
			_ = l.cmd.Wait()
			close(l.ended)
		}
	}()
	if err := <-started; err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, readyIn)
	defer cancel()
	err := Until(ctx, "up is ready", func() (bool, error) {
		select {
		case <-l.ended:
			return false, fmt.Errorf("up ended: %s", l.Said())
		default:
		}
		_, err := os.Stat(ready)
		return err == nil, nil
	})
	if err != nil {
		return nil, errors.Join(err, l.Close())
	}
	data, err := os.ReadFile(ready)
	if err != nil {
		return nil, errors.Join(err, l.Close())
	}
	var r struct{ API, Region, SecretID, SecretKey string }
	if err := json.Unmarshal(data, &r); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	l.Client = cloudapi.Client{Endpoint: r.API, SecretID: r.SecretID, SecretKey: r.SecretKey, Region: r.Region}
	return l, nil
}

// Write keeps what `up` says.
func (l *Lab) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.said.Write(p)
}

// Said is what `up` has said so far.
func (l *Lab) Said() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.said.String()
}

// Data is the lab's data directory.
func (l *Lab) Data() string { return filepath.Join(l.Dir, "data") }

// Log is what a host has written, the access log of an instance's; "" if none.
func (l *Lab) Log(name string) string {
	data, _ := os.ReadFile(filepath.Join(l.Data(), "logs", name+".log"))
	return string(data)
}

// Close ends the lab as Ctrl-C does and waits for its end.
func (l *Lab) Close() error {
	select {
	case <-l.ended:
		return nil
	default:
	}
	if err := l.cmd.Process.Signal(os.Interrupt); err != nil {
		return err
	}
	select {
	case <-l.ended:
		return nil
	case <-time.After(endsIn):
		_ = l.cmd.Process.Kill()
		return fmt.Errorf("up does not end; it said: %s", l.Said())
	}
}

// PID is the number of a process of the lab: "server", or a host's name and
// ".agent"; 0 while it is down.
func (l *Lab) PID(process string) (int, error) {
	r, err := lab.Current()
	if err != nil {
		return 0, err
	}
	for _, p := range r.Processes {
		if p.Name == process {
			return p.PID, nil
		}
	}
	return 0, fmt.Errorf("the lab has no process %s", process)
}

// Signal sends a signal to a process of the lab as soon as it runs.
func (l *Lab) Signal(ctx context.Context, process string, s unix.Signal) error {
	return Until(ctx, process+" runs", func() (bool, error) {
		pid, err := l.PID(process)
		if err != nil || pid == 0 {
			return false, err
		}
		err = unix.Kill(pid, s)
		if errors.Is(err, unix.ESRCH) {
			return false, nil // just died; the record follows
		}
		return err == nil, err
	})
}

// Do runs one action of any service and, where the answer only begins the
// work, waits for its end.
func (l *Lab) Do(ctx context.Context, service, action string, in, out any) error {
	return Wait(ctx, l.call, service, action, in, out)
}

func (l *Lab) call(ctx context.Context, service, action string, in, out any) error {
	return l.Client.Do(ctx, service, Versions()[service], action, in, out)
}

// Versions are the API versions of the services, by name.
func Versions() map[string]string {
	return map[string]string{"clb": "2018-03-17", "vpc": "2017-03-12", "cvm": "2017-03-12", "ssl": "2019-12-05", "sallyport": "2026-11-23"}
}

// Status is what DescribeStatus says of nodes and targets.
type Status struct {
	Revision uint64
	Nodes    []struct {
		Name, Role, Error string
		Connected         bool
		Revision          uint64
		LagMs             float64
		Alarms            []string
	}
	Targets []struct {
		InstanceId, Health string
		Port               int
	}
}

// Settle waits until what is desired now is in force on every node.
func (l *Lab) Settle(ctx context.Context) error {
	want, last := uint64(0), "no status yet"
	err := Until(ctx, "every node has the newest revision in force", func() (bool, error) {
		var s Status
		if err := l.call(ctx, "sallyport", "DescribeStatus", nil, &s); err != nil {
			last = err.Error()
			return false, nil // the server may just be down
		}
		want = max(want, s.Revision)
		for _, n := range s.Nodes {
			if !n.Connected || n.Revision < want {
				last = fmt.Sprintf("%s is at %d of %d, connected %v, %s", n.Name, n.Revision, want, n.Connected, n.Error)
				return false, nil
			}
		}
		return len(s.Nodes) > 0, nil
	})
	if err != nil {
		return fmt.Errorf("%w (%s)", err, last)
	}
	return nil
}

// Until asks again and again until ok says yes or fails, or ctx ends.
func Until(ctx context.Context, what string, ok func() (bool, error)) error {
	for {
		yes, err := ok()
		if yes || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waiting in vain until %s: %w", what, ctx.Err())
		case <-time.After(poll):
		}
	}
}

// Inside runs fn on a thread in the network namespace of a lab's host. Sockets
// that fn makes stay there.
func Inside(host string, fn func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		done <- inside(host, fn)
	}()
	return <-done
}

// inside gives the thread back only if it is where it was.
func inside(host string, fn func() error) error {
	own, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		return err
	}
	defer func() { _ = own.Close() }()
	theirs, err := os.Open(lab.Namespace(host))
	if err != nil {
		return err
	}
	defer func() { _ = theirs.Close() }()
	if err := unix.Setns(int(theirs.Fd()), unix.CLONE_NEWNET); err != nil {
		return err
	}
	result := fn()
	if err := unix.Setns(int(own.Fd()), unix.CLONE_NEWNET); err != nil {
		return errors.Join(result, err)
	}
	runtime.UnlockOSThread()
	return result
}
