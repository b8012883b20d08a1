// SPDX-License-Identifier: Apache-2.0

package health

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/sallyport/sallyport/internal/lb"
	"github.com/sallyport/sallyport/internal/snapshot"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var (
	tcp = lb.HealthCheck{On: true, Type: "TCP", TimeOut: 2, IntervalTime: 5, HealthNum: 3, UnHealthNum: 3}
	web = lb.HealthCheck{On: true, Type: "HTTP", TimeOut: 2, IntervalTime: 5, HealthNum: 2, UnHealthNum: 2, HTTPCode: 2, HTTPPath: "/up", HTTPMethod: "GET"}
)

// A world is the network of a test in fake time: what each target does with a
// probe, and a log of what happened when.
type world struct {
	t      *testing.T
	prober *Prober
	start  time.Time

	mu      sync.Mutex
	behave  map[uint32]string // "ok" (default), "refuse", "drop", "unreachable", "silent", "close", or an HTTP status
	probes  []string
	reports []string
	told    Result // the last of the reports
	request *http.Request
	from    netip.AddrPort
	to      netip.AddrPort
	current int
	most    int
}

// story runs in fake time.
func story(t *testing.T, options Options, tell func(w *world)) {
	synctest.Test(t, func(t *testing.T) {
		w := &world{t: t, start: time.Now(), behave: map[uint32]string{}}
		options.Dial = w.dial
		options.Report = w.report
		w.prober = New(options)
		defer w.prober.Close()
		tell(w)
	})
}

func (w *world) dial(ctx context.Context, from, to netip.AddrPort, mark uint32) (net.Conn, error) {
	w.mu.Lock()
	num := mark &^ snapshot.MarkMask
	behave := w.behave[num]
	w.probes = append(w.probes, fmt.Sprintf("%v %d", w.since(), num))
	w.from, w.to = from, to
	w.current++
	w.most = max(w.most, w.current)
	w.mu.Unlock()
	defer func() { w.mu.Lock(); w.current--; w.mu.Unlock() }()
	if mark != snapshot.TargetMark(num) {
		return nil, fmt.Errorf("mark %#x", mark)
	}
	switch behave {
	case "refuse":
		return nil, &net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}
	case "drop":
		<-ctx.Done()
		return nil, &net.OpError{Op: "dial", Err: ctx.Err()}
	case "unreachable":
		return nil, errors.New("network is unreachable")
	}
	client, server := net.Pipe()
	go w.serve(server, behave)
	return client, nil
}

func (w *world) serve(conn net.Conn, behave string) {
	defer conn.Close()
	req, err := http.ReadRequest(bufio.NewReader(conn))
	if err != nil {
		return
	}
	w.mu.Lock()
	w.request = req
	w.mu.Unlock()
	switch behave {
	case "close":
		return
	case "silent":
		io.Copy(io.Discard, conn)
		return
	case "", "ok":
		behave = "200"
	}
	fmt.Fprintf(conn, "HTTP/1.1 %s X\r\nContent-Length: 0\r\n\r\n", behave)
}

// since is the fake time in whole seconds: the spread of first probes is less.
func (w *world) since() time.Duration { return time.Since(w.start).Truncate(time.Second) }

func (w *world) report(r Result) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.told = r
	line := fmt.Sprintf("%v %d %s", w.since(), r.Target, [...]string{"Unknown", "Alive", "Dead", "Close"}[r.State])
	if r.Kind != "" {
		line += " " + r.Kind
	}
	w.reports = append(w.reports, line)
}

func (w *world) set(num uint32, behave string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.behave[num] = behave
}

// advance moves time to s seconds after the start, and a little more, so that
// what is due then has happened.
func (w *world) advance(s int) {
	time.Sleep(time.Until(w.start.Add(time.Duration(s)*time.Second + 500*time.Millisecond)))
	synctest.Wait()
}

func (w *world) took() (probes, reports []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	probes, reports = w.probes, w.reports
	w.probes, w.reports = nil, nil
	return probes, reports
}

func (w *world) wantReports(want ...string) {
	w.t.Helper()
	if _, got := w.took(); !cmp.Equal(want, got) {
		w.t.Errorf("reports:\n%s", cmp.Diff(want, got))
	}
}

func (w *world) apply(r lb.Revision, check lb.HealthCheck, nums ...uint32) {
	w.t.Helper()
	s := snapshotOf(check, nums...)
	s.Revision = r
	if err := w.prober.Stage(w.t.Context(), s); err != nil {
		w.t.Fatal(err)
	}
	if err := w.prober.Commit(w.t.Context(), r); err != nil {
		w.t.Fatal(err)
	}
}

