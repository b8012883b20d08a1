// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"net/netip"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sallyport/sallyport/internal/lab"
)

// Instances are really switched: one that is stopped is dark and keeps what it
// has, its targets turn Dead and the other serves; started, it is back. And
// never, not for the moment between its kernel's start and its gate's, does a
// port answer that its group does not open.
func TestInstancesAreSwitched(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: the lab makes network namespaces")
	}
	dir := t.TempDir()
	if err := Build(t.Context(), "../..", dir); err != nil {
		t.Fatal(err)
	}
	l, err := Start(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := l.Close(); err != nil || t.Failed() {
			t.Errorf("%v; up said:\n%s", err, l.Said())
		}
	}()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	call := func(ctx context.Context, service, action string, in, out any) error {
		return l.Do(ctx, service, action, in, out)
	}
	e, err := Make(ctx, call)
	if err != nil {
		t.Fatal(err)
	}
	p := &powered{t: t, ctx: ctx, lab: l, example: e, id: e.Instances[0]}
	closed := netip.AddrPortFrom(e.Public[0], 9999) // the instance serves on every port; the group opens 8080 and few others
	open := netip.AddrPortFrom(e.Public[0], 8080)
	if !p.dials(open) || p.dials(closed) {
		t.Fatalf("before anything: %v answers %v, %v answers %v", open, p.dials(open), closed, p.dials(closed))
	}
	var leaks atomic.Int64
	watching, stop := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for watching.Err() == nil {
			if c, err := lab.Dial("client-2", "tcp", closed.String(), 100*time.Millisecond); err == nil {
				leaks.Add(1)
				c.Close()
			}
		}
	}()
	before := p.seen()

	p.do("StopInstances")
	p.until("STOPPED")
	if p.dials(open) {
		t.Error("a stopped instance answers")
	}
	if now := p.seen(); now.PrivateIpAddresses[0] != before.PrivateIpAddresses[0] || now.PublicIpAddresses[0] != before.PublicIpAddresses[0] || now.LatestOperation != "StopInstances" {
		t.Errorf("stopped, it is %+v, formerly %+v", now, before)
	}
	p.targets("Dead")
	if !p.dials(netip.AddrPortFrom(e.VIP, 8000)) {
		t.Error("the other target does not serve")
	}

	p.do("StartInstances")
	p.until("RUNNING")
	p.targets("Alive")
	p.answers(open)

	pid := p.agent()
	p.do("RebootInstances")
	p.until("RUNNING")
	if now := p.agent(); now == pid || now == 0 {
		t.Errorf("after a reboot the agent is process %d, as before", now)
	}
	p.answers(open)
	stop()
	<-done
	if n := leaks.Load(); n != 0 {
		t.Errorf("%d connections to a port that the group does not open", n)
	}
	p.do("TerminateInstances")
	if err := Until(ctx, "it is gone", func() (bool, error) { return p.seen().InstanceState == "" && p.agent() == 0, nil }); err != nil {
		t.Error(err)
	}
}

// powered is the instance that is switched.
type powered struct {
	t       *testing.T
	ctx     context.Context
	lab     *Lab
	example *Example
	id      string
}

type seenInstance struct {
	InstanceState, LatestOperation, LatestOperationState string
	PrivateIpAddresses, PublicIpAddresses                []string
}

func (p *powered) do(action string) {
	p.t.Helper()
	if err := p.lab.Do(p.ctx, "cvm", action, map[string]any{"InstanceIds": []string{p.id}}, nil); err != nil {
		p.t.Fatal(err)
	}
}

func (p *powered) seen() seenInstance {
	p.t.Helper()
	var out struct{ InstanceSet []seenInstance }
	if err := p.lab.Do(p.ctx, "cvm", "DescribeInstances", map[string]any{"InstanceIds": []string{p.id}}, &out); err != nil {
		p.t.Fatal(err)
	}
	if len(out.InstanceSet) == 0 {
		return seenInstance{}
	}
	return out.InstanceSet[0]
}

func (p *powered) until(state string) {
	p.t.Helper()
	began := time.Now()
	if err := Until(p.ctx, p.id+" is "+state, func() (bool, error) { return p.seen().InstanceState == state, nil }); err != nil {
		p.t.Fatal(err)
	}
	p.t.Logf("%s after %v", state, time.Since(began).Round(time.Millisecond))
}

// targets waits until both targets on the instance are in a state.
func (p *powered) targets(health string) {
	p.t.Helper()
	err := Until(p.ctx, "its targets are "+health, func() (bool, error) {
		var s Status
		if err := p.lab.Do(p.ctx, "sallyport", "DescribeStatus", nil, &s); err != nil {
			return false, err
		}
		n := 0
		for _, target := range s.Targets {
			if target.InstanceId == p.id && target.Health == health {
				n++
			}
		}
		return n == 2, nil
	})
	if err != nil {
		p.t.Fatal(err)
	}
}

func (p *powered) dials(at netip.AddrPort) bool {
	c, err := lab.Dial("client-1", "tcp", at.String(), time.Second)
	if err == nil {
		c.Close()
	}
	return err == nil
}

func (p *powered) answers(at netip.AddrPort) {
	p.t.Helper()
	if err := Until(p.ctx, at.String()+" answers", func() (bool, error) { return p.dials(at), nil }); err != nil {
		p.t.Fatal(err)
	}
}

// agent is the pid of the instance's agent; 0: none runs.
func (p *powered) agent() int {
	p.t.Helper()
	r, err := lab.Current()
	if err != nil {
		p.t.Fatal(err)
	}
	for _, process := range r.Processes {
		if process.Name == p.id+".agent" {
			return process.PID
		}
	}
	return 0
}
