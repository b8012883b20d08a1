// SPDX-License-Identifier: Apache-2.0

package scenario

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/sallyport/sallyport/internal/lb"
	"github.com/sallyport/sallyport/internal/policy"
)

// cutSize is how long a datagram is at least that goes in fragments.
const cutSize = 3000

// inPieces is what becomes of a datagram in fragments: stories' networks have no
// room in the tunnel for what clients send, so the first gate on its way can judge
// none of them.
func inPieces(s Send, p lb.Packet) Result {
	gate, dir := policy.GateCVM, policy.In
	switch {
	case s.From.Instance != "":
		dir = policy.Out
	case s.Balancer != "":
		gate = policy.GateCLB
	}
	judged := policy.Fragments{Narrow: true}
	var res Result
	for at := 0; at < cutSize; at += cutSize / 2 {
		v := judged.Judge(gate, p, policy.Piece{ID: 1, Offset: at, Length: cutSize / 2}, func(p lb.Packet) policy.Verdict { return policy.Decide(gate, dir, nil, p) })
		if text := VerdictText(v, dir); !slices.Contains(res.Verdicts, text) {
			res.Verdicts = append(res.Verdicts, text)
		}
	}
	return res
}

// datagram sends one datagram and reads what comes: an instance answers with
// what it saw.
func (a attempt) datagram(ctx context.Context, pid int) (Result, error) {
	var conn net.Conn
	err := inNamespace(pid, func() (err error) {
		dialer := net.Dialer{LocalAddr: net.UDPAddrFromAddrPort(netip.AddrPortFrom(a.From.Address, a.port))}
		conn, err = dialer.DialContext(ctx, "udp", netip.AddrPortFrom(a.To, a.Port).String())
		return err
	})
	if err != nil {
		return Result{}, err
	}
	defer func() { _ = conn.Close() }()
	deadline, _ := ctx.Deadline()
	if err := conn.SetDeadline(deadline); err != nil {
		return Result{}, err
	}
	said := []byte(a.token)
	if a.Cut {
		said = append(said, make([]byte, cutSize)...)
	}
	if _, err := conn.Write(said); err != nil {
		return Result{}, err
	}
	answer := make([]byte, 1<<16)
	n, err := conn.Read(answer)
	if isTimeout(err) {
		return Result{Detail: "no answer"}, nil
	}
	if errors.Is(err, unix.ECONNREFUSED) {
		return Result{Fault: fmt.Sprintf("an answer instead of silence: %v", err)}, nil
	}
	if err != nil {
		return Result{}, err
	}
	var sight struct {
		Instance string
		Peer     netip.Addr
		PeerPort uint16
	}
	if err := json.Unmarshal(answer[:n], &sight); err != nil {
		return Result{Fault: fmt.Sprintf("not the instance's answer: %v", err)}, nil
	}
	if sight.Peer != a.From.Address || sight.PeerPort != a.port {
		return Result{Fault: fmt.Sprintf("the instance saw %v:%d, not the client's %v:%d", sight.Peer, sight.PeerPort, a.From.Address, a.port)}, nil
	}
	return Result{Served: true, By: sight.Instance, Detail: "answered"}, nil
}
