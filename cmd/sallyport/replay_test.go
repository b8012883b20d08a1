// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"testing"

	"github.com/sallyport/sallyport/internal/cloudapi"
	"github.com/sallyport/sallyport/internal/replay"
)

// The provider's recorded sequences against the real server, with its database,
// one after the other in one region.
//
// Covers: SEED-31
func TestServerReplaysTheProvider(t *testing.T) {
	c, stop := startServer(t, "--data", t.TempDir(), "--listen", "127.0.0.1:0")
	defer stop()
	sequences, err := replay.Sequences()
	if err != nil {
		t.Fatal(err)
	}
	client := &cloudapi.Client{Endpoint: c.Endpoint, SecretID: c.SecretID, SecretKey: c.SecretKey, Region: c.Region}
	for _, s := range sequences {
		t.Run(s.Name, func(t *testing.T) {
			err := s.Play(func(service, version, action string, params json.RawMessage) (json.RawMessage, error) {
				var out json.RawMessage
				err := client.Do(t.Context(), service, version, action, params, &out)
				return out, err
			}, nil)
			if err != nil {
				t.Error(err)
			}
		})
	}
}
