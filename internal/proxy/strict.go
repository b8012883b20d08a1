// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"sync"
	"time"
)

// A strictListener puts a strictConn around every client's connection.
type strictListener struct {
	net.Listener
	proxy  *Proxy
	at     netip.AddrPort
	config *tls.Config
}

// Accept never returns anything but a *strictConn.
func (l strictListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	conn, secure := l.proxy.secure(l.at, conn, l.config)
	return &strictConn{Conn: conn, limits: l.proxy.limits, heads: &l.proxy.heads, tls: secure}, nil
}

// A strictConn hands requests to the HTTP server one whole head at a time,
// after checkHead. In place of a head that it refuses, it hands on a request
// of its own, which the handler recognizes by its path (see refusal): so the
// refusal is answered in its turn, after the requests before it. Nothing
// follows such a request.
type strictConn struct {
	net.Conn
	limits  Limits
	heads   *headCount
	tls     bool // Conn speaks TLS
	scratch [512]byte

	mu       sync.Mutex
	mode     mode
	in       []byte // from the client, not yet judged
	scanned  int    // how much of in is known to hold no end of head
	out      []byte // judged, for the server
	body     bodyReader
	upgrade  bool      // the present request may change the protocol
	deadline time.Time // what the server asked for
	headBy   time.Time // when the head that has begun must be whole; zero: none has begun
	closed   bool
	refused  *refusal
	path     string // of the request that stands for the refused one
}

type mode uint8

const (
	inHead  mode = iota
	inBody       // up to the end of body
	held         // after a request that may change the protocol: nothing is handed on
	granted      // the target agreed; the server has not let go of the connection yet
	raw          // another protocol
	ended        // after a refusal
)

// Read hands on what has been judged.
func (c *strictConn) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	for {
		n, done, err := c.take(p)
		if done {
			return n, err
		}
		buffer := p
		if len(p) < len(c.scratch) {
			buffer = c.scratch[:] // net/http waits for the next request with one byte
		}
		n, err = c.Conn.Read(buffer)
		if n > 0 {
			if n, done, err = c.took(p, buffer[:n]); done {
				return n, err
			}
			continue
		}
		if err != nil && !c.headTooSlow(err) {
			return 0, err
		}
	}
}

// took keeps what came from the client for take. When it needs no judging and
// stands in p already, it is served at once.
func (c *strictConn) took(p, came []byte) (n int, done bool, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	direct := len(c.in) == 0 && len(came) > 0 && &p[0] == &came[0]
	switch {
	case direct && c.mode == raw:
		return len(came), true, nil
	case direct && c.mode == inBody:
		n, err = c.body.advance(came)
		c.in = append(c.in, came[n:]...)
		c.afterBody()
		return n, true, err
	}
	c.in = append(c.in, came...)
	return 0, false, nil
}

// take serves p from what is there already; done is false when more must come
// from the client first.
func (c *strictConn) take(p []byte) (n int, done bool, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for {
		if len(c.out) > 0 {
			n = copy(p, c.out)
			c.out = c.out[n:]
			return n, true, nil
		}
		switch c.mode {
		case ended:
			return 0, true, io.EOF
		case raw:
			n = copy(p, c.in)
			c.in = c.in[n:]
			return n, n > 0, nil
		case held, granted:
			if len(c.in) > c.limits.HeadBytes {
				return 0, true, errors.New("too much data before the protocol was changed")
			}
			return 0, false, nil
		case inBody:
			if len(c.in) == 0 {
				return 0, false, nil
			}
			n, err = c.body.advance(c.in[:min(len(p), len(c.in))])
			copy(p, c.in[:n])
			c.in = c.in[n:]
			c.afterBody()
			return n, true, err
		case inHead:
			if !c.takeHead() {
				return 0, false, nil
			}
		}
	}
}

