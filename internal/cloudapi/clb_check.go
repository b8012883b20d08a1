// SPDX-License-Identifier: Apache-2.0

package cloudapi

import "github.com/sallyport/sallyport/internal/lb"

// healthCheckIn is a health check as clients write it. Fields that are not
// given keep their value, or take the default when the check is new.
type healthCheckIn struct {
	HealthSwitch    *int64   `tc:"range=0-1"`
	TimeOut         *int64   `tc:"range=2-60"`
	IntervalTime    *int64   `tc:"range=2-300"`
	HealthNum       *int64   `tc:"range=2-10"`
	UnHealthNum     *int64   `tc:"range=2-10"`
	HttpCode        *int64   `tc:"range=0-31"`
	HttpCheckPath   *string  `tc:"len=200"`
	HttpCheckDomain *string  `tc:"len=80"`
	HttpCheckMethod *string  `tc:"enum=HEAD|GET"`
	HttpVersion     *string  `tc:"enum=HTTP/1.0|HTTP/1.1"`
	CheckPort       *int64   `tc:"range=-1-65535"`
	CheckType       *string  `tc:"only=TCP|HTTP|PING|CUSTOM,enum=TCP|HTTP|PING|CUSTOM|HTTPS|GRPC"`
	SourceIpType    *int64   `tc:"range=0-1"`
	ContextType     *string  `tc:"enum=TEXT|HEX"`
	SendContext     *string  `tc:""`
	RecvContext     *string  `tc:""`
	_               struct{} `unserved:"ExtendedCode"`
}

// apply changes h as asked and validates the outcome. A nil receiver changes
// nothing.
func (in *healthCheckIn) apply(h *lb.HealthCheck, p lb.ListenerProtocol) error {
	if in == nil {
		return nil
	}
	if in.CheckPort != nil && *in.CheckPort == 0 {
		return refuse(lb.Range, "HealthCheck.CheckPort", "0 is no port", "give 1-65535, or -1 for the target's own")
	}
	next := *h
	if in.CheckType != nil && *in.CheckType != "" && *in.CheckType != next.Type {
		next.Type = *in.CheckType
		next.HTTPCode, next.HTTPPath, next.HTTPDomain, next.HTTPMethod, next.HTTPVersion = 0, "", "", "", ""
		next.ContextType, next.SendContext, next.RecvContext = "", "", ""
		if err := in.completeHTTP(p); err != nil {
			return err
		}
	}
	if in.HealthSwitch != nil {
		next.On = *in.HealthSwitch == 1
	}
	setInt(&next.TimeOut, in.TimeOut)
	setInt(&next.IntervalTime, in.IntervalTime)
	setInt(&next.HealthNum, in.HealthNum)
	setInt(&next.UnHealthNum, in.UnHealthNum)
	setInt(&next.SourceIPType, in.SourceIpType)
	setInt(&next.HTTPCode, in.HttpCode)
	setInt(&next.Port, in.CheckPort)
	if next.Port == -1 { // the published way to say "the target's own"
		next.Port = 0
	}
	setText(&next.HTTPPath, in.HttpCheckPath)
	setText(&next.HTTPDomain, in.HttpCheckDomain)
	setText(&next.HTTPMethod, in.HttpCheckMethod)
	setText(&next.HTTPVersion, in.HttpVersion)
	setText(&next.ContextType, in.ContextType)
	setText(&next.SendContext, in.SendContext)
	setText(&next.RecvContext, in.RecvContext)
	next = next.WithDefaults()
	if err := next.Validate("HealthCheck.", p); err != nil {
		return err
	}
	*h = next
	return nil
}

// completeHTTP refuses an HTTP check at layer 4 that leaves open what no rule
// says for it. An empty domain is one: clients send it, and it stands for the
// target's address.
func (in *healthCheckIn) completeHTTP(p lb.ListenerProtocol) error {
	switch {
	case *in.CheckType != lb.CheckHTTP || p.Layer7():
		return nil
	case in.HttpVersion == nil || *in.HttpVersion == "":
		return refuse(lb.Missing, "HealthCheck.HttpVersion", "an HTTP check of a "+string(p)+" listener needs it", "use HTTP/1.0 or HTTP/1.1")
	case in.HttpCheckDomain == nil:
		return refuse(lb.Missing, "HealthCheck.HttpCheckDomain", "an HTTP check of a "+string(p)+" listener needs it", `give the host that is asked; "" asks for the target's address`)
	}
	return nil
}

// probeFrom gives a new check the server's SourceIpType where its author says
// nothing.
func (c *Call) probeFrom(b *lb.LoadBalancer, h *lb.HealthCheck, in *healthCheckIn) {
	if b.IPv6() { // 100.64.0.0/10 holds none of its family
		return
	}
	if h.Type != "" && (in == nil || in.SourceIpType == nil) {
		h.SourceIPType = c.SourceIPType
	}
}

// setInt bounds what is stored; validation names what is out of range.
func setInt(to *int, given *int64) {
	if given != nil {
		*to = int(max(min(*given, 1<<30), -(1 << 30)))
	}
}

func setText(to, given *string) {
	if given != nil {
		*to = *given
	}
}

// healthCheckOut is a health check as clients read it. HttpCheckMethod is
// never null: a client dereferences it.
type healthCheckOut struct {
	HealthSwitch, TimeOut, IntervalTime, HealthNum, UnHealthNum  int
	HttpCode                                                     int
	HttpCheckPath, HttpCheckDomain, HttpCheckMethod, HttpVersion string
	CheckPort                                                    *int
	CheckType                                                    string
	SourceIpType                                                 int
	ContextType, SendContext, RecvContext, ExtendedCode          *string
}

func showCheck(h lb.HealthCheck) *healthCheckOut {
	out := &healthCheckOut{
		TimeOut: h.TimeOut, IntervalTime: h.IntervalTime, HealthNum: h.HealthNum, UnHealthNum: h.UnHealthNum,
		HttpCode: h.HTTPCode, HttpCheckPath: h.HTTPPath, HttpCheckDomain: h.HTTPDomain, HttpCheckMethod: h.HTTPMethod,
		HttpVersion: h.HTTPVersion, CheckType: h.Type, SourceIpType: h.SourceIPType,
	}
	if h.On {
		out.HealthSwitch = 1
	}
	if h.Port != 0 {
		out.CheckPort = &h.Port
	}
	if h.ContextType != "" {
		out.ContextType, out.SendContext, out.RecvContext = &h.ContextType, &h.SendContext, &h.RecvContext
	}
	return out
}
