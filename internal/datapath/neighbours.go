// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/vishvananda/netlink"
)

// resolveEvery is how often the way to each peer is looked up again.
const resolveEvery = time.Second

// A nexthop is where frames for a peer go. The zero nexthop is unresolved: the
// programs then ask the kernel for every packet.
type nexthop struct {
	ifindex uint32
	mac     [6]byte
	own     [6]byte
}

// neighbours resolves peers to interfaces and MAC addresses, so that programs
// can send straight out.
type neighbours struct {
	h *netlink.Handle // bound to the network namespace that Open was called in
}

// usable are the states in which a neighbour's address may be used.
const usable = netlink.NUD_REACHABLE | netlink.NUD_STALE | netlink.NUD_DELAY | netlink.NUD_PROBE | netlink.NUD_PERMANENT

// resolve gives the next hop to a peer, zero when the kernel does not know it.
// A stale neighbour is used and asked again, as the kernel would.
func (n *neighbours) resolve(peer GatewayAddr) nexthop {
	addr := addrIn(peer)
	ip := net.IP(addr.AsSlice())
	routes, err := n.h.RouteGet(ip)
	if err != nil || len(routes) == 0 {
		return nexthop{}
	}
	via := routes[0].Gw
	if via == nil {
		via = ip
	}
	dev, err := n.h.LinkByIndex(routes[0].LinkIndex)
	if err != nil || len(dev.Attrs().HardwareAddr) != 6 {
		return nexthop{}
	}
	all, err := n.h.NeighList(routes[0].LinkIndex, netlinkFamily(addr))
	if err != nil {
		return nexthop{}
	}
	for _, e := range all {
		if !e.IP.Equal(via) || e.State&usable == 0 || len(e.HardwareAddr) != 6 {
			continue
		}
		if e.State&netlink.NUD_STALE != 0 {
			probe := e
			probe.State = netlink.NUD_PROBE
			_ = n.h.NeighSet(&probe) // if it fails, the kernel asks when it next uses the neighbour itself
		}
		return nexthop{uint32(routes[0].LinkIndex), [6]byte(e.HardwareAddr), [6]byte(dev.Attrs().HardwareAddr)}
	}
	return nexthop{}
}

func netlinkFamily(a netip.Addr) int {
	if a.Is4() {
		return netlink.FAMILY_V4
	}
	return netlink.FAMILY_V6
}

// putPeer writes a peer with its next hop.
func (d *Datapath) putPeer(k GatewayAddr, p peer, hop nexthop) error {
	p.Ifindex, p.Mac, p.OwnMac = hop.ifindex, hop.mac, hop.own
	if err := d.peers.put(k, p); err != nil {
		return fmt.Errorf("peer %v: %w", addrIn(k), err)
	}
	return nil
}

// keepResolving looks the peers' next hops and the device's MTU up until the
// datapath is closed.
func (d *Datapath) keepResolving() {
	defer close(d.resolved)
	tick := time.NewTicker(resolveEvery)
	defer tick.Stop()
	for {
		select {
		case <-d.closing:
			return
		case <-tick.C:
			d.resolveAll()
		}
	}
}

func (d *Datapath) resolveAll() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed() {
		return
	}
	d.noticeMTU()
	for k := range d.peers.at {
		p, _ := d.peers.get(k)
		hop := d.hops.resolve(k)
		if hop == (nexthop{p.Ifindex, p.Mac, p.OwnMac}) {
			continue
		}
		if err := d.putPeer(k, p, hop); err != nil {
			d.log.Error("cannot write the way to a peer", "error", err)
		}
	}
}

// closed reports whether Close has begun. The caller holds the lock.
func (d *Datapath) closed() bool { return d.hops == nil || d.maps == nil }
