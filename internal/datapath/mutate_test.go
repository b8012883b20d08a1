// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"bytes"
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

	"github.com/cilium/ebpf"

	"github.com/sallyport/sallyport/internal/lb"
)

// mutantDir names the folder of other objects than the committed ones, for a
// run of the tests on a mutant.
const mutantDir = "SALLYPORT_MUTANT"

// mutantOf gives the role's mutant when the tests are run on one, else nil.
func mutantOf(role lb.NodeRole) func() (*ebpf.CollectionSpec, error) {
	dir := os.Getenv(mutantDir)
	if dir == "" {
		return nil
	}
	return func() (*ebpf.CollectionSpec, error) {
		return ebpf.LoadCollectionSpec(filepath.Join(dir, string(role)+".o"))
	}
}

// A mutant is one edit of the C sources.
type mutant struct {
	file        string
	line        int
	at, end     int // bytes of the file that are replaced
	old, new    string
	killed, how string // by which test; or why it could not be run
}

func (m *mutant) String() string {
	return fmt.Sprintf("%s:%d: %s → %s", m.file, m.line, m.old, m.new)
}

// mutants lists an edit for every branch of the sources: each condition turned
// round, and each of its comparisons and connections made another one.
func mutants(t *testing.T) []*mutant {
	t.Helper()
	var all []*mutant
	files, err := filepath.Glob("bpf/*.[ch]")
	if err != nil {
		t.Fatal(err)
	}
	branch := regexp.MustCompile(`\b(if|while) \(`)
	operator := regexp.MustCompile(` (&&|\|\||==|!=|<=|>=|<|>) `)
	other := map[string]string{"&&": "||", "||": "&&", "==": "!=", "!=": "==", "<=": "<", ">=": ">", "<": "<=", ">": ">="}
	for _, name := range files {
		raw, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if base := filepath.Base(name); base == "kernel.h" || base == "reason.h" {
			continue
		}
		code := withoutComments(raw)
		add := func(at, end int, text string) {
			all = append(all, &mutant{file: filepath.Base(name), line: 1 + bytes.Count(raw[:at], []byte("\n")), at: at, end: end, old: string(raw[at:end]), new: text})
		}
		for _, m := range branch.FindAllIndex(code, -1) {
			open := m[1] - 1
			end := closing(code, open)
			if code[m[0]] == 'i' {
				add(open, end, "(!"+string(raw[open:end])+")")
			}
		}
		for _, m := range operator.FindAllSubmatchIndex(code, -1) {
			line := code[bytes.LastIndexByte(code[:m[0]], '\n')+1 : m[0]]
			if bytes.Contains(line, []byte("for (")) || bytes.HasPrefix(bytes.TrimSpace(line), []byte("#")) {
				continue // a loop's bound
			}
			add(m[2], m[3], other[string(code[m[2]:m[3]])])
		}
	}
	return all
}

// withoutComments blanks comments and strings, and leaves every byte in place.
func withoutComments(raw []byte) []byte {
	return regexp.MustCompile(`(?s)/\*.*?\*/|//[^\n]*|"[^"\n]*"`).ReplaceAllFunc(raw, func(c []byte) []byte {
		return bytes.Map(func(r rune) rune {
			if r == '\n' {
				return r
			}
			return ' '
		}, bytes.ToValidUTF8(c, nil))
	})
}

// closing is where the bracket that opens at open is closed, plus one.
func closing(code []byte, open int) int {
	depth := 0
	for i := open; i < len(code); i++ {
		switch code[i] {
		case '(':
			depth++
		case ')':
			if depth--; depth == 0 {
				return i + 1
			}
		}
	}
	return len(code)
}

// suites are the tests that a mutant has to get past, quickest first. All run
// the programs on frames; none needs another kernel than this one.
func suites() []string {
	return []string{
		"^(TestKernelTwinAtEveryEdge|TestKernelTwinAtStampedRevision|TestFrames)$",
		"^(TestEstablishedFlows|TestDirectTraffic|TestStrangersStayOutside|TestGatewaysOwnConnections|TestChooseFindsTheLiveTarget|TestDialledPeerDialsBack|TestPingIsNotAnswerToPing|TestRefusedThenAllowed|TestVouchedNoLonger|TestProxyMeetsDirectConnection|TestHalfClosedIsOpen|TestControlAddressIsNoKey|TestGatewayRefusesItsOwnAddresses|TestUnboundGroupCountsNothing|TestHostsReachNoSocketOfTheGateway)$",
		"^(TestScenarios|TestObserved.*|TestFlows.*|TestBefore.*|TestDHCP.*|TestARP|TestEIP.*|TestKernelTwinPrivate|TestBothHooks.*|TestOnlyTheProxy.*|TestGatewayPasses.*|TestHammer.*|TestPeersChangeWhole|TestReturn.*|TestTwoGatesLive)$",
	}
}

