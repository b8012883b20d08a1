// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/sallyport/sallyport/internal/lb"
	"github.com/sallyport/sallyport/internal/snapshot"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A rig is a proxy on loopback with one listener. Targets are test servers;
// clients are told apart by their 127/8 addresses.
type rig struct {
	t     *testing.T
	proxy *Proxy
	snap  *snapshot.Snapshot
	at    netip.AddrPort

	mu    sync.Mutex
	dials []string // "client target"
	dead  map[uint32]bool
	late  map[uint32]uint32 // how much of WholeShare a target does not take yet
	hooks map[uint32]func(ctx context.Context) (net.Conn, error)
	marks map[uint32]netip.AddrPort
}

func newRig(t *testing.T, limits Limits) *rig {
	t.Helper()
	r := &rig{t: t, dead: map[uint32]bool{}, late: map[uint32]uint32{}, hooks: map[uint32]func(context.Context) (net.Conn, error){}, marks: map[uint32]netip.AddrPort{}}
	// Port 0 would not do: the snapshot names the port.
	probe, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r.at = probe.Addr().(*net.TCPAddr).AddrPort()
	probe.Close()
	if limits.Handshake == 0 {
		limits.Handshake = time.Millisecond
	}
	r.proxy = New(Options{
		Dial: r.dial,
		Listen: func(ctx context.Context, at netip.AddrPort) (net.Listener, error) {
			return new(net.ListenConfig).Listen(ctx, "tcp", at.String())
		},
		Alive:  func(num uint32) bool { r.mu.Lock(); defer r.mu.Unlock(); return !r.dead[num] },
		Share:  func(num uint32) uint32 { r.mu.Lock(); defer r.mu.Unlock(); return WholeShare - r.late[num] },
		Logger: slog.New(slog.DiscardHandler),
		Limits: limits,
	})
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
		defer cancel()
		r.proxy.Close(ctx)
	})
	r.snap = &snapshot.Snapshot{Revision: 1}
	r.snap.Listeners = []snapshot.Listener{{Layer7: true, VIPs: []netip.Addr{r.at.Addr()}, Port: r.at.Port()}}
	return r
}

func (r *rig) dial(ctx context.Context, from, to netip.AddrPort, mark uint32) (net.Conn, error) {
	r.mu.Lock()
	num := mark &^ snapshot.MarkMask
	r.dials = append(r.dials, fmt.Sprintf("%v %d", from.Addr(), num))
	hook := r.hooks[num]
	r.mu.Unlock()
	if from.Port() != 0 || mark != snapshot.TargetMark(num) {
		return nil, fmt.Errorf("dialled from %v with mark %#x", from, mark)
	}
	if hook != nil {
		return hook(ctx)
	}
	return new(net.Dialer).DialContext(ctx, "tcp", to.String())
}

// target starts a server and returns its number.
func (r *rig) target(h http.HandlerFunc) uint32 {
	server := httptest.NewServer(h)
	r.t.Cleanup(server.Close)
	return r.address(netip.MustParseAddrPort(server.Listener.Addr().String()))
}

func (r *rig) address(service netip.AddrPort) uint32 {
	num := uint32(len(r.snap.Targets) + 1)
	r.snap.Targets = append(r.snap.Targets, snapshot.Target{Num: num, Service: service})
	return num
}

func (r *rig) rule(domain, url string, nums ...uint32) {
	rule := snapshot.Rule{ID: lb.LocationID(domain + url), Domain: domain, URL: url}
	for _, num := range nums {
		rule.Targets = append(rule.Targets, snapshot.TargetRef{Num: num, Weight: 10})
	}
	r.snap.Listeners[0].Rules = append(r.snap.Listeners[0].Rules, rule)
}

// apply puts the snapshot in force under the next revision.
func (r *rig) apply() {
	r.t.Helper()
	next := *r.snap
	next.Revision = r.proxy.current.Load().revision + 1
	if err := r.proxy.Stage(r.t.Context(), &next); err != nil {
		r.t.Fatal(err)
	}
	if err := r.proxy.Commit(r.t.Context(), next.Revision); err != nil {
		r.t.Fatal(err)
	}
}

