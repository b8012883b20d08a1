// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"bytes"
	"net"
	"testing"
	"time"

	"github.com/sallyport/sallyport/internal/lb"
	"github.com/sallyport/sallyport/internal/snapshot"
)

// Datagrams that clients can only send in pieces reach the instance, and so do
// its answers, where the underlay has room for the pieces: with direct return and
// by the gateway. That the way to the client is narrower the instance learns from
// the first answer that did not get there.
func TestFragmentsLive(t *testing.T) {
	w := newWorld(t)
	for _, ns := range []string{"dp-gw", "dp-host"} {
		w.in("dp-fabric", "ip", "link", "set", ns, "mtu", "9000")
		w.in(ns, "ip", "link", "set", "eth0", "mtu", "9000")
	}
	gw, host := w.pairOpen()
	w.echoDatagrams(service + ":8080")
	for rev, returns := range []bool{false, true} {
		s1, s2 := pair(t, lb.Revision(rev+1), toAll(t, "sg-1"), toAll(t, "sg-2"))
		s1.Listeners[0].Proto = lb.UDP
		for _, s := range []*snapshot.Snapshot{s1, s2} {
			s.Targets[0].Proto, s.Targets[0].ReturnVia = lb.UDP, returns
		}
		put(t, gw, host, s1, s2)
		for _, to := range []string{vip + ":80", service + ":8080"} {
			said := bytes.Repeat([]byte("sally port"), 400)
			got, err := inside(w, "dp-b", func() ([]byte, error) { return exchange(to, said) })
			if err != nil || !bytes.Equal(got, said) {
				r1, _ := gw.Reasons()
				r2, _ := host.Reasons()
				t.Errorf("return by gateway %v, to %s: %d bytes, %v; gateway %v, host %v", returns, to, len(got), err, r1, r2)
			}
		}
		w.in("dp-host", "ip", "route", "flush", "cache")
	}
}

// exchange says something in one datagram until it is answered.
func exchange(to string, said []byte) (got []byte, err error) {
	conn, err := net.Dial("udp4", to)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	buf := make([]byte, 2*len(said))
	for range 10 {
		conn.SetDeadline(time.Now().Add(300 * time.Millisecond))
		if _, err = conn.Write(said); err != nil {
			return nil, err
		}
		var n int
		if n, err = conn.Read(buf); err == nil {
			return buf[:n], nil
		}
	}
	return nil, err
}
