// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"strings"
	"unsafe"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// makeFabric makes the router in the middle.
func makeFabric() error {
	return newNamespace(fabricName, func() error {
		if err := settle(true); err != nil {
			return err
		}
		lo, err := loUp()
		if err != nil {
			return err
		}
		// On lo, the router answers ARP for its address on every link.
		return netlink.AddrAdd(lo, &netlink.Addr{IPNet: hostNet(FabricAddress())})
	})
}

// makeHost makes the namespace of h, links it with the fabric and routes the
// given addresses of it there.
func makeHost(h Host, routed []netip.Addr) error {
	if err := newNamespace(h.Name, func() error {
		if err := settle(false); err != nil {
			return err
		}
		_, err := loUp()
		return err
	}); err != nil {
		return err
	}
	if err := inside(Namespace(fabricName), func() error { return linkHost(h, routed) }); err != nil {
		return errors.Join(err, dropHost(h.Name))
	}
	if err := inside(Namespace(h.Name), func() error { return addressHost(h) }); err != nil {
		return errors.Join(err, dropHost(h.Name))
	}
	return nil
}

// dropHost removes link and namespace of a host. The link goes first and by
// name: the kernel takes namespaces apart later, and the same host may come back.
func dropHost(name string) error {
	err := inside(Namespace(fabricName), func() error {
		link, err := netlink.LinkByName(name)
		var missing netlink.LinkNotFoundError
		if errors.As(err, &missing) {
			return nil
		}
		if err != nil {
			return err
		}
		return netlink.LinkDel(link)
	})
	return errors.Join(err, dropNamespace(Namespace(name)))
}

// linkHost runs in the fabric: one veth pair, its far end moved to the host,
// and a route for each of the given addresses.
func linkHost(h Host, routed []netip.Addr) error {
	ns, err := os.Open(Namespace(h.Name))
	if err != nil {
		return err
	}
	defer func() { _ = ns.Close() }()
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU = h.Name, mtu
	veth := &netlink.Veth{LinkAttrs: attrs, PeerName: "eth0", PeerMTU: mtu, PeerNamespace: netlink.NsFd(int(ns.Fd()))}
	if err := netlink.LinkAdd(veth); err != nil {
		return fmt.Errorf("link %s with the fabric: %w", h.Name, err)
	}
	link, err := netlink.LinkByName(h.Name)
	if err != nil {
		return err
	}
	if err := netlink.LinkSetUp(link); err != nil {
		return err
	}
	if err := linkIPv6(h, link); err != nil {
		return err
	}
	if err := routeTo(h, link, routed); err != nil {
		return err
	}
	if h.Role != RoleGateway {
		return nil
	}
	// VIPs are nobody's interface address, so they are routed by way of the
	// gateway's own and never asked for by ARP. Private VIPs and EIPs come out of
	// the ranges of instances: the gateway gets whatever no host has.
	return netlink.RouteAdd(&netlink.Route{
		LinkIndex: link.Attrs().Index, Dst: wholeNet(netip.PrefixFrom(netip.IPv4Unspecified(), 0)),
		Gw: h.Addresses[0].AsSlice(), Flags: int(netlink.FLAG_ONLINK),
	})
}

// routeTo runs in the fabric: a route to the host for each address.
func routeTo(h Host, link netlink.Link, addresses []netip.Addr) error {
	for _, a := range addresses {
		route := &netlink.Route{LinkIndex: link.Attrs().Index, Dst: hostNet(a), Scope: netlink.SCOPE_LINK}
		err := netlink.RouteAdd(route)
		if errors.Is(err, unix.EEXIST) && h.Role == RoleInstance {
			// Two VPCs may use the same range; the fabric has one network, so the
			// first instance keeps the plain way and the tunnel serves both.
			continue
		}
		if err != nil {
			return fmt.Errorf("route %v to %s: %w", a, h.Name, err)
		}
	}
	return nil
}

// openWay routes the addresses of an instance that stand behind its gate.
func openWay(h Host) error {
	return inside(Namespace(fabricName), func() error {
		link, err := netlink.LinkByName(h.Name)
		if err != nil {
			return err
		}
		return routeTo(h, link, h.reached())
	})
}

func wholeNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

