// SPDX-License-Identifier: Apache-2.0

package lb

import (
	"fmt"
	"strings"
)

// The schedulers: how a new flow or request finds its target. The empty text
// means WRR.
const (
	SchedulerWRR   = "WRR"        // in proportion to weights
	SchedulerLeast = "LEAST_CONN" // the fewest connections for its weight, of two drawn in proportion to weights
	SchedulerHash  = "IP_HASH"    // by the client's address alone
)

// A Choice is what else counts when a target is chosen. The zero Choice is the
// vendor's default: no stickiness, all targets when none is healthy, no slow
// start.
type Choice struct {
	Session     int    `json:",omitempty"` // seconds for which a client stays with its target at least; 0: it need not
	Cookie      string `json:",omitempty"` // name of the cookie, layer 7 only; "": DefaultCookie
	HealthyOnly bool   `json:",omitempty"` // no target is taken when none is healthy
	SlowStart   int    `json:",omitempty"` // seconds until a target that came up has its whole share; 0: at once
}

// DefaultCookie is the name of the session cookie where none was given.
const DefaultCookie = "sallyport_route"

// Bounds of a Choice. Session is 0 or within its bounds.
const (
	SessionLeast = 30
	SessionMost4 = 3600  // layer 4
	SessionMost7 = 86400 // layer 7
	SlowMost     = 900
)

// Sticky reports whether a layer-4 listener goes by the client's address alone.
func Sticky(scheduler string, c Choice) bool { return scheduler == SchedulerHash || c.Session > 0 }

// Validate reports the first fault of a choice with its scheduler as an
// *Error whose Field begins with field.
func (c Choice) Validate(field, scheduler string, layer7 bool) error {
	most := SessionMost4
	if layer7 {
		most = SessionMost7
	}
	switch {
	case c.Session != 0 && (c.Session < SessionLeast || c.Session > most):
		return Refuse(Range, field+"SessionExpireTime", fmt.Sprintf("%d is neither 0 nor within %d-%d", c.Session, SessionLeast, most), "0 switches stickiness off")
	case c.Session != 0 && scheduler != SchedulerWRR && scheduler != "":
		return Refuse(Coexist, field+"SessionExpireTime", "stickiness goes with WRR only, and the scheduler is "+scheduler, "give 0, or Scheduler WRR")
	case c.Cookie != "" && !layer7:
		return Refuse(Invalid, field+"CookieName", "a layer-4 listener sees no cookies", "leave it out")
	case c.Cookie != "" && c.Session == 0:
		return Refuse(Coexist, field+"CookieName", "no session is kept", "give SessionExpireTime too")
	case len(c.Cookie) > 80:
		return Refuse(TooLong, field+"CookieName", "longer than 80 characters", "shorten it")
	case strings.IndexFunc(c.Cookie, outside("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.")) >= 0:
		return Refuse(Invalid, field+"CookieName", fmt.Sprintf("%q has characters that names of cookies do not have", c.Cookie), "use a-z A-Z 0-9 _ - .")
	}
	return nil
}
