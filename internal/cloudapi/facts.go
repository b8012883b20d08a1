// SPDX-License-Identifier: Apache-2.0

package cloudapi

import (
	"context"

	"github.com/sallyport/sallyport/internal/flow"
	"github.com/sallyport/sallyport/internal/lb"
)

// Facts are what nodes have reported. Facts of nodes that have not reported
// are absent.
type Facts interface {
	// Health lists, by target number, what each gateway knows of the target.
	Health() map[uint32][]flow.Health
	// Counters lists every rule's counters at every node.
	Counters() []flow.Counter
	// Events returns up to max events after the given number, waiting for one
	// or the end of ctx; next is the number to go on after, lost how many were
	// overwritten before they could be read.
	Events(ctx context.Context, after uint64, max int) (events []flow.Event, next, lost uint64)
}

// A TokenMaker makes the tokens that nodes enrol with, once each.
type TokenMaker interface {
	CreateToken(ctx context.Context, role lb.NodeRole, name lb.NodeID, instance lb.InstanceID) (string, error)
}
