// SPDX-License-Identifier: Apache-2.0

package health

import (
	"context"
	"time"

	"github.com/sallyport/sallyport/internal/snapshot"
)

// WholeShare is the share of a target that takes all that its weight gives it.
const WholeShare = 256

// A target that starts slowly begins with firstShare and gains evenly, each
// shareEvery, until it has all of it.
const (
	firstShare = WholeShare / 16
	shareEvery = time.Second
)

// Share is how much of what its weight gives it a target takes now, of
// WholeShare. It is less only while the target starts slowly, which a listener
// or rule must ask for.
func (p *Prober) Share(num uint32) uint32 {
	p.mu.Lock()
	defer p.mu.Unlock()
	if t := p.targets[num]; t != nil {
		return t.share(time.Now())
	}
	return WholeShare
}

// share belongs to Prober.mu.
func (t *target) share(now time.Time) uint32 {
	slow, up := t.slow, now.Sub(t.up)
	if slow == 0 || t.up.IsZero() || up >= slow || t.result.State == Dead {
		return WholeShare
	}
	return firstShare + uint32((WholeShare-firstShare)*up/slow)
}

// starts notes that a target takes traffic from now on and did not before.
func (t *target) starts(before, after State) {
	on := func(s State) bool { return s == Alive || s == Close }
	if on(after) && !on(before) && !t.settled {
		t.up = time.Now()
	}
	if on(after) || after == Dead {
		t.settled = false // whatever it was when this process began
	}
}

// ramp tells shares while they grow, until ctx ends.
func (p *Prober) ramp(ctx context.Context) {
	told := map[uint32]uint32{}
	for pause(ctx, shareEvery) {
		p.tellShares(told)
	}
}

// tellShares tells what has changed since it was called last.
func (p *Prober) tellShares(told map[uint32]uint32) {
	p.telling.Lock()
	defer p.telling.Unlock()
	news := map[uint32]uint32{}
	p.mu.Lock()
	now := time.Now()
	for num, t := range p.targets {
		if share := t.share(now); share != WholeShare || told[num] != 0 {
			news[num] = share
		}
	}
	for num := range told {
		if p.targets[num] == nil {
			delete(told, num)
		}
	}
	p.mu.Unlock()
	for num, share := range news {
		if told[num] == share {
			continue
		}
		p.options.Slow(num, share)
		told[num] = share
		if share == WholeShare {
			delete(told, num)
		}
	}
}

// slowOf is for how long targets start slowly, by target; those at once are
// left out.
func slowOf(s *snapshot.Snapshot) map[uint32]time.Duration {
	slow := map[uint32]time.Duration{}
	add := func(refs []snapshot.TargetRef, seconds int) {
		for _, ref := range refs {
			if seconds > 0 {
				slow[ref.Num] = time.Duration(seconds) * time.Second
			}
		}
	}
	for _, l := range s.Listeners {
		add(l.Targets, l.Choice.SlowStart)
		for _, r := range l.Rules {
			add(r.Targets, r.Choice.SlowStart)
		}
	}
	return slow
}
