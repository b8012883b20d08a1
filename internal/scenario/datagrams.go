// SPDX-License-Identifier: Apache-2.0

package scenario

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"

	"golang.org/x/sys/unix"
)

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
	if _, err := conn.Write([]byte(a.token)); err != nil {
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
