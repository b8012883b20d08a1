// SPDX-License-Identifier: Apache-2.0

package cloudapi

import (
	"context"
	"crypto/rand"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sallyport/sallyport/internal/lb"
	"github.com/sallyport/sallyport/internal/store"
)

// A Call is one running action: what handlers work with.
type Call struct {
	*Server
	*Action
	RequestID string
	Client    netip.Addr        // zero in process
	Caller    Caller            // who, and from where
	Key       *lb.AccessKey     // whose role and projects hold; nil: this server itself
	Echo      map[string]string // given echo fields: name → JSON text
	raw       *request
	ctx       context.Context
	keepFlows bool         // open flows keep their verdict, whatever this change does to rules
	recorded  bool         // whether the audit log has a line of this call
	forbidden error        // why projects forbid what the caller is told is not there; nil: they do not
	made      []string     // load balancers created, for the task's answer
	given     *policySetIn // the rules that the call gives, for what refusals name; nil: none
	faults    []error      // that decoding found, of an action that tells all
	effect    string       // for the audit log: what was done elsewhere than in the store

	// Of a call that is a part of another one, see applier.
	tx     *store.Tx  // of the other call; nil: it has its own
	ids    []string   // given to the objects that it makes, by prefix, instead of new ones
	public netip.Addr // given to the instance that it makes
}

// Context ends when the client goes away.
func (c *Call) Context() context.Context { return c.ctx }

// State is the newest desired state, as far as the caller may see it, or that
// of the transaction which the call is a part of. It is immutable. To a key
// that is scoped, objects of other projects are not there, so what an object
// names may be missing.
func (c *Call) State() *lb.State {
	if !c.narrow() {
		return c.Whole()
	}
	return narrowed(c.Whole(), c.Key)
}

// narrow reports whether the caller's key is for some projects only.
func (c *Call) narrow() bool { return c.Key != nil && len(c.Key.Projects) > 0 }

// Whole is State with the objects of all projects: for working out what packets
// meet, not for showing.
func (c *Call) Whole() *lb.State {
	if c.tx != nil {
		return c.tx.State()
	}
	return c.Store.State()
}

// Update runs fn as one transaction; fn may run again, so it may change only
// its Tx and variables it sets anew each time. What nodes could not put in
// force is refused (see checkFits). Every write of the clb service
// also records its task under the RequestId, in the same transaction, because
// clients poll DescribeTaskStatus after each of them. So does the audit log its
// line.
func (c *Call) Update(fn func(tx *store.Tx) error) error {
	if c.tx != nil {
		return fn(c.tx)
	}
	if right := c.Action.access.right; right == toRead || right == toOversee {
		return fmt.Errorf("%s is declared to %v, and writes", c.Action.Name, right)
	}
	_, err := c.Store.Update(c.ctx, func(tx *store.Tx) error {
		before := *tx.State() // keeps the maps that later changes replace
		if err := c.within(tx, fn, func() error {
			if err := checkFamilies(tx); err != nil {
				return err
			}
			if err := c.checkFits(tx, &before); err != nil {
				return err
			}
			c.noteKept(tx, &before)
			return nil
		}); err != nil {
			return err
		}
		if c.Service == serviceCLB {
			tx.PutTask(c.task(tx))
		}
		tx.SetAudit(c.line())
		return nil
	})
	c.recorded = c.recorded || err == nil
	return err
}

// refuse makes an lb.Error, which gets the code of the call's service.
func refuse(kind lb.Kind, field, fault, hint string) error {
	return lb.Refuse(kind, field, fault, hint)
}

// makeID is newID for objects that may be given their id by the call that this
// one is a part of.
func makeID[K ~string, V any](c *Call, prefix string, taken lb.Table[K, V]) K {
	for i, id := range c.ids {
		if _, ok := taken.Find(K(id)); strings.HasPrefix(id, prefix) && !ok {
			c.ids = slices.Delete(slices.Clone(c.ids), i, i+1)
			return K(id)
		}
	}
	return newID(prefix, taken)
}

// newID makes an id that is not in taken: prefix and eight random characters
// of a-z0-9, because clients match ids with \w{8}.
func newID[K ~string, V any](prefix string, taken lb.Table[K, V]) K {
	for {
		id := K(prefix + randomText(8))
		if _, ok := taken.Find(id); !ok {
			return id
		}
	}
}

// randomText is n evenly distributed characters of a-z0-9.
func randomText(n int) string {
	const letters = "abcdefghijklmnopqrstuvwxyz0123456789"
	text := make([]byte, 0, n)
	var b [16]byte
	for len(text) < n {
		_, _ = rand.Read(b[:])
		for _, c := range b {
			if c < 252 && len(text) < n { // 252 = 7×36: no letter is likelier
				text = append(text, letters[int(c)%len(letters)])
			}
		}
	}
	return string(text)
}

// stamp formats a time as clients expect it: "2006-01-02 15:04:05" in UTC, ""
// for the zero time.
func stamp(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.DateTime)
}

// A Tag is a label as vpc and cvm write it; clb has clbTag.
type Tag struct {
	Key   string `tc:"required"`
	Value string `tc:""`
}

// sortedKeys lists a map's keys in order, so that answers are stable.
func sortedKeys[K ~string, V any](m map[K]V) []K {
	keys := make([]K, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// Paging is Offset and Limit as integers: clb, cvm and tag.
type Paging struct {
	Offset *int64 `tc:"range=0-"`
	Limit  *int64 `tc:"range=1-100"`
}

// TextPaging is Offset and Limit as strings: most of vpc.
type TextPaging struct {
	Offset *string `tc:"range=0-"`
	Limit  *string `tc:"range=1-100"`
}

// Defaults and bounds of paging.
const (
	defaultLimit = 20
	maxLimit     = 100
)

// page cuts the asked page out of items.
func page[T any](items []T, p Paging) []T {
	offset, limit := int64(0), int64(defaultLimit)
	if p.Offset != nil {
		offset = *p.Offset
	}
	if p.Limit != nil {
		limit = *p.Limit
	}
	from := min(offset, int64(len(items)))
	return items[from:min(from+limit, int64(len(items)))]
}

// numbers turns text paging into numbers; what is none was refused before.
func (t TextPaging) numbers() Paging {
	number := func(text *string) *int64 {
		if text == nil {
			return nil
		}
		n, err := strconv.ParseInt(*text, 10, 64)
		if err != nil {
			return nil // ""
		}
		return &n
	}
	return Paging{Offset: number(t.Offset), Limit: number(t.Limit)}
}
