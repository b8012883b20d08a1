// SPDX-License-Identifier: Apache-2.0

package archtest

import (
	"go/ast"
	"go/token"
	"slices"
	"strconv"
	"strings"
)

// pure rooms are functions of values: no clock, disk, network, log or chance.
var pure = []string{"lb", "policy", "path", "snapshot", "flow"}

// impure are the packages through which the world comes in; "net" alone does
// not cover net/netip, which is only values.
var impure = []string{"os", "net", "log", "math/rand", "crypto/rand", "syscall", "io/ioutil", "testing"}

// clocks are the functions of package time that read or wait for the clock.
var clocks = []string{"Now", "Since", "Until", "Sleep", "After", "AfterFunc", "Tick", "NewTimer", "NewTicker"}

// Purity enforces that the pure rooms stay so.
func Purity(t *Tree) []Fault {
	var faults []Fault
	for _, f := range t.sources() {
		if !slices.Contains(pure, f.Room) {
			continue
		}
		for _, spec := range f.AST.Imports {
			name, err := strconv.Unquote(spec.Path.Value)
			if err == nil && isImpure(name) {
				faults = append(faults, t.at(f, spec.Pos(), "%s is pure and may not import %s", f.Room, name))
			}
		}
		ast.Inspect(f.AST, func(n ast.Node) bool {
			if sel, ok := selects(n, "time"); ok && slices.Contains(clocks, sel.Sel.Name) {
				faults = append(faults, t.at(f, n.Pos(), "%s is pure and may not use time.%s: take the time as a value", f.Room, sel.Sel.Name))
			}
			return true
		})
	}
	return faults
}

func isImpure(name string) bool {
	if name == "net/netip" {
		return false
	}
	return slices.ContainsFunc(impure, func(no string) bool { return name == no || strings.HasPrefix(name, no+"/") })
}

// selects reports whether n is package.Something.
func selects(n ast.Node, pkg string) (*ast.SelectorExpr, bool) {
	sel, ok := n.(*ast.SelectorExpr)
	if !ok {
		return nil, false
	}
	id, ok := sel.X.(*ast.Ident)
	return sel, ok && id.Name == pkg && id.Obj == nil
}

// Exits refuses the end of the process outside cmd, where nobody could close
// what is open.
func Exits(t *Tree) []Fault {
	var faults []Fault
	for _, f := range t.sources() {
		if f.Room == "cmd" {
			continue
		}
		ast.Inspect(f.AST, func(n ast.Node) bool {
			sel, ok := selects(n, "os")
			if ok && sel.Sel.Name == "Exit" {
				faults = append(faults, t.at(f, n.Pos(), "os.Exit outside cmd: return an error"))
			}
			if sel, ok = selects(n, "log"); ok && strings.HasPrefix(sel.Sel.Name, "Fatal") {
				faults = append(faults, t.at(f, n.Pos(), "log.%s outside cmd: return an error", sel.Sel.Name))
			}
			return true
		})
	}
	return faults
}

// Inits refuses init functions: cmd wires by hand, in an order one can read.
func Inits(t *Tree) []Fault {
	var faults []Fault
	for _, f := range t.sources() {
		for _, d := range f.AST.Decls {
			if fn, ok := d.(*ast.FuncDecl); ok && fn.Recv == nil && fn.Name.Name == "init" {
				faults = append(faults, t.at(f, fn.Pos(), "init: let cmd wire it"))
			}
		}
	}
	return faults
}

// Variables refuses package variables that can change: one that is written
// anywhere in its package, starts without a value, is exported without being
// an error, or is a lock, channel or pointer by type.
func Variables(t *Tree) []Fault {
	var faults []Fault
	written := t.writtenNames()
	for _, f := range t.sources() {
		for _, d := range f.AST.Decls {
			gen, ok := d.(*ast.GenDecl)
			if !ok || gen.Tok != token.VAR {
				continue
			}
			for _, s := range gen.Specs {
				faults = append(faults, t.variable(f, gen, s.(*ast.ValueSpec), written[f.Dir])...)
			}
		}
	}
	return faults
}

