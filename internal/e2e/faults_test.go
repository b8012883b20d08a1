// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sallyport/sallyport/internal/cloudapi"
	"github.com/sallyport/sallyport/internal/lab"
)

// A smallDisk is a file system of its own under one directory of the lab.
type smallDisk struct{ mounted, dir string }

// onSmallDisk moves what a process keeps in dir to a small file system until
// the test ends. The process is killed for it.
func (s *stage) onSmallDisk(t *testing.T, process, dir, size string) *smallDisk {
	t.Helper()
	d := &smallDisk{mounted: t.TempDir(), dir: dir}
	if err := unix.Mount("tmpfs", d.mounted, "tmpfs", 0, "size="+size+",mode=700"); err != nil {
		t.Fatal(err)
	}
	move := func(from, to string, between func() error) error {
		if err := s.Signal(context.Background(), process, unix.SIGSTOP); err != nil {
			return err
		}
		err := between()
		if err == nil {
			var out []byte
			if out, err = exec.Command("cp", "-a", from+"/.", to).CombinedOutput(); err != nil {
				err = fmt.Errorf("%w: %s", err, out)
			}
		}
		return err
	}
	kill := func() error { // and wait for the next one: a call that the dead one had taken would fail
		ctx, cancel := context.WithTimeout(context.Background(), 15*time.Second)
		defer cancel()
		if err := s.Signal(ctx, process, unix.SIGKILL); err != nil {
			return err
		}
		return s.Settle(ctx)
	}
	err := move(dir, d.mounted, func() error { return nil })
	if err == nil {
		err = unix.Mount(d.mounted, dir, "", unix.MS_BIND, "")
	}
	if err := errors.Join(err, kill()); err != nil {
		t.Fatal(errors.Join(err, unix.Unmount(d.mounted, unix.MNT_DETACH)))
	}
	t.Cleanup(func() {
		err := move(d.mounted, dir, func() error {
			return errors.Join(unix.Unmount(dir, unix.MNT_DETACH), os.RemoveAll(filepath.Join(d.mounted, "fill")), emptied(dir))
		})
		if err := errors.Join(err, kill(), unix.Unmount(d.mounted, unix.MNT_DETACH)); err != nil {
			t.Error(err)
		}
	})
	return d
}

func emptied(dir string) error {
	entries, err := os.ReadDir(dir)
	for _, e := range entries {
		err = errors.Join(err, os.RemoveAll(filepath.Join(dir, e.Name())))
	}
	return err
}

