// SPDX-License-Identifier: Apache-2.0

package control

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/sallyport/sallyport/internal/lb"
	"github.com/sallyport/sallyport/internal/store"
)

// A rise is how the revision counter follows nodes that are ahead of it.
type rise struct {
	mu   sync.Mutex  // held by the one raise
	left lb.Revision // how far nodes may still move the counter while this server runs
}

// follow raises the store's counter past what a node says it has in force: the
// store was restored from an older backup, and the node takes nothing older.
// A node's word may not use the counter up: then ahead is a sentence for its
// status, and the counter stays. An error means that the store could not be
// written; the node shall come again.
func (c *Control) follow(ctx context.Context, node lb.NodeID, said lb.Revision) (ahead string, err error) {
	c.rising.mu.Lock()
	defer c.rising.mu.Unlock()
	now := c.store.State().Revision
	if said <= now {
		return "", nil
	}
	err = store.ErrTooFar
	if said-now <= c.rising.left {
		err = c.store.Raise(ctx, said)
	}
	if errors.Is(err, store.ErrTooFar) {
		c.log.Error("a node claims a revision too far ahead; the counter does not follow", "node", node, "claimed", said, "revision", now)
		return fmt.Sprintf("claims that revision %d is in force, too far ahead of the server's %d to be followed; it gets no changes", said, now), nil
	}
	if err != nil {
		return "", err
	}
	c.rising.left -= said - now
	c.log.Warn("a node is ahead of the store, which was restored from an older backup; the revision was raised past it",
		"node", node, "in_force", said, "was", now, "revision", c.store.State().Revision)
	return "", nil
}
