// SPDX-License-Identifier: Apache-2.0

package cloudapi

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/sallyport/sallyport/internal/lb"
	"github.com/sallyport/sallyport/internal/store"
)

// maxParams bounds what is kept of a call's parameters, in bytes.
const maxParams = 16 << 10

// line is the audit log's line of this call.
func (c *Call) line() store.Audit {
	a := store.Audit{Time: c.Now().UTC(), Address: c.Caller.Address, Client: c.Caller.Client,
		Service: c.Service.Name, Action: c.Action.Name, RequestID: c.RequestID, Params: c.params()}
	if c.Key != nil {
		a.Key, a.Role = c.Key.ID, c.Key.Role
	}
	return a
}

// params are the call's parameters without secrets.
func (c *Call) params() json.RawMessage {
	if c.raw == nil {
		return nil
	}
	raw := c.raw.body
	if c.raw.flat != nil {
		raw, _ = json.Marshal(c.raw.flat) // a map of texts marshals
	}
	if len(raw) == 0 {
		return nil
	}
	raw = store.Redact(raw)
	if len(raw) > maxParams {
		raw = fmt.Appendf(nil, `{"Bytes":%d,"Cut":true}`, len(raw))
	}
	return raw
}

// record adds a line about a write that changed nothing in the store: one that
// was refused, or one whose effect is elsewhere.
func (c *Call) record(refusal *Error) error {
	// A client that goes away does not keep its refusal out of the log.
	_, err := c.Store.Update(context.WithoutCancel(c.ctx), func(tx *store.Tx) error {
		a := c.line()
		a.Message = c.effect
		if refusal != nil {
			a.Refusal, a.Message = refusal.Code, refusal.Message
		}
		tx.SetAudit(a)
		return nil
	})
	return err
}

func auditActions() []Action {
	return []Action{
		action(serviceSallyport, "DescribeAuditLog", describeAuditLog).fails("InvalidParameterCombination", "InvalidParameterValue"),
	}
}

type describeAuditIn struct {
	After       *int64   `tc:"range=0-"` // lines after this number, the oldest first
	Before      *int64   `tc:"range=0-"` // lines before this number, the newest first; the newest of all when neither is given
	Limit       *int64   `tc:"range=1-100"`
	WaitSeconds int64    `tc:"range=0-60"` // with After: wait for a line when there is none yet
	StartTime   string   `tc:""`           // "2026-11-23 08:00:00" in UTC, inclusive
	EndTime     string   `tc:""`           // exclusive
	Filters     []Filter `tc:"" filters:"secret-id role action object-id revision outcome=done|refused address request-id"`
}

type describeAuditOut struct {
	Lines  []auditOut
	Next   uint64 // go on with it as After or Before, as it was asked
	More   bool   // whether there may be others on that way
	Newest uint64 // the number of the log's newest line
}

// auditOut is one line. Outcome is done or refused.
type auditOut struct {
	Number                      uint64
	Time                        string
	SecretId, KeyName, Role     string // "" for the server itself
	Address, Client             string
	Service, Action, RequestId  string
	Parameters                  json.RawMessage `json:",omitempty"`
	Outcome, ErrorCode, Message string
	Revision                    lb.Revision
	Changes                     []store.Change
}

// auditScan bounds how many lines one call looks at.
const auditScan = 20000

// describeAuditLog reads the audit log in either direction.
func describeAuditLog(c *Call, in *describeAuditIn) (*describeAuditOut, error) {
	q, err := auditQueryOf(c, in)
	if err != nil {
		return nil, err
	}
	ctx, cancel, err := c.waiting(in.WaitSeconds)
	if err != nil {
		return nil, err
	}
	defer cancel()
	if in.After != nil && in.WaitSeconds > 0 {
		c.Store.AwaitAudit(ctx, q.at)
	}
	out := &describeAuditOut{Next: q.at, Newest: c.Store.AuditNumber()}
	for scanned := 0; ; {
		from, to := q.next(out.Next, out.Newest)
		out.More = from < to
		if !out.More || len(out.Lines) >= q.limit || scanned >= auditScan {
			return out, nil
		}
		lines, err := c.Store.AuditLines(c.ctx, from, to)
		if err != nil {
			return nil, err
		}
		scanned += int(to - from)
		if out.Next = from; q.forward {
			out.Next = to - 1
		} else {
			slices.Reverse(lines)
		}
		if err := q.take(c, lines, out); err != nil {
			return nil, err
		}
	}
}

