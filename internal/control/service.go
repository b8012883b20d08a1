// SPDX-License-Identifier: Apache-2.0

package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"github.com/sallyport/sallyport/internal/flow"
	"github.com/sallyport/sallyport/internal/lb"
	"github.com/sallyport/sallyport/internal/wire"
)

// service is the gRPC face of a Control.
type service struct {
	wire.UnimplementedControlServer
	c *Control
}

// Attach serves one node's stream until either side ends it.
func (sv *service) Attach(stream wire.Control_AttachServer) error {
	id, fingerprint, err := certified(stream.Context())
	if err != nil {
		return err
	}
	first, err := stream.Recv()
	if err != nil {
		return err
	}
	hello := first.GetHello()
	address, err := checkHello(hello, id)
	if err != nil {
		return status.Error(codes.InvalidArgument, err.Error())
	}
	others, err := parseAddresses(hello.Others)
	if err != nil {
		return status.Error(codes.InvalidArgument, err.Error())
	}
	other, err := parseOther(hello.Other, address)
	if err != nil {
		return status.Error(codes.InvalidArgument, err.Error())
	}
	if err := sv.c.recognise(stream.Context(), id, fingerprint, ends{address, other}, others); err != nil {
		return refusal(err)
	}
	ctx, stop := context.WithCancelCause(stream.Context())
	defer stop(nil)
	s := newSession(id, hello, stop)
	s.fingerprint = fingerprint
	if s.ahead, err = sv.c.follow(ctx, id.Name, s.least); err != nil {
		return refusal(err)
	}
	if !sv.c.add(s, hello) {
		return refusal(errClosing)
	}
	defer sv.c.remove(s)
	sv.c.wg.Go(func() { sv.c.send(ctx, s, stream) })
	sv.c.wg.Go(func() { stop(sv.c.receive(s, stream)) })
	<-ctx.Done()
	return refusal(context.Cause(ctx))
}

// certified is who the client certificate of a call says it is, and the
// certificate's fingerprint.
func certified(ctx context.Context) (id identity, fingerprint string, err error) {
	denied := status.Error(codes.Unauthenticated, "attaching needs the certificate that enrolment gives")
	p, ok := peer.FromContext(ctx)
	if !ok {
		return identity{}, "", denied
	}
	info, ok := p.AuthInfo.(credentials.TLSInfo)
	if !ok || len(info.State.VerifiedChains) == 0 {
		return identity{}, "", denied
	}
	cert := info.State.VerifiedChains[0][0]
	if id, err = identityOf(cert); err != nil {
		return identity{}, "", status.Error(codes.Unauthenticated, err.Error())
	}
	return id, fingerprintOf(cert.Raw), nil
}

// checkHello holds a Hello against the certificate it came with.
func checkHello(hello *wire.Hello, id identity) (netip.Addr, error) {
	if hello == nil {
		return netip.Addr{}, errors.New("the first message must be a Hello")
	}
	if hello.Protocol == 0 {
		return netip.Addr{}, errors.New("the Hello names no protocol version")
	}
	if hello.Name != string(id.Name) {
		return netip.Addr{}, fmt.Errorf("the certificate belongs to %q, not to %q", id.Name, hello.Name)
	}
	return netip.ParseAddr(hello.Address)
}

// parseOther reads where a node's tunnel ends over the other family.
func parseOther(text string, address netip.Addr) (netip.Addr, error) {
	if text == "" {
		return netip.Addr{}, nil
	}
	other, err := netip.ParseAddr(text)
	if err != nil || other.Zone() != "" || other.Is4In6() || other.Is4() == address.Is4() {
		return netip.Addr{}, fmt.Errorf("other: %q is no address of another family than %v; give one, or none", text, address)
	}
	return other, nil
}

