// SPDX-License-Identifier: Apache-2.0

package cloudapi

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/sallyport/sallyport/internal/lb"
	"github.com/sallyport/sallyport/internal/store"
)

// A Caller is who makes a call, and from where. The zero Caller is nobody and
// may do nothing.
type Caller struct {
	KeyID   string
	Address string // where the call came from
	Client  string // what the caller's software calls itself
}

// key finds a caller's access key. It must be active.
func (s *Server) key(id string) (*lb.AccessKey, error) {
	k := s.Store.State().Keys.Get(lb.KeyID(id))
	switch {
	case k == nil:
		return nil, errorf("AuthFailure.SecretIdNotFound", "SecretId %q is not known", clip(id, 60))
	case !k.Active():
		return nil, errorf("AuthFailure.SecretIdNotFound", "SecretId %q was revoked", clip(id, 60))
	}
	return k, nil
}

// secrets are what a caller may sign with now: two while a rotation's overlap
// lasts.
func (s *Server) secrets(k *lb.AccessKey) ([]string, error) {
	var all []string
	for _, sealed := range k.Valid(s.Now()) {
		secret, err := s.Vault.open(k.ID, sealed.Sealed)
		if err != nil {
			return nil, fmt.Errorf("open the secret of %s: %w", k.ID, err)
		}
		all = append(all, secret)
	}
	return all, nil
}

// LogIn reports whether an id and a secret belong together and may be used. It
// takes as long for a wrong secret as for a right one.
func (s *Server) LogIn(id, secret string) bool {
	k, err := s.key(id)
	if err != nil {
		k = &lb.AccessKey{}
	}
	want, err := s.secrets(k)
	if err != nil {
		s.Logger.Error("api", "cause", err.Error())
	}
	given, ok := sha256.Sum256([]byte(secret)), 0
	for _, w := range append(want, "") {
		sum := sha256.Sum256([]byte(w))
		if same := subtle.ConstantTimeCompare(given[:], sum[:]); w != "" {
			ok |= same
		}
	}
	return ok == 1
}

// Known reports whether a key may still be used.
func (s *Server) Known(id string) bool {
	_, err := s.key(id)
	return err == nil
}

// Adopt makes an admin key of a given id and secret, unless there is or was one
// of that id: then it returns the secret that holds, "" when it is revoked.
func (s *Server) Adopt(ctx context.Context, id, secret, name string) (string, error) {
	k := s.Store.State().Keys.Get(lb.KeyID(id))
	if k == nil {
		k = &lb.AccessKey{ID: lb.KeyID(id), Name: name, Role: lb.KeyAdmin, Created: s.Now().UTC(),
			Secrets: []lb.SealedSecret{{Sealed: s.Vault.seal(lb.KeyID(id), secret), Created: s.Now().UTC()}}}
		_, err := s.Store.Update(ctx, func(tx *store.Tx) error {
			if tx.State().Keys.Get(k.ID) == nil {
				tx.PutKey(k)
			}
			return nil
		})
		return secret, err
	}
	if !k.Active() {
		return "", nil
	}
	return s.Vault.open(k.ID, k.Secrets[0].Sealed)
}

func keyActions() []Action {
	return []Action{
		action(serviceSallyport, "CreateAccessKey", createAccessKey).fails("InvalidParameterValue", "LimitExceeded"),
		action(serviceSallyport, "DescribeAccessKeys", describeAccessKeys).fails("InvalidParameterValue"),
		action(serviceSallyport, "RotateAccessKey", rotateAccessKey).fails("ResourceNotFound", "ResourceUnavailable.Overlap"),
		action(serviceSallyport, "RevokeAccessKey", revokeAccessKey).fails("ResourceNotFound", "UnsupportedOperation"),
	}
}

// maxKeys bounds the keys of a region that are not revoked.
const maxKeys = 1000

type createKeyIn struct {
	Name     string   `tc:"required,len=60"` // the audit log tells keys apart by it
	Role     string   `tc:"required,enum=admin|operator|auditor"`
	Projects []string `tc:"items=100"` // decimal ids; none: all projects
}

