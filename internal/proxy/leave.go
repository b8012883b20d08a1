// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"net"
	"sync"
	"time"
)

// upstreams hold the open connections to targets, by number. They outlive views:
// requests to a target that was taken away go on, and end after a while.
type upstreams struct {
	mu   sync.Mutex
	open map[uint32]map[*upstream]bool
	ends map[uint32]*time.Timer // of targets that were taken away
}

// hold keeps a new connection to a target until it is closed.
func (u *upstreams) hold(num uint32, conn net.Conn, stall time.Duration) *upstream {
	c := &upstream{stallConn: stallConn{conn, stall}}
	c.closed = func() {
		u.mu.Lock()
		defer u.mu.Unlock()
		delete(u.open[num], c)
		if len(u.open[num]) == 0 {
			delete(u.open, num)
		}
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.open[num] == nil {
		u.open[num] = map[*upstream]bool{}
	}
	u.open[num][c] = true
	return c
}

// turn lets what is open to targets that the next view has no more go on for the
// given time. One that came back is as any other.
func (u *upstreams) turn(old, next *view, limit time.Duration) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for num, timer := range u.ends {
		if _, back := next.targets[num]; back {
			timer.Stop()
			delete(u.ends, num)
		}
	}
	for num := range old.targets {
		if _, stays := next.targets[num]; !stays {
			var timer *time.Timer
			timer = time.AfterFunc(limit, func() { u.end(num, &timer) })
			u.ends[num] = timer
		}
	}
}

// end closes what is still open to a target, unless its time was taken back.
func (u *upstreams) end(num uint32, timer **time.Timer) {
	u.mu.Lock()
	var left []*upstream
	if u.ends[num] == *timer {
		delete(u.ends, num)
		for c := range u.open[num] {
			left = append(left, c)
		}
	}
	u.mu.Unlock()
	for _, c := range left {
		c.Close()
	}
}

// stop takes all times back: the proxy ends.
func (u *upstreams) stop() {
	u.mu.Lock()
	defer u.mu.Unlock()
	for num, timer := range u.ends {
		timer.Stop()
		delete(u.ends, num)
	}
}

// An upstream is a connection to a target.
type upstream struct {
	stallConn
	closed func()
}

// Close ends the connection.
func (c *upstream) Close() error {
	c.closed()
	return c.stallConn.Close()
}