func snapshotOf(check lb.HealthCheck, nums ...uint32) *snapshot.Snapshot {
	s := &snapshot.Snapshot{Listeners: []snapshot.Listener{{Layer7: true, Rules: []snapshot.Rule{{Domain: "shop.example.com", Check: check}}}}}
	for _, num := range nums {
		s.Listeners[0].Rules[0].Targets = append(s.Listeners[0].Rules[0].Targets, snapshot.TargetRef{Num: num})
		s.Targets = append(s.Targets, snapshot.Target{
			Num: num, Service: netip.MustParseAddrPort("10.200.0.5:8080"), ProbeSource: netip.MustParseAddr("192.0.2.1"),
		})
	}
	return s
}

// HealthNum successes IntervalTime apart make a target Alive,
// UnHealthNum failures make it Dead; what contradicts in between starts over.
func TestThresholds(t *testing.T) {
	story(t, Options{}, func(w *world) {
		w.apply(1, tcp, 1)
		w.wantReports("0s 1 Unknown")
		w.advance(9)
		w.wantReports()
		if w.prober.Alive(1) {
			t.Error("Alive before the threshold")
		}
		w.advance(10)
		w.wantReports("10s 1 Alive")
		if !w.prober.Alive(1) || w.prober.Alive(2) {
			t.Error("Alive")
		}
		w.set(1, "refuse") // fails at 15 and 20
		w.advance(21)
		w.set(1, "ok") // one success starts the count over
		w.advance(25)
		w.set(1, "refuse") // 30, 35, 40
		w.advance(39)
		w.wantReports()
		w.advance(40)
		w.wantReports("40s 1 Dead refused")
		w.set(1, "drop") // still Dead, but for another reason
		w.advance(47)
		w.wantReports("47s 1 Dead timeout")
		w.set(1, "ok") // 50, 55, 60
		w.advance(60)
		w.wantReports("1m0s 1 Alive")
	})
}

// The windows of a layer-7 check: response time × n + interval × (n-1).
func TestWindowsOfHTTP(t *testing.T) {
	story(t, Options{}, func(w *world) {
		w.set(2, "silent")
		w.apply(1, web, 1, 2)
		w.wantReports("0s 1 Unknown", "0s 2 Unknown")
		w.advance(10)
		// 2 s time out, 5 s interval, 2 s time out.
		w.wantReports("5s 1 Alive", "9s 2 Dead timeout")
	})
}

// The demo's check: Alive within three seconds.
func TestFirstProbeIsImmediate(t *testing.T) {
	demo := web
	demo.IntervalTime = 2
	story(t, Options{}, func(w *world) {
		w.apply(1, demo, 1, 2, 3)
		w.advance(2)
		w.wantReports("0s 1 Unknown", "0s 2 Unknown", "0s 3 Unknown", "2s 2 Alive", "2s 1 Alive", "2s 3 Alive")
	})
}

func TestReasons(t *testing.T) {
	for _, c := range []struct {
		check             lb.HealthCheck
		behave, kind, say string
	}{
		{tcp, "refuse", KindRefused, "10.200.0.5:8080 refused the connection: nothing listens there."},
		{tcp, "drop", KindTimeout, "No answer from 10.200.0.5:8080 within 2 s, probing from 192.0.2.1."},
		{tcp, "unreachable", KindTimeout, "10.200.0.5:8080 could not be reached from 192.0.2.1: network is unreachable."},
		{web, "drop", KindTimeout, "No answer from 10.200.0.5:8080 within 2 s, probing from 192.0.2.1."},
		{web, "silent", KindTimeout, "No answer from 10.200.0.5:8080 within 2 s, probing from 192.0.2.1."},
		{web, "404", KindAnswer, "GET /up at 10.200.0.5:8080 answered 404; the check accepts 2xx."},
		{web, "close", KindAnswer, "10.200.0.5:8080 took the connection but did not answer GET /up in HTTP."},
	} {
		t.Run(c.check.Type+" "+c.behave, func(t *testing.T) {
			story(t, Options{}, func(w *world) {
				w.set(1, c.behave)
				w.apply(1, c.check, 1)
				w.advance(60)
				got := w.prober.States()
				if len(got) != 1 || got[0].State != Dead || got[0].Kind != c.kind || got[0].Text != c.say || w.prober.Alive(1) {
					t.Errorf("got %+v", got)
				}
			})
		})
	}
}

