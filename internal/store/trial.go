// SPDX-License-Identifier: Apache-2.0

package store

import "github.com/sallyport/sallyport/internal/lb"

// Try runs fn on a part of the state that this transaction began from, and
// forgets what it changes: how fn ends there tells of nothing that is not in
// part. State, Before and Index of its Tx are those of part; client tokens are
// those of the database. It must come before any change of tx.
func (tx *Tx) Try(part *lb.State, fn func(trial *Tx) error) error {
	trial := newTx(tx.ctx, tx.back, &view{state: part, index: tx.base.index, num: tx.base.num, audit: tx.base.audit, guard: tx.base.guard})
	trial.draft.index.part = trial.draft.state
	if err := fn(trial); err != nil {
		return err
	}
	return trial.err
}

// shown are those of the ids that the index's state has, when it is that of a
// part of what the index was made of.
func shown[K ~string, V any](x *Index, c *collection[K, V], found []K) []K {
	if x.part == nil {
		return found
	}
	kept := found[:0]
	for _, id := range found {
		if c.of(x.part).Get(id) != nil {
			kept = append(kept, id)
		}
	}
	return kept
}
