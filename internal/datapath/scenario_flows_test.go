// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"context"
	"fmt"
	"net/netip"

	"github.com/sallyport/sallyport/internal/scenario"
)

// held is an open flow: how it began and where it ended.
type held struct {
	opening
	at  place
	end netip.AddrPort
}

// Open walks opener, answer and third packet through the programs.
func (k *kernel) Open(_ context.Context, name string, s scenario.Send) (scenario.Result, error) {
	t := &trip{kernel: k}
	k.port++
	o := opening{from: client, src: netip.AddrPortFrom(s.From.Address, k.port), dst: netip.AddrPortFrom(s.To, s.Port)}
	if s.From.Instance != "" {
		o.from = place(s.From.Instance)
	}
	at, end, fault, err := t.open(o)
	k.flows[name] = held{o, at, end}
	return scenario.Result{Served: at != nowhere && fault == "", By: string(at), Detail: fmt.Sprintf("the packet ended at %q, %v", at, end), Fault: fault}, err
}

// Still walks one more packet of the flow, and one of its other direction.
func (k *kernel) Still(_ context.Context, name string, _ bool) (scenario.Result, error) {
	t, f := &trip{kernel: k}, k.flows[name]
	at, _, err := t.leave(f.from, f.frame(f.src, f.dst, tcpAck), f.mark)
	if err != nil || at == nowhere {
		return scenario.Result{Detail: fmt.Sprint(t.verdicts)}, err
	}
	if at != f.at {
		return scenario.Result{Lost: true, Detail: fmt.Sprintf("it went to %q, not to %q", at, f.at)}, nil
	}
	back, _, err := t.leave(at, f.frame(f.end, f.src, tcpAck), 0)
	if err == nil && back != f.from {
		return scenario.Result{Fault: fmt.Sprintf("the answer went to %q", back)}, nil
	}
	return scenario.Result{Served: err == nil, Detail: "answered"}, err
}
