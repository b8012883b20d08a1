// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"errors"
	"fmt"
	"math"

	"github.com/sallyport/sallyport/internal/lb"
)

// MaxRaise is how far one Raise may move the revision counter.
const MaxRaise = 1 << 24

// ErrTooFar is wrapped by what Raise returns when it was asked for a revision
// more than MaxRaise above the newest. Nothing has changed then.
var ErrTooFar = errors.New("too far above the newest revision")

// Raise moves the revision counter to past+1 and changes nothing else, like an
// Update; it does nothing when the newest revision is above past already. It
// is for a database that was restored from an older backup while nodes kept
// what they had: they take nothing older than that.
func (s *Store) Raise(ctx context.Context, past lb.Revision) error {
	_, err := s.Update(ctx, func(tx *Tx) error {
		now := tx.base.state.Revision
		switch {
		case now > past:
			return nil
		case past-now > MaxRaise:
			return fmt.Errorf("revision %d is %w, %d", past, ErrTooFar, now)
		case past == math.MaxUint32:
			return errCounter
		}
		tx.floor = past + 1
		return nil
	})
	return err
}
