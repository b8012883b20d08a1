// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/sallyport/sallyport/internal/snapshot"
)

// The VIP is nobody's address here: the datagram leaves from it, and answer,
// echo and the word of a closed port come back to it.
func TestTransparentDatagramAndPing(t *testing.T) {
	for _, c := range []struct{ name, vip, service, bits string }{
		{"IPv4", "192.0.2.1", "10.200.0.5", "/32"},
		{"IPv6", "2001:db8:1::1", "2001:db8:2::5", "/128"},
	} {
		t.Run(c.name, func(t *testing.T) {
			inNamespace(t)
			if err := PolicyRoute("lo"); err != nil {
				t.Fatal(err)
			}
			// Here both ends share one kernel: what it answers needs the mark too.
			for _, name := range []string{"ipv4", "ipv6"} {
				if err := os.WriteFile("/proc/sys/net/"+name+"/fwmark_reflect", []byte("1"), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			lo, err := netlink.LinkByName("lo")
			if err != nil {
				t.Fatal(err)
			}
			addr, err := netlink.ParseAddr(c.service + c.bits)
			if err != nil {
				t.Fatal(err)
			}
			if err := netlink.AddrAdd(lo, addr); err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
			defer cancel()
			from, to := netip.MustParseAddr(c.vip), netip.MustParseAddr(c.service)
			dialer := TransparentDialer{}
			if err := dialer.Ping(ctx, from, to, snapshot.MarkLocal); err != nil {
				t.Errorf("ping: %v", err)
			}
			conn, err := dialer.Datagram(ctx, netip.AddrPortFrom(from, 0), netip.AddrPortFrom(to, 53), snapshot.MarkLocal)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			if host, _, _ := net.SplitHostPort(conn.LocalAddr().String()); host != c.vip {
				t.Errorf("sends from %s", host)
			}
			deadline, _ := ctx.Deadline()
			conn.SetDeadline(deadline)
			if _, err := conn.Write([]byte("x")); err != nil {
				t.Fatal(err)
			}
			if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNREFUSED) {
				t.Errorf("closed port: %v", err)
			}
			short, end := context.WithTimeout(ctx, 50*time.Millisecond)
			defer end()
			var timeout net.Error
			if err := dialer.Ping(short, from, netip.MustParseAddr(c.vip), snapshot.TargetMark(1)); err == nil {
				t.Error("an echo from nowhere")
			} else if errors.As(err, &timeout) && !timeout.Timeout() && !errors.Is(err, syscall.ENETUNREACH) {
				t.Errorf("%v", err)
			}
		})
	}
}
