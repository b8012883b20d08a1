// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/sallyport/sallyport/internal/lb"
)

// An Audit is one line of the audit log. It is written by the transaction that
// it tells of: a change that is there has its line, and a line that tells of a
// change is true. Number, Revision and Changes are filled in by the store.
type Audit struct {
	Number    uint64 // from 1, without gaps, in the order of the commits
	Time      time.Time
	Key       lb.KeyID   // who; "" for this server itself
	Role      lb.KeyRole // of the key at that time
	Address   string     // where the call came from; "" in process
	Client    string     // what the caller's software calls itself
	Service   string
	Action    string
	RequestID string
	Params    json.RawMessage // without secrets; nil: none
	Refusal   string          // the code, when authorisation refused the write; else ""
	Message   string          // why it was refused
	Revision  lb.Revision     // after the write
	Changes   []Change        // in the order in which the write made them
}

// A Change is what one write did to one object: the fields that differ, or the
// whole object where it was made or deleted. Of a list that differs only the
// part that does is kept, under "Field[from:to]". Secrets are left out.
type Change struct {
	Kind   string // group, vpc, subnet, instance, balancer, listener, node, key, …
	ID     string
	Before json.RawMessage `json:",omitempty"` // nil: it was made by this write
	After  json.RawMessage `json:",omitempty"` // nil: it was deleted by this write
	Cut    bool            `json:",omitempty"` // too much to keep: Before and After are missing
}

// maxLine bounds the before and after of one line, in bytes.
const maxLine = 256 << 10

// maxLines bounds what one read of the audit log returns.
const maxLines = 1000

func auditKey(number uint64) string { return fmt.Sprintf("%s%020d", auditPrefix, number) }

// SetAudit says who makes this transaction, or that a call was refused, when
// nothing else is put. Without it, what changes the state is this process's own
// doing.
func (tx *Tx) SetAudit(a Audit) { tx.audit = &a }

// Touched lists what this transaction has changed so far, as kind and id.
func (tx *Tx) Touched() []Change {
	var all []Change
	for _, key := range tx.order {
		kind, id, _ := strings.Cut(strings.TrimPrefix(key, prefix), "/")
		all = append(all, Change{Kind: kind, ID: id})
	}
	return all
}

// Before is the state that this transaction began from.
func (tx *Tx) Before() *lb.State { return tx.base.state }

// auditLine is the line of a write.
func (tx *Tx) auditLine(w write) ([]byte, error) {
	var a Audit
	if tx.audit != nil {
		a = *tx.audit
	}
	if a.Time.IsZero() {
		a.Time = time.Now().UTC()
	}
	a.Number, a.Revision = tx.base.audit+1, w.revision
	kinds := map[string]anyCollection{}
	for _, c := range collections() {
		kinds[c.name()] = c
	}
	room := maxLine
	a.Changes = tx.Touched()
	for i := range a.Changes {
		c := &a.Changes[i]
		before := kinds[c.Kind].encoded(tx.base.state, c.ID)
		after := tx.write[objectKey(c.Kind, c.ID)]
		c.Before, c.After = differing(Redact(before), Redact(after))
		if room -= len(c.Before) + len(c.After); room < 0 {
			c.Before, c.After, c.Cut = nil, nil, true
		}
	}
	raw, err := encode(a)
	if err != nil {
		return nil, fmt.Errorf("audit line: %w", err)
	}
	return raw, nil
}

// differing cuts two forms of an object down to what differs.
func differing(before, after json.RawMessage) (old, now json.RawMessage) {
	var b, a map[string]json.RawMessage
	if before == nil || after == nil || json.Unmarshal(before, &b) != nil || json.Unmarshal(after, &a) != nil {
		return before, after
	}
	olds, nows := map[string]json.RawMessage{}, map[string]json.RawMessage{}
	for name, was := range b {
		if is, ok := a[name]; !ok {
			olds[name] = was
		} else if string(is) != string(was) {
			differingLists(name, was, is, olds, nows)
		}
	}
	for name, is := range a {
		if _, ok := b[name]; !ok {
			nows[name] = is
		}
	}
	old, _ = json.Marshal(olds) // maps of JSON marshal
	now, _ = json.Marshal(nows)
	return old, now
}

// differingLists keeps a field's two values, without the items that two lists
// have in common at their beginning and end.
func differingLists(name string, was, is json.RawMessage, olds, nows map[string]json.RawMessage) {
	var b, a []json.RawMessage
	if json.Unmarshal(was, &b) != nil || json.Unmarshal(is, &a) != nil || b == nil || a == nil {
		olds[name], nows[name] = was, is
		return
	}
	same := func(x, y json.RawMessage) bool { return string(x) == string(y) }
	head := 0
	for head < min(len(b), len(a)) && same(b[head], a[head]) {
		head++
	}
	tail := 0
	for tail < min(len(b), len(a))-head && same(b[len(b)-1-tail], a[len(a)-1-tail]) {
		tail++
	}
	part := func(list []json.RawMessage) (string, json.RawMessage) {
		end := len(list) - tail
		raw, _ := json.Marshal(list[head:end])
		return fmt.Sprintf("%s[%d:%d]", name, head, end), raw
	}
	at, raw := part(b)
	olds[at] = raw
	at, raw = part(a)
	nows[at] = raw
}

