// SPDX-License-Identifier: Apache-2.0

package store

import (
	"errors"
	"math"
	"testing"

	"github.com/sallyport/sallyport/internal/lb"
)

// Raise moves the counter alone, never back and never far, and writing goes on
// from there.
func TestRaise(t *testing.T) {
	bothBackends(t, func(t *testing.T, s *Store) {
		wantRevision(t, s, update(t, s, everything), 1)
		objects := s.State().Nodes.Len()
		num := s.State().Nodes.Get("gateway-1").Num
		for _, step := range []struct {
			name string
			past lb.Revision
			err  error
			want lb.Revision
		}{
			{"below", 0, nil, 1},
			{"the newest itself", 1, nil, 2},
			{"above", 100, nil, 101},
			{"heard of before", 100, nil, 101},
			{"farther than allowed", 101 + MaxRaise + 1, ErrTooFar, 101},
			{"absurd", math.MaxUint32, ErrTooFar, 101},
			{"as far as allowed", 101 + MaxRaise, nil, 102 + MaxRaise},
		} {
			if err := s.Raise(t.Context(), step.past); !errors.Is(err, step.err) {
				t.Fatalf("%s: %v", step.name, err)
			}
			if got := s.State().Revision; got != step.want {
				t.Fatalf("%s: revision %d, want %d", step.name, got, step.want)
			}
		}
		if got := s.State(); got.Nodes.Len() != objects || got.Nodes.Get("gateway-1").Num != num {
			t.Errorf("objects have changed: %v", got.Nodes)
		}
		wantRevision(t, s, update(t, s, func(tx *Tx) { tx.PutVPC(&lb.VPC{ID: "vpc-2"}) }), 103+MaxRaise)
	})
}

// The last revisions of the counter end in errors, never in a smaller one.
func TestRaiseAtTheEnd(t *testing.T) {
	v := *emptyView().state
	v.Revision = math.MaxUint32 - 2
	s := newStore(newMemory(nil), &view{state: &v, index: &Index{}})
	defer s.Close()
	if err := s.Raise(t.Context(), math.MaxUint32); !errors.Is(err, errCounter) {
		t.Errorf("past the last: %v", err)
	}
	if err := s.Raise(t.Context(), math.MaxUint32-1); err != nil || s.State().Revision != math.MaxUint32 {
		t.Errorf("to the last: %v, at %d", err, s.State().Revision)
	}
}

// What was raised is there after a restart, and another process sees it.
func TestRaiseLasts(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	update(t, s, everything)
	other, err := Open(t.Context(), Options{Endpoints: s.back.(*etcd).client.Endpoints()})
	if err != nil {
		t.Fatal(err)
	}
	watch := other.Watch(t.Context())
	if err := s.Raise(t.Context(), 70); err != nil {
		t.Fatal(err)
	}
	for st := range watch {
		if st.Revision == 71 {
			break
		}
	}
	if err := errors.Join(other.Close(), s.Close()); err != nil {
		t.Fatal(err)
	}
	if s = open(t, dir); s.State().Revision != 71 || s.State().Nodes.Len() != 1 {
		t.Errorf("after a restart: revision %d with %d nodes", s.State().Revision, s.State().Nodes.Len())
	}
}
