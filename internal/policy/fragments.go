// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"net/netip"

	"github.com/sallyport/sallyport/internal/lb"
)

// A Piece says which part of its packet a fragment is.
type Piece struct {
	ID     uint32 // that all fragments of its packet have
	Offset int    // of its first byte behind the packet's IP header; 0: the first
	Length int    // how many bytes it has
}

// Fragments is the reference for packets in pieces, as Decide is for whole ones:
// what one gate makes of each fragment, in the order in which they come. Nothing
// here is ever forgotten, which gates do after some seconds. The zero value has
// seen none; it is for one goroutine.
type Fragments struct {
	// Narrow says that a packet of 1,500 bytes does not fit into the tunnel whole.
	Narrow bool
	firsts map[pieceName]firstPiece
}

// pieceName is what all fragments of a packet say of it.
type pieceName struct {
	src, dst netip.Addr
	proto    lb.Proto
	id       uint32
}

// firstPiece is what a gate knows of a packet whose first fragment it let through.
type firstPiece struct {
	packet lb.Packet
	end    int
}

// Judge is the verdict on one fragment of p, whose ports count only where piece
// is the first; ICMP is an echo. whole is the gate's verdict on a packet that
// was never cut: the first is judged like one, and later ones as the first would
// be now. Whatever cannot be judged is dropped as Fragment: all where the tunnel
// has no room, a first without its transport's whole header, a later one that
// comes before its first, reaches back into it or follows one that was refused,
// and pieces of pings to a VIP.
func (f *Fragments) Judge(g Gate, p lb.Packet, piece Piece, whole func(lb.Packet) Verdict) Verdict {
	stray := Verdict{Gate: g, Action: lb.Drop, Reason: Fragment}
	name := pieceName{p.Src, p.Dst, p.Proto, piece.ID}
	if f.Narrow {
		return stray
	}
	if piece.Offset > 0 {
		first, ok := f.firsts[name]
		if !ok || piece.Offset < first.end {
			return stray
		}
		return whole(first.packet)
	}
	delete(f.firsts, name) // another packet's, that had the name
	if piece.Length < headerOf(p) || isEcho(p) && g == GateCLB {
		return stray
	}
	v := whole(p)
	if v.Action == lb.Accept {
		if f.firsts == nil {
			f.firsts = map[pieceName]firstPiece{}
		}
		f.firsts[name] = firstPiece{p, piece.Length}
	}
	return v
}

// headerOf is the least length of the header that a first fragment has to have
// whole.
func headerOf(p lb.Packet) int {
	switch {
	case p.Proto == lb.TCP:
		return 20
	case p.Proto == lb.UDP || isEcho(p):
		return 8
	}
	return 0
}

// isEcho reports whether the packet is ICMP of its own family.
func isEcho(p lb.Packet) bool {
	return p.Proto == lb.ICMP && p.Src.Is4() || p.Proto == lb.ICMPv6 && p.Src.Is6()
}
