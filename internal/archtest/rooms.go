// SPDX-License-Identifier: Apache-2.0

package archtest

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// rooms is the table of docs/ARCHITECTURE.md: which rooms a room may import.
// A new edge is a change of this map, to be reviewed as one. The control half
// (console, cloudapi, store, control) and the node half (node, datapath, proxy, health)
// meet only in lb, policy, path, snapshot, flow and the wire.
var rooms = map[string][]string{
	"lb":         {},
	"policy":     {"lb"},
	"path":       {"lb", "policy"},
	"snapshot":   {"lb", "policy"},
	"flow":       {"lb", "policy", "snapshot"},
	"store":      {"lb"},
	"wire":       {},
	"control":    {"lb", "policy", "store", "snapshot", "flow", "wire"},
	"cloudapi":   {"lb", "policy", "path", "store", "control", "flow"},
	"console":    {"lb", "policy", "cloudapi"},
	"node":       {"lb", "policy", "path", "snapshot", "flow", "wire"},
	"datapath":   {"lb", "policy", "snapshot", "flow"},
	"proxy":      {"lb", "policy", "snapshot", "flow"},
	"health":     {"lb", "snapshot"},
	"lab":        {"lb"},
	"scenario":   {"lb", "policy", "store", "cloudapi"},
	"archtest":   {},
	"policytest": {"lb", "policy"},
	"e2e":        {"cloudapi", "lab"},
	"bench":      {},
	"replay":     {},
}

// testOnly are rooms that nothing built may import.
var testOnly = []string{"scenario", "archtest", "policytest", "e2e", "bench", "replay"}

// Imports enforces the room table. Test files may import what they like, and
// cmd wires everything.
func Imports(t *Tree) []Fault {
	var faults []Fault
	for _, f := range t.Go {
		if f.Test || f.Room == "" {
			continue
		}
		allowed, known := rooms[f.Room]
		if !known && f.Room != "cmd" {
			faults = append(faults, t.at(f, f.AST.Package, "room %q is not in the table of rooms", f.Room))
			continue
		}
		for _, spec := range f.AST.Imports {
			room, ours := importedRoom(spec.Path.Value)
			switch {
			case !ours || room == f.Room:
			case slices.Contains(testOnly, room):
				faults = append(faults, t.at(f, spec.Pos(), "%s is for tests only", room))
			case f.Room != "cmd" && !slices.Contains(allowed, room):
				faults = append(faults, t.at(f, spec.Pos(), "%s may not import %s (only %s)", f.Room, room, strings.Join(allowed, ", ")))
			}
		}
	}
	return faults
}

// importedRoom is the room that a quoted import path belongs to.
func importedRoom(quoted string) (room string, ours bool) {
	name, err := strconv.Unquote(quoted)
	if err != nil {
		return "", false
	}
	rest, ours := strings.CutPrefix(name, Module+"/internal/")
	room, _, _ = strings.Cut(rest, "/")
	return room, ours
}

// keepers names the only room that may touch a library, so that replacing the
// library is the work of one room.
var keepers = []struct{ library, room string }{
	{"github.com/cilium/ebpf", "datapath"},
	{"go.etcd.io/", "store"},
}

// Keepers enforces that one room alone imports a library with a keeper.
func Keepers(t *Tree) []Fault {
	var faults []Fault
	for _, f := range t.Go {
		for _, spec := range f.AST.Imports {
			for _, k := range keepers {
				if strings.HasPrefix(strings.Trim(spec.Path.Value, `"`), k.library) && f.Room != k.room {
					faults = append(faults, t.at(f, spec.Pos(), "only %s imports %s", k.room, k.library))
				}
			}
		}
	}
	return faults
}

// notOnNodes must not be linked into sallyport-node, which runs privileged on
// every host and stays small.
var notOnNodes = []string{"go.etcd.io/", Module + "/internal/cloudapi", Module + "/internal/console", Module + "/internal/store", Module + "/internal/control"}

// NodeLinks judges the dependencies of cmd/sallyport-node as `go list -deps`
// prints them, one import path an element.
func NodeLinks(deps []string) []Fault {
	var faults []Fault
	for _, dep := range deps {
		for _, no := range notOnNodes {
			if strings.HasPrefix(dep, no) {
				faults = append(faults, Fault{File: "cmd/sallyport-node", Text: fmt.Sprintf("links %s", dep)})
			}
		}
	}
	return faults
}

// badNames are package names that say where code is, not what it is about.
var badNames = []string{"util", "utils", "common", "helper", "helpers", "types", "internal", "manager", "misc", "base", "pkg"}

// Names refuses packages that are named for nothing.
func Names(t *Tree) []Fault {
	var faults []Fault
	for _, f := range t.Go {
		if slices.Contains(badNames, strings.TrimSuffix(f.AST.Name.Name, "_test")) {
			faults = append(faults, t.at(f, f.AST.Package, "package %s is named for nothing: name what it is about", f.AST.Name.Name))
		}
	}
	return faults
}
