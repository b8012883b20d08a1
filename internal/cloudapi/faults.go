// SPDX-License-Identifier: Apache-2.0

package cloudapi

import (
	"errors"
	"fmt"
	"strings"
)

// A Fault is one of several things that are wrong with one call. Message opens
// with the field that it is about.
type Fault struct {
	Code    string
	Message string
	// DependsOn is the field because of whose faults this one was not looked at;
	// "": this one has a fault of its own.
	DependsOn string `json:",omitempty"`
}

// maxTold bounds how many faults one answer tells.
const maxTold = 200

// errTold ends what is looked at after its faults were noted.
var errTold = errors.New("its faults are noted")

// errManyFaults ends the look at a call with more faults than are told.
var errManyFaults = errors.New("more faults than are told")

// faultsError is the answer of a call with these faults; nil without any.
func faultsError(faults []Fault) error {
	if len(faults) == 0 {
		return nil
	}
	e := &Error{Code: faults[0].Code, Message: faults[0].Message}
	if len(faults) == 1 && faults[0].DependsOn == "" {
		return e
	}
	lines := []string{e.Message}
	for _, f := range faults[1:] {
		lines = append(lines, f.Code+": "+f.Message)
	}
	e.Message, e.Faults = strings.Join(lines, "\n"), faults
	return e
}

// A gathered error is what decoding found, of an action that tells all faults.
type gathered []error

// Error is the first of them.
func (g gathered) Error() string { return g[0].Error() }

// Unwrap are all of them.
func (g gathered) Unwrap() []error { return g }

// gathering makes an action tell all faults of a call: what decoding finds
// stands in Call.faults, and the handler goes on with the rest.
func (a Action) gathering() Action {
	a.gathers = true
	return a
}

// A dependence says that something was not looked at, because what it names has
// faults.
type dependence struct{ field, kind, name, on string }

// Error is what the user reads of it.
func (d *dependence) Error() string {
	return fmt.Sprintf("%s: not tried: depends on %s %q, which has faults; mend those first", d.field, d.kind, clip(d.name, 60))
}

// faultsOf are the faults that an error tells; false when it is none of the
// user's making.
func (a *Action) faultsOf(err error) ([]Fault, bool) {
	if d := (*dependence)(nil); errors.As(err, &d) {
		return []Fault{{Code: "FailedOperation", Message: d.Error(), DependsOn: strings.TrimSuffix(d.on, ".")}}, true
	}
	e := (*Error)(nil)
	if !errors.As(a.explain(err), &e) || e.Code == codeInternal {
		return nil, false
	}
	return []Fault{{Code: e.Code, Message: e.Message}}, true
}
