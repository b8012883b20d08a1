// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/sallyport/sallyport/internal/cloudapi"
	"github.com/sallyport/sallyport/internal/lab"
)

const (
	client1 = "203.0.113.10"
	client2 = "198.51.100.20"
	client3 = "203.0.113.30"

	// limit is how long one request may take. It is longer than TCP needs to
	// repair one lost packet, and what took so long is counted apart.
	limit = 5 * time.Second
	late  = 900 * time.Millisecond // the first retransmission of a SYN comes after 1 s

	fresh = "new connection" // the kind of traffic whose rate counts
)

// A sight is the instances' answer.
type sight struct {
	Instance string
	Peer     netip.Addr
	Port     uint16
}

// ask sends one request on a connection and reads the answer.
func ask(c net.Conn, r *bufio.Reader, path string) (sight, error) {
	var s sight
	if err := c.SetDeadline(time.Now().Add(limit)); err != nil {
		return s, err
	}
	if _, err := fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: www.example.com\r\n\r\n", path); err != nil {
		return s, err
	}
	res, err := http.ReadResponse(r, nil)
	if err != nil {
		return s, err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		return s, err
	}
	if res.StatusCode != http.StatusOK {
		return s, errors.New(res.Status)
	}
	return s, json.Unmarshal(body, &s)
}

// once asks on a connection of its own.
func once(host, address, path string) (sight, error) {
	c, err := lab.Dial(host, "tcp4", address, limit)
	if err != nil {
		return sight{}, err
	}
	defer c.Close()
	return ask(c, bufio.NewReader(c), path)
}

// A load is what clients have seen while something happened to the processes.
type load struct {
	mu      sync.Mutex
	served  map[string]int // by kind of traffic
	late    int            // served, but not by their first packet
	longest time.Duration
	tried   map[string]int // refused, by client
	bytes   int64          // downloaded
	faults  []string
	until   time.Time // end waits for it: zero unless new connections are made

	cancel context.CancelFunc
	wg     sync.WaitGroup
}

func (l *load) fault(format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.faults = append(l.faults, time.Now().Format("15:04:05.000 ")+fmt.Sprintf(format, args...))
}

func (l *load) good(kind string, took time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.served[kind]++
	l.longest = max(l.longest, took)
	if took > late {
		l.late++
	}
}

func (l *load) count(kind string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.served[kind]
}

// every starts fn at a steady pace, whatever became of the one before.
func (l *load) every(ctx context.Context, pace time.Duration, fn func()) {
	l.wg.Go(func() {
		ticker := time.NewTicker(pace)
		defer ticker.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-ticker.C:
				l.wg.Go(fn)
			}
		}
	})
}

// fresh makes requests of client-1, each on a connection of its own.
func (l *load) fresh(ctx context.Context, kind, address string, pace time.Duration) {
	l.until = time.Now().Add(wholeLoad)
	l.every(ctx, pace, func() {
		began := time.Now()
		s, err := once("client-1", address, "/load")
		switch {
		case err != nil:
			l.fault("%s, begun %v before: %v", kind, time.Since(began).Round(time.Millisecond), err)
		case s.Peer.String() != client1:
			l.fault("%s: the instance saw %v", kind, s.Peer)
		default:
			l.good(kind, time.Since(began))
		}
	})
}

// warm makes requests of client-1 on one connection.
func (l *load) warm(ctx context.Context, kind, address string) {
	l.wg.Go(func() {
		c, err := lab.Dial("client-1", "tcp4", address, limit)
		if err != nil {
			l.fault("%s: %v", kind, err)
			return
		}
		defer c.Close()
		r := bufio.NewReader(c)
		for ctx.Err() == nil {
			began := time.Now()
			if _, err := ask(c, r, "/load"); err != nil {
				l.fault("%s: %v", kind, err)
				return
			}
			l.good(kind, time.Since(began))
			select {
			case <-ctx.Done():
			case <-time.After(10 * time.Millisecond):
			}
		}
	})
}

// download reads one long answer, a few megabytes a second, until ctx ends.
func (l *load) download(ctx context.Context, address string) {
	l.wg.Go(func() {
		c, err := lab.Dial("client-1", "tcp4", address, limit)
		if err != nil {
			l.fault("download: %v", err)
			return
		}
		defer c.Close()
		if _, err := fmt.Fprintf(c, "GET /download?bytes=%d HTTP/1.1\r\nHost: www.example.com\r\n\r\n", int64(1)<<40); err != nil {
			l.fault("download: %v", err)
			return
		}
		buf := make([]byte, 32<<10)
		for ctx.Err() == nil {
			_ = c.SetReadDeadline(time.Now().Add(limit))
			n, err := io.ReadFull(c, buf)
			if err != nil {
				l.fault("download after %d bytes: %v", l.bytes, err)
				return
			}
			l.mu.Lock()
			l.bytes += int64(n)
			l.mu.Unlock()
			select {
			case <-ctx.Done():
			case <-time.After(10 * time.Millisecond):
			}
		}
	})
}

