// SPDX-License-Identifier: Apache-2.0

// Package bench measures the whole product in its lab, beside its peers where
// there are any. Its figures stand in the output of `make bench` and in
// bench.json. It is for tests only.
package bench

import (
	"cmp"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"slices"
	"testing"
)

// file is where the figures of all benchmarks are kept, at the top of the tree,
// two folders above every room; it is not committed.
const file = "../../bench.json"

// A Row is one figure. Ratio is ours ÷ theirs, less is better; Theirs is nil
// when there is no peer or it could not run.
type Row struct {
	ID     string     `json:"id"`
	Name   string     `json:"name"`
	Unit   string     `json:"unit"`
	Ours   float64    `json:"ours"`
	Theirs *float64   `json:"theirs"`
	Peer   string     `json:"peer"`
	Ratio  *float64   `json:"ratio"`
	Goal   string     `json:"goal"`
	Spread [2]float64 `json:"spread"` // of ours: lowest and highest round, or p50 and p99
}

// Write puts rows into the file, in place of older ones with the same id.
func Write(b testing.TB, rows ...Row) {
	b.Helper()
	var all struct {
		Rows []Row `json:"rows"`
	}
	data, err := os.ReadFile(file)
	if err == nil {
		err = json.Unmarshal(data, &all)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		b.Fatal(err)
	}
	for _, r := range rows {
		all.Rows = slices.DeleteFunc(all.Rows, func(old Row) bool { return old.ID == r.ID })
		all.Rows = append(all.Rows, r)
	}
	slices.SortFunc(all.Rows, func(a, b Row) int { return cmp.Compare(a.ID, b.ID) })
	if data, err = json.MarshalIndent(all, "", "  "); err != nil {
		b.Fatal(err)
	}
	if err := os.WriteFile(file, append(data, '\n'), 0o644); err != nil {
		b.Fatal(err)
	}
}
