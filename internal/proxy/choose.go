// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"

	"github.com/sallyport/sallyport/internal/lb"
	"github.com/sallyport/sallyport/internal/snapshot"
)

// WholeShare is the share of a target that takes all that its weight gives it.
const WholeShare = 256

// A chooser says which of a rule's targets gets the next request.
type chooser struct {
	wheel  *wheel
	least  bool
	ring   []uint32          // IP_HASH: by the client's address; else nil
	cookie string            // "": no stickiness
	age    int               // seconds for which the cookie is kept
	named  map[string]uint32 // the targets by what stands in the cookie
	values map[uint32]string // the reverse
	only   bool              // none is taken when none is healthy
	loads  *loads
}

func newChooser(rule snapshot.Rule, previous *wheel, loads *loads) *chooser {
	c := &chooser{wheel: newWheel(rule.Targets, previous), least: rule.Scheduler == lb.SchedulerLeast, only: rule.Choice.HealthyOnly, loads: loads}
	if rule.Scheduler == lb.SchedulerHash {
		var entries []lb.MaglevEntry
		for _, s := range c.wheel.seats {
			entries = append(entries, lb.MaglevEntry{Num: s.num, Weight: s.weight})
		}
		c.ring = lb.Maglev(entries, lb.MaglevSize(len(entries)))
	}
	if rule.Choice.Session > 0 {
		c.cookie, c.age = rule.Choice.Cookie, rule.Choice.Session
		if c.cookie == "" {
			c.cookie = lb.DefaultCookie
		}
		c.named, c.values = map[string]uint32{}, map[uint32]string{}
		for _, num := range c.wheel.nums() {
			value := sessionValue(rule.ID, num)
			c.named[value], c.values[num] = num, value
		}
	}
	return c
}

// sessionValue is what stands in the cookie for a target: the same on every
// gateway, and nothing that says where the target is.
func sessionValue(rule lb.LocationID, num uint32) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%s %d", rule, num))
	return hex.EncodeToString(sum[:8])
}

// kept is the target of the session that a request names; 0: none.
func (c *chooser) kept(r *http.Request) uint32 {
	if c.cookie == "" {
		return 0
	}
	for _, cookie := range r.CookiesNamed(c.cookie) {
		if num := c.named[cookie.Value]; num != 0 {
			return num
		}
	}
	return 0
}

// keep has the client keep the session with a target for another while.
func (c *chooser) keep(h http.Header, num uint32) {
	if value := c.values[num]; value != "" {
		h.Add("Set-Cookie", (&http.Cookie{Name: c.cookie, Value: value, Path: "/", MaxAge: c.age, HttpOnly: true}).String())
	}
}

// next picks among the eligible: the session's target, then what the scheduler
// says. ok is false when none is eligible.
func (c *chooser) next(j job, eligible map[uint32]bool, share func(uint32) uint32) (num uint32, ok bool) {
	if eligible[j.kept] {
		return j.kept, true
	}
	if num, ok := c.byAddress(j.client, eligible, share); ok {
		return num, true
	}
	among := func(num uint32) bool { return eligible[num] }
	if c.least {
		least := c.leastBusy(eligible, share)
		among = func(num uint32) bool { return least[num] }
	}
	return c.wheel.next(among, share)
}

// byAddress walks the ring from the client's own place to the first target
// that is eligible. One that is starting slowly takes its share of addresses.
func (c *chooser) byAddress(client netip.Addr, eligible map[uint32]bool, share func(uint32) uint32) (uint32, bool) {
	if len(c.ring) == 0 {
		return 0, false
	}
	hash := lb.HashAddr(client)
	lot := uint32(hash>>32) % WholeShare
	late, ok := uint32(0), false
	for range 16 * len(c.wheel.seats) {
		num := c.ring[hash%uint64(len(c.ring))]
		if eligible[num] {
			if lot < share(num) {
				return num, true
			}
			if !ok {
				late, ok = num, true
			}
		}
		hash = lb.Mix(hash)
	}
	return late, ok
}

// leastBusy are the eligible with the fewest requests under way for the weight
// that they have now.
func (c *chooser) leastBusy(eligible map[uint32]bool, share func(uint32) uint32) map[uint32]bool {
	least := map[uint32]bool{}
	var busy, weight int64 // of those in least
	for _, s := range c.wheel.seats {
		if !eligible[s.num] {
			continue
		}
		b, w := c.loads.of(s.num).Load(), max(1, int64(s.weight)*int64(share(s.num)))
		if len(least) == 0 || b*weight < busy*w {
			clear(least)
			busy, weight = b, w
		}
		if b*weight == busy*w {
			least[s.num] = true
		}
	}
	return least
}

// loads count the requests under way by target. They outlive views.
type loads struct {
	mu  sync.Mutex
	all map[uint32]*atomic.Int64
}

func (l *loads) of(num uint32) *atomic.Int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := l.all[num]
	if n == nil {
		n = new(atomic.Int64)
		l.all[num] = n
	}
	return n
}

// keep forgets targets that are gone and have nothing under way.
func (l *loads) keep(targets map[uint32]snapshot.Target) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for num, n := range l.all {
		if _, ok := targets[num]; !ok && n.Load() == 0 {
			delete(l.all, num)
		}
	}
}

// A hold is the place that one request has at a target.
type hold struct {
	num  uint32 // 0: at none yet
	load *atomic.Int64
}

// at moves the request to a target; 0: to none.
func (h *hold) at(l *loads, num uint32) {
	if h == nil {
		return
	}
	if h.load != nil {
		h.load.Add(-1)
	}
	h.num, h.load = num, nil
	if num != 0 {
		h.load = l.of(num)
		h.load.Add(1)
	}
}