// AuditNumber is the number of the newest line, 0 before the first.
func (s *Store) AuditNumber() uint64 {
	v, _ := s.current()
	return v.audit
}

// AwaitAudit waits until there is a line after the one with this number, ctx
// ends or the Store closes.
func (s *Store) AwaitAudit(ctx context.Context, number uint64) {
	for {
		v, changed := s.current()
		if v.audit > number {
			return
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return
		case <-s.done:
			return
		}
	}
}

// AuditLines returns the lines with numbers in [from, to), in order, but no
// more than the first thousand of them. Lines that were trimmed are missing.
func (s *Store) AuditLines(ctx context.Context, from, to uint64) ([]Audit, error) {
	from = max(from, 1)
	to = min(to, s.AuditNumber()+1)
	if from >= to {
		return nil, nil
	}
	raws, err := s.back.lines(ctx, from, min(to, from+maxLines))
	if err != nil {
		return nil, fmt.Errorf("read the audit log: %w", err)
	}
	all := make([]Audit, len(raws))
	for i, raw := range raws {
		if err := decode(raw, &all[i]); err != nil {
			return nil, fmt.Errorf("read the audit log: %w", err)
		}
	}
	return all, nil
}

// TrimAudit forgets all but the newest lines, keep of them, and of those what
// is older than before. A keep of 0 bounds by age alone, the zero time by
// number alone.
func (s *Store) TrimAudit(ctx context.Context, keep int, before time.Time) error {
	newest := s.AuditNumber()
	cut := uint64(1)
	if keep > 0 && newest > uint64(keep) {
		cut = newest - uint64(keep) + 1
	}
	first, err := s.firstSince(ctx, cut, newest+1, before)
	if err != nil || first <= 1 {
		return err
	}
	if err := s.back.trim(ctx, first); err != nil {
		return fmt.Errorf("trim the audit log: %w", err)
	}
	return nil
}

// firstSince searches [from, to) for the first line that is not older than t.
// Times rise with numbers, but for the clocks' differences.
func (s *Store) firstSince(ctx context.Context, from, to uint64, t time.Time) (uint64, error) {
	for from < to && !t.IsZero() {
		middle := from + (to-from)/2
		lines, err := s.AuditLines(ctx, middle, middle+1)
		if err != nil {
			return 0, err
		}
		// A line that is missing was trimmed: what is kept comes after it.
		if len(lines) == 0 || lines[0].Time.Before(t) {
			from = middle + 1
		} else {
			to = middle
		}
	}
	return from, nil
}

func (e *etcd) lines(ctx context.Context, from, to uint64) ([][]byte, error) {
	resp, err := e.client.Get(ctx, auditKey(from), clientv3.WithRange(auditKey(to)))
	if err != nil {
		return nil, err
	}
	all := make([][]byte, len(resp.Kvs))
	for i, kv := range resp.Kvs {
		all[i] = kv.Value
	}
	return all, nil
}

func (e *etcd) trim(ctx context.Context, below uint64) error {
	_, err := e.client.Delete(ctx, auditKey(0), clientv3.WithRange(auditKey(below)))
	return err
}

// redacted stands where a secret was.
const redacted = `"(redacted)"`

// Redact replaces the values of all fields that hold secrets by "(redacted)",
// at any depth. They are known by their names, so that a field that is added
// is covered too. What is not JSON is replaced whole.
func Redact(raw json.RawMessage) json.RawMessage {
	if len(raw) == 0 || !mayHoldSecret(raw) {
		return raw
	}
	var object map[string]json.RawMessage
	if json.Unmarshal(raw, &object) == nil {
		for name, value := range object {
			switch {
			case isSecret(name):
				object[name] = json.RawMessage(redacted)
			default:
				object[name] = Redact(value)
			}
		}
		out, _ := json.Marshal(object)
		return out
	}
	var list []json.RawMessage
	if json.Unmarshal(raw, &list) == nil {
		for i := range list {
			list[i] = Redact(list[i])
		}
		out, _ := json.Marshal(list)
		return out
	}
	if json.Valid(raw) {
		return raw // a text that merely mentions one
	}
	return json.RawMessage(redacted)
}

// secretWords are parts of names of fields that hold secrets, in lower case.
// "key" alone is not one of them: tags have keys.
func secretWords() []string {
	return []string{"password", "passwd", "secret", "sealed", "privatekey", "certkey", "certificatekey", "userdata", "token", "signature"}
}

func mayHoldSecret(raw []byte) bool {
	text := strings.ToLower(string(raw))
	return slices.ContainsFunc(secretWords(), func(word string) bool { return strings.Contains(text, word) })
}

func isSecret(name string) bool {
	name = strings.ToLower(name[strings.LastIndexByte(name, '.')+1:])
	switch name {
	case "secretid", "secrets", "clienttoken", "signaturemethod":
		return false
	}
	return slices.ContainsFunc(secretWords(), func(word string) bool { return strings.Contains(name, word) })
}