// refusal is how a stream's end looks to the node.
func refusal(err error) error {
	switch {
	case errors.Is(err, errRemoved), errors.Is(err, errForgotten), errors.Is(err, errSuperseded):
		return status.Error(codes.PermissionDenied, err.Error())
	case errors.As(err, &refused{}):
		return status.Error(codes.FailedPrecondition, err.Error())
	case errors.Is(err, errReplaced), errors.Is(err, errStalled):
		return status.Error(codes.Aborted, err.Error())
	case errors.Is(err, context.Canceled), errors.Is(err, io.EOF):
		return nil
	}
	return status.Error(codes.Unavailable, err.Error())
}

// receive takes in what a node says until its stream ends.
func (c *Control) receive(s *session, stream wire.Control_AttachServer) error {
	for {
		message, err := stream.Recv()
		if err != nil {
			return err
		}
		switch kind := message.Kind.(type) {
		case *wire.NodeMessage_Ack:
			c.acknowledged(s, kind.Ack)
		case *wire.NodeMessage_Answer:
			c.answered(s, kind.Answer)
		case *wire.NodeMessage_Facts:
			r, err := decodeReport(s.Name, kind.Facts)
			if err != nil {
				return err
			}
			c.facts.report(s.Name, r)
			c.takeLoads(s.Name, r)
		}
	}
}

// A report is a Facts message decoded.
type report struct {
	events      []flow.Event
	lost        uint64
	counters    []flow.Counter
	countersAll bool
	requests    []flow.Requests
	requestsAll bool
	health      []flow.Health
	healthAll   bool
	reasons     *flow.Reasons
	tables      *flow.Tables
	rss         uint64
	loads       []flow.Load
	loadsAll    bool
	warning     string
	warningSet  bool
}

// decodeReport reads a Facts message. Whose facts they are is said by the
// certificate, whatever the node wrote into them.
func decodeReport(id lb.NodeID, f *wire.Facts) (report, error) {
	r := report{lost: f.EventsLost, countersAll: f.CountersAll, requestsAll: f.RequestsAll, healthAll: f.HealthAll,
		loadsAll: f.LoadsAll, rss: f.Rss, warning: f.Warning, warningSet: f.WarningSet}
	var err error
	if r.events, err = decodeAll[flow.Event](f.Events); err != nil {
		return r, fmt.Errorf("events: %w", err)
	}
	if r.counters, err = decodeAll[flow.Counter](f.Counters); err != nil {
		return r, fmt.Errorf("counters: %w", err)
	}
	if r.requests, err = decodeAll[flow.Requests](f.Requests); err != nil {
		return r, fmt.Errorf("requests: %w", err)
	}
	if r.health, err = decodeAll[flow.Health](f.Health); err != nil {
		return r, fmt.Errorf("health: %w", err)
	}
	if len(f.Reasons) > 0 {
		r.reasons = new(flow.Reasons)
		if err := json.Unmarshal(f.Reasons, r.reasons); err != nil {
			return r, fmt.Errorf("reasons: %w", err)
		}
		r.reasons.Node = id
	}
	if len(f.Tables) > 0 {
		r.tables = new(flow.Tables)
		if err := json.Unmarshal(f.Tables, r.tables); err != nil {
			return r, fmt.Errorf("tables: %w", err)
		}
		r.tables.Node = id
	}
	for _, l := range f.Loads {
		r.loads = append(r.loads, flow.Load{Target: l.Target, Connections: l.Connections})
	}
	for i := range r.events {
		r.events[i].Node = id
	}
	for i := range r.counters {
		r.counters[i].Node = id
	}
	for i := range r.requests {
		r.requests[i].Node = id
	}
	for i := range r.health {
		r.health[i].Node = id
	}
	return r, nil
}

func decodeAll[T any](raw [][]byte) ([]T, error) {
	all := make([]T, len(raw))
	for i, one := range raw {
		if err := json.Unmarshal(one, &all[i]); err != nil {
			return nil, err
		}
	}
	return all, nil
}
