// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"time"
)

// A Process runs in a host's namespace and is started again whenever it ends.
type Process struct {
	Name  string     // unique in the lab; also names its log, DATA/logs/NAME.log
	Host  string     // whose namespace
	Face  bool       // its pid stands for the host in records
	Path  string     // executable
	Args  []string   // without the executable's name
	Files []*os.File // inherited, from descriptor 3 on; they stay the caller's
	Log   string     // name of the log if it is another process's too; "" means Name
}

// How long a process must live to count as working, how many early deaths are
// answered at once, how many say that more will follow, and the longest wait
// before a start.
const (
	steady     = 5 * time.Second
	earlyFree  = 3
	hopeless   = 5
	longestGap = 5 * time.Second
)

// grace is what a process gets between SIGTERM and SIGKILL.
const grace = 3 * time.Second

// A child is a Process being kept alive.
type child struct {
	Process
	log     string // path
	changed func() // after each start and each death
	say     func(format string, args ...any)

	mu      sync.Mutex
	cmd     *exec.Cmd // nil while it is down
	pid     int
	start   uint64
	early   int // deaths in a row that came early
	stopped bool
	quit    chan struct{} // closed by stop
	done    chan struct{} // closed when keep has returned
}

// launch starts the process once, in its namespace.
func (c *child) launch() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stopped {
		return nil
	}
	log, err := os.OpenFile(c.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer func() { _ = log.Close() }()
	cmd := exec.Command(c.Path, c.Args...)
	cmd.Stdout, cmd.Stderr, cmd.ExtraFiles = log, log, c.Files
	// An own group: Ctrl-C in the terminal is for `up`, which ends the rest in
	// order. The death signal is for the case that `up` is killed.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := inside(Namespace(c.Host), cmd.Start); err != nil {
		return fmt.Errorf("start %s: %w", c.Name, err)
	}
	c.cmd, c.pid, c.start = cmd, cmd.Process.Pid, startOf(cmd.Process.Pid)
	return nil
}

// keep waits for the process and starts it again until stop.
func (c *child) keep() {
	defer close(c.done)
	for {
		began := time.Now()
		err := c.wait()
		early := c.died(time.Since(began) < steady && !killed(err))
		c.changed()
		if !c.rest(pause(early)) {
			return
		}
		c.tell(early, err)
		if err := c.launch(); err != nil {
			c.say("%v", err)
		}
		c.changed()
	}
}

// tell says that the process ended, but a series of early deaths only once.
func (c *child) tell(early int, err error) {
	switch {
	case early <= 1:
		c.say("%s ended (%v); starting it again", c.Name, err)
	case early == hopeless:
		c.say("%s ends again and again (%v); its log is %s", c.Name, err, c.log)
	}
}

// rest waits before the next start; false if there is to be none.
func (c *child) rest(d time.Duration) bool {
	if d > 0 {
		select {
		case <-c.quit:
		case <-time.After(d):
		}
	}
	select {
	case <-c.quit:
		return false
	default:
		return true
	}
}

// killed reports whether somebody ended the process: that says nothing about
// how it would have gone on.
func killed(err error) bool {
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		return false
	}
	status, ok := exit.Sys().(syscall.WaitStatus)
	return ok && status.Signaled()
}

// died counts early deaths in a row.
func (c *child) died(early bool) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !early {
		c.early = 0
		return 0
	}
	c.early++
	return c.early
}

// wait returns when the process has ended, at once if it could not be started.
func (c *child) wait() error {
	c.mu.Lock()
	cmd := c.cmd
	c.mu.Unlock()
	if cmd == nil {
		return fmt.Errorf("not started")
	}
	err := cmd.Wait()
	if err == nil {
		err = fmt.Errorf("exit status 0")
	}
	c.mu.Lock()
	c.cmd, c.pid, c.start = nil, 0, 0
	c.mu.Unlock()
	return err
}

// pause grows with the number of early deaths in a row.
func pause(early int) time.Duration {
	if early <= earlyFree {
		return 0
	}
	return min(longestGap, 100*time.Millisecond<<min(early-earlyFree, 6))
}

// stop ends the process and its group, first politely.
func (c *child) stop() {
	c.mu.Lock()
	if !c.stopped {
		c.stopped = true
		close(c.quit)
	}
	c.mu.Unlock()
	c.signal(syscall.SIGTERM)
	select {
	case <-c.done:
	case <-time.After(grace):
		c.signal(syscall.SIGKILL)
		<-c.done
	}
}

func (c *child) signal(s syscall.Signal) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.pid != 0 {
		_ = syscall.Kill(-c.pid, s)
	}
}

func (c *child) record() ProcessRecord {
	c.mu.Lock()
	defer c.mu.Unlock()
	return ProcessRecord{Name: c.Name, Host: c.Host, PID: c.pid, Start: c.start, Log: c.log}
}

// Start starts p and keeps it running until its host is removed, Stop or Close.
func (l *Lab) Start(p Process) error {
	name := p.Log
	if name == "" {
		name = p.Name
	}
	c := &child{
		Process: p, log: filepath.Join(l.logDir(), name+".log"), changed: l.save, say: l.o.Say,
		quit: make(chan struct{}), done: make(chan struct{}),
	}
	if err := c.launch(); err != nil {
		return err
	}
	l.mu.Lock()
	l.children = append(l.children, c)
	l.mu.Unlock()
	l.save()
	go c.keep()
	return nil
}

// Failing reports whether a process has died early so often that it will not
// come up without help.
func (l *Lab) Failing(name string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, c := range l.children {
		c.mu.Lock()
		failing := c.Name == name && c.early > hopeless
		c.mu.Unlock()
		if failing {
			return true
		}
	}
	return false
}

// stopAll stops, side by side, the children that match.
func (l *Lab) stopAll(match func(Process) bool) {
	l.mu.Lock()
	var going, staying []*child
	for _, c := range l.children {
		if match(c.Process) {
			going = append(going, c)
		} else {
			staying = append(staying, c)
		}
	}
	l.children = staying
	l.mu.Unlock()
	var wg sync.WaitGroup
	for _, c := range going {
		wg.Go(c.stop)
	}
	wg.Wait()
	l.save()
}

// Watch calls changed with the new record after every change until ctx ends.
func (l *Lab) Watch(ctx context.Context, changed func(Record)) {
	for {
		l.mu.Lock()
		next := l.next
		l.mu.Unlock()
		changed(l.Record())
		select {
		case <-next:
		case <-ctx.Done():
			return
		}
	}
}
