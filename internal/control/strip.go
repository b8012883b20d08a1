// SPDX-License-Identifier: Apache-2.0

package control

import (
	"time"

	"github.com/sallyport/sallyport/internal/flow"
)

// maxTurns is how many changes of one target's health a gateway's strip keeps;
// what was before the oldest is not known any more.
const maxTurns = 64

// A turn is the moment from which a target was in a state.
type turn struct {
	at    time.Time
	state flow.HealthState
}

// A HealthMark is the worst that was known of a target during a part of time.
type HealthMark uint8

// The marks, the worse the greater, as far as they can be compared.
const (
	MarkNone      HealthMark = iota // nothing is known
	MarkOff                         // the check is off
	MarkAlive                       // every probe that was judged went well
	MarkDetecting                   // not judged yet
	MarkDead                        // abnormal, if only for a moment
)

func markOf(s flow.HealthState) HealthMark {
	return [...]HealthMark{flow.HealthUnknown: MarkDetecting, flow.HealthAlive: MarkAlive, flow.HealthDead: MarkDead, flow.HealthClose: MarkOff}[s]
}

// turns takes in what a node tells of its targets' health.
func (n *nodeFacts) turns(r report, now time.Time) {
	if r.healthAll {
		have := map[uint32]bool{}
		for _, h := range r.health {
			have[h.Target] = true
		}
		for target := range n.strips {
			if !have[target] {
				delete(n.strips, target)
			}
		}
	}
	for _, h := range r.health {
		if h.State > flow.HealthClose {
			continue // of a newer release
		}
		strip := n.strips[h.Target]
		if len(strip) > 0 && strip[len(strip)-1].state == h.State {
			continue
		}
		at := now
		if !h.Since.IsZero() && h.Since.Before(now) && (len(strip) == 0 || h.Since.After(strip[len(strip)-1].at)) {
			at = h.Since // told late, or for the first time to this server
		}
		strip = append(strip, turn{at, h.State})
		n.strips[h.Target] = strip[max(0, len(strip)-maxTurns):]
	}
}

// Strip is a target's health over time, oldest first, as the worst of the
// gateways saw it: points marks of step each, the last of them ending now. It
// survives a restart of the server as far as nodes know since when things are
// as they are.
func (f *Facts) Strip(target uint32, step time.Duration, points int) []HealthMark {
	marks := make([]HealthMark, points)
	f.mu.Lock()
	defer f.mu.Unlock()
	width := int64(max(1, step/SeriesStep)) * int64(SeriesStep/time.Second)
	end := f.now().Unix()/width*width + width
	for _, n := range f.nodes {
		strip := n.strips[target]
		for i, t := range strip {
			until := end
			if i+1 < len(strip) {
				until = strip[i+1].at.Unix()
			}
			for at := t.at.Unix() / width * width; at <= until; at += width {
				if slot := points - int((end-at)/width); slot >= 0 && slot < points {
					marks[slot] = max(marks[slot], markOf(t.state))
				} else if slot < 0 {
					at += int64(-slot-1) * width
				}
			}
		}
	}
	return marks
}
