// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/sallyport/sallyport/internal/lb"
)

const (
	// maxRequest bounds one transaction, in bytes.
	maxRequest = 32 << 20
	// retryAfter is the pause before a broken watch is set up again.
	retryAfter = 200 * time.Millisecond
	// renewLease is how long one lease serves new tasks and tokens; it is
	// granted for keepAux more than that.
	renewLease = time.Hour
)

// etcd is the backend on an etcd cluster, embedded or not.
type etcd struct {
	client *clientv3.Client
	server *server // nil: an external cluster
	log    *slog.Logger

	mu    sync.Mutex
	lease clientv3.LeaseID
	since time.Time // when lease was granted
}

func openEtcd(ctx context.Context, o Options) (_ *Store, err error) {
	e := &etcd{log: o.Log}
	if e.log == nil {
		e.log = slog.New(slog.DiscardHandler)
	}
	defer func() {
		if err != nil {
			e.close()
		}
	}()
	endpoints := o.Endpoints
	if len(endpoints) == 0 {
		if e.server, err = startServer(ctx, o.DataDir, o.History); err != nil {
			return nil, err
		}
		endpoints = []string{e.server.endpoint}
	}
	e.client, err = clientv3.New(clientv3.Config{
		Endpoints:            endpoints,
		DialKeepAliveTime:    10 * time.Second,
		DialKeepAliveTimeout: 5 * time.Second,
		MaxCallSendMsgSize:   maxRequest,
		Logger:               zap.NewNop(),
	})
	if err != nil {
		return nil, fmt.Errorf("etcd client: %w", err)
	}
	v, at, err := e.load(ctx)
	if err != nil {
		return nil, err
	}
	s := newStore(e, v)
	follow, stop := context.WithCancel(context.Background())
	s.stop = stop
	s.wg.Add(1)
	go func() {
		defer s.wg.Done()
		e.follow(follow, s, at)
	}()
	return s, nil
}

func (e *etcd) close() error {
	var err error
	if e.client != nil {
		err = e.client.Close()
		if errors.Is(err, context.Canceled) {
			err = nil // what Close itself cancels
		}
	}
	if e.server != nil {
		err = errors.Join(err, e.server.close())
	}
	return err
}

func (e *etcd) commit(ctx context.Context, w write) (int64, bool, error) {
	if e.server != nil {
		if err := e.server.reserve.check(); err != nil {
			return 0, false, err
		}
	}
	guard, ok, err := e.try(ctx, w)
	if errors.Is(err, rpctypes.ErrLeaseNotFound) {
		// The cluster was restored from an older backup, say. Nothing was
		// written; a new lease will do.
		e.mu.Lock()
		e.lease = clientv3.NoLease
		e.mu.Unlock()
		guard, ok, err = e.try(ctx, w)
	}
	return guard, ok, err
}

func (e *etcd) try(ctx context.Context, w write) (int64, bool, error) {
	ops := make([]clientv3.Op, 0, len(w.changes)+len(w.aux)+4)
	for _, c := range w.changes {
		if c.value == nil {
			ops = append(ops, clientv3.OpDelete(c.key))
		} else {
			ops = append(ops, clientv3.OpPut(c.key, string(c.value)))
		}
	}
	if len(w.aux) > 0 {
		lease, err := e.auxLease(ctx)
		if err != nil {
			return 0, false, err
		}
		last := map[string][]byte{} // one transaction may put a key only once
		for _, c := range w.aux {
			last[c.key] = c.value
		}
		for key, value := range last {
			ops = append(ops, clientv3.OpPut(key, string(value), clientv3.WithLease(lease)))
		}
	}
	if w.line != nil {
		number := w.base.audit + 1
		ops = append(ops, clientv3.OpPut(auditKey(number), string(w.line)), clientv3.OpPut(auditNumKey, strconv.FormatUint(number, 10)))
	}
	if w.num != w.base.num {
		ops = append(ops, clientv3.OpPut(numKey, strconv.FormatUint(uint64(w.num), 10)))
	}
	// The guard comes last: whoever follows has seen the whole transaction
	// when it arrives.
	ops = append(ops, clientv3.OpPut(guardKey, strconv.FormatUint(uint64(w.revision), 10)))
	resp, err := e.client.Txn(ctx).
		If(clientv3.Compare(clientv3.ModRevision(guardKey), "=", w.base.guard)).
		Then(ops...).Commit()
	if err != nil {
		return 0, false, err
	}
	return resp.Header.Revision, resp.Succeeded, nil
}

// auxLease returns a lease that lasts at least keepAux from now.
func (e *etcd) auxLease(ctx context.Context) (clientv3.LeaseID, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.lease != clientv3.NoLease && time.Since(e.since) < renewLease {
		return e.lease, nil
	}
	granted := time.Now()
	resp, err := e.client.Grant(ctx, int64((keepAux + renewLease + time.Minute).Seconds()))
	if err != nil {
		return clientv3.NoLease, fmt.Errorf("grant lease: %w", err)
	}
	e.lease, e.since = resp.ID, granted
	return e.lease, nil
}

func (e *etcd) aux(ctx context.Context, key string) ([]byte, bool, error) {
	resp, err := e.client.Get(ctx, key)
	if err != nil || len(resp.Kvs) == 0 {
		return nil, false, err
	}
	return resp.Kvs[0].Value, true, nil
}

