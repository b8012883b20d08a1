// SPDX-License-Identifier: Apache-2.0

package lb

import (
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
)

// The types of health check that are served.
const (
	CheckTCP    = "TCP"
	CheckHTTP   = "HTTP"
	CheckPing   = "PING"   // UDP listeners: an echo request and a datagram
	CheckCustom = "CUSTOM" // what is sent and expected is given; without, any datagram
)

// checkTypes are the types that a protocol's targets can be checked by, the
// default first.
func checkTypes(p ListenerProtocol) []string {
	switch p {
	case ListenUDP:
		return []string{CheckPing, CheckCustom}
	case ListenTCP:
		return []string{CheckTCP, CheckHTTP, CheckCustom}
	}
	return []string{CheckHTTP}
}

// DefaultCheck is the check that a listener or rule of the protocol has when
// its author says nothing. Writers start from it and change what is given.
func DefaultCheck(p ListenerProtocol) HealthCheck {
	h := HealthCheck{On: true, Type: checkTypes(p)[0], TimeOut: 2, IntervalTime: 5, HealthNum: 3, UnHealthNum: 3}
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
	if err := h.validateType(field, p); err != nil {
		return err
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
	if h.Type == CheckCustom {
		if err := h.validateCustom(field, p); err != nil {
			return err
		}
	} else if err := h.absent(field, "is for CUSTOM checks", "remove it or set CheckType to CUSTOM", []given{
		{"ContextType", h.ContextType != ""}, {"SendContext", h.SendContext != ""}, {"RecvContext", h.RecvContext != ""}}); err != nil {
		return err
	}
	if h.Type == CheckHTTP {
		return h.validateHTTP(field)
	}
	return h.absent(field, "is for HTTP checks", "remove it or set CheckType to HTTP", []given{
		{"HttpCode", h.HTTPCode != 0}, {"HttpCheckPath", h.HTTPPath != ""}, {"HttpCheckDomain", h.HTTPDomain != ""},
		{"HttpCheckMethod", h.HTTPMethod != ""}, {"HttpVersion", h.HTTPVersion != ""}})
}

// validateType refuses a type of check that targets of the protocol cannot have.
func (h HealthCheck) validateType(field string, p ListenerProtocol) error {
	types := checkTypes(p)
	hint := "use " + strings.Join(types, " or ")
	switch {
	case slices.Contains(types, h.Type):
		return nil
	case slices.Contains([]string{CheckTCP, CheckHTTP, CheckPing, CheckCustom}, h.Type):
		return Refuse(Unsupported, field+"CheckType", fmt.Sprintf("targets of %s cannot be checked by %s", p, h.Type), hint)
	case h.Type == "HTTPS" || h.Type == "GRPC":
		return Refuse(Unsupported, field+"CheckType", h.Type+" checks are not served", hint)
	}
	return Refuse(Invalid, field+"CheckType", fmt.Sprintf("%q is not a type of check", h.Type), hint)
}

// given is a field and whether it has a value.
type given struct {
	name string
	set  bool
}

// absent refuses fields that have no meaning with the check's type.
func (h HealthCheck) absent(field, what, hint string, fields []given) error {
	for _, f := range fields {
		if f.set {
			return Refuse(Coexist, field+f.name, fmt.Sprintf("it %s, this one is %s", what, h.Type), hint)
		}
	}
	return nil
}

// Context gives what a CUSTOM check sends and what it expects, as bytes; both
// are nil when it says neither. The check is valid.
func (h HealthCheck) Context() (send, receive []byte) {
	if h.ContextType == "" {
		return nil, nil
	}
	if h.ContextType == "HEX" {
		send, _ = hex.DecodeString(h.SendContext)
		receive, _ = hex.DecodeString(h.RecvContext)
		return send, receive
	}
	return []byte(h.SendContext), []byte(h.RecvContext)
}

func (h HealthCheck) validateCustom(field string, p ListenerProtocol) error {
	if p == ListenUDP && h.ContextType == "" && h.SendContext == "" && h.RecvContext == "" {
		return nil // whether the port is open is all that is asked
	}
	switch h.ContextType {
	case "HEX", "TEXT":
	case "":
		return Refuse(Missing, field+"ContextType", "a CUSTOM check needs it", "use HEX or TEXT")
	default:
		return Refuse(Invalid, field+"ContextType", fmt.Sprintf("%q is not a form of content", h.ContextType), "use HEX or TEXT")
	}
	for _, f := range []struct{ name, text string }{{"SendContext", h.SendContext}, {"RecvContext", h.RecvContext}} {
		switch {
		case f.text == "":
			return Refuse(Missing, field+f.name, "a CUSTOM check needs it", "give what is sent in SendContext and what must come back in RecvContext")
		case len(f.text) > 500:
			return Refuse(TooLong, field+f.name, "longer than 500 characters", "shorten it")
		case h.ContextType == "TEXT" && strings.IndexFunc(f.text, func(c rune) bool { return c < ' ' || c > '~' }) >= 0:
			return Refuse(Invalid, field+f.name, "it has characters that are not visible ASCII", "write it in HEX")
		case h.ContextType == "HEX" && (len(f.text)%2 != 0 || strings.IndexFunc(f.text, outside("0123456789ABCDEF")) >= 0):
			return Refuse(Invalid, field+f.name, fmt.Sprintf("%q is not hexadecimal", f.text), "write two of 0-9 and A-F for each byte")
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