// run compiles the mutant and runs the suites on it until one fails.
func (m *mutant) run(ctx context.Context, dir, plain string) {
	if err := os.CopyFS(dir, os.DirFS("bpf")); err != nil {
		m.how = err.Error()
		return
	}
	raw, err := os.ReadFile(filepath.Join(dir, m.file))
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, m.file), slices.Concat(raw[:m.at], []byte(m.new), raw[m.end:]), 0o600)
	}
	if err != nil {
		m.how = err.Error()
		return
	}
	same := true
	for _, role := range []lb.NodeRole{lb.RoleGateway, lb.RoleHost} {
		object := filepath.Join(dir, string(role)+".o")
		if err := compileRole(ctx, dir, role); err != nil {
			m.how = "does not compile"
			return
		}
		one, err1 := codeOf(object)
		two, err2 := codeOf(filepath.Join(plain, string(role)+".o"))
		if same = same && bytes.Equal(one, two); err1 != nil || err2 != nil {
			m.how = errors.Join(err1, err2).Error()
			return
		}
	}
	if same {
		m.how = "compiles to the same"
		return
	}
	for _, suite := range suites() {
		cmd := exec.CommandContext(ctx, os.Args[0], "-test.run", suite, "-test.failfast", "-test.timeout", "240s")
		cmd.Env = append(os.Environ(), mutantDir+"="+dir)
		out, err := cmd.CombinedOutput()
		if err == nil {
			continue
		}
		m.killed = "a crash"
		if found := regexp.MustCompile(`--- FAIL: (\S+)`).FindAllSubmatch(out, -1); len(found) > 0 {
			m.killed = string(found[len(found)-1][1])
		}
		if bytes.Contains(out, []byte("load program")) {
			m.killed = "the verifier"
		}
		return
	}
}

// compileRole compiles a role's sources in dir.
func compileRole(ctx context.Context, dir string, role lb.NodeRole) error {
	out, err := exec.CommandContext(ctx, "clang-19", "-O2", "-g", "-mcpu=v3", "-nostdinc", "-Wall", "-Wno-unused-function", "-target", "bpfel",
		"-c", filepath.Join(dir, string(role)+".bpf.c"), "-o", filepath.Join(dir, string(role)+".o")).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%w\n%s", err, out)
	}
	return nil
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

// A fault is planted in every branch of the C sources, one at a time, and the
// tests on frames are run: they must see it. MUTATE is "all", or how many of
// them, by chance; MUTATE_FILE one file's. It takes hours and is run on demand.
func TestMutants(t *testing.T) {
	text := os.Getenv("MUTATE")
	if text == "" || os.Getenv(mutantDir) != "" {
		t.Skip("run on demand: make mutate")
	}
	all := slices.DeleteFunc(mutants(t), func(m *mutant) bool {
		only := os.Getenv("MUTATE_FILE")
		return only != "" && m.file != only
	})
	t.Logf("%d places", len(all))
	if n, err := strconv.Atoi(text); err == nil {
		rand.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
		all = all[:min(n, len(all))]
	}
	plain := t.TempDir()
	if err := os.CopyFS(plain, os.DirFS("bpf")); err != nil {
		t.Fatal(err)
	}
	for _, role := range []lb.NodeRole{lb.RoleGateway, lb.RoleHost} {
		if err := compileRole(t.Context(), plain, role); err != nil {
			t.Fatal(err)
		}
	}
	for _, suite := range suites() { // what fails without a fault says nothing about one
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run", suite, "-test.failfast", "-test.timeout", "240s")
		cmd.Env = append(os.Environ(), mutantDir+"="+plain)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("without a fault: %v\n%s", err, out)
		}
	}
	work := make(chan *mutant)
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			for m := range work {
				dir, err := os.MkdirTemp("", "mutant")
				if err != nil {
					m.how = err.Error()
					continue
				}
				began := time.Now()
				m.run(t.Context(), dir, plain)
				os.RemoveAll(dir)
				fmt.Printf("%-14s %5.1fs  %v\n", map[bool]string{true: m.killed + m.how, false: "SURVIVED"}[m.killed+m.how != ""], time.Since(began).Seconds(), m)
			}
		})
	}
	for _, m := range all {
		work <- m
	}
	close(work)
	wg.Wait()
	killed, unrun := 0, map[string]int{}
	var survived []string
	for _, m := range all {
		switch {
		case m.killed != "":
			killed++
		case m.how != "":
			unrun[m.how]++
		default:
			survived = append(survived, m.String())
		}
	}
	t.Logf("%d killed, %d survived, %v could not be told apart or run", killed, len(survived), unrun)
	for _, s := range survived {
		t.Log("survived: ", s)
	}
}
