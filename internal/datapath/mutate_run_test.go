// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"debug/elf"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/sallyport/sallyport/internal/lb"
)

var bothRoles = []lb.NodeRole{lb.RoleHost, lb.RoleGateway} // the one whose programs take less to load first

// A campaign tries faults.
type campaign struct {
	plain  string                          // folder of the sources and objects without a fault
	log    *os.File                        // what the tests print
	uses   map[string]map[lb.NodeRole]bool // by file: the roles whose programs are made of it
	rounds []string
	mu     sync.Mutex
	past   map[string]map[string]record // by file and trial
}

// A unit are faults of one file that one compilation holds, beside each other:
// number n of them happens where bit n-1 of a constant of the programs is set,
// while a variable of theirs is n.
type unit []*mutant

// most is how many faults a unit has.
const most = 32

// beside is what sources with faults have besides. It is in assembler, so that no
// address of it is kept for later: programs that have 512 bytes of stack for all
// that call each other have none to spare.
const beside = `
volatile const __u64 mutant_mask = 0;
volatile __u32 mutant_number = 0;
volatile __u8 mutant_came[4096] = {};
#define mutant_is(n) ({ \
	__u64 other; \
	asm volatile("%[r] = %[mask] ll\n%[r] = *(u64 *)(%[r] + 0)\n%[r] >>= %[bit]\n%[r] &= 1\nif %[r] != 0 goto l1_%=\n" \
		"%[r] = 1\ngoto l2_%=\nl1_%=:\n%[r] = %[number] ll\n%[r] = *(u32 *)(%[r] + 0)\n%[r] ^= %[n_]\nl2_%=:" \
		: [r] "=r"(other) : [mask] "i"(&mutant_mask), [number] "i"(&mutant_number), [bit] "i"((n) - 1), [n_] "i"(n)); \
	!other; \
})
#define mutant_by(n) ({ \
	__u64 to, one; \
	asm volatile("%[to] = %[came] ll\n%[one] = 1\n*(u8 *)(%[to] + %[at]) = %[one]" \
		: [to] "=&r"(to), [one] "=&r"(one) : [came] "i"(&mutant_came), [at] "i"(n)); \
	0; \
})
`

// units puts faults together, file by file.
func units(all []*mutant) []unit {
	var out []unit
	for _, m := range all {
		if n := len(out); n > 0 && out[n-1][0].file == m.file && len(out[n-1]) < most {
			out[n-1] = append(out[n-1], m)
		} else {
			out = append(out, unit{m})
		}
	}
	return out
}

// sources writes the sources with a unit's faults into a folder, each beside
// what it replaces.
func (u unit) sources(dir string) error {
	if err := os.CopyFS(dir, os.DirFS("bpf")); err != nil {
		return err
	}
	name := filepath.Join(dir, u[0].file)
	raw, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	raw = besides(raw, u, func(i int, m *mutant) []byte {
		return fmt.Appendf(nil, "mutant_is(%d) ? (%s) : ", i+1, slices.Concat(raw[m.from:m.at], []byte(m.new), raw[m.end:m.to]))
	})
	if err := os.WriteFile(name, raw, 0o600); err != nil {
		return err
	}
	return declare(dir)
}

// besides puts before what faults of a file replace what is to stand beside it.
func besides(raw []byte, all []*mutant, with func(i int, m *mutant) []byte) []byte {
	byPlace := map[int][]int{}
	for i, m := range all {
		byPlace[m.from] = append(byPlace[m.from], i)
	}
	for _, from := range slices.Backward(slices.Sorted(maps.Keys(byPlace))) {
		to := all[byPlace[from][0]].to
		text := []byte(" (")
		for _, i := range byPlace[from] {
			text = append(text, with(i, all[i])...)
		}
		text = fmt.Appendf(text, "(%s))", raw[from:to])
		if raw[from] == '(' && raw[to-1] == ')' {
			text = fmt.Appendf(nil, "(%s)", text)
		}
		raw = slices.Concat(raw[:from], text, raw[to:])
	}
	return raw
}

