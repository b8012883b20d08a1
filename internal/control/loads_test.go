// SPDX-License-Identifier: Apache-2.0

package control

import (
	"maps"
	"sync"
	"testing"

	"github.com/sallyport/sallyport/internal/flow"
	"github.com/sallyport/sallyport/internal/lb"
)

// A tallyman counts on a host, or is told on a gateway.
type tallyman struct {
	mu  sync.Mutex
	all map[uint32]uint32
}

func (m *tallyman) set(num, n uint32) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.all[num] = n
}

func (m *tallyman) drop(num uint32) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.all, num)
}

func (m *tallyman) read() ([]flow.Load, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var list []flow.Load
	for num, n := range m.all {
		list = append(list, flow.Load{Target: num, Connections: n})
	}
	return list, nil
}

func (m *tallyman) take(list []flow.Load) error {
	for _, l := range list {
		m.set(l.Target, l.Connections)
	}
	return nil
}

func (m *tallyman) is(want map[uint32]uint32) func() bool {
	return func() bool {
		m.mu.Lock()
		defer m.mu.Unlock()
		return maps.Equal(m.all, want)
	}
}

// What hosts count reaches every gateway, also one that comes later, and a
// target that is counted no more has no connection.
func TestLoadsReachGateways(t *testing.T) {
	r := newRegion(t)
	r.instance("ins-aaaaaaaa", "10.200.0.5")
	counted, first, second := &tallyman{all: map[uint32]uint32{7: 3, 8: 0}}, &tallyman{all: map[uint32]uint32{}}, &tallyman{all: map[uint32]uint32{}}
	gw := r.agent(lb.RoleGateway, "gateway-1", "192.0.2.129", r.token(lb.RoleGateway, "gateway-1", ""))
	gw.options.SetLoads = first.take
	gw.start()
	host := r.agent(lb.RoleHost, "host-aaaaaaaa", "192.0.2.130", r.token(lb.RoleHost, "host-aaaaaaaa", "ins-aaaaaaaa"))
	host.options.Loads = counted.read
	host.start()
	eventually(t, "the first numbers", first.is(map[uint32]uint32{7: 3, 8: 0}))
	counted.set(8, 5)
	eventually(t, "a change", first.is(map[uint32]uint32{7: 3, 8: 5}))
	late := r.agent(lb.RoleGateway, "gateway-2", "192.0.2.131", r.token(lb.RoleGateway, "gateway-2", ""))
	late.options.SetLoads = second.take
	late.start()
	eventually(t, "a gateway that comes later", second.is(map[uint32]uint32{7: 3, 8: 5}))
	counted.drop(7)
	eventually(t, "a target that is counted no more", first.is(map[uint32]uint32{7: 0, 8: 5}))
	if got := r.Facts().Loads(); !maps.Equal(got, map[uint32]uint32{8: 5}) {
		t.Errorf("facts hold %v", got)
	}
}

// A gateway that reads slowly is told the newest numbers, once.
func TestLoadsConflate(t *testing.T) {
	s := &session{wake: make(chan struct{}, 1)}
	s.putLoads(map[uint32]uint32{2: 1, 1: 1})
	s.putLoads(map[uint32]uint32{2: 9})
	m, ok := s.takePending()
	if l := m.GetLoads().GetLoads(); !ok || len(l) != 2 || l[0].Target != 1 || l[1].Connections != 9 {
		t.Errorf("%v", m)
	}
	if _, ok := s.takePending(); ok {
		t.Error("told twice")
	}
}
