// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"math/rand/v2"
	"time"
)

const (
	retryFirst = 50 * time.Millisecond
	retryLast  = 2 * time.Second
	retryReset = time.Second // a stream that lasted this long starts the waits anew
)

// A backoff is a wait that doubles from retryFirst to retryLast.
type backoff struct{ next time.Duration }

func newBackoff() *backoff { return &backoff{next: retryFirst} }

// wait sleeps between half and the whole of the next wait, so that a thousand
// nodes do not come back at once, or until ctx ends.
func (b *backoff) wait(ctx context.Context) {
	d := b.next/2 + rand.N(b.next/2)
	b.next = min(2*b.next, retryLast)
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
