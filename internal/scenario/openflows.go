// SPDX-License-Identifier: Apache-2.0

package scenario

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sallyport/sallyport/internal/lb"
)

// openFlow opens a connection that the story names, and which must be served.
func (w *world) openFlow(ctx context.Context, args []string) error {
	s, err := w.send(Line{Verb: "send", Args: append(args[1:], "served")})
	if err != nil {
		return err
	}
	if s.Listener == "" || s.Layer7 || s.UDP || s.ICMP {
		return fmt.Errorf("write %s", verbs["open"].usage)
	}
	if err := w.engine.Settle(ctx); err != nil {
		return err
	}
	r, err := w.engine.Open(ctx, args[0], s)
	if err == nil {
		err = outcome("served", r)
	}
	return err
}

// still sends something more on an open connection.
func (w *world) still(ctx context.Context, args []string) error {
	if !slices.Contains([]string{"served", "refused", "lost"}, args[1]) {
		return fmt.Errorf("write %s", verbs["still"].usage)
	}
	if err := w.engine.Settle(ctx); err != nil {
		return err
	}
	r, err := w.engine.Still(ctx, args[0], args[1] == "served")
	if err == nil {
		err = outcome(args[1], r)
	}
	return err
}

// outcome compares what became of an attempt with what was wanted. A flow that is
// lost may end in silence too.
func outcome(want string, r Result) error {
	got := "refused"
	switch {
	case r.Lost, want == "lost" && r.Fault == "" && !r.Served:
		got = "lost"
	case r.Fault != "":
		got = "neither: " + r.Fault
	case r.Served:
		got = "served"
	}
	if got != want {
		return &OutcomeError{Want: want, Got: fmt.Sprintf("%s (%s)", got, r.Detail)}
	}
	return nil
}

// A refFlow is an open flow as the reference sees it.
type refFlow struct {
	balancer lb.BalancerID
	listener lb.ListenerID
	target   lb.Target
	packet   lb.Packet
}

// Open lets the flow in as Send does. The target must be certain.
func (r *Ref) Open(_ context.Context, name string, s Send) (Result, error) {
	state := r.store.State()
	res, err := r.judge(state, s)
	if err != nil {
		return res, err
	}
	l := state.Listeners.Get(lb.ListenerID(s.Listener))
	if len(l.Targets) != 1 {
		return res, errors.New("open needs a listener with one target: else nobody knows where the flow is")
	}
	r.flows[name] = refFlow{l.Balancer, l.ID, l.Targets[0], lb.Packet{Proto: lb.TCP, Src: s.From.Address, Dst: s.To, DstPort: s.Port}}
	return res, nil
}

// Still judges an open flow by the newest rules, but where it keeps its verdict:
// it stays with its target, whatever its weight, for as long as that is registered.
func (r *Ref) Still(_ context.Context, name string, _ bool) (Result, error) {
	f, ok := r.flows[name]
	if !ok {
		return Result{}, fmt.Errorf("no flow %s", name)
	}
	state := r.store.State()
	b, l := state.Balancers.Get(f.balancer), state.Listeners.Get(f.listener)
	for _, t := range targetsOf(l) {
		if t.Instance != f.target.Instance || t.Port != f.target.Port {
			continue
		}
		one := *l
		one.Targets = []lb.Target{t}
		gate1, gate2 := gatesOf(state, b, &one, f.packet)
		keep2 := state.Instances.Get(t.Instance).Keep
		return Result{Served: (gate1 || b.Keep) && (gate2 || keep2), Detail: "by today's rules"}, nil
	}
	return Result{Lost: true, Detail: "its target is gone"}, nil
}

// A liveFlow is an open connection of the lab.
type liveFlow struct {
	attempt
	conn    net.Conn
	answers *bufio.Reader
}

// Open connects from inside the client's namespace and asks once.
func (l *Stage) Open(ctx context.Context, name string, s Send) (Result, error) {
	f := &liveFlow{attempt: attempt{Send: s, port: uint16(l.port.Add(1))}}
	f.token = fmt.Sprintf("/scenario/%d", f.port)
	err := inNamespace(l.pid(cmp.Or(s.From.Instance, s.From.Name)), func() (err error) {
		dialer := net.Dialer{LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(s.From.Address, f.port)), Timeout: servedWithin}
		f.conn, err = dialer.DialContext(ctx, "tcp", netip.AddrPortFrom(s.To, s.Port).String())
		return err
	})
	if isTimeout(err) {
		return Result{Detail: "no handshake"}, nil
	}
	if err != nil {
		return Result{}, err
	}
	f.answers = bufio.NewReader(f.conn)
	l.flows[name] = f
	return l.Still(ctx, name, true)
}

// Still asks once more on an open connection.
func (l *Stage) Still(_ context.Context, name string, served bool) (Result, error) {
	f, ok := l.flows[name]
	if !ok {
		return Result{}, fmt.Errorf("no flow %s", name)
	}
	limit := servedWithin
	if !served {
		limit = silence
	}
	if err := f.conn.SetDeadline(time.Now().Add(limit)); err != nil {
		return Result{}, err
	}
	if _, err := fmt.Fprintf(f.conn, "GET %s HTTP/1.1\r\nHost: www.example.com\r\n\r\n", f.token); err != nil {
		return Result{Fault: err.Error()}, nil
	}
	res, err := http.ReadResponse(f.answers, nil)
	if isTimeout(err) {
		return Result{Detail: "no answer"}, nil
	}
	if errors.Is(err, unix.ECONNRESET) {
		return Result{Lost: true, Detail: "a reset"}, nil
	}
	if err != nil {
		return Result{Fault: fmt.Sprintf("a broken answer: %v", err)}, nil
	}
	defer func() { _ = res.Body.Close() }()
	return f.sees(res), nil
}