// declare declares what sources with faults have besides.
func declare(dir string) error {
	f, err := os.OpenFile(filepath.Join(dir, "kernel.h"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(beside)
	return errors.Join(err, f.Close())
}

// compileRole compiles a role's sources in dir.
func compileRole(ctx context.Context, dir string, role lb.NodeRole) error {
	out, err := exec.CommandContext(ctx, "clang-19", "-O2", "-g", "-mcpu=v3", "-nostdinc", "-w", "-target", "bpfel", targetArch(),
		"-c", filepath.Join(dir, string(role)+".bpf.c"), "-o", filepath.Join(dir, string(role)+".o")).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%w\n%s", err, out)
	}
	return nil
}

// filesOf are the sources that a role's programs are made of.
func filesOf(ctx context.Context, role lb.NodeRole) (map[string]bool, error) {
	out, err := exec.CommandContext(ctx, "clang-19", "-MM", "-nostdinc", "-target", "bpfel", filepath.Join("bpf", string(role)+".bpf.c")).Output()
	files := map[string]bool{}
	for _, f := range strings.Fields(string(out)) {
		files[filepath.Base(f)] = true
	}
	return files, err
}

// codeOf is the code of an object, without what is for debuggers.
func codeOf(object string) ([]byte, error) {
	f, err := elf.Open(object)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var code []byte
	for _, s := range f.Sections {
		if s.Flags&elf.SHF_EXECINSTR == 0 && !strings.HasPrefix(s.Name, ".rodata") {
			continue
		}
		data, err := s.Data()
		if err != nil {
			return nil, err
		}
		code = append(append(code, s.Name...), data...)
	}
	return code, nil
}

// roles are those whose programs a file is a part of, or the one of them that
// MUTATE_ROLE names.
func (c *campaign) roles(file string) []lb.NodeRole {
	only := os.Getenv("MUTATE_ROLE")
	return slices.DeleteFunc(slices.Clone(bothRoles), func(r lb.NodeRole) bool { return !c.uses[file][r] || only != "" && only != string(r) })
}

// run tries a unit's faults in the programs of one role, then what is left in
// those of the other.
func (c *campaign) run(ctx context.Context, u unit) error {
	for _, role := range c.roles(u[0].file) {
		left := slices.DeleteFunc(slices.Clone(u), func(m *mutant) bool { return m.killed != "" || m.how != "" })
		if len(left) == 0 {
			break
		}
		if err := c.runIn(ctx, left, role); err != nil {
			return err
		}
	}
	for _, m := range u {
		if m.killed != "" {
			continue
		}
		fmt.Printf("%-36s %5.1fs  %s\n", cmp.Or(m.how, map[bool]string{true: "SURVIVED", false: "NOT RUN"}[m.seen]), m.took, m.said())
	}
	return nil
}

// runIn compiles a unit for a role and tries its faults, round after round. Where
// they cannot stand beside each other, it is halved.
func (c *campaign) runIn(ctx context.Context, u unit, role lb.NodeRole) error {
	dir, err := os.MkdirTemp("", "mutants")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if err := u.sources(dir); err != nil {
		return err
	}
	if err = compileRole(ctx, dir, role); err == nil {
		for _, round := range c.rounds {
			if err = c.tryAll(ctx, dir, round, role, u, false); err != nil {
				break
			}
		}
	}
	switch {
	case err == nil:
		return nil
	case !errors.Is(err, errApart) && !errors.As(err, new(*exec.ExitError)):
		return err
	case len(u) == 1:
		return c.runAlone(ctx, u, role)
	}
	fmt.Printf("%s:%d: %d faults do not stand beside each other: %.200v\n", u[0].file, u[0].line, len(u), err)
	u = slices.DeleteFunc(slices.Clone(u), func(m *mutant) bool { return m.killed != "" || m.how != "" })
	if len(u) == 0 {
		return nil
	}
	if len(u) == 1 {
		return c.runAlone(ctx, u, role)
	}
	return errors.Join(c.runIn(ctx, u[:len(u)/2], role), c.runIn(ctx, u[len(u)/2:], role))
}

// runAlone tries a fault that cannot stand beside its other form: in programs
// of its own, which others without it are held against.
func (c *campaign) runAlone(ctx context.Context, u unit, role lb.NodeRole) error {
	dir, err := os.MkdirTemp("", "mutants")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if err := u[0].plant(dir); err != nil {
		return err
	}
	if err := compileRole(ctx, dir, role); err != nil {
		u[0].how = "cannot be compiled"
		return nil
	}
	for _, round := range c.rounds {
		if err := c.tryAll(ctx, dir, round, role, u, true); err != nil {
			return err
		}
	}
	return nil
}

// plant writes the sources with a fault into a folder.
func (m *mutant) plant(dir string) error {
	if err := os.CopyFS(dir, os.DirFS("bpf")); err != nil {
		return err
	}
	name := filepath.Join(dir, m.file)
	raw, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	return os.WriteFile(name, slices.Concat(raw[:m.at], []byte(m.new), raw[m.end:]), 0o600)
}

// errApart says that programs with a unit's faults are refused also when none
// of them is in.
var errApart = errors.New("refused with none of them in")

// tryAll has processes try what is left of a unit, by a round's tests. A process
// that dies killed the fault that it was trying; one that is silent for long says
// nothing about it.
func (c *campaign) tryAll(ctx context.Context, dir, round string, role lb.NodeRole, u unit, alone bool) error {
	j, at := job{Dir: dir, Round: round, Alone: alone, Trials: map[int][]string{}, Past: c.pastOf(u[0].file)}, filepath.Base(dir)+round
	for i, m := range u {
		if m.killed != "" || m.how != "" {
			continue
		}
		j.Trials[i+1] = m.trials[role]
		if m.safe {
			j.Numbers = append(j.Numbers, i+1)
		} else {
			j.Refused = append(j.Refused, i+1)
		}
	}
	for len(j.Numbers)+len(j.Refused) > 0 {
		last, silent, err := c.process(ctx, j, func(a answer) { c.note(j, u, a) })
		if err != nil {
			return err
		}
		done := func(n int) bool { return u[n-1].killed != "" || u[n-1].how != "" || u[n-1].tried == at }
		j.Numbers, j.Refused = slices.DeleteFunc(j.Numbers, done), slices.DeleteFunc(j.Refused, done)
		if len(j.Numbers)+len(j.Refused) == 0 || last.Number == 0 {
			break
		}
		m := u[last.Number-1]
		switch {
		case silent && last.Test != "" && !slices.Contains(j.Skip, last.Test):
			j.Skip = append(j.Skip, last.Test)
			fmt.Printf("NOTE %s: silent in %s, which is left out\n", m.name(), last.Test)
		case !silent && !done(last.Number):
			m.killed = "a crash in " + last.Test
		default:
			return fmt.Errorf("%s: tests of it end in %s", m.name(), last.Test)
		}
		j.Numbers, j.Refused = slices.DeleteFunc(j.Numbers, done), slices.DeleteFunc(j.Refused, done)
	}
	return nil
}

// patience is how long a test may go on before its process is ended.
const patience = 4 * time.Minute

// process tries a job's faults in a process of their own, and gives what it was
// at when it ended before its time.
func (c *campaign) process(ctx context.Context, j job, note func(answer)) (last answer, silent bool, err error) {
	text, err := json.Marshal(j)
	if err != nil {
		return last, false, err
	}
	r, w, err := os.Pipe()
	if err != nil {
		return last, false, err
	}
	defer r.Close()
	temp := filepath.Join(j.Dir, "tmp")
	os.RemoveAll(temp)
	if err := os.Mkdir(temp, 0o700); err != nil {
		return last, false, err
	}
	cmd := exec.CommandContext(ctx, os.Args[0], "-test.run", "^TestMutantsOfOneUnit$", "-test.timeout", "0", "-test.v")
	cmd.Env = append(os.Environ(), jobVariable+"="+string(text), "TMPDIR="+temp)
	cmd.ExtraFiles, cmd.Stdout, cmd.Stderr = []*os.File{w}, c.log, c.log
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL} // its mounts end with it
	if err := cmd.Start(); err != nil {
		return last, false, err
	}
	w.Close()
	watch := time.AfterFunc(patience, func() { silent = true; cmd.Process.Kill() })
	for lines := bufio.NewScanner(r); lines.Scan(); {
		watch.Reset(patience)
		if err := json.Unmarshal(lines.Bytes(), &last); err != nil {
			return last, false, err
		}
		if last.Came != nil {
			note(last)
		}
		if !last.Done {
			continue
		}
		if last.Number == 0 {
			err = fmt.Errorf("%w: %s", errApart, last.How)
			continue
		}
		note(last)
		last = answer{}
	}
	watch.Stop()
	_ = cmd.Wait() // it fails: its tests do
	for _, left := range []string{"dp-quiet", "dp-fabric", "dp-gw", "dp-host", "dp-a", "dp-b"} {
		os.Remove(fmt.Sprintf("/run/netns/%s-%d", left, cmd.Process.Pid))
	}
	return last, silent, err
}

