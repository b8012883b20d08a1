// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"

	"github.com/sallyport/sallyport/internal/lb"
)

// few is how many places it does not pay to watch: every trial may come by them.
const few = 60

// visits has every trial of a round run once on a role's programs that note which
// of the places where faults go it comes by: a fault is tried by no others.
func (c *campaign) visits(ctx context.Context, round string, role lb.NodeRole, all []*mutant) error {
	all = slices.DeleteFunc(slices.Clone(all), func(m *mutant) bool { return !slices.Contains(c.roles(m.file), role) })
	if len(all) <= few {
		places := make([]int, len(all))
		for i := range places {
			places[i] = i + 1
		}
		for _, one := range trialsOf(round) {
			c.visited(answer{Test: one.name, Came: places}, role, all)
		}
		return nil
	}
	dir, err := os.MkdirTemp("", "visits")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if err = c.visitSources(dir, all); err == nil {
		err = compileRole(ctx, dir, role)
	}
	j := job{Dir: dir, Round: round, Visits: true}
	for done := false; err == nil && !done; {
		var last answer
		var silent bool
		last, silent, err = c.process(ctx, j, func(a answer) {
			j.Skip = append(j.Skip, a.Test)
			if !a.Killed {
				c.visited(a, role, all)
			}
		})
		if done = last.Test == "" || slices.Contains(j.Skip, last.Test); !done {
			fmt.Printf("NOTE %s breaks down (silent: %v) without a fault\n", last.Test, silent)
			j.Skip = append(j.Skip, last.Test)
		}
	}
	switch {
	case err == nil:
		return nil
	case !errors.Is(err, errApart) && !errors.As(err, new(*exec.ExitError)):
		return err
	}
	fmt.Printf("%s:%d: %d places cannot be watched together: %.200v\n", all[0].file, all[0].line, len(all), err)
	return errors.Join(c.visits(ctx, round, role, all[:len(all)/2]), c.visits(ctx, round, role, all[len(all)/2:]))
}

// visitSources writes sources that note who comes by the faults' places.
func (c *campaign) visitSources(dir string, all []*mutant) error {
	if err := os.CopyFS(dir, os.DirFS("bpf")); err != nil {
		return err
	}
	for first := 0; first < len(all); {
		u := all[first:]
		if n := slices.IndexFunc(u, func(m *mutant) bool { return m.file != u[0].file }); n > 0 {
			u = u[:n]
		}
		name := filepath.Join(dir, u[0].file)
		raw, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		raw = besides(raw, u, func(i int, _ *mutant) []byte { return fmt.Appendf(nil, "mutant_by(%d), ", first+i+1) })
		if err := os.WriteFile(name, raw, 0o600); err != nil {
			return err
		}
		first += len(u)
	}
	return declare(dir)
}

// visited keeps what a trial comes by, and what it takes if that was measured.
func (c *campaign) visited(a answer, role lb.NodeRole, all []*mutant) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, place := range a.Came {
		if place == 0 {
			continue
		}
		m := all[place-1]
		if m.trials == nil {
			m.trials = map[lb.NodeRole][]string{}
		}
		m.trials[role] = append(m.trials[role], a.Test)
	}
	for _, m := range all {
		if c.past[m.file] == nil {
			c.past[m.file] = map[string]record{}
		}
		if a.Took > 0 {
			c.past[m.file][a.Test] = record{Cost: a.Took}
		}
	}
}
