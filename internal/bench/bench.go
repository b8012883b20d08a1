// SPDX-License-Identifier: Apache-2.0

// Package bench measures the whole product in its lab, beside its peers where
// there are any. Its figures stand in the output of `make bench` and in
// bench.json. It is for tests only.
package bench

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"
)

// file is where the figures of all benchmarks are kept, at the top of the tree,
// two folders above every room; it is not committed.
const file = "../../bench.json"

// A Row is one figure: medians of interleaved rounds. Ratio is ours ÷ theirs,
// less is better. Theirs is nil when the peer could not run, and Why says so.
type Row struct {
	ID      string     `json:"id"`
	Name    string     `json:"name"`
	Unit    string     `json:"unit"`
	Ours    float64    `json:"ours"`
	Theirs  *float64   `json:"theirs"`
	Peer    string     `json:"peer"`
	Ratio   *float64   `json:"ratio"`
	Goal    string     `json:"goal"`
	Met     *bool      `json:"met"`    // nil: there is no goal, or nothing to hold it against
	Spread  [2]float64 `json:"spread"` // of ours: lowest and highest round, or p50 and p99
	Machine string     `json:"machine"`
	Why     string     `json:"why,omitempty"`
}

// A Goal is a row that has to be in the table, and what it is held against.
type Goal struct {
	ID, Name, Unit, Peer string
	Max                  float64 // greatest ratio; 0: none
}

// Wanted reports whether any of the rows is asked for: ROWS names the ids, or
// beginnings of them, apart by spaces or commas; empty means all.
func Wanted(ids ...string) bool {
	want := strings.FieldsFunc(os.Getenv("ROWS"), func(r rune) bool { return r == ' ' || r == ',' })
	return len(want) == 0 || slices.ContainsFunc(want, func(w string) bool {
		return slices.ContainsFunc(ids, func(id string) bool { return strings.HasPrefix(id, w) })
	})
}

// middle is the median; v is sorted by it.
func middle(v []float64) float64 {
	slices.Sort(v)
	return v[len(v)/2]
}

// Fill makes the row of an id from what each round measured. No round of
// theirs means that the peer could not run: why says the reason.
func Fill(id string, ours, theirs []float64, why string) Row {
	r := Row{ID: id, Why: why}
	if len(ours) > 0 {
		r.Ours = middle(ours)
		r.Spread = [2]float64{ours[0], ours[len(ours)-1]}
	}
	if len(theirs) > 0 && len(ours) > 0 {
		value := middle(theirs)
		ratio := r.Ours / value
		r.Theirs, r.Ratio = &value, &ratio
	}
	return r
}

// complete adds what the list of goals says about a row.
func (r Row) complete() Row {
	r.Machine = machine()
	for _, g := range Goals() {
		if g.ID != r.ID {
			continue
		}
		r.Name, r.Unit, r.Peer = g.Name, g.Unit, g.Peer
		if g.Max != 0 {
			r.Goal = fmt.Sprintf("<= %.3g", g.Max)
		}
		if g.Max != 0 && r.Ratio != nil {
			met := *r.Ratio <= g.Max
			r.Met = &met
		}
	}
	return r
}

// machine says where the figures come from.
func machine() string {
	model := runtime.GOARCH
	if data, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for line := range strings.Lines(string(data)) {
			if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
				model = strings.TrimSpace(value)
				break
			}
		}
	}
	release, _ := os.ReadFile("/proc/sys/kernel/osrelease")
	return fmt.Sprintf("%d x %s, Linux %s", runtime.NumCPU(), model, strings.TrimSpace(string(release)))
}

// load is the file's rows; none when there is no file.
func load() ([]Row, error) {
	var all struct {
		Rows []Row `json:"rows"`
	}
	data, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err == nil {
		err = json.Unmarshal(data, &all)
	}
	return all.Rows, err
}

// Write prints rows and puts them into the file, in place of older ones with
// the same id.
func Write(b testing.TB, rows ...Row) {
	b.Helper()
	all, err := load()
	if err != nil {
		b.Fatal(err)
	}
	for i := range rows {
		rows[i] = rows[i].complete()
		all = slices.DeleteFunc(all, func(old Row) bool { return old.ID == rows[i].ID })
		all = append(all, rows[i])
	}
	slices.SortFunc(all, func(a, b Row) int { return cmp.Compare(a.ID, b.ID) })
	data, err := json.MarshalIndent(map[string]any{"rows": all}, "", "  ")
	if err != nil {
		b.Fatal(err)
	}
	if err := os.WriteFile(file, append(data, '\n'), 0o644); err != nil {
		b.Fatal(err)
	}
	fmt.Print(Table(rows))
}

// Table prints rows for people.
func Table(rows []Row) string {
	var t strings.Builder
	fmt.Fprintf(&t, "%-18s %10s %-18s %10s  %6s  %-8s %-4s %s\n", "id", "ours", "(low..high)", "theirs", "ratio", "goal", "met", "what")
	for _, r := range rows {
		theirs, ratio, met := "-", "-", "-"
		if r.Theirs != nil {
			theirs, ratio = figure(*r.Theirs), fmt.Sprintf("%.3f", *r.Ratio)
		}
		if r.Met != nil {
			met = map[bool]string{true: "yes", false: "NO"}[*r.Met]
		}
		what := fmt.Sprintf("%s, %s", r.Name, r.Unit)
		if r.Peer != "" {
			what += " / " + r.Peer
		}
		if r.Why != "" {
			what += " (" + r.Why + ")"
		}
		fmt.Fprintf(&t, "%-18s %10s %-18s %10s  %6s  %-8s %-4s %s\n", r.ID, figure(r.Ours),
			"("+figure(r.Spread[0])+".."+figure(r.Spread[1])+")", theirs, ratio, r.Goal, met, what)
	}
	return t.String()
}

func figure(v float64) string {
	if v >= 1000 || v <= -1000 {
		return fmt.Sprintf("%.0f", v)
	}
	return fmt.Sprintf("%.3g", v)
}
