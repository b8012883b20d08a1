// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"net/netip"
	"testing"

	"github.com/sallyport/sallyport/internal/lb"
)

// Each row is one fragment, in the order in which they come to a gate that
// admits UDP to port 53 and pings, and drops all else.
func TestFragments(t *testing.T) {
	client, server := netip.MustParseAddr("203.0.113.10"), netip.MustParseAddr("192.0.2.1")
	whole := func(p lb.Packet) Verdict {
		if p.Proto == lb.UDP && p.DstPort == 53 || p.Proto == lb.ICMP {
			return Verdict{Gate: GateCVM, Action: lb.Accept, Reason: RuleMatched}
		}
		return Verdict{Gate: GateCVM, Action: lb.Drop, Reason: NoMatch}
	}
	for _, narrow := range []bool{false, true} {
		f := Fragments{Narrow: narrow}
		for _, c := range []struct {
			what  string
			gate  Gate
			proto lb.Proto
			port  uint16
			piece Piece
			want  Reason
		}{
			{"before its first", GateCVM, lb.UDP, 0, Piece{1, 104, 104}, Fragment},
			{"the first", GateCVM, lb.UDP, 53, Piece{1, 0, 104}, RuleMatched},
			{"a later one", GateCVM, lb.UDP, 0, Piece{1, 104, 104}, RuleMatched},
			{"over the first", GateCVM, lb.UDP, 0, Piece{1, 96, 104}, Fragment},
			{"of another packet", GateCVM, lb.UDP, 0, Piece{2, 104, 104}, Fragment},
			{"of another protocol", GateCVM, lb.TCP, 0, Piece{1, 104, 104}, Fragment},
			{"without a whole header", GateCVM, lb.UDP, 53, Piece{1, 0, 4}, Fragment},
			{"after that", GateCVM, lb.UDP, 0, Piece{1, 104, 104}, Fragment},
			{"a first that is refused", GateCVM, lb.UDP, 54, Piece{3, 0, 104}, NoMatch},
			{"after that", GateCVM, lb.UDP, 0, Piece{3, 104, 104}, Fragment},
			{"TCP's header takes more", GateCVM, lb.TCP, 53, Piece{4, 0, 16}, Fragment},
			{"a ping", GateCVM, lb.ICMP, 0, Piece{5, 0, 104}, RuleMatched},
			{"its rest", GateCVM, lb.ICMP, 0, Piece{5, 104, 104}, RuleMatched},
			{"a ping to a VIP", GateCLB, lb.ICMP, 0, Piece{6, 0, 104}, Fragment},
			{"no header to miss", GateCVM, lb.GRE, 0, Piece{7, 0, 8}, NoMatch},
		} {
			p := lb.Packet{Proto: c.proto, Src: client, Dst: server, DstPort: c.port}
			want := c.want
			if narrow {
				want = Fragment
			}
			if got := f.Judge(c.gate, p, c.piece, whole); got.Reason != want || (got.Action == lb.Accept) != (want == RuleMatched) {
				t.Errorf("narrow %v, %s: %+v, want %v", narrow, c.what, got, want)
			}
		}
	}
}