func TestRequest(t *testing.T) {
	story(t, Options{}, func(w *world) {
		w.apply(1, web, 1)
		w.advance(0)
		got := fmt.Sprintf("%s %s %s %v", w.request.Method, w.request.RequestURI, w.request.Host, w.request.Header)
		if want := "GET /up shop.example.com map[Accept:[*/*] Connection:[close] User-Agent:[clb-healthcheck]]"; got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
		if w.from.String() != "192.0.2.1:0" || w.to.String() != "10.200.0.5:8080" {
			t.Errorf("from %v to %v", w.from, w.to)
		}
		other := web
		other.HTTPMethod, other.HTTPDomain, other.HTTPVersion = "HEAD", "probe.example.com", "HTTP/1.0"
		w.apply(2, other, 1)
		w.advance(1)
		if r := w.request; r.Method != "HEAD" || r.Host != "probe.example.com" || r.Proto != "HTTP/1.0" {
			t.Errorf("%s %s %s", r.Method, r.Host, r.Proto)
		}
	})
}

func TestCommits(t *testing.T) {
	story(t, Options{}, func(w *world) {
		w.apply(1, tcp, 1, 2)
		w.advance(11)
		w.took()
		// Unchanged: the rhythm goes on, at 15 and 20.
		for r := range lb.Revision(8) {
			w.advance(12 + int(r))
			w.apply(2+r, tcp, 1, 2)
		}
		w.advance(21)
		probes, reports := w.took()
		if want := []string{"15s 2", "15s 1", "20s 2", "20s 1"}; !cmp.Equal(want, probes) || reports != nil {
			t.Errorf("%v %v", cmp.Diff(want, probes), reports)
		}
		// A changed check is in use at once, and the state is kept; a target
		// that is gone is not probed and not told of.
		quick := tcp
		quick.IntervalTime = 3
		w.apply(10, quick, 1)
		w.advance(25)
		probes, reports = w.took()
		if want := []string{"21s 1", "24s 1"}; !cmp.Equal(want, probes) || reports != nil || !w.prober.Alive(1) || w.prober.Alive(2) {
			t.Errorf("%v %v", cmp.Diff(want, probes), reports)
		}
		// Off: traffic flows, and nothing is probed. On again: unknown.
		off := quick
		off.On = false
		w.apply(11, off, 1)
		w.advance(40)
		probes, reports = w.took()
		if !cmp.Equal(reports, []string{"25s 1 Close"}) || probes != nil || !w.prober.Alive(1) {
			t.Errorf("%v %v", probes, reports)
		}
		w.apply(12, quick, 1)
		w.advance(47)
		w.wantReports("40s 1 Unknown", "46s 1 Alive")

		if err := w.prober.Commit(t.Context(), 12); err != nil {
			t.Errorf("the revision in force: %v", err)
		}
		if err := w.prober.Commit(t.Context(), 13); err == nil {
			t.Error("a revision that was never staged was committed")
		}
	})
}

func TestStageRefusesByName(t *testing.T) {
	change := func(edit func(c *lb.HealthCheck)) lb.HealthCheck {
		c := web
		edit(&c)
		return c
	}
	for _, c := range []struct {
		name  string
		check lb.HealthCheck
		want  string
	}{
		{"type", change(func(c *lb.HealthCheck) { c.Type = "GRPC" }), `"GRPC"`},
		{"method", change(func(c *lb.HealthCheck) { c.HTTPMethod = "POST" }), `"POST"`},
		{"path", change(func(c *lb.HealthCheck) { c.HTTPPath = "/a\r\nX: y" }), `"/a\r\nX: y"`},
		{"interval", change(func(c *lb.HealthCheck) { c.IntervalTime = 0 }), "at least 1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := New(Options{})
			defer p.Close()
			err := p.Stage(t.Context(), snapshotOf(c.check, 1))
			if err == nil || !strings.Contains(err.Error(), "target 1") || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v", err)
			}
		})
	}
	p := New(Options{})
	s := snapshotOf(web, 1)
	s.Targets = nil
	if err := p.Stage(t.Context(), s); err == nil {
		t.Error("a reference to no target was accepted")
	}
	p.Close()
	if err := p.Stage(t.Context(), snapshotOf(web, 1)); err == nil {
		t.Error("a closed prober was staged")
	}
}

