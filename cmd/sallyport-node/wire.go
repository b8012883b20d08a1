// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"

	"github.com/sallyport/sallyport/internal/datapath"
	"github.com/sallyport/sallyport/internal/flow"
	"github.com/sallyport/sallyport/internal/health"
	"github.com/sallyport/sallyport/internal/lb"
	"github.com/sallyport/sallyport/internal/node"
	"github.com/sallyport/sallyport/internal/proxy"
	"github.com/sallyport/sallyport/internal/snapshot"
)

// parts are the rooms of one node, wired together.
type parts struct {
	appliers []node.Applier
	kernel   node.Kernel
	flows    node.FlowKernel
	health   chan flow.Health            // nil on a host
	requests func() []flow.Requests      // nil on a host
	loads    func() ([]flow.Load, error) // nil on a gateway
	setLoads func([]flow.Load) error     // nil on a host
	passed   func(lb.Revision)           // nil on a gateway
	closers  []func() error              // run from the last to the first
}

// open attaches the gate and, on a gateway, makes proxy and prober. On an
// error nothing new stays but what the kernel already had.
func open(ctx context.Context, s settings, log *slog.Logger) (*parts, error) {
	if os.Geteuid() != 0 {
		return nil, errors.New("run needs root: it attaches programs to the kernel")
	}
	p := &parts{}
	addGate := func(*datapath.Datapath) error { return nil }
	if s.node.Role == lb.RoleGateway {
		addGate = p.openGateway(ctx, s, log)
	}
	gate, err := datapath.Open(datapath.Options{Node: s.node.Name, Role: s.node.Role, Device: s.device, PinDir: s.pin,
		Address: s.node.Address, Other: s.node.Other, Control: s.control, Attach: s.attach, Proxied: s.node.Role == lb.RoleGateway, ARP: s.arp, Observe: s.observe,
		Every: s.joined && s.node.Role == lb.RoleHost, Except: s.except,
		Standby: s.standby,
		Buckets: s.flows / 2, Log: log})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("attach to %s: %w", s.device, err), p.close())
	}
	p.kernel, p.flows, p.appliers = gate, gate, []node.Applier{gate}
	if s.node.Role == lb.RoleGateway {
		p.setLoads = gate.SetLoads
	} else {
		p.loads, p.passed = gate.Loads, gate.Passed
	}
	if s.joined && s.node.Role == lb.RoleHost {
		p.appliers = append(p.appliers, node.NewMark(s.node.DataDir, log))
	}
	p.closers = append([]func() error{gate.Close}, p.closers...)
	if err := addGate(gate); err != nil {
		return nil, errors.Join(err, p.close())
	}
	return p, nil
}

// openGateway makes what only a gateway has; addGate adds it to the appliers
// once there is a gate. The prober comes last, so that what it reports is
// about targets that the rest knows.
func (p *parts) openGateway(ctx context.Context, s settings, log *slog.Logger) (addGate func(*datapath.Datapath) error) {
	p.health = make(chan flow.Health, healthBuffer)
	var tell *teller // the prober tells nobody before its first Commit
	dialer := node.TransparentDialer{}
	var former func(uint32) uint32
	if left := datapath.Left(s.pin); left != nil {
		former = func(target uint32) uint32 { return left[target] }
	}
	prober := health.New(health.Options{Former: former, Dial: dialer.Dial, Datagram: dialer.Datagram, Ping: dialer.Ping, Report: func(r health.Result) { tell.report(r) },
		Slow: func(target, share uint32) { tell.slow(target, share) }})
	web := proxy.New(proxy.Options{Dial: dialer.Dial, Listen: node.TransparentListen, Alive: prober.Alive, Share: prober.Share, Logger: log})
	p.requests = web.Requests
	p.closers = append(p.closers,
		func() error { prober.Close(); return nil },
		func() error { return drain(web) })
	if kept := node.Kept(s.node, datapath.InForce(s.pin)); kept != nil {
		resume(ctx, web, kept, log)
	}
	return func(gate *datapath.Datapath) error {
		tell = newTeller(ctx, gate, p.health, log)
		p.appliers = append(p.appliers, web, tell, prober)
		if s.arp {
			heralds, err := node.NewAnnouncer(s.device, s.standby, log)
			if err != nil {
				return err
			}
			p.appliers = append(p.appliers, heralds)
			p.closers = append(p.closers, heralds.Close)
		}
		return node.PolicyRoute(s.device)
	}
}

// resume lets layer 7 go on while the kernel still verifies the programs, which
// is most of a start: until they are replaced, those of the former process
// judge, by the very snapshot that was kept.
func resume(ctx context.Context, web node.Applier, kept *snapshot.Snapshot, log *slog.Logger) {
	err := web.Stage(ctx, kept)
	if err == nil {
		err = web.Commit(ctx, kept.Revision)
	}
	if err != nil {
		log.Warn("layer 7 waits for the programs", "error", err) // and is told of then
		return
	}
	log.Info("layer 7 serves what was kept", "revision", kept.Revision)
}

// drain lets requests in flight finish for a while.
func drain(web *proxy.Proxy) error {
	ctx, cancel := context.WithTimeout(context.Background(), drainLimit)
	defer cancel()
	if err := web.Close(ctx); err != nil && !errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return nil
}

func (p *parts) close() error {
	var all error
	for i := len(p.closers) - 1; i >= 0; i-- {
		all = errors.Join(all, p.closers[i]())
	}
	return all
}
