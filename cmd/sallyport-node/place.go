// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/sallyport/sallyport/internal/datapath"
)

// A place is where a machine stands in its network.
type place struct {
	device  string
	address netip.Addr   // where the tunnel ends
	others  []netip.Addr // this machine's further addresses, on all interfaces that are judged
	passing []netip.Addr // those of them where no tunnel is to end: secondary, temporary, deprecated, or of another interface
	every   bool         // others are those of every interface, but for except
	except  []string
}

// wayTo finds the interface that leads to the server, and its addresses.
func wayTo(server netip.Addr) (place, error) {
	routes, err := netlink.RouteGet(server.AsSlice())
	if err != nil || len(routes) == 0 {
		return place{}, fmt.Errorf("no route to the server at %v: %w", server, err)
	}
	link, err := netlink.LinkByIndex(routes[0].LinkIndex)
	if err != nil {
		return place{}, err
	}
	if link.Attrs().Flags&net.FlagLoopback != 0 {
		return place{}, errors.New("the server is on this very machine: say with --device which interface faces the network")
	}
	p, err := standing(link.Attrs().Name)
	if source, ok := netip.AddrFromSlice(routes[0].Src); err == nil && ok {
		p.prefer(source.Unmap())
	}
	return p, err
}

// standing is what an interface has for addresses, of both families; its first
// one is chosen, an IPv4 one if there is any.
func standing(device string) (place, error) {
	link, err := netlink.LinkByName(device)
	if err != nil {
		return place{}, fmt.Errorf("interface %s: %w", device, err)
	}
	all, err := netlink.AddrList(link, netlink.FAMILY_ALL)
	if err != nil {
		return place{}, fmt.Errorf("addresses of %s: %w", device, err)
	}
	p := place{device: device}
	slices.SortStableFunc(all, func(a, b netlink.Addr) int { return len(b.IP.To4()) - len(a.IP.To4()) }) // IPv4 first
	for _, a := range all {
		addr, ok := netip.AddrFromSlice(a.IP)
		if addr = addr.Unmap(); !ok || a.Flags&(unix.IFA_F_TENTATIVE|unix.IFA_F_DADFAILED) != 0 || a.Scope != int(netlink.SCOPE_UNIVERSE) && a.Scope != int(netlink.SCOPE_LINK) || addr.IsLinkLocalUnicast() {
			continue
		}
		// The flag means "temporary" for IPv6: an address of a few hours.
		if !p.address.IsValid() && a.Flags&unix.IFA_F_SECONDARY == 0 {
			p.address = addr
		} else {
			p.others = append(p.others, addr)
		}
		if a.Flags&(unix.IFA_F_SECONDARY|unix.IFA_F_DEPRECATED) != 0 {
			p.passing = append(p.passing, addr)
		}
	}
	slices.SortFunc(p.others, netip.Addr.Compare)
	if !p.address.IsValid() {
		return place{}, fmt.Errorf("interface %s has no address: the tunnel needs one", device)
	}
	return p, nil
}

// widened adds the addresses of all other interfaces by which packets reach this
// machine: each is judged, and a client may dial any of them.
func (p place) widened(except []string) (place, error) {
	p.every, p.except = true, except
	doors, err := datapath.Doors()
	if err != nil {
		return p, fmt.Errorf("interfaces: %w", err)
	}
	for _, l := range doors {
		name := l.Attrs().Name
		if name == p.device || slices.Contains(except, name) {
			continue
		}
		if q, err := standing(name); err == nil { // else it has none
			p.others = append(append(p.others, q.address), q.others...)
			p.passing = append(append(p.passing, q.address), q.others...)
		}
	}
	slices.SortFunc(p.others, netip.Addr.Compare)
	p.others = slices.Compact(p.others)
	return p, nil
}

// prefer makes a the address where the tunnel ends, if the device has it.
func (p *place) prefer(a netip.Addr) {
	if at := slices.Index(p.others, a); at >= 0 {
		p.others[at], p.address = p.address, a
		slices.SortFunc(p.others, netip.Addr.Compare)
	}
}

// second is where tunnels end over the other family than the address's: the
// first lasting address that the device has of it, zero if there is none.
func (p place) second() netip.Addr {
	for _, a := range p.others {
		if a.Is4() != p.address.Is4() && !slices.Contains(p.passing, a) {
			return a
		}
	}
	return netip.Addr{}
}

func (p place) equal(q place) bool { return p.address == q.address && slices.Equal(p.others, q.others) }

// How long `run` waits for its interface and a first address, and how often it
// looks whether they are still the same.
const (
	placeLimit = 60 * time.Second
	placeEvery = 2 * time.Second
)

// lastFile keeps the last known address: at boot the gate stands before the
// network is up, when the device has none yet.
const lastFile = "address"

// find is where this machine stands, for a run whose command line or config
// says the address only if it is to be that one. Without an address it waits,
// unless an earlier run knew one.
func find(ctx context.Context, device, address, dir string, every bool, except []string) (place, error) {
	deadline := time.Now().Add(placeLimit)
	for {
		p, err := standing(device)
		if err == nil && every {
			p, err = p.widened(except)
		}
		if said, perr := netip.ParseAddr(address); address != "" && perr == nil {
			if p.prefer(said); p.address != said {
				p = place{device: device, address: said, except: except} // of another device, or not there yet
			}
			p.device = device
			return p, nil
		}
		if err == nil {
			return p, os.WriteFile(filepath.Join(dir, lastFile), []byte(p.address.String()+"\n"), 0o600)
		}
		if last, ok := lastKnown(dir); ok {
			if _, err := net.InterfaceByName(device); err == nil {
				return place{device: device, address: last}, nil
			}
		}
		if ctx.Err() != nil || time.Now().After(deadline) {
			return place{}, err
		}
		select {
		case <-ctx.Done():
		case <-time.After(placeEvery / 10):
		}
	}
}

func lastKnown(dir string) (netip.Addr, bool) {
	raw, err := os.ReadFile(filepath.Join(dir, lastFile))
	if err != nil {
		return netip.Addr{}, false
	}
	a, err := netip.ParseAddr(string(raw[:max(len(raw)-1, 0)]))
	return a, err == nil
}

// errMoved ends a run whose machine has other addresses now: the next one
// begins with them.
var errMoved = errors.New("the machine's addresses have changed; starting again with the new ones")

// watch ends with errMoved when the device's addresses are others than p for
// two looks in a row, and with nil when ctx ends.
func (p place) watch(ctx context.Context) error {
	tick := time.NewTicker(placeEvery)
	defer tick.Stop()
	var before place
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		now, err := standing(p.device)
		if err == nil && p.every {
			now, err = now.widened(p.except)
		}
		if err != nil {
			continue // between two leases, say: what is in force stays
		}
		now.prefer(p.address)
		if !now.equal(p) && now.equal(before) {
			return fmt.Errorf("%w: %v, formerly %v", errMoved, now.address, p.address)
		}
		before = now
	}
}
