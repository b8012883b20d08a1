// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"bytes"
	"fmt"

	"github.com/sallyport/sallyport/internal/lb"
)

// Validate reports the first thing that makes a Compiled unfit to be looked up
// in: by here or by the kernel, which checks no more than its verifier wants.
// Whatever Compile returns is valid; what comes over a wire may not be.
func (c *Compiled) Validate() error {
	switch {
	case len(c.Rules) > MaxRules:
		return fmt.Errorf("%d rules, more than %d", len(c.Rules), MaxRules)
	case len(c.Slices) < 1 || len(c.Slices) > 2*MaxIntervals:
		return fmt.Errorf("%d classes of sources", len(c.Slices))
	case len(c.Segments) > MaxSegments:
		return fmt.Errorf("%d segments, more than %d", len(c.Segments), MaxSegments)
	}
	for i, r := range c.Rules {
		if r.Action != lb.Accept && r.Action != lb.Drop {
			return fmt.Errorf("rule %d has no action", i)
		}
		if r.Reason != ReasonNone && r.Reason != SystemRule && r.Reason != NoGroups {
			return fmt.Errorf("rule %d is told as %v", i, r.Reason)
		}
	}
	if err := c.checkSlices(); err != nil {
		return err
	}
	if err := checkIntervals(c.Src4, MaxIntervals, len(c.Slices)); err != nil {
		return fmt.Errorf("IPv4 ranges: %w", err)
	}
	if len(c.Src6) < 1 || len(c.Src6) > MaxIntervals || c.Src6[0].Start != [16]byte{} {
		return fmt.Errorf("IPv6 ranges: %d, or the first does not start at 0", len(c.Src6))
	}
	for i, at := range c.Src6 {
		if int(at.Class) >= len(c.Slices) || i > 0 && bytes.Compare(c.Src6[i-1].Start[:], at.Start[:]) >= 0 {
			return fmt.Errorf("IPv6 range %d is out of order or of no class", i)
		}
	}
	if want := c.ContentHash(); c.Hash != want {
		return fmt.Errorf("is named %q but its content is %q", c.Hash, want)
	}
	return nil
}

func (c *Compiled) checkSlices() error {
	for class, first := range c.Slices {
		last := len(c.Segments)
		if class+1 < len(c.Slices) {
			last = int(c.Slices[class+1])
		}
		if class == 0 && first != 0 || int(first) >= last || last > len(c.Segments) {
			return fmt.Errorf("the segments of class %d are %d to %d of %d", class, first, last, len(c.Segments))
		}
		if err := checkIntervals(c.Segments[first:last], MaxPortIntervals, len(c.Rules)+1); err != nil {
			return fmt.Errorf("port ranges of class %d: %w", class, err)
		}
	}
	return nil
}

func checkIntervals(intervals []Interval, most, classes int) error {
	if len(intervals) < 1 || len(intervals) > most || intervals[0].Start != 0 {
		return fmt.Errorf("%d, or the first does not start at 0", len(intervals))
	}
	for i, at := range intervals {
		if int(at.Class) >= classes || i > 0 && intervals[i-1].Start >= at.Start {
			return fmt.Errorf("range %d is out of order or of no class", i)
		}
	}
	return nil
}