// fill leaves no room at all.
func (d *smallDisk) fill(t *testing.T) {
	t.Helper()
	f, err := os.Create(filepath.Join(d.dir, "fill"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for block := make([]byte, 1<<20); len(block) > 0; {
		if _, err = f.Write(block); errors.Is(err, unix.ENOSPC) {
			block = block[:len(block)/2]
		} else if err != nil {
			t.Fatal(err)
		}
	}
}

func (d *smallDisk) empty(t *testing.T) {
	t.Helper()
	if err := os.Remove(filepath.Join(d.dir, "fill")); err != nil {
		t.Fatal(err)
	}
}

// turns refuses a client at gate 1 and lets it in again: a change is in force.
func (s *stage) turns(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 15*time.Second)
	defer cancel()
	began := time.Now()
	if err := errors.Join(s.Refuse(ctx, s.Edge, client3), s.Settle(ctx)); err != nil {
		t.Error(err)
		return
	}
	took := time.Since(began)
	silent(t, "client-3", s.http())
	if err := errors.Join(s.Allow(ctx, s.Edge, client3), s.Settle(ctx)); err != nil {
		t.Error(err)
	}
	if _, err := once("client-3", s.http(), "/turns"); err != nil {
		t.Errorf("client-3 is allowed again: %v", err)
	}
	t.Logf("a new change is in force on every node %v after it was sent", took.Round(time.Millisecond))
}

// fullServer fills the disk under the server while somebody writes.
func (s *stage) fullServer(t *testing.T) {
	s.refuse(t, s.Edge, client2)
	w := s.newWriter(t)
	w.may = "ResourceInsufficient"
	disk := s.onSmallDisk(t, "server", filepath.Join(s.Data(), "server"), "400m")
	l, ctx := newLoad(t.Context())
	began := time.Now()
	s.standard(ctx, l)
	writing, stop := context.WithCancel(ctx)
	var wrote sync.WaitGroup
	wrote.Go(func() { w.run(writing, 100*time.Millisecond) })
	denials := func() int {
		w.mu.Lock()
		defer w.mu.Unlock()
		return len(w.denied)
	}
	bounded, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	time.Sleep(3*time.Second + time.Duration(s.random.Int64N(int64(time.Second))))
	disk.fill(t)
	full := time.Now()
	for _, when := range []string{"once it is full", "after a kill on the full disk"} {
		before := denials()
		if err := Until(bounded, "a write is refused with its reason, "+when, func() (bool, error) { return denials() > before+3, nil }); err != nil {
			t.Error(err)
		}
		var st Status
		if err := s.Do(bounded, "sallyport", "DescribeStatus", nil, &st); err != nil || len(st.Nodes) < 3 {
			t.Errorf("%s the status shows %d nodes: %v", when, len(st.Nodes), err)
		}
		t.Logf("%s: the first refusals and the status after %v", when, time.Since(full).Round(time.Millisecond))
		if full = time.Now(); when == "once it is full" {
			if err := s.Signal(ctx, "server", unix.SIGKILL); err != nil {
				t.Fatal(err)
			}
		}
	}
	var refusal *cloudapi.Error
	err := s.Refuse(bounded, s.Edge, client3)
	if !errors.As(err, &refusal) || refusal.Code != w.may || !strings.Contains(refusal.Message, "disk has no room") {
		t.Errorf("a write on the full disk: %v", err)
	}
	if _, err := once("client-3", s.http(), "/full"); err != nil {
		t.Errorf("client-3, whose refusal was refused, is not served: %v", err)
	}
	time.Sleep(10 * time.Second)
	disk.empty(t)
	room := time.Now()
	w.mu.Lock()
	before := len(w.acked)
	w.mu.Unlock()
	if err := Until(bounded, "writes are taken again", func() (bool, error) {
		w.mu.Lock()
		defer w.mu.Unlock()
		return len(w.acked) > before, nil
	}); err != nil {
		t.Error(err)
	}
	t.Logf("writes are taken again %v after there was room", time.Since(room).Round(time.Millisecond))
	stop()
	wrote.Wait()
	s.turns(t)
	s.rate(t, l, began)
	w.check(t)
}

// rate ends a load and says how much of it there was.
func (s *stage) rate(t *testing.T, l *load, began time.Time) {
	t.Helper()
	seconds := time.Since(began).Seconds()
	n := l.count(fresh)
	l.end(t)
	t.Logf("%.0f new connections a second for %.0f s", float64(n)/seconds, seconds)
}

// node is what the status says of a node; false when it has none.
func (l *Lab) node(ctx context.Context, name string) (revision, newest uint64, connected bool, fault string, err error) {
	var st Status
	if err := l.Do(ctx, "sallyport", "DescribeStatus", nil, &st); err != nil {
		return 0, 0, false, "", err
	}
	for _, n := range st.Nodes {
		if n.Name == name {
			return n.Revision, st.Revision, n.Connected, n.Error, nil
		}
	}
	return 0, st.Revision, false, "", fmt.Errorf("the status has no node %s", name)
}

// fullNodes fills the disks under the gateway's node and a host's. What they
// cannot keep they still put in force, and tell.
func (s *stage) fullNodes(t *testing.T) {
	s.refuse(t, s.Edge, client2)
	nodes := []string{lab.DefaultGateway, s.Instances[0]}
	disks := map[string]*smallDisk{}
	for _, name := range nodes {
		disks[name] = s.onSmallDisk(t, name+".agent", filepath.Join(s.Data(), "nodes", name), "2m")
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := s.Settle(ctx); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	l, loading := newLoad(t.Context())
	s.standard(loading, l)
	for _, d := range disks {
		d.fill(t)
	}
	for _, when := range []string{"on full disks", "after kills on full disks"} {
		t.Log(when)
		s.turns(t)
		for _, name := range nodes {
			if err := Until(ctx, "the status tells that "+name+" cannot keep its snapshot", func() (bool, error) {
				_, _, _, fault, err := s.node(ctx, name)
				return strings.Contains(fault, "is not kept on disk") && strings.Contains(fault, "no space left"), err
			}); err != nil {
				t.Error(err)
			}
			if when == "on full disks" {
				if err := s.Signal(ctx, name+".agent", unix.SIGKILL); err != nil {
					t.Fatal(err)
				}
			}
		}
		if err := s.Settle(ctx); err != nil {
			t.Error(err)
		}
		time.Sleep(4 * time.Second)
	}
	for _, d := range disks {
		d.empty(t)
	}
	room := time.Now()
	for _, name := range nodes {
		if err := Until(ctx, name+" keeps its snapshot again", func() (bool, error) {
			_, _, _, fault, err := s.node(ctx, name)
			return fault == "", err
		}); err != nil {
			t.Error(err)
		}
		kept, err := os.Stat(filepath.Join(disks[name].dir, "snapshot"))
		if err != nil || kept.ModTime().Before(room.Add(-time.Second)) {
			t.Errorf("%s has no snapshot kept since there is room: %v", name, err)
		}
	}
	t.Logf("kept again %v after there was room, without another change", time.Since(room).Round(time.Millisecond))
	s.turns(t)
	s.rate(t, l, began)
}

// passes reports whether a host reaches a port that nobody balances.
func passes(host string, address netip.Addr) bool {
	c, err := lab.Dial(host, "tcp4", netip.AddrPortFrom(address, 22).String(), 300*time.Millisecond)
	if err == nil {
		c.Close()
	}
	return err == nil
}

// stalled stops a node, with its stream open, while rules change. Everybody
// else has each change soon; the node enforces what it had, is shown as behind,
// and catches up when it goes on.
func (s *stage) stalled(t *testing.T, node string, last time.Duration) {
	s.refuse(t, s.Edge, client2)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	began := time.Now()
	l, loading := newLoad(t.Context())
	s.standard(loading, l)
	if err := s.Signal(ctx, node+".agent", unix.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	goOn := sync.OnceFunc(func() {
		if err := s.Signal(context.Background(), node+".agent", unix.SIGCONT); err != nil {
			t.Error(err)
		}
	})
	defer goOn()
	stopped := time.Now()
	at, _, _, _, err := s.node(ctx, node)
	if err != nil {
		t.Fatal(err)
	}
	var took []time.Duration
	refused := false
	for time.Since(stopped) < last || !refused {
		turn, drop := s.Allow, false
		if !refused {
			turn, drop = s.Refuse, true
		}
		sent := time.Now()
		if err := turn(ctx, s.Web, client3); err != nil {
			t.Fatal(err)
		}
		refused = drop
		s.elsewhere(ctx, t, node)
		took = append(took, time.Since(sent).Round(time.Millisecond))
		if passes("client-3", s.Public[1]) == refused {
			t.Errorf("after the change that makes refused %v, client-3's passing at %s says otherwise", refused, s.Instances[1])
		}
		if node == s.Instances[0] && !passes("client-3", s.Public[0]) {
			t.Errorf("the stopped node's gate refuses what its last revision lets in")
		}
		time.Sleep(time.Duration(s.random.Int64N(int64(300 * time.Millisecond))))
	}
	slices.Sort(took)
	t.Logf("%d changes while the node stood still: in force elsewhere after %v (median), %v at most", len(took), took[len(took)/2], took[len(took)-1])
	if took[len(took)-1] > 1500*time.Millisecond {
		t.Errorf("others were held back for %v", took[len(took)-1])
	}
	if err := s.Refuse(ctx, s.Edge, client3); err != nil {
		t.Fatal(err)
	}
	revision, newest, connected, _, err := s.node(ctx, node)
	if err != nil || revision != at || newest <= at {
		t.Errorf("the status shows it at %d of %d, it stopped at %d: %v", revision, newest, at, err)
	}
	if last > 11*time.Second && connected {
		t.Error("the status still shows it as connected")
	}
	t.Logf("after %v the status shows it at revision %d of %d, connected %v", time.Since(stopped).Round(time.Millisecond), revision, newest, connected)
	goOn()
	resumed := time.Now()
	settling, stop := context.WithTimeout(ctx, 10*time.Second)
	defer stop()
	if err := s.Settle(settling); err != nil {
		t.Errorf("catching up: %v", err)
	}
	t.Logf("it caught up %v after it went on", time.Since(resumed).Round(time.Millisecond))
	silent(t, "client-3", s.http())
	for i, a := range s.Public {
		if passes("client-3", a) {
			t.Errorf("client-3 still passes at %s", s.Instances[i])
		}
	}
	s.alive(ctx, t)
	for _, group := range []string{s.Edge, s.Web} {
		if err := s.Allow(ctx, group, client3); err != nil {
			t.Error(err)
		}
	}
	if err := s.Settle(ctx); err != nil {
		t.Error(err)
	}
	s.rate(t, l, began)
}

// elsewhere waits until the newest revision is in force on all nodes but one.
func (s *stage) elsewhere(ctx context.Context, t *testing.T, but string) {
	t.Helper()
	want := uint64(0)
	if err := Until(ctx, "the other nodes have the change", func() (bool, error) {
		var st Status
		if err := s.call(ctx, "sallyport", "DescribeStatus", nil, &st); err != nil {
			return false, err
		}
		want = max(want, st.Revision)
		for _, n := range st.Nodes {
			if n.Name != but && (!n.Connected || n.Revision < want) {
				return false, nil
			}
		}
		return true, nil
	}); err != nil {
		t.Error(err)
	}
}

// alive sees every target stay Alive for three seconds.
func (s *stage) alive(ctx context.Context, t *testing.T) {
	t.Helper()
	for until := time.Now().Add(3 * time.Second); time.Now().Before(until); time.Sleep(50 * time.Millisecond) {
		if target, err := s.ailing(ctx); err != nil || target != "" {
			t.Errorf("%s %v", target, err)
			return
		}
	}
}

// ailing names a target that is not Alive, "" when all are.
func (s *stage) ailing(ctx context.Context) (string, error) {
	var st Status
	if err := s.call(ctx, "sallyport", "DescribeStatus", nil, &st); err != nil {
		return "", err
	}
	for _, target := range st.Targets {
		if target.Health != "Alive" {
			return fmt.Sprintf("the target %s:%d is %s", target.InstanceId, target.Port, target.Health), nil
		}
	}
	return "", nil
}

const (
	mayJump   = "SALLYPORT_MAY_SET_CLOCK"
	clockLock = "SALLYPORT_CLOCK_LOCK"
	guardBase = "E2E_CLOCK_BASE" // of the guard: what to add to the clock that counts from boot, in ns
	jumpLimit = 10 * time.Second // after which the guard ends a jump
	jumpLasts = 7 * time.Second  // is what the story takes of it
	jumpBy    = time.Hour        // as far as the story goes
)

// TestMain can also be the guard of a clock.
func TestMain(m *testing.M) {
	if text := os.Getenv(guardBase); text != "" {
		guardClock(text)
		return
	}
	os.Exit(m.Run())
}

// guardClock sets the clock right when its input ends, as it does when the
// process that started it dies, or at the latest after jumpLimit.
func guardClock(text string) {
	base, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		fmt.Println(err)
		return
	}
	ended := make(chan struct{})
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		close(ended)
	}()
	fmt.Println("ready")
	select {
	case <-ended:
	case <-time.After(jumpLimit):
	}
	if err := setClock(base); err != nil {
		fmt.Println(err)
	}
}

func sinceBoot() (int64, error) {
	var now unix.Timespec
	err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &now)
	return now.Nano(), err
}

