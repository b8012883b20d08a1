// SPDX-License-Identifier: Apache-2.0

package store

import "testing"

// Tasks and client tokens outlive the server.
func TestTasksOutliveTheServer(t *testing.T) {
	dir := t.TempDir()
	first, err := Open(t.Context(), Options{DataDir: dir})
	if err != nil {
		t.Fatal(err)
	}
	update(t, first, func(tx *Tx) {
		tx.PutTask(Task{ID: "req-1", LoadBalancerIDs: []string{"lb-1"}})
		tx.PutToken("key", "lb-1")
	})
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	s := open(t, dir)
	if got, ok, err := s.Task(t.Context(), "req-1"); err != nil || !ok || len(got.LoadBalancerIDs) != 1 {
		t.Errorf("%+v, %v, %v", got, ok, err)
	}
	update(t, s, func(tx *Tx) {
		if v, ok := tx.Token("key"); !ok || v != "lb-1" {
			t.Errorf("the token reads %q, %v", v, ok)
		}
	})
}
