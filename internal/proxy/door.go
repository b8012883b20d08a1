// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// shut lets a listening socket begin no more connections: the kernel throws new
// SYNs away, which their clients send again, to whoever listens then. What has
// begun goes on: closing the socket would reset connections that the client
// takes for open and nobody has accepted yet.
func shut(l net.Listener) error {
	const flags, syn, ack = 13, 2, 16
	program := []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_B | unix.BPF_ABS, K: flags},
		{Code: unix.BPF_ALU | unix.BPF_AND | unix.BPF_K, K: syn | ack},
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: syn, Jf: 1},
		{Code: unix.BPF_RET | unix.BPF_K, K: 0},
		{Code: unix.BPF_RET | unix.BPF_K, K: 1<<32 - 1},
	}
	return socket(l, func(fd int) error {
		return unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER,
			&unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]})
	})
}

// queued is how many connections wait to be accepted.
func queued(l net.Listener) (n int, err error) {
	err = socket(l, func(fd int) error {
		info, err := unix.GetsockoptTCPInfo(fd, unix.IPPROTO_TCP, unix.TCP_INFO)
		if err == nil {
			n = int(info.Unacked) // a listening socket's has this meaning
		}
		return err
	})
	return n, err
}

func socket(l net.Listener, do func(fd int) error) error {
	c, ok := l.(syscall.Conn)
	if !ok {
		return fmt.Errorf("a %T has no socket", l)
	}
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	if err := raw.Control(func(fd uintptr) { failed = do(int(fd)) }); err != nil {
		return err
	}
	return failed
}

// How often shutting looks, and how long it waits for what clients may never
// finish.
const (
	shutPoll  = 5 * time.Millisecond
	shutLimit = time.Second
)

// shutAll lets no listener begin connections and returns when those that have
// begun are accepted and the heads that have begun are whole, or after a while.
func (p *Proxy) shutAll(ctx context.Context, open map[netip.AddrPort]*front) {
	if len(open) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, shutLimit)
	defer cancel()
	for at, f := range open {
		if err := shut(f.listener); err != nil {
			p.options.Logger.Warn("connections that are being made may break", "address", at, "err", err)
		}
	}
	calm := time.Now().Add(p.limits.Handshake)
	tick := time.NewTicker(shutPoll)
	defer tick.Stop()
	for time.Now().Before(calm) || p.heads.Load() > 0 || anyQueued(open) {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func anyQueued(open map[netip.AddrPort]*front) bool {
	for _, f := range open {
		if n, err := queued(f.listener); err == nil && n > 0 {
			return true
		}
	}
	return false
}

// A headCount counts the request heads that clients have begun and not finished.
// net/http takes their connections for idle.
type headCount struct{ atomic.Int64 }

// moved counts the change of one connection's deadline for a head.
func (h *headCount) moved(from, to time.Time) {
	switch {
	case h == nil || from.IsZero() == to.IsZero():
	case from.IsZero():
		h.Add(1)
	default:
		h.Add(-1)
	}
}