// addressHost runs in the host: addresses on eth0 and the way out.
func addressHost(h Host) error {
	eth, err := netlink.LinkByName("eth0")
	if err != nil {
		return err
	}
	if err := fullChecksums("eth0"); err != nil {
		return err
	}
	for _, a := range h.all() {
		if a.Is6() {
			continue // see addressIPv6
		}
		if err := netlink.AddrAdd(eth, &netlink.Addr{IPNet: hostNet(a)}); err != nil {
			return fmt.Errorf("address %v: %w", a, err)
		}
	}
	if err := netlink.LinkSetUp(eth); err != nil {
		return err
	}
	if err := addressIPv6(h, eth); err != nil {
		return err
	}
	via := func(dst *net.IPNet, src netip.Addr) error {
		return netlink.RouteAdd(&netlink.Route{
			LinkIndex: eth.Attrs().Index, Dst: dst, Gw: FabricAddress().AsSlice(),
			Src: src.AsSlice(), Flags: int(netlink.FLAG_ONLINK),
		})
	}
	if err := via(wholeNet(netip.PrefixFrom(netip.IPv4Unspecified(), 0)), h.Addresses[0]); err != nil {
		return fmt.Errorf("default route: %w", err)
	}
	if h.Role != RoleInstance {
		return nil
	}
	// Within its network an instance goes by its private address, also with a
	// public one.
	if private := h.Addresses[len(h.Addresses)-1]; private != h.Addresses[0] {
		for _, p := range privateNetworks() {
			if err := via(wholeNet(p), private); err != nil {
				return fmt.Errorf("route to %v: %w", p, err)
			}
		}
	}
	if h.Underlay.Is6() {
		return nil
	}
	// The agent speaks with the server as the machine, not as the guest.
	return via(hostNet(serverAddress()), h.Underlay)
}

// all are the addresses on the host's eth0, each once.
func (h Host) all() []netip.Addr {
	if h.Role == RoleInstance {
		return append([]netip.Addr{h.Underlay}, h.reached()...)
	}
	return h.reached()
}

// reached are the addresses by which others reach the host, of both families.
func (h Host) reached() []netip.Addr {
	if !h.IPv6.IsValid() || !hasIPv6() {
		return h.Addresses
	}
	return append(slices.Clone(h.Addresses), h.IPv6)
}

// settle gives a new namespace the same settings on every machine: what a
// namespace inherits depends on the machine it is made on.
func settle(router bool) error {
	forward := "0"
	if router {
		forward = "1"
	}
	settings := []struct{ name, value string }{
		{"net.ipv4.ip_forward", forward},
		{"net.ipv4.conf.all.rp_filter", "0"},
		{"net.ipv4.conf.default.rp_filter", "0"},
		{"net.ipv4.conf.all.send_redirects", "0"},
		{"net.ipv4.conf.default.send_redirects", "0"},
		{"net.ipv4.conf.all.accept_redirects", "0"},
		{"net.ipv4.conf.default.accept_redirects", "0"},
	}
	for _, s := range settings {
		if err := sysctl(s.name, s.value); err != nil {
			return fmt.Errorf("set %s: %w", s.name, err)
		}
	}
	// Not on every kernel, and nothing depends on it.
	_ = sysctl("net.ipv4.tcp_congestion_control", "cubic")
	return settleIPv6(router)
}

func loUp() (netlink.Link, error) {
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return nil, err
	}
	return lo, netlink.LinkSetUp(lo)
}

func hostNet(a netip.Addr) *net.IPNet {
	return &net.IPNet{IP: a.AsSlice(), Mask: net.CIDRMask(a.BitLen(), a.BitLen())}
}

// fullChecksums switches transmit checksum offload off. A veth would otherwise
// hand over packets with unfinished checksums, which no real wire delivers.
func fullChecksums(device string) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(fd) }()
	value := struct{ cmd, data uint32 }{unix.ETHTOOL_STXCSUM, 0}
	var request struct {
		name [unix.IFNAMSIZ]byte
		data unsafe.Pointer
		pad  [16]byte
	}
	copy(request.name[:], device)
	request.data = unsafe.Pointer(&value)
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCETHTOOL, uintptr(unsafe.Pointer(&request))); errno != 0 {
		return fmt.Errorf("checksum offload of %s: %w", device, errno)
	}
	return nil
}

// KernelFault is one sentence if release, as uname -r prints it, is older than
// Linux 6.6, and "" otherwise.
func KernelFault(release string) string {
	var major, minor int
	if n, _ := fmt.Sscanf(release, "%d.%d", &major, &minor); n == 2 && (major > 6 || major == 6 && minor >= 6) {
		return ""
	}
	return fmt.Sprintf("Linux 6.6 or newer is needed and this is %s; on Debian 12 install linux-image-%s from bookworm-backports and reboot",
		strings.TrimSpace(release), runtime.GOARCH)
}
