// SPDX-License-Identifier: Apache-2.0

package console

import (
	"net"
	"sync"
	"testing"
)

// A hose passes bytes to a server until it is kinked: then connections stay
// open and nothing comes through, as with a server that hangs.
type hose struct {
	net.Listener
	kink sync.RWMutex
}

func newHose(t *testing.T, to string) *hose {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	h := &hose{Listener: l}
	go func() {
		for {
			near, err := l.Accept()
			if err != nil {
				return
			}
			far, err := net.Dial("tcp", to)
			if err != nil {
				near.Close()
				continue
			}
			go h.pass(near, far)
			go h.pass(far, near)
		}
	}()
	return h
}

func (h *hose) pass(to, from net.Conn) {
	defer to.Close()
	defer from.Close()
	buffer := make([]byte, 1<<14)
	for {
		n, err := from.Read(buffer)
		h.kink.RLock()
		_, failed := to.Write(buffer[:n])
		h.kink.RUnlock()
		if err != nil || failed != nil {
			return
		}
	}
}

// A server that hangs without closing anything is said too, and the page
// recovers when it goes on.
func TestHangingServerIsSaid(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	w := d.build()
	h := newHose(t, d.server.Listener.Addr().String())
	b := newBrowser(t, "http://"+h.Addr().String())
	b.screen(1280, "light")
	b.login()
	for _, path := range []string{"clb/" + w.balancer, "verdicts"} {
		b.visit(path)
		h.kink.Lock()
		b.until("a server that hangs is not said at "+path, `document.querySelector("#connection").innerText.includes("slow to answer")`)
		h.kink.Unlock()
		b.until("the page does not recover at "+path, `document.querySelector("#connection").innerText === ""`)
	}
	b.quiet("a server that hangs", "ERR_")
}
