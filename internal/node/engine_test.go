// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/sallyport/sallyport/internal/lb"
	"github.com/sallyport/sallyport/internal/policy"
	"github.com/sallyport/sallyport/internal/snapshot"
	"github.com/sallyport/sallyport/internal/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// a plane writes down what it is told.
type plane struct {
	log          *[]string
	name         string
	refuse       error // of Stage
	refuseCommit error
}

func (p *plane) Stage(_ context.Context, s *snapshot.Snapshot) error {
	if p.refuse != nil {
		return p.refuse
	}
	*p.log = append(*p.log, fmt.Sprintf("%s stage %d", p.name, s.Revision))
	return nil
}

func (p *plane) Commit(_ context.Context, r lb.Revision) error {
	if p.refuseCommit != nil {
		return p.refuseCommit
	}
	*p.log = append(*p.log, fmt.Sprintf("%s commit %d", p.name, r))
	return nil
}

// stageOf is the message of a gateway's empty snapshot, with all its blobs.
func stageOf(t *testing.T, node lb.NodeID, r lb.Revision) *wire.Stage {
	t.Helper()
	manifest, blobs, err := snapshot.Encode(&snapshot.Snapshot{Revision: r, Node: node, Role: lb.RoleGateway,
		Policies: map[policy.Hash]*policy.Compiled{}})
	if err != nil {
		t.Fatal(err)
	}
	m := &wire.Stage{Revision: uint32(r)}
	if m.Manifest, err = json.Marshal(manifest); err != nil {
		t.Fatal(err)
	}
	for hash, data := range blobs {
		m.Blobs = append(m.Blobs, &wire.Blob{Hash: string(hash), Data: data})
	}
	return m
}

// newPlanes makes an engine over two planes that share a log.
func newPlanes(t *testing.T, dir string) (e *engine, a, b *plane, log *[]string) {
	t.Helper()
	log = new([]string)
	a, b = &plane{log: log, name: "a"}, &plane{log: log, name: "b"}
	e = newEngine("gateway-1", lb.RoleGateway, []Applier{a, b}, &keeper{dir: dir}, slog.New(slog.DiscardHandler))
	return e, a, b, log
}

func must(t *testing.T, warning, err error) {
	t.Helper()
	if warning != nil || err != nil {
		t.Fatalf("warning %v, error %v", warning, err)
	}
}

// Every Applier stages before any commits, and a revision already in force
// troubles none of them.
func TestEngineOrder(t *testing.T) {
	e, _, _, log := newPlanes(t, t.TempDir())
	for _, r := range []lb.Revision{4, 5, 5} {
		warning, err := e.stage(t.Context(), stageOf(t, "gateway-1", r))
		must(t, warning, err)
		warning, err = e.commit(t.Context(), r)
		must(t, warning, err)
	}
	want := []string{"a stage 4", "b stage 4", "a commit 4", "b commit 4", "a stage 5", "b stage 5", "a commit 5", "b commit 5"}
	if !slices.Equal(*log, want) || e.revision() != 5 {
		t.Errorf("%v at %d", *log, e.revision())
	}
}

// A later Stage brings only what is new: what is in force or staged counts as
// here.
func TestEngineBlobs(t *testing.T) {
	e, _, _, _ := newPlanes(t, t.TempDir())
	lean := stageOf(t, "gateway-1", 1)
	lean.Blobs = nil
	if _, err := e.stage(t.Context(), lean); err == nil || !strings.Contains(err.Error(), "is missing") {
		t.Fatalf("without blobs: %v", err)
	}
	warning, err := e.stage(t.Context(), stageOf(t, "gateway-1", 1))
	must(t, warning, err)
	for r := lb.Revision(2); r < 4; r++ {
		lean := stageOf(t, "gateway-1", r)
		lean.Blobs = nil
		warning, err := e.stage(t.Context(), lean)
		must(t, warning, err)
	}
	warning, err = e.commit(t.Context(), 3)
	must(t, warning, err)
	if len(e.blobs()) == 0 {
		t.Error("no blob is held")
	}
}

