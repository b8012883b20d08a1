// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sallyport/sallyport/internal/lb"
	"github.com/sallyport/sallyport/internal/policy"
	"github.com/sallyport/sallyport/internal/snapshot"
)

const (
	guestAddr = "10.0.1.9"
	guestPort = "port7"
	guestMAC  = "02:00:00:00:00:09"
	onLink    = "169.254.1.1" // what guests have for a router
)

// plug puts a guest with a kernel of its own behind port7 of dp-host, in one of
// the ways in which virtual machines and containers stand there. It can be
// called again when the port was deleted.
func (w *world) plug(kind string) {
	w.t.Helper()
	switch kind {
	case "veth", "bridge":
		w.in("dp-host", "ip", "link", "add", guestPort, "type", "veth", "peer", "name", "eth0", "netns", filepath.Base(path("dp-guest")))
	case "tap":
		w.tap()
	}
	router := guestPort
	if kind == "bridge" {
		router = "br0"
		w.in("dp-host", "ip", "link", "set", guestPort, "master", "br0")
	}
	w.in("dp-guest", "ip", "link", "set", "eth0", "address", guestMAC)
	w.in("dp-guest", "ip", "addr", "add", guestAddr+"/32", "dev", "eth0")
	w.in("dp-host", "ip", "link", "set", guestPort, "up")
	w.in("dp-guest", "ip", "link", "set", "eth0", "up")
	w.in("dp-guest", "ip", "route", "add", onLink, "dev", "eth0")
	w.in("dp-guest", "ip", "route", "add", "default", "via", onLink)
	w.in("dp-guest", "ethtool", "-K", "eth0", "tx", "off")
	if kind != "bridge" {
		w.in("dp-host", "ip", "addr", "add", onLink+"/32", "dev", guestPort)
	}
	w.in("dp-host", "ip", "route", "replace", guestAddr, "dev", router)
}

func (w *world) guestHost(kind string) {
	w.t.Helper()
	w.run("ip", "netns", "add", filepath.Base(path("dp-guest")))
	w.t.Cleanup(func() { w.run("ip", "netns", "del", filepath.Base(path("dp-guest"))) })
	w.in("dp-host", "sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv4.conf.default.rp_filter=1")
	w.in("dp-fabric", "ip", "route", "add", guestAddr, "via", hostAddr, "dev", "dp-host", "onlink")
	w.in("dp-guest", "ip", "link", "set", "lo", "up")
	if kind == "bridge" {
		w.in("dp-host", "ip", "link", "add", "br0", "type", "bridge")
		w.in("dp-host", "ip", "addr", "add", onLink+"/32", "dev", "br0")
		w.in("dp-host", "ip", "link", "set", "br0", "up")
	}
	w.plug(kind)
}

// tap makes two taps, one for the host and one in the guest, and is the cable
// between them, as a hypervisor is.
func (w *world) tap() {
	w.t.Helper()
	host, guest := w.tun("dp-host", guestPort, unix.IFF_TAP), w.tun("dp-guest", "eth0", unix.IFF_TAP)
	cable(host, guest)
}

func isDown(err error) bool {
	pe, ok := err.(*os.PathError)
	return ok && (pe.Err == unix.EIO || pe.Err == unix.EINVAL)
}

// withGuest gives the snapshots of a gateway and of a host with one guest, to
// which the VIP leads.
func withGuest(t *testing.T, rev lb.Revision, host, in, out *policy.Compiled, change func(*snapshot.Target)) (*snapshot.Snapshot, *snapshot.Snapshot) {
	t.Helper()
	gw, s := pair(t, rev, nil, host)
	target := &gw.Targets[0]
	target.ID.Instance, target.Service = "ins-2", netip.MustParseAddrPort(guestAddr+":8080")
	if change != nil {
		change(target)
	}
	s.Targets = gw.Targets
	s.Policies[in.Hash], s.Policies[out.Hash] = in, out
	s.Instances = append(s.Instances, snapshot.Instance{ID: "ins-2", Addrs: []netip.Addr{netip.MustParseAddr(guestAddr)},
		Ingress: in.Hash, Egress: out.Hash, Port: guestPort, MAC: guestMAC})
	return gw, s
}

