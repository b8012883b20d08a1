// SPDX-License-Identifier: Apache-2.0

package console

import (
	"fmt"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/sallyport/sallyport/docs"
	"github.com/sallyport/sallyport/internal/cloudapi"
	"github.com/sallyport/sallyport/internal/control"
	"github.com/sallyport/sallyport/internal/lb"
	"github.com/sallyport/sallyport/internal/policy"
)

// Bars stand on each other below the upper edge; the table has the same
// numbers, and words say them.
func TestChartDraws(t *testing.T) {
	a, b := make([]uint64, 60), make([]uint64, 60)
	a[0], a[59], b[59] = 3, 10, 30
	c := chart{Title: "Requests", Span: spanOf("10m"), Parts: []chartPart{{Name: "2xx", values: a}, {Name: "5xx", values: b}}}
	c.draw()
	if c.Top != "4.0/s" || c.Parts[0].Total != 13 || c.Parts[1].Most != "3.0/s" {
		t.Errorf("%+v", c)
	}
	if want := "M1 111.0h8v9.0h-8zM591 90.0h8v30.0h-8z"; c.Parts[0].Path != want {
		t.Errorf("the lower part is %q, want %q", c.Parts[0].Path, want)
	}
	if want := "M591 0.0h8v90.0h-8z"; c.Parts[1].Path != want {
		t.Errorf("the upper part is %q, want %q", c.Parts[1].Path, want)
	}
	if fmt.Sprint(c.Numbers) != "[{from 10 minutes ago [3 0]} {from 8 minutes ago [0 0]} {from 6 minutes ago [0 0]} {from 4 minutes ago [0 0]} {from 2 minutes ago [10 30]}]" {
		t.Errorf("numbers %v", c.Numbers)
	}
	if want := "Requests in the last 10 minutes: 2xx 13, at most 1.0/s; 5xx 30, at most 3.0/s"; c.Said() != want {
		t.Errorf("said %q, want %q", c.Said(), want)
	}
	if none := (chart{Title: "Flows", Span: spanOf("never heard of")}); none.Said() != "Flows: nothing in the last 10 minutes" {
		t.Errorf("said %q", none.Said())
	}
	lines := chart{Lines: true, Span: spanOf("1h"), Parts: []chartPart{{values: a}, {values: b}}}
	lines.draw()
	if lines.Top != "0.5/s" || strings.Count(lines.Parts[0].Path, "L") != 59 {
		t.Errorf("lines %+v", lines.Parts)
	}
}

// A strip joins what stays the same.
func TestStripDraws(t *testing.T) {
	r := stripRow{Name: "ins-1:8080"}
	r.runs([]uint64{0, 2, 2, 4, 2, 99}, span{Name: "minute", Step: 10})
	if fmt.Sprint(r.Runs) != "[{0 100 none} {100 200 ok} {300 100 bad} {400 100 ok} {500 100 bad}]" {
		t.Errorf("runs %v", r.Runs)
	}
	if want := "ins-1:8080: now abnormal; in the last minute unknown 10 s, healthy 30 s, abnormal 20 s"; r.Said != want {
		t.Errorf("said %q, want %q", r.Said, want)
	}
}

