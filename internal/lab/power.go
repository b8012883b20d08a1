// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// PowerOff switches the host of an instance off: its processes end, its kernel
// stack and all connections with it, and nothing answers at its addresses. Its
// identity and underlay address stay for AddInstance and StartNode to take up
// again.
func (l *Lab) PowerOff(id string) error {
	l.stopAll(func(p Process) bool { return p.Host == id })
	killInside([]string{Namespace(id)})
	err := dropHost(id)
	l.mu.Lock()
	l.hosts = slices.DeleteFunc(l.hosts, func(h Host) bool { return h.Name == id })
	l.mu.Unlock()
	l.save()
	return errors.Join(err, os.RemoveAll(PinDir(id)))
}

// RemoveInstance ends the host of an instance that is gone for good.
func (l *Lab) RemoveInstance(id string) error {
	err := l.PowerOff(id)
	l.mu.Lock()
	delete(l.underlay, id)
	l.mu.Unlock()
	return errors.Join(err, l.saveUnderlay(), os.RemoveAll(l.nodeDir(id)))
}

// gatePins are what an agent pins once its gate stands in both directions.
var gatePins = []string{"link_host_in", "link_host_out"}

// openBehindGate waits for the gate of a new instance and then lets the rest
// of the lab reach its addresses. A host whose agent never attaches a gate
// stays unreachable; the wait ends with the host.
func (l *Lab) openBehindGate(h Host) {
	for l.has(h) {
		if !gateStands(h.Name) {
			time.Sleep(2 * time.Millisecond)
			continue
		}
		h.IPv6 = l.ipv6Of(h) // it may have got one meanwhile
		if err := openWay(h); err != nil && l.has(h) {
			l.o.Say("open the way to %s: %v", h.Name, err)
		}
		return
	}
}

// gateStands reports whether the agent of a host has attached its gate.
func gateStands(host string) bool {
	return !slices.ContainsFunc(gatePins, func(name string) bool {
		_, err := os.Stat(filepath.Join(PinDir(host), name))
		return err != nil
	})
}

// ipv6Of is the IPv6 address that the host has by now.
func (l *Lab) ipv6Of(h Host) netip.Addr {
	l.mu.Lock()
	defer l.mu.Unlock()
	if at := slices.IndexFunc(l.hosts, func(o Host) bool { return o.Name == h.Name }); at >= 0 {
		return l.hosts[at].IPv6
	}
	return netip.Addr{}
}

// has reports whether this very host is still part of the lab.
func (l *Lab) has(h Host) bool {
	l.saving.Lock()
	closed := l.closed
	l.saving.Unlock()
	l.mu.Lock()
	defer l.mu.Unlock()
	return !closed && slices.ContainsFunc(l.hosts, func(o Host) bool { return o.Name == h.Name })
}
