// SPDX-License-Identifier: Apache-2.0

package cloudapi

import (
	"context"

	"github.com/sallyport/sallyport/internal/control"
	"github.com/sallyport/sallyport/internal/flow"
)

// Facts are what nodes have reported. Facts of nodes that have not reported
// are absent.
type Facts interface {
	// Nodes lists every node of the state.
	Nodes() []control.NodeStatus
	// Health lists, by target number, what each gateway knows of the target.
	Health() map[uint32][]flow.Health
	// Counters lists every rule's counters at every node.
	Counters() []flow.Counter
	// Events returns up to max events after a cursor, waiting for one or the
	// end of ctx. Cursor 0 is the oldest event held, one of the future the
	// newest; next is the cursor to go on from, lost how many between the two
	// cannot be returned.
	Events(ctx context.Context, after uint64, max int) (events []flow.Event, next, lost uint64)
}

// A TokenMaker makes the tokens that nodes enrol with, once each, and shuts
// out those that are forgotten.
type TokenMaker interface {
	CreateToken(ctx context.Context, r control.TokenRequest) (control.JoinToken, error)
	Revoke(ctx context.Context, fingerprint string) error // of a certificate; durable when it returns nil
}
