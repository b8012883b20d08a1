// SPDX-License-Identifier: Apache-2.0

package node

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/sallyport/sallyport/internal/flow"
	"github.com/sallyport/sallyport/internal/lb"
	"github.com/sallyport/sallyport/internal/wire"
)

// A FlowKernel tells of the flows that the data plane tracks.
type FlowKernel interface {
	Flows(q flow.Query) (flow.Flows, error)
	Tables() (flow.Tables, error)
}

// A scan of the flow tables is used for a second, and for longer when it took
// long: looking may take a hundredth of one CPU.
const (
	scanAtLeast = time.Second
	scanShare   = 100
)

// fullFor is how long an alarm stands after flows were refused for want of room.
const fullFor = time.Minute

// A gauge watches how full the flow tables are, and says so when they get too
// full: in the log, and to whoever reads.
type gauge struct {
	kernel FlowKernel
	role   lb.NodeRole
	log    *slog.Logger
	now    func() time.Time

	mu    sync.Mutex
	last  flow.Tables
	next  time.Time       // when to look again
	rings map[string]bool // alarms that stand, by table
	full  uint64          // flow.Tables.Full when it was seen to grow last
	since time.Time       // when that was; zero: never
	seen  bool            // full has been read once
}

func newGauge(k FlowKernel, role lb.NodeRole, log *slog.Logger) *gauge {
	return &gauge{kernel: k, role: role, log: log, now: time.Now, rings: map[string]bool{}}
}

// read gives the newest reading, which may be a little old; false when there
// is none.
func (g *gauge) read() (flow.Tables, bool) {
	if g == nil || g.kernel == nil {
		return flow.Tables{}, false
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	began := g.now()
	if began.Before(g.next) {
		return g.last, true
	}
	t, err := g.kernel.Tables()
	if err != nil {
		g.log.Error("reading flow tables", "error", err)
		return flow.Tables{}, false
	}
	g.next = g.now().Add(max(scanAtLeast, scanShare*g.now().Sub(began)))
	g.judge(&t)
	g.last = t
	return t, true
}

// judge fills in the alarms, and logs those that begin or end.
func (g *gauge) judge(t *flow.Tables) {
	for i := range t.Tables {
		table := &t.Tables[i]
		g.ring(t, table.Name, table.Alarm(g.role, g.rings[table.Name]))
	}
	if now := g.now(); g.seen && t.Full > g.full {
		g.since = now
	}
	grown := t.Full - g.full
	g.full, g.seen = t.Full, true
	text := ""
	if !g.since.IsZero() && g.now().Sub(g.since) < fullFor {
		text = "new flows were refused within the last minute because the flow table had no room for them (table_full): raise --flows, or find out by `sallyport flows` who fills it"
		if grown > 0 && !g.rings["full"] {
			g.log.Warn("packets of new flows found no room", "packets", grown)
		}
	}
	g.ring(t, "full", text)
}

func (g *gauge) ring(t *flow.Tables, name, text string) {
	if text != "" {
		t.Alarms = append(t.Alarms, text)
	}
	switch stood := g.rings[name]; {
	case text != "" && !stood:
		g.log.Warn("alarm: " + text)
	case text == "" && stood:
		g.log.Info("alarm over", "of", name)
	}
	g.rings[name] = text != ""
}

// answer tells of the flows that the server asks for.
func (n *Node) answer(a *wire.Ask) *wire.Answer {
	out := &wire.Answer{Number: a.Number}
	var q flow.Query
	err := json.Unmarshal(a.Query, &q)
	switch {
	case err != nil:
		err = fmt.Errorf("query: %w", err)
	case n.o.Flows == nil:
		err = fmt.Errorf("%s tracks no flows", n.o.Name)
	default:
		var found flow.Flows
		if found, err = n.o.Flows.Flows(q); err == nil {
			found.Flows = slices.Clip(found.Flows)
			out.Flows, err = json.Marshal(found)
		}
	}
	if err != nil {
		out.Error = err.Error()
	}
	return out
}
