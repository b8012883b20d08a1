// SPDX-License-Identifier: Apache-2.0

package node

import (
	"maps"

	"github.com/sallyport/sallyport/internal/flow"
	"github.com/sallyport/sallyport/internal/wire"
)

// readRequests adds the request counters that moved since they were last told;
// all of them at first on a stream and when one has vanished.
func (r *reporter) readRequests(f *wire.Facts) {
	if r.requests == nil {
		return
	}
	now := map[flow.Requests]flow.Requests{}
	for _, c := range r.requests() {
		now[c.Key()] = c
	}
	f.RequestsAll = r.toldRequests == nil
	for key := range r.toldRequests {
		if _, ok := now[key]; !ok {
			f.RequestsAll = true
		}
	}
	for c := range maps.Values(now) {
		if f.RequestsAll || r.toldRequests[c.Key()] != c {
			f.Requests = append(f.Requests, r.encode(c))
		}
	}
	r.toldRequests = now
}
