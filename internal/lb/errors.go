// SPDX-License-Identifier: Apache-2.0

package lb

// A Kind says what sort of fault an Error is; the API maps it to its codes.
// The zero Kind is invalid.
type Kind uint8

// The kinds of fault.
const (
	Missing       Kind = iota + 1 // a required field is absent
	Invalid                       // a value that means nothing here
	Malformed                     // a text that does not parse
	Range                         // a number outside its range
	TooLong                       // a text longer than allowed
	Coexist                       // fields that exclude each other
	Duplicate                     // the same thing is there already
	LimitExceeded                 // a quota is used up
	NotFound                      // the named thing does not exist
	InUse                         // the thing is needed by another
	Unsupported                   // known to clients, not served here
)

// String is the kind as logs and tests write it.
func (k Kind) String() string {
	names := [...]string{"unknown", "missing", "invalid", "malformed", "range", "too long", "coexist", "duplicate",
		"limit exceeded", "not found", "in use", "unsupported"}
	if int(k) < len(names) {
		return names[k]
	}
	return names[0]
}

// An Error is a refusal that a person can act on: which field as the client
// wrote it, what is wrong with it, and how to repair it.
type Error struct {
	Kind  Kind
	Field string // as the client wrote it, such as "Ingress[1].Port"; "" when no one field is at fault
	Fault string // a clause: `"80-" is not a port range`
	Hint  string // a clause that says the repair; "" when there is none
}

// Error names field, fault and repair in one line.
func (e *Error) Error() string {
	text := e.Fault
	if e.Field != "" {
		text = e.Field + ": " + text
	}
	if e.Hint != "" {
		text += "; " + e.Hint
	}
	return text
}

// Refuse makes an Error of the given kind.
func Refuse(kind Kind, field, fault, hint string) *Error {
	return &Error{Kind: kind, Field: field, Fault: fault, Hint: hint}
}
