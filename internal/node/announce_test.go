// SPDX-License-Identifier: Apache-2.0

package node

import (
	"bytes"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/sallyport/sallyport/internal/lb"
	"github.com/sallyport/sallyport/internal/snapshot"
)

// VIPs that come are announced to the segment, once they are in force and only
// then; those that stay or go are not.
func TestAnnouncer(t *testing.T) {
	inNamespace(t)
	attrs := netlink.NewLinkAttrs()
	attrs.Name = "eth0"
	if err := netlink.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: "far"}); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"eth0", "far"} {
		if err := os.WriteFile("/proc/sys/net/ipv6/conf/"+name+"/disable_ipv6", []byte("1"), 0o644); err != nil {
			t.Fatal(err)
		}
		link, err := netlink.LinkByName(name)
		if err == nil {
			err = netlink.LinkSetUp(link)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	far, err := net.InterfaceByName("far")
	if err != nil {
		t.Fatal(err)
	}
	const arp = 0x0608 // ETH_P_ARP in network byte order
	ear, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW, arp)
	if err == nil {
		err = unix.Bind(ear, &unix.SockaddrLinklayer{Protocol: arp, Ifindex: far.Index})
	}
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(ear)
	hear := func(wait time.Duration) netip.Addr {
		timeout := unix.NsecToTimeval(int64(wait))
		_ = unix.SetsockoptTimeval(ear, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &timeout)
		frame := make([]byte, 128)
		n, _, err := unix.Recvfrom(ear, frame, 0)
		if err != nil || n < 42 {
			return netip.Addr{}
		}
		own, _ := net.InterfaceByName("eth0")
		a, _ := netip.AddrFromSlice(frame[28:32])
		if !bytes.Equal(frame[:6], bytes.Repeat([]byte{0xff}, 6)) || !bytes.Equal(frame[22:28], own.HardwareAddr) || !bytes.Equal(frame[28:32], frame[38:42]) {
			t.Errorf("heard %x", frame[:n])
		}
		return a
	}
	a, err := NewAnnouncer("eth0", "", slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	one, two := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")
	stage := func(r lb.Revision, vips ...netip.Addr) {
		if err := a.Stage(t.Context(), &snapshot.Snapshot{Revision: r, VIPs: vips}); err != nil {
			t.Fatal(err)
		}
	}
	commit := func(r lb.Revision) {
		if err := a.Commit(t.Context(), r); err != nil {
			t.Fatal(err)
		}
	}
	stage(1, one, netip.MustParseAddr("2001:db8::1"))
	if got := hear(50 * time.Millisecond); got.IsValid() {
		t.Errorf("%v is announced before it is in force", got)
	}
	commit(1)
	if got := hear(5 * time.Second); got != one {
		t.Errorf("heard of %v, want %v", got, one)
	}
	if got := hear(5 * time.Second); got != one { // in case the first got lost
		t.Errorf("heard of %v again, want %v", got, one)
	}
	stage(2, two)
	commit(2)
	if got := hear(5 * time.Second); got != two {
		t.Errorf("heard of %v, want %v", got, two)
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	if got := hear(1500 * time.Millisecond); got.IsValid() { // when it would be said again
		t.Errorf("%v is announced after Close", got)
	}
	if _, err := NewAnnouncer("none0", "", slog.New(slog.DiscardHandler)); err == nil {
		t.Error("a device that is not there was opened")
	}
}

// A machine that joined starts open until a revision refuses, and closed for
// good from then on; leaving forgets that.
func TestMark(t *testing.T) {
	dir := t.TempDir()
	commit := func(s *snapshot.Snapshot) {
		t.Helper()
		m := NewMark(dir, slog.New(slog.DiscardHandler))
		if err := m.Stage(t.Context(), s); err != nil {
			t.Fatal(err)
		}
		if err := m.Commit(t.Context(), s.Revision); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		what      string
		instances []snapshot.Instance
		observes  bool
	}{
		{"nothing", nil, true},
		{"observed", []snapshot.Instance{{ID: "ins-a", Observe: true}}, true},
		{"bound", []snapshot.Instance{{ID: "ins-a"}}, false},
		{"its instance gone", nil, false},
	} {
		commit(&snapshot.Snapshot{Revision: 1, Instances: c.instances})
		if got := Observes(dir); got != c.observes {
			t.Errorf("%s: the next start observes: %v", c.what, got)
		}
	}
	if err := os.WriteFile(dir+"/"+identityFile, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := Leave(dir); err != nil || !Observes(dir) || HasJoined(dir) {
		t.Errorf("after leaving: %v, observes %v, joined %v", err, Observes(dir), HasJoined(dir))
	}
	full := NewMark(dir+"/none", slog.New(slog.DiscardHandler))
	_ = full.Stage(t.Context(), &snapshot.Snapshot{Instances: []snapshot.Instance{{ID: "ins-a"}}})
	if err := full.Commit(t.Context(), 1); err != nil {
		t.Errorf("a disk that does not take the mark refuses the revision: %v", err)
	}
}
