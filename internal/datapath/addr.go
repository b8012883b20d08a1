// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"encoding/binary"
	"fmt"
	"net/netip"
)

// rawAddr is an address as the maps hold it: network byte order, IPv4 in the
// first of four words. The zero address gives zeros.
func rawAddr(a netip.Addr) (raw GatewayAddr) {
	if a.Is4() {
		b := a.As4()
		raw.W[0] = binary.NativeEndian.Uint32(b[:])
		return raw
	}
	b := a.As16()
	for i := range raw.W {
		raw.W[i] = binary.NativeEndian.Uint32(b[4*i:])
	}
	return raw
}

func addrOf(raw GatewayAddr, family uint8) netip.Addr {
	var b [16]byte
	for i, w := range raw.W {
		binary.NativeEndian.PutUint32(b[4*i:], w)
	}
	if family == 6 {
		return netip.AddrFrom16(b)
	}
	return netip.AddrFrom4([4]byte(b[:4]))
}

// familyOf is 4 or 6, and 0 for the zero address.
func familyOf(a netip.Addr) uint8 {
	switch {
	case a.Is4():
		return 4
	case a.Is6():
		return 6
	}
	return 0
}

// addrIn is the address that a row holds: IPv4 unless more than the first word
// is set.
func addrIn(raw GatewayAddr) netip.Addr {
	if raw.W[1]|raw.W[2]|raw.W[3] != 0 {
		return addrOf(raw, 6)
	}
	return addrOf(raw, 4)
}

// own is where the tunnel ends on this node over a family, zero when nowhere.
func (o *Options) own(family uint8) netip.Addr {
	for _, a := range []netip.Addr{o.Address, o.Other} {
		if familyOf(a) == family {
			return a
		}
	}
	return netip.Addr{}
}

// checkAddresses wants one address, or one of each family.
func (o *Options) checkAddresses() error {
	if !o.Address.IsValid() || o.Address.Is4In6() || o.Address.Zone() != "" {
		return fmt.Errorf("tunnel address %v: a plain IPv4 or IPv6 address is needed", o.Address)
	}
	if o.Other.IsValid() && (o.Other.Is4() == o.Address.Is4() || o.Other.Is4In6() || o.Other.Zone() != "") {
		return fmt.Errorf("tunnel addresses %v and %v: a second one has to be of the other family", o.Address, o.Other)
	}
	return nil
}

// overhead is the most that the tunnel adds to a packet on this node.
func (o *Options) overhead() int {
	if o.own(6).IsValid() {
		return tunnelOverhead6
	}
	return tunnelOverhead
}
