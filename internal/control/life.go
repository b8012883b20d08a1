// SPDX-License-Identifier: Apache-2.0

package control

import (
	"context"
	"errors"
	"time"

	"github.com/sallyport/sallyport/internal/lb"
	"github.com/sallyport/sallyport/internal/store"
)

// leaveLimit is how long after the start of a server nodes may take to come
// back before one that is away counts as having left.
const leaveLimit = 5 * time.Second

// inForce is what becomes of an instance when its own node has it in force.
func inForce(s lb.InstanceState) lb.InstanceState {
	if s == lb.Pending || s == lb.Starting {
		return lb.Running
	}
	return s
}

// hasLeft is what becomes of an instance when its node has left: the machine
// is off.
func hasLeft(s lb.InstanceState) lb.InstanceState {
	switch s {
	case lb.Stopping:
		return lb.Stopped
	case lb.Rebooting:
		return lb.Starting
	}
	return s
}

// advance moves an instance's life on by what its node has shown, in the
// background; Control.mu is held.
func (c *Control) advance(id lb.InstanceID, by func(lb.InstanceState) lb.InstanceState) {
	if i := c.store.State().Instances.Get(id); i == nil || by(i.State) == i.State {
		return
	}
	c.wg.Go(func() {
		ctx, cancel := context.WithTimeout(context.Background(), writeLimit)
		defer cancel()
		_, err := c.store.Update(ctx, func(tx *store.Tx) error {
			i := tx.State().Instances.Get(id)
			if i == nil {
				return nil
			}
			next := *i
			next.State = by(i.State)
			tx.PutInstance(&next) // writes nothing when nothing differs
			return nil
		})
		if err != nil && !errors.Is(err, store.ErrClosed) {
			c.log.Error("instance not moved on", "instance", id, "error", err)
		}
	})
}

// noticeAbsent moves instances on that are being switched off and whose node
// was gone before anybody looked: it left while no server ran, or never came.
func (c *Control) noticeAbsent() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closing || c.now().Before(c.began.Add(leaveLimit)) {
		return
	}
	for id, i := range c.store.State().Instances.All() {
		if hasLeft(i.State) != i.State && c.sessions[lb.NodeID(id)] == nil {
			c.advance(id, hasLeft)
		}
	}
}