// note keeps what became of one of a unit's faults.
func (c *campaign) note(j job, u unit, a answer) {
	m := u[a.Number-1]
	m.how, m.took, m.seen, m.tried = a.How, m.took+a.Took, m.seen || a.Reached, filepath.Base(j.Dir)+j.Round
	if !a.Killed {
		return
	}
	m.killed = a.Test
	fmt.Printf("killed %5.1fs by %-36s %s:%d: %s → %s\n", m.took, m.killed, m.file, m.line, m.old, m.new)
	c.mu.Lock()
	defer c.mu.Unlock()
	r := c.past[m.file][a.Test]
	r.Runs++
	r.Kills++
	if r.Cost > 0 {
		c.past[m.file][a.Test] = r
	}
}

// pastOf gives how trials did on a file's faults.
func (c *campaign) pastOf(file string) map[string]record {
	c.mu.Lock()
	defer c.mu.Unlock()
	return maps.Clone(c.past[file])
}

// same reports whether a fault, as it is, compiles to the code without it.
func (c *campaign) same(ctx context.Context, m *mutant) bool {
	dir, err := os.MkdirTemp("", "mutant")
	if err != nil {
		return false
	}
	defer os.RemoveAll(dir)
	err = m.plant(dir)
	for _, role := range c.roles(m.file) {
		if err = errors.Join(err, compileRole(ctx, dir, role)); err != nil {
			return false
		}
		one, err1 := codeOf(filepath.Join(dir, string(role)+".o"))
		two, err2 := codeOf(filepath.Join(c.plain, string(role)+".o"))
		if err1 != nil || err2 != nil || !bytes.Equal(one, two) {
			return false
		}
	}
	return true
}

