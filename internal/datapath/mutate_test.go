// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/sallyport/sallyport/internal/lb"
)

// A mutant is one edit of the C sources.
type mutant struct {
	file        string
	line        int
	at, end     int    // bytes of the file that are replaced
	from, to    int    // the expression around them, which can stand beside its other form
	text        string // the line, without what is around it
	nth         int    // which of those that read like it in its file, from 1
	old, new    string
	killed, how string                   // by which test; or why it could not be run
	trials      map[lb.NodeRole][]string // those that come by
	seen        bool                     // some test came by
	tried       string                   // the last round of tests that it got past
	safe        bool                     // no pointer is checked there, so the verifier may take it
	took        float64
}

// name is how a table of faults names one, wherever it has moved to in its file.
func (m *mutant) name() string {
	name := fmt.Sprintf("%s | %s | %s → %s", m.file, m.text, m.old, m.new)
	if m.nth > 1 {
		name += fmt.Sprintf(" #%d", m.nth)
	}
	return name
}

// said is how a campaign names a fault that it leaves alive.
func (m *mutant) said() string {
	return fmt.Sprintf("%s:%d: %s: %s → %s", m.file, m.line, m.text, m.old, m.new)
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
		checks := checksOf(code)
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
		for _, m := range all[first:] {
			m.safe = !checks.Match(code[m.from:m.to])
		}
	}
	alike := map[string]int{}
	for _, m := range all {
		alike[m.name()]++
		m.nth = alike[m.name()]
	}
	return all
}

// checksOf finds, in the code of a file, whether a pointer points and whether a
// place is before the packet's end.
func checksOf(code []byte) *regexp.Regexp {
	names := map[string]bool{"end": true, "data_end": true}
	for _, m := range regexp.MustCompile(`[\w)] \*\*?(\w+)( =|[,;)])`).FindAllSubmatch(code, -1) {
		names[string(m[1])] = true
	}
	var all []string
	for name := range names {
		all = append(all, name)
	}
	slices.Sort(all)
	any := strings.Join(all, "|")
	return regexp.MustCompile(`!(` + any + `)\b[^.\->[]|\b[^\->.](` + any + `) (&&|\|\||\?)|(^|&& |\|\| |\()(` + any + `)( &&| \|\||\)|$)|> end|data_end|!w\.base|!hop\.to|bpf_map_lookup`)
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

// equivalents reads the table of faults that change nothing that a packet could
// show, with the reason for each: a line that begins with # says it of those
// below it.
func equivalents(t *testing.T) map[string]string {
	t.Helper()
	raw, err := os.ReadFile("testdata/equivalents.txt")
	if err != nil {
		t.Fatal(err)
	}
	all, why := map[string]string{}, ""
	for _, line := range bytes.Split(raw, []byte("\n")) {
		switch text := string(bytes.TrimSpace(line)); {
		case text == "":
			why = ""
		case text[0] == '#':
			why += text[1:]
		case why == "" || all[text] != "":
			t.Errorf("%s: without a reason, or twice", text)
		default:
			all[text] = why
		}
	}
	return all
}

// Each fault in the table of those that change nothing is one of the sources as
// they are.
func TestEquivalentsAreInTheSources(t *testing.T) {
	there := map[string]bool{}
	for _, m := range mutants(t) {
		there[m.name()] = true
	}
	for name := range equivalents(t) {
		if !there[name] {
			t.Errorf("testdata/equivalents.txt: no fault of the sources is %s", name)
		}
	}
}
