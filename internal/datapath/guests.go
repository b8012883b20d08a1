// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"sync/atomic"
	"time"

	"github.com/cilium/ebpf"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/sallyport/sallyport/internal/lb"
	"github.com/sallyport/sallyport/internal/snapshot"
)

// guestHooks are the programs of a guest's port: what the guest sends comes in
// there, what it gets goes out.
var guestHooks = []hook{{"guest_out", ebpf.AttachTCXIngress}, {"guest_in", ebpf.AttachTCXEgress}}

// A hook is where a program stands on a device.
type hook struct {
	program string
	at      ebpf.AttachType
}

// lookEvery is how often ports are looked for beside what the kernel tells.
const lookEvery = time.Second

// A guest is an instance behind a port of this host.
type guest struct {
	id      lb.InstanceID
	mac     [6]byte
	addrs   []GatewayAddr
	ifindex uint32 // 0: the port is not there, or without its programs
}

// guestsOf are the guests of a snapshot by their ports.
func guestsOf(s *snapshot.Snapshot) map[string]*guest {
	all := map[string]*guest{}
	for _, i := range s.Instances {
		mac, err := net.ParseMAC(i.MAC)
		if i.Port == "" || err != nil || len(mac) != 6 {
			continue
		}
		g := &guest{id: i.ID, mac: [6]byte(mac)}
		for _, a := range i.Addrs {
			g.addrs = append(g.addrs, rawAddr(a))
		}
		all[i.Port] = g
	}
	return all
}

// watchGuests begins to guard guests' ports, on a host.
func (d *Datapath) watchGuests() error {
	if d.opts.Role != lb.RoleHost {
		return nil
	}
	ns, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		return fmt.Errorf("watch for guests' ports: %w", err)
	}
	d.guestsMoved, d.guarding = make(chan struct{}, 1), make(chan struct{})
	ready := make(chan error)
	go d.keepGuests(ns, ready)
	return <-ready
}

// keepGuests guards guests' ports until Close: one that comes is guarded as soon
// as the kernel tells of it, one that goes is nobody's way any more. It works in
// the network namespace in which Open was called.
func (d *Datapath) keepGuests(ns *os.File, ready chan<- error) {
	defer close(d.guarding)
	defer ns.Close()
	runtime.LockOSThread() // and never unlocked: the thread ends with its namespace
	if err := enter(ns); err != nil {
		ready <- fmt.Errorf("watch for guests' ports: %w", err)
		return
	}
	told := make(chan netlink.LinkUpdate, 64)
	err := netlink.LinkSubscribeWithOptions(told, d.closing, netlink.LinkSubscribeOptions{ErrorCallback: func(error) {}})
	if err != nil {
		ready <- fmt.Errorf("watch for guests' ports: %w", err)
		return
	}
	d.guard()
	close(ready)
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		select {
		case <-d.closing:
			return
		case _, ok := <-told:
			if !ok {
				told = nil // the socket overflowed, say; the ticker goes on
			}
		case <-d.guestsMoved:
		case <-tick.C:
		}
		d.guard()
	}
}

// enter moves the calling thread into a network namespace, unless it is there: an
// agent in one of its own has no right to move.
func enter(ns *os.File) error {
	want, err := ns.Stat()
	if err != nil {
		return err
	}
	if is, err := os.Stat("/proc/thread-self/ns/net"); err == nil && os.SameFile(is, want) {
		return nil
	}
	return unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET)
}

// guard brings the programs of guests' ports and the rows that name them to
// where the ports are.
func (d *Datapath) guard() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed() {
		return
	}
	d.guardDoors()
	defer func() {
		if err := d.carryFlows(d.guests != nil); err != nil {
			d.log.Error("flows stay in the table of the former size", "error", err)
		}
	}()
	if d.guests == nil { // what an earlier process guarded stays until a snapshot says otherwise
		return
	}
	for port, g := range d.guests {
		at, err := d.guardPort(port, g)
		if err != nil {
			d.log.Error("a guest's port stays shut", "instance", g.id, "port", port, "error", err)
		}
		if at != g.ifindex {
			d.log.Info("guest's port", "instance", g.id, "port", port, "interface", at)
		}
		g.ifindex = at
	}
	d.openPorts()
	d.dropPins("guest_", func(port string) bool { return d.guests[port] != nil })
}

// guardPort puts both programs on a guest's port and says who may speak there. It
// gives the port's interface, 0 when it is not there.
func (d *Datapath) guardPort(port string, g *guest) (uint32, error) {
	dev, err := net.InterfaceByName(port)
	if err != nil {
		return 0, nil
	}
	at := uint32(dev.Index)
	if at == g.ifindex {
		return at, nil
	}
	who := HostGuestPort{Mac: g.mac}
	if err := d.maps["guest_ports"].Put(at, &who); err != nil {
		return 0, err
	}
	for _, h := range guestHooks {
		program, err := d.loadProgram(h.program)
		if err != nil {
			return 0, err
		}
		l, err := attachOne(d.linkPin(h.program, port), program, dev.Index, h.at)
		if err != nil {
			return 0, err
		}
		l.Close() // pinned
	}
	return at, nil
}

// linkPin is where a further link of a program is pinned.
func (d *Datapath) linkPin(program, device string) string {
	return filepath.Join(d.opts.PinDir, "link_"+program+"@"+device)
}

// openPorts writes into the instances' rows behind which interface each is.
func (d *Datapath) openPorts() {
	behind := map[GatewayAddr]*guest{}
	for _, g := range d.guests {
		for _, a := range g.addrs {
			behind[a] = g
		}
	}
	known := map[uint32]bool{}
	for addr, row := range d.instances.at {
		r, at := &d.instances.rows[row], uint32(0)
		if g := behind[addr]; g != nil {
			at = g.ifindex
			if at != 0 && r.Mac != g.mac {
				atomic.StoreUint32(&r.Port, 0) // nothing goes to half an address
				r.Mac = g.mac
			}
			known[at] = true
		}
		atomic.StoreUint32(&r.Port, at)
	}
	var at uint32
	var who HostGuestPort
	var gone []uint32
	for all := d.maps["guest_ports"].Iterate(); all.Next(&at, &who); {
		if !known[at] {
			gone = append(gone, at)
		}
	}
	for _, at := range gone {
		_ = d.maps["guest_ports"].Delete(at)
	}
}

// moveGuests makes the guests of a committed revision those whose ports are
// guarded. The caller holds the lock; guard follows soon.
func (d *Datapath) moveGuests(now map[string]*guest) {
	for port, g := range now {
		if was := d.guests[port]; was != nil && was.mac == g.mac {
			g.ifindex = was.ifindex
		}
	}
	d.guests = now
	d.openPorts()
	atomic.StoreUint32(&d.revisions.Here, uint32(len(now))) // 0: the programs need not look
	select {
	case d.guestsMoved <- struct{}{}:
	default:
	}
}