func (t *Tree) variable(f *GoFile, gen *ast.GenDecl, spec *ast.ValueSpec, written map[string]bool) []Fault {
	var faults []Fault
	embedded := (gen.Doc != nil && hasEmbed(gen.Doc)) || (spec.Doc != nil && hasEmbed(spec.Doc))
	for i, name := range spec.Names {
		var value ast.Expr
		if i < len(spec.Values) {
			value = spec.Values[i]
		}
		switch {
		case name.Name == "_" || embedded:
		case written[name.Name]:
			faults = append(faults, t.at(f, name.Pos(), "package variable %s changes: pass it as a value", name.Name))
		case value == nil:
			faults = append(faults, t.at(f, name.Pos(), "package variable %s starts without a value, so somebody must change it", name.Name))
		case isMutable(value):
			faults = append(faults, t.at(f, name.Pos(), "package variable %s can change: pass it as a value", name.Name))
		case name.IsExported() && !isError(value):
			faults = append(faults, t.at(f, name.Pos(), "exported package variable %s: anybody could change it", name.Name))
		}
	}
	return faults
}

func hasEmbed(doc *ast.CommentGroup) bool {
	return slices.ContainsFunc(doc.List, func(c *ast.Comment) bool { return strings.HasPrefix(c.Text, "//go:embed ") })
}

func isError(value ast.Expr) bool {
	call, ok := value.(*ast.CallExpr)
	if !ok {
		return false
	}
	sel, ok := selects(call.Fun, "errors")
	if ok {
		return sel.Sel.Name == "New"
	}
	sel, ok = selects(call.Fun, "fmt")
	return ok && sel.Sel.Name == "Errorf"
}

// isMutable recognises values that are made to be changed.
func isMutable(value ast.Expr) bool {
	switch v := value.(type) {
	case *ast.UnaryExpr:
		return v.Op == token.AND && isMutable(v.X)
	case *ast.CallExpr:
		id, ok := v.Fun.(*ast.Ident)
		return ok && (id.Name == "make" || id.Name == "new")
	case *ast.CompositeLit:
		typ := receiver(v.Type)
		if generic, ok := typ.(*ast.IndexExpr); ok {
			typ = generic.X
		}
		_, isSync := selects(typ, "sync")
		_, isAtomic := selects(typ, "atomic")
		return isSync || isAtomic
	}
	return false
}

// writtenNames is, per folder, the package-level names that some statement
// assigns to, increments, takes the address of, clears or deletes from.
func (t *Tree) writtenNames() map[string]map[string]bool {
	written := map[string]map[string]bool{}
	for _, f := range t.sources() {
		if written[f.Dir] == nil {
			written[f.Dir] = map[string]bool{}
		}
		note := func(e ast.Expr) {
			if id := root(e); id != nil && isPackageLevel(f, id) {
				written[f.Dir][id.Name] = true
			}
		}
		ast.Inspect(f.AST, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.AssignStmt:
				if n.Tok != token.DEFINE {
					for _, e := range n.Lhs {
						note(e)
					}
				}
			case *ast.IncDecStmt:
				note(n.X)
			case *ast.UnaryExpr:
				if n.Op == token.AND {
					note(n.X)
				}
			case *ast.CallExpr:
				if id, ok := n.Fun.(*ast.Ident); ok && (id.Name == "delete" || id.Name == "clear") && len(n.Args) > 0 {
					note(n.Args[0])
				}
			}
			return true
		})
	}
	return written
}

// root is the identifier that a[i].b.c begins with, nil when it begins with
// something else.
func root(e ast.Expr) *ast.Ident {
	for {
		switch x := e.(type) {
		case *ast.Ident:
			return x
		case *ast.SelectorExpr:
			e = x.X
		case *ast.IndexExpr:
			e = x.X
		case *ast.StarExpr:
			e = x.X
		case *ast.ParenExpr:
			e = x.X
		default:
			return nil
		}
	}
}

// isPackageLevel uses the parser's own resolution, which knows local names;
// what it could not resolve stands in another file of the package.
func isPackageLevel(f *GoFile, id *ast.Ident) bool {
	return id.Obj == nil || f.AST.Scope.Lookup(id.Name) == id.Obj
}
