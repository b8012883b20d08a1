// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"fmt"
	"net"
	"slices"
	"strings"
	"unsafe"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/sallyport/sallyport/internal/lb"
)

// ethFlagRxVLAN is ETH_FLAG_RXVLAN of linux/ethtool.h.
const ethFlagRxVLAN = 1 << 8

// stripsTags reports whether the network card takes VLAN tags off frames before
// XDP sees them. One that does not say does not.
func stripsTags(device string) bool {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	value := struct{ cmd, data uint32 }{cmd: unix.ETHTOOL_GFLAGS}
	request := struct {
		name [unix.IFNAMSIZ]byte
		data unsafe.Pointer
		rest [16]byte
	}{data: unsafe.Pointer(&value)}
	copy(request.name[:unix.IFNAMSIZ-1], device)
	if _, _, e := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCETHTOOL, uintptr(unsafe.Pointer(&request))); e != 0 {
		return false
	}
	return value.data&ethFlagRxVLAN != 0
}

// vlansOn lists the VLANs that stand on a device, by name.
func vlansOn(device string, links []netlink.Link) []string {
	at := slices.IndexFunc(links, func(l netlink.Link) bool { return l.Attrs().Name == device })
	var all []string
	for _, l := range links {
		if v, ok := l.(*netlink.Vlan); ok && at >= 0 && v.ParentIndex == links[at].Attrs().Index {
			all = append(all, fmt.Sprintf("%s (VLAN %d)", v.Name, v.VlanId))
		}
	}
	slices.Sort(all)
	return all
}

// hidesVLANs says why XDP is not to run on a device: it would take frames of other
// VLANs for the device's own. "": it may.
func hidesVLANs(device string, vlans []string, strips bool) string {
	if len(vlans) == 0 || !strips {
		return ""
	}
	return fmt.Sprintf("%s has %s on it and takes tags off before XDP sees a frame, which would take other VLANs' frames for its own; `ethtool -K %s rxvlan off` mends that",
		device, strings.Join(vlans, ", "), device)
}

// linkFindings say which interfaces a host judges, and what becomes of frames
// with a tag where VLANs stand on the device.
func linkFindings(role lb.NodeRole, device string) []Finding {
	links, err := netlink.LinkList()
	if err != nil {
		return []Finding{{false, "links", fmt.Sprintf("cannot list interfaces: %v", err)}}
	}
	var all []Finding
	if role == lb.RoleHost {
		all = append(all, judgedFinding(links))
		all = append(all, unjudgedFindings(links)...)
	}
	return append(all, vlanFindings(role, device, vlansOn(device, links))...)
}

// unjudgedFindings warn of interfaces in use that gate 2 cannot read: those with
// another link header than Ethernet's, such as InfiniBand.
func unjudgedFindings(links []netlink.Link) []Finding {
	var past []string
	for _, l := range links {
		if a := l.Attrs(); a.EncapType != "ether" && a.EncapType != "loopback" && !isBare(l) && a.Flags&net.FlagUp != 0 {
			past = append(past, a.Name)
		}
	}
	if len(past) == 0 {
		return nil
	}
	return []Finding{{false, "past the gate", "packets with another link header than Ethernet's pass gate 2 by: those of " + named(past) + "; " +
		"filter there by other means, or take it down where this machine is to be reached through both gates alone"}}
}

func vlanFindings(role lb.NodeRole, device string, vlans []string) []Finding {
	if len(vlans) == 0 {
		return nil
	}
	text := fmt.Sprintf("%s on %s: ", strings.Join(vlans, ", "), device)
	if role == lb.RoleHost {
		text += "each is judged as an interface of its own once this machine has joined; frames of any other VLAN go nowhere"
	} else {
		text += "their frames are left to them, except what is for a VIP, which is dropped (reason unsupported): clients come without a tag, or name the VLAN's own interface with --device"
	}
	return []Finding{{true, "vlans", text}}
}

// judgedFinding says where gate 2 of a machine that joins stands.
func judgedFinding(links []netlink.Link) Finding {
	isDoor := map[int]bool{}
	var judged, inside, parts []string
	for _, l := range doorsAmong(links) {
		isDoor[l.Attrs().Index] = true
		judged = append(judged, l.Attrs().Name)
	}
	for _, l := range links {
		a := l.Attrs()
		switch {
		case l.Type() == "bridge" && !isDoor[a.Index]:
			inside = append(inside, a.Name)
		case isDoor[a.MasterIndex]:
			parts = append(parts, a.Name)
		}
	}
	text := "a machine that joins judges " + named(judged)
	if len(parts) > 0 {
		text += "; " + named(parts) + " by the bridge or bond that each belongs to"
	}
	if len(inside) > 0 {
		text += "; not " + named(inside) + ": bridges to which only virtual machines and containers belong (make those guests to judge them)"
	}
	return Finding{true, "judged", text}
}

// named lists interfaces for people.
func named(names []string) string {
	slices.Sort(names)
	return strings.Join(names, ", ")
}