// A fault is planted in every branch of the C sources, one at a time, and tests
// are run until one fails. What passes all that come by it survived. A test that
// fails counts only if it passes in the same programs, in the same process, right
// after, with the fault off; one that takes too long counts for nothing.
// MUTATE is "all", or how many faults, by chance; MUTATE_FILE are files in the order in which they are tried,
// MUTATE_LEFT is the output of another campaign, what that left alive is tried
// again, MUTATE_ROLE the one of gateway and host whose programs they are planted in, and
// MUTATE_ROUNDS which tests: names of tests, or of lists of them, "quick further
// live", the last with traffic of the kernel's own. It is run on demand.
func TestMutants(t *testing.T) {
	text := os.Getenv("MUTATE")
	if text == "" || os.Getenv(jobVariable) != "" {
		t.Skip("run on demand: make mutate")
	}
	all, equal := mutants(t), equivalents(t)
	if only := strings.Fields(os.Getenv("MUTATE_FILE")); len(only) > 0 {
		all = slices.DeleteFunc(all, func(m *mutant) bool { return !slices.Contains(only, m.file) })
		slices.SortStableFunc(all, func(x, y *mutant) int { return slices.Index(only, x.file) - slices.Index(only, y.file) })
	}
	if list := os.Getenv("MUTATE_LEFT"); list != "" {
		said, err := os.ReadFile(list)
		if err != nil {
			t.Fatal(err)
		}
		all = slices.DeleteFunc(all, func(m *mutant) bool { return !bytes.Contains(said, []byte(m.said()+"\n")) })
	}
	if n, err := strconv.Atoi(text); err == nil {
		rand.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
		all = all[:min(n, len(all))]
		slices.SortFunc(all, func(x, y *mutant) int { return cmp.Or(cmp.Compare(x.file, y.file), x.at-y.at) })
	}
	count := len(all)
	all = slices.DeleteFunc(all, func(m *mutant) bool { return equal[m.name()] != "" })
	t.Logf("%d faults, %d of them in the table of those that change nothing", count, count-len(all))
	c := &campaign{plain: t.TempDir(), uses: map[string]map[lb.NodeRole]bool{}, past: map[string]map[string]record{}, rounds: strings.Fields(cmp.Or(os.Getenv("MUTATE_ROUNDS"), "quick further"))}
	c.prepare(t)
	var wg sync.WaitGroup
	for _, role := range bothRoles {
		wg.Go(func() {
			for _, round := range c.rounds {
				if err := c.visits(t.Context(), round, role, all); err != nil {
					t.Errorf("%s: %v", role, err)
				}
			}
		})
	}
	wg.Wait()
	work := make(chan unit)
	for range 2 {
		wg.Go(func() {
			for u := range work {
				if err := c.run(t.Context(), u); err != nil {
					t.Errorf("%s:%d and on: %v", u[0].file, u[0].line, err)
				}
			}
		})
	}
	for _, u := range units(all) {
		work <- u
	}
	close(work)
	wg.Wait()
	for _, m := range all {
		if m.killed == "" && m.how == "" && m.seen && c.same(t.Context(), m) {
			m.how = "compiles to the same"
		}
	}
	summary(t, all)
}

