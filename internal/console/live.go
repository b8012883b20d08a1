// SPDX-License-Identifier: Apache-2.0

package console

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"
)

// How live a page is. A stream ends by itself now and then, so that no
// connection outlives its server's patience; browsers connect again.
const (
	livePeriod = time.Second
	liveLimit  = 2 * time.Minute
	batchRows  = 25 // verdicts shown per period; the rest is counted

	maxStreams = 16 // of one login; a page holds one while it is looked at

	beatPeriods = 4 // a stream with nothing to tell says so; browsers lose patience after 12 s
)

// live is the stream of server-sent events. It says that something a page
// shows has changed (event "changed", data the topic), and the page then asks
// for itself again; verdicts it carries itself (event "verdicts").
func (v *visit) live() error {
	topics := strings.Split(v.r.URL.Query().Get("topics"), ",")
	asks := topics[0] == "" // only whether the login holds and has room for a stream
	if !v.session.streams(1) {
		http.Error(v.w, fmt.Sprintf("this login has %d live pages open; close some, or log in again in another browser", maxStreams), http.StatusTooManyRequests)
		return nil
	}
	defer v.session.streams(-1)
	if asks {
		v.w.WriteHeader(http.StatusNoContent)
		return nil
	}
	ctx, cancel := context.WithTimeout(v.r.Context(), liveLimit)
	defer cancel()
	go func() {
		select {
		case <-v.Ending:
			cancel()
		case <-ctx.Done():
		}
	}()
	h := v.w.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("X-Accel-Buffering", "no")
	s := &stream{visit: v, control: http.NewResponseController(v.w), seen: map[string][sha256.Size]byte{}}
	if err := s.send("hello", "1"); err != nil {
		return nil // the browser went away
	}
	if contains(topics, "verdicts") {
		return s.verdicts(ctx)
	}
	tick := time.NewTicker(livePeriod)
	defer tick.Stop()
	for ctx.Err() == nil {
		if v.sessions.find(v.r, v.Keys, false) == nil {
			_ = s.send("expired", "1")
			return nil
		}
		for _, topic := range topics {
			if err := s.look(topic); err != nil {
				return nil
			}
		}
		if s.beats++; s.beats%beatPeriods == 0 && s.send("beat", "1") != nil {
			return nil
		}
		select {
		case <-ctx.Done():
		case <-tick.C:
		}
	}
	return nil
}

// A stream writes events and remembers what it has told.
type stream struct {
	*visit
	control *http.ResponseController
	seen    map[string][sha256.Size]byte
	beats   int
}

func (s *stream) send(event, data string) error {
	_ = s.control.SetWriteDeadline(time.Now().Add(10 * time.Second)) // not every writer has one
	if _, err := fmt.Fprintf(s.w, "event: %s\ndata: %s\n\n", event, data); err != nil {
		return err
	}
	return s.control.Flush()
}

// look tells a topic's change since the last look. The first look tells it too,
// because something may have changed since the page was made. Errors are those
// of the connection.
func (s *stream) look(topic string) error {
	now, ok := s.digest(topic)
	if !ok {
		return nil
	}
	before, known := s.seen[topic]
	s.seen[topic] = now
	if before != now && (known || topic != "flows") {
		return s.send("changed", topic)
	}
	return nil
}

// A lookout remembers what topics looked like a moment ago, so that many
// streams cost as much as one.
type lookout struct {
	mu   sync.Mutex
	seen map[string]*glance
}

type glance struct {
	at    time.Time
	sum   [sha256.Size]byte
	ok    bool
	taken chan struct{} // closed when sum is there
}

// look is the topic's newest glance, taken by fresh unless there is one of
// this moment. Who comes while it is taken waits for it; who looks at another
// topic does not.
func (o *lookout) look(topic string, fresh func() ([sha256.Size]byte, bool)) ([sha256.Size]byte, bool) {
	o.mu.Lock()
	if g, ok := o.seen[topic]; ok && time.Since(g.at) < livePeriod*9/10 {
		o.mu.Unlock()
		<-g.taken
		return g.sum, g.ok
	}
	if len(o.seen) > maxSessions {
		clear(o.seen)
	}
	g := &glance{at: time.Now(), taken: make(chan struct{})}
	o.seen[topic] = g
	o.mu.Unlock()
	defer close(g.taken) // also when fresh panics: nobody waits for ever
	g.sum, g.ok = fresh()
	return g.sum, g.ok
}

// digest is what a topic looks like now, or did a moment ago, to who may see
// the same: a look that one key is refused is not another's.
func (s *stream) digest(topic string) (sum [sha256.Size]byte, ok bool) {
	key := topic + " " + s.who().scope()
	if topic == "counters" {
		key += " " + s.r.URL.Query().Get("group")
	}
	return s.lookout.look(key, func() ([sha256.Size]byte, bool) { return s.fresh(topic) })
}

func (s *stream) fresh(topic string) (sum [sha256.Size]byte, ok bool) {
	switch topic {
	case "status":
		var st status
		if s.do(ourVersion, "DescribeStatus", nil, &st) != nil {
			return sum, false
		}
		for i := range st.Nodes {
			st.Nodes[i].LagMs = 0
		}
		raw, err := json.Marshal(st)
		return sha256.Sum256(raw), err == nil
	case "counters":
		var out struct{ Counters json.RawMessage }
		if s.do(ourVersion, "DescribeRuleCounters", m{"SecurityGroupId": s.r.URL.Query().Get("group")}, &out) != nil {
			return sum, false
		}
		return sha256.Sum256(out.Counters), true
	case "flows":
		return sha256.Sum256([]byte(s.history.looks(s.Now()))), true
	}
	return sum, false
}

// verdicts sends new verdicts as rows of the page's table, at most so many per
// period; what is left out is counted and said.
func (s *stream) verdicts(ctx context.Context) error {
	f := verdictFilterOf(s.r.URL.Query())
	cursor := int64(-1)
	for ctx.Err() == nil {
		if s.sessions.find(s.r, s.Keys, false) == nil {
			_ = s.send("expired", "1")
			return nil
		}
		found, next, lost, err := s.readVerdicts(ctx, f, cursor, beatPeriods)
		if err != nil {
			return nil
		}
		cursor = next
		skipped := max(0, len(found)-batchRows)
		var rows bytes.Buffer
		for _, row := range found[skipped:] {
			if err := s.pages.ExecuteTemplate(&rows, "verdict-row", row); err != nil {
				return err
			}
		}
		text, err := json.Marshal(m{"rows": rows.String(), "count": len(found), "skipped": skipped, "lost": lost})
		if err != nil {
			return err
		}
		if s.send("verdicts", string(text)) != nil {
			return nil
		}
		pause(ctx, livePeriod)
	}
	return nil
}