// client sends from one address over connections that it keeps.
func (r *rig) client(addr string) *http.Client {
	transport := &http.Transport{
		DisableCompression: true,
		DialContext: (&net.Dialer{
			LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr(addr), 0)),
		}).DialContext,
	}
	r.t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: 10 * time.Second, CheckRedirect: func(*http.Request, []*http.Request) error {
		return http.ErrUseLastResponse
	}}
}

func (r *rig) get(c *http.Client, path string) (int, string) {
	r.t.Helper()
	res, err := c.Get("http://" + r.at.String() + path)
	if err != nil {
		r.t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		r.t.Fatal(err)
	}
	return res.StatusCode, string(body)
}

func (r *rig) dialled() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]string(nil), r.dials...)
}

// The rule above all others.
func TestUpstreamConnectionHasOneClient(t *testing.T) {
	r := newRig(t, Limits{})
	var mu sync.Mutex
	owners := map[string]string{} // upstream connection → client
	requests := 0
	target := r.target(func(w http.ResponseWriter, req *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		requests++
		client := req.Header.Get("X-Real-IP")
		if owner := owners[req.RemoteAddr]; owner != "" && owner != client {
			t.Errorf("connection %s carried requests of %s and %s", req.RemoteAddr, owner, client)
		}
		owners[req.RemoteAddr] = client
		io.WriteString(w, client)
	})
	r.rule("a", "/", target)
	r.apply()
	var wg sync.WaitGroup
	for range 4 {
		for _, addr := range []string{"127.0.0.2", "127.0.0.3"} {
			wg.Go(func() {
				c := r.client(addr)
				for range 50 {
					if status, body := r.get(c, "/"); status != 200 || body != addr {
						t.Errorf("client %s got %d %q", addr, status, body)
					}
				}
			})
		}
	}
	wg.Wait()
	if requests != 400 {
		t.Errorf("%d requests, want 400", requests)
	}
	if n := len(owners); n < 2 || n > 200 {
		t.Errorf("%d upstream connections for 400 requests: none was kept", n)
	}
}

func TestCommitClosesIdleUpstream(t *testing.T) {
	r := newRig(t, Limits{})
	inside, release, closed := make(chan bool), make(chan bool), make(chan bool, 8)
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if req.URL.Path == "/wait" {
			inside <- true
			<-release
		}
		io.WriteString(w, "ok")
	}))
	server.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateClosed {
			closed <- true
		}
	}
	server.Start()
	t.Cleanup(server.Close)
	r.rule("a", "/", r.address(netip.MustParseAddrPort(server.Listener.Addr().String())))
	r.apply()
	c := r.client("127.0.0.2")
	for range 3 {
		r.get(c, "/")
	}
	if n := len(r.dialled()); n != 1 {
		t.Fatalf("%d dials for three requests, want 1", n)
	}
	r.apply()
	awaitClosed(t, closed)
	r.get(c, "/")
	if n := len(r.dialled()); n != 2 {
		t.Fatalf("%d dials after a commit, want 2", n)
	}

	// A request in flight goes on over the commit; its connection then ends.
	done := make(chan string)
	go func() {
		_, body := r.get(c, "/wait")
		done <- body
	}()
	<-inside
	r.apply()
	release <- true
	if body := <-done; body != "ok" {
		t.Fatalf("the request in flight got %q", body)
	}
	awaitClosed(t, closed)
	before := len(r.dialled())
	r.get(c, "/")
	if n := len(r.dialled()) - before; n != 1 {
		t.Fatalf("%d dials, want 1: a connection of the old revision was used", n)
	}
}

// awaitClosed waits for the end of one upstream connection.
func awaitClosed(t *testing.T, closed <-chan bool) {
	t.Helper()
	select {
	case <-closed:
	case <-time.After(5 * time.Second):
		t.Fatal("an upstream connection of the old revision stays open")
	}
}

