// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"flag"
	"os"
	"testing"

	"github.com/sallyport/sallyport/internal/policy"
)

var update = flag.Bool("update", false, "rewrite generated files")

// The C enum of reasons and gates is generated from Go's.
func TestReasonHeader(t *testing.T) {
	const file = "bpf/reason.h"
	want := policy.ReasonHeader()
	if *update {
		if err := os.WriteFile(file, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(file)
	if err != nil || string(got) != want {
		t.Errorf("%s is stale (%v): run go test ./internal/datapath -run TestReasonHeader -update", file, err)
	}
}
