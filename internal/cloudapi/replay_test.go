// SPDX-License-Identifier: Apache-2.0

package cloudapi

import (
	"encoding/json"
	"net/http/httptest"
	"slices"
	"testing"

	"github.com/sallyport/sallyport/internal/lb"
	"github.com/sallyport/sallyport/internal/replay"
)

// The Terraform provider's calls for each of its resources, answered by a
// server over HTTP with the provider's signature: what was written reads back,
// also a second time, and nothing is left at the end.
//
// Covers: SEED-31
func TestReplay(t *testing.T) {
	sequences, err := replay.Sequences()
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range sequences {
		t.Run(s.Name, func(t *testing.T) {
			b := newBench(t)
			web := httptest.NewServer(b)
			defer web.Close()
			client := &Client{Endpoint: web.URL, SecretID: vectorID, SecretKey: vectorKey, Region: "local"}
			err := s.Play(func(service, version, action string, params json.RawMessage) (json.RawMessage, error) {
				var out json.RawMessage
				err := client.Do(t.Context(), service, version, action, params, &out)
				return out, err
			}, func(id, state string) error {
				b.become(lb.InstanceID(id), lb.InstanceState(state))
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
			st := b.Store.State()
			if n := st.Groups.Len() + st.Balancers.Len() + st.Listeners.Len() + st.Addresses.Len() + st.Instances.Len() + st.Certificates.Len(); n > 1 { // the default group may have come
				t.Errorf("%d objects are left", n)
			}
		})
	}
}

// Every resource of the provider whose actions are all served has a sequence,
// which calls them all.
func TestReplayCoversTheProvider(t *testing.T) {
	resources, err := replay.Resources()
	if err != nil {
		t.Fatal(err)
	}
	sequences, err := replay.Sequences()
	if err != nil {
		t.Fatal(err)
	}
	called := map[string][]string{}
	for _, s := range sequences {
		called[s.Name] = s.Actions()
		if resources[s.Name] == nil {
			t.Errorf("%s is not among the resources", s.Name)
		}
	}
	for _, name := range sortedKeys(resources) {
		for _, action := range resources[name] {
			_, served := Find(action)
			switch {
			case !served:
				t.Logf("%s: %s is not served", name, action)
			case called[name] == nil:
			case !slices.Contains(called[name], action):
				t.Errorf("%s does not show %s, which is served", name, action)
			}
		}
		if called[name] == nil && !slices.ContainsFunc(resources[name], func(a string) bool { _, served := Find(a); return !served }) {
			t.Errorf("%s has no sequence, and all its actions are served", name)
		}
	}
}
