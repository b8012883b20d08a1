// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"

	"golang.org/x/sys/unix"
)

// A TransparentDialer opens TCP connections whose source address is somebody
// else's: the client's for the proxy, the VIP for the prober. The mark tells
// the gateway's egress program which target the packets are for. It needs
// CAP_NET_ADMIN. The zero TransparentDialer takes source ports from the whole
// ephemeral range of the machine.
type TransparentDialer struct {
	First, Last uint16 // the gateway's own slice of source ports, inclusive; 0, 0: no slice
}

// Dial connects from from to to; port 0 in from picks a port of the slice.
// Errors of the kernel stay visible to errors.Is, and an expired ctx to
// net.Error's Timeout.
func (d TransparentDialer) Dial(ctx context.Context, from, to netip.AddrPort, mark uint32) (net.Conn, error) {
	if from.Addr().Unmap().Is4() != to.Addr().Unmap().Is4() {
		return nil, fmt.Errorf("dial %v from %v: addresses of different families", to, from)
	}
	dialer := net.Dialer{LocalAddr: net.TCPAddrFromAddrPort(from), Control: d.control(to, mark)}
	return dialer.DialContext(ctx, network("tcp", to.Addr()), to.String())
}

// control prepares a socket that is about to be bound.
func (d TransparentDialer) control(to netip.AddrPort, mark uint32) func(_, _ string, raw syscall.RawConn) error {
	return func(_, _ string, raw syscall.RawConn) error {
		return control(raw, func(fd int) error { return d.prepare(fd, to, mark) })
	}
}

// prepare sets what must be set before bind. With IP_BIND_ADDRESS_NO_PORT the
// port is chosen at connect, when the whole tuple is known: otherwise one
// client could not have more connections than there are ports.
func (d TransparentDialer) prepare(fd int, to netip.AddrPort, mark uint32) error {
	if err := transparent(fd, to.Addr()); err != nil {
		return err
	}
	if err := unix.SetsockoptInt(fd, unix.SOL_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1); err != nil {
		return fmt.Errorf("IP_BIND_ADDRESS_NO_PORT: %w", err)
	}
	if d.Last != 0 {
		slice := int(d.First) | int(d.Last)<<16
		if err := unix.SetsockoptInt(fd, unix.SOL_IP, unix.IP_LOCAL_PORT_RANGE, slice); err != nil {
			return fmt.Errorf("IP_LOCAL_PORT_RANGE %d-%d: %w", d.First, d.Last, err)
		}
	}
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_MARK, int(mark)); err != nil {
		return fmt.Errorf("SO_MARK %#x: %w", mark, err)
	}
	return nil
}

// TransparentListen opens a TCP listener on a VIP, which no interface has.
// SO_REUSEPORT lets an upgraded process open it while the old one still
// serves. The connections' RemoteAddr is the true client. Errors name the address.
func TransparentListen(ctx context.Context, at netip.AddrPort) (net.Listener, error) {
	config := net.ListenConfig{
		Control: func(_, _ string, raw syscall.RawConn) error {
			return control(raw, func(fd int) error {
				if err := transparent(fd, at.Addr()); err != nil {
					return err
				}
				if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err != nil {
					return fmt.Errorf("SO_REUSEADDR: %w", err)
				}
				if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1); err != nil {
					return fmt.Errorf("SO_REUSEPORT: %w", err)
				}
				return nil
			})
		},
	}
	// A multipath socket would advertise addresses that clients cannot reach.
	config.SetMultipathTCP(false)
	return config.Listen(ctx, network("tcp", at.Addr()), at.String())
}

// transparent allows a socket an address that the machine does not own.
func transparent(fd int, addr netip.Addr) error {
	type option struct {
		name        string
		level, what int
	}
	options := []option{{"IP_TRANSPARENT", unix.SOL_IP, unix.IP_TRANSPARENT}, {"IP_FREEBIND", unix.SOL_IP, unix.IP_FREEBIND}}
	if !addr.Unmap().Is4() {
		options = []option{{"IPV6_TRANSPARENT", unix.SOL_IPV6, unix.IPV6_TRANSPARENT}, {"IPV6_FREEBIND", unix.SOL_IPV6, unix.IPV6_FREEBIND}}
	}
	for _, o := range options {
		if err := unix.SetsockoptInt(fd, o.level, o.what, 1); err != nil {
			return fmt.Errorf("%s: %w", o.name, err)
		}
	}
	return nil
}

func control(raw syscall.RawConn, set func(fd int) error) error {
	var failed error
	err := raw.Control(func(fd uintptr) { failed = set(int(fd)) })
	return errors.Join(err, failed)
}

// network names a protocol over the family of an address.
func network(protocol string, at netip.Addr) string {
	if at.Unmap().Is4() {
		return protocol + "4"
	}
	return protocol + "6"
}
