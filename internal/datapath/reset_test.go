// SPDX-License-Identifier: Apache-2.0

package datapath

import "testing"

// A reset that its receiver takes no notice of, as of a forged one, ends nothing:
// when both sides have gone on the flow is as open as before. One that is taken
// does end it, however much was still on its way.
func TestResetThatNobodyTakes(t *testing.T) {
	s := newSiege(t)
	s.force(compiled(t, "sg-2", accept("0.0.0.0/0", 8080)), compiled(t, "sg-e", accept("0.0.0.0/0", 443)), nil)
	type way struct {
		program string
		frame   func(flags byte) []byte
	}
	kinds := map[string]func(port uint16) (opener, other way){
		"dialled": func(port uint16) (way, way) {
			return way{"host_out", func(f byte) []byte { return outbound(port, 443, f) }}, way{"host_in", func(f byte) []byte { return inbound(443, port, f) }}
		},
		"by the VIP": func(port uint16) (way, way) {
			return way{"host_in", func(f byte) []byte { return s.through(port, f) }}, way{"host_out", func(f byte) []byte { return outbound(8080, port, f) }}
		},
	}
	var then []func() // one silence for all of them
	port := uint16(40000)
	for kind, ways := range kinds {
		for _, c := range []struct {
			name  string
			steps string // of both sides, o the opener and a who answers: R resets, F ends, . says something
			open  bool   // is it, long after?
		}{
			{"never reset", "o.", true},
			{"forged, then both go on", "aR o. a.", true},
			{"forged the other way", "oR a. o.", true},
			{"forged twice", "aR o. aR o. a.", true},
			{"forged, and the other one's goes on alone", "aR o. o.", false},
			{"forged, and who is said to have sent it goes on alone", "aR a. a.", false},
			{"taken", "aR", false},
			{"taken, and what was on its way is reset too", "aR o. aR", false},
			{"both reset", "aR oR a. o.", false},
			{"ended, then reset", "oF aR o. a.", false},
			{"forged, then ended", "aR o. a. oF aF", false},
			{"forged, then ended before it is open again", "aR oF aF", false},
		} {
			port++
			opener, other := ways(port)
			s.want("dialling", true, opener.program, opener.frame(first))
			s.want("the answer", true, other.program, other.frame(second))
			s.want("its acknowledgement", true, opener.program, opener.frame(later))
			for i := 0; i < len(c.steps); i += 3 {
				who := map[byte]way{'o': opener, 'a': other}[c.steps[i]]
				s.want(kind+": "+c.name, true, who.program, who.frame(map[byte]byte{'R': reset, 'F': fin | later, '.': later}[c.steps[i+1]]))
			}
			out := opener
			if opener.program == "host_in" {
				out = other
			}
			then = append(then, func() {
				s.want(kind+": "+c.name+", then 40 units of silence", c.open, out.program, out.frame(later))
			})
		}
	}
	s.age(40)
	for _, check := range then {
		check()
	}
}
