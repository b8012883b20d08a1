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
)

// parts are the rooms of one node, wired together.
type parts struct {
	appliers []node.Applier
	kernel   node.Kernel
	health   chan flow.Health // nil on a host
	closers  []func() error   // run from the last to the first
}

// open attaches the gate and, on a gateway, makes proxy and prober. On an
// error nothing new stays but what the kernel already had.
func open(ctx context.Context, s settings, log *slog.Logger) (*parts, error) {
	if os.Geteuid() != 0 {
		return nil, errors.New("run needs root: it attaches programs to the kernel")
	}
	gate, err := datapath.Open(datapath.Options{Node: s.node.Name, Role: s.node.Role, Device: s.device, PinDir: s.pin,
		Address: s.node.Address, Control: s.control, Attach: s.attach, Proxied: s.node.Role == lb.RoleGateway, Log: log})
	if err != nil {
		return nil, fmt.Errorf("attach to %s: %w", s.device, err)
	}
	p := &parts{kernel: gate, appliers: []node.Applier{gate}, closers: []func() error{gate.Close}}
	if s.node.Role == lb.RoleGateway {
		if err := p.openGateway(ctx, s, gate, log); err != nil {
			return nil, errors.Join(err, p.close())
		}
	}
	return p, nil
}

// openGateway adds what only a gateway has. The prober comes last, so that
// what it reports is about targets that the rest knows.
func (p *parts) openGateway(ctx context.Context, s settings, gate *datapath.Datapath, log *slog.Logger) error {
	if err := node.PolicyRoute(s.device); err != nil {
		return err
	}
	p.health = make(chan flow.Health, healthBuffer)
	tell := newTeller(ctx, gate, p.health, gate.Revision() != 0, log)
	dialer := node.TransparentDialer{}
	prober := health.New(health.Options{Dial: dialer.Dial, Report: tell.report})
	web := proxy.New(proxy.Options{Dial: dialer.Dial, Listen: node.TransparentListen, Alive: prober.Alive, Logger: log})
	p.appliers = append(p.appliers, web, tell, prober)
	p.closers = append(p.closers,
		func() error { prober.Close(); return nil },
		func() error { return drain(web) })
	return nil
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