// What is refused changes nothing, in memory and on disk.
func TestEngineRefuses(t *testing.T) {
	full := errors.New("the map is full")
	for _, c := range []struct {
		name string
		edit func(a, b *plane, m *wire.Stage)
		want string
	}{
		{"an Applier", func(_, b *plane, _ *wire.Stage) { b.refuse = full }, "the map is full"},
		{"a changed blob", func(_, _ *plane, m *wire.Stage) { m.Blobs[0].Data = []byte("[]") }, "is named"},
		{"not a manifest", func(_, _ *plane, m *wire.Stage) { m.Manifest = []byte("{") }, "manifest"},
		{"another's", func(_, _ *plane, m *wire.Stage) { *m = *clone(stageOf(t, "gateway-2", 2)) }, "is for gateway gateway-2"},
		{"another revision's", func(_, _ *plane, m *wire.Stage) { m.Revision = 9 }, "at 9"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			e, a, b, _ := newPlanes(t, dir)
			warning, err := e.stage(t.Context(), stageOf(t, "gateway-1", 1))
			must(t, warning, err)
			warning, err = e.commit(t.Context(), 1)
			must(t, warning, err)
			m := stageOf(t, "gateway-1", 2)
			c.edit(a, b, m)
			if _, err := e.stage(t.Context(), m); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("stage: %v, want %q", err, c.want)
			}
			if _, err := e.commit(t.Context(), 2); err == nil {
				t.Error("committed what was refused")
			}
			if e.revision() != 1 {
				t.Errorf("%d in force", e.revision())
			}
			if kept, err := (&keeper{dir: dir}).load(1); err != nil || kept.GetRevision() != 1 {
				t.Errorf("kept %d, %v", kept.GetRevision(), err)
			}
		})
	}
}

func clone(m *wire.Stage) *wire.Stage {
	return &wire.Stage{Revision: m.Revision, Manifest: m.Manifest, Blobs: m.Blobs}
}

// A failing Commit is told, the other Appliers still commit, and the same
// revision can be tried again.
func TestEngineCommitFails(t *testing.T) {
	e, a, _, log := newPlanes(t, t.TempDir())
	a.refuseCommit = errors.New("broken")
	warning, err := e.stage(t.Context(), stageOf(t, "gateway-1", 1))
	must(t, warning, err)
	if _, err := e.commit(t.Context(), 1); err == nil || e.revision() != 0 {
		t.Errorf("%v, %d in force", err, e.revision())
	}
	if !slices.Contains(*log, "b commit 1") {
		t.Errorf("the second did not commit: %v", *log)
	}
	a.refuseCommit = nil
	warning, err = e.stage(t.Context(), stageOf(t, "gateway-1", 1))
	must(t, warning, err)
	warning, err = e.commit(t.Context(), 1)
	must(t, warning, err)
	if e.revision() != 1 {
		t.Errorf("%d in force", e.revision())
	}
}

// A disk that is full does not keep a new rule out of force, but is told.
func TestEngineWithoutDisk(t *testing.T) {
	e, _, _, _ := newPlanes(t, t.TempDir()+"/missing")
	warning, err := e.stage(t.Context(), stageOf(t, "gateway-1", 1))
	if err != nil || warning == nil {
		t.Fatalf("warning %v, error %v", warning, err)
	}
	if _, err := e.commit(t.Context(), 1); err != nil || e.revision() != 1 {
		t.Errorf("%v, %d in force", err, e.revision())
	}
}

