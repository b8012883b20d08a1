// SPDX-License-Identifier: Apache-2.0

package control

import (
	"context"
	"errors"
	"time"

	"github.com/sallyport/sallyport/internal/lb"
	"github.com/sallyport/sallyport/internal/wire"
)

const (
	// queueLimit bounds what waits for one node. A node that falls further
	// behind skips to the newest.
	queueLimit = 8
	// stallLimit is how long one message may take to leave. After it the
	// stream is closed; the node comes back by itself.
	stallLimit = 10 * time.Second
	retryFirst = time.Second
	retryLast  = 30 * time.Second
)

var (
	errClosing    = errors.New("the server is stopping")
	errReplaced   = errors.New("the node has attached again")
	errStalled    = errors.New("the node does not read its stream")
	errRemoved    = errors.New("the node's instance no longer exists")
	errForgotten  = errors.New("the server knows this node no longer: to have it back, make a token with `sallyport node token` and join again")
	errSuperseded = errors.New("another machine has joined under this node's name since: its certificate is the valid one")
)

// A session is one node's stream. Its fields are guarded by Control.mu,
// except those marked.
type session struct {
	identity
	fingerprint string                  // of its certificate; never changes
	stop        context.CancelCauseFunc // ends the stream; any goroutine
	wake        chan struct{}           // room for one: the queue has grown

	protocol  uint32                       // that the node speaks; never changes
	asked     uint64                       // questions so far
	asks      map[uint64]chan *wire.Answer // that are not answered
	questions []*wire.Ask                  // that have not left
	queue     []outgoing
	offered   lb.Revision // newest put in the queue to be staged
	released  lb.Revision // newest put in the queue to be committed
	carries   lb.Revision // oldest offered that contains the host's instance; 0: none yet
	staged    lb.Revision // newest acknowledged
	committed lb.Revision // newest acknowledged, or what the node came with
	failed    lb.Revision // the newest offered was refused: equals offered; else 0
	retryAt   time.Time   // when to offer a refused one again
	retryWait time.Duration
	late      bool              // it let a round wait in vain and has not caught up
	least     lb.Revision       // what the node came with; it takes nothing older
	ahead     string            // set before the session is added: why its revision is not followed; "": it is
	loads     map[uint32]uint32 // gateway: connections by target that it has not been told
	forget    bool              // the sender must assume that the node holds no blob

	has    map[string]bool // sender only: blobs that the node holds
	passed lb.Revision     // sender only: what it was told that gateways have passed
}

// outgoing is a Stage, or a Commit when parcel is nil.
type outgoing struct {
	parcel *parcel
	commit lb.Revision
}

func newSession(id identity, hello *wire.Hello, stop context.CancelCauseFunc) *session {
	s := &session{identity: id, stop: stop, wake: make(chan struct{}, 1), has: map[string]bool{},
		protocol: hello.Protocol, asks: map[uint64]chan *wire.Answer{},
		committed: lb.Revision(hello.Revision), least: lb.Revision(max(hello.Revision, hello.Kernel)), retryWait: retryFirst}
	for _, h := range hello.Have {
		s.has[h] = true
	}
	return s
}

// offer queues a snapshot to be staged unless a newer one was queued already.
func (s *session) offer(p *parcel) {
	if p.revision <= s.offered {
		return
	}
	s.offered, s.failed = p.revision, 0
	if s.carries == 0 && p.contains(s.Instance) {
		s.carries = p.revision
	}
	if len(s.queue) >= queueLimit {
		s.queue = s.queue[:0]
	}
	s.put(outgoing{parcel: p})
}

// commit queues the commit of r, if r is what was offered last.
func (s *session) commit(r lb.Revision) {
	if r != s.offered || r <= s.released || r == s.failed {
		return
	}
	s.released = r
	s.put(outgoing{commit: r})
}

func (s *session) put(o outgoing) {
	s.queue = append(s.queue, o)
	s.rouse()
}

// rouse lets the sender look for something to send.
func (s *session) rouse() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// refused notes that the node could not take r and when to try again. Blobs
// may be what is wrong, so all of them will be sent.
func (s *session) refused(r lb.Revision, now time.Time) {
	s.forget = true
	if r == s.offered {
		s.failed = r
		s.retryAt = now.Add(s.retryWait)
		s.retryWait = min(2*s.retryWait, retryLast)
	}
}

// again makes the last refused snapshot offerable once more.
func (s *session) again() { s.offered, s.released, s.failed = 0, 0, 0 }

// take hands the sender the oldest message; ok is false when there is none.
func (c *Control) take(s *session) (message *wire.ServerMessage, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(s.queue) == 0 && len(s.questions) > 0 {
		next := s.questions[0]
		s.questions = s.questions[1:]
		return &wire.ServerMessage{Kind: &wire.ServerMessage_Ask{Ask: next}}, true
	}
	if len(s.queue) == 0 {
		if m := c.takePassed(s); m != nil {
			return m, true
		}
		return s.takePending()
	}
	next := s.queue[0]
	s.queue = append(s.queue[:0], s.queue[1:]...)
	if s.forget {
		s.forget = false
		clear(s.has)
	}
	if next.parcel == nil {
		return &wire.ServerMessage{Kind: &wire.ServerMessage_Commit{
			Commit: &wire.Commit{Revision: uint32(next.commit)}}}, true
	}
	stage := next.parcel.stage(s.has)
	s.has = next.parcel.hashes()
	return &wire.ServerMessage{Kind: &wire.ServerMessage_Stage{Stage: stage}}, true
}

// send moves the queue to the stream until the session ends. A message that
// does not leave in time ends it.
func (c *Control) send(ctx context.Context, s *session, stream wire.Control_AttachServer) {
	for ctx.Err() == nil {
		message, ok := c.take(s)
		if !ok {
			select {
			case <-s.wake:
			case <-ctx.Done():
			}
			continue
		}
		stall := time.AfterFunc(c.stall, func() { s.stop(errStalled) })
		err := stream.Send(message)
		stall.Stop()
		if err != nil {
			s.stop(err)
		}
	}
}
