// SPDX-License-Identifier: Apache-2.0

package archtest

import (
	"io/fs"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
)

const bpf = "internal/datapath/bpf/"

// rules are the house rules of one tree, by name.
func rules(top fs.FS) map[string]func(*Tree) []Fault {
	return map[string]func(*Tree) []Fault{
		"imports": Imports, "keepers": Keepers, "names": Names, "purity": Purity, "exits": Exits, "inits": Inits,
		"variables": Variables, "lengths": Lengths, "documented": Documented, "licensed": Licensed, "finished": Finished,
		"decisions": Decisions,
		"drops":     func(t *Tree) []Fault { return OneDrop(t, bpf) },
		"named":     func(t *Tree) []Fault { return Named(t, "docs/ARCHITECTURE.md", top) },
	}
}

func TestHouseRules(t *testing.T) {
	top := os.DirFS("../..")
	tree, err := Load(top)
	if err != nil {
		t.Fatal(err)
	}
	if len(tree.Go) < 10 {
		t.Fatalf("found only %d Go files: this is not the project's tree", len(tree.Go))
	}
	for name, rule := range rules(top) {
		t.Run(name, func(t *testing.T) {
			for _, f := range rule(tree) {
				t.Error(f)
			}
		})
	}
}

func TestNodeLinks(t *testing.T) {
	cmd := exec.Command("go", "list", "-deps", "./cmd/sallyport-node")
	cmd.Dir = "../.."
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	for _, f := range NodeLinks(strings.Fields(string(out))) {
		t.Error(f)
	}
}

func TestNodeLinksPlanted(t *testing.T) {
	deps := []string{"fmt", Module + "/internal/node", "go.etcd.io/bbolt", Module + "/internal/cloudapi"}
	if got := NodeLinks(deps); len(got) != 2 {
		t.Errorf("faults = %v, want one for etcd and one for cloudapi", got)
	}
}

const (
	spdx = "// SPDX-License-Identifier: Apache-2.0\n\n"
	cdx  = "/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */\n"
)

// clean is a small tree that keeps every rule; each case below breaks one.
func clean() map[string]string {
	return map[string]string{
		"internal/lb/lb.go": spdx + "// Package lb is small.\npackage lb\n\nimport \"net/netip\"\n\n// A Port is a number.\ntype Port uint16\n\n" +
			"// Any is every address.\nfunc Any() netip.Prefix { return netip.Prefix{} }\n",
		"internal/store/store.go": spdx + "// Package store keeps.\npackage store\n\nimport (\n\t\"errors\"\n\n\t_ \"go.etcd.io/bbolt\"\n\n\t\"" + Module + "/internal/lb\"\n)\n\n" +
			"// ErrFull is told when full.\nvar ErrFull = errors.New(\"full\")\n\nvar names = []string{\"a\"}\n\n" +
			"// Name is a name of p.\nfunc Name(p lb.Port) string { names := names; names[0] = \"b\"; return names[p] }\n",
		"cmd/sallyport/main.go":       spdx + "// Command sallyport is small.\npackage main\n\nimport \"os\"\n\nfunc main() { os.Exit(0) }\n",
		bpf + "kernel.h":              cdx + "enum {\n\tTC_ACT_SHOT = 2,\n};\n",
		bpf + "gateway.bpf.c":         cdx + "static int drop(void)\n{\n\treturn TC_ACT_SHOT; /* the only TC_ACT_SHOT */\n}\n",
		".ci/run":                     "#!/usr/bin/env bash\n# SPDX-License-Identifier: Apache-2.0\n",
		"docs/decisions/0001-wire.md": "# 0001. Wire\n",
		"docs/ARCHITECTURE.md":        "`drop()` in `internal/datapath/bpf/gateway.bpf.c`, `lb.Port`, `store.Name`, `10.0.0.0/8`, `make up`\n",
	}
}

func parse(t *testing.T, files map[string]string) (*Tree, fs.FS) {
	t.Helper()
	top := fstest.MapFS{}
	for name, text := range files {
		top[name] = &fstest.MapFile{Data: []byte(text)}
	}
	tree, err := Load(top)
	if err != nil {
		t.Fatal(err)
	}
	return tree, top
}

func TestCleanTree(t *testing.T) {
	tree, top := parse(t, clean())
	for name, rule := range rules(top) {
		for _, f := range rule(tree) {
			t.Errorf("%s: %v", name, f)
		}
	}
}

