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

// inherit makes of a target what the process before this one left of it: share is
// what it took then. It belongs to Prober.mu, as become does.
func (t *target) inherit(share uint32, now time.Time) {
	t.serves = share != 0
	t.result.Takes = t.serves
	if t.serves && share < WholeShare {
		const all = WholeShare - firstShare
		gained := time.Duration(max(share, firstShare) - firstShare)
		t.up = now.Add(-(t.slow*gained + all - 1) / all) // no later than when it had that much
	}
}

// become gives a target its next result, and begins to hold its share back where it
// takes traffic from now on and did not before.
func (t *target) become(next Result) {
	next.Takes = next.State == Alive || next.State == Close || next.State == Unknown && t.serves
	if next.Takes && !t.result.Takes && !t.early {
		t.up = time.Now()
	}
	if next.State != Unknown {
		t.serves, t.early = false, false
	}
	t.result = next
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
