// SPDX-License-Identifier: Apache-2.0

package node

import (
	"encoding/json"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/sallyport/sallyport/internal/flow"
	"github.com/sallyport/sallyport/internal/lb"
	"github.com/sallyport/sallyport/internal/wire"
)

// a tracker is a data plane whose flow tables are as the test says.
type tracker struct {
	tables flow.Tables
	flows  []flow.Flow
	err    error
	read   int
}

func (k *tracker) Tables() (flow.Tables, error) { k.read++; return k.tables, k.err }
func (k *tracker) Flows(q flow.Query) (flow.Flows, error) {
	var found flow.Flows
	for _, f := range k.flows {
		if q.Matches(&f) {
			found.Flows, found.Total = append(found.Flows, f), found.Total+1
		}
	}
	return found, k.err
}

// Alarms begin and end once each, in the log too.
func TestGaugeAlarms(t *testing.T) {
	var log strings.Builder
	now := time.Unix(1000, 0)
	k := &tracker{tables: flow.Tables{Tables: []flow.Table{{Name: "flows", Slots: 100}}, Full: 5}}
	g := newGauge(k, lb.RoleHost, slog.New(slog.NewTextHandler(&log, nil)))
	g.now = func() time.Time { return now }
	for i, step := range []struct {
		live, full uint64
		after      time.Duration
		alarms     int
		says       string
	}{
		{10, 5, 0, 0, ""}, // what was refused before this process began is nobody's alarm
		{80, 5, time.Second, 1, "80 % full"},
		{75, 5, time.Second, 1, "75 % full"},
		{69, 5, time.Second, 0, ""},
		{69, 6, time.Second, 1, "table_full"},
		{69, 6, 50 * time.Second, 1, "table_full"},
		{69, 6, 11 * time.Second, 0, ""},
	} {
		now = now.Add(step.after)
		k.tables.Tables[0].Live, k.tables.Full = step.live, step.full
		got, ok := g.read()
		if !ok || len(got.Alarms) != step.alarms || !strings.Contains(strings.Join(got.Alarms, " "), step.says) {
			t.Errorf("step %d: alarms %q, want %d that say %q", i, got.Alarms, step.alarms, step.says)
		}
		k.tables.Alarms = nil
	}
	if n := strings.Count(log.String(), `msg="alarm: `); n != 2 {
		t.Errorf("%d alarms in the log, want 2:\n%s", n, log.String())
	}
	if n := strings.Count(log.String(), "alarm over"); n != 2 {
		t.Errorf("%d ends in the log, want 2:\n%s", n, log.String())
	}
}

// Tables are not scanned more often than once a second, and less often when
// that takes long.
func TestGaugeSparesTheProcessor(t *testing.T) {
	now, cost := time.Unix(1000, 0), time.Duration(0)
	k := &tracker{}
	g := newGauge(k, lb.RoleGateway, slog.New(slog.DiscardHandler))
	asked := 0
	g.now = func() time.Time {
		asked++
		if asked%4 == 3 || asked%4 == 0 { // after the scan
			return now.Add(cost)
		}
		return now
	}
	for _, step := range []struct {
		after time.Duration
		reads int
	}{{0, 1}, {time.Second / 2, 1}, {time.Second, 2}} {
		now = now.Add(step.after)
		asked = 0
		g.read()
		if k.read != step.reads {
			t.Errorf("after %v: %d scans, want %d", step.after, k.read, step.reads)
		}
	}
	if _, ok := (*gauge)(nil).read(); ok {
		t.Error("no gauge reads something")
	}
	k.err = errors.New("gone")
	now = now.Add(time.Hour)
	if _, ok := g.read(); ok {
		t.Error("a failed reading is given")
	}
}

func TestAnswer(t *testing.T) {
	n := testNode(t, nil)
	if got := n.answer(&wire.Ask{Number: 3, Query: []byte(`{}`)}); got.Number != 3 || !strings.Contains(got.Error, "tracks no flows") {
		t.Errorf("a node without flows answers %v", got)
	}
	k := &tracker{flows: []flow.Flow{{Balancer: "lb-1"}, {Balancer: "lb-2"}}}
	n.o.Flows = k
	if got := n.answer(&wire.Ask{Query: []byte(`nonsense`)}); !strings.Contains(got.Error, "query") {
		t.Errorf("nonsense is answered %v", got)
	}
	got := n.answer(&wire.Ask{Number: 4, Query: []byte(`{"Balancer":"lb-2"}`)})
	var told flow.Flows
	if err := json.Unmarshal(got.Flows, &told); err != nil || got.Error != "" || told.Total != 1 || told.Flows[0].Balancer != "lb-2" {
		t.Errorf("answered %v (%v)", got, err)
	}
	k.err = errors.New("the datapath is closed")
	if got := n.answer(&wire.Ask{Query: []byte(`{}`)}); got.Error != k.err.Error() {
		t.Errorf("a fault is answered %v", got)
	}
}
