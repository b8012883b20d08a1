// SPDX-License-Identifier: Apache-2.0

package console

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
)

// A checkType is a type of health check of layer-4 listeners. Of names the
// protocols that can have it.
type checkType struct{ Value, Of, Text string }

// checkTypes are those of a protocol; "": of all, and none chosen yet, which
// the protocol then does.
func checkTypes(protocol string) []checkType {
	all := []checkType{
		{"", "TCP UDP HTTP HTTPS", "as the protocol does"},
		{"TCP", "TCP", "TCP: a connection opens"},
		{"HTTP", "TCP", "HTTP: a request is answered"},
		{"PING", "UDP", "PING: an echo comes back, and the port is open"},
		{"CUSTOM", "TCP UDP", "CUSTOM: what is sent has its answer"},
	}
	if protocol == "" {
		return all
	}
	return slices.DeleteFunc(all, func(t checkType) bool {
		return t.Value == "" || !slices.Contains(strings.Fields(t.Of), protocol)
	})
}

// fields are a check as a form shows it, by name.
func (c check) fields() []string {
	text := func(p *string) string {
		if p == nil {
			return ""
		}
		return *p
	}
	port := ""
	if c.CheckPort != nil {
		port = strconv.Itoa(*c.CheckPort)
	}
	return []string{"HealthSwitch", strconv.Itoa(c.HealthSwitch), "CheckType", c.CheckType, "CheckPort", port,
		"HttpCheckPath", cmp.Or(c.HttpCheckPath, "/"), "HttpCheckMethod", cmp.Or(c.HttpCheckMethod, "GET"), "HttpCheckDomain", c.HttpCheckDomain, "HttpVersion", c.HttpVersion,
		"ContextType", text(c.ContextType), "SendContext", text(c.SendContext), "RecvContext", text(c.RecvContext),
		"IntervalTime", strconv.Itoa(c.IntervalTime), "TimeOut", strconv.Itoa(c.TimeOut),
		"HealthNum", strconv.Itoa(c.HealthNum), "UnHealthNum", strconv.Itoa(c.UnHealthNum), "SourceIpType", strconv.Itoa(c.SourceIpType)}
}

// check is the health check that a form describes.
func (f form) check(http bool) (m, error) {
	if f.V("HealthSwitch") != "1" {
		return m{"HealthSwitch": 0}, nil
	}
	c := m{"HealthSwitch": 1, "CheckPort": -1}
	for _, name := range []string{"IntervalTime", "TimeOut", "HealthNum", "UnHealthNum", "SourceIpType", "CheckPort"} {
		if name == "CheckPort" && f.V(name) == "" {
			continue
		}
		n, err := f.number(name)
		if err != nil {
			return nil, err
		}
		c[name] = n
	}
	kind := f.V("CheckType") // "": the protocol's, or as it is
	if http {
		kind = "HTTP"
	}
	if kind != "" {
		c["CheckType"] = kind
	}
	switch {
	case kind == "HTTP":
		c["HttpCheckPath"], c["HttpCheckMethod"] = f.V("HttpCheckPath"), f.V("HttpCheckMethod")
		if !http {
			c["HttpVersion"] = f.V("HttpVersion")
		}
		if f.V("HttpCheckDomain") != "" || !http {
			c["HttpCheckDomain"] = f.V("HttpCheckDomain")
		}
	case kind == "CUSTOM" && f.V("SendContext")+f.V("RecvContext") == "":
		c["ContextType"], c["SendContext"], c["RecvContext"] = "", "", ""
	case kind == "CUSTOM":
		c["ContextType"], c["SendContext"], c["RecvContext"] = f.V("ContextType"), f.V("SendContext"), f.V("RecvContext")
	}
	return c, nil
}
