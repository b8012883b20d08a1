// SPDX-License-Identifier: Apache-2.0

// Package cloudapi speaks Tencent Cloud API 3.0: signatures, the request and
// response envelopes, one declarative schema per action, and the actions of
// clb, vpc, cvm, tag and of our own service sallyport. An action reads and
// writes desired state through store and nothing else; what nodes report comes
// in through the small interfaces declared here.
//
// Every field of every action is either served, stored and echoed, or refused
// by name. Nothing is accepted and ignored.
package cloudapi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"mime"
	"net"
	"net/http"
	"net/netip"
	"runtime/debug"
	"time"

	"github.com/sallyport/sallyport/internal/lb"
	"github.com/sallyport/sallyport/internal/policy"
	"github.com/sallyport/sallyport/internal/store"
)

// Sizes of requests that are read; greater ones are refused.
const (
	maxBody  = 10 << 20
	maxForm  = 1 << 20 // with the old signature
	maxQuery = 32 << 10
)

// Options configure a Server. Store and Region are needed; Facts and
// Tokens may be nil, then health is Unknown everywhere and no node can join.
type Options struct {
	Store      *store.Store
	Facts      Facts
	FlowSource FlowSource // nil: no node can be asked for flows
	History    History    // nil: nothing over time is known
	Tokens     TokenMaker
	Vault      *Vault         // seals the secrets of access keys; nil: one that ends with this server
	Rates      Rates          // zero: no bound
	Region     string         // the one region served, such as "local"; its zone is Region-1
	VIPPool    []netip.Prefix // public load balancers take their VIPs from here
	EIPPool    []netip.Prefix // instances take their public addresses from here
	// VPCs take their IPv6 ranges from here; empty: they have none.
	IPv6Pool []netip.Prefix
	Quotas   lb.Quotas // zero: lb.DefaultQuotas
	// SeedMode refuses to bind groups to private load balancers, as documents
	// of 2019 said.
	SeedMode bool
	// SourceIPType is that of health checks whose author says nothing: 0 or 1.
	SourceIPType int
	// Compile tells whether groups fit into the kernel; nil: policy.Compile.
	// One that remembers is better, because every write asks it.
	Compile func([]policy.Group) (*policy.Compiled, error)
	// Ending is closed when this server was asked to end: calls that wait for
	// something then answer what they have. nil: it is never asked.
	Ending <-chan struct{}
	Now    func() time.Time
	Logger *slog.Logger
}

// A Server answers API 3.0 requests at any path. It is safe for concurrent use.
type Server struct {
	Options
	actions map[actionKey]*Action
	known   map[string]bool // versions
	limits  *limits
	nonces  *nonces
	rooms   rooms
}

type actionKey struct{ version, name string }

// New makes a Server. Now defaults to time.Now and Logger to silence.
func New(o Options) *Server {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Quotas == (lb.Quotas{}) {
		o.Quotas = lb.DefaultQuotas()
	}
	if o.Compile == nil {
		o.Compile = policy.Compile
	}
	if o.Vault == nil {
		o.Vault = randomVault()
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	s := &Server{Options: o, actions: map[actionKey]*Action{}, known: map[string]bool{}, limits: newLimits(o.Rates), nonces: newNonces(o.Now)}
	for _, a := range Actions() {
		s.actions[actionKey{a.Version, a.Name}] = &a
		s.known[a.Version] = true
	}
	return s
}

// Zone is the name of the region's only zone.
func (s *Server) Zone() string { return s.Region + "-1" }

// ServeHTTP answers one request. The HTTP status is 200 for errors too,
// because clients hide our code behind any other one.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	id := newRequestID()
	start := time.Now()
	q, err := s.receive(w, r)
	var out json.RawMessage
	if err == nil {
		q.requestID = id
		out, err = s.run(r.Context(), q)
	}
	s.note(r, q, id, time.Since(start), err)
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	body := envelope(out, id)
	if err != nil {
		body = errorEnvelope(asError(err), id)
	}
	_, _ = w.Write(body) // a client that went away cannot be told
}

