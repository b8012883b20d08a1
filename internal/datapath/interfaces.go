// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// hostHooks are the programs of the machine's own interfaces.
var hostHooks = []hook{{"host_in", ebpf.AttachTCXIngress}, {"host_out", ebpf.AttachTCXEgress}}

// bareKinds are the interfaces without a link header: packets of the Internet
// protocols begin at their first byte. The kernel's own list of them
// (dev_is_mac_header_xmit), by their names in netlink.
var bareKinds = [...]string{"none", "ppp", "ipip", "tunnel6", "sit", "gre", "gre6", "rawip", "void"}

// isBare reports whether packets of a link have no Ethernet header.
func isBare(l netlink.Link) bool { return slices.Contains(bareKinds[:], l.Attrs().EncapType) }

// Doors are the interfaces by which packets reach this machine from elsewhere:
// all that carry Ethernet frames or bare packets, but for those that belong to a
// bridge or bond, which is one itself then, and for bridges to which nothing but
// virtual machines and containers belongs.
func Doors() ([]netlink.Link, error) {
	h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, err
	}
	defer h.Close()
	return doorsOf(h)
}

func doorsOf(h *netlink.Handle) ([]netlink.Link, error) {
	links, err := h.LinkList()
	if err != nil {
		return nil, err
	}
	return doorsAmong(links), nil
}

// doorsAmong picks the doors from all of a machine's interfaces.
func doorsAmong(links []netlink.Link) []netlink.Link {
	outward := map[int]bool{} // bridges with a member that is no guest's
	for _, l := range links {
		if k := l.Type(); k != "veth" && k != "tuntap" && k != "tun" {
			outward[l.Attrs().MasterIndex] = true
		}
	}
	return slices.DeleteFunc(slices.Clone(links), func(l netlink.Link) bool {
		a := l.Attrs()
		return a.EncapType != "ether" && !isBare(l) || a.MasterIndex != 0 || l.Type() == "bridge" && !outward[a.Index]
	})
}

// A door is an interface beside Device that is judged.
type door struct {
	index int
	bare  bool // its packets have no Ethernet header
}

// doors are those beside Device that are judged, by name: guests' ports, also of
// an earlier process, and what Options except are not.
func (d *Datapath) doors() map[string]door {
	links, err := doorsOf(d.hops.h)
	if err != nil {
		return nil
	}
	all := map[string]door{}
	for _, l := range links {
		name := l.Attrs().Name
		_, err := os.Stat(d.linkPin("guest_in", name))
		if name != d.opts.Device && d.guests[name] == nil && err != nil && !slices.Contains(d.opts.Except, name) {
			all[name] = door{l.Attrs().Index, isBare(l)}
		}
	}
	return all
}

// guardDoors puts gate 2 on every interface of the machine, also on one that
// comes later. The caller holds the lock.
func (d *Datapath) guardDoors() {
	if !d.opts.Every {
		return
	}
	now := d.doors()
	if now == nil {
		return // asked again soon
	}
	for name, at := range now {
		if d.guarded[name] == at {
			continue
		}
		ok := true
		for _, h := range hostHooks {
			if err := d.attachDoor(h, name, at); err != nil {
				ok = false
				d.log.Error("an interface is not judged", "interface", name, "error", err)
			}
		}
		if ok {
			d.guarded[name] = at
			d.log.Info("interface is judged", "interface", name)
		}
	}
	for name := range d.guarded {
		if _, ok := now[name]; !ok {
			delete(d.guarded, name)
		}
	}
	d.dropPins("host_", func(device string) bool { _, ok := now[device]; return ok })
}

// attachDoor puts one program of gate 2 on an interface.
func (d *Datapath) attachDoor(h hook, name string, at door) error {
	load := d.loadProgram
	if at.bare {
		load = d.loadBare
	}
	program, err := load(h.program)
	if err != nil {
		return err
	}
	l, err := attachOne(d.linkPin(h.program, name), program, at.index, h.at)
	if err != nil {
		return err
	}
	return l.Close() // pinned
}

// dropPins lets go of the programs of a kind on devices that are not to have
// them any more.
func (d *Datapath) dropPins(kind string, keep func(device string) bool) {
	entries, err := os.ReadDir(d.opts.PinDir)
	if err != nil {
		return
	}
	for _, e := range entries {
		program, device, ok := strings.Cut(strings.TrimPrefix(e.Name(), "link_"), "@")
		if !ok || !strings.HasPrefix(program, kind) || keep(device) {
			continue
		}
		if err := os.Remove(filepath.Join(d.opts.PinDir, e.Name())); err != nil && !errors.Is(err, fs.ErrNotExist) {
			d.log.Error("cannot take a program off an interface", "interface", device, "error", err)
		}
	}
}
