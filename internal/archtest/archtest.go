// SPDX-License-Identifier: Apache-2.0

// Package archtest holds the house rules that the compiler cannot check:
// which room may import which, what is pure, where a packet is dropped, how
// long a function may be. Each rule is a function of a Tree, so each is tested
// on a planted violation as well as on the real tree.
package archtest

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"slices"
	"strings"
)

// Module is the import path of the project.
const Module = "github.com/sallyport/sallyport"

// A Fault is one breach of one rule.
type Fault struct {
	File string // relative to the top of the tree; "" when the breach is not in one file
	Line int    // 1-based; 0 when the whole file is meant
	Text string // what is wrong and what would be right
}

// String is the fault as compilers write theirs.
func (f Fault) String() string {
	if f.Line == 0 {
		return fmt.Sprintf("%s: %s", f.File, f.Text)
	}
	return fmt.Sprintf("%s:%d: %s", f.File, f.Line, f.Text)
}

// A Tree is the project's sources, parsed once for all rules.
type Tree struct {
	Go    []*GoFile
	Texts map[string]string // every other text file a rule reads: C, scripts, documents
	fset  *token.FileSet
}

// A GoFile is one parsed Go file.
type GoFile struct {
	Path      string
	Dir       string
	Room      string // the folder under internal/, or "cmd"; "" elsewhere
	Text      string
	AST       *ast.File
	Test      bool // name ends in _test.go
	Generated bool // says so as https://go.dev/s/generatedcode asks
}

// skipped are folders without sources of ours.
var skipped = []string{".git", "bin", "testdata", ".cache"}

// Load reads and parses every source below the top of fsys. A file that does
// not parse is an error: no rule can speak about it.
func Load(fsys fs.FS) (*Tree, error) {
	t := &Tree{Texts: map[string]string{}, fset: token.NewFileSet()}
	err := fs.WalkDir(fsys, ".", func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && slices.Contains(skipped, d.Name()):
			return fs.SkipDir
		case d.IsDir():
			return nil
		}
		return t.add(fsys, name)
	})
	return t, err
}

func (t *Tree) add(fsys fs.FS, name string) error {
	ext := path.Ext(name)
	switch {
	case slices.Contains([]string{".go", ".c", ".h", ".sh", ".md", ".proto"}, ext), strings.HasPrefix(name, ".ci/"):
	default:
		return nil
	}
	data, err := fs.ReadFile(fsys, name)
	if err != nil {
		return err
	}
	if ext != ".go" {
		t.Texts[name] = string(data)
		return nil
	}
	file, err := parser.ParseFile(t.fset, name, data, parser.ParseComments)
	if err != nil {
		return err
	}
	t.Go = append(t.Go, &GoFile{
		Path: name, Dir: path.Dir(name), Room: roomOf(name), Text: string(data), AST: file,
		Test: strings.HasSuffix(name, "_test.go"), Generated: ast.IsGenerated(file),
	})
	return nil
}

// roomOf is the room a file lies in.
func roomOf(name string) string {
	switch parts := strings.Split(name, "/"); {
	case parts[0] == "cmd":
		return "cmd"
	case parts[0] == "internal" && len(parts) > 2:
		return parts[1]
	}
	return ""
}

func (t *Tree) at(f *GoFile, pos token.Pos, format string, args ...any) Fault {
	return Fault{File: f.Path, Line: t.fset.Position(pos).Line, Text: fmt.Sprintf(format, args...)}
}

// sources are the files that rules about our own code apply to.
func (t *Tree) sources() []*GoFile {
	var own []*GoFile
	for _, f := range t.Go {
		if !f.Test && !f.Generated {
			own = append(own, f)
		}
	}
	return own
}
