// SPDX-License-Identifier: Apache-2.0

package lb

import (
	"slices"
	"time"
)

// A KeyID is the public half of an access key: AKID and random letters.
type KeyID string

// A KeyRole says what the holder of an access key may do. The zero KeyRole may
// do nothing.
type KeyRole string

// The roles. An admin may do everything; an operator everything but what is
// about keys, node tokens and the audit log; an auditor may read everything and
// change nothing.
const (
	KeyAdmin    KeyRole = "admin"
	KeyOperator KeyRole = "operator"
	KeyAuditor  KeyRole = "auditor"
)

// KeyRoles lists the roles, the mightiest first.
func KeyRoles() []KeyRole { return []KeyRole{KeyAdmin, KeyOperator, KeyAuditor} }

// An AccessKey lets its holder use the API and the console. It never holds a
// secret that can be read: Secrets are sealed with a key that is not in the
// database.
type AccessKey struct {
	ID       KeyID
	Name     string // for people; may be empty
	Role     KeyRole
	Projects []string       // decimal ids, sorted; empty: the key is not scoped
	Secrets  []SealedSecret // newest first; at most two; empty: the key is revoked
	Created  time.Time
	Revoked  time.Time // zero: it is not
}

// A SealedSecret is the secret half of a key, encrypted.
type SealedSecret struct {
	Sealed  []byte
	Created time.Time
	Expires time.Time // zero: never
}

// Active reports whether k may be used at all: it is not revoked.
func (k *AccessKey) Active() bool { return k.Revoked.IsZero() && len(k.Secrets) > 0 }

// Valid are the secrets of k that are accepted at now, newest first.
func (k *AccessKey) Valid(now time.Time) []SealedSecret {
	if !k.Active() {
		return nil
	}
	return slices.DeleteFunc(slices.Clone(k.Secrets), func(s SealedSecret) bool {
		return !s.Expires.IsZero() && !now.Before(s.Expires)
	})
}

// InScope reports whether k may see and change objects of a project.
func (k *AccessKey) InScope(project string) bool {
	return len(k.Projects) == 0 || slices.Contains(k.Projects, project)
}