// refused keeps trying from a host that must never get a connection.
func (l *load) refused(ctx context.Context, host, address string) {
	l.every(ctx, 25*time.Millisecond, func() {
		c, err := lab.Dial(host, "tcp4", address, late)
		var timeout net.Error
		switch {
		case err == nil:
			l.fault("ADMITTED: %s has a connection to %s", host, address)
			c.Close()
		case !errors.As(err, &timeout) || !timeout.Timeout():
			l.fault("%s gets an answer from %s instead of silence: %v", host, address, err)
		}
		l.mu.Lock()
		l.tried[host]++
		l.mu.Unlock()
	})
}

// standard is the load of the stories about faults: clients of layer 4, with
// 250 new connections a second, and one that gate 1 refuses.
func (s *stage) standard(ctx context.Context, l *load) {
	l.fresh(ctx, fresh, s.tcp(), 4*time.Millisecond)
	l.warm(ctx, "request on one connection", s.tcp())
	l.download(ctx, s.tcp())
	l.refused(ctx, "client-2", s.tcp())
	l.refused(ctx, "client-2", s.http())
}

func newLoad(ctx context.Context) (*load, context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	return &load{served: map[string]int{}, tried: map[string]int{}, cancel: cancel}, ctx
}

// wholeLoad is how long a load of new connections lasts at least; the soak's
// lasts longer.
const wholeLoad = 12 * time.Second

// end stops the load, once it has lasted, and reports it: nothing may have failed.
func (l *load) end(t *testing.T) {
	t.Helper()
	time.Sleep(time.Until(l.until))
	l.cancel()
	l.wg.Wait()
	t.Logf("served %v, %.0f MB downloaded, longest request %v, %d needed a second packet; refused %v",
		l.served, float64(l.bytes)/1e6, l.longest.Round(time.Millisecond), l.late, l.tried)
	for i, f := range l.faults {
		if i == 40 {
			t.Errorf("… and %d more", len(l.faults)-i)
			break
		}
		t.Error(f)
	}
	for kind, n := range l.served {
		if n == 0 {
			t.Errorf("no %s was served", kind)
		}
	}
}

// A writer changes rules through the API, again and again.
type writer struct {
	lab    *Lab
	group  string
	begins chan struct{} // gets one when a change is about to be sent, if somebody waits
	may    string        // code of the refusals that are in order; "": none are

	mu     sync.Mutex
	denied []string // sources of the rules whose writing was refused, with that code
	acked  []string // sources of the rules whose writing was acknowledged
	broken int      // attempts that ended without an answer
	fault  error
}

// run writes until ctx ends. A change whose answer was lost is sent again.
func (w *writer) run(ctx context.Context, pace time.Duration) {
	for n := 0; ctx.Err() == nil; n++ {
		source := fmt.Sprintf("198.18.%d.%d/32", n/250, n%250)
		for first := true; ctx.Err() == nil; first = false {
			select {
			case w.begins <- struct{}{}:
			default:
			}
			err := w.lab.call(ctx, "vpc", "CreateSecurityGroupPolicies", policies(w.group, Accept("TCP", "80", source)), nil)
			var refusal *cloudapi.Error
			w.mu.Lock()
			switch {
			case err == nil:
				w.acked = append(w.acked, source)
			case !first && errors.As(err, &refusal) && refusal.Code == "UnsupportedOperation.DuplicatePolicy":
				// The attempt before wrote it and died before it could say so.
				w.acked = append(w.acked, source)
			case ctx.Err() != nil:
			case errors.As(err, &refusal) && refusal.Code == w.may:
				if first { // else an attempt without an answer may have written it
					w.denied = append(w.denied, source)
				}
			case errors.As(err, &refusal):
				w.fault = err
			default:
				w.broken++
			}
			w.mu.Unlock()
			if err == nil || refusal != nil {
				break
			}
			time.Sleep(time.Millisecond)
		}
		select {
		case <-ctx.Done():
		case <-time.After(pace):
		}
	}
}

// check finds every acknowledged rule in the group and removes them.
func (w *writer) check(t *testing.T) {
	t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.fault != nil {
		t.Errorf("a change was refused: %v", w.fault)
	}
	var out struct {
		SecurityGroupPolicySet struct{ Ingress []struct{ CidrBlock string } }
	}
	if err := w.lab.Do(t.Context(), "vpc", "DescribeSecurityGroupPolicies", map[string]any{"SecurityGroupId": w.group}, &out); err != nil {
		t.Fatal(err)
	}
	var there []string
	for _, p := range out.SecurityGroupPolicySet.Ingress {
		there = append(there, p.CidrBlock)
	}
	for _, source := range w.acked {
		if !slices.Contains(there, source) {
			t.Errorf("LOST: the rule for %s was acknowledged and is not there", source)
		}
	}
	for _, source := range w.denied {
		if slices.Contains(there, source) {
			t.Errorf("the rule for %s was refused and is there", source)
		}
	}
	t.Logf("%d changes acknowledged, %d refused; %d attempts broke off", len(w.acked), len(w.denied), w.broken)
}