// Every page that has charts shows what it is about over time, with the rules
// by name, the numbers as a table, and since when it counts.
func TestChartsOnPages(t *testing.T) {
	d := newDesk(t)
	d.login()
	w := d.build()
	for path, want := range map[string][]string{
		"":                               {"HTTP requests", "New flows", "Refusals by rule", "clb-web rule 2", "implicit last rule of " + w.ins1, "clb-web, a rule that is gone", `id="charts"`},
		"clb/" + w.balancer:              {"5xx", "gate 2", "clb-web rule 2", "gate 2: implicit last rule", "Probe results", w.ins2 + ":8080", "abnormal"},
		"clb/" + w.balancer + "/picture": {"Probe results", "clb/" + w.balancer + "/picture?span=1h#charts"},
		"sg/" + w.edge:                   {"New flows by rule", "clb-web rule 1", "Refusals by rule", "Numbers", "?span=1h#charts"},
		"cvm/" + w.ins1:                  {"New flows at gate 2", "inbound", "Probe results", "port 8080"},
	} {
		d.open(path, 200)
		for _, text := range want {
			d.says(text)
		}
		d.saysNot("Counted since")
		if strings.Count(d.page, `role="img" aria-label=""`) > 0 || !strings.Contains(d.page, " in the last 10 minutes: ") {
			t.Errorf("%s has a picture without words", path)
		}
	}
	d.open("sg/"+w.edge+"?dir=out", 200)
	d.says("/console/sg/" + w.edge + "?dir=out&amp;span=1h#charts")
	d.open("?span=1h", 200)
	d.says(" in the last 1 hour: ")
	d.facts.past = append(d.facts.past, control.Series{Values: []uint64{11}, SeriesKey: control.SeriesKey{Metric: control.MetricUntold}})
	*d.clock = time.Date(2026, 11, 23, 10, 0, 30, 0, time.UTC)
	d.open("", 200)
	d.says("Counted since 10:00:00 UTC, when the server began.")
	d.says("A sample: nodes could not tell 11 verdicts of this time.")
}

// Refusals by more rules than there are colours for are added up, and the
// page stays small.
func TestChartsAreBounded(t *testing.T) {
	d := newDesk(t)
	d.login()
	w := d.build()
	for i := range 500 {
		values := make([]uint64, 60)
		for at := range values {
			values[at] = uint64(1000 + i + at)
		}
		d.facts.past = append(d.facts.past, control.Series{Values: values, SeriesKey: control.SeriesKey{Metric: control.MetricRefusals, FromCounters: true, Gate: policy.GateCLB,
			Group: lb.GroupID(w.edge), Rule: lb.RuleID(fmt.Sprint("pol-", i)), Direction: policy.In}})
	}
	page := d.open("", 200)
	d.says("497 others")
	if n := len(regexp.MustCompile(`<path class="(bar|line)`).FindAllString(page, -1)); n > 3*(chartParts+1) || len(page) > 100_000 {
		t.Errorf("%d paths, %d bytes", n, len(page))
	}
}

// A server without nodes says so instead of charts.
func TestChartsWithoutNodes(t *testing.T) {
	d := newDesk(t)
	d.login()
	w := d.build()
	lone := cloudapi.New(cloudapi.Options{Store: d.api.Store, Vault: d.api.Vault, Region: "local"})
	c, err := New(Options{API: lone, Keys: lone, Region: "local", Docs: docs.Pages()})
	if err != nil {
		t.Fatal(err)
	}
	d.server = httptest.NewServer(c)
	t.Cleanup(d.server.Close)
	d.newBrowser()
	d.login()
	for _, path := range []string{"", "clb/" + w.balancer, "sg/" + w.edge, "cvm/" + w.ins1} {
		d.open(path, 200)
		d.says(noNodes)
	}
}

// Of the time before the server began a line says nothing.
func TestLinesBeginWithTheServer(t *testing.T) {
	for _, tt := range []struct {
		values []uint64
		begin  int
		from   string
		points int
	}{
		{[]uint64{0, 0, 0, 0}, 2, "M", 2},
		{[]uint64{0, 0, 0, 0}, 0, "M", 4},
		{[]uint64{0, 5, 0, 0}, 2, "M", 3},
		{[]uint64{0, 0, 0, 0}, 3, "M", 1},
	} {
		path := linePath(tt.values, tt.begin, 5)
		if !strings.HasPrefix(path, tt.from) || strings.Count(path, "M") != 1 || strings.Count(path, " ") != tt.points {
			t.Errorf("%v from %d is %q, want %d points", tt.values, tt.begin, path, tt.points)
		}
	}
}
