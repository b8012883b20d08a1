// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sallyport/sallyport/internal/snapshot"
)

// newTransport makes the pool of one view. The pool's key is the pseudo host
// in the request's URL, which names client address and target: that is what
// keeps clients apart, and Host is not touched by it.
func (p *Proxy) newTransport(v *view) *http.Transport {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	return &http.Transport{
		DialContext: func(ctx context.Context, _, address string) (net.Conn, error) {
			return p.dial(ctx, v, address)
		},
		Protocols:             protocols,
		DisableCompression:    true,
		MaxIdleConns:          p.limits.IdleTotal,
		MaxIdleConnsPerHost:   p.limits.IdlePerClient,
		IdleConnTimeout:       p.limits.UpstreamIdle,
		ResponseHeaderTimeout: p.limits.Answer,
		ExpectContinueTimeout: time.Second,
	}
}

// pseudoHost names the pool of one client address at one target.
func pseudoHost(client netip.Addr, target uint32) string {
	raw := client.As16()
	return hex.EncodeToString(raw[:]) + "." + strconv.FormatUint(uint64(target), 10)
}

func parsePseudoHost(address string) (client netip.Addr, target uint32, err error) {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return client, 0, err
	}
	name, number, _ := strings.Cut(host, ".")
	raw, err := hex.DecodeString(name)
	if err != nil || len(raw) != 16 {
		return client, 0, fmt.Errorf("%q is not a pool of ours", address)
	}
	num, err := strconv.ParseUint(number, 10, 32)
	if err != nil {
		return client, 0, err
	}
	return netip.AddrFrom16([16]byte(raw)).Unmap(), uint32(num), nil
}

// A dialError says that no connection came about, so nothing of the request
// reached the target.
type dialError struct {
	err error
}

func (e *dialError) Error() string { return "connect: " + e.err.Error() }
func (e *dialError) Unwrap() error { return e.err }

func (p *Proxy) dial(ctx context.Context, v *view, address string) (net.Conn, error) {
	client, num, err := parsePseudoHost(address)
	if err != nil {
		return nil, &dialError{err}
	}
	target, ok := v.targets[num]
	if !ok {
		return nil, &dialError{fmt.Errorf("target %d is not in the snapshot", num)}
	}
	ctx, cancel := context.WithTimeout(ctx, p.limits.Connect)
	defer cancel()
	// A transport dials on when a request ends, for another's sake. Here that would be
	// packets in the name of a client that has left; others dial for themselves.
	if j, ok := ctx.Value(jobKey{}).(job); ok {
		defer context.AfterFunc(j.asked, cancel)()
	}
	conn, err := p.options.Dial(ctx, netip.AddrPortFrom(client, 0), target.Service, snapshot.TargetMark(num))
	if err != nil {
		return nil, &dialError{err}
	}
	return p.upstreams.hold(num, conn, p.limits.Stall), nil
}

// A stallConn gives every write a time limit.
type stallConn struct {
	net.Conn
	stall time.Duration
}

// Write fails with a timeout when the peer takes nothing for the stall limit.
func (c stallConn) Write(p []byte) (int, error) {
	if err := c.SetWriteDeadline(time.Now().Add(c.stall)); err != nil {
		return 0, err
	}
	return c.Conn.Write(p)
}

// jobKey is where an outgoing request's context holds its job.
type jobKey struct{}

// reverseProxy is the engine made of net/http.
type reverseProxy struct {
	proxy *httputil.ReverseProxy
}

func newReverseProxy(t tries, logger *slog.Logger) *reverseProxy {
	return &reverseProxy{&httputil.ReverseProxy{
		Rewrite:       rewrite,
		Transport:     t,
		FlushInterval: -1,
		BufferPool:    &buffers{},
		ErrorLog:      slog.NewLogLogger(logger.Handler(), slog.LevelDebug),
		ModifyResponse: func(res *http.Response) error {
			j := res.Request.Context().Value(jobKey{}).(job)
			j.end.is(res.StatusCode)
			j.choose.keep(res.Header, j.hold.num)
			if res.StatusCode == http.StatusSwitchingProtocols {
				res.Request.Context().Value(clientKey{}).(*strictConn).settle(true)
			}
			return nil
		},
		ErrorHandler: func(w http.ResponseWriter, r *http.Request, err error) {
			status, last := statusOf(r, err)
			r.Context().Value(jobKey{}).(job).end.is(status)
			if status == 0 {
				panic(http.ErrAbortHandler) // nobody is there to answer
			}
			logger.Debug("request failed", "client", r.RemoteAddr, "status", status, "err", err)
			answer(w, status, last)
		},
	}}
}

func (e *reverseProxy) forward(w http.ResponseWriter, r *http.Request, j job) {
	defer j.hold.at(j.choose.loads, 0)
	j.asked = r.Context()
	e.proxy.ServeHTTP(w, r.WithContext(context.WithValue(j.asked, jobKey{}, j)))
}

