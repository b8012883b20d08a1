// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"errors"
	"testing"

	"github.com/sallyport/sallyport/internal/lb"
)

// What fails inside leaves no trace, in whatever depth; what does not fail is
// written.
func TestAttempt(t *testing.T) {
	s := NewMemory()
	if _, err := s.Update(context.Background(), func(tx *Tx) error {
		tx.PutGroup(&lb.SecurityGroup{ID: "sg-old", Name: "before"})
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	boom := errors.New("boom")
	revision, err := s.Update(context.Background(), func(tx *Tx) error {
		held := tx.State()
		if err := tx.Attempt(func() error {
			tx.PutGroup(&lb.SecurityGroup{ID: "sg-good", Name: "good"})
			tx.PutInstance(&lb.Instance{ID: "ins-1", Groups: []lb.GroupID{"sg-good"}})
			if err := tx.Attempt(func() error {
				tx.PutGroup(&lb.SecurityGroup{ID: "sg-good", Name: "inner"})
				tx.PutGroup(&lb.SecurityGroup{ID: "sg-inner"})
				tx.DeleteInstance("ins-1")
				tx.PutToken("inner", "x")
				tx.NextNum()
				return boom
			}); err != boom {
				t.Error(err)
			}
			if g := tx.State().Groups.Get("sg-good"); g.Name != "good" || len(tx.Index().Instances("sg-good")) != 1 {
				t.Errorf("the inner attempt left %+v, %v", g, tx.Index().Instances("sg-good"))
			}
			if _, ok := tx.Token("inner"); ok {
				t.Error("the inner attempt's token is there")
			}
			return nil
		}); err != nil {
			t.Error(err)
		}
		if err := tx.Attempt(func() error {
			tx.PutGroup(&lb.SecurityGroup{ID: "sg-old", Name: "after"})
			tx.DeleteGroup("sg-good")
			return tx.Attempt(func() error { tx.PutGroup(&lb.SecurityGroup{ID: "sg-deep"}); return boom })
		}); err != boom {
			t.Error(err)
		}
		if held != tx.State() || tx.NextNum() != 1 {
			t.Error("another state, or a number was used up")
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	st := s.State()
	if st.Groups.Len() != 2 || st.Groups.Get("sg-old").Name != "before" || st.Groups.Get("sg-good").Name != "good" || st.Instances.Len() != 1 {
		t.Errorf("%d groups: %+v", st.Groups.Len(), st.Groups.Get("sg-old"))
	}
	// A failed attempt alone writes nothing.
	again, err := s.Update(context.Background(), func(tx *Tx) error {
		_ = tx.Attempt(func() error { tx.DeleteGroup("sg-old"); return boom })
		return nil
	})
	if err != nil || again != revision || s.State().Groups.Len() != 2 {
		t.Errorf("%v: revision %d after %d", err, again, revision)
	}
}
