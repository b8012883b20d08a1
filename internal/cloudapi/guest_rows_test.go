// SPDX-License-Identifier: Apache-2.0

package cloudapi

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/sallyport/sallyport/internal/lb"
	"github.com/sallyport/sallyport/internal/store"
)

// A guest's name has an end, and so has the room of its host.
func TestGuestsThatAreRefused(t *testing.T) {
	b := newBench(t)
	joinedHost(t, b)
	const good = `{"Host":"ins-host0001","Device":"tap0","MacAddress":"52:54:00:12:34:56","PrivateIpAddress":"10.9.0.5"`
	b.refused("AddGuest", good+`,"InstanceName":"`+strings.Repeat("n", 129)+`"}`, "InvalidInstanceName.TooLong", "InstanceName")
	b.must("AddGuest", good+`}`, nil)
	b.seed(func(tx *store.Tx) {
		first := tx.State().Instances.Get("ins-host0001")
		addr := netip.MustParseAddr("10.8.0.1")
		for n := range lb.MaxInstanceRows {
			guest := *first
			guest.ID, guest.Private = lb.InstanceID(fmt.Sprintf("ins-%08d", n)), addr
			guest.Host, guest.Port = "ins-host0001", fmt.Sprintf("tap%d", n+10)
			addr = addr.Next()
			tx.PutInstance(&guest)
		}
	})
	full := strings.NewReplacer("tap0", "tap1", "10.9.0.5", "10.9.0.6", "34:56", "34:57").Replace(good)
	b.refused("AddGuest", full+`}`, "LimitExceeded", "it has room for")
}
