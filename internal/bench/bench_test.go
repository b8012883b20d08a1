// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"os"
	"slices"
	"strings"
	"testing"
)

func TestFill(t *testing.T) {
	r := Fill("rr-plain", []float64{3, 1, 2}, []float64{5, 4, 6}, "").complete()
	if r.Ours != 2 || *r.Theirs != 5 || *r.Ratio != 0.4 || r.Met == nil || !*r.Met || r.Spread != [2]float64{1, 3} || r.Goal != "<= 1" {
		t.Errorf("got %+v", r)
	}
	alone := Fill("hit-1", []float64{3}, nil, "no ANCHORS").complete()
	if alone.Theirs != nil || alone.Met != nil || !strings.Contains(Table([]Row{alone}), "no ANCHORS") {
		t.Errorf("got %+v", alone)
	}
}

func TestWanted(t *testing.T) {
	for rows, want := range map[string]bool{"": true, "hit-1": true, "judge, hit": true, "hit-64k": false} {
		t.Setenv("ROWS", rows)
		if got := Wanted("hit-1", "hit-1-tc"); got != want {
			t.Errorf("ROWS=%q: %v", rows, got)
		}
	}
}

// The whole table, once the benchmarks have filled it: `make bench` ends so.
func TestTable(t *testing.T) {
	if os.Getenv("BENCH_TABLE") == "" { // then it only shows that each row would be in it
		for _, g := range Goals() {
			if text := Table([]Row{{ID: g.ID, Name: g.Name, Unit: g.Unit, Peer: g.Peer}}); !strings.Contains(text, g.ID) || !strings.Contains(text, g.Name) {
				t.Errorf("%s is not in %s", g.ID, text)
			}
		}
		return
	}
	all, err := load()
	if err != nil {
		t.Fatal(err)
	}
	var ordered []Row
	for _, g := range Goals() {
		i := slices.IndexFunc(all, func(r Row) bool { return r.ID == g.ID })
		if i < 0 {
			if Wanted(g.ID) {
				t.Logf("%s was not measured", g.ID)
			}
			continue
		}
		ordered = append(ordered, all[i])
		all = slices.Delete(all, i, i+1)
	}
	t.Logf("%s\n%s", machine(), Table(append(ordered, all...)))
}
