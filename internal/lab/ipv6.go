// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// hasIPv6 reports whether this kernel has IPv6. A lab without it has IPv4 only.
func hasIPv6() bool {
	_, err := os.Stat("/proc/sys/net/ipv6")
	return err == nil
}

// routerIPv6 is the router's address on every link: unlike ARP, neighbour
// discovery answers only for addresses of the link itself.
func routerIPv6() netip.Addr { return netip.MustParseAddr("fe80::1") }

// underlayIPv6 is the IPv6 address of the host that has this IPv4 one in the
// lab's own network: 192.0.2.129 is 2001:db8:0:2::129.
func underlayIPv6(a netip.Addr) netip.Addr {
	return netip.MustParseAddr(fmt.Sprintf("2001:db8:0:2::%d", a.As4()[3]))
}

// clientIPv6 are the addresses of the clients, in two networks.
func clientIPv6(name string) netip.Addr {
	return netip.MustParseAddr(map[string]string{
		"client-1": "2001:db8:113::10", "client-2": "2001:db8:51:100::20", "client-3": "2001:db8:113::30",
	}[name])
}

// settleIPv6 is settle for IPv6: addresses count at once, nobody is asked for
// more, and links have what they are given.
func settleIPv6(router bool) error {
	if !hasIPv6() {
		return nil
	}
	forward, generate := "0", "0"
	if router {
		forward, generate = "1", "1" // 1: no address of its own but the one given
	}
	for _, s := range []struct{ name, value string }{
		{"all.disable_ipv6", "0"}, {"default.disable_ipv6", "0"},
		{"default.accept_ra", "0"}, {"default.router_solicitations", "0"}, {"default.autoconf", "0"},
		{"all.accept_dad", "0"}, {"default.accept_dad", "0"}, {"default.dad_transmits", "0"}, {"default.addr_gen_mode", generate},
		{"all.accept_redirects", "0"}, {"default.accept_redirects", "0"}, {"all.forwarding", forward},
	} {
		if err := sysctl("net.ipv6.conf."+s.name, s.value); err != nil {
			return fmt.Errorf("set net.ipv6.conf.%s: %w", s.name, err)
		}
	}
	return nil
}

// addIPv6 gives a link an address, which counts at once.
func addIPv6(link netlink.Link, a netip.Addr) error {
	net := hostNet(a)
	if a.IsLinkLocalUnicast() {
		net = wholeNet(netip.PrefixFrom(a, 64))
	}
	if err := netlink.AddrAdd(link, &netlink.Addr{IPNet: net, Flags: unix.IFA_F_NODAD}); err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("address %v: %w", a, err)
	}
	return nil
}

// linkIPv6 runs in the fabric: the router's address on the host's link, and on
// a gateway's the way to what no other host has.
func linkIPv6(h Host, link netlink.Link) error {
	if !hasIPv6() {
		return nil
	}
	if err := addIPv6(link, routerIPv6()); err != nil || h.Role != RoleGateway {
		return err
	}
	return netlink.RouteAdd(&netlink.Route{
		LinkIndex: link.Attrs().Index, Dst: wholeNet(netip.PrefixFrom(netip.IPv6Unspecified(), 0)),
		Gw: h.IPv6.AsSlice(), Flags: int(netlink.FLAG_ONLINK),
	})
}

// addressIPv6 runs in the host: its address on eth0, and the way out from it.
func addressIPv6(h Host, eth netlink.Link) error {
	if !hasIPv6() || !h.IPv6.IsValid() && !h.Underlay.Is6() {
		return nil
	}
	if h.Underlay.Is6() && h.Underlay != h.IPv6 {
		if err := addIPv6(eth, h.Underlay); err != nil {
			return err
		}
		// The agent speaks with the server as the machine, not as the guest, and
		// tunnels lead to gateways also from a guest without IPv6.
		if err := netlink.RouteReplace(wayOutIPv6(eth, netip.PrefixFrom(h.Underlay, 64).Masked(), h.Underlay)); err != nil {
			return fmt.Errorf("route to the underlay: %w", err)
		}
	}
	if !h.IPv6.IsValid() {
		return nil
	}
	if err := addIPv6(eth, h.IPv6); err != nil {
		return err
	}
	if err := netlink.RouteReplace(wayOutIPv6(eth, netip.PrefixFrom(netip.IPv6Unspecified(), 0), h.IPv6)); err != nil {
		return fmt.Errorf("default route of IPv6: %w", err)
	}
	return nil
}

func wayOutIPv6(eth netlink.Link, to netip.Prefix, from netip.Addr) *netlink.Route {
	return &netlink.Route{LinkIndex: eth.Attrs().Index, Dst: wholeNet(to), Gw: routerIPv6().AsSlice(), Src: from.AsSlice(), Flags: int(netlink.FLAG_ONLINK)}
}

// sixOf is how a record has a host's IPv6 address.
func sixOf(h Host) []netip.Addr {
	if !h.IPv6.IsValid() || !hasIPv6() {
		return nil
	}
	return []netip.Addr{h.IPv6}
}

// SetIPv6 gives the host of an instance another IPv6 address in place of the
// one it has; the zero Addr takes it away. What is there already stays.
func (l *Lab) SetIPv6(id string, a netip.Addr) error {
	l.mu.Lock()
	at := slices.IndexFunc(l.hosts, func(h Host) bool { return h.Instance == id })
	if at < 0 || l.hosts[at].IPv6 == a || !hasIPv6() {
		l.mu.Unlock()
		return nil
	}
	old := l.hosts[at].IPv6
	l.hosts[at].IPv6 = a
	h := l.hosts[at]
	l.mu.Unlock()
	err := inside(Namespace(fabricName), func() error {
		link, err := netlink.LinkByName(h.Name)
		if err != nil {
			return err
		}
		if old.IsValid() {
			if err := netlink.RouteDel(&netlink.Route{LinkIndex: link.Attrs().Index, Dst: hostNet(old)}); err != nil && !errors.Is(err, unix.ESRCH) {
				return fmt.Errorf("route %v: %w", old, err)
			}
		}
		if !a.IsValid() || l.o.Node != "" && !gateStands(h.Name) {
			return nil // see openBehindGate
		}
		return routeTo(h, link, []netip.Addr{a})
	})
	if err == nil {
		err = inside(Namespace(h.Name), func() error {
			eth, err := netlink.LinkByName("eth0")
			if err != nil {
				return err
			}
			if old.IsValid() {
				if err := netlink.AddrDel(eth, &netlink.Addr{IPNet: hostNet(old)}); err != nil && !errors.Is(err, unix.EADDRNOTAVAIL) {
					return fmt.Errorf("address %v: %w", old, err)
				}
			}
			return addressIPv6(h, eth)
		})
	}
	l.save()
	return err
}