// note logs one line per request: never parameters, headers or keys.
func (s *Server) note(r *http.Request, q *request, id string, took time.Duration, err error) {
	level, code := slog.LevelInfo, ""
	if err != nil {
		code = asError(err).Code
	}
	if code == codeInternal {
		level = slog.LevelError
	}
	attrs := []slog.Attr{slog.String("request", id), slog.String("peer", r.RemoteAddr), slog.Duration("took", took),
		slog.String("client", clip(r.Header.Get("X-TC-RequestClient"), 80))}
	if q != nil {
		attrs = append(attrs, slog.String("action", clip(q.action, 80)), slog.String("version", clip(q.version, 20)))
		if q.key != nil {
			attrs = append(attrs, slog.String("key", string(q.key.ID)))
		}
	}
	if code != "" {
		attrs = append(attrs, slog.String("code", code))
	}
	if code == codeInternal {
		attrs = append(attrs, slog.String("cause", err.Error()))
	}
	s.Logger.LogAttrs(r.Context(), level, "api", attrs...)
}

// Do runs one action as this server itself, which may do everything: in
// process, without signature or region. It returns what stands inside
// "Response", RequestId included. params may be nil. The error is an *Error.
func (s *Server) Do(ctx context.Context, version, action string, params json.RawMessage) (json.RawMessage, error) {
	return s.inProcess(ctx, &request{version: version, action: action, body: params, trusted: true})
}

// DoAs is Do for somebody who has shown before that the access key is theirs:
// the key's role and projects hold, as they do for a signed request.
func (s *Server) DoAs(ctx context.Context, who Caller, version, action string, params json.RawMessage) (json.RawMessage, error) {
	k, err := s.key(who.KeyID)
	if err != nil {
		return nil, asError(err)
	}
	return s.inProcess(ctx, &request{version: version, action: action, body: params, key: k, caller: who})
}

func (s *Server) inProcess(ctx context.Context, q *request) (json.RawMessage, error) {
	q.region, q.requestID = s.Region, newRequestID()
	out, err := s.run(ctx, q)
	if err != nil {
		e := asError(err)
		if e.Code == codeInternal {
			s.Logger.Error("api", "request", q.requestID, "action", q.action, "cause", err.Error())
		}
		return nil, e
	}
	return inner(out, q.requestID), nil
}

// A request is a call after authentication, whatever form it came in.
type request struct {
	version, action, region string
	requestID               string
	trusted                 bool              // this server's own: no key, all rights
	key                     *lb.AccessKey     // who signed it
	caller                  Caller            // from where
	client                  netip.Addr        // the same as an address; zero in process
	body                    json.RawMessage   // JSON parameters, or
	flat                    map[string]string // flattened ones
}

// receive reads and authenticates one HTTP request. The request it returns
// with an error is only good for the log.
func (s *Server) receive(w http.ResponseWriter, r *http.Request) (*request, error) {
	q := &request{version: r.Header.Get("X-TC-Version"), action: r.Header.Get("X-TC-Action"), region: r.Header.Get("X-TC-Region"),
		caller: Caller{Client: clip(r.Header.Get("X-TC-RequestClient"), 80)}}
	if host, _, err := net.SplitHostPort(r.RemoteAddr); err == nil {
		q.client, _ = netip.ParseAddr(host)
		q.caller.Address = host
	}
	if r.Method != http.MethodGet && r.Method != http.MethodPost {
		return q, errorf("UnsupportedProtocol", "method %s is not served; use POST or GET", clip(r.Method, 20))
	}
	if len(r.URL.RawQuery) > maxQuery {
		return q, errorf("RequestSizeLimitExceeded", "the query is longer than %d bytes", maxQuery)
	}
	kind, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if r.Header.Get("Authorization") == "" {
		body, err := readBody(w, r, maxForm)
		if err != nil {
			return q, err
		}
		return s.receiveV1(q, r, kind, body)
	}
	k, body, err := s.verifyTC3(r, func() ([]byte, error) { return readBody(w, r, maxBody) })
	if err != nil {
		return q, err
	}
	q.key, q.caller.KeyID = k, string(k.ID)
	if r.Method == http.MethodGet {
		q.flat, err = flatQuery(r.URL.RawQuery)
		return q, err
	}
	if kind != "application/json" {
		return q, errorf("UnsupportedProtocol", "Content-Type %q is not served with TC3-HMAC-SHA256; send application/json", clip(kind, 60))
	}
	q.body = body
	return q, nil
}