// statusOf says what a failed request is answered with, and whether the
// client's connection ends with it; 0 when the client itself has gone.
func statusOf(r *http.Request, err error) (status int, last bool) {
	body := r.Context().Value(jobKey{}).(job).body.failure()
	switch {
	case errors.Is(body, errSlowBody):
		return http.StatusRequestTimeout, true
	case errors.Is(body, errBadBody):
		return http.StatusBadRequest, true
	case r.Context().Err() != nil:
		return 0, true
	case errors.Is(err, errNoTarget):
		return http.StatusServiceUnavailable, false
	case isTimeout(err):
		return http.StatusGatewayTimeout, false
	}
	return http.StatusBadGateway, false
}

// rewrite leaves the request as the client sent it, but for what says where
// it came from. httputil has removed the hop-by-hop fields, and also fields
// and query parameters that are none of a load balancer's business: they go
// back in.
func rewrite(pr *httputil.ProxyRequest) {
	j := pr.In.Context().Value(jobKey{}).(job)
	in, out := pr.In.Header, pr.Out.Header
	pr.Out.URL.Scheme = "http"
	pr.Out.URL.RawQuery = pr.In.URL.RawQuery
	pr.Out.Host = pr.In.Host
	if pr.Out.Host == "" {
		pr.Out.Host = j.at.String() // net/http would send the name of the pool
	}
	for _, name := range []string{"Forwarded", "X-Forwarded-Host"} {
		if values, ok := in[name]; ok {
			out[name] = values
		}
	}
	if strings.EqualFold(out.Get("Upgrade"), "h2c") {
		// HTTP/2 inside would be requests that nobody routes.
		for _, name := range []string{"Connection", "Upgrade", "Http2-Settings"} {
			out.Del(name)
		}
	}
	client := j.client.String()
	chain := append([]string{}, in["X-Forwarded-For"]...)
	out.Set("X-Forwarded-For", strings.Join(append(chain, client), ", "))
	out.Set("X-Forwarded-Proto", scheme(j.tls))
	out.Set("X-Forwarded-Port", strconv.Itoa(int(j.at.Port())))
	out.Set("X-Real-Ip", client)
}

func scheme(tls bool) string {
	if tls {
		return "https"
	}
	return "http"
}

// errNoTarget: the snapshot has no target for the request.
var errNoTarget = errors.New("no target")

// tries is the round tripper that goes from target to target, each at most
// once, for as long as nothing of the request has left the gateway.
type tries struct {
	alive func(target uint32) bool
	there func(target uint32) bool // in the view that is in force now
	share func(target uint32) uint32
}

// RoundTrip returns the first answer, or the last error.
func (t tries) RoundTrip(r *http.Request) (*http.Response, error) {
	j := r.Context().Value(jobKey{}).(job)
	eligible := t.eligible(j)
	var body *unreadBody
	if r.Body != nil {
		body = &unreadBody{ReadCloser: r.Body}
	}
	failed := error(errNoTarget)
	for {
		num, ok := j.choose.next(j, eligible, t.share)
		if !ok {
			return nil, failed
		}
		delete(eligible, num)
		j.hold.at(j.choose.loads, num)
		attempt := r.Clone(r.Context())
		attempt.URL.Host = pseudoHost(j.client, num)
		if body != nil {
			attempt.Body = body
		}
		res, err := j.view.upstream.RoundTrip(attempt)
		if err == nil {
			return res, nil
		}
		failed = err
		var dial *dialError
		if !errors.As(err, &dial) || body.begun() || r.Context().Err() != nil {
			return nil, failed
		}
	}
}

// eligible are the live targets with weight, or all with weight when none is
// alive and the rule does not insist. One that was taken away since the request came, and the client's
// own instance, whose packets would arrive from their own address, take part only when nothing else does.
func (t tries) eligible(j job) map[uint32]bool {
	live, all, there := map[uint32]bool{}, map[uint32]bool{}, map[uint32]bool{}
	for _, num := range j.choose.wheel.nums() {
		if _, ok := j.view.targets[num]; !ok {
			continue
		}
		all[num] = true
		if t.there(num) {
			there[num] = true
		}
	}
	if len(there) > 0 {
		all = there
	}
	for num := range all {
		if t.alive(num) {
			live[num] = true
		}
	}
	if len(live) == 0 && !j.choose.only {
		live = all
	}
	others := map[uint32]bool{}
	for num := range live {
		if target := j.view.targets[num]; !target.Owns(j.client) {
			others[num] = true
		}
	}
	if len(others) == 0 {
		return live
	}
	return others
}

// An unreadBody survives the Close with which a transport ends a failed dial,
// so that the next target can have it. Once a byte was asked for, Close is real.
type unreadBody struct {
	io.ReadCloser
	read atomic.Bool
}

// Read marks the body as begun.
func (b *unreadBody) Read(p []byte) (int, error) {
	b.read.Store(true)
	return b.ReadCloser.Read(p)
}

// Close does nothing before the first Read.
func (b *unreadBody) Close() error {
	if !b.read.Load() {
		return nil
	}
	return b.ReadCloser.Close()
}

func (b *unreadBody) begun() bool { return b != nil && b.read.Load() }

// buffers lend the copy loops their memory.
type buffers struct {
	pool sync.Pool
}

// Get returns a buffer of 32 KiB.
func (b *buffers) Get() []byte {
	if p, ok := b.pool.Get().(*[]byte); ok {
		return *p
	}
	return make([]byte, 32<<10)
}

// Put takes back what Get gave.
func (b *buffers) Put(p []byte) { b.pool.Put(&p) }