func TestHeaders(t *testing.T) {
	r := newRig(t, Limits{})
	var got *http.Request
	r.rule("a", "/", r.target(func(w http.ResponseWriter, req *http.Request) {
		got = req
		w.Header()["Content-Type"] = nil
		w.Header().Set("Connection", "X-Hop")
		w.Header().Set("X-Hop", "1")
		w.Header().Set("X-Stay", "1")
		w.Write([]byte("<html>"))
	}))
	r.apply()
	req, _ := http.NewRequest("GET", "http://"+r.at.String()+"/a%2Fb//c?x=1;y=%zz", nil)
	req.Host = "Shop.Example.com:8080"
	req.Header = http.Header{
		"User-Agent": nil, "X-Forwarded-For": {"198.51.100.1", "198.51.100.2"}, "X-Real-Ip": {"9.9.9.9"}, "X-Forwarded-Proto": {"https"},
		"X-Forwarded-Host": {"h"}, "Connection": {"X-Gone"}, "X-Gone": {"1"}, "Forwarded": {"for=x"}, "Keep-Alive": {"1"},
	}
	res, err := r.client("127.0.0.2").Do(req)
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if got.Host != "Shop.Example.com:8080" || got.RequestURI != "/a%2Fb//c?x=1;y=%zz" {
		t.Errorf("Host %q, target %q", got.Host, got.RequestURI)
	}
	want := http.Header{
		"X-Forwarded-For": {"198.51.100.1, 198.51.100.2, 127.0.0.2"}, "X-Forwarded-Proto": {"http"}, "X-Real-Ip": {"127.0.0.2"},
		"X-Forwarded-Port": {fmt.Sprint(r.at.Port())}, "X-Forwarded-Host": {"h"}, "Forwarded": {"for=x"},
	}
	if fmt.Sprint(got.Header) != fmt.Sprint(want) {
		t.Errorf("target got\n%v, want\n%v", got.Header, want)
	}
	if h := res.Header; h.Get("X-Hop") != "" || h.Get("X-Stay") != "1" || h.Get("Content-Type") != "" {
		t.Errorf("client got %v", h)
	}
}

// HTTP/1.0 knows no Host: the target gets the VIP, not a name of ours.
func TestNoHost(t *testing.T) {
	r := newRig(t, Limits{})
	r.rule("a", "/", r.target(func(w http.ResponseWriter, req *http.Request) { io.WriteString(w, req.Host) }))
	r.apply()
	conn := r.raw()
	io.WriteString(conn, "GET / HTTP/1.0\r\n\r\n")
	res, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	if body, _ := io.ReadAll(res.Body); string(body) != r.at.String() {
		t.Errorf("Host %q, want %v", body, r.at)
	}
}

// Uploads: a client that waits for 100 gets it from the target, and an answer
// that comes before the whole body is not held back.
func TestUploads(t *testing.T) {
	r := newRig(t, Limits{})
	r.rule("a", "/take", r.target(func(w http.ResponseWriter, req *http.Request) {
		n, _ := io.Copy(io.Discard, req.Body)
		fmt.Fprint(w, n)
	}))
	r.rule("a", "/refuse", r.target(func(w http.ResponseWriter, req *http.Request) {
		w.WriteHeader(http.StatusRequestEntityTooLarge)
	}))
	r.apply()
	const head = "POST %s HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\nExpect: 100-continue\r\n\r\n"
	const size = 4 << 20
	for _, c := range []struct {
		path, first, last string
	}{
		{"/take", "100 Continue", "200 OK"},
		{"/refuse", "413 Request Entity Too Large", ""},
	} {
		conn := r.raw()
		fmt.Fprintf(conn, head, c.path, size)
		in := bufio.NewReader(conn)
		res, err := http.ReadResponse(in, nil)
		if err != nil || res.Status != c.first {
			t.Errorf("%s: %v %v", c.path, res, err)
			continue
		}
		if c.last == "" {
			continue
		}
		if _, err := conn.Write(make([]byte, size)); err != nil {
			t.Fatal(err)
		}
		res, err = http.ReadResponse(in, nil)
		if err != nil || res.Status != c.last {
			t.Errorf("%s: %v %v", c.path, res, err)
			continue
		}
		if body, _ := io.ReadAll(res.Body); string(body) != fmt.Sprint(size) {
			t.Errorf("%s: %q", c.path, body)
		}
	}
}