// takeHead moves a whole head from in to out; false when it isn't whole yet.
func (c *strictConn) takeHead() bool {
	for len(c.in) >= 2 && c.in[0] == '\r' && c.in[1] == '\n' {
		c.in, c.scanned = c.in[2:], max(0, c.scanned-2) // RFC 9112 section 2.2: empty lines before a request
	}
	if len(c.in) > 0 && c.headBy.IsZero() {
		c.setHeadBy(time.Now().Add(c.limits.Head))
	}
	end, refused := headEnd(c.in, max(0, c.scanned-1))
	c.scanned = len(c.in)
	switch {
	case refused != nil:
		c.refuse(refused)
		return true
	case end > c.limits.HeadBytes, end == 0 && len(c.in) > c.limits.HeadBytes:
		c.refuse(&refusal{http.StatusRequestHeaderFieldsTooLarge, "head too large"})
		return true
	case end == 0:
		return false
	}
	head := c.in[:end]
	c.in, c.scanned = append([]byte(nil), c.in[end:]...), 0
	f, refused := checkHead(head)
	if refused != nil {
		c.refuse(refused)
		return true
	}
	c.setHeadBy(time.Time{})
	c.out, c.body, c.upgrade, c.mode = head, newBodyReader(f), f.upgrade, inBody
	c.afterBody()
	return true
}

// afterBody goes on to what follows a body that is over.
func (c *strictConn) afterBody() {
	switch {
	case c.body.state != bodyDone:
	case c.upgrade:
		c.mode = held
	default:
		c.mode = inHead
	}
}

func (c *strictConn) refuse(r *refusal) {
	c.setHeadBy(time.Time{})
	c.refused, c.path, c.mode, c.in = r, "/"+rand.Text(), ended, nil
	c.out = fmt.Appendf(nil, "GET %s HTTP/1.1\r\nHost: refused\r\nConnection: close\r\n\r\n", c.path)
}

// refusal says why the client's request was refused when r stands for it, else nil.
func (c *strictConn) refusal(r *http.Request) *refusal {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.refused != nil && r.RequestURI == c.path {
		return c.refused
	}
	return nil
}

// settle ends the time in which a request may change the protocol. The change
// itself comes with the server's last act on the connection (SetDeadline).
func (c *strictConn) settle(change bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.mode != held {
		return
	}
	c.mode = inHead
	if change {
		c.mode = granted
	}
}

// aborted recognizes the moment in the distant past with which net/http
// interrupts a pending read.
func aborted(t time.Time) bool { return !t.IsZero() && t.Unix() <= 1 }

// headTooSlow turns the time limit of a head into a refusal; other errors are
// for the server.
func (c *strictConn) headTooSlow(err error) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !errors.Is(err, os.ErrDeadlineExceeded) || c.headBy.IsZero() || aborted(c.deadline) || time.Now().Before(c.headBy) {
		return false
	}
	c.refuse(&refusal{http.StatusRequestTimeout, "head too slow"})
	return true
}

// setHeadBy is called with mu held.
func (c *strictConn) setHeadBy(t time.Time) {
	if c.closed {
		return
	}
	c.heads.moved(c.headBy, t)
	c.headBy = t
	c.Conn.SetReadDeadline(c.effective())
}

// Close also gives up a head that has begun.
func (c *strictConn) Close() error {
	c.mu.Lock()
	c.heads.moved(c.headBy, time.Time{})
	c.headBy, c.closed = time.Time{}, true
	c.mu.Unlock()
	return c.Conn.Close()
}

// effective is the server's deadline, or that of a head which has begun.
func (c *strictConn) effective() time.Time {
	if c.headBy.IsZero() || aborted(c.deadline) {
		return c.deadline
	}
	return c.headBy
}

// SetReadDeadline is for the server.
func (c *strictConn) SetReadDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.deadline = t
	return c.Conn.SetReadDeadline(c.effective())
}

// SetDeadline is what the server does last before it lets the connection go
// to another protocol.
func (c *strictConn) SetDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.mode == granted {
		c.mode = raw
	}
	c.heads.moved(c.headBy, time.Time{})
	c.deadline, c.headBy = t, time.Time{}
	return c.Conn.SetDeadline(t)
}

// Write gives a client that takes nothing a time limit.
func (c *strictConn) Write(p []byte) (int, error) {
	return stallConn{c.Conn, c.limits.Stall}.Write(p)
}

// lingerTime and lingerBytes bound how long a refused client is listened to.
const (
	lingerTime  = 500 * time.Millisecond
	lingerBytes = 256 << 10
)

// linger ends our side and reads on for a moment: closing with data unread
// would reset the connection, and the client might never see the answer.
func (c *strictConn) linger() {
	half, ok := c.Conn.(interface{ CloseWrite() error })
	if !ok || half.CloseWrite() != nil {
		return
	}
	c.Conn.SetReadDeadline(time.Now().Add(lingerTime))
	io.CopyN(io.Discard, c.Conn, lingerBytes)
}
