// SPDX-License-Identifier: Apache-2.0

package scenario

import (
	"context"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sallyport/sallyport/internal/cloudapi"
)

// follower collects every verdict of the lab, in order.
type follower struct {
	mu     sync.Mutex
	events []event
	lost   uint64
	fault  error
	cancel context.CancelFunc
	done   chan struct{}
}

// event is a verdict as DescribeVerdicts tells it.
type event struct {
	Time            string
	Gate            string
	Action          string
	Reason          string
	SecurityGroupId string
	PolicyPosition  int
	Protocol        string
	Source          string
	Destination     string
	Direction       string
	LoadBalancerId  string
	ListenerId      string
}

func follow(client *cloudapi.Client) *follower {
	ctx, cancel := context.WithCancel(context.Background())
	f := &follower{cancel: cancel, done: make(chan struct{})}
	go func() {
		defer close(f.done)
		after := uint64(0)
		for ctx.Err() == nil {
			var page struct {
				Verdicts   []event
				Next, Lost uint64
			}
			in := map[string]any{"After": after, "Limit": 100, "WaitSeconds": 5}
			err := client.Do(ctx, apiSallyport().Service, versionSallyport, "DescribeVerdicts", in, &page)
			f.mu.Lock()
			if f.fault = err; err == nil {
				f.events = append(f.events, page.Verdicts...)
				f.lost += page.Lost
				after = page.Next
			}
			f.mu.Unlock()
			if err != nil && ctx.Err() == nil {
				select {
				case <-ctx.Done():
				case <-time.After(100 * time.Millisecond):
				}
			}
		}
	}()
	return f
}

func (f *follower) stop() {
	f.cancel()
	<-f.done
}

// A mark is a moment among the verdicts: those on packets that were judged after it
// are told apart from those before it by the packets' own time, since a former
// attempt's may arrive later.
type mark struct {
	place int // in the sequence; nothing before it arrived later
	at    time.Time
}

// mark gives the present moment, once the clock that programs read is past it.
func (f *follower) mark(ctx context.Context) (mark, error) {
	f.mu.Lock()
	m := mark{len(f.events), coarseNow()}
	f.mu.Unlock()
	for !coarseNow().After(m.at) {
		select {
		case <-ctx.Done():
			return m, ctx.Err()
		case <-time.After(time.Millisecond):
		}
	}
	return m, nil
}

// coarseNow is the wall clock as it was at the kernel's last tick, up to 10 ms ago. Verdicts
// have their time by the same tick.
func coarseNow() time.Time {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_REALTIME_COARSE, &now); err != nil {
		return time.Now()
	}
	return time.Unix(now.Unix())
}

// since gives the verdicts on packets that were judged after a mark.
func (f *follower) since(m mark) ([]event, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.lost > 0 {
		return nil, fmt.Errorf("%d verdicts were lost", f.lost)
	}
	var later []event
	for _, e := range f.events[m.place:] {
		at, err := time.Parse(time.RFC3339Nano, e.Time)
		if err != nil {
			return nil, err
		}
		if at.After(m.at) {
			later = append(later, e)
		}
	}
	return later, f.fault
}
