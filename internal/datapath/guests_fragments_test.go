// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"bytes"
	"net"
	"testing"
)

// What a guest sends in pieces reaches its peer, and the answer the guest, where
// fragments pass at all.
func TestGuestSendsFragments(t *testing.T) {
	w := newWorld(t)
	for _, ns := range []string{"dp-gw", "dp-host"} {
		w.in("dp-fabric", "ip", "link", "set", ns, "mtu", "9000")
		w.in(ns, "ip", "link", "set", "eth0", "mtu", "9000")
	}
	gw, host := w.pairOpen()
	w.guestHost("veth")
	any := toAll(t, "sg-any")
	s1, s2 := withGuest(t, 1, any, any, any, nil)
	s2.Instances[0].Egress = any.Hash
	put(t, gw, host, s1, s2)
	conn, err := inside(w, "dp-a", func() (net.PacketConn, error) { return net.ListenPacket("udp4", clientA+":9000") })
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	go func() {
		for buf := make([]byte, 8192); ; {
			n, from, err := conn.ReadFrom(buf)
			if err != nil {
				return
			}
			conn.WriteTo(buf[:n], from)
		}
	}()
	for _, from := range []string{"dp-host", "dp-guest"} {
		for _, size := range []int{100, 4000} {
			said := bytes.Repeat([]byte("s"), size)
			got, err := inside(w, from, func() ([]byte, error) { return exchange(clientA+":9000", said) })
			t.Logf("from %s, %d bytes: %d came back, %v; %v", from, size, len(got), err, reasonsOf(t, host))
			if err != nil || !bytes.Equal(got, said) {
				t.Errorf("from %s: %d bytes in one datagram did not come back: %v", from, size, err)
			}
		}
	}
}
