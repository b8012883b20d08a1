// SPDX-License-Identifier: Apache-2.0

package cloudapi

import (
	"sync"

	"golang.org/x/time/rate"

	"github.com/sallyport/sallyport/internal/lb"
)

// Rates bound how often one key may call one action, in calls a second; a
// second's worth may come at once. 0 is no bound.
type Rates struct {
	Reads, Writes float64
}

// DefaultRates are generous: they stop a loop that went wrong, not work.
func DefaultRates() Rates { return Rates{Reads: 2000, Writes: 1000} }

// limits holds one bucket for each key and action that was used. There are no
// others, because callers are authenticated first.
type limits struct {
	rates   Rates
	mu      sync.Mutex
	buckets map[bucketKey]*rate.Limiter
}

type bucketKey struct {
	key    lb.KeyID
	action string
}

// maxBuckets is where buckets are forgotten, all at once: a full one is the
// same as none.
const maxBuckets = 100_000

func newLimits(r Rates) *limits {
	return &limits{rates: r, buckets: map[bucketKey]*rate.Limiter{}}
}

// take refuses a call that comes too soon.
func (l *limits) take(k *lb.AccessKey, a *Action) error {
	perSecond := l.rates.Reads
	if a.access.right.writes() {
		perSecond = l.rates.Writes
	}
	if perSecond <= 0 || l.bucket(bucketKey{k.ID, a.Name}, perSecond).Allow() {
		return nil
	}
	return errorf("RequestLimitExceeded", "key %s called %s more than %g times a second; wait a moment and call again", k.ID, a.Name, perSecond)
}

func (l *limits) bucket(at bucketKey, perSecond float64) *rate.Limiter {
	l.mu.Lock()
	defer l.mu.Unlock()
	b := l.buckets[at]
	if b == nil {
		if len(l.buckets) >= maxBuckets {
			clear(l.buckets)
		}
		b = rate.NewLimiter(rate.Limit(perSecond), max(1, int(perSecond)))
		l.buckets[at] = b
	}
	return b
}