// setClock sets the machine's clock to what counts from boot plus base.
func setClock(base int64) error {
	now, err := sinceBoot()
	if err != nil {
		return err
	}
	tv := unix.NsecToTimeval(now + base)
	return unix.Settimeofday(&tv)
}

// jump moves the clock until the returned function is called. Whatever becomes
// of this process, a guard sets it right.
func jump(t *testing.T, by time.Duration) (back func()) {
	t.Helper()
	now, err := sinceBoot()
	if err != nil {
		t.Fatal(err)
	}
	base := time.Now().UnixNano() - now
	guard := exec.Command(os.Args[0])
	guard.Env = append(os.Environ(), guardBase+"="+strconv.FormatInt(base, 10))
	guard.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	in, err := guard.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := guard.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := guard.Start(); err != nil {
		t.Fatal(err)
	}
	back = sync.OnceFunc(func() {
		if err := setClock(base); err != nil {
			t.Error(err)
		}
		in.Close()
		said, _ := io.ReadAll(out)
		if err := guard.Wait(); err != nil || len(said) > 0 {
			t.Errorf("the clock's guard: %v %s", err, said)
		}
	})
	t.Cleanup(back)
	if _, err := io.ReadFull(out, make([]byte, len("ready\n"))); err != nil {
		t.Fatalf("the clock's guard does not start: %v", err)
	}
	if err := setClock(base + int64(by)); err != nil {
		t.Fatal(err)
	}
	return back
}

