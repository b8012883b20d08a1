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

// opener sends a flow's first packet off: a datagram that is to be cut in fragments,
// which must end at one place, and there be the datagram.
func (t *trip) opener(o opening) (at place, arrived []byte, err error) {
	if !o.cut {
		return t.leave(o.from, o.frame(o.src, o.dst, tcpSyn), o.mark)
	}
	var pieces [][]byte
	whole := udpOf(o.src, o.dst, 3000)
	for offset := 0; offset < len(whole)-34; offset += 1480 {
		to, frame, err := t.leave(o.from, piece(whole, t.port, offset, 1480), o.mark)
		if err == nil && offset > 0 && to != at {
			err = fmt.Errorf("fragments came to %q and to %q", at, to)
		}
		if err != nil {
			return nowhere, nil, err
		}
		at, pieces = to, append(pieces, frame)
	}
	if at == nowhere {
		return nowhere, nil, nil
	}
	return at, joined(pieces...), nil
}
