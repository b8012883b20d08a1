// SPDX-License-Identifier: Apache-2.0

package console

import (
	"errors"
	"strings"

	"github.com/sallyport/sallyport/internal/cloudapi"
)

// codeUnauthorized is how the API refuses what a key's role or projects do not
// allow.
const codeUnauthorized = "UnauthorizedOperation"

func unauthorized(err error) bool {
	e := (*cloudapi.Error)(nil)
	return errors.As(err, &e) && e.Code == codeUnauthorized
}

// A who is the access key that somebody is logged in with.
type who struct {
	KeyId, Name, Role string
	Projects          []string
}

// Scoped reports whether the key is for some projects only.
func (w who) Scoped() bool { return len(w.Projects) > 0 }

// scope tells keys apart that may see different things.
func (w who) scope() string {
	if w.Role == "" {
		return w.KeyId // not known: like nobody else
	}
	return w.Role + " " + strings.Join(w.Projects, ",")
}

// Text says in a word or two what the key may do.
func (w who) Text() string {
	text := w.Role
	if w.Scoped() {
		text += ", project " + strings.Join(w.Projects, ", ") + " only"
	}
	return text
}

// Hint says what that means for pages; "" for who may do everything. Nothing is
// hidden: what a key may not do is refused with the reason.
func (w who) Hint() string {
	switch {
	case w.Scoped():
		return "Your key is for project " + strings.Join(w.Projects, ", ") + " only: counts and verdicts, which are about the whole region, are not shown."
	case w.Role == "auditor":
		return "Your key may look at everything and change nothing."
	}
	return ""
}

// who asks the API once a visit. Whoever it does not know is nobody.
func (v *visit) who() who {
	if v.known == nil {
		v.known = &who{}
		if v.session != nil && v.do(ourVersion, "DescribeCaller", nil, v.known) != nil {
			v.known = &who{KeyId: v.session.secretID}
		}
	}
	return *v.known
}
