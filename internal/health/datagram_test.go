// SPDX-License-Identifier: Apache-2.0

package health

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sallyport/sallyport/internal/lb"
	"github.com/sallyport/sallyport/internal/snapshot"
)

// A peerConn is a connection whose other end answers at once with text or an
// error, or never.
type peerConn struct {
	net.Conn
	sent     string
	answer   string
	err      error
	deadline chan struct{}
	timer    *time.Timer
}

func (c *peerConn) Write(b []byte) (int, error) { c.sent += string(b); return len(b), nil }
func (c *peerConn) Close() error                { c.SetReadDeadline(time.Time{}); return nil }

func (c *peerConn) SetDeadline(t time.Time) error { return c.SetReadDeadline(t) }

func (c *peerConn) SetReadDeadline(t time.Time) error {
	if c.timer != nil {
		c.timer.Stop()
	}
	if !t.IsZero() {
		c.timer = time.AfterFunc(time.Until(t), func() { close(c.deadline) })
	}
	return nil
}

func (c *peerConn) Read(b []byte) (int, error) {
	switch {
	case c.err != nil:
		return 0, &net.OpError{Op: "read", Err: c.err}
	case c.answer == "":
		<-c.deadline
		return 0, os.ErrDeadlineExceeded
	}
	n := copy(b, c.answer)
	c.answer = c.answer[n:]
	if c.answer == "" {
		c.err = io.EOF
	}
	return n, nil
}

// What counts as healthy, by protocol and type of check.
func TestDatagramsAndContents(t *testing.T) {
	text := lb.HealthCheck{Type: lb.CheckCustom, ContextType: "TEXT", SendContext: "ruok", RecvContext: "imok"}
	hex := lb.HealthCheck{Type: lb.CheckCustom, ContextType: "HEX", SendContext: "00FF", RecvContext: "696D6F6B"}
	port, ping := lb.HealthCheck{Type: lb.CheckCustom}, lb.HealthCheck{Type: lb.CheckPing}
	closed := error(syscall.ECONNREFUSED)
	for _, row := range []struct {
		name   string
		proto  lb.Proto
		check  lb.HealthCheck
		answer string
		err    error
		lost   bool // the echo
		sent   string
		kind   string
		took   time.Duration
	}{
		{"echo and silence", lb.UDP, ping, "", nil, false, marker, "", leastPatience},
		{"echo and an answer", lb.UDP, ping, "x", nil, false, marker, "", 0},
		{"echo and a closed port", lb.UDP, ping, "", closed, false, marker, KindRefused, 0},
		{"no echo", lb.UDP, ping, "x", nil, true, marker, KindTimeout, 2 * time.Second},
		{"open port", lb.UDP, port, "", nil, true, marker, "", 2 * time.Second},
		{"closed port", lb.UDP, port, "", closed, true, marker, KindRefused, 0},
		{"right datagram", lb.UDP, text, "imok", nil, true, "ruok", "", 0},
		{"other datagram", lb.UDP, text, "imok!", nil, true, "ruok", KindAnswer, 0},
		{"no datagram", lb.UDP, text, "", nil, true, "ruok", KindTimeout, 2 * time.Second},
		{"bytes", lb.UDP, hex, "imok", nil, true, "\x00\xff", "", 0},
		{"right stream", lb.TCP, text, "imok and more", nil, true, "ruok", "", 0},
		{"other stream", lb.TCP, text, "imno", nil, true, "ruok", KindAnswer, 0},
		{"short stream", lb.TCP, text, "im", nil, true, "ruok", KindAnswer, 0},
		{"silent stream", lb.TCP, text, "", nil, true, "ruok", KindTimeout, 2 * time.Second},
		{"reset stream", lb.TCP, text, "", syscall.ECONNRESET, true, "ruok", KindRefused, 0},
	} {
		t.Run(row.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				conn := &peerConn{answer: row.answer, err: row.err, deadline: make(chan struct{})}
				dial := func(_ context.Context, _, _ netip.AddrPort, mark uint32) (net.Conn, error) {
					if mark != snapshot.TargetMark(7) {
						return nil, errors.New("another mark")
					}
					return conn, nil
				}
				p := New(Options{Dial: dial, Datagram: dial, Ping: func(ctx context.Context, _, _ netip.Addr, _ uint32) error {
					if row.lost {
						<-ctx.Done()
					}
					return ctx.Err()
				}})
				row.check.TimeOut = 2
				start := time.Now()
				got := p.probe(t.Context(), order{num: 7, proto: row.proto, from: netip.MustParseAddr("192.0.2.1"), to: netip.MustParseAddrPort("10.200.0.5:53"), check: row.check})
				if took := time.Since(start); took != row.took {
					t.Errorf("took %v, want %v", took, row.took)
				}
				if conn.sent != row.sent {
					t.Errorf("sent %q, want %q", conn.sent, row.sent)
				}
				switch {
				case row.kind == "" && got != nil:
					t.Errorf("failed: %+v", got)
				case row.kind != "" && (got == nil || got.kind != row.kind || !strings.Contains(got.text, "10.200.0.5")):
					t.Errorf("got %+v, want %s", got, row.kind)
				}
			})
		})
	}
}
