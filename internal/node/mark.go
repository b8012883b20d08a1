// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"log/slog"
	"path/filepath"
	"sync"

	"github.com/sallyport/sallyport/internal/lb"
	"github.com/sallyport/sallyport/internal/snapshot"
)

// A Mark is an Applier that notes on disk, once and for good, that a revision
// was in force here that refuses. From then on a start is closed until the
// snapshot is in force, whatever became of the one that was kept.
type Mark struct {
	dir string
	log *slog.Logger

	mu       sync.Mutex
	enforces bool // the staged snapshot
	marked   bool
}

// NewMark makes the Mark of a data directory.
func NewMark(dir string, log *slog.Logger) *Mark {
	return &Mark{dir: dir, log: log, marked: !Observes(dir)}
}

// Stage looks at the snapshot.
func (m *Mark) Stage(_ context.Context, s *snapshot.Snapshot) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.enforces = len(s.Instances) > 0 && !s.Instances[0].Observe
	return nil
}

// Commit marks. A disk that does not take the mark is only told of: the kept
// snapshot says the same.
func (m *Mark) Commit(context.Context, lb.Revision) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.marked || !m.enforces {
		return nil
	}
	if err := writeFile(filepath.Join(m.dir, enforcedFile), []byte("A security group was bound to this machine: it starts closed.\n")); err != nil {
		m.log.Error("not noted that the gate is in force", "error", err)
		return nil
	}
	m.marked = true
	return nil
}
