// SPDX-License-Identifier: Apache-2.0

package archtest

import (
	"fmt"
	"go/ast"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// drops are the return codes with which a program throws a packet away.
var drops = []string{"TC_ACT_SHOT", "XDP_DROP"}

// comments of C, which may speak of a drop as often as they like.
var comments = regexp.MustCompile(`(?s)/\*.*?\*/|//[^\n]*`)

// OneDrop enforces that the programs below folder throw packets away in
// exactly one statement per hook, and so never without counting a reason.
func OneDrop(t *Tree, folder string) []Fault {
	var faults []Fault
	places := map[string][]string{}
	for _, name := range sortedNames(t.Texts) {
		ext := path.Ext(name)
		if !strings.HasPrefix(name, folder) || ext != ".c" && ext != ".h" {
			continue
		}
		for number, line := range strings.Split(blank(t.Texts[name]), "\n") {
			for _, word := range drops {
				if uses(line, word) {
					places[word] = append(places[word], fmt.Sprintf("%s:%d", name, number+1))
				}
			}
		}
	}
	for _, word := range drops {
		if n := len(places[word]); n > 1 {
			faults = append(faults, Fault{File: folder, Text: fmt.Sprintf("%s stands in %d places (%s): one statement drops, with a reason", word, n, strings.Join(places[word], ", "))})
		}
	}
	if len(places["TC_ACT_SHOT"]) == 0 {
		faults = append(faults, Fault{File: folder, Text: "no program drops a packet"})
	}
	return faults
}

// uses reports whether a line uses word; giving it its number is not using it.
func uses(line, word string) bool {
	return regexp.MustCompile(`\b`+word+`\b`).MatchString(line) && !regexp.MustCompile(`#define\s+`+word+`|\b`+word+`\s*=`).MatchString(line)
}

// blank replaces C comments by as many empty lines as they had.
func blank(text string) string {
	return comments.ReplaceAllStringFunc(text, func(c string) string { return strings.Repeat("\n", strings.Count(c, "\n")) })
}

var decisionName = regexp.MustCompile(`^docs/decisions/(\d{4})-[a-z0-9-]+\.md$`)

// Decisions enforces that decision records are numbered from 0001 without a
// gap and each opens with its number.
func Decisions(t *Tree) []Fault {
	var faults []Fault
	next := 1
	for _, name := range sortedNames(t.Texts) {
		if path.Dir(name) != "docs/decisions" {
			continue
		}
		match := decisionName.FindStringSubmatch(name)
		if match == nil {
			faults = append(faults, Fault{File: name, Text: "a decision is named NNNN-short-title.md"})
			continue
		}
		if number, _ := strconv.Atoi(match[1]); number != next {
			faults = append(faults, Fault{File: name, Text: fmt.Sprintf("the next decision is %04d", next)})
		}
		if !strings.HasPrefix(t.Texts[name], fmt.Sprintf("# %s. ", match[1])) {
			faults = append(faults, Fault{File: name, Line: 1, Text: fmt.Sprintf("must open with \"# %s. \" and its title", match[1])})
		}
		next++
	}
	return faults
}

var (
	span   = regexp.MustCompile("`([^`\n]+)`")
	dotted = regexp.MustCompile(`^([a-z0-9]+)\.([A-Za-z]\w*)(\.[A-Za-z]\w*)?$`)
	called = regexp.MustCompile(`^([a-z_]\w*)\(\)$`)
	filed  = regexp.MustCompile(`^[\w.-]+(/[\w.-]+)+/?$`)
)

// Named enforces that what a document calls by name exists: `room.Symbol` and
// `room.Type.Method` in Go, `function()` in C or Go, and `path/to/file`.
func Named(t *Tree, document string, top fs.FS) []Fault {
	var faults []Fault
	declared := t.declared()
	for number, line := range strings.Split(t.Texts[document], "\n") {
		for _, m := range span.FindAllStringSubmatch(line, -1) {
			if text := m[1]; !t.exists(text, declared, top) {
				faults = append(faults, Fault{File: document, Line: number + 1, Text: fmt.Sprintf("`%s` is not in the tree", text)})
			}
		}
	}
	return faults
}

func (t *Tree) exists(text string, declared map[string]bool, top fs.FS) bool {
	if m := dotted.FindStringSubmatch(text); m != nil {
		if _, room := rooms[m[1]]; room {
			return declared[m[1]+"."+m[2]+m[3]]
		}
		return true
	}
	if m := called.FindStringSubmatch(text); m != nil {
		return declared["."+m[1]] || t.inC(m[1])
	}
	if filed.MatchString(text) {
		first, _, _ := strings.Cut(text, "/")
		if _, err := fs.Stat(top, first); err != nil {
			return true // not a path of ours: 10.0.0.0/8, text/plain
		}
		_, err := fs.Stat(top, strings.TrimSuffix(text, "/"))
		return err == nil
	}
	return true
}

// inC reports whether a C source defines the function or program.
func (t *Tree) inC(name string) bool {
	definition := regexp.MustCompile(`(?m)^[A-Za-z_][^;=\n]*\b` + name + `\(`)
	for file, text := range t.Texts {
		if ext := path.Ext(file); (ext == ".c" || ext == ".h") && definition.MatchString(text) {
			return true
		}
	}
	return false
}

// declared holds room.Symbol, room.Type.Method and, for functions, .name.
func (t *Tree) declared() map[string]bool {
	names := map[string]bool{}
	for _, f := range t.Go {
		for _, d := range f.AST.Decls {
			switch d := d.(type) {
			case *ast.FuncDecl:
				names["."+d.Name.Name] = true
				if d.Recv == nil {
					names[f.Room+"."+d.Name.Name] = true
				} else if id := root(receiver(d.Recv.List[0].Type)); id != nil {
					names[f.Room+"."+id.Name+"."+d.Name.Name] = true
				}
			case *ast.GenDecl:
				for _, s := range d.Specs {
					switch s := s.(type) {
					case *ast.TypeSpec:
						names[f.Room+"."+s.Name.Name] = true
					case *ast.ValueSpec:
						for _, id := range s.Names {
							names[f.Room+"."+id.Name] = true
						}
					}
				}
			}
		}
	}
	return names
}

func sortedNames(m map[string]string) []string {
	names := make([]string, 0, len(m))
	for name := range m {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}