func readBody(w http.ResponseWriter, r *http.Request, limit int64) ([]byte, error) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, limit))
	if tooLarge := (*http.MaxBytesError)(nil); errors.As(err, &tooLarge) {
		return nil, errorf("RequestSizeLimitExceeded", "the body is longer than %d bytes", limit)
	}
	if err != nil {
		return nil, errorf("InvalidRequest", "the body could not be read to its end")
	}
	return body, nil
}

// run dispatches an authenticated request. A panic becomes InternalError; its
// stack goes to the log only.
func (s *Server) run(ctx context.Context, q *request) (out json.RawMessage, err error) {
	defer func() {
		if p := recover(); p != nil {
			s.Logger.Error("api panic", "request", q.requestID, "action", q.action, "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
			err = fmt.Errorf("panic in %s", q.action)
		}
	}()
	a, err := s.find(q)
	if err != nil {
		return nil, err
	}
	c := &Call{Server: s, Action: a, RequestID: q.requestID, Client: q.client, Caller: q.caller, Key: q.key, raw: q, ctx: ctx}
	// Whatever another server on the same database has answered is seen here:
	// objects, and keys that were revoked there.
	if err := s.Store.Sync(ctx); err != nil {
		return nil, err
	}
	if q.key != nil {
		if c.Key, err = s.key(string(q.key.ID)); err != nil {
			return nil, err
		}
	}
	if err := c.admit(q); err != nil {
		return nil, err
	}
	in, echo, err := a.decode(q)
	if all := (gathered)(nil); errors.As(err, &all) {
		c.faults, err = all, nil
	}
	if err != nil {
		return nil, err
	}
	c.Echo = echo
	res, err := a.run(c, in)
	switch {
	case err == nil && a.access.right.writes() && !c.recorded:
		err = c.record(nil)
	case err != nil && asError(err).Code == codeUnauthorized:
		err = c.refusedWrite(err)
	case err != nil && c.forbidden != nil:
		if failed := c.record(asError(c.forbidden)); failed != nil {
			err = failed
		}
	}
	if err != nil {
		return nil, a.explain(err)
	}
	return encode(res)
}

// admit refuses a call that its key does not allow, or that comes too soon.
func (c *Call) admit(q *request) error {
	switch {
	case q.trusted:
		return nil
	case q.key == nil:
		return errorf(codeUnauthorized, "the call names no access key; sign it with one")
	}
	if err := c.limits.take(c.Key, c.Action); err != nil {
		return err
	}
	if err := c.Action.authorise(c.Key); err != nil {
		return c.refusedWrite(err)
	}
	return nil
}

// refusedWrite keeps a line in the audit log when what was refused is a write.
func (c *Call) refusedWrite(err error) error {
	if !c.Action.access.right.writes() {
		return err
	}
	if failed := c.record(asError(err)); failed != nil {
		return failed
	}
	return err
}

func (s *Server) find(q *request) (*Action, error) {
	switch {
	case q.action == "":
		return nil, errorf("MissingParameter", "the request names no action; give the header X-TC-Action, or the parameter Action in a query")
	case q.version == "":
		return nil, errorf("MissingParameter", "the request names no version; give the header X-TC-Version, or the parameter Version in a query")
	case !s.known[q.version]:
		return nil, errorf("NoSuchVersion", "version %q is not served", clip(q.version, 20))
	}
	a := s.actions[actionKey{q.version, q.action}]
	if a == nil {
		return nil, errorf("InvalidAction", "action %q of version %s is not served", clip(q.action, 80), q.version)
	}
	if q.region != "" && q.region != s.Region {
		return nil, errorf("UnsupportedRegion", "region %q is not served here; this server's region is %q (flag --region)", clip(q.region, 40), s.Region)
	}
	return a, nil
}

// clip shortens what a client sent before it is shown again.
func clip(s string, n int) string {
	if len(s) > n {
		return s[:n] + "…"
	}
	return s
}