// A client that leaves takes its request to the target with it.
func TestClientLeaves(t *testing.T) {
	r := newRig(t, Limits{})
	inside, left := make(chan bool), make(chan bool)
	r.rule("a", "/", r.target(func(_ http.ResponseWriter, req *http.Request) {
		inside <- true
		<-req.Context().Done()
		left <- true
	}))
	r.apply()
	conn := r.raw()
	io.WriteString(conn, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
	<-inside
	conn.Close()
	<-left
}

// A client that leaves while the gateway still dials ends that: packets in its
// name would go on otherwise for as long as a target may take to answer.
func TestClientLeavesWhileDialling(t *testing.T) {
	r := newRig(t, Limits{Connect: time.Minute})
	dialling, ended := make(chan bool), make(chan error, 1)
	num := r.address(closedPort(t))
	r.hooks[num] = func(ctx context.Context) (net.Conn, error) {
		dialling <- true
		<-ctx.Done()
		ended <- ctx.Err()
		return nil, ctx.Err()
	}
	r.rule("a", "/", num)
	r.apply()
	conn := r.raw()
	io.WriteString(conn, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
	<-dialling
	conn.Close()
	select {
	case err := <-ended:
		if !errors.Is(err, context.Canceled) {
			t.Errorf("the dial ended by %v", err)
		}
	case <-time.After(10 * time.Second):
		t.Error("the gateway dials on, 10 s after its client has left")
	}
}

func TestAnswers(t *testing.T) {
	r := newRig(t, Limits{Connect: 50 * time.Millisecond, Answer: 50 * time.Millisecond})
	ok := r.target(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "ok") })
	silent := r.target(func(_ http.ResponseWriter, req *http.Request) { <-req.Context().Done() })
	reset := r.target(func(w http.ResponseWriter, _ *http.Request) { panic(http.ErrAbortHandler) })
	refused := r.address(closedPort(t))
	lost := r.address(netip.MustParseAddrPort("192.0.2.1:1"))
	r.hooks[lost] = func(ctx context.Context) (net.Conn, error) {
		<-ctx.Done()
		return nil, &net.OpError{Op: "dial", Err: os.ErrDeadlineExceeded}
	}
	r.rule("a", "/ok", ok)
	r.rule("a", "/dir/", ok)
	r.rule("a", "/none")
	r.rule("a", "/unknown", 99)
	r.rule("a", "/silent", silent)
	r.rule("a", "/reset", reset)
	r.rule("a", "/refused", refused)
	r.rule("a", "/lost", lost)
	r.rule("a", "/lost-refused", refused, lost)
	r.apply()
	for _, c := range []struct {
		path     string
		status   int
		location string
	}{
		{"/ok", 200, ""},
		{"/dir?q=1", 301, "/dir/?q=1"},
		{"/nothing", 404, ""},
		{"/none", 503, ""},
		{"/unknown", 503, ""},
		{"/silent", 504, ""},
		{"/reset", 502, ""},
		{"/refused", 502, ""},
		{"/lost", 504, ""},
	} {
		res, err := r.client("127.0.0.2").Get("http://" + r.at.String() + c.path)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if res.StatusCode != c.status || res.Header.Get("Location") != c.location {
			t.Errorf("%s: %d %q, want %d %q", c.path, res.StatusCode, res.Header.Get("Location"), c.status, c.location)
		}
	}
}

func TestNextTarget(t *testing.T) {
	r := newRig(t, Limits{})
	var served atomic.Int32
	good := func(w http.ResponseWriter, req *http.Request) {
		served.Add(1)
		io.Copy(w, req.Body)
	}
	down := r.address(closedPort(t))
	up := r.target(good)
	r.rule("a", "/", down, up)
	r.rule("a", "/cut", r.target(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }), up)
	r.apply()
	for i := range 4 {
		// The body is whole at the second target although the first was tried.
		res, err := r.client("127.0.0.2").Post("http://"+r.at.String()+"/", "text/plain", strings.NewReader("body"))
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(res.Body)
		res.Body.Close()
		if res.StatusCode != 200 || string(body) != "body" {
			t.Fatalf("request %d: %d %q", i, res.StatusCode, body)
		}
	}
	if served.Load() != 4 {
		t.Fatalf("served %d, want 4", served.Load())
	}
	// What may have reached a target is never sent to another.
	c := r.client("127.0.0.2")
	statuses := map[int]int{}
	for range 4 {
		status, _ := r.get(c, "/cut")
		statuses[status]++
	}
	if statuses[502] != 2 || statuses[200] != 2 {
		t.Errorf("got %v, want two 502 and two 200", statuses)
	}
}

