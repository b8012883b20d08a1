// SPDX-License-Identifier: Apache-2.0

package control

import (
	"flag"
	"os"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"

	"github.com/sallyport/sallyport/internal/lb"
	"github.com/sallyport/sallyport/internal/store"
)

var update = flag.Bool("update", false, "rewrite golden files")

// Dashboards are built on these names: a change of them is a change of the
// golden file, to be reviewed as one.
func TestMetricNames(t *testing.T) {
	r := newRegion(t)
	r.stop()
	r.update(func(tx *store.Tx) { tx.PutNode(&lb.Node{ID: "gateway-1", Num: 1, Role: lb.RoleGateway}) })
	r.Facts().follow(r.store.State())
	registry := prometheus.NewPedanticRegistry()
	if err := registry.Register(r.Collector()); err != nil {
		t.Fatal(err)
	}
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var got strings.Builder
	for _, f := range families {
		var labels []string
		for _, l := range f.Metric[0].Label {
			labels = append(labels, l.GetName())
		}
		got.WriteString(f.GetName() + " " + strings.ToLower(f.GetType().String()) + " {" + strings.Join(labels, ",") + "}\n")
	}
	golden(t, "testdata/metrics.txt", got.String())
	if faults, err := promlint.NewWithMetricFamilies(families).Lint(); err != nil || len(faults) > 0 {
		t.Errorf("%v, %v", faults, err)
	}
}

func golden(t *testing.T, path, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s differs (rewrite it with -update):\n%s", path, got)
	}
}
