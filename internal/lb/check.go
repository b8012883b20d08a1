// SPDX-License-Identifier: Apache-2.0

package lb

import (
	"fmt"
	"strings"
)

// The types of health check that are served.
const (
	CheckTCP  = "TCP"
	CheckHTTP = "HTTP"
)

// DefaultCheck is the check that a listener or rule of the protocol has when
// its author says nothing. Writers start from it and change what is given.
func DefaultCheck(p ListenerProtocol) HealthCheck {
	h := HealthCheck{On: true, Type: CheckTCP, TimeOut: 2, IntervalTime: 5, HealthNum: 3, UnHealthNum: 3}
	if p.Layer7() {
		h.Type = CheckHTTP
	}
	return h.WithDefaults()
}

// WithDefaults fills the HTTP fields that are empty, if the check is HTTP.
func (h HealthCheck) WithDefaults() HealthCheck {
	if h.Type != CheckHTTP {
		return h
	}
	if h.HTTPCode == 0 {
		h.HTTPCode = 31
	}
	if h.HTTPPath == "" {
		h.HTTPPath = "/"
	}
	if h.HTTPMethod == "" {
		h.HTTPMethod = "HEAD"
	}
	if h.HTTPVersion == "" {
		h.HTTPVersion = "HTTP/1.1"
	}
	return h
}

// Validate reports the first fault of a check that has its defaults filled in,
// on a listener or rule of protocol p. Field begins the error's field, such as
// "HealthCheck.". TimeOut may equal IntervalTime: the published ranges start
// both at 2 seconds, so the shortest check has them equal.
func (h HealthCheck) Validate(field string, p ListenerProtocol) error {
	switch h.Type {
	case CheckHTTP:
	case CheckTCP:
		if p.Layer7() {
			return Refuse(Unsupported, field+"CheckType", "TCP checks are not served on HTTP rules", "use HTTP")
		}
	case "HTTPS", "GRPC", "PING", "CUSTOM":
		return Refuse(Unsupported, field+"CheckType", h.Type+" checks are not served", "use TCP or HTTP")
	default:
		return Refuse(Invalid, field+"CheckType", fmt.Sprintf("%q is not a type of check", h.Type), "use TCP or HTTP")
	}
	for _, n := range []struct {
		name            string
		value, min, max int
	}{
		{"TimeOut", h.TimeOut, 2, 60},
		{"IntervalTime", h.IntervalTime, 2, 300},
		{"HealthNum", h.HealthNum, 2, 10},
		{"UnHealthNum", h.UnHealthNum, 2, 10},
		{"CheckPort", h.Port, 0, 65535},
		{"SourceIpType", h.SourceIPType, 0, 1},
	} {
		if n.value < n.min || n.value > n.max {
			return Refuse(Range, field+n.name, fmt.Sprintf("%d is outside %d-%d", n.value, n.min, n.max), "choose a value within")
		}
	}
	if h.TimeOut > h.IntervalTime {
		return Refuse(Invalid, field+"TimeOut", fmt.Sprintf("%d s is longer than IntervalTime (%d s)", h.TimeOut, h.IntervalTime), "shorten it or raise IntervalTime")
	}
	if h.Type == CheckTCP {
		return h.validateTCP(field)
	}
	return h.validateHTTP(field)
}

func (h HealthCheck) validateTCP(field string) error {
	for _, f := range []struct {
		name  string
		given bool
	}{
		{"HttpCode", h.HTTPCode != 0},
		{"HttpCheckPath", h.HTTPPath != ""},
		{"HttpCheckDomain", h.HTTPDomain != ""},
		{"HttpCheckMethod", h.HTTPMethod != ""},
		{"HttpVersion", h.HTTPVersion != ""},
	} {
		if f.given {
			return Refuse(Coexist, field+f.name, "a TCP check has no HTTP fields", "remove it or set CheckType to HTTP")
		}
	}
	return nil
}

func (h HealthCheck) validateHTTP(field string) error {
	const pathset = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_/=?:&%+~,;@!"
	switch {
	case h.HTTPCode < 1 || h.HTTPCode > 31:
		return Refuse(Range, field+"HttpCode", fmt.Sprintf("%d is outside 1-31", h.HTTPCode), "it is a sum of 1 (1xx), 2 (2xx), 4 (3xx), 8 (4xx), 16 (5xx)")
	case len(h.HTTPPath) > 200:
		return Refuse(TooLong, field+"HttpCheckPath", "longer than 200 characters", "shorten it")
	case !strings.HasPrefix(h.HTTPPath, "/"):
		return Refuse(Invalid, field+"HttpCheckPath", fmt.Sprintf("%q does not begin with /", h.HTTPPath), "begin it with /")
	case strings.IndexFunc(h.HTTPPath, outside(pathset)) >= 0:
		return Refuse(Invalid, field+"HttpCheckPath", fmt.Sprintf("%q has characters that paths do not have", h.HTTPPath), "escape them with %")
	case h.HTTPMethod != "HEAD" && h.HTTPMethod != "GET":
		return Refuse(Invalid, field+"HttpCheckMethod", fmt.Sprintf("%q is not a method of checks", h.HTTPMethod), "use HEAD or GET")
	case h.HTTPVersion != "HTTP/1.0" && h.HTTPVersion != "HTTP/1.1":
		return Refuse(Invalid, field+"HttpVersion", fmt.Sprintf("%q is not a version of checks", h.HTTPVersion), "use HTTP/1.0 or HTTP/1.1")
	case h.HTTPDomain == "":
		return nil
	case strings.Contains(h.HTTPDomain, "*"):
		return Refuse(Invalid, field+"HttpCheckDomain", "a check asks one host, not a wildcard", "give an exact domain")
	}
	return ValidateDomain(field+"HttpCheckDomain", h.HTTPDomain)
}
