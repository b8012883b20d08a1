// SPDX-License-Identifier: Apache-2.0

package flow

import (
	"time"

	"github.com/sallyport/sallyport/internal/lb"
)

// RequestClasses is how many kinds of answer a Requests tells apart.
const RequestClasses = 6

// Requests are the HTTP requests that one gateway has answered for one
// layer-7 rule since Baseline. Location "" are those that no rule took: the
// proxy answered them itself.
type Requests struct {
	Node     lb.NodeID
	Balancer lb.BalancerID
	Listener lb.ListenerID
	Location lb.LocationID
	Answers  [RequestClasses]uint64 // by the first digit of the status; 0: the client left before there was one
	Baseline time.Time
}

// Key is r without its numbers and times: what says which requests are meant.
func (r Requests) Key() Requests {
	return Requests{Node: r.Node, Balancer: r.Balancer, Listener: r.Listener, Location: r.Location}
}

// StatusClass is the index in Requests.Answers of an HTTP status; 0 for what
// is none.
func StatusClass(status int) int {
	if class := status / 100; class > 0 && class < RequestClasses {
		return class
	}
	return 0
}

// StatusWord names a class as people read it: "2xx", and "none" for 0.
func StatusWord(class int) string {
	if class <= 0 || class >= RequestClasses {
		return "none"
	}
	return string(rune('0'+class)) + "xx"
}
