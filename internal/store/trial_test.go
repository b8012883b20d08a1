// SPDX-License-Identifier: Apache-2.0

package store

import (
	"errors"
	"testing"

	"github.com/sallyport/sallyport/internal/lb"
)

// A trial sees its part alone, also by the index, and leaves nothing behind.
func TestTry(t *testing.T) {
	s := NewMemory()
	defer s.Close()
	if _, err := s.Update(t.Context(), func(tx *Tx) error {
		tx.PutGroup(&lb.SecurityGroup{ID: "sg-a"})
		tx.PutInstance(&lb.Instance{ID: "ins-seen", Groups: []lb.GroupID{"sg-a"}})
		tx.PutInstance(&lb.Instance{ID: "ins-hidden", Groups: []lb.GroupID{"sg-a"}})
		tx.PutListener(&lb.Listener{ID: "lbl-hidden", Balancer: "lb-a", Rules: []lb.Rule{{ID: "loc-a"}}})
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	before := s.State()
	part := &lb.State{Revision: before.Revision, Groups: before.Groups, Instances: lb.TableOf(map[lb.InstanceID]*lb.Instance{"ins-seen": before.Instances.Get("ins-seen")})}
	refusal := errors.New("no")
	if _, err := s.Update(t.Context(), func(tx *Tx) error {
		if err := tx.Try(part, func(*Tx) error { return refusal }); err != refusal {
			t.Errorf("a refused trial: %v", err)
		}
		if err := tx.Try(part, func(trial *Tx) error { trial.PutGroup(&lb.SecurityGroup{}); return nil }); err == nil {
			t.Error("a trial with what cannot be written succeeded")
		}
		return tx.Try(part, func(trial *Tx) error {
			if found := trial.Index().Instances("sg-a"); len(found) != 1 || found[0] != "ins-seen" {
				t.Errorf("the index tells of %v", found)
			}
			if found := trial.Index().Located("loc-a"); found != "" {
				t.Errorf("the index tells of %v", found)
			}
			trial.PutInstance(&lb.Instance{ID: "ins-new", Groups: []lb.GroupID{"sg-a"}})
			trial.PutToken("token", "value")
			if found := trial.Index().Instances("sg-a"); len(found) != 2 || trial.State().Instances.Get("ins-new") == nil || trial.Before().Instances.Get("ins-new") != nil {
				t.Errorf("after its own change the index tells of %v", found)
			}
			return nil
		})
	}); err != nil {
		t.Fatal(err)
	}
	if s.State() != before || part.Instances.Len() != 1 {
		t.Error("a trial changed something")
	}
	if _, err := s.Update(t.Context(), func(tx *Tx) error {
		if _, ok := tx.Token("token"); ok || len(tx.Index().Instances("sg-a")) != 2 {
			t.Error("a trial left something behind")
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
}