// Guests behind a veth, a bridge and a tap: the same two gates as for a machine
// of its own, out of the guest's reach.
func TestGuests(t *testing.T) {
	for _, kind := range []string{"veth", "bridge", "tap"} {
		t.Run(kind, func(t *testing.T) { guests(t, kind) })
	}
}

const served, silent = true, false

func guests(t *testing.T, kind string) {
	w := newWorld(t)
	options := Options{Node: "ins-1", Role: lb.RoleHost, Address: netip.MustParseAddr(hostAddr)}
	gw := w.open("dp-gw", Options{Node: "gateway-1", Role: lb.RoleGateway, Address: netip.MustParseAddr(gwAddr)})
	host := w.open("dp-host", options)
	w.guestHost(kind)
	w.serve("dp-guest", guestAddr+":8080")
	w.serve("dp-host", service+":8080")
	w.serve("dp-a", clientA+":9000")
	nobody, anybody := compiled(t, "sg-none"), compiled(t, "sg-any", accept("0.0.0.0/0", 0))
	onlyA := compiled(t, "sg-a", accept(clientA+"/32", 8080))
	rev := lb.Revision(0)
	force := func(own, in, out *policy.Compiled, change func(*snapshot.Target)) {
		t.Helper()
		rev++
		s1, s2 := withGuest(t, rev, own, in, out, change)
		put(t, gw, host, s1, s2)
	}
	check := func(from, to string, want bool) {
		t.Helper()
		var err error
		var seen string
		for deadline := time.Now().Add(5 * time.Second); ; time.Sleep(20 * time.Millisecond) {
			seen, err = w.ask(from, to, 500*time.Millisecond)
			if (err == nil) == want || !want || time.Now().After(deadline) {
				break
			}
		}
		if (err == nil) != want {
			t.Errorf("%s to %s: served %v, want %v (%v)", from, to, err == nil, want, err)
			return
		}
		client := map[string]string{"dp-a": clientA, "dp-b": clientB, "dp-guest": guestAddr}[from]
		if want && seen[:len(client)] != client {
			t.Errorf("%s to %s: the server saw %s", from, to, seen)
		}
	}
	force(nobody, onlyA, nobody, nil)
	check("dp-a", vip+":80", served)
	check("dp-b", vip+":80", silent)
	check("dp-a", guestAddr+":8080", served) // not through the load balancer
	check("dp-b", guestAddr+":8080", silent)
	check("dp-a", service+":8080", silent) // the host's own rules are others
	check("dp-guest", clientA+":9000", silent)
	w.bulkFrom("dp-a", vip+":80")

	force(onlyA, nobody, anybody, nil)
	check("dp-a", vip+":80", silent)
	check("dp-a", guestAddr+":8080", silent)
	check("dp-a", service+":8080", served)
	check("dp-guest", clientA+":9000", served)

	force(nobody, onlyA, anybody, func(x *snapshot.Target) { x.ReturnVia = true })
	check("dp-a", vip+":80", served)

	w.lies(t, host)
	check("dp-a", vip+":80", served)

	// Without its process, and with another one.
	host.Close()
	check("dp-a", vip+":80", served)
	check("dp-b", guestAddr+":8080", silent)
	host = w.open("dp-host", options)
	force(nobody, onlyA, anybody, nil)
	check("dp-a", vip+":80", served)
	check("dp-b", vip+":80", silent)
	if kind == "tap" { // its cable does not come back
		return
	}
	// A guest that is gone is told of; one that comes back is guarded before it speaks.
	w.in("dp-host", "ip", "link", "del", guestPort)
	before := reason(t, host, policy.GuestAway)
	check("dp-a", vip+":80", silent)
	if reason(t, host, policy.GuestAway) == before {
		t.Error("nobody was told that the guest is away")
	}
	w.plug(kind)
	check("dp-a", vip+":80", served)
	check("dp-b", vip+":80", silent)
}

// reason is how often packets ended for a reason.
func reason(t *testing.T, d *Datapath, r policy.Reason) uint64 {
	t.Helper()
	all, err := d.Reasons()
	if err != nil {
		t.Fatal(err)
	}
	return all.Packets[r]
}

