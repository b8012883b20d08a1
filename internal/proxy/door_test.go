// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"
)

// A slowListener accepts nothing more while it is held.
type slowListener struct {
	*net.TCPListener
	held    *atomic.Bool
	release chan struct{}
}

func (l slowListener) Accept() (net.Conn, error) {
	if l.held.Load() {
		<-l.release
	}
	return l.TCPListener.Accept()
}

// Nothing that a client has begun breaks when the proxy ends: neither a
// connection that nobody has accepted yet, nor a request whose head is not
// whole. What it has not begun waits for whoever listens next.
func TestCloseBreaksNothing(t *testing.T) {
	r := newRig(t, Limits{})
	slow := slowListener{held: &atomic.Bool{}, release: make(chan struct{})}
	listen := r.proxy.options.Listen
	r.proxy.options.Listen = func(ctx context.Context, at netip.AddrPort) (net.Listener, error) {
		l, err := listen(ctx, at)
		if err == nil {
			slow.TCPListener = l.(*net.TCPListener)
		}
		return slow, err
	}
	r.rule("", "/", r.target(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "hello") }))
	r.apply()

	begun := r.raw() // accepted, used, and in the middle of its next request
	answers := bufio.NewReader(begun)
	fmt.Fprint(begun, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
	wantAnswer(t, answers)
	slow.held.Store(true)
	fmt.Fprint(begun, "GET / HTTP/1.1\r\nHost:")
	var waiting []net.Conn // the first is taken by the Accept that is under way
	for range 4 {
		c := r.raw()
		fmt.Fprint(c, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
		waiting = append(waiting, c)
	}
	for r.proxy.heads.Load() == 0 {
		time.Sleep(time.Millisecond)
	}

	ended := make(chan error, 1)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	go func() { ended <- r.proxy.Close(ctx) }()
	for { // until the door is shut
		c, err := net.DialTimeout("tcp", r.at.String(), 50*time.Millisecond)
		if err != nil {
			break
		}
		c.Close()
	}
	close(slow.release)
	fmt.Fprint(begun, " a\r\n\r\n")
	wantAnswer(t, answers)
	for _, c := range waiting {
		wantAnswer(t, bufio.NewReader(c))
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if _, err := net.DialTimeout("tcp", r.at.String(), 50*time.Millisecond); err == nil {
		t.Error("it listens still")
	}
}

func wantAnswer(t *testing.T, from *bufio.Reader) {
	t.Helper()
	res, err := http.ReadResponse(from, nil)
	if err != nil {
		t.Errorf("a request broke off: %v", err)
		return
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		t.Errorf("answered with %s", res.Status)
	}
}

// A head that is given up is no more waited for.
func TestHeadsAreCounted(t *testing.T) {
	r := newRig(t, Limits{})
	r.rule("", "/", r.target(func(http.ResponseWriter, *http.Request) {}))
	r.apply()
	c := r.raw()
	fmt.Fprint(c, "GET / HT")
	for _, want := range []int64{1, 0} {
		deadline := time.Now().Add(5 * time.Second)
		for r.proxy.heads.Load() != want && time.Now().Before(deadline) {
			time.Sleep(time.Millisecond)
		}
		if got := r.proxy.heads.Load(); got != want {
			t.Fatalf("%d heads are under way, want %d", got, want)
		}
		c.Close()
	}
}