// An auditQuery is what DescribeAuditLog asks for.
type auditQuery struct {
	forward    bool
	at         uint64 // begin behind this number, in the direction
	limit      int
	start, end time.Time // zero: no bound
	filters    []Filter
}

func auditQueryOf(c *Call, in *describeAuditIn) (q auditQuery, err error) {
	q = auditQuery{limit: defaultLimit, filters: in.Filters, at: c.Store.AuditNumber() + 1}
	switch {
	case in.After != nil && in.Before != nil:
		return q, refuse(lb.Coexist, "Before", "it is given together with After", "give one of them")
	case in.After != nil:
		q.forward, q.at = true, uint64(*in.After)
	case in.Before != nil:
		q.at = min(q.at, uint64(*in.Before))
	}
	if in.Limit != nil {
		q.limit = int(*in.Limit)
	}
	if q.start, err = moment("StartTime", in.StartTime); err != nil {
		return q, err
	}
	q.end, err = moment("EndTime", in.EndTime)
	return q, err
}

// next is the range of numbers to read next, behind at.
func (q auditQuery) next(at, newest uint64) (from, to uint64) {
	const chunk = 200
	if q.forward {
		return at + 1, min(at+1+chunk, newest+1)
	}
	at = min(at, newest+1)
	if at <= 1 {
		return 1, 1
	}
	return max(at, chunk+1) - chunk, at
}

// take adds the lines that match until the limit is reached.
func (q auditQuery) take(c *Call, lines []store.Audit, out *describeAuditOut) error {
	found, err := filter(lines, q.filters, auditFilters(), nil)
	if err != nil {
		return err
	}
	for _, a := range found {
		switch {
		case !q.start.IsZero() && a.Time.Before(q.start), !q.end.IsZero() && !a.Time.Before(q.end):
			continue
		case len(out.Lines) >= q.limit:
			out.More = true
			return nil
		}
		out.Lines = append(out.Lines, showAudit(c.State(), a))
		if len(out.Lines) == q.limit {
			out.Next = a.Number
		}
	}
	return nil
}

func auditFilters() map[string]func(store.Audit) []string {
	one := func(read func(store.Audit) string) func(store.Audit) []string {
		return func(a store.Audit) []string { return []string{read(a)} }
	}
	return map[string]func(store.Audit) []string{
		"secret-id":  one(func(a store.Audit) string { return string(a.Key) }),
		"role":       one(func(a store.Audit) string { return string(a.Role) }),
		"address":    one(func(a store.Audit) string { return a.Address }),
		"action":     one(func(a store.Audit) string { return a.Action }),
		"request-id": one(func(a store.Audit) string { return a.RequestID }),
		"revision":   one(func(a store.Audit) string { return strconv.FormatUint(uint64(a.Revision), 10) }),
		"outcome":    one(outcome),
		"object-id": func(a store.Audit) []string {
			var ids []string
			for _, ch := range a.Changes {
				ids = append(ids, ch.ID)
			}
			return ids
		},
	}
}

func outcome(a store.Audit) string {
	if a.Refusal != "" {
		return "refused"
	}
	return "done"
}

func showAudit(st *lb.State, a store.Audit) auditOut {
	o := auditOut{Number: a.Number, Time: precise(a.Time), SecretId: string(a.Key), Role: string(a.Role), Address: a.Address, Client: a.Client,
		Service: a.Service, Action: a.Action, RequestId: a.RequestID, Parameters: a.Params,
		Outcome: outcome(a), ErrorCode: a.Refusal, Message: a.Message, Revision: a.Revision, Changes: a.Changes}
	if k := st.Keys.Get(a.Key); k != nil {
		o.KeyName = k.Name
	}
	return o
}

// moment reads a time as it is written in answers, or as RFC 3339; "" is the
// zero time.
func moment(field, text string) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	for _, layout := range []string{time.DateTime, time.RFC3339} {
		if t, err := time.Parse(layout, text); err == nil {
			return t.UTC(), nil
		}
	}
	return time.Time{}, refuse(lb.Malformed, field, fmt.Sprintf("%q is not a time", clip(text, 40)), `write "2026-11-23 08:00:00", in UTC, or RFC 3339`)
}
