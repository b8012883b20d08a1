// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"bytes"
	"cmp"
	"context"
	"debug/elf"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sallyport/sallyport/internal/lb"
)

var bothRoles = []lb.NodeRole{lb.RoleGateway, lb.RoleHost}

// suites are the tests that a mutant has to get past, those on frames first and
// those with other traffic last. A mutant is only given to those that come by its spot.
func suites() []string {
	return []string{
		"TestKernelTwinAtEveryEdge", "TestEveryReasonToDropIsShown", "TestHostICMP", "TestGatewayICMP", "TestGatewaySaysWhatFits", "TestGatewayPassesOnOnlyAnswers", "TestChooseFindsTheLiveTarget", "TestLeastConnWeighs",
		"TestSlowStartAndDrain|TestNoHealthyTarget|TestByAddress", "TestPortRanges|TestFragments|TestProtocolsWithoutPorts|TestMachineLeadsNobodyAstray", "TestTags|TestTagsAreLeftToTheirInterface", "TestFrames",
		"TestUnseenBranches.*", "TestRefusedThenAllowed|TestVouchedNoLonger|TestHalfClosedIsOpen|TestPingIsNotAnswerToPing|TestDialledPeerDialsBack|TestProxyMeetsDirectConnection|TestControlAddressIsNoKey",
		"TestGatewayRefusesItsOwnAddresses|TestUnboundGroupCountsNothing", "TestARP|TestDHCPClientIsASystemRule|TestDiscoveryPassesGate2|TestGatewayAnswersSolicitations", "TestScenarios", "TestScenariosOverIPv6",
		"TestKernelTwinAtStampedRevision", "TestFlowsAreTold|TestFlowsOfIPv6AreTold|TestFlowsOfTheFormerLayout", "TestKeptFlows", "TestFloods", "TestDirectTraffic", "TestEstablishedFlows", "TestStrangersStayOutside", "TestGatewaysOwnConnections|TestHostsReachNoSocketOfTheGateway",
		"TestBeforeTheFirstSnapshot|TestObservedMachineLosesNothing|TestFlowsOlderThanTheGate", "TestOnlyItsFlowsMove|TestSharesFollowWeights|TestLeastConnBalances|TestBothHooksTunnelAlike", "TestEIPSharesNoVerdict|TestKernelTwinPrivate",
		"TestBothFamiliesLive|TestReturnByGatewayLive|TestOnlyTheProxyAnswersAtLayer7|TestDatagramsLive|TestTagsLive|TestTwoGatesLive|TestEveryInterface", "TestGuests",
	}
}

// A campaign runs tests on mutants.
type campaign struct {
	plain string                          // folder of the sources and objects without a fault
	uses  map[string]map[lb.NodeRole]bool // by file: the roles whose programs are made of it
	spots []spot
	seen  map[lb.NodeRole]map[string][]byte // by suite: of spot i what watched's bytes say
	mu    sync.Mutex
	first map[string][]string // by role and file: the suites, what killed last first
}

// A batch are mutants of one file that one compilation holds, beside each other.
type batch []*mutant

// batches puts mutants into as few compilations as there are mutants of one
// expression, at most that many into one.
func batches(all []*mutant, most int) []batch {
	var out []batch
	byFile := map[string][]*mutant{}
	var files []string
	for _, m := range all {
		if byFile[m.file] == nil {
			files = append(files, m.file)
		}
		byFile[m.file] = append(byFile[m.file], m)
	}
	for _, file := range files {
		left := byFile[file]
		for len(left) > 0 {
			var one, rest batch
			for _, m := range left {
				if len(one) >= most || len(one) > 0 && (m.byFamily() || one[0].byFamily()) || slices.ContainsFunc(one, func(o *mutant) bool { return o.from == m.from }) {
					rest = append(rest, m)
					continue
				}
				one = append(one, m)
			}
			out, left = append(out, one), rest
		}
	}
	return out
}

// byFamily reports whether a mutant decides by a family that its function is
// given as a literal: such code cannot stand beside its other form.
func (m *mutant) byFamily() bool {
	return strings.Contains(m.text, "family ==") || strings.Contains(m.text, "family !=")
}