func (e *etcd) newest(ctx context.Context) (int64, error) {
	if e.server != nil {
		return 0, nil
	}
	resp, err := e.client.Get(ctx, guardKey, clientv3.WithKeysOnly())
	if err != nil || len(resp.Kvs) == 0 {
		return 0, err
	}
	return resp.Kvs[0].ModRevision, nil
}

// load reads the whole state at one database revision, which it returns.
func (e *etcd) load(ctx context.Context) (*view, int64, error) {
	resp, err := e.client.Get(ctx, prefix, clientv3.WithPrefix())
	if err != nil {
		return nil, 0, fmt.Errorf("read the state: %w", err)
	}
	f := newFold(emptyView())
	for _, kv := range resp.Kvs {
		if err := f.put(string(kv.Key), kv.Value, kv.ModRevision); err != nil {
			return nil, 0, fmt.Errorf("read the state: %w", err)
		}
	}
	return f.view(), resp.Header.Revision, nil
}

// follow publishes what anybody writes, until ctx ends. It keeps one watch;
// when that breaks or was compacted away, it reads the whole state again.
func (e *etcd) follow(ctx context.Context, s *Store, at int64) {
	for ctx.Err() == nil {
		e.watch(ctx, s, at+1)
		for ctx.Err() == nil {
			v, now, err := e.load(ctx)
			if err == nil {
				// Never back behind a commit of ours that the read missed.
				s.replaceIf(v, func(cur *view) bool { return now >= cur.guard && v.guard != cur.guard })
				at = now
				break
			}
			e.log.Error("the state cannot be read; what is known stays in force", "error", err)
			select {
			case <-time.After(retryAfter):
			case <-ctx.Done():
			}
		}
	}
}

// watch folds events into views until the watch breaks.
func (e *etcd) watch(ctx context.Context, s *Store, from int64) {
	ctx, cancel := context.WithCancel(clientv3.WithRequireLeader(ctx))
	defer cancel()
	var f *fold
	var base *view
	for resp := range e.client.Watch(ctx, prefix, clientv3.WithPrefix(), clientv3.WithRev(from)) {
		if resp.Err() != nil {
			return
		}
		for _, ev := range resp.Events {
			key, at := string(ev.Kv.Key), ev.Kv.ModRevision
			if cur, _ := s.current(); at <= cur.guard {
				f = nil // a commit of this process, published already
				continue
			}
			if f == nil {
				base, _ = s.current()
				f = newFold(base)
			}
			var err error
			if ev.Type == clientv3.EventTypeDelete {
				err = f.remove(key)
			} else {
				err = f.put(key, ev.Kv.Value, at)
			}
			if err != nil {
				return
			}
			if key == guardKey {
				s.advance(base, f.view())
				f = nil
			}
		}
	}
}

// errGuardGone means that somebody removed the guard by hand.
var errGuardGone = errors.New("the key " + guardKey + " was deleted")

// A fold applies keys as the database has them to a state.
type fold struct {
	draft *draft
	base  *view
	guard int64
	kinds map[string]anyCollection
}

func newFold(base *view) *fold {
	f := &fold{draft: newDraft(base), base: base, guard: base.guard, kinds: map[string]anyCollection{}}
	for _, c := range collections() {
		f.kinds[c.name()] = c
	}
	return f
}

func (f *fold) put(key string, value []byte, at int64) error {
	switch key {
	case guardKey:
		n, err := strconv.ParseUint(string(value), 10, 32)
		if err != nil {
			return fmt.Errorf("%s: %w", key, err)
		}
		f.draft.state.Revision, f.guard = lb.Revision(n), at
		return nil
	case numKey:
		n, err := strconv.ParseUint(string(value), 10, 24)
		if err != nil {
			return fmt.Errorf("%s: %w", key, err)
		}
		f.draft.num = uint32(n)
		return nil
	case auditNumKey:
		n, err := strconv.ParseUint(string(value), 10, 64)
		if err != nil {
			return fmt.Errorf("%s: %w", key, err)
		}
		f.draft.audit = n
		return nil
	}
	if c, id, ok := f.object(key); ok {
		return f.draft.set(c, id, value)
	}
	return nil
}

func (f *fold) remove(key string) error {
	switch key {
	case guardKey:
		return errGuardGone
	case numKey:
		f.draft.num = 0
		return nil
	case auditNumKey:
		f.draft.audit = 0
		return nil
	}
	if c, id, ok := f.object(key); ok {
		f.draft.remove(c, id)
	}
	return nil
}

// object finds the collection of a key. Kinds that a newer release beside us
// has added are none of ours: left alone, never written.
func (f *fold) object(key string) (c anyCollection, id string, ok bool) {
	kind, id, ok := strings.Cut(strings.TrimPrefix(key, prefix), "/")
	c = f.kinds[kind]
	return c, id, ok && c != nil
}

// view is the state folded so far. When only tasks or tokens were written, it
// is the very state it began from.
func (f *fold) view() *view {
	v := &view{state: f.draft.state, index: f.draft.index, num: f.draft.num, audit: f.draft.audit, guard: f.guard}
	if v.state.Revision == f.base.state.Revision && !f.draft.changed {
		v.state, v.index = f.base.state, f.base.index
	}
	return v
}
