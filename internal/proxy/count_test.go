// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sallyport/sallyport/internal/flow"
)

// counted is what was answered for each rule, as "rule: class×count …".
func (r *rig) counted() []string {
	var all []string
	for _, c := range r.proxy.Requests() {
		text := string(c.Location) + ":"
		for class, n := range c.Answers {
			if n > 0 {
				text += fmt.Sprintf(" %s×%d", flow.StatusWord(class), n)
			}
		}
		all = append(all, text)
	}
	slices.Sort(all)
	return all
}

// Every request is counted once, under the rule that took it, by what the
// client was answered.
func TestRequestsAreCounted(t *testing.T) {
	r := newRig(t, Limits{})
	status := http.StatusOK
	num := r.target(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status) })
	dead := r.target(nil)
	r.hooks[dead] = func(context.Context) (net.Conn, error) { return nil, &net.OpError{Op: "dial", Err: io.ErrClosedPipe} }
	r.rule("shop.example.com", "/", num)
	r.rule("shop.example.com", "/down/", dead)
	r.rule("shop.example.com", "/none/")
	r.apply()
	c := r.client("127.0.0.2")
	for path, code := range map[string]int{"/a": 200, "/b": 301, "/c": 404, "/d": 503} {
		status = code
		if got := r.ask(c, "shop.example.com", path); got != code {
			t.Errorf("%s answers %d, want %d", path, got, code)
		}
	}
	r.ask(c, "shop.example.com", "/down/x")
	r.ask(c, "shop.example.com", "/none/x")
	r.ask(c, "shop.example.com", "/down") // led to the rule's own URL by the proxy
	conn, err := net.Dial("tcp", r.at.String())
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprint(conn, "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n")
	io.Copy(io.Discard, conn)
	conn.Close()
	want := []string{": 3xx×1 4xx×1", "shop.example.com/: 2xx×1 3xx×1 4xx×1 5xx×1", "shop.example.com/down/: 5xx×1", "shop.example.com/none/: 5xx×1"}
	if got := r.counted(); !slices.Equal(got, want) {
		t.Errorf("counted %q, want %q", got, want)
	}
	before := r.proxy.Requests()[0].Baseline
	r.apply()
	if got := r.counted(); !slices.Equal(got, want) || before.IsZero() {
		t.Errorf("a commit changed the counters to %q, since %v", got, before)
	}
	r.snap.Listeners[0].Rules = r.snap.Listeners[0].Rules[:1]
	r.apply()
	if got := r.counted(); !slices.Equal(got, want[:2]) {
		t.Errorf("after a rule went: %q, want %q", got, want[:2])
	}
}

// A client that leaves before there is an answer is counted as such, once.
func TestRequestsOfThoseWhoLeave(t *testing.T) {
	r := newRig(t, Limits{})
	asked := make(chan struct{})
	num := r.target(func(_ http.ResponseWriter, q *http.Request) {
		close(asked)
		<-q.Context().Done()
	})
	r.rule("shop.example.com", "/", num)
	r.apply()
	conn, err := net.Dial("tcp", r.at.String())
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprint(conn, "GET / HTTP/1.1\r\nHost: shop.example.com\r\n\r\n")
	<-asked
	conn.Close()
	deadline := time.Now().Add(10 * time.Second)
	for strings.Join(r.counted(), "") != "shop.example.com/: none×1" {
		if time.Now().After(deadline) {
			t.Fatalf("counted %q", r.counted())
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// ask requests a path of a host and returns the status.
func (r *rig) ask(c *http.Client, host, path string) int {
	r.t.Helper()
	q, err := http.NewRequest("GET", "http://"+r.at.String()+path, nil)
	if err != nil {
		r.t.Fatal(err)
	}
	q.Host = host
	answer, err := c.Do(q)
	if err != nil {
		r.t.Fatal(err)
	}
	io.Copy(io.Discard, answer.Body)
	answer.Body.Close()
	return answer.StatusCode
}
