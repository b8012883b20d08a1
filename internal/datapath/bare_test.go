// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/sallyport/sallyport/internal/lb"
	"github.com/sallyport/sallyport/internal/policy"
)

// tun makes an interface in a namespace, without Ethernet headers (IFF_TUN) or
// with them (IFF_TAP). What is written to the file arrives by it, and what leaves
// by it is read there.
func (w *world) tun(ns, device string, kind uint16) *os.File {
	w.t.Helper()
	f, err := inside(w, ns, func() (*os.File, error) {
		fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC, 0)
		if err != nil {
			return nil, err
		}
		request := struct {
			name  [unix.IFNAMSIZ]byte
			flags uint16
			_     [22]byte
		}{flags: kind | unix.IFF_NO_PI}
		copy(request.name[:], device)
		if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.TUNSETIFF, uintptr(unsafe.Pointer(&request))); errno != 0 {
			return nil, errors.Join(errno, unix.Close(fd))
		}
		if err := unix.SetNonblock(fd, true); err != nil {
			return nil, errors.Join(err, unix.Close(fd))
		}
		return os.NewFile(uintptr(fd), device), nil
	})
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { f.Close() })
	return f
}

// cable carries packets between two tuns or taps until they are closed.
func cable(a, b *os.File) {
	carry := func(to, from *os.File) {
		for packet := make([]byte, 64<<10); ; {
			n, err := from.Read(packet)
			if err != nil {
				return
			}
			if _, err := to.Write(packet[:n]); err != nil && err != io.ErrShortWrite && !isDown(err) {
				return
			}
		}
	}
	go carry(a, b)
	go carry(b, a)
}

const (
	vpnPeer, vpnHost   = "10.99.0.1", "10.99.0.2"
	vpnPeer6, vpnHost6 = "2001:db8:99::1", "2001:db8:99::2"
)

// vpn connects dp-host with dp-b by interfaces without Ethernet headers, over
// which that client then asks for everything.
func (w *world) vpn() (host *os.File) {
	w.t.Helper()
	host = w.tun("dp-host", "vpn0", unix.IFF_TUN)
	cable(host, w.tun("dp-b", "vpn0", unix.IFF_TUN))
	for ns, addrs := range map[string][2]string{"dp-host": {vpnHost + "/24", vpnHost6 + "/64"}, "dp-b": {vpnPeer + "/24", vpnPeer6 + "/64"}} {
		w.in(ns, "sysctl", "-qw", "net.ipv6.conf.all.disable_ipv6=0", "net.ipv6.conf.vpn0.disable_ipv6=0")
		w.in(ns, "ip", "addr", "add", addrs[0], "dev", "vpn0")
		w.in(ns, "ip", "addr", "add", addrs[1], "dev", "vpn0", "nodad")
		w.in(ns, "ip", "link", "set", "vpn0", "up")
	}
	return host
}

