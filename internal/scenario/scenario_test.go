// SPDX-License-Identifier: Apache-2.0

package scenario

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// scripts are the scenario files, by name.
func scripts(t *testing.T) []*Script {
	t.Helper()
	all, err := ParseAll(os.DirFS("testdata"))
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// Every story on the reference engine, told rightly and with each decisive
// rule left out.
func TestRef(t *testing.T) {
	var count Count
	defer func() { t.Logf("ref: %v", count) }()
	for _, s := range scripts(t) {
		count.Add(s, "ref")
		t.Run(strings.TrimSuffix(s.Name, ".txtar"), func(t *testing.T) {
			ref := NewRef(s.Server...)
			defer func() {
				if err := ref.Close(); err != nil {
					t.Error(err)
				}
			}()
			if err := Run(t.Context(), ref, "ref", s); err != nil {
				t.Fatal(err)
			}
			if err := Sharp(t.Context(), ref, "ref", s); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestRequirements(t *testing.T) {
	document, err := os.ReadFile("../../docs/requirements.md")
	if err != nil {
		t.Fatal(err)
	}
	rows, err := ParseRequirements(string(document))
	if err != nil {
		t.Fatal(err)
	}
	if len(rows) != 67 {
		t.Errorf("%d rows, want 67", len(rows))
	}
	for _, fault := range CheckRequirements(rows, scripts(t)) {
		t.Error(fault)
	}
	for _, fault := range CheckTests(rows, testSources(t)) {
		t.Error(fault)
	}
	for _, r := range rows {
		if r.Reason != "" {
			t.Errorf("%s is due: %s", r.ID, r.Reason)
		}
	}
}

// testSources are the texts of all test files but this room's.
func testSources(t *testing.T) []string {
	t.Helper()
	var texts []string
	for _, pattern := range []string{"../*/*_test.go", "../../cmd/*/*_test.go"} {
		names, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range names {
			text, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			if !strings.HasPrefix(name, "../scenario/") {
				texts = append(texts, string(text))
			}
		}
	}
	return texts
}

func TestCheckTestsPlanted(t *testing.T) {
	source := "// A test.\n//\n// Covers: SEED-01 SEED-02\nfunc TestA(t *testing.T) {}\n"
	rows := func(first, second []string) []Requirement {
		return []Requirement{{ID: "SEED-01", Tests: first}, {ID: "SEED-02", Tests: second}}
	}
	for name, tt := range map[string]struct {
		rows []Requirement
		want string
	}{
		"whole":               {rows([]string{"TestA"}, []string{"TestA"}), ""},
		"no such test":        {rows([]string{"TestA", "TestB"}, []string{"TestA"}), "SEED-01: the row names"},
		"not said by the row": {rows([]string{"TestA"}, nil), "SEED-02: the row names"},
		"no such row":         {rows([]string{"TestA"}, []string{"TestA"})[:1], "which is no row"},
	} {
		var texts []string
		for _, f := range CheckTests(tt.rows, []string{source}) {
			texts = append(texts, f.Error())
		}
		if got := strings.Join(texts, "\n"); tt.want == "" && got != "" || !strings.Contains(got, tt.want) {
			t.Errorf("%s: faults %q, want %q", name, got, tt.want)
		}
	}
}

func TestCheckRequirementsPlanted(t *testing.T) {
	script := &Script{Name: "seed-01-x.txtar", Covers: []string{"SEED-01"}}
	table := func(rows ...string) string {
		return "| id | requirement | covered by |\n|---|---|---|\n" + strings.Join(rows, "\n")
	}
	tests := []struct{ name, table, want string }{
		{"whole", table("| SEED-01 | a | `seed-01-x` |", "| SEED-02 | b | not yet due: the console |"), ""},
		{"neither", table("| SEED-01 | a | `seed-01-x` |", "| SEED-02 | b | |"), "SEED-02: neither"},
		{"not said by the scenario", table("| SEED-01 | a | `seed-01-x` |", "| SEED-02 | b | `seed-01-x` |"), "SEED-02: the row names"},
		{"not said by the row", table("| SEED-01 | a | not yet due: later |"), "SEED-01: the row names"},
		{"gap", table("| SEED-02 | a | `seed-01-x` |"), "row 1 is SEED-02"},
		{"no such row", table(), "which is no row"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			rows, err := ParseRequirements(tt.table)
			if err != nil {
				t.Fatal(err)
			}
			var texts []string
			for _, f := range CheckRequirements(rows, []*Script{script}) {
				texts = append(texts, f.Error())
			}
			got := strings.Join(texts, "\n")
			if tt.want == "" && got != "" || !strings.Contains(got, tt.want) {
				t.Errorf("faults %q, want %q", got, tt.want)
			}
		})
	}
}

const story = `# A story.
covers SEED-99
decisive web 1
apply web
bind web-1 web
listen tcp 80 -> web-1:8080
send client-2 -> vip:80/tcp refused
verdict accept clb no_groups
verdict drop cvm no_match
send client-1 -> vip:80/tcp served
verdict accept clb no_groups
verdict accept cvm web rule 1
send client-3 -> vip:80/tcp refused
verdict accept clb no_groups
verdict drop cvm no_match
-- web --
accept tcp client-1 8080
drop tcp 10.0.0.0/8 1
`

// A story that is told wrongly fails, and says where and why.
func TestWrongStories(t *testing.T) {
	tests := []struct{ name, old, new, want string }{
		{"right", "", "", ""},
		{"wrong outcome", "80/tcp refused", "80/tcp served", "x.txtar:7: send client-2 -> vip:80/tcp served: want served, got refused"},
		{"wrong verdict", "web rule 1", "web rule 2", "no verdict accept cvm web rule 2"},
		{"verdict that nobody asserted", "verdict drop cvm no_match\n", "", "nobody expected verdict drop cvm no_match"},
		{"rule that decides nothing", "decisive web 1", "decisive web 2", "comes out the same without web 2"},
		{"unknown verb", "apply web", "launch web", "no such verb"},
		{"too few words", "bind web-1 web", "bind", "write bind"},
		{"no decisive rule", "decisive web 1\n", "", "no line says which rule is decisive"},
		{"decisive without rule", "decisive web 1", "decisive web 3", "has 2 such rules"},
		{"nothing served", "tcp served", "tcp refused", "nothing is served"},
		{"unknown group", "bind web-1 web", "bind web-1 wob", "no group wob"},
		{"unknown section", "apply web", "apply web wob", "no section -- wob --"},
		{"refused by the API", "client-1 8080", "client-1 80800", "ModifySecurityGroupPolicies"},
		{"another server", "send client-2", "spread client-1 -> vip:80/tcp web-2\nsend client-2", "want web-2, got web-1"},
		{"open flow that is not there", "send client-2", "still a served\nsend client-2", "no flow a"},
		{"open flow that is judged otherwise", "send client-2", "open a client-1 -> vip:80/tcp\nstill a refused\nsend client-2", "want refused, got served"},
		{"open flow that is refused", "send client-2", "open a client-2 -> vip:80/tcp\nsend client-2", "want served, got refused"},
		{"open flow without a way", "send client-2", "open a client-1 -> web-1:8080/tcp\nsend client-2", "write open FLOW"},
		{"choice of nothing", "send client-2", "choice 80 luck 7\nsend client-2", "write choice PORT"},
		{"verdict without send", "listen tcp 80 -> web-1:8080\nsend client-2 -> vip:80/tcp refused\n", "listen tcp 80 -> web-1:8080\n", "a verdict follows its send"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			text := strings.Replace(story, tt.old, tt.new, 1)
			s, err := Parse("x.txtar", []byte(text))
			if err == nil {
				ref := NewRef()
				if err = Run(t.Context(), ref, "ref", s); err == nil {
					err = Sharp(t.Context(), ref, "ref", s)
				}
				if closing := ref.Close(); closing != nil {
					t.Error(closing)
				}
			}
			switch {
			case tt.name == "right" && err != nil:
				t.Errorf("a right story fails: %v", err)
			case tt.name != "right" && (err == nil || !strings.Contains(err.Error(), tt.want)):
				t.Errorf("error %v, want %q", err, tt.want)
			}
		})
	}
}

// Whatever stands in a file, reading it ends, and what is read has its lines
// where the file has them.
func FuzzParse(f *testing.F) {
	f.Add([]byte(story))
	f.Add([]byte("targets 80 web-1:8080*0\nopen a client-1 -> vip:80/tcp\nstill a refused\nspread client-1 -> vip:80/tcp one\nkeep-flows clb on\nchoice 80 sticky 60\n"))
	f.Add([]byte("[lab]\n[ref] send\ndecisive web egress 1\n-- web --\negress: x\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := Parse("x.txtar", data)
		if err != nil {
			return
		}
		lines := strings.Split(string(data), "\n")
		for _, l := range s.Lines {
			if !strings.Contains(lines[l.Number-1], l.Verb) {
				t.Errorf("line %d is %q, not %q", l.Number, lines[l.Number-1], l.Verb)
			}
		}
	})
}
