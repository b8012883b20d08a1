// SPDX-License-Identifier: Apache-2.0

package node

import (
	"flag"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"

	"github.com/sallyport/sallyport/internal/flow"
	"github.com/sallyport/sallyport/internal/lb"
)

var update = flag.Bool("update", false, "rewrite golden files")

func testNode(t *testing.T, k Kernel) *Node {
	t.Helper()
	n, err := New(Options{Name: "gateway-1", Role: lb.RoleGateway, Server: "192.0.2.253:7781", DataDir: t.TempDir(),
		Address: netip.MustParseAddr("192.0.2.129"), Kernel: k})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// Dashboards are built on these names: a change of them is a change of the
// golden file, to be reviewed as one.
func TestMetricNames(t *testing.T) {
	registry := prometheus.NewPedanticRegistry()
	n := testNode(t, &kernel{reasons: flow.Reasons{}})
	n.o.Requests = func() []flow.Requests {
		return []flow.Requests{{Balancer: "lb-a", Listener: "lbl-a", Location: "loc-a", Answers: [flow.RequestClasses]uint64{0: 1, 2: 7, 5: 3}}, {Balancer: "lb-a", Listener: "lbl-a", Answers: [flow.RequestClasses]uint64{4: 2}}}
	}
	n.reporter.tables = newGauge(&tracker{tables: flow.Tables{Tables: []flow.Table{{Name: "flows", Slots: 10, Shares: []flow.Share{{Balancer: "lb-a", Flows: 1}}}}}}, lb.RoleGateway, n.log)
	if err := registry.Register(n.Collector()); err != nil {
		t.Fatal(err)
	}
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var got strings.Builder
	for _, f := range families {
		got.WriteString(f.GetName() + " " + strings.ToLower(f.GetType().String()) + "\n")
		for _, m := range f.Metric {
			for _, l := range m.Label {
				got.WriteString("  " + l.GetName() + " " + l.GetValue() + "\n")
			}
		}
	}
	const path = "testdata/metrics.txt"
	if *update {
		if err := os.WriteFile(path, []byte(got.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if want, err := os.ReadFile(path); err != nil || got.String() != string(want) {
		t.Errorf("%s differs (rewrite it with -update), %v:\n%s", path, err, got.String())
	}
	if faults, err := promlint.NewWithMetricFamilies(families).Lint(); err != nil || len(faults) > 0 {
		t.Errorf("%v, %v", faults, err)
	}
}

// A node is healthy once something is in force, by this process or the last.
func TestHealthz(t *testing.T) {
	for _, c := range []struct {
		kernel Kernel
		want   int
	}{{nil, http.StatusServiceUnavailable}, {&kernel{}, http.StatusOK}} {
		w := httptest.NewRecorder()
		testNode(t, c.kernel).Handler().ServeHTTP(w, httptest.NewRequest("GET", "/healthz", nil))
		if w.Code != c.want {
			t.Errorf("%d %s", w.Code, w.Body)
		}
	}
}

// What New refuses.
func TestNewRefuses(t *testing.T) {
	good := Options{Name: "x", Role: lb.RoleHost, Server: "a:1", Address: netip.MustParseAddr("192.0.2.1")}
	for name, edit := range map[string]func(*Options){
		"no name":    func(o *Options) { o.Name = "" },
		"no role":    func(o *Options) { o.Role = "" },
		"no server":  func(o *Options) { o.Server = "" },
		"no address": func(o *Options) { o.Address = netip.Addr{} },
	} {
		o := good
		o.DataDir = t.TempDir()
		edit(&o)
		if _, err := New(o); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
}
