// SPDX-License-Identifier: Apache-2.0

package scenario

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// A Requirement is one row of docs/requirements.md.
type Requirement struct {
	ID        string
	Text      string
	Scenarios []string // names without .txtar
	Tests     []string // names of Go tests, where no packet can show it
	Reason    string   // why it, or the rest of it, is not yet due; "" when nothing is left
}

const notDue = "not yet due: "

// ParseRequirements reads the table: | id | requirement | covered by |. The
// last cell names scenarios and Go tests (Test…) in backquotes, or says "not yet
// due: " and why, or both.
func ParseRequirements(document string) ([]Requirement, error) {
	var rows []Requirement
	for number, line := range strings.Split(document, "\n") {
		if !strings.HasPrefix(line, "| SEED-") {
			continue
		}
		cells := strings.Split(line, "|")
		if len(cells) != 5 {
			return nil, fmt.Errorf("line %d: %d cells, want 3", number+1, len(cells)-2)
		}
		r := Requirement{ID: strings.TrimSpace(cells[1]), Text: strings.TrimSpace(cells[2])}
		covered, reason, _ := strings.Cut(cells[3], notDue)
		r.Reason = strings.TrimSpace(reason)
		for i, part := range strings.Split(covered, "`") {
			switch {
			case i%2 == 1 && strings.HasPrefix(part, "Test"):
				r.Tests = append(r.Tests, part)
			case i%2 == 1:
				r.Scenarios = append(r.Scenarios, part)
			}
		}
		rows = append(rows, r)
	}
	return rows, nil
}

// CheckRequirements compares the rows with what the scripts say they cover:
// ids without a gap, each with a scenario that says so too or with a reason.
func CheckRequirements(rows []Requirement, scripts []*Script) []error {
	covers := map[string][]string{} // id → scenarios
	for _, s := range scripts {
		for _, id := range s.Covers {
			covers[id] = append(covers[id], strings.TrimSuffix(s.Name, ".txtar"))
		}
	}
	var faults []error
	for i, r := range rows {
		if want := fmt.Sprintf("SEED-%02d", i+1); r.ID != want {
			return append(faults, fmt.Errorf("row %d is %s, want %s", i+1, r.ID, want))
		}
		slices.Sort(r.Scenarios)
		slices.Sort(covers[r.ID])
		if !slices.Equal(r.Scenarios, covers[r.ID]) {
			faults = append(faults, fmt.Errorf("%s: the row names %v, the scenarios that cover it are %v", r.ID, r.Scenarios, covers[r.ID]))
		}
		if len(r.Scenarios)+len(r.Tests) == 0 && r.Reason == "" {
			faults = append(faults, fmt.Errorf("%s: neither a scenario nor a test nor a reason why it is not yet due", r.ID))
		}
		delete(covers, r.ID)
	}
	for id, names := range covers {
		faults = append(faults, fmt.Errorf("%v cover %s, which is no row", names, id))
	}
	return faults
}

var coveringTest = regexp.MustCompile(`(?m)^// Covers: ([A-Z0-9 -]+)\nfunc (Test\w+)\(`)

// CheckTests compares the Go tests that rows name with what tests say they
// cover in the last line of their comment, "Covers: SEED-01 SEED-02"; sources
// are the texts of test files.
func CheckTests(rows []Requirement, sources []string) []error {
	covers := map[string][]string{} // id → tests
	for _, source := range sources {
		for _, m := range coveringTest.FindAllStringSubmatch(source, -1) {
			for id := range strings.FieldsSeq(m[1]) {
				covers[id] = append(covers[id], m[2])
			}
		}
	}
	var faults []error
	for _, r := range rows {
		slices.Sort(r.Tests)
		slices.Sort(covers[r.ID])
		if !slices.Equal(r.Tests, covers[r.ID]) {
			faults = append(faults, fmt.Errorf("%s: the row names %v, the tests that cover it are %v", r.ID, r.Tests, covers[r.ID]))
		}
		delete(covers, r.ID)
	}
	for id, names := range covers {
		faults = append(faults, fmt.Errorf("%v cover %s, which is no row", names, id))
	}
	return faults
}
