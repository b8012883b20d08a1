// SPDX-License-Identifier: Apache-2.0

package health

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"syscall"
	"time"

	"github.com/sallyport/sallyport/internal/lb"
	"github.com/sallyport/sallyport/internal/snapshot"
)

// marker is what a probe of a layer-4 listener carries when its check says
// nothing else.
const marker = "HEALTH CHECK"

// leastPatience is how long at least the word that a port is closed is waited
// for once the echo is back, which took the same way.
const leastPatience = 50 * time.Millisecond

// maxAnswer bounds what is read of an answer to a CUSTOM check, in bytes.
const maxAnswer = 64 << 10

// probeUDP makes one probe of a UDP target, in what is left of ctx. Silence
// says nothing about a UDP port: a PING check fails on a lost echo or a port
// that is said to be closed, a CUSTOM check with content on a missing or other
// answer, and one without only on a port that is said to be closed.
func (p *Prober) probeUDP(ctx context.Context, o order) *failure {
	mark := snapshot.TargetMark(o.num)
	conn, err := p.options.Datagram(ctx, netip.AddrPortFrom(o.from, 0), o.to, mark)
	if err != nil {
		return failureOf(o, err)
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	send, want := o.check.Context()
	if o.check.ContextType == "" {
		send = []byte(marker)
	}
	start := time.Now()
	if _, err := conn.Write(send); err != nil {
		return datagramFailure(o, err)
	}
	if o.check.Type == lb.CheckPing {
		if err := p.options.Ping(ctx, o.from, o.to.Addr(), mark); err != nil {
			return pingFailure(o, err)
		}
		conn.SetReadDeadline(time.Now().Add(max(time.Since(start), leastPatience)))
	}
	answer := make([]byte, maxAnswer)
	n, err := conn.Read(answer)
	switch {
	case err != nil && want == nil && isTimeout(err):
		return nil
	case err != nil:
		return datagramFailure(o, err)
	case want != nil && !bytes.Equal(answer[:n], want):
		return &failure{KindAnswer, fmt.Sprintf("%v answered %d bytes that are not those of RecvContext.", o.to, n)}
	}
	return nil
}

// askCustom sends what a CUSTOM check says over a TCP connection, and reads as
// much as it expects.
func askCustom(conn net.Conn, o order) *failure {
	send, want := o.check.Context()
	if _, err := conn.Write(send); err != nil {
		return failureOf(o, err)
	}
	got := make([]byte, len(want))
	n, err := io.ReadFull(conn, got)
	switch {
	case isTimeout(err):
		return &failure{KindTimeout, fmt.Sprintf("%v took the connection and answered %d of the %d bytes of RecvContext within %d s.", o.to, n, len(want), o.check.TimeOut)}
	case errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF):
		return &failure{KindAnswer, fmt.Sprintf("%v closed the connection after %d of the %d bytes of RecvContext.", o.to, n, len(want))}
	case err != nil:
		return failureOf(o, err)
	case !bytes.Equal(got, want):
		return &failure{KindAnswer, fmt.Sprintf("%v answered what RecvContext does not begin with.", o.to)}
	}
	return nil
}

func isTimeout(err error) bool {
	var timeout net.Error
	return errors.Is(err, context.DeadlineExceeded) || errors.As(err, &timeout) && timeout.Timeout()
}

func datagramFailure(o order, err error) *failure {
	if errors.Is(err, syscall.ECONNREFUSED) {
		return &failure{KindRefused, fmt.Sprintf("%v said that its port is closed: nothing listens there for UDP.", o.to)}
	}
	return failureOf(o, err)
}

func pingFailure(o order, err error) *failure {
	if isTimeout(err) {
		return &failure{KindTimeout, fmt.Sprintf("No echo from %v within %d s, pinging from %v.", o.to.Addr(), o.check.TimeOut, o.from)}
	}
	return &failure{KindTimeout, fmt.Sprintf("%v could not be pinged from %v: %v.", o.to.Addr(), o.from, err)}
}
