// SPDX-License-Identifier: Apache-2.0

package policy

import "github.com/sallyport/sallyport/internal/lb"

// A Hash names content: 16 hex digits, the first 8 bytes of its SHA-256.
type Hash string

// Compiled is the one compiled form of an ordered list of groups in one
// direction: source address → class, and for each class its own line of
// (protocol, destination port), cut where the deciding rule changes. Judging is
// two searches, whatever the number of rules. The kernel runs the same arrays.
//
// For outbound rules "source" is the destination address: the peer.
type Compiled struct {
	Hash     Hash
	Rules    []RuleRef   // by ordinal, the order of judging
	Src4     []Interval  // sorted by Start; the first starts at 0
	Src6     []Interval6 // sorted by Start; the first starts at ::
	Slices   []uint32    // by source class (both families share them): its first segment; it ends where the next begins
	Segments []Interval  // Start is PortKey, Class ordinal+1, 0 when no rule matches; each slice is sorted and starts at 0
}

// Slice gives the segments of a source class.
func (c *Compiled) Slice(class uint16) []Interval {
	end := uint32(len(c.Segments))
	if int(class)+1 < len(c.Slices) {
		end = c.Slices[class+1]
	}
	return c.Segments[c.Slices[class]:end]
}

// Words are those of 8 bytes that the policy takes in the kernel.
func (c *Compiled) Words() int {
	return lb.BlobHeader + words(len(c.Segments), len(c.Src4), len(c.Src6), len(c.Rules))
}

// MaxWords is the most that Words can be.
func MaxWords() int {
	return lb.BlobHeader + words(MaxSegments, MaxIntervals, MaxIntervals, MaxRules)
}

// words repeats how datapath lays a policy out; a test there compares.
func words(segments, ranges4, ranges6, rules int) int {
	return 2 + segments + 2*ranges6 + (ranges4+1)/2 + (ranges4+ranges6+1)/2 + (rules+1)/2
}

// A RuleRef is what a verdict says about the rule that decided.
type RuleRef struct {
	Group  lb.GroupID
	Rule   lb.RuleID
	Pos    int
	Action lb.Action
	Reason Reason `json:",omitempty"` // what a match is told as; zero: RuleMatched
}

// An Interval runs from Start to the next one's Start (or the end of the space).
type Interval struct {
	Start uint32
	Class uint16
}

// An Interval6 is an Interval of IPv6 addresses.
type Interval6 struct {
	Start [16]byte
	Class uint16
}

// PortKey places a protocol and destination port on one line: proto<<16|port.
// Protocols without ports use port 0.
func PortKey(p lb.Proto, port uint16) uint32 { return uint32(p)<<16 | uint32(port) }
