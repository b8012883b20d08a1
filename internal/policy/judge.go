// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"net/netip"

	"github.com/sallyport/sallyport/internal/lb"
)

// Judge is Decide on the compiled form: the same verdict at a cost that does
// not grow with the rules. A Compiled stands for at least one group, so its
// reason is NoMatch or that of a rule.
func (c *Compiled) Judge(g Gate, dir Direction, p lb.Packet) Verdict {
	ordinal, ok := c.Lookup(Peer(dir, p), p.Proto, p.DstPort)
	if !ok {
		return Verdict{Gate: g, Action: lb.Drop, Reason: NoMatch}
	}
	return c.Rules[ordinal].verdict(g)
}

// verdict is what a match of the rule says.
func (r RuleRef) verdict(g Gate) Verdict {
	switch r.Reason {
	case ReasonNone:
		return Verdict{g, r.Action, RuleMatched, r.Group, r.Rule, r.Pos}
	case NoGroups:
		return Verdict{Gate: g, Action: r.Action, Reason: NoGroups}
	}
	return Verdict{g, r.Action, r.Reason, "", r.Rule, r.Pos}
}

// Lookup finds the ordinal of the rule that decides for a peer, protocol and
// destination port; false when none does. The kernel takes the same steps.
func (c *Compiled) Lookup(peer netip.Addr, proto lb.Proto, port uint16) (ordinal int, ok bool) {
	if !peer.IsValid() {
		return 0, false
	}
	if !proto.HasPorts() {
		port = 0
	}
	cell := find(c.Slice(c.source(peer)), PortKey(proto, port))
	return int(cell) - 1, cell != 0
}

func (c *Compiled) source(peer netip.Addr) uint16 {
	if peer.Is4() {
		b := peer.As4()
		return find(c.Src4, binary.BigEndian.Uint32(b[:]))
	}
	key := peer.As16()
	at := 0
	for n := len(c.Src6); n > 1; {
		half := n / 2
		if bytes.Compare(c.Src6[at+half].Start[:], key[:]) <= 0 {
			at += half
		}
		n -= half
	}
	return c.Src6[at].Class
}

// find is the class of the last interval that starts at or before key. There
// always is one, because the first starts at 0.
func find(intervals []Interval, key uint32) uint16 {
	at := 0
	for n := len(intervals); n > 1; {
		half := n / 2
		if intervals[at+half].Start <= key {
			at += half
		}
		n -= half
	}
	return intervals[at].Class
}

// ContentHash is the hash of everything but Hash itself.
func (c *Compiled) ContentHash() Hash {
	h := sha256.New()
	var buffer []byte
	flush := func() { h.Write(buffer); buffer = buffer[:0] }
	number := func(n int) { buffer = binary.LittleEndian.AppendUint32(buffer, uint32(n)) }
	text := func(s string) { number(len(s)); buffer = append(buffer, s...) }
	number(len(c.Rules))
	for _, r := range c.Rules {
		text(string(r.Group))
		text(string(r.Rule))
		number(r.Pos)
		number(int(r.Action))
		if r.Reason != ReasonNone { // as before for rules of groups, whose hashes nodes keep
			number(int(r.Reason))
		}
	}
	flush()
	for _, intervals := range [][]Interval{c.Src4, c.Segments} {
		number(len(intervals))
		for _, i := range intervals {
			number(int(i.Start))
			number(int(i.Class))
		}
		flush()
	}
	number(len(c.Src6))
	for _, i := range c.Src6 {
		buffer = append(buffer, i.Start[:]...)
		number(int(i.Class))
	}
	number(len(c.Slices))
	for _, first := range c.Slices {
		number(int(first))
	}
	flush()
	return Hash(hex.EncodeToString(h.Sum(nil)[:8]))
}
