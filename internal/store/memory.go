// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"maps"
	"sync"
	"time"
)

// memory is a backend without disk. The objects live in the Store's view
// alone; what is here is the guard and what has a term.
type memory struct {
	now func() time.Time

	mu    sync.Mutex
	guard int64
	items map[string]auxItem
	swept time.Time         // when items whose term is over were looked for
	log   map[uint64][]byte // the audit log's lines by number
}

type auxItem struct {
	value []byte
	until time.Time
}

func newMemory(now func() time.Time) *memory {
	return &memory{now: now, items: map[string]auxItem{}, log: map[uint64][]byte{}}
}

func (m *memory) commit(ctx context.Context, w write) (int64, bool, error) {
	if err := ctx.Err(); err != nil {
		return 0, false, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if w.base.guard != m.guard {
		return 0, false, nil
	}
	m.guard++
	m.keep(w.aux)
	if w.line != nil {
		m.log[w.base.audit+1] = w.line
	}
	return m.guard, true, nil
}

// keep adds items and forgets those whose term is over.
func (m *memory) keep(aux []change) {
	if len(aux) == 0 {
		return
	}
	now := m.now()
	if now.Sub(m.swept) >= time.Minute { // not at every write: that costs what all items cost
		m.swept = now
		for key, item := range m.items {
			if !now.Before(item.until) {
				delete(m.items, key)
			}
		}
	}
	for _, c := range aux {
		m.items[c.key] = auxItem{c.value, now.Add(keepAux)}
	}
}

func (m *memory) aux(_ context.Context, key string) ([]byte, bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	item, ok := m.items[key]
	if !ok || !m.now().Before(item.until) {
		return nil, false, nil
	}
	return item.value, true, nil
}

func (m *memory) newest(context.Context) (int64, error) { return 0, nil }

func (m *memory) lines(_ context.Context, from, to uint64) ([][]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var all [][]byte
	for n := from; n < to; n++ {
		if line, ok := m.log[n]; ok {
			all = append(all, line)
		}
	}
	return all, nil
}

func (m *memory) trim(_ context.Context, below uint64) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	maps.DeleteFunc(m.log, func(n uint64, _ []byte) bool { return n < below })
	return nil
}

func (m *memory) close() error { return nil }
