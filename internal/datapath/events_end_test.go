// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"context"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/sallyport/sallyport/internal/flow"
)

// Whoever ends the reading of verdicts while one is told takes the ring's memory away:
// it must not be looked at again.
func TestReadingEndsWhileAVerdictIsTold(t *testing.T) {
	s := newSiege(t)
	s.force(compiled(t, "sg-2"), compiled(t, "sg-e"), nil)
	s.want("a packet that nobody lets in", false, "host_in", inbound(5000, 22, first))
	ctx, end := context.WithCancel(t.Context())
	defer end()
	told := 0
	err := s.Events(ctx, func(flow.Event) {
		told++
		before := ringsMapped(t)
		end()
		for deadline := time.Now().Add(10 * time.Second); ringsMapped(t) >= before; time.Sleep(time.Millisecond) {
			if time.Now().After(deadline) {
				t.Error("the ring is not let go of")
				return
			}
		}
	})
	if !errors.Is(err, context.Canceled) || told != 1 {
		t.Errorf("%d verdicts and %v, want one and the end that was asked for", told, err)
	}
}

// ringsMapped counts the memory of eBPF maps that this process sees.
func ringsMapped(t *testing.T) int {
	t.Helper()
	maps, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		t.Fatal(err)
	}
	return strings.Count(string(maps), "bpf-map")
}