// sources writes the sources with a batch's mutants into a folder: one as it is,
// several beside what they replace, by number from 1.
func (c *campaign) sources(dir string, b batch) error {
	if err := os.CopyFS(dir, os.DirFS("bpf")); err != nil {
		return err
	}
	name := filepath.Join(dir, b[0].file)
	raw, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	order := slices.Clone(b)
	slices.SortFunc(order, func(x, y *mutant) int { return y.from - x.from })
	for _, m := range order {
		with := slices.Concat(raw[m.from:m.at], []byte(m.new), raw[m.end:m.to])
		if len(b) > 1 {
			with = fmt.Appendf(nil, " (mutant_number == %d ? (%s) : (%s))", slices.Index(b, m)+1, with, raw[m.from:m.to])
			if raw[m.from] == '(' && raw[m.to-1] == ')' {
				with = fmt.Appendf(nil, "(%s)", with)
			}
		}
		raw = slices.Concat(raw[:m.from], with, raw[m.to:])
	}
	if err := os.WriteFile(name, raw, 0o600); err != nil || len(b) == 1 {
		return err
	}
	f, err := os.OpenFile(filepath.Join(dir, "kernel.h"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString("volatile const __u32 mutant_number;\n")
	return errors.Join(err, f.Close())
}

// roles are those that a batch changes something of.
func (c *campaign) roles(b batch) []lb.NodeRole {
	return slices.DeleteFunc(slices.Clone(bothRoles), func(r lb.NodeRole) bool { return !c.uses[b[0].file][r] })
}

// run compiles a batch and runs the tests on each of its mutants. Where they
// cannot stand beside each other, it is halved.
func (c *campaign) run(ctx context.Context, b batch) {
	dir, err := os.MkdirTemp("", "mutant")
	if err != nil {
		b[0].how = err.Error()
		return
	}
	defer os.RemoveAll(dir)
	if err = c.sources(dir, b); err == nil {
		for _, role := range c.roles(b) {
			err = errors.Join(err, compileRole(ctx, dir, role))
		}
	}
	if err == nil && len(b) > 1 {
		for _, role := range c.roles(b) {
			if fails, out := c.test(ctx, dir, 0, "TestOpens", role); fails != "" {
				err = errors.New(string(out))
			}
		}
	}
	switch {
	case err != nil && len(b) == 1:
		b[0].how = "does not compile"
		fmt.Println(b[0], err)
		return
	case err != nil:
		fmt.Printf("%s: %d mutants do not stand beside each other: %.300s\n", b[0].file, len(b), err)
		c.run(ctx, b[:len(b)/2])
		c.run(ctx, b[len(b)/2:])
		return
	}
	for i, m := range b {
		began := time.Now()
		c.kill(ctx, dir, i+1, len(b) == 1, m)
		fmt.Printf("%-34s %5.1fs  %v\n", cmp.Or(m.killed, m.how, "SURVIVED"), time.Since(began).Seconds(), m)
	}
}

// kill runs tests on one mutant until one fails.
func (c *campaign) kill(ctx context.Context, dir string, number int, alone bool, m *mutant) {
	if alone && c.same(dir, m) {
		m.how = "compiles to the same"
		return
	}
	for _, role := range c.roles(batch{m}) {
		for _, suite := range c.order(role, m) {
			if m.killed, _ = c.test(ctx, dir, number, suite, role); m.killed != "" {
				c.mu.Lock()
				c.first[m.file] = append([]string{suite}, slices.DeleteFunc(slices.Clone(c.first[m.file]), func(s string) bool { return s == suite })...)
				c.mu.Unlock()
				return
			}
		}
	}
	if !alone { // as it is: perhaps it is the same after all
		one, err := os.MkdirTemp("", "mutant")
		if err != nil {
			m.how = err.Error()
			return
		}
		defer os.RemoveAll(one)
		err = c.sources(one, batch{m})
		for _, role := range c.roles(batch{m}) {
			err = errors.Join(err, compileRole(ctx, one, role))
		}
		if err != nil {
			m.how = "does not compile"
			return
		}
		if c.same(one, m) {
			m.how = "compiles to the same"
		}
	}
}

// order gives the suites that come by a mutant's spot in a role's programs: what
// killed last in its file first.
func (c *campaign) order(role lb.NodeRole, m *mutant) []string {
	at := slices.IndexFunc(c.spots, func(s spot) bool { return s.file == m.file && s.from == m.from })
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.first[m.file] == nil {
		c.first[m.file] = suites()
	}
	return slices.DeleteFunc(slices.Clone(c.first[m.file]), func(suite string) bool {
		seen := c.seen[role][suite]
		return c.seen[role] != nil && (len(seen) <= 2*at+1 || seen[2*at]|seen[2*at+1] == 0)
	})
}

// same reports whether a mutant's programs are those without a fault.
func (c *campaign) same(dir string, m *mutant) bool {
	for _, role := range c.roles(batch{m}) {
		one, err1 := codeOf(filepath.Join(dir, string(role)+".o"))
		two, err2 := codeOf(filepath.Join(c.plain, string(role)+".o"))
		if err1 != nil || err2 != nil || !bytes.Equal(one, two) {
			return false
		}
	}
	return true
}

// test runs a suite on one mutant, of one role alone or of both, and says what failed.
func (c *campaign) test(ctx context.Context, dir string, number int, suite string, role lb.NodeRole, more ...string) (failed string, out []byte) {
	if role != "" { // the other role's programs are the committed ones
		only, err := os.MkdirTemp("", "mutant")
		if err != nil {
			return err.Error(), nil
		}
		defer os.RemoveAll(only)
		if err := os.Symlink(filepath.Join(dir, string(role)+".o"), filepath.Join(only, string(role)+".o")); err != nil {
			return err.Error(), nil
		}
		dir = only
	}
	cmd := exec.CommandContext(ctx, os.Args[0], "-test.run", "^("+suite+")$", "-test.failfast", "-test.timeout", "300s")
	cmd.Env = append(append(os.Environ(), mutantDir+"="+dir, mutantNumber+"="+strconv.Itoa(number)), more...)
	out, err := cmd.CombinedOutput()
	if err == nil {
		return "", out
	}
	if bytes.Contains(out, []byte("load program")) || bytes.Contains(out, []byte("verifier")) {
		return "the verifier", out
	}
	if found := regexp.MustCompile(`--- FAIL: (\S+)`).FindAllSubmatch(out, -1); len(found) > 0 {
		return string(found[len(found)-1][1]), out
	}
	return "a crash of " + suite, out
}

// A spot is an expression that decides, as the coverage counts it: it was so, or not.
type spot struct {
	file, text string
	line       int
	from, to   int
}

// spots lists the expressions that mutants change, each once.
func spots(all []*mutant) []spot {
	var out []spot
	for _, m := range all {
		if !slices.ContainsFunc(out, func(p spot) bool { return p.file == m.file && p.from == m.from }) {
			out = append(out, spot{m.file, m.text, m.line, m.from, m.to})
		}
	}
	slices.SortFunc(out, func(x, y spot) int { return cmp.Or(cmp.Compare(x.file, y.file), x.from-y.from) })
	return out
}

// watched writes the sources so that every place tells what it was: of place i
// the bytes 2i, it was not so, and 2i+1, it was.
func watched(dir string, all []spot, which func(i int) bool) error {
	if err := os.CopyFS(dir, os.DirFS("bpf")); err != nil {
		return err
	}
	for i := len(all) - 1; i >= 0; i-- {
		p := all[i]
		if !which(i) {
			continue
		}
		name := filepath.Join(dir, p.file)
		raw, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		with := fmt.Appendf(nil, " ((%s) ? (places_seen[%d] = 1, 1) : (places_seen[%d] = 1, 0))", raw[p.from:p.to], 2*i+1, 2*i)
		if err := os.WriteFile(name, slices.Concat(raw[:p.from], with, raw[p.to:]), 0o600); err != nil {
			return err
		}
	}
	f, err := os.OpenFile(filepath.Join(dir, "kernel.h"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(f, "volatile __u8 places_seen[%d];\n", 2*len(all))
	return errors.Join(err, f.Close())
}

// compileRole compiles a role's sources in dir.
func compileRole(ctx context.Context, dir string, role lb.NodeRole) error {
	out, err := exec.CommandContext(ctx, "clang-19", "-O2", "-g", "-mcpu=v3", "-nostdinc", "-w", "-target", "bpfel",
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

// Programs open: what a batch of mutants has to do before any of them is asked for.
func TestOpens(t *testing.T) {
	w := newQuiet(t)
	for _, role := range bothRoles {
		if !spared(role) {
			w.benchOf(role, nil)
		}
	}
}

// A fault is planted in every branch of the C sources, one at a time, and the
// tests on frames are run: they must see it. First is found out which tests come
// by which spot, so that each fault meets only those that can see it; what no
// test ever saw otherwise is listed. MUTATE is "seen", for that list alone,
// "all", or how many faults, by chance; MUTATE_FILE are files. It takes hours
// and is run on demand.
func TestMutants(t *testing.T) {
	text := os.Getenv("MUTATE")
	if text == "" || os.Getenv(mutantDir) != "" {
		t.Skip("run on demand: make mutate")
	}
	all := mutants(t)
	c := &campaign{plain: t.TempDir(), uses: map[string]map[lb.NodeRole]bool{}, first: map[string][]string{}, spots: spots(all), seen: map[lb.NodeRole]map[string][]byte{}}
	only := strings.Fields(os.Getenv("MUTATE_FILE"))
	if len(only) > 0 {
		all = slices.DeleteFunc(all, func(m *mutant) bool { return !slices.Contains(only, m.file) })
	}
	t.Logf("%d faults at %d spots", len(all), len(spots(all)))
	c.prepare(t)
	for _, line := range c.unseen() {
		t.Log(line)
	}
	if text == "seen" {
		return
	}
	if n, err := strconv.Atoi(text); err == nil {
		rand.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
		all = all[:min(n, len(all))]
	}
	work := make(chan batch)
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			for b := range work {
				c.run(t.Context(), b)
			}
		})
	}
	planned := batches(all, 24)
	slices.SortStableFunc(planned, func(x, y batch) int { return min(len(y), 2) - min(len(x), 2) })
	for _, b := range planned {
		work <- b
	}
	close(work)
	wg.Wait()
	summary(t, all)
}

// prepare compiles the sources without a fault, and finds out which suites come by which spots.
func (c *campaign) prepare(t *testing.T) {
	t.Helper()
	if err := os.CopyFS(c.plain, os.DirFS("bpf")); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
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
		c.seen[role] = map[string][]byte{}
		wg.Go(func() {
			if err := c.look(t.Context(), role, 0, len(c.spots)); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if t.Failed() {
		t.FailNow()
	}
}

// summary says what became of the mutants, and fails when one survived.
func summary(t *testing.T, all []*mutant) {
	t.Helper()
	killed, unrun := map[string]int{}, map[string]int{}
	n := 0
	for _, m := range all {
		switch {
		case m.killed != "":
			killed[m.killed]++
			n++
		case m.how != "":
			unrun[m.how]++
		default:
			t.Errorf("survived: %v", m)
		}
	}
	t.Logf("%d killed, %v could not be told apart or run; by %v", n, unrun, killed)
}

// look runs all suites on programs of the role that say which spots are true and
// which are not. Where not all can be watched at once, it takes halves of them.
func (c *campaign) look(ctx context.Context, role lb.NodeRole, from, to int) error {
	dir, err := os.MkdirTemp("", "watched")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if err := watched(dir, c.spots, func(i int) bool { return from <= i && i < to }); err != nil {
		return err
	}
	err = compileRole(ctx, dir, role)
	if err == nil {
		if failed, out := c.test(ctx, dir, 0, "TestOpens", role); failed != "" {
			err = errors.New(string(out))
		}
	}
	if err != nil {
		if to-from < 2 {
			fmt.Printf("%s: %s:%d cannot be watched\n", role, c.spots[from].file, c.spots[from].line)
			return nil
		}
		return errors.Join(c.look(ctx, role, from, (from+to)/2), c.look(ctx, role, (from+to)/2, to))
	}
	for _, suite := range suites() {
		seen := filepath.Join(dir, "seen")
		if failed, out := c.test(ctx, dir, 0, suite, role, seenFile+"="+seen); failed != "" { // what fails without a fault says nothing about one
			return fmt.Errorf("%s, without a fault: %v\n%s", suite, failed, out)
		}
		now, err := os.ReadFile(seen)
		if err != nil {
			continue // of the other role's programs alone
		}
		os.Remove(seen)
		c.mu.Lock()
		was := c.seen[role][suite]
		for i := range was {
			now[i] |= was[i]
		}
		c.seen[role][suite] = now
		c.mu.Unlock()
	}
	return nil
}

// unseen lists what no suite has seen a spot be.
func (c *campaign) unseen() []string {
	var out []string
	for i, s := range c.spots {
		var was [2]bool
		for _, bySuite := range c.seen {
			for _, seen := range bySuite {
				was[0], was[1] = was[0] || seen[2*i] != 0, was[1] || seen[2*i+1] != 0
			}
		}
		if !was[0] || !was[1] {
			out = append(out, fmt.Sprintf("%s %s:%d: %s", map[[2]bool]string{{}: "never run  ", {true, false}: "never true ", {false, true}: "never false"}[was], s.file, s.line, s.text))
		}
	}
	return out
}

// seenFile names the file that notes which spots were true and which were not.
const seenFile = "SALLYPORT_SEEN"

var seenLock sync.Mutex

// noteSeen adds what a datapath's programs told of their spots, when its test ends.
func noteSeen(t testing.TB, d *Datapath) {
	name := os.Getenv(seenFile)
	if name == "" || d.vars["places_seen"] == nil {
		return
	}
	m, err := d.maps[".bss"].Clone()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		defer m.Close()
		seenLock.Lock()
		defer seenLock.Unlock()
		var now []byte
		if err := m.Lookup(uint32(0), &now); err != nil {
			t.Fatal(err)
		}
		before, _ := os.ReadFile(name)
		for i := range before {
			now[i] |= before[i]
		}
		if err := os.WriteFile(name, now, 0o600); err != nil {
			t.Fatal(err)
		}
	})
}
