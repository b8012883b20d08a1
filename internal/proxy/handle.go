// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"strconv"
	"sync"
	"time"
)

// clientKey is where a request's context holds its *strictConn.
type clientKey struct{}

// A job is one request on its way: everything that was decided about it.
type job struct {
	view   *view
	choose *chooser
	kept   uint32 // the target of the client's session; 0: none
	hold   *hold
	client netip.Addr
	at     netip.AddrPort // the VIP and port that the client asked
	tls    bool           // inside TLS
	body   *clientBody    // nil: none
	end    *outcome
	asked  context.Context // ends when the client leaves; the engine sets it
}

// An engine sends a request to one of the job's targets and the answer back.
// It is the part that may be exchanged for a faster one.
type engine interface {
	forward(w http.ResponseWriter, r *http.Request, j job)
}

// handler serves one VIP and port, by the view in force when the request came.
func (p *Proxy) handler(at netip.AddrPort) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !p.requests.enter() {
			answer(w, http.StatusServiceUnavailable, true)
			return
		}
		defer p.requests.leave()
		conn := r.Context().Value(clientKey{}).(*strictConn)
		if refused := conn.refusal(r); refused != nil {
			p.options.Logger.Debug("request refused", "client", r.RemoteAddr, "status", refused.status, "why", refused.why)
			speak(w, p.current.Load().own(at), refused.status, true)
			http.NewResponseController(w).Flush()
			conn.linger()
			return
		}
		defer conn.settle(false)
		v := p.current.Load()
		if r := v.routes[at]; r != nil && r.tls != conn.tls {
			// The address speaks otherwise since this client connected.
			speak(w, r.own, http.StatusServiceUnavailable, true)
			return
		}
		// An older view's connection that was busy during the commit has just
		// become idle: it must not stay.
		defer func() {
			if p.current.Load() != v {
				v.upstream.CloseIdleConnections()
			}
		}()
		p.route(w, r, v, at)
	})
}

func (p *Proxy) route(w http.ResponseWriter, r *http.Request, v *view, at netip.AddrPort) {
	client, err := netip.ParseAddrPort(r.RemoteAddr)
	routes := v.routes[at]
	if err != nil || routes == nil || routes.fallback == nil {
		// The listener is gone or has no rules.
		speak(w, v.own(at), http.StatusServiceUnavailable, routes == nil)
		return
	}
	if r.Method == http.MethodConnect {
		speak(w, routes.own, http.StatusMethodNotAllowed, true)
		return
	}
	match, redirect := routes.domain(r.Host).location(r.URL.Path)
	if redirect != "" {
		// Never the client's own path: "//elsewhere" would lead away.
		w.Header().Set("Location", (&url.URL{Path: redirect, RawQuery: r.URL.RawQuery}).String())
		speak(w, routes.own, http.StatusMovedPermanently, false)
		return
	}
	if match == nil {
		speak(w, routes.own, http.StatusNotFound, false)
		return
	}
	if match.redirect != nil {
		w.Header().Set("Location", destination(match.redirect, r, at.Addr()))
		speak(w, match.tally, match.redirect.Code, false)
		return
	}
	if len(match.choose.wheel.seats) == 0 {
		speak(w, match.tally, http.StatusServiceUnavailable, false)
		return
	}
	var body *clientBody
	if r.Body != nil && r.Body != http.NoBody {
		control := http.NewResponseController(w)
		// Both directions stream: net/http would otherwise take in the whole
		// body before it lets the first byte of the answer out.
		control.EnableFullDuplex()
		body = &clientBody{ReadCloser: r.Body, control: control, stall: p.limits.Stall}
		r.Body = body
	}
	// Present but empty: net/http would otherwise guess a type that the
	// target did not send.
	w.Header()["Content-Type"] = nil
	p.engine.forward(w, r, job{view: v, choose: match.choose, kept: match.choose.kept(r), hold: &hold{},
		client: client.Addr().Unmap(), at: at, tls: routes.tls, body: body, end: &outcome{tally: match.tally}})
}

// answer is the proxy speaking for itself.
func answer(w http.ResponseWriter, status int, last bool) {
	h := w.Header()
	h.Set("Content-Type", "text/plain; charset=utf-8")
	if last {
		h.Set("Connection", "close")
	}
	text := http.StatusText(status) + "\n"
	h.Set("Content-Length", strconv.Itoa(len(text)))
	w.WriteHeader(status)
	io.WriteString(w, text)
}

// errSlowBody: the client stopped sending in the middle of a body.
var errSlowBody = errors.New("the client's request body stalled")

// A clientBody is a request body whose reads have a time limit.
type clientBody struct {
	io.ReadCloser
	control *http.ResponseController
	stall   time.Duration

	mu     sync.Mutex
	closed bool // Close sets the time limit now
	failed error
}

// Read takes the limit back at the end of the body: the server goes on reading
// to notice when the client leaves. After a failure the limit stays, so that
// nobody waits for the rest.
func (b *clientBody) Read(p []byte) (int, error) {
	b.limit(time.Now().Add(b.stall))
	n, err := b.ReadCloser.Read(p)
	if err == nil || err == io.EOF {
		b.limit(time.Time{})
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		err = errSlowBody
	}
	if err != nil && err != io.EOF {
		b.mu.Lock()
		b.failed = err
		b.mu.Unlock()
	}
	return n, err
}

// failure is why the body could not be read, nil when it could or nobody has
// tried. The request's own error won't do: net/http also cancels its context.
func (b *clientBody) failure() error {
	if b == nil {
		return nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.failed
}

func (b *clientBody) limit(t time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.closed {
		b.control.SetReadDeadline(t)
	}
}

// closeTime bounds how long a body that nobody wants is read on, which is what
// net/http does to keep the connection.
const closeTime = time.Second

// Close ends a Read that is waiting.
func (b *clientBody) Close() error {
	b.limit(time.Now().Add(closeTime))
	b.mu.Lock()
	first := !b.closed
	b.closed = true
	b.mu.Unlock()
	err := b.ReadCloser.Close()
	if first {
		b.control.SetReadDeadline(time.Time{})
	}
	return err
}

// isTimeout reports whether err is a time limit that was reached.
func isTimeout(err error) bool {
	var timeout net.Error
	return errors.As(err, &timeout) && timeout.Timeout()
}