func TestPlanted(t *testing.T) {
	long := func(lines int) string { return strings.Repeat("\t_ = 0\n", lines) }
	gofile := func(pkg, body string) string {
		return spdx + "// Package " + pkg + " is planted.\npackage " + pkg + "\n\n" + body
	}
	tests := []struct {
		name, rule, file, text, want string
	}{
		{"wrong way", "imports", "internal/lb/x.go", gofile("lb", "import _ \""+Module+"/internal/store\"\n"), "lb may not import store"},
		{"halves meet", "imports", "internal/node/x.go", gofile("node", "import _ \""+Module+"/internal/control\"\n"), "node may not import control"},
		{"sub-package", "imports", "internal/health/sub/x.go", gofile("sub", "import _ \""+Module+"/internal/flow\"\n"), "health may not import flow"},
		{"unknown room", "imports", "internal/attic/x.go", gofile("attic", ""), `room "attic" is not in the table`},
		{"tests in a product", "imports", "cmd/sallyport/x.go", gofile("main", "import _ \""+Module+"/internal/scenario\"\n"), "scenario is for tests only"},
		{"second keeper", "keepers", "internal/lab/x.go", gofile("lab", "import _ \"github.com/cilium/ebpf/link\"\n"), "only datapath imports github.com/cilium/ebpf"},
		{"etcd elsewhere", "keepers", "internal/control/x.go", gofile("control", "import _ \"go.etcd.io/etcd/client/v3\"\n"), "only store imports"},
		{"nameless", "names", "internal/lab/util/x.go", gofile("util", ""), "package util is named for nothing"},
		{"nameless test", "names", "internal/lab/util/x_test.go", gofile("helpers_test", ""), "named for nothing"},
		{"clock", "purity", "internal/policy/x.go", gofile("policy", "import \"time\"\n\nvar _ = time.Now\n"), "may not use time.Now"},
		{"disk", "purity", "internal/path/x.go", gofile("path", "import _ \"os\"\n"), "may not import os"},
		{"network", "purity", "internal/snapshot/x.go", gofile("snapshot", "import _ \"net/http\"\n"), "may not import net/http"},
		{"log", "purity", "internal/flow/x.go", gofile("flow", "import _ \"log/slog\"\n"), "may not import log/slog"},
		{"chance", "purity", "internal/lb/x.go", gofile("lb", "import _ \"math/rand/v2\"\n"), "may not import math/rand/v2"},
		{"exit", "exits", "internal/lab/x.go", gofile("lab", "import \"os\"\n\nfunc f() { os.Exit(1) }\n"), "os.Exit outside cmd"},
		{"fatal", "exits", "internal/lab/x.go", gofile("lab", "import \"log\"\n\nfunc f() { log.Fatalf(\"\") }\n"), "log.Fatalf outside cmd"},
		{"init", "inits", "internal/lab/x.go", gofile("lab", "func init() {}\n"), "init"},
		{"written", "variables", "internal/lab/x.go", gofile("lab", "var seen = map[string]bool{}\n\nfunc f() { seen[\"a\"] = true }\n"), "seen changes"},
		{"counted", "variables", "internal/lab/x.go", gofile("lab", "var n = 0\n\nfunc f() { n++ }\n"), "n changes"},
		{"no value", "variables", "internal/lab/x.go", gofile("lab", "import \"sync\"\n\nvar mu sync.Mutex\n"), "starts without a value"},
		{"made", "variables", "internal/lab/x.go", gofile("lab", "var queue = make(chan int)\n"), "queue can change"},
		{"exported", "variables", "internal/lab/x.go", gofile("lab", "// Limit is open to all.\nvar Limit = 3\n"), "exported package variable Limit"},
		{"long function", "lengths", "internal/lab/x.go", gofile("lab", "func f() {\n"+long(79)+"}\n"), "func f has 81 lines"},
		{"long file", "lengths", "internal/lab/x.go", gofile("lab", strings.Repeat("\n", 500)), "at most 500"},
		{"bare function", "documented", "internal/lab/x.go", gofile("lab", "func Run() {}\n"), "func Run needs a comment"},
		{"wrong opening", "documented", "internal/lab/x.go", gofile("lab", "// runs it.\nfunc Run() {}\n"), "func Run needs a comment"},
		{"bare method", "documented", "internal/lab/x.go", gofile("lab", "// A Lab is one.\ntype Lab struct{}\n\nfunc (l *Lab) Run() {}\n"), "func Run needs a comment"},
		{"bare constant", "documented", "internal/lab/x.go", gofile("lab", "const Size = 3\n"), "const Size needs a comment"},
		{"bare package", "documented", "internal/lab/x.go", spdx + "package lab\n", "package lab has no comment"},
		{"no licence", "licensed", "internal/lab/x.go", "// Package lab.\npackage lab\n", "SPDX"},
		{"no licence in C", "licensed", bpf + "x.h", "#pragma once\n", "SPDX"},
		{"no licence in a script", "licensed", ".ci/other", "#!/bin/sh\necho\n", "SPDX"},
		{"put off", "finished", "internal/lab/x.go", gofile("lab", "// TODO: later\n"), "TODO"},
		{"second drop", "drops", bpf + "host.bpf.c", cdx + "int x(void) { return TC_ACT_SHOT; }\n", "stands in 2 places"},
		{"gap", "decisions", "docs/decisions/0003-gap.md", "# 0003. Gap\n", "the next decision is 0002"},
		{"wrong head", "decisions", "docs/decisions/0002-head.md", "# Head\n", "must open with"},
		{"wrong name", "decisions", "docs/decisions/notes.md", "# Notes\n", "is named NNNN-short-title.md"},
		{"no such symbol", "named", "docs/ARCHITECTURE.md", "`lb.Harbour`\n", "`lb.Harbour` is not in the tree"},
		{"no such function", "named", "docs/ARCHITECTURE.md", "`jettison()`\n", "`jettison()` is not in the tree"},
		{"no such file", "named", "docs/ARCHITECTURE.md", "`internal/lb/none.go`\n", "is not in the tree"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			files := clean()
			files[tt.file] = tt.text
			tree, top := parse(t, files)
			var texts []string
			for _, f := range rules(top)[tt.rule](tree) {
				texts = append(texts, f.String())
			}
			if !slices.ContainsFunc(texts, func(s string) bool { return strings.Contains(s, tt.want) }) {
				t.Errorf("faults %q, want one with %q", texts, tt.want)
			}
		})
	}
}

// A tree whose programs drop nothing has lost its gate.
func TestNothingDrops(t *testing.T) {
	files := clean()
	files[bpf+"gateway.bpf.c"] = cdx
	tree, _ := parse(t, files)
	if got := OneDrop(tree, bpf); len(got) != 1 {
		t.Errorf("faults = %v, want one", got)
	}
}

func TestLoadRefusesWhatDoesNotParse(t *testing.T) {
	if _, err := Load(fstest.MapFS{"x.go": {Data: []byte("pack age")}}); err == nil {
		t.Error("a file that does not parse was accepted")
	}
}
