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
	"github.com/sallyport/sallyport/internal/lb"
	"github.com/sallyport/sallyport/internal/node"
	"github.com/sallyport/sallyport/internal/proxy"
)

// parts are the rooms of one node, wired together.
type parts struct {
	appliers []node.Applier
	kernel   node.Kernel
	health   chan flow.Health
	closers  []func() error // run from the last to the first
}

// open attaches the gate and, on a gateway, makes proxy and prober. On an
// error nothing new stays but what the kernel already had.
func open(s settings, log *slog.Logger) (*parts, error) {
	if os.Geteuid() != 0 {
		return nil, errors.New("run needs root: it attaches programs to the kernel")
	}
	p := &parts{health: make(chan flow.Health, healthBuffer)}
	gate, err := datapath.Open(datapath.Options{Node: s.node.Name, Role: s.node.Role, Device: s.device, PinDir: s.pin,
		Address: s.node.Address, Control: s.control, Log: log})
	if err != nil {
		return nil, fmt.Errorf("attach to %s: %w", s.device, err)
	}
	p.kernel = gate
	p.appliers = append(p.appliers, gate)
	p.closers = append(p.closers, gate.Close)
	if s.node.Role == lb.RoleGateway {
		if err := p.openGateway(s, gate, log); err != nil {
			return nil, errors.Join(err, p.close())
		}
	}
	return p, nil
}

// openGateway adds what only a gateway has.
func (p *parts) openGateway(s settings, gate *datapath.Datapath, log *slog.Logger) error {
	if err := node.PolicyRoute(s.device); err != nil {
		return err
	}
	dialer := node.TransparentDialer{}
	web := proxy.New(proxy.Options{Dial: dialer.Dial, Listen: node.TransparentListen, Logger: log})
	p.appliers = append(p.appliers, web)
	p.closers = append(p.closers, func() error {
		ctx, cancel := context.WithTimeout(context.Background(), drainLimit)
		defer cancel()
		if err := web.Close(ctx); err != nil && !errors.Is(err, context.DeadlineExceeded) {
			return err
		}
		return nil
	})
	return nil
}

func (p *parts) close() error {
	var all error
	for i := len(p.closers) - 1; i >= 0; i-- {
		all = errors.Join(all, p.closers[i]())
	}
	return all
}