// newKeyOut is the only answer that ever holds a secret.
type newKeyOut struct {
	SecretId    string
	SecretKey   string
	ExpiredTime string // when the secret before this one stops, "" when there is none
}

// createAccessKey makes a key. Its secret is in the answer and can never be
// read again.
func createAccessKey(c *Call, in *createKeyIn) (*newKeyOut, error) {
	k := &lb.AccessKey{Name: strings.TrimSpace(in.Name), Role: lb.KeyRole(in.Role)}
	if k.Name == "" {
		return nil, refuse(lb.Invalid, "Name", "it is empty, and the audit log tells keys apart by their names", "say what the key is for")
	}
	if in.Projects != nil && len(in.Projects) == 0 {
		return nil, refuse(lb.Invalid, "Projects", "the list is empty, and a key without projects is for all of them", "name the key's projects, or leave Projects out")
	}
	for i, text := range in.Projects {
		id, err := projectID(text)
		if err != nil || text == "" {
			return nil, refuse(lb.Invalid, fmt.Sprintf("Projects.%d", i), fmt.Sprintf("%q is not a decimal number", clip(text, 40)), `give the project's number, such as "0"`)
		}
		k.Projects = append(k.Projects, id)
	}
	slices.Sort(k.Projects)
	k.Projects = slices.Compact(k.Projects)
	k.ID = lb.KeyID("AKID" + rand.Text())
	secret := c.newSecret(k, time.Time{})
	err := c.Update(func(tx *store.Tx) error {
		active := 0
		for _, other := range tx.State().Keys.All() {
			if !other.Active() {
				continue
			}
			if active++; other.Name == k.Name {
				return refuse(lb.Duplicate, "Name", fmt.Sprintf("key %s has the name %q", other.ID, k.Name), "choose another, or revoke that key first")
			}
		}
		if active >= maxKeys {
			return refuse(lb.LimitExceeded, "", fmt.Sprintf("there are %d access keys, at most %d are allowed", active, maxKeys), "revoke one that is not used")
		}
		tx.PutKey(k)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &newKeyOut{SecretId: string(k.ID), SecretKey: secret}, nil
}

// newSecret gives k another secret. Those that it had end at the given time;
// the zero time ends them now.
func (c *Call) newSecret(k *lb.AccessKey, until time.Time) string {
	secret, now := rand.Text(), c.Now().UTC()
	var old []lb.SealedSecret
	if !until.IsZero() && len(k.Secrets) > 0 {
		last := k.Secrets[0]
		last.Expires = until
		old = append(old, last)
	}
	k.Created = cmpOr(k.Created, now)
	k.Secrets = append([]lb.SealedSecret{{Sealed: c.Vault.seal(k.ID, secret), Created: now}}, old...)
	return secret
}

func cmpOr(t, other time.Time) time.Time {
	if t.IsZero() {
		return other
	}
	return t
}

type describeKeysIn struct {
	SecretIds []string `tc:"items=100"`
	Filters   []Filter `tc:"" filters:"name role=admin|operator|auditor status=active|revoked project"`
	Paging
}

type describeKeysOut struct {
	TotalCount int
	AccessKeys []keyOut
}

// keyOut is a key without its secrets.
type keyOut struct {
	SecretId, Name, Role, Status string // Status: active or revoked
	Projects                     []string
	CreatedTime, RevokedTime     string
	Secrets                      []secretOut // when each was made, newest first
}

type secretOut struct{ CreatedTime, ExpiredTime string }

// describeAccessKeys lists keys, revoked ones too, oldest first.
func describeAccessKeys(c *Call, in *describeKeysIn) (*describeKeysOut, error) {
	var found []*lb.AccessKey
	for id, k := range c.State().Keys.All() {
		if len(in.SecretIds) == 0 || slices.Contains(in.SecretIds, string(id)) {
			found = append(found, k)
		}
	}
	found, err := filter(found, in.Filters, map[string]func(*lb.AccessKey) []string{
		"name":    func(k *lb.AccessKey) []string { return []string{k.Name} },
		"role":    func(k *lb.AccessKey) []string { return []string{string(k.Role)} },
		"status":  func(k *lb.AccessKey) []string { return []string{keyStatus(k)} },
		"project": func(k *lb.AccessKey) []string { return k.Projects },
	}, nil)
	if err != nil {
		return nil, err
	}
	slices.SortFunc(found, func(a, b *lb.AccessKey) int { return older(a.Created, b.Created, a.ID, b.ID) })
	shown := page(found, in.Paging)
	out := &describeKeysOut{TotalCount: len(found)}
	for _, k := range shown {
		o := keyOut{SecretId: string(k.ID), Name: k.Name, Role: string(k.Role), Status: keyStatus(k), Projects: k.Projects,
			CreatedTime: stamp(k.Created), RevokedTime: stamp(k.Revoked)}
		for _, s := range k.Valid(c.Now()) {
			o.Secrets = append(o.Secrets, secretOut{stamp(s.Created), stamp(s.Expires)})
		}
		out.AccessKeys = append(out.AccessKeys, o)
	}
	return out, nil
}

func keyStatus(k *lb.AccessKey) string {
	if k.Active() {
		return "active"
	}
	return "revoked"
}

// Overlaps of two secrets, in seconds.
const (
	defaultOverlap = 24 * 3600
)

type rotateKeyIn struct {
	SecretId       string `tc:"required"`
	OverlapSeconds *int64 `tc:"range=0-604800"` // how long the old secret holds beside the new one; one day
}

// rotateAccessKey gives a key a new secret. The old one holds for an overlap,
// so that its users can be told one after the other.
func rotateAccessKey(c *Call, in *rotateKeyIn) (*newKeyOut, error) {
	overlap := int64(defaultOverlap)
	if in.OverlapSeconds != nil {
		overlap = *in.OverlapSeconds
	}
	out := &newKeyOut{SecretId: in.SecretId}
	return out, c.Update(func(tx *store.Tx) error {
		k, err := findKey(tx.State(), in.SecretId)
		if err != nil {
			return err
		}
		now, until := c.Now().UTC(), time.Time{}
		if valid := k.Valid(now); overlap > 0 && len(valid) > 1 {
			return errorf("ResourceUnavailable.Overlap", "SecretId: %s has two valid secrets until %s; wait until then, or end both now with OverlapSeconds 0", k.ID, stamp(valid[1].Expires))
		}
		if overlap > 0 {
			until = now.Add(time.Duration(overlap) * time.Second)
		}
		next := *k
		out.SecretKey, out.ExpiredTime = c.newSecret(&next, until), stamp(until)
		tx.PutKey(&next)
		return nil
	})
}

type revokeKeyIn struct {
	SecretId string `tc:"required"`
}

// revokeAccessKey ends a key at once and for good. Its line stays, so that the
// audit log's names keep their meaning.
func revokeAccessKey(c *Call, in *revokeKeyIn) (*done, error) {
	return &done{}, c.Update(func(tx *store.Tx) error {
		k, err := findKey(tx.State(), in.SecretId)
		if err != nil {
			return err
		}
		if fullAdmin(k) && !otherAdmin(tx.State(), k.ID) {
			return refuse(lb.Unsupported, "SecretId", fmt.Sprintf("%s is the last admin key, and without one nobody could make another", k.ID), "create another admin key first")
		}
		next := *k
		next.Secrets, next.Revoked = nil, c.Now().UTC()
		tx.PutKey(&next)
		return nil
	})
}

// findKey finds a key that is not revoked.
func findKey(st *lb.State, id string) (*lb.AccessKey, error) {
	k := st.Keys.Get(lb.KeyID(id))
	if k == nil || !k.Active() {
		return nil, refuse(lb.NotFound, "SecretId", fmt.Sprintf("there is no access key %q, or it was revoked", clip(id, 60)), "DescribeAccessKeys lists them")
	}
	return k, nil
}

// fullAdmin reports whether k can make keys: a scoped admin cannot.
func fullAdmin(k *lb.AccessKey) bool {
	return k.Active() && k.Role == lb.KeyAdmin && len(k.Projects) == 0
}

func otherAdmin(st *lb.State, id lb.KeyID) bool {
	for other, k := range st.Keys.All() {
		if other != id && fullAdmin(k) {
			return true
		}
	}
	return false
}
