// SPDX-License-Identifier: Apache-2.0

package cloudapi

import (
	"errors"
	"fmt"
	"strings"

	"github.com/sallyport/sallyport/internal/lb"
	"github.com/sallyport/sallyport/internal/store"
)

const codeInternal = "InternalError"

// An Error is what a client sees of a failure. Code is one of the published
// codes of its service; Message is for people and not stable.
type Error struct {
	Code    string
	Message string
	Faults  []Fault `json:",omitempty"` // all of them, where a call tells more than one; Code and Message are then those of the first, and Message goes on with the others, one a line
}

// Error is code and message in one line.
func (e *Error) Error() string { return e.Code + ": " + e.Message }

// errorf makes an *Error.
func errorf(code, format string, args ...any) error {
	return &Error{Code: code, Message: fmt.Sprintf(format, args...)}
}

// inList renames the field that a refusal opens with: the one-object form of a
// check, used on item i of a list.
func inList(err error, field string, i int) error {
	return refield(err, func(string) string { return fmt.Sprintf("%s.%d", field, i) })
}

// renamed gives the field that a refusal opens with the name that it has in the
// call, where a check knows it by another: pairs of the check's name and the
// call's. What is below such a field stays.
func renamed(err error, pairs ...string) error {
	return refield(err, func(field string) string {
		for i := 0; i+1 < len(pairs); i += 2 {
			if rest, ok := strings.CutPrefix(field, pairs[i]); ok && (rest == "" || rest[0] == '.') {
				return strings.TrimPrefix(pairs[i+1]+rest, ".")
			}
		}
		return field
	})
}

// refield renames the field that a refusal opens with, if it names one.
func refield(err error, name func(string) string) error {
	if e := (*lb.Error)(nil); errors.As(err, &e) && e.Field != "" {
		moved := *e
		moved.Field = name(e.Field)
		return &moved
	}
	if e := (*Error)(nil); errors.As(err, &e) {
		field, rest, ok := strings.Cut(e.Message, ": ")
		if ok && !strings.ContainsRune(field, ' ') {
			text := rest
			if field = name(field); field != "" {
				text = field + ": " + rest
			}
			return &Error{Code: e.Code, Message: text}
		}
	}
	return err
}

// asError finds the *Error in err, or names a full disk, which an operator can
// mend. Anything else is InternalError, whose cause is for the log, not for the
// client.
func asError(err error) *Error {
	if e := (*Error)(nil); errors.As(err, &e) {
		return e
	}
	if errors.Is(err, store.ErrNoRoom) {
		return &Error{Code: "ResourceInsufficient", Message: "the server's disk has no room left; nothing was changed, and the call can be repeated once there is room"}
	}
	return &Error{Code: codeInternal, Message: "an internal error; the server's log has its cause under this RequestId"}
}

// explain gives a refusal of the lb room the code that the action's service
// publishes for it. Other errors stay as they are.
func (a *Action) explain(err error) error {
	e := (*lb.Error)(nil)
	if !errors.As(err, &e) {
		return err
	}
	return &Error{Code: a.code(e.Kind), Message: e.Error()}
}

// code is the published code of a kind of fault in the action's service.
// ResourceInUse and the like are kept for states that pass by themselves:
// clients wait minutes for those.
func (s Service) code(k lb.Kind) string {
	switch k {
	case lb.Missing:
		return "MissingParameter"
	case lb.LimitExceeded:
		return "LimitExceeded"
	case lb.Unsupported:
		return "UnsupportedOperation"
	}
	switch s.Name {
	case serviceCLB.Name:
		return codeCLB(k)
	case serviceVPC.Name:
		return codeVPC(k)
	case serviceSSL.Name:
		return codeSSL(k)
	}
	switch k {
	case lb.NotFound:
		return "ResourceNotFound"
	case lb.InUse:
		return "ResourceInUse"
	case lb.Coexist:
		return "InvalidParameterCombination"
	}
	return "InvalidParameterValue"
}

// countCode is the published code of a list with too many items, or too few.
func (s Service) countCode(over bool) string {
	switch {
	case s.Name == serviceCLB.Name:
		return s.code(lb.TooLong)
	case !over:
		return "MissingParameter"
	case s.Name == serviceCVM.Name:
		return "InvalidParameterValue.LimitExceeded"
	}
	return s.code(lb.LimitExceeded)
}

func codeCLB(k lb.Kind) string {
	switch k {
	case lb.Malformed:
		return "InvalidParameter.FormatError"
	case lb.Range:
		return "InvalidParameterValue.Range"
	case lb.TooLong:
		return "InvalidParameterValue.Length"
	case lb.Coexist:
		return "InvalidParameter"
	case lb.Duplicate:
		return "InvalidParameterValue.Duplicate"
	case lb.InUse:
		return "FailedOperation"
	}
	return "InvalidParameterValue"
}

func codeVPC(k lb.Kind) string {
	switch k {
	case lb.Malformed:
		return "InvalidParameterValue.Malformed"
	case lb.Range:
		return "InvalidParameterValue.Range"
	case lb.TooLong:
		return "InvalidParameterValue.TooLong"
	case lb.Coexist:
		return "InvalidParameter.Coexist"
	case lb.Duplicate:
		return "InvalidParameterValue.Duplicate"
	case lb.NotFound:
		return "ResourceNotFound"
	case lb.InUse:
		return "ResourceInUse"
	}
	return "InvalidParameterValue"
}
