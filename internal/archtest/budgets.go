// SPDX-License-Identifier: Apache-2.0

package archtest

import (
	"fmt"
	"go/ast"
	"path"
	"regexp"
	"strings"
)

// The budgets of length, in lines.
const (
	maxFunction = 80
	maxFile     = 500
)

// Lengths enforces the budgets of functions and files. Tests are free: a table
// is as long as its cases.
func Lengths(t *Tree) []Fault {
	var faults []Fault
	for _, f := range t.sources() {
		if n := strings.Count(f.Text, "\n"); n > maxFile {
			faults = append(faults, Fault{File: f.Path, Text: fmt.Sprintf("%d lines, at most %d: split it by what it is about", n, maxFile)})
		}
		for _, d := range f.AST.Decls {
			fn, ok := d.(*ast.FuncDecl)
			if !ok {
				continue
			}
			if n := t.fset.Position(fn.End()).Line - t.fset.Position(fn.Pos()).Line + 1; n > maxFunction {
				faults = append(faults, t.at(f, fn.Pos(), "func %s has %d lines, at most %d", fn.Name.Name, n, maxFunction))
			}
		}
	}
	return faults
}

// Documented enforces that each package has a comment and each exported symbol
// one that opens with its name.
func Documented(t *Tree) []Fault {
	var faults []Fault
	packages := map[string]bool{}
	first := map[string]*GoFile{}
	for _, f := range t.sources() {
		packages[f.Dir] = packages[f.Dir] || f.AST.Doc != nil
		if first[f.Dir] == nil {
			first[f.Dir] = f
		}
		for _, d := range f.AST.Decls {
			switch d := d.(type) {
			case *ast.FuncDecl:
				if exportedFunc(d) && !opens(d.Doc, d.Name.Name) {
					faults = append(faults, t.at(f, d.Pos(), "func %s needs a comment that opens with its name", d.Name.Name))
				}
			case *ast.GenDecl:
				faults = append(faults, t.undocumented(f, d)...)
			}
		}
	}
	for dir, has := range packages {
		if !has {
			faults = append(faults, t.at(first[dir], first[dir].AST.Package, "package %s has no comment", first[dir].AST.Name.Name))
		}
	}
	return faults
}

func (t *Tree) undocumented(f *GoFile, gen *ast.GenDecl) []Fault {
	var faults []Fault
	grouped := gen.Lparen.IsValid() && gen.Doc != nil // "The protocols that rules can name." speaks for all of them
	for _, s := range gen.Specs {
		var names []*ast.Ident
		var docs []*ast.CommentGroup
		switch s := s.(type) {
		case *ast.TypeSpec:
			names, docs = []*ast.Ident{s.Name}, []*ast.CommentGroup{s.Doc, gen.Doc}
		case *ast.ValueSpec:
			names, docs = s.Names, []*ast.CommentGroup{s.Doc, gen.Doc}
			grouped = grouped || s.Comment != nil
		default:
			continue
		}
		for _, name := range names {
			if name.IsExported() && !grouped && !opens(docs[0], name.Name) && !opens(docs[1], name.Name) {
				faults = append(faults, t.at(f, name.Pos(), "%s %s needs a comment that opens with its name", gen.Tok, name.Name))
			}
		}
	}
	return faults
}

// exportedFunc reports whether a reader of the package's documentation sees fn.
func exportedFunc(fn *ast.FuncDecl) bool {
	if !fn.Name.IsExported() {
		return false
	}
	if fn.Recv == nil || len(fn.Recv.List) == 0 {
		return true
	}
	id := root(receiver(fn.Recv.List[0].Type))
	return id == nil || id.IsExported()
}

// receiver strips type parameters from a receiver's type.
func receiver(e ast.Expr) ast.Expr {
	if list, ok := e.(*ast.IndexListExpr); ok {
		return list.X
	}
	return e
}

func opens(doc *ast.CommentGroup, name string) bool {
	if doc == nil {
		return false
	}
	text := doc.Text()
	for _, article := range []string{"A ", "An ", "The "} {
		text = strings.TrimPrefix(text, article)
	}
	return regexp.MustCompile(`^` + name + `\b`).MatchString(text)
}

// licence is the line that every source file opens with; C that the kernel
// loads has its own pair of licences.
var licence = regexp.MustCompile(`SPDX-License-Identifier: (Apache-2\.0|\(?GPL-2\.0-only OR BSD-2-Clause\)?)`)

// Licensed enforces the licence line in Go, C and shell: the first, or the
// second below #!.
func Licensed(t *Tree) []Fault {
	var faults []Fault
	check := func(name, text string) {
		lines := strings.SplitN(text, "\n", 3)
		head := lines[0]
		if strings.HasPrefix(head, "#!") && len(lines) > 1 {
			head = lines[1]
		}
		if !licence.MatchString(head) {
			faults = append(faults, Fault{File: name, Line: 1, Text: "the first line must be the SPDX licence line"})
		}
	}
	for _, f := range t.Go {
		if !f.Generated {
			check(f.Path, f.Text)
		}
	}
	for name, text := range t.Texts {
		ext := path.Ext(name)
		isScript := ext == ".sh" || strings.HasPrefix(text, "#!")
		isC := ext == ".c" || ext == ".h"
		if isScript || isC && !strings.Contains(firstLines(text, 3), "Code generated") {
			check(name, text)
		}
	}
	return faults
}

func firstLines(text string, n int) string {
	lines := strings.SplitN(text, "\n", n+1)
	return strings.Join(lines[:min(n, len(lines))], "\n")
}

// unfinished are the words of work that was put off; such a note belongs in an
// issue, where somebody will find it.
var unfinished = regexp.MustCompile(`\b(TODO|FIXME|XXX|HACK)\b`)

// Finished refuses notes of unfinished work in comments.
func Finished(t *Tree) []Fault {
	var faults []Fault
	for _, f := range t.Go {
		if f.Generated || f.Room == "archtest" {
			continue
		}
		for _, group := range f.AST.Comments {
			for _, c := range group.List {
				if word := unfinished.FindString(c.Text); word != "" {
					faults = append(faults, t.at(f, c.Pos(), "%s: finish it or open an issue", word))
				}
			}
		}
	}
	return faults
}