// Restart: the kept snapshot is applied, unless the kernel is ahead of it.
func TestEngineRestore(t *testing.T) {
	dir := t.TempDir()
	e, _, _, _ := newPlanes(t, dir)
	warning, err := e.stage(t.Context(), stageOf(t, "gateway-1", 7))
	must(t, warning, err)
	warning, err = e.commit(t.Context(), 7)
	must(t, warning, err)
	for _, c := range []struct {
		kernel, want lb.Revision
	}{{0, 7}, {6, 7}, {7, 7}, {8, 0}} {
		e, _, _, log := newPlanes(t, dir)
		if err := e.restore(t.Context(), c.kernel); err != nil {
			t.Error(err)
		}
		if e.revision() != c.want || (len(*log) == 4) != (c.want == 7) {
			t.Errorf("kernel at %d: %d in force after %v", c.kernel, e.revision(), *log)
		}
	}
	e, a, _, _ := newPlanes(t, dir)
	a.refuse = errors.New("no kernel")
	if err := e.restore(t.Context(), 0); err == nil || e.revision() != 0 {
		t.Errorf("%v, %d in force", err, e.revision())
	}
}

// What may begin before Run: only the very revision that was asked for, whole
// and this node's, also when it was not promoted any more.
func TestKept(t *testing.T) {
	dir := t.TempDir()
	k := &keeper{dir: dir}
	for r := range lb.Revision(2) {
		if err := errors.Join(k.prepare(stageOf(t, "gateway-1", r+4)), k.promote()); err != nil {
			t.Fatal(err)
		}
	}
	if err := k.prepare(stageOf(t, "gateway-1", 6)); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		node lb.NodeID
		r    lb.Revision
		want bool
	}{
		{"nothing in the kernel", "gateway-1", 0, false},
		{"the previous", "gateway-1", 4, false},
		{"the last", "gateway-1", 5, true},
		{"not promoted", "gateway-1", 6, true},
		{"one never seen", "gateway-1", 7, false},
		{"another node's", "gateway-2", 5, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := Kept(Options{Name: c.node, Role: lb.RoleGateway, DataDir: dir}, c.r)
			if (s != nil) != c.want || s != nil && s.Revision != c.r {
				t.Errorf("%+v", s)
			}
		})
	}
	if err := os.Truncate(k.path(fileLast), 90); err != nil {
		t.Fatal(err)
	}
	if s := Kept(Options{Name: "gateway-1", Role: lb.RoleGateway, DataDir: dir}, 5); s != nil {
		t.Error("a damaged snapshot was returned")
	}
	if _, err := os.Stat(k.path(fileLast)); err != nil {
		t.Errorf("it was moved: %v", err)
	}
}

// A disk that takes nothing stops no snapshot. The fault stays told until what
// is in force is on disk, which needs no newer revision.
func TestKeptAgain(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "missing")
	e, _, _, _ := newPlanes(t, dir)
	for range 2 { // the second time it is in force already
		if _, err := e.stage(t.Context(), stageOf(t, "gateway-1", 1)); err != nil {
			t.Fatal(err)
		}
		warning, err := e.commit(t.Context(), 1)
		if err != nil || warning == nil || !strings.Contains(warning.Error(), "snapshot 1 is not kept on disk") {
			t.Fatalf("commit: warning %v, error %v", warning, err)
		}
		if e.keepAgain() {
			t.Fatal("kept in a directory that is not there")
		}
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := e.stage(t.Context(), stageOf(t, "gateway-1", 2)); err != nil {
		t.Fatal(err)
	}
	if e.keepAgain() {
		t.Fatal("it took the place of what is staged")
	}
	warning, err := e.commit(t.Context(), 2)
	must(t, warning, err)
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if _, err := e.stage(t.Context(), stageOf(t, "gateway-1", 3)); err != nil {
		t.Fatal(err)
	}
	if warning, err := e.commit(t.Context(), 3); err != nil || warning == nil {
		t.Fatalf("commit: warning %v, error %v", warning, err)
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if !e.keepAgain() || e.keepAgain() {
		t.Error("not kept again, or more than once")
	}
	if kept, err := (&keeper{dir: dir}).load(0); err != nil || kept.GetRevision() != 3 {
		t.Errorf("kept %d, %v", kept.GetRevision(), err)
	}
}