// Interfaces without Ethernet headers are judged as all others are: both ways, in
// both families, with what follows of a flow; and flows that came through the
// tunnel are answered by them, straight or back through the gateway.
func TestBareInterface(t *testing.T) {
	w := newWorld(t)
	tun := w.vpn()
	host := w.open("dp-host", Options{Node: "ins-1", Role: lb.RoleHost, Address: netip.MustParseAddr(hostAddr), Every: true})
	gw := w.open("dp-gw", Options{Node: "gateway-1", Role: lb.RoleGateway, Address: netip.MustParseAddr(gwAddr)})
	force := func(rev lb.Revision, returns bool) {
		t.Helper()
		in, out := compiled(t, "sg-2", accept(vpnPeer+"/32", 8081), accept(vpnPeer6+"/128", 8081), accept(vpnPeer+"/32", 8082)), compiled(t, "sg-3", accept(vpnPeer+"/32", 9001))
		s1, s2 := pair(t, rev, nil, in)
		s1.Targets[0].Service, s1.Targets[0].ReturnVia = netip.MustParseAddrPort(service+":8082"), returns
		s2.Targets = s1.Targets
		s2.Policies[out.Hash], s2.Instances[0].Egress = out, out.Hash
		for _, a := range []string{vpnHost, vpnHost6} {
			s2.Instances[0].Addrs = append(s2.Instances[0].Addrs, netip.MustParseAddr(a))
		}
		put(t, gw, host, s1, s2)
	}
	force(1, false)
	for _, port := range []string{"8080", "8081", "8082"} {
		w.serve("dp-host", ":"+port)
	}
	for _, port := range []string{"9000", "9001"} {
		w.serve("dp-b", vpnPeer+":"+port)
	}
	w.in("dp-host", "ip", "addr", "add", "10.99.0.3/24", "dev", "vpn0")
	w.in("dp-b", "ip", "route", "add", service, "dev", "vpn0", "src", vpnPeer)
	for _, c := range []struct {
		from, to string
		want     bool
		refused  policy.Reason
	}{
		{"dp-b", vpnHost + ":8080", silent, policy.NoMatch},
		{"dp-b", service + ":8080", silent, policy.NoMatch},
		{"dp-b", "[" + vpnHost6 + "]:8080", silent, policy.NoMatch},
		{"dp-b", "10.99.0.3:8081", silent, policy.NoMatch}, // no instance's
		{"dp-b", vpnHost + ":8081", served, 0},
		{"dp-b", service + ":8081", served, 0},
		{"dp-b", "[" + vpnHost6 + "]:8081", served, 0},
		{"dp-host", vpnPeer + ":9000", silent, policy.NoMatch},
		{"dp-host", vpnPeer + ":9001", served, 0},
	} {
		before := reason(t, host, c.refused)
		_, err := w.ask(c.from, c.to, 700*time.Millisecond)
		if (err == nil) != c.want || c.want == silent && reason(t, host, c.refused) == before {
			t.Errorf("%s to %s: served %v, want %v for reason %v (%v)", c.from, c.to, err == nil, c.want, c.refused, err)
		}
	}
	w.answersByTunnel(t, func() { force(2, true) })
	if reason(t, host, policy.TooBig) == 0 {
		t.Error("no answer was too big for the tunnel: they did not go into it")
	}
	spoofs := reason(t, host, policy.Spoofed)
	w.in("dp-host", "ip", "route", "replace", vpnPeer, "dev", "vpn0", "src", "10.99.0.3")
	if _, err := w.ask("dp-host", vpnPeer+":9001", 300*time.Millisecond); err == nil || reason(t, host, policy.Spoofed) == spoofs {
		t.Errorf("from an address that is no instance's: %v", err)
	}
	// The tunnel itself may come by such an interface.
	admitted := reason(t, host, policy.RuleMatched)
	syn := tcpFrame(netip.MustParseAddrPort(vpnPeer+":5555"), netip.MustParseAddrPort(vip+":80"), tcpSyn)
	if _, err := tun.Write(inTunnel(syn, gwAddr, hostAddr, 2, 7)[14:]); err != nil {
		t.Fatal(err)
	}
	if reason(t, host, policy.RuleMatched) != admitted+1 {
		t.Error("a packet of the tunnel that came by vpn0 was not admitted")
	}
}

// answersByTunnel has a client behind the VPN ask for the VIP, through the
// gateway. Its answers leave by the VPN, first straight, then, from a change of
// the return path on, back into the tunnel, where full segments do not fit.
func (w *world) answersByTunnel(t *testing.T, change func()) {
	t.Helper()
	w.in("dp-b", "ip", "route", "add", vip, "via", "192.0.2.254", "dev", "eth0", "src", vpnPeer)
	w.in("dp-fabric", "ip", "route", "add", vpnPeer, "dev", "dp-b")
	c, err := w.dial("dp-b", vip+":80", time.Second)
	if err != nil {
		t.Fatalf("straight by the VPN: %v", err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(5 * time.Second))
	r := bufio.NewReader(c)
	if line, err := r.ReadString('\n'); err != nil || !strings.HasPrefix(line, vpnPeer+":") {
		t.Fatalf("straight by the VPN: the server saw %q, %v", line, err)
	}
	const n = 300_000
	for _, way := range []string{"straight", "through the gateway"} {
		fmt.Fprintf(c, "send %d\n", n)
		if _, err := io.CopyN(io.Discard, r, n); err != nil {
			t.Fatalf("%s: %v", way, err)
		}
		change()
		change = func() {}
	}
	if _, err := w.ask("dp-b", vip+":80", time.Second); err != nil {
		t.Errorf("a connection that begins with answers through the gateway: %v", err)
	}
}

// What came through the tunnel by an interface without Ethernet headers reaches
// a guest in a frame.
func TestBareTunnelToGuest(t *testing.T) {
	w := newWorld(t)
	tun := w.vpn()
	w.guestHost("veth")
	w.serve("dp-guest", guestAddr+":8080")
	host := w.open("dp-host", Options{Node: "ins-1", Role: lb.RoleHost, Address: netip.MustParseAddr(hostAddr), Every: true})
	gw := w.open("dp-gw", Options{Node: "gateway-1", Role: lb.RoleGateway, Address: netip.MustParseAddr(gwAddr)})
	s1, s2 := withGuest(t, 1, compiled(t, "sg-0"), compiled(t, "sg-2", accept("0.0.0.0/0", 8080)), compiled(t, "sg-3"), nil)
	put(t, gw, host, s1, s2)
	syn := tcpFrame(netip.MustParseAddrPort(clientA+":5555"), netip.MustParseAddrPort(vip+":80"), tcpSyn)
	for deadline := time.Now().Add(3 * time.Second); reason(t, host, policy.Established) == 0; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the guest did not answer")
		}
		if _, err := tun.Write(inTunnel(syn, gwAddr, hostAddr, 1, 7)[14:]); err != nil {
			t.Fatal(err)
		}
	}
}
