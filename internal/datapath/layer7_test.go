// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sallyport/sallyport/internal/lb"
	"github.com/sallyport/sallyport/internal/policy"
	"github.com/sallyport/sallyport/internal/snapshot"
)

// greet listens on addr in the gateway's namespace and says who it is.
func (w *world) greet(addr, word string) net.Listener {
	w.t.Helper()
	config := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		var err error
		c.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_IP, unix.IP_TRANSPARENT, 1) })
		return err
	}}
	l, err := inside(w, "dp-gw", func() (net.Listener, error) { return config.Listen(context.Background(), "tcp4", addr) })
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			fmt.Fprintln(c, word)
			c.Close()
		}
	}()
	return l
}

// While the proxy is away nobody else on the gateway answers for the VIP, and
// the client's own retransmission finds the proxy when it is back.
func TestOnlyTheProxyAnswersAtLayer7(t *testing.T) {
	w := newWorld(t)
	gw := w.open("dp-gw", Options{Node: "gateway-1", Role: lb.RoleGateway, Address: netip.MustParseAddr(gwAddr), Proxied: true})
	w.in("dp-gw", "ip", "rule", "add", "fwmark", fmt.Sprintf("%#x/%#x", snapshot.MarkLocal, snapshot.MarkMask), "lookup", fmt.Sprint(snapshot.LocalTable))
	w.in("dp-gw", "ip", "route", "add", "local", "0.0.0.0/0", "dev", "lo", "table", fmt.Sprint(snapshot.LocalTable))
	s, _ := pair(t, 1, nil, compiled(t, "sg-2"))
	s.Listeners[0].Layer7, s.Listeners[0].Targets = true, nil
	stageCommit(t, gw, s)
	other := w.greet("0.0.0.0:80", "stranger")
	if said, err := w.ask("dp-a", vip+":80", 500*time.Millisecond); err == nil {
		t.Fatalf("%q answered for the VIP", said)
	}
	if r, err := gw.Reasons(); err != nil || r.Packets[policy.ProxyAway] == 0 {
		t.Errorf("reasons %v (%v): want proxy_away", r.Packets, err)
	}
	waiting := make(chan string, 1)
	go func() {
		said, err := w.ask("dp-a", vip+":80", 5*time.Second)
		if err != nil && err != io.EOF {
			said = err.Error()
		}
		waiting <- said
	}()
	other.Close()
	w.greet(vip+":80", "proxy")
	if said := <-waiting; !strings.Contains(said, "proxy") {
		t.Errorf("a client that began while the proxy was away heard %q", said)
	}
}