func TestWhoIsEligible(t *testing.T) {
	r := newRig(t, Limits{})
	name := func(s string) uint32 {
		return r.target(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, s) })
	}
	a, b, zero := name("a"), name("b"), name("zero")
	r.rule("a", "/", a, b)
	targets := &r.snap.Listeners[0].Rules[0].Targets
	*targets = append(*targets, snapshot.TargetRef{Num: zero, Weight: 0})
	r.apply()
	c := r.client("127.0.0.2")
	seen := func(client *http.Client) string {
		counts := map[string]int{}
		for range 4 {
			_, body := r.get(client, "/")
			counts[body]++
		}
		return fmt.Sprint(counts)
	}
	dead := func(nums ...uint32) {
		r.mu.Lock()
		defer r.mu.Unlock()
		clear(r.dead)
		for _, num := range nums {
			r.dead[num] = true
		}
	}
	for _, step := range []struct {
		dead []uint32
		want string
	}{
		{nil, "map[a:2 b:2]"},
		{[]uint32{a}, "map[b:4]"},
		{[]uint32{a, b}, "map[a:2 b:2]"}, // all unhealthy: all, but never weight 0
	} {
		dead(step.dead...)
		if got := seen(c); got != step.want {
			t.Errorf("dead %v: %s, want %s", step.dead, got, step.want)
		}
	}
	// A target's own instance as the client gets the other target, whichever of
	// its addresses it comes from. It would be served by itself otherwise.
	dead()
	own, err := net.Listen("tcp", "127.0.0.9:0")
	if err != nil {
		t.Fatal(err)
	}
	itself := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "itself") })}
	go itself.Serve(own)
	t.Cleanup(func() { itself.Close() })
	r.snap.Targets[0].Service = netip.MustParseAddrPort(own.Addr().String())
	r.snap.Targets[0].Public = netip.MustParseAddr("127.0.0.10")
	r.snap.Targets[0].Others = []netip.Addr{netip.MustParseAddr("127.0.0.11")}
	r.apply()
	if got := seen(c); got != "map[b:2 itself:2]" {
		t.Errorf("another client: %s", got)
	}
	for _, client := range []string{"127.0.0.9", "127.0.0.10", "127.0.0.11"} {
		if got := seen(r.client(client)); got != "map[b:4]" {
			t.Errorf("hairpin from %s: %s", client, got)
		}
	}
}

func TestStreaming(t *testing.T) {
	r := newRig(t, Limits{})
	r.rule("a", "/", r.target(func(w http.ResponseWriter, req *http.Request) {
		control := http.NewResponseController(w)
		control.EnableFullDuplex()
		in := bufio.NewReader(req.Body)
		for {
			line, err := in.ReadString('\n')
			if err != nil {
				return
			}
			io.WriteString(w, "echo "+line)
			control.Flush()
		}
	}))
	r.apply()
	reader, writer := io.Pipe()
	defer writer.Close()
	req, _ := http.NewRequest("POST", "http://"+r.at.String()+"/", reader)
	res := make(chan *http.Response, 1)
	c := r.client("127.0.0.2")
	go func() {
		got, err := c.Do(req)
		if err != nil {
			t.Error(err)
		}
		res <- got
	}()
	io.WriteString(writer, "one\n")
	got := <-res
	if got == nil {
		t.FailNow()
	}
	defer got.Body.Close()
	out := bufio.NewReader(got.Body)
	for _, word := range []string{"one", "two"} {
		if word != "one" {
			io.WriteString(writer, word+"\n")
		}
		if line, err := out.ReadString('\n'); err != nil || line != "echo "+word+"\n" {
			t.Fatalf("%q %v", line, err)
		}
	}
	writer.Close()
	if rest, err := io.ReadAll(out); err != nil || len(rest) != 0 {
		t.Errorf("%q %v", rest, err)
	}
}

