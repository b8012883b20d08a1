// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"encoding/binary"
	"net/netip"
	"strconv"
	"testing"

	"github.com/sallyport/sallyport/internal/lb"
)

// A device's MTU that changes while the node runs is noticed: nothing leaves that
// would not fit, what fits now passes, and segments are asked for accordingly.
func TestMTUChangesWhileRunning(t *testing.T) {
	w := newQuiet(t)
	w.in(quietName(), "ip", "link", "set", "eth1", "mtu", "9000")
	client, front := netip.MustParseAddrPort(clientA+":4000"), netip.MustParseAddrPort(vip+":80")
	b := w.benchOf(lb.RoleGateway, nil)
	gw, _ := datagramPair(t, 1, families()["IPv4"], nil, compiled(t, "sg-2"))
	tcp, _ := pair(t, 1, nil, compiled(t, "sg-2"))
	gw.Listeners = append(gw.Listeners, tcp.Listeners[0])
	gw.Listeners[1].ID, gw.Listeners[1].Num = "lbl-tcp", gw.Listeners[0].Num+1
	b.stage(t, gw)
	first := piece(udpOf(client, front, 1400), 7, 0, 800)
	for _, mtu := range []int{1500, 1400, 3000, 1500} {
		w.in(quietName(), "ip", "link", "set", "eth0", "mtu", strconv.Itoa(mtu))
		b.resolveAll()
		room := mtu - tunnelOverhead
		out := make([]byte, 4096)
		fits, err := b.run("gateway", sized(client, front, room), out)
		if err != nil || fits != actRedirect || binary.BigEndian.Uint16(out[16:]) != uint16(mtu) {
			t.Errorf("MTU %d: what just fits: %#x, %v, %x", mtu, fits, err, out[:60])
		}
		clear(out)
		if answer, err := b.run("gateway", sized(client, front, room+1), out); err != nil || answer != actRedirect || saidSize(out) != room {
			t.Errorf("MTU %d: what is too big by one: %#x, %v, said %d", mtu, answer, err, saidSize(out))
		}
		if answer, err := b.run("gateway", first, out); err != nil || (answer == actRedirect) != (room >= 1500) {
			t.Errorf("MTU %d: a fragment: %#x, %v", mtu, answer, err)
		}
		if got := b.mtu(t); got != mtu {
			t.Errorf("MTU %d: the programs go by %d", mtu, got)
		}
	}
}
