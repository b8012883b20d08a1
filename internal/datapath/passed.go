// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/sallyport/sallyport/internal/lb"
)

// underWay is how long a packet may take from the gateway that stamped it to
// its host, in queues above all.
const underWay = 20 * time.Millisecond

// Passed says that no gateway in reach stamps packets with less than r any
// more. A host then gives up the former revision as soon as nothing stamped with
// it is under way, so that the next Stage need not wait for that. It does so
// for the revision in force alone and ignores all others, returns at once, and
// does nothing on a gateway.
func (d *Datapath) Passed(r lb.Revision) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed() || d.opts.Role != lb.RoleHost || lb.Revision(d.revisions.Revision) != r || !d.passed.IsZero() {
		return
	}
	d.passed = time.Now()
	if d.pending == nil {
		d.settling.Stop()
		d.settling = time.AfterFunc(underWay, d.settle)
	}
}

// settle gives up the former revision ahead of time.
func (d *Datapath) settle() {
	d.mu.Lock()
	defer d.mu.Unlock()
	// A commit since has a former revision of its own, which nobody has passed.
	if d.closed() || d.pending != nil || d.passed.IsZero() || time.Since(d.passed) < underWay || d.revisions.Oldest == d.revisions.Revision {
		return
	}
	<-d.grace
	atomic.StoreUint32(&d.revisions.Oldest, d.revisions.Revision)
	d.beginGrace()
}

// waitUnderWay waits for packets stamped with what a host is about to give up.
// That it is given the next revision says, too, that gateways have passed it.
func (d *Datapath) waitUnderWay(ctx context.Context) error {
	if d.opts.Role != lb.RoleHost || d.revisions.Oldest == 0 {
		return nil
	}
	if d.passed.IsZero() {
		d.passed = time.Now()
	}
	left := time.NewTimer(time.Until(d.passed.Add(underWay)))
	defer left.Stop()
	select {
	case <-left.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
