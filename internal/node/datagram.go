// SPDX-License-Identifier: Apache-2.0

package node

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"syscall"
	"time"

	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
	"golang.org/x/sys/unix"
)

// Datagram makes a UDP socket that is connected from from to to, as Dial does
// for TCP. Nothing is sent; that a port is closed shows at the next read.
func (d TransparentDialer) Datagram(ctx context.Context, from, to netip.AddrPort, mark uint32) (net.Conn, error) {
	if from.Addr().Unmap().Is4() != to.Addr().Unmap().Is4() {
		return nil, fmt.Errorf("send to %v from %v: addresses of different families", to, from)
	}
	dialer := net.Dialer{LocalAddr: net.UDPAddrFromAddrPort(from), Control: d.control(to, mark)}
	return dialer.DialContext(ctx, network("udp", to.Addr()), to.String())
}

// Ping sends one echo request and waits for the answer to it until ctx ends.
// An expired ctx is visible to net.Error's Timeout.
func (d TransparentDialer) Ping(ctx context.Context, from, to netip.Addr, mark uint32) error {
	from, to = from.Unmap(), to.Unmap()
	if from.Is4() != to.Is4() {
		return fmt.Errorf("ping %v from %v: addresses of different families", to, from)
	}
	family, request, reply := 1, icmp.Type(ipv4.ICMPTypeEcho), icmp.Type(ipv4.ICMPTypeEchoReply)
	name := "ip4:icmp"
	if to.Is6() {
		family, request, reply, name = 58, ipv6.ICMPTypeEchoRequest, ipv6.ICMPTypeEchoReply, "ip6:ipv6-icmp"
	}
	dialer := net.Dialer{LocalAddr: &net.IPAddr{IP: from.AsSlice()}, Control: func(_, _ string, raw syscall.RawConn) error {
		return control(raw, func(fd int) error { return prepareRaw(fd, to, mark) })
	}}
	made, err := dialer.DialContext(ctx, name, to.String())
	if err != nil {
		return err
	}
	conn := made.(*net.IPConn)
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	body := &icmp.Echo{Data: make([]byte, 24)}
	copy(body.Data, "HEALTH CHECK")
	if _, err := rand.Read(body.Data[12:]); err != nil {
		return err
	}
	body.ID, body.Seq = int(binary.BigEndian.Uint16(body.Data[12:])), 1
	packet, err := (&icmp.Message{Type: request, Body: body}).Marshal(nil) // of ICMPv6 the kernel makes the checksum
	if err != nil {
		return err
	}
	if _, err := conn.Write(packet); err != nil {
		return err
	}
	for answer := make([]byte, 1500); ; {
		n, _, err := conn.ReadFromIP(answer) // Read would give the IP header too
		if err != nil {
			return err
		}
		m, err := icmp.ParseMessage(family, answer[:n])
		if err != nil || m.Type != reply {
			continue
		}
		if got, ok := m.Body.(*icmp.Echo); ok && got.ID == body.ID && bytes.Equal(got.Data, body.Data) {
			return nil
		}
	}
}

// prepareRaw sets what a socket without ports needs before bind.
func prepareRaw(fd int, to netip.Addr, mark uint32) error {
	if err := transparent(fd, to); err != nil {
		return err
	}
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_MARK, int(mark)); err != nil {
		return fmt.Errorf("SO_MARK %#x: %w", mark, err)
	}
	return nil
}