// aloneWithClock waits until no other lab depends on the machine's clock, and
// keeps new ones waiting until the test ends: they hold a lock on a file, where
// there are others.
func aloneWithClock(t *testing.T) {
	t.Helper()
	name := os.Getenv(clockLock)
	if name == "" {
		return
	}
	f, err := os.OpenFile(name, os.O_CREATE|os.O_RDONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
		t.Fatal(err)
	}
}

// clockJump puts the machine's clock on and back while everything runs.
func (s *stage) clockJump(t *testing.T) {
	if os.Getenv(mayJump) != "1" {
		t.Skipf("sets the clock of the whole machine for %v; runs with %s=1, as .ci/run has it", jumpLasts, mayJump)
	}
	aloneWithClock(t)
	s.refuse(t, s.Edge, client2)
	began := time.Now()
	l, ctx := newLoad(t.Context())
	s.standard(ctx, l)
	bounded, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	broken := make(chan int, 1)
	watching, stop := context.WithCancel(bounded)
	go func() { broken <- s.breaks(watching) }()
	time.Sleep(time.Second)
	right := time.Now().Round(0) // the wall's word alone
	back := jump(t, jumpBy)
	jumped := time.Now()
	if off := jumped.Round(0).Sub(right); off < jumpBy-time.Second || off > jumpBy+time.Minute {
		t.Errorf("the clock was put on by %v", off)
	}
	s.turns(t)
	if err := s.Signal(ctx, s.Instances[0]+".agent", unix.SIGKILL); err != nil { // its certificate is looked at again
		t.Fatal(err)
	}
	if err := s.Settle(bounded); err != nil {
		t.Error(err)
	}
	s.alive(bounded, t)
	if rest := jumpLasts - time.Since(jumped); rest > 0 {
		time.Sleep(rest)
	}
	back()
	t.Logf("the clock was %v ahead for %v", jumpBy, time.Since(jumped).Round(time.Millisecond))
	s.turns(t)
	s.alive(bounded, t)
	if err := s.Signal(ctx, "gateway-1.agent", unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	s.turns(t)
	stop()
	t.Logf("streams were seen broken %d times; two nodes were killed", <-broken)
	s.rate(t, l, began)
}

// breaks counts how often a node is seen disconnected, until ctx ends.
func (s *stage) breaks(ctx context.Context) int {
	n := 0
	away := map[string]bool{}
	for ctx.Err() == nil {
		var st Status
		if err := s.call(ctx, "sallyport", "DescribeStatus", nil, &st); err == nil {
			for _, node := range st.Nodes {
				if !node.Connected && !away[node.Name] {
					n++
				}
				away[node.Name] = !node.Connected
			}
		}
		select {
		case <-ctx.Done():
		case <-time.After(20 * time.Millisecond):
		}
	}
	return n
}