// prepare compiles the sources without a fault.
func (c *campaign) prepare(t *testing.T) {
	t.Helper()
	if err := os.CopyFS(c.plain, os.DirFS("bpf")); err != nil {
		t.Fatal(err)
	}
	var err error
	if c.log, err = os.Create(filepath.Join(os.TempDir(), "sallyport-mutants.log")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.log.Close() })
	for _, role := range bothRoles {
		files, err := filesOf(t.Context(), role)
		if err == nil {
			err = compileRole(t.Context(), c.plain, role)
		}
		if err != nil {
			t.Fatal(err)
		}
		for f := range files {
			if c.uses[f] == nil {
				c.uses[f] = map[lb.NodeRole]bool{}
			}
			c.uses[f][role] = true
		}
	}
}

// summary says what became of the faults, and fails when one survived.
func summary(t *testing.T, all []*mutant) {
	t.Helper()
	killed, unrun := map[string]int{}, map[string]int{}
	n, survived := 0, 0
	for _, m := range all {
		switch {
		case m.killed != "":
			killed[m.killed]++
			n++
		case m.how != "":
			unrun[m.how]++
		case m.tried == "":
			unrun["was not tried"]++
		default:
			survived++
			t.Errorf("survived: %s:%d: %s: %s → %s (run: %v)", m.file, m.line, m.text, m.old, m.new, m.seen)
		}
	}
	t.Logf("%d tried: %d killed, %d survived, %v; by %v", len(all), n, survived, unrun, killed)
}
