// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"context"

	"golang.org/x/sys/unix"
)

// afterGrace waits until every program run that may still read what the
// former revision named is over.
func (d *Datapath) afterGrace(ctx context.Context) error {
	select {
	case <-d.grace:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// membarrierGlobal is MEMBARRIER_CMD_GLOBAL of linux/membarrier.h.
const membarrierGlobal = 1

// beginGrace starts a grace period in the background. membarrier's global
// command waits for exactly what is needed: all running RCU readers.
func (d *Datapath) beginGrace() {
	over := make(chan struct{})
	d.grace = over
	go func() {
		defer close(over)
		d.waitGrace()
	}()
}

func (d *Datapath) waitGrace() {
	if _, _, e := unix.Syscall(unix.SYS_MEMBARRIER, membarrierGlobal, 0, 0); e != 0 {
		d.log.Error("membarrier failed: rows may be reused early", "error", e)
	}
}
