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
	"syscall"
	"time"

	"github.com/sallyport/sallyport/internal/lb"
	"github.com/sallyport/sallyport/internal/snapshot"
)

// firstSpread is over how long the first probes of many new targets are
// spread. Later ones keep the distance.
const firstSpread = 200 * time.Millisecond

// run probes t until ctx ends, one probe at a time. Nothing is shared with other
// targets' probes: of one that lets them wait, nobody else takes note.
func (p *Prober) run(ctx context.Context, t *target) {
	// A fixed place per target (the fractional part of num times the golden
	// ratio) is as even as chance, and the same at every start.
	wait := time.Duration(uint64(t.order.num*2654435769) * uint64(firstSpread) >> 32)
	interval := time.Duration(t.order.check.IntervalTime) * time.Second
	for {
		if !pause(ctx, wait) {
			return
		}
		start := time.Now()
		failure := p.probe(ctx, t.order)
		if ctx.Err() != nil {
			return
		}
		p.count(t, failure)
		// A layer-7 window has the time outs in it as well.
		wait = interval
		if failure == nil || t.order.check.Type != lb.CheckHTTP {
			wait = max(0, interval-time.Since(start))
		}
	}
}

// pause reports whether d has passed with ctx still on.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return ctx.Err() == nil
	case <-ctx.Done():
		return false
	}
}

// count adds a probe to its target's tally and tells what that changed.
func (p *Prober) count(t *target, failure *failure) {
	p.telling.Lock()
	defer p.telling.Unlock()
	p.mu.Lock()
	if p.targets[t.order.num] != t {
		p.mu.Unlock()
		return // dropped or replaced while the probe was under way
	}
	before := t.result
	state := t.tally.count(before.State, failure == nil, t.order.check, time.Now())
	now := Result{Target: before.Target, State: state, Since: before.Since}
	if state != before.State {
		now.Since = time.Now()
	}
	if state == Dead {
		now.Kind, now.Text = before.Kind, before.Text
		if failure != nil {
			now.Kind, now.Text = failure.kind, failure.text
		}
	}
	t.become(now)
	now = t.result
	share := t.share(time.Now())
	p.mu.Unlock()
	if share != WholeShare { // before it gets its first flow
		p.options.Slow(now.Target, share)
	}
	if now != before {
		p.options.Report(now)
	}
}

// A tally counts what contradicts a state.
type tally struct {
	good, bad int // in a row; one of them is 0
	falls     falls
}

// count returns the state after one more probe: HealthNum successes in a row
// make a target Alive (more when it keeps falling), UnHealthNum failures in a
// row make it Dead.
func (t *tally) count(state State, ok bool, check lb.HealthCheck, now time.Time) State {
	if ok {
		t.good, t.bad = t.good+1, 0
		if t.good >= check.HealthNum*t.falls.factor(now) {
			return Alive
		}
		return state
	}
	t.good, t.bad = 0, t.bad+1
	if t.bad >= check.UnHealthNum {
		if state == Alive {
			t.falls.add(now)
		}
		return Dead
	}
	return state
}

// A failure is why a probe did not succeed.
type failure struct {
	kind, text string
}

// probe makes one probe, in at most TimeOut; nil is success.
func (p *Prober) probe(ctx context.Context, o order) *failure {
	ctx, cancel := context.WithTimeout(ctx, time.Duration(o.check.TimeOut)*time.Second)
	defer cancel()
	if o.proto == lb.UDP {
		return p.probeUDP(ctx, o)
	}
	conn, err := p.options.Dial(ctx, netip.AddrPortFrom(o.from, 0), o.to, snapshot.TargetMark(o.num))
	if err != nil {
		return failureOf(o, err)
	}
	defer conn.Close()
	// RST in place of FIN: nothing lingers on either side.
	if linger, ok := conn.(interface{ SetLinger(sec int) error }); ok {
		linger.SetLinger(0)
	}
	stop := context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	switch o.check.Type {
	case lb.CheckTCP:
		return nil
	case lb.CheckCustom:
		return askCustom(conn, o)
	}
	return askHTTP(conn, o)
}

// maxHead bounds what is read of an answer, in bytes.
const maxHead = 64 << 10

func askHTTP(conn net.Conn, o order) *failure {
	version := o.check.HTTPVersion
	if version != "HTTP/1.0" {
		version = "HTTP/1.1"
	}
	_, err := fmt.Fprintf(conn, "%s %s %s\r\nHost: %s\r\nUser-Agent: clb-healthcheck\r\nAccept: */*\r\nConnection: close\r\n\r\n",
		o.check.HTTPMethod, o.check.HTTPPath, version, o.host)
	if err != nil {
		return failureOf(o, err)
	}
	res, err := http.ReadResponse(bufio.NewReader(io.LimitReader(conn, maxHead)), &http.Request{Method: o.check.HTTPMethod})
	if err != nil {
		var timeout net.Error
		if errors.As(err, &timeout) {
			return failureOf(o, err)
		}
		return &failure{KindAnswer, fmt.Sprintf("%v took the connection but did not answer %s %s in HTTP.", o.to, o.check.HTTPMethod, o.check.HTTPPath)}
	}
	// The connection is closed with the rest of the answer unread.
	if !accepts(o.check.HTTPCode, res.StatusCode) {
		return &failure{KindAnswer, fmt.Sprintf("%s %s at %v answered %d; the check accepts %s.",
			o.check.HTTPMethod, o.check.HTTPPath, o.to, res.StatusCode, classes(o.check.HTTPCode))}
	}
	return nil
}

// accepts reads the mask: 1 is 1xx, 2 is 2xx, 4 is 3xx, 8 is 4xx, 16 is 5xx;
// 0 accepts them all.
func accepts(mask, status int) bool {
	class := status / 100
	if class < 1 || class > 5 {
		return false
	}
	return mask == 0 || mask&(1<<(class-1)) != 0
}

func classes(mask int) string {
	var names []string
	for class := 1; class <= 5; class++ {
		if accepts(mask, class*100) {
			names = append(names, fmt.Sprintf("%dxx", class))
		}
	}
	return strings.Join(names, ", ")
}

// failureOf puts an error of the network into words. Whatever is not a reset
// means that nothing came back, as with a gate that drops.
func failureOf(o order, err error) *failure {
	var timeout net.Error
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return &failure{KindRefused, fmt.Sprintf("%v refused the connection: nothing listens there.", o.to)}
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return &failure{KindRefused, fmt.Sprintf("%v reset the connection.", o.to)}
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		return &failure{KindTimeout, fmt.Sprintf("No answer from %v within %d s, probing from %v.", o.to, o.check.TimeOut, o.from)}
	}
	return &failure{KindTimeout, fmt.Sprintf("%v could not be reached from %v: %v.", o.to, o.from, err)}
}