// lies has the guest say what it is not: each lie ends at its port as spoofed.
func (w *world) lies(t *testing.T, host *Datapath) {
	t.Helper()
	mac := func(s string) []byte { m, _ := net.ParseMAC(s); return m }
	addr := func(s string) []byte { return netip.MustParseAddr(s).AsSlice() }
	ip := func(source []byte, proto byte, payload ...byte) []byte {
		h := []byte{0x45, 0, 0, byte(20 + len(payload)), 0, 0, 0, 0, 64, proto, 0, 0}
		h = append(append(h, source...), addr(clientA)...)
		sum := uint32(0)
		for i := 0; i < 20; i += 2 {
			sum += uint32(h[i])<<8 | uint32(h[i+1])
		}
		sum = sum>>16 + sum&0xffff
		h[10], h[11] = byte(^sum>>8), byte(^sum)
		return append(h, payload...)
	}
	frame := func(source string, proto uint16, payload []byte) []byte {
		f := append(append(mac("ff:ff:ff:ff:ff:ff"), mac(source)...), byte(proto>>8), byte(proto))
		return append(f, append(payload, make([]byte, max(0, 46-len(payload)))...)...)
	}
	udp := func(from, to uint16) []byte {
		return []byte{byte(from >> 8), byte(from), byte(to >> 8), byte(to), 0, 8, 0, 0}
	}
	arp := func(sender string, source string) []byte {
		a := append([]byte{0, 1, 8, 0, 6, 4, 0, 2}, mac(source)...)
		return append(append(append(a, addr(sender)...), mac("ff:ff:ff:ff:ff:ff")...), addr(onLink)...)
	}
	other := "02:00:00:00:00:77"
	lies := map[string][]byte{
		"another address":          frame(guestMAC, unix.ETH_P_IP, ip(addr(service), 17, udp(1, 2)...)),
		"the VIP":                  frame(guestMAC, unix.ETH_P_IP, ip(addr(vip), 17, udp(1, 2)...)),
		"the host itself":          frame(guestMAC, unix.ETH_P_IP, ip(addr(hostAddr), 17, udp(1, TunnelPort)...)),
		"another MAC address":      frame(other, unix.ETH_P_IP, ip(addr(guestAddr), 17, udp(1, 2)...)),
		"an answer of DHCP":        frame(guestMAC, unix.ETH_P_IP, ip(addr(guestAddr), 17, udp(67, 68)...)),
		"ARP for another":          frame(guestMAC, unix.ETH_P_ARP, arp(service, guestMAC)),
		"ARP with another MAC":     frame(guestMAC, unix.ETH_P_ARP, arp(guestAddr, other)),
		"ARP from another MAC":     frame(other, unix.ETH_P_ARP, arp(guestAddr, guestMAC)),
		"a router's advertisement": frame(guestMAC, unix.ETH_P_IPV6, advert()),
	}
	for name, f := range lies {
		before := reason(t, host, policy.Spoofed)
		if _, err := inside(w, "dp-guest", func() (int, error) { return 0, sendFrame("eth0", f) }); err != nil {
			t.Fatal(err)
		}
		for deadline := time.Now().Add(2 * time.Second); reason(t, host, policy.Spoofed) == before; time.Sleep(5 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Errorf("%s is not told as spoofed", name)
				break
			}
		}
	}
}

// advert is a router's advertisement from the guest's own link-local address.
func advert() []byte {
	p := make([]byte, 40+16)
	p[0], p[5], p[6], p[7] = 0x60, 16, 58, 255
	copy(p[8:], netip.MustParseAddr("fe80::ff:fe00:9").AsSlice())
	copy(p[24:], netip.MustParseAddr("ff02::1").AsSlice())
	p[40] = 134
	return p
}

// sendFrame sends a frame out of a device of the calling thread's namespace.
func sendFrame(device string, frame []byte) error {
	dev, err := net.InterfaceByName(device)
	if err != nil {
		return err
	}
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := unix.Sendto(fd, frame, 0, &unix.SockaddrLinklayer{Ifindex: dev.Index}); err != nil {
		return fmt.Errorf("send a frame: %w", err)
	}
	return nil
}