// As many targets as a gateway can have, all of which let probes wait for as long as
// a check may, do not keep another's from being found dead in time; and none of them
// is probed twice at one moment.
func TestSilentTargetsKeepNobodyWaiting(t *testing.T) {
	story(t, Options{}, func(w *world) {
		patient := tcp
		patient.TimeOut, patient.IntervalTime = 60, 60
		const silent = 8191
		var nums []uint32
		for num := uint32(2); num < 2+silent; num++ {
			w.set(num, "drop")
			nums = append(nums, num)
		}
		s, one := snapshotOf(patient, nums...), snapshotOf(tcp, 1)
		s.Revision, s.Targets, s.Listeners = 1, append(s.Targets, one.Targets...), append(s.Listeners, one.Listeners...)
		if err := errors.Join(w.prober.Stage(t.Context(), s), w.prober.Commit(t.Context(), 1)); err != nil {
			t.Fatal(err)
		}
		w.advance(121)
		if first := w.prober.States()[0]; first.State != Alive {
			t.Fatalf("%+v", first)
		}
		w.set(1, "refuse") // at 125, 130 and 135
		w.advance(135)
		if first := w.prober.States()[0]; first.State != Dead {
			t.Errorf("%+v", first)
		}
		if w.most > 1+silent {
			t.Errorf("%d probes at one moment of %d targets", w.most, 1+silent)
		}
	})
}

// What is told of a dead target is about how it is probed now.
func TestTextFollowsWhatIsSeen(t *testing.T) {
	story(t, Options{}, func(w *world) {
		told := func(want string) {
			t.Helper()
			if w.told.State != Dead || w.told.Text != want {
				t.Errorf("told %+v", w.told)
			}
		}
		w.set(1, "404")
		w.apply(1, web, 1)
		w.advance(11)
		told("GET /up at 10.200.0.5:8080 answered 404; the check accepts 2xx.")
		w.set(1, "503")
		w.advance(16)
		told("GET /up at 10.200.0.5:8080 answered 503; the check accepts 2xx.")
		moved := web
		moved.HTTPPath = "/elsewhere"
		w.apply(2, moved, 1)
		w.advance(18)
		told("GET /elsewhere at 10.200.0.5:8080 answered 503; the check accepts 2xx.")
		w.took()
		w.advance(60)
		w.wantReports() // the same over and over is told once
	})
}

// A check that is switched on takes nobody out who has not failed it: new traffic
// goes on until it has.
func TestCheckSwitchedOn(t *testing.T) {
	off := tcp
	off.On = false
	story(t, Options{}, func(w *world) {
		w.applySlowly(1, off, 10, 1, 2)
		w.advance(60)
		w.set(2, "refuse")
		w.applySlowly(2, tcp, 10, 1, 2, 3)
		alive := func(want ...bool) {
			t.Helper()
			for i, is := range want {
				if w.prober.Alive(uint32(i+1)) != is {
					t.Errorf("target %d alive: %v", i+1, !is)
				}
			}
		}
		alive(true, true, false)
		if !w.told.Takes != (w.told.Target == 3) {
			t.Errorf("told %+v", w.told)
		}
		w.applySlowly(3, tcp, 10, 1, 2, 3)
		w.advance(69)
		alive(true, true, false)
		w.advance(71)
		alive(true, false, true)
		if w.prober.Share(1) != WholeShare || w.prober.Share(3) == WholeShare {
			t.Errorf("shares %d and %d: who served all the time starts slowly, or who is new does not", w.prober.Share(1), w.prober.Share(3))
		}
	})
}

func TestAccepts(t *testing.T) {
	for _, c := range []struct {
		mask, status int
		want         bool
	}{{1, 100, true}, {2, 204, true}, {2, 301, false}, {4, 302, true}, {8, 404, true}, {16, 503, true}, {15, 500, false}, {31, 599, true}, {0, 200, true}, {31, 600, false}, {31, 99, false}} {
		if got := accepts(c.mask, c.status); got != c.want {
			t.Errorf("mask %d, status %d: %v", c.mask, c.status, got)
		}
	}
}

// A real socket: the connection ends with RST, so that neither side waits.
func TestResetAfterConnect(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	p := New(Options{Dial: func(ctx context.Context, _, to netip.AddrPort, _ uint32) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "tcp", to.String())
	}})
	o := order{num: 1, check: tcp, to: netip.MustParseAddrPort(l.Addr().String())}
	if f := p.probe(t.Context(), o); f != nil {
		t.Fatal(f.text)
	}
	conn, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("read: %v, want a reset", err)
	}
	l.Close()
	if f := p.probe(t.Context(), o); f == nil || f.kind != KindRefused {
		t.Errorf("closed port: %+v", f)
	}
}
