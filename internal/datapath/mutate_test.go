// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"testing"

	"github.com/cilium/ebpf"

	"github.com/sallyport/sallyport/internal/lb"
)

// mutantDir names the folder of other objects than the committed ones, for a
// run of the tests on a mutant; mutantNumber which of the mutants in them is meant.
const (
	mutantDir    = "SALLYPORT_MUTANT"
	mutantNumber = "SALLYPORT_MUTANT_NUMBER"
)

// mutantOf gives the role's mutant when the tests are run on one, else nil.
func mutantOf(role lb.NodeRole) func() (*ebpf.CollectionSpec, error) {
	if dir := os.Getenv(mutantDir); dir == "" || !spared(role) {
		return mutantIn(os.Getenv(mutantDir), role)
	}
	return nil
}

func mutantIn(dir string, role lb.NodeRole) func() (*ebpf.CollectionSpec, error) {
	if dir == "" {
		return nil
	}
	return func() (*ebpf.CollectionSpec, error) {
		spec, err := ebpf.LoadCollectionSpec(filepath.Join(dir, string(role)+".o"))
		if err != nil {
			return nil, err
		}
		if v := spec.Variables["mutant_number"]; v != nil {
			n, _ := strconv.ParseUint(os.Getenv(mutantNumber), 10, 32)
			err = v.Set(uint32(n))
		}
		return spec, err
	}
}

// spared reports whether the tests are run on a mutant that changes nothing of
// the role's programs.
func spared(role lb.NodeRole) bool {
	dir := os.Getenv(mutantDir)
	if dir == "" {
		return false
	}
	_, err := os.Stat(filepath.Join(dir, string(role)+".o"))
	return err != nil
}

// A mutant is one edit of the C sources.
type mutant struct {
	file        string
	line        int
	at, end     int    // bytes of the file that are replaced
	from, to    int    // the expression around them, which can stand beside its other form
	text        string // the line, without what is around it
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
		first := len(all)
		add := func(at, end int, text string) {
			m := &mutant{file: filepath.Base(name), line: 1 + bytes.Count(raw[:at], []byte("\n")), at: at, end: end, old: string(raw[at:end]), new: text}
			m.text = string(bytes.TrimSpace(raw[bytes.LastIndexByte(raw[:at], '\n')+1 : at+bytes.IndexByte(raw[at:], '\n')]))
			m.from, m.to = expression(code, at, end)
			all = append(all, m)
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
			if bytes.Contains(line, []byte("for (")) || bytes.HasPrefix(bytes.TrimSpace(line), []byte("#")) || bytes.Contains(line, []byte("_Static_assert")) {
				continue // a loop's bound, or nothing that runs
			}
			add(m[2], m[3], other[string(code[m[2]:m[3]])])
		}
		widen(all[first:])
	}
	return all
}

// expression gives the bounds of the expression that the operator at at stands
// in: up to what binds less than any operator that is changed. A condition in
// brackets is one already.
func expression(code []byte, at, end int) (from, to int) {
	if code[at] == '(' {
		return at, end
	}
	depth := 0
	for from = at; from > 0; from-- {
		c := code[from-1]
		switch {
		case c == ')' || c == ']':
			depth++
		case depth > 0 && (c == '(' || c == '['):
			depth--
		case depth > 0:
		case bytes.IndexByte([]byte("([{},;?:"), c) >= 0 || c == '=' && bytes.IndexByte([]byte("=!<>"), code[from-2]) < 0 && code[from] != '=',
			bytes.HasSuffix(code[:from], []byte("return")):
			goto found
		}
	}
found:
	depth = 0
	for to = end; to < len(code); to++ {
		c := code[to]
		switch {
		case c == '(' || c == '[':
			depth++
		case depth > 0 && (c == ')' || c == ']'):
			depth--
		case depth > 0:
		case bytes.IndexByte([]byte(")]},;?:"), c) >= 0:
			return from, to
		}
	}
	return from, to
}

// widen makes expressions that stand within another, of a file's mutants, that
// other one, so that they are apart or the same.
func widen(all []*mutant) {
	for again := true; again; {
		again = false
		for _, m := range all {
			for _, o := range all {
				if o.from < m.to && m.from < o.to && (o.from < m.from || o.to > m.to) {
					m.from, m.to, again = min(m.from, o.from), max(m.to, o.to), true
				}
			}
		}
	}
}

// withoutComments blanks comments and strings, and leaves every byte in place.
func withoutComments(raw []byte) []byte {
	return regexp.MustCompile(`(?s)/\*.*?\*/|//[^\n]*|"[^"\n]*"`).ReplaceAllFunc(raw, func(c []byte) []byte {
		blank := bytes.Repeat([]byte(" "), len(c))
		for i := range c {
			if c[i] == '\n' {
				blank[i] = '\n'
			}
		}
		return blank
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
