// SPDX-License-Identifier: Apache-2.0

package node

import (
	"slices"

	"github.com/sallyport/sallyport/internal/flow"
	"github.com/sallyport/sallyport/internal/wire"
)

// readLoads adds the connections of targets whose number moved since it was
// last told; all of them at first on a stream and when a target has vanished.
func (r *reporter) readLoads(f *wire.Facts) {
	if r.loads == nil {
		return
	}
	list, err := r.loads()
	if err != nil {
		r.log.Error("counting connections", "error", err)
		return
	}
	now := map[uint32]uint32{}
	for _, l := range list {
		now[l.Target] = l.Connections
	}
	f.LoadsAll = r.toldLoads == nil
	for num := range r.toldLoads {
		if _, ok := now[num]; !ok {
			f.LoadsAll = true
		}
	}
	for num, n := range now {
		if was, told := r.toldLoads[num]; f.LoadsAll || !told || was != n {
			f.Loads = append(f.Loads, &wire.Load{Target: num, Connections: n})
		}
	}
	slices.SortFunc(f.Loads, func(a, b *wire.Load) int { return int(a.Target) - int(b.Target) })
	r.toldLoads = now
}

// obeyLoads hands on what hosts count; nobody waits for an answer.
func (n *Node) obeyLoads(m *wire.Loads) {
	if n.o.SetLoads == nil {
		return
	}
	list := make([]flow.Load, 0, len(m.Loads))
	for _, l := range m.Loads {
		list = append(list, flow.Load{Target: l.Target, Connections: l.Connections})
	}
	if err := n.o.SetLoads(list); err != nil {
		n.log.Error("connections not set in the kernel", "error", err)
	}
}
