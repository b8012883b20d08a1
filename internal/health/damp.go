// SPDX-License-Identifier: Apache-2.0

package health

import "time"

// A target that keeps falling has to show more before it is trusted again. Two
// falls within flapWindow are free; each further one doubles the successes
// that make it Alive, up to flapMost times HealthNum. Once the window holds no
// more than the free ones, HealthNum alone counts again.
const (
	flapWindow = 10 * time.Minute
	flapFree   = 2
	flapMost   = 8
)

// falls remembers when a target fell from Alive to Dead, oldest first.
type falls struct{ at []time.Time }

// add notes a fall. No more are kept than can count.
func (f *falls) add(now time.Time) {
	f.at = append(f.at, now)
	if most := flapFree + 3; len(f.at) > most { // 2, 4 and 8 times
		f.at = f.at[len(f.at)-most:]
	}
}

// factor is by what HealthNum is multiplied.
func (f *falls) factor(now time.Time) int {
	for len(f.at) > 0 && now.Sub(f.at[0]) > flapWindow {
		f.at = f.at[1:]
	}
	factor := 1
	for range max(0, len(f.at)-flapFree) {
		factor = min(2*factor, flapMost)
	}
	return factor
}
