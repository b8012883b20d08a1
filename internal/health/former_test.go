// SPDX-License-Identifier: Apache-2.0

package health

import "testing"

// What took traffic when the former process ended goes on to, before anything is
// committed and until it was probed; what was dead then stays so, and what is new
// waits as ever.
func TestFormerTargetsGoOn(t *testing.T) {
	former := map[uint32]uint32{1: WholeShare, 2: WholeShare, 3: 0}
	story(t, Options{Former: func(num uint32) uint32 { return former[num] }}, func(w *world) {
		want := func(when string, alive ...bool) {
			t.Helper()
			for i, is := range alive {
				if num := uint32(i + 1); w.prober.Alive(num) != is {
					t.Errorf("%s: target %d alive: %v", when, num, !is)
				}
			}
		}
		want("before anything is committed", true, true, false, false, false)
		w.set(2, "refuse")
		w.apply(1, tcp, 1, 2, 3, 4)
		want("before a probe counts", true, true, false, false, false)
		w.apply(2, tcp, 1, 2, 3, 4, 5)
		w.advance(10)
		want("when they were probed", true, false, true, true, true)
		w.apply(3, tcp, 2, 3)
		want("taken away", false, false, true)
		former[6] = WholeShare
		w.apply(4, tcp, 2, 3, 6)
		want("a new one by the number of a former one", false, false, true, false, false, false)
	})
}