func TestUpgrade(t *testing.T) {
	r := newRig(t, Limits{})
	r.rule("a", "/", r.target(func(w http.ResponseWriter, req *http.Request) {
		if req.Header.Get("Upgrade") != "echo" || req.URL.Path != "/yes" {
			io.WriteString(w, "no "+req.Header.Get("Upgrade"))
			return
		}
		conn, buffered, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
		io.Copy(conn, buffered)
	}))
	r.apply()
	conn := r.raw()
	in := bufio.NewReader(conn)
	head := func(path, protocol string) string {
		return "GET " + path + " HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: " + protocol + "\r\n\r\n"
	}
	// A target that declines leaves an ordinary connection.
	for _, protocol := range []string{"echo", "h2c"} {
		io.WriteString(conn, head("/no", protocol))
		res, err := http.ReadResponse(in, nil)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(res.Body)
		want := "no " + protocol
		if protocol == "h2c" {
			want = "no "
		}
		if string(body) != want {
			t.Errorf("%q, want %q", body, want)
		}
	}
	// What is sent ahead of the answer is not lost and not judged as HTTP.
	io.WriteString(conn, head("/yes", "echo")+"early\n\x00")
	res, err := http.ReadResponse(in, nil)
	if err != nil || res.StatusCode != http.StatusSwitchingProtocols {
		t.Fatalf("%v %v", res, err)
	}
	io.WriteString(conn, "late")
	got := make([]byte, 11)
	if _, err := io.ReadFull(in, got); err != nil || string(got) != "early\n\x00late" {
		t.Fatalf("%q %v", got, err)
	}
}

// raw is a client's connection without a client.
func (r *rig) raw() net.Conn {
	r.t.Helper()
	conn, err := net.Dial("tcp", r.at.String())
	if err != nil {
		r.t.Fatal(err)
	}
	conn.SetDeadline(time.Now().Add(10 * time.Second))
	r.t.Cleanup(func() { conn.Close() })
	return conn
}

