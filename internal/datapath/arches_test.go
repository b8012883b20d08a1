// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"testing"

	"github.com/cilium/ebpf"
)

// The objects of the processor that nobody here has are whole, and hold the
// same programs, maps and settings as those that the verifier has seen.
func TestArchesHoldTheSame(t *testing.T) {
	for _, role := range []string{"gateway", "host"} {
		seen, err := ebpf.LoadCollectionSpec(role + "_x86_bpfel.o")
		if err != nil {
			t.Fatal(err)
		}
		other, err := ebpf.LoadCollectionSpec(role + "_arm64_bpfel.o")
		if err != nil {
			t.Fatal(err)
		}
		if len(other.Programs) != len(seen.Programs) || len(other.Maps) != len(seen.Maps) || len(other.Variables) != len(seen.Variables) {
			t.Errorf("%s: %d programs, %d maps and %d settings, want %d, %d and %d", role, len(other.Programs), len(other.Maps), len(other.Variables),
				len(seen.Programs), len(seen.Maps), len(seen.Variables))
		}
		for name, p := range seen.Programs {
			q := other.Programs[name]
			if q == nil || len(q.Instructions) != len(p.Instructions) || q.SectionName != p.SectionName {
				t.Errorf("%s: %s is not the same program", role, name)
				continue
			}
			t.Logf("%s: %-12s %5d instructions", role, name, len(q.Instructions))
		}
		for name, m := range seen.Maps {
			if n := other.Maps[name]; n == nil || n.MaxEntries != m.MaxEntries || n.ValueSize != m.ValueSize || n.KeySize != m.KeySize {
				t.Errorf("%s: map %s is not the same", role, name)
			}
		}
	}
}
