// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/sallyport/sallyport/internal/lb"
)

// After Sync, a store sees what another one on the same cluster has written.
func TestSyncReadsWhatOthersWrote(t *testing.T) {
	one := open(t, t.TempDir())
	var stores []*Store
	for range 2 {
		s, err := Open(t.Context(), Options{Endpoints: []string{one.back.(*etcd).server.endpoint}})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		stores = append(stores, s)
	}
	for n := range 200 {
		id := lb.VPCID(fmt.Sprint("vpc-", n))
		writer, reader := stores[n%2], stores[1-n%2]
		update(t, writer, func(tx *Tx) { tx.PutVPC(&lb.VPC{ID: id}) })
		if err := reader.Sync(t.Context()); err != nil {
			t.Fatal(err)
		}
		if reader.State().VPCs.Get(id) == nil {
			t.Fatalf("%s was written by one and is not seen by the other after Sync", id)
		}
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := stores[0].Sync(ended); err == nil {
		t.Error("Sync does not end with its context")
	}
}

func TestSyncOfOneWriter(t *testing.T) {
	bothBackends(t, func(t *testing.T, s *Store) {
		began := time.Now()
		for range 1000 {
			if err := s.Sync(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		if took := time.Since(began); took > 10*time.Second {
			t.Errorf("a thousand took %v: it asks the database", took)
		}
	})
}
