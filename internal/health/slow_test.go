// SPDX-License-Identifier: Apache-2.0

package health

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sallyport/sallyport/internal/lb"
	"github.com/sallyport/sallyport/internal/snapshot"
)

// quick turns Alive with the first success and Dead with the first failure.
var quick = lb.HealthCheck{On: true, Type: "TCP", TimeOut: 2, IntervalTime: 5, HealthNum: 1, UnHealthNum: 1}

func (w *world) applySlowly(r lb.Revision, check lb.HealthCheck, seconds int, nums ...uint32) {
	w.t.Helper()
	s := snapshotOf(check, nums...)
	s.Revision, s.Listeners[0].Rules[0].Choice.SlowStart = r, seconds
	if err := w.prober.Stage(w.t.Context(), s); err != nil {
		w.t.Fatal(err)
	}
	if err := w.prober.Commit(w.t.Context(), r); err != nil {
		w.t.Fatal(err)
	}
}

// What was there when the process began has its whole share; what comes later,
// or comes back, gains it evenly.
func TestSlowStart(t *testing.T) {
	told := map[uint32][]uint32{}
	slow := func(num, share uint32) { told[num] = append(told[num], share) }
	story(t, Options{Slow: slow}, func(w *world) {
		w.applySlowly(1, quick, 10, 1)
		w.advance(2)
		if w.prober.Share(1) != WholeShare || w.prober.Share(9) != WholeShare {
			t.Error("a target that was there before starts slowly")
		}
		w.applySlowly(2, quick, 10, 1, 2) // 2 is new
		w.set(1, "refuse")                // 1 falls at 5 and is back at 10
		w.advance(5)
		w.set(1, "ok")
		w.advance(22)
		if w.prober.Share(1) != WholeShare || w.prober.Share(2) != WholeShare {
			t.Error("after twelve seconds a share is still held back")
		}
		for num, shares := range told {
			if n := len(shares); n < 9 || shares[0] > 64 || shares[n-1] != WholeShare || !slices.IsSorted(shares) {
				t.Errorf("shares of %d: %v", num, shares)
			}
		}
		if len(told) != 2 {
			t.Errorf("told of %v, want 1 and 2", told)
		}
		w.applySlowly(3, quick, 0, 1, 2, 3)
		w.advance(22)
		if w.prober.Share(3) != WholeShare {
			t.Error("nobody asked 3 to start slowly")
		}
	})
}

// What a former process left goes on gaining its share from where it was; what was
// dead then comes back slowly, as if nothing had been replaced.
func TestSlowStartGoesOn(t *testing.T) {
	left := map[uint32]uint32{1: WholeShare, 2: WholeShare / 2, 3: 0, 4: WholeShare / 2}
	var told []string
	options := Options{Former: func(num uint32) uint32 { return left[num] },
		Slow: func(num, share uint32) { told = append(told, fmt.Sprint(num, " ", share)) }}
	story(t, options, func(w *world) {
		w.applySlowly(1, quick, 100, 1, 2, 3)
		if want := []string{"1 256", "2 128", "3 256"}; !cmp.Equal(told, want) {
			t.Errorf("told at first: %v, want %v", told, want) // nothing is held back of a dead one
		}
		w.advance(26) // 2 had all but 53 of its 100 seconds before it
		one, two, three := w.prober.Share(1), w.prober.Share(2), w.prober.Share(3)
		if one != WholeShare || two < 188 || two > 198 || three < firstShare+50 || three > firstShare+70 {
			t.Errorf("after 26 of 100 seconds the shares are %d, %d and %d", one, two, three)
		}
	})
	told = nil
	story(t, options, func(w *world) { // nobody asks for it any more
		w.applySlowly(1, quick, 0, 4)
		w.advance(3)
		if want := []string{"4 256"}; !cmp.Equal(told, want) {
			t.Errorf("told %v, want %v", told, want)
		}
	})
}

// With the check off, a target that is bound later starts slowly too.
func TestSlowStartUnchecked(t *testing.T) {
	story(t, Options{}, func(w *world) {
		w.applySlowly(1, lb.HealthCheck{}, 10, 1)
		w.applySlowly(2, lb.HealthCheck{}, 10, 1, 2)
		if w.prober.Share(1) != WholeShare || w.prober.Share(2) != firstShare {
			t.Errorf("shares %d and %d", w.prober.Share(1), w.prober.Share(2))
		}
		w.advance(5)
		if s := w.prober.Share(2); s < 140 || s > 156 {
			t.Errorf("after 5.5 of 10 seconds the share is %d", s)
		}
	})
}

func TestFlapDamping(t *testing.T) {
	now := time.Unix(0, 0)
	var tl tally
	state := Unknown
	rise := func() (n int) {
		for state != Alive {
			state, n, now = tl.count(state, true, quick, now), n+1, now.Add(time.Second)
		}
		return n
	}
	fall := func() { state, now = tl.count(state, false, quick, now), now.Add(time.Second) }
	var needed []int
	for range 8 {
		needed = append(needed, rise())
		fall()
	}
	if want := []int{1, 1, 1, 2, 4, 8, 8, 8}; !cmp.Equal(needed, want) {
		t.Errorf("successes needed after each fall: %v, want %v", needed, want)
	}
	now = now.Add(flapWindow)
	if n := rise(); n != 1 {
		t.Errorf("after a quiet window %d successes were needed", n)
	}
}

func TestSlowOf(t *testing.T) {
	refs := []snapshot.TargetRef{{Num: 1}, {Num: 2}}
	s := &snapshot.Snapshot{Listeners: []snapshot.Listener{
		{Targets: refs, Choice: lb.Choice{SlowStart: 5}},
		{Layer7: true, Rules: []snapshot.Rule{{Targets: []snapshot.TargetRef{{Num: 3}}, Choice: lb.Choice{SlowStart: 7}}, {Targets: []snapshot.TargetRef{{Num: 4}}}}},
	}}
	if got, want := slowOf(s), map[uint32]time.Duration{1: 5 * time.Second, 2: 5 * time.Second, 3: 7 * time.Second}; !cmp.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}
