// SPDX-License-Identifier: Apache-2.0

package node

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/sallyport/sallyport/internal/snapshot"
)

// rulePriority places our rule before the main table (32766) and after the
// machine's local table (0).
const rulePriority = snapshot.LocalTable

// PolicyRoute makes the kernel deliver to local sockets what the gateway's
// program marked with snapshot.MarkLocal, whatever its destination: for both
// families one rule on the mark, and one local route in a table of its own. It
// also switches the reverse path filter of device off, which would drop
// replies that arrive for clients' addresses. Doing it again changes nothing.
// It works in the network namespace of the calling thread.
func PolicyRoute(device string) error {
	handle, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return fmt.Errorf("policy route: %w", err)
	}
	defer handle.Close()
	if _, err := handle.LinkByName(device); err != nil {
		return fmt.Errorf("policy route: device %s: %w", device, err)
	}
	lo, err := handle.LinkByName("lo")
	if err != nil {
		return fmt.Errorf("policy route: device lo: %w", err)
	}
	if err := handle.LinkSetUp(lo); err != nil {
		return fmt.Errorf("policy route: device lo: %w", err)
	}
	families := []int{netlink.FAMILY_V4}
	if _, err := os.Stat("/proc/sys/net/ipv6"); err == nil {
		families = append(families, netlink.FAMILY_V6)
	}
	for _, family := range families {
		if err := deliverMarked(handle, lo, family); err != nil {
			return err
		}
	}
	for _, name := range []string{"all", device} {
		path := filepath.Join("/proc/sys/net/ipv4/conf", name, "rp_filter")
		if err := os.WriteFile(path, []byte("0\n"), 0o644); err != nil {
			return fmt.Errorf("policy route: %w", err)
		}
	}
	return nil
}

func deliverMarked(handle *netlink.Handle, lo netlink.Link, family int) error {
	everything := &net.IPNet{IP: net.IPv4zero.To4(), Mask: net.CIDRMask(0, 32)}
	if family == netlink.FAMILY_V6 {
		everything = &net.IPNet{IP: net.IPv6zero, Mask: net.CIDRMask(0, 128)}
	}
	route := &netlink.Route{
		LinkIndex: lo.Attrs().Index,
		Dst:       everything,
		Type:      unix.RTN_LOCAL,
		Scope:     netlink.SCOPE_HOST,
		Table:     snapshot.LocalTable,
		Family:    family,
	}
	// The route first: a rule that leads to an empty table would let marked
	// packets fall through to the main one.
	if err := handle.RouteReplace(route); err != nil {
		return fmt.Errorf("policy route: local route in table %d: %w", snapshot.LocalTable, err)
	}
	rules, err := handle.RuleList(family)
	if err != nil {
		return fmt.Errorf("policy route: list rules: %w", err)
	}
	for _, r := range rules {
		if r.Table == snapshot.LocalTable && r.Mark == snapshot.MarkLocal && r.Mask != nil && *r.Mask == snapshot.MarkMask {
			return nil
		}
	}
	mask := snapshot.MarkMask
	rule := netlink.NewRule()
	rule.Family, rule.Priority, rule.Table = family, rulePriority, snapshot.LocalTable
	rule.Mark, rule.Mask = snapshot.MarkLocal, &mask
	if err := handle.RuleAdd(rule); err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("policy route: rule for mark %#x: %w", snapshot.MarkLocal, err)
	}
	return nil
}
