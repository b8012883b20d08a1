// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"encoding/binary"
	"net"
	"net/netip"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// A frame is what a capture keeps of a TCP packet; of a tunnelled one, the
// packet inside.
type frame struct {
	outgoing, tunnelled bool
	src, dst            netip.AddrPort
}

// A capture sees every packet of a host's eth0, before the programs on its way
// in and after them on its way out.
type capture struct {
	fd   int
	wg   sync.WaitGroup
	once sync.Once

	mu     sync.Mutex
	frames []frame
}

// watch captures on a host until stop.
func watch(t *testing.T, host string) *capture {
	t.Helper()
	c := &capture{}
	err := Inside(host, func() (err error) {
		all := binary.NativeEndian.Uint16([]byte{0, unix.ETH_P_ALL})
		if c.fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, int(all)); err != nil {
			return err
		}
		device, err := net.InterfaceByName("eth0")
		if err != nil {
			return err
		}
		if err := unix.SetsockoptInt(c.fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 16<<20); err != nil {
			return err
		}
		// Reading ends soon after stop: there is no other way to wake it.
		if err := unix.SetsockoptTimeval(c.fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Usec: 20_000}); err != nil {
			return err
		}
		return unix.Bind(c.fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: device.Index})
	})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	c.wg.Go(func() { c.read(done) })
	t.Cleanup(func() {
		close(done)
		c.wg.Wait()
		unix.Close(c.fd)
	})
	return c
}

func (c *capture) read(done <-chan struct{}) {
	buf := make([]byte, 65536)
	for {
		select {
		case <-done:
			return
		default:
		}
		n, from, err := unix.Recvfrom(c.fd, buf, 0)
		if err != nil {
			continue
		}
		link, _ := from.(*unix.SockaddrLinklayer)
		if f, ok := parse(buf[:n]); ok {
			f.outgoing = link != nil && link.Pkttype == unix.PACKET_OUTGOING
			c.mu.Lock()
			c.frames = append(c.frames, f)
			c.mu.Unlock()
		}
	}
}

// parse reads Ethernet, IPv4 and TCP, through the tunnel if need be.
func parse(b []byte) (frame, bool) {
	const ethernet, udp, geneve = 14, 8, 8
	if len(b) < ethernet+20 || binary.BigEndian.Uint16(b[12:]) != unix.ETH_P_IP {
		return frame{}, false
	}
	b = b[ethernet:]
	f := frame{}
	if head := int(b[0]&15) * 4; b[9] == unix.IPPROTO_UDP && len(b) >= head+udp+geneve && binary.BigEndian.Uint16(b[head+2:]) == 6081 {
		f.tunnelled = true
		b = b[head+udp:]
		b = b[min(len(b), geneve+4*int(b[0]&0x3f)):]
	}
	if len(b) < 20 || b[9] != unix.IPPROTO_TCP {
		return frame{}, false
	}
	head := int(b[0]&15) * 4
	if len(b) < head+4 {
		return frame{}, false
	}
	address := func(at int) netip.Addr { return netip.AddrFrom4([4]byte(b[at : at+4])) }
	f.src = netip.AddrPortFrom(address(12), binary.BigEndian.Uint16(b[head:]))
	f.dst = netip.AddrPortFrom(address(16), binary.BigEndian.Uint16(b[head+2:]))
	return f, true
}

// count is the number of packets so far that match.
func (c *capture) count(match func(frame) bool) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := 0
	for _, f := range c.frames {
		if match(f) {
			n++
		}
	}
	return n
}
