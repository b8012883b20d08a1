// SPDX-License-Identifier: Apache-2.0

package control

import (
	"context"
	"time"

	"github.com/sallyport/sallyport/internal/lb"
	"github.com/sallyport/sallyport/internal/store"
)

// upkeep offers refused snapshots again, rotates tunnel keys and notices who
// is gone, until ctx ends.
func (c *Control) upkeep(ctx context.Context) {
	tick := time.NewTicker(upkeepEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		for _, s := range c.due() {
			c.catchUp(s)
		}
		c.noticeAbsent()
		if err := c.removeOrphans(ctx); err != nil && ctx.Err() == nil {
			c.log.Error("removing nodes that are gone", "error", err)
		}
		if err := c.rotateKeys(ctx); err != nil && ctx.Err() == nil {
			c.log.Error("tunnel keys not rotated", "error", err)
		}
	}
}

// due lists the sessions whose refused snapshot is to be offered again.
func (c *Control) due() []*session {
	c.mu.Lock()
	defer c.mu.Unlock()
	var all []*session
	for _, s := range c.sessions {
		if s.failed != 0 && !c.now().Before(s.retryAt) {
			s.again()
			all = append(all, s)
		}
	}
	return all
}

// rotateKeys moves gateways whose epoch is over one epoch on. However long
// the server was away, it is one step per round, because two neighbouring
// epochs always share a key.
func (c *Control) rotateKeys(ctx context.Context) error {
	late := func(n *lb.Node) bool { return n.Role == lb.RoleGateway && n.KeyEpoch < keyEpoch(n.Created, c.now()) }
	return c.editNodes(ctx, late, func(tx *store.Tx, n *lb.Node) {
		next := *n
		next.KeyEpoch++
		tx.PutNode(&next)
	})
}

// removeOrphans forgets hosts whose instance is gone, and ends the streams of
// nodes that were forgotten or whose place another machine has taken.
func (c *Control) removeOrphans(ctx context.Context) error {
	state := c.store.State()
	orphan := func(n *lb.Node) bool { return n.Role == lb.RoleHost && state.Instances.Get(n.Instance) == nil }
	c.mu.Lock()
	for _, s := range c.sessions {
		n := state.Nodes.Get(s.Name)
		switch {
		case s.Role == lb.RoleHost && state.Instances.Get(s.Instance) == nil:
			s.stop(errRemoved)
		case n == nil:
			s.stop(errForgotten)
		case n.Certificate != "" && n.Certificate != s.fingerprint:
			s.stop(errSuperseded)
		}
	}
	c.mu.Unlock()
	return c.editNodes(ctx, orphan, func(tx *store.Tx, n *lb.Node) { tx.DeleteNode(n.ID) })
}

// editNodes edits the nodes that which chooses, in one transaction, if there
// are any.
func (c *Control) editNodes(ctx context.Context, which func(*lb.Node) bool, edit func(*store.Tx, *lb.Node)) error {
	any := false
	for _, n := range c.store.State().Nodes.All() {
		any = any || which(n)
	}
	if !any {
		return nil
	}
	_, err := c.store.Update(ctx, func(tx *store.Tx) error {
		for _, n := range tx.State().Nodes.All() {
			if which(n) {
				edit(tx, n)
			}
		}
		return nil
	})
	return err
}
