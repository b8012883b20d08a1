// SPDX-License-Identifier: Apache-2.0

package node

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sallyport/sallyport/internal/lb"
	"github.com/sallyport/sallyport/internal/snapshot"
)

// A VIP is announced at once and again after these waits: an announcement may
// get lost, and a switch may still be learning where the gateway is.
const (
	announceSoon  = time.Second
	announceLater = 3 * time.Second
)

// An Announcer is an Applier that tells the gateway's own segment about VIPs
// that have come to it (gratuitous ARP, unsolicited neighbour advertisements),
// so that who knew them elsewhere looks no longer there. Answering is the business of the gateway's program, which
// goes on without this process. Close ends it.
type Announcer struct {
	device  *net.Interface
	socket  int
	standby lb.NodeID
	log     *slog.Logger

	mu     sync.Mutex
	staged []netip.Addr
	known  map[netip.Addr]bool
	closed bool
}

// NewAnnouncer opens the device for announcements, in the network namespace of
// the calling thread. It needs CAP_NET_RAW. With a standby it announces VIPs
// only while that gateway is drained.
func NewAnnouncer(device string, standby lb.NodeID, log *slog.Logger) (*Announcer, error) {
	dev, err := net.InterfaceByName(device)
	if err != nil {
		return nil, fmt.Errorf("announce VIPs on %s: %w", device, err)
	}
	socket, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("announce VIPs on %s: %w", device, err)
	}
	return &Announcer{device: dev, socket: socket, standby: standby, log: log, known: map[netip.Addr]bool{}}, nil
}

// Stage remembers the VIPs that this gateway answers for.
func (a *Announcer) Stage(_ context.Context, s *snapshot.Snapshot) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.staged = nil
	if s.Answers(a.standby) {
		a.staged = s.VIPs
	}
	return nil
}

// Commit announces those that are new. What cannot be sent is only told of:
// whoever asks is answered all the same.
func (a *Announcer) Commit(context.Context, lb.Revision) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	var fresh []netip.Addr
	known := make(map[netip.Addr]bool, len(a.staged))
	for _, vip := range a.staged {
		known[vip] = true
		if !a.known[vip] {
			fresh = append(fresh, vip)
		}
	}
	a.known = known
	if len(fresh) == 0 || len(a.device.HardwareAddr) != 6 {
		return nil
	}
	a.announce(fresh)
	for _, wait := range []time.Duration{announceSoon, announceLater} {
		time.AfterFunc(wait, func() {
			a.mu.Lock()
			defer a.mu.Unlock()
			a.announce(fresh)
		})
	}
	return nil
}

// announce sends one announcement for each VIP that is still here; a.mu is held.
func (a *Announcer) announce(vips []netip.Addr) {
	for _, vip := range vips {
		if a.closed || !a.known[vip] {
			continue
		}
		frame := announcement(a.device.HardwareAddr, vip)
		to := &unix.SockaddrLinklayer{Ifindex: a.device.Index, Halen: 6}
		copy(to.Addr[:], frame[:6])
		if err := unix.Sendto(a.socket, frame, 0, to); err != nil {
			a.log.Warn("VIP not announced", "vip", vip, "error", err)
		}
	}
}

// announcement is the frame that says: vip is at mac.
func announcement(mac net.HardwareAddr, vip netip.Addr) []byte {
	if vip.Is6() {
		return advertisement(mac, vip)
	}
	const etherARP, ethernet, etherIPv4, lengths, request = 0x0806, 1, 0x0800, 6<<8 | 4, 1
	f := bytes.Repeat([]byte{0xff}, 6)
	f = append(f, mac...)
	for _, v := range []uint16{etherARP, ethernet, etherIPv4, lengths, request} {
		f = binary.BigEndian.AppendUint16(f, v)
	}
	f = append(append(f, mac...), vip.AsSlice()...)
	return append(append(f, make([]byte, 6)...), vip.AsSlice()...)
}

// Close ends what is still to be announced.
func (a *Announcer) Close() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.closed {
		return nil
	}
	a.closed = true
	return unix.Close(a.socket)
}