func TestStrictOnTheWire(t *testing.T) {
	r := newRig(t, Limits{Head: 50 * time.Millisecond, Stall: 50 * time.Millisecond, HeadBytes: 1000})
	var paths []string
	var mu sync.Mutex
	r.rule("a", "/", r.target(func(w http.ResponseWriter, req *http.Request) {
		mu.Lock()
		paths = append(paths, req.RequestURI)
		mu.Unlock()
		body, _ := io.ReadAll(req.Body)
		w.Write(body)
	}))
	r.apply()
	const smuggled = "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"
	for _, c := range []struct {
		name, send string
		statuses   string
	}{
		{"pipeline", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhiPOST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nho\r\n0\r\n\r\nGET / HTTP/1.0\r\n\r\n", "200 hi 200 ho 200 "},
		{"good then both framings", "GET / HTTP/1.1\r\nHost: a\r\n\r\nPOST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + smuggled, "200  400 Bad Request\n"},
		{"bare LF", "GET / HTTP/1.1\nHost: a\n\n" + smuggled, "400 Bad Request\n"},
		{"large", "GET / HTTP/1.1\r\nHost: a\r\nX: " + strings.Repeat("x", 2000) + "\r\n\r\n" + smuggled, "431 Request Header Fields Too Large\n"},
		{"slow head", "GET / HTTP/1.1\r\nHo", "408 Request Timeout\n"},
		{"slow second head", "GET / HTTP/1.1\r\nHost: a\r\n\r\nGET", "200  408 Request Timeout\n"},
		{"slow body", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nab", "408 Request Timeout\n"},
		{"bad chunk", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\nho\r\n0\r\n\r\n" + smuggled, "400 Bad Request\n"},
		{"connect", "CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n" + smuggled, "405 Method Not Allowed\n"},
		{"asterisk", "OPTIONS * HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", "404 Not Found\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			conn := r.raw()
			io.WriteString(conn, c.send)
			in := bufio.NewReader(conn)
			var got []string
			for {
				res, err := http.ReadResponse(in, nil)
				if err != nil {
					if !errors.Is(err, io.ErrUnexpectedEOF) {
						t.Errorf("the connection ended with %v", err)
					}
					break
				}
				body, _ := io.ReadAll(res.Body)
				got = append(got, fmt.Sprintf("%d %s", res.StatusCode, body))
			}
			if s := strings.Join(got, " "); s != c.statuses {
				t.Errorf("got %q, want %q", s, c.statuses)
			}
		})
	}
	mu.Lock()
	defer mu.Unlock()
	for _, path := range paths {
		if path == "/smuggled" {
			t.Error("a smuggled request reached the target")
		}
	}
}

func TestStageAndCommit(t *testing.T) {
	r := newRig(t, Limits{})
	r.rule("a", "/", r.target(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "one") }))
	r.apply()
	c := r.client("127.0.0.2")
	if err := r.proxy.Commit(t.Context(), 7); err == nil {
		t.Error("a revision that was never staged was committed")
	}
	if err := r.proxy.Commit(t.Context(), 1); err != nil {
		t.Errorf("the revision in force: %v", err)
	}

	// An address that can't be bound: the error names it, and nothing changed.
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	second := *r.snap
	second.Revision = 2
	free := closedPort(t)
	at := netip.MustParseAddrPort(taken.Addr().String())
	second.Listeners = append(second.Listeners[:1:1],
		snapshot.Listener{Layer7: true, VIPs: []netip.Addr{free.Addr()}, Port: free.Port()},
		snapshot.Listener{Layer7: true, VIPs: []netip.Addr{at.Addr()}, Port: at.Port()},
		snapshot.Listener{VIPs: []netip.Addr{at.Addr()}, Port: 1}) // layer 4 is not ours
	err = r.proxy.Stage(t.Context(), &second)
	if err == nil || !strings.Contains(err.Error(), at.String()) || !errors.Is(err, syscall.EADDRINUSE) {
		t.Fatalf("Stage: %v", err)
	}
	if err := r.proxy.Commit(t.Context(), 2); err == nil {
		t.Fatal("a revision whose Stage failed was committed")
	}
	if conn, err := net.Dial("tcp", free.String()); err == nil {
		conn.Close()
		t.Error("the other address stayed open")
	}
	if status, body := r.get(c, "/"); status != 200 || body != "one" {
		t.Errorf("after a failed Stage: %d %q", status, body)
	}

	// Once it is free the same snapshot comes in force; the next one drops it.
	taken.Close()
	if err := r.proxy.Stage(t.Context(), &second); err != nil {
		t.Fatal(err)
	}
	if err := r.proxy.Stage(t.Context(), &second); err != nil {
		t.Fatalf("staging again: %v", err)
	}
	if err := r.proxy.Commit(t.Context(), 2); err != nil {
		t.Fatal(err)
	}
	res, err := c.Get("http://" + at.String() + "/")
	if err != nil || res.StatusCode != 503 {
		t.Fatalf("a listener without rules: %v %v", res, err)
	}
	res.Body.Close()
	third := *r.snap
	third.Revision = 3
	if err := r.proxy.Stage(t.Context(), &third); err != nil {
		t.Fatal(err)
	}
	if err := r.proxy.Commit(t.Context(), 3); err != nil {
		t.Fatal(err)
	}
	if conn, err := net.Dial("tcp", at.String()); err == nil {
		conn.Close()
		t.Error("a listener that is gone still accepts")
	}
}

// A request without body on a kept connection that died unnoticed is sent
// again to the same target; one with a body is not.
func TestKeptConnectionThatDied(t *testing.T) {
	r := newRig(t, Limits{})
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	t.Cleanup(func() { listener.Close(); wg.Wait() })
	wg.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			// One answer per connection, and at the second request it dies.
			wg.Go(func() {
				defer conn.Close()
				in := bufio.NewReader(conn)
				if _, err := http.ReadRequest(in); err != nil {
					return
				}
				io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
				http.ReadRequest(in)
			})
		}
	})
	r.rule("a", "/", r.address(netip.MustParseAddrPort(listener.Addr().String())))
	r.apply()
	c := r.client("127.0.0.2")
	for range 3 {
		if status, _ := r.get(c, "/"); status != 200 {
			t.Errorf("GET: %d", status)
		}
	}
	res, err := c.Post("http://"+r.at.String()+"/", "text/plain", strings.NewReader("once"))
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if res.StatusCode != 502 {
		t.Errorf("POST: %d, want 502", res.StatusCode)
	}
}

func TestPseudoHost(t *testing.T) {
	for _, client := range []string{"203.0.113.10", "2001:db8::1"} {
		addr := netip.MustParseAddr(client)
		got, num, err := parsePseudoHost(pseudoHost(addr, 77) + ":80")
		if got != addr || num != 77 || err != nil {
			t.Errorf("%v: %v %d %v", addr, got, num, err)
		}
	}
	for _, address := range []string{"", "example.com:80", "00.1:80", strings.Repeat("0", 32) + ".x:80"} {
		if _, _, err := parsePseudoHost(address); err == nil {
			t.Errorf("%q was accepted", address)
		}
	}
}

// closedPort is a loopback address where nobody listens.
func closedPort(t *testing.T) netip.AddrPort {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).AddrPort()
}
