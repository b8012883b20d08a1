// SPDX-License-Identifier: Apache-2.0

package cloudapi

import (
	"errors"
	"regexp"
	"strings"

	"github.com/sallyport/sallyport/internal/lb"
)

// A plan is tried document by document, and within a load balancer listener by
// listener and rule by rule. What one refuses is noted and what it changed is
// undone; the others are tried all the same, but for those that name it. So
// the answer tells all that is wrong, and nothing is written when anything is.

// attempt tries the document at path, which begins with its place and ends with
// a dot: the object of a kind, by the id and name that others may name it by.
// Its error ends the plan.
func (a *applier) attempt(path, kind, id, name string, fn func() error) error {
	if a.broken[path] { // as it was read
		a.lose(path, kind, id, name)
		return nil
	}
	err := a.tx.Attempt(fn)
	if err == nil {
		return nil
	}
	a.lose(path, kind, id, name)
	return a.tell(err)
}

// lose says of a document that it has faults.
func (a *applier) lose(path, kind, id, name string) {
	a.lost[path] = true
	for _, ref := range []string{id, name} {
		if ref != "" {
			a.failed[kind+" "+ref] = path
		}
	}
	for id, of := range a.claimed { // of an object that is there, and was named by its name
		if of == path {
			a.failed[kind+" "+id] = path
		}
	}
}

// tell notes what is refused. Other errors, and too many, end the plan.
func (a *applier) tell(err error) error {
	if err == nil || errors.Is(err, errTold) {
		return nil
	}
	if errors.Is(err, errManyFaults) {
		return err
	}
	told, ok := a.c.Action.faultsOf(err)
	if !ok {
		return err
	}
	a.faults = append(a.faults, told...)
	if len(a.faults) >= maxTold {
		return errManyFaults
	}
	return nil
}

// each calls fn for the items of a list, noting what they refuse: errTold when
// one did.
func (a *applier) each(n int, fn func(i int) error) error {
	bad := false
	for i := range n {
		err := fn(i)
		bad = bad || err != nil
		if err := a.tell(err); err != nil {
			return err
		}
	}
	if bad {
		return errTold
	}
	return nil
}

// depends notes what stands at a field and was not tried, if anything does,
// because the object of a document that it is a part of has faults.
func (a *applier) depends(n int, field, kind, name, path string) error {
	if n == 0 || !a.lost[path] {
		return nil
	}
	return a.tell(&dependence{field, kind, name, path})
}

// outcome is the answer when there are faults, those of decoding first.
func (a *applier) outcome(err error) error {
	switch {
	case errors.Is(err, errManyFaults):
		a.faults = append(a.faults, Fault{Code: a.c.Action.code(lb.Invalid), Message: "there are more faults than are told; mend these, and apply again"})
	case err != nil:
		return err
	}
	return faultsError(a.faults)
}

// placeInFault finds the field that a message of decoding speaks of.
var placeInFault = regexp.MustCompile(`[A-Z][A-Za-z]*\.\d+(\.\w+)*`)

// partOf is the innermost document, or list of rules, of a field.
var partOf = regexp.MustCompile(`^LoadBalancers\.\d+\.Listeners\.\d+\.Rules\.\d+\.|^LoadBalancers\.\d+\.Listeners\.\d+\.|^SecurityGroups\.\d+\.(In|E)gress\.|^[A-Z][A-Za-z]*\.\d+\.`)

// read takes over what decoding refused: those documents are not tried.
func (a *applier) read(faults []error) error {
	for _, err := range faults {
		if err := a.tell(err); err != nil {
			return err
		}
		message := a.faults[len(a.faults)-1].Message
		if part := partOf.FindString(placeInFault.FindString(message) + "."); part != "" {
			part = strings.TrimSuffix(strings.TrimSuffix(part, "Ingress."), "Egress.") + map[bool]string{true: "rules"}[strings.Contains(part, "gress.")]
			a.broken[part] = true
		}
	}
	return nil
}
