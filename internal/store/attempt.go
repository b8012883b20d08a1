// SPDX-License-Identifier: Apache-2.0

package store

// An undo is what the write of a key was before an attempt changed it.
type undo struct {
	key   string
	value []byte
	had   bool
}

// Attempt runs fn, a part of the transaction, and undoes what it changed when
// it fails: what comes after meets the state before it. Attempts may be inside
// each other. Its cost is that of what fn changed. What makes the whole
// transaction fail, such as numbers that are used up, still does.
func (tx *Tx) Attempt(fn func() error) error {
	state, index, num, changed := *tx.draft.state, *tx.draft.index, tx.draft.num, tx.draft.changed
	undone, order, aux, tasks, floor := len(tx.undo), len(tx.order), len(tx.aux), len(tx.tasks), tx.floor
	tx.attempts++
	err := fn()
	tx.attempts--
	if err == nil {
		if tx.attempts == 0 {
			tx.undo = nil
		}
		return nil
	}
	for i := len(tx.undo) - 1; i >= undone; i-- {
		u := tx.undo[i]
		if u.had {
			tx.write[u.key] = u.value
		} else {
			delete(tx.write, u.key)
		}
	}
	tx.undo, tx.order, tx.aux, tx.tasks, tx.floor = tx.undo[:undone], tx.order[:order], tx.aux[:aux], tx.tasks[:tasks], floor
	*tx.draft.state, *tx.draft.index, tx.draft.num, tx.draft.changed = state, index, num, changed
	return err
}
