// SPDX-License-Identifier: Apache-2.0

package console

import (
	"fmt"
	"strings"
	"testing"

	"github.com/sallyport/sallyport/internal/lb"
)

// chooseCheck gives a TCP listener each type of check that there is for it, and
// makes a UDP one by CUSTOM.
func (d *desk) chooseCheck(base string, tcp lb.ListenerID) {
	d.Helper()
	numbers := []string{"HealthSwitch", "1", "IntervalTime", "5", "TimeOut", "2", "HealthNum", "3", "UnHealthNum", "3", "SourceIpType", "1"}
	is := func(id lb.ListenerID) lb.HealthCheck { return d.api.Store.State().Listeners.Get(id).Check }
	path := base + "/" + string(tcp) + "/check"
	for _, tc := range []struct {
		fields []string
		want   func(h lb.HealthCheck) bool
		shown  []string
	}{
		{[]string{"CheckType", "HTTP", "HttpCheckPath", "/up", "HttpCheckMethod", "HEAD", "HttpVersion", "HTTP/1.0", "HttpCheckDomain", "", "CheckPort", "8080"},
			func(h lb.HealthCheck) bool {
				return h.Type == "HTTP" && h.HTTPPath == "/up" && h.HTTPMethod == "HEAD" && h.HTTPVersion == "HTTP/1.0" && h.Port == 8080
			},
			[]string{`value="HTTP" data-of="TCP" selected`, `value="/up"`, `value="8080"`, `<option selected>HTTP/1.0`}},
		{[]string{"CheckType", "CUSTOM", "ContextType", "HEX", "SendContext", "0A", "RecvContext", "0B", "CheckPort", ""},
			func(h lb.HealthCheck) bool {
				return h.Type == "CUSTOM" && h.ContextType == "HEX" && h.SendContext == "0A" && h.RecvContext == "0B" && h.Port == 0
			},
			[]string{`value="CUSTOM" data-of="TCP UDP" selected`, `value="HEX" selected`, `value="0B"`}},
		{[]string{"CheckType", "TCP"}, func(h lb.HealthCheck) bool { return h.Type == "TCP" && h.ContextType == "" }, []string{`value="TCP" data-of="TCP" selected`}},
	} {
		d.open(path, 200)
		d.fill(path, 200, append(tc.fields, numbers...)...)
		if h := is(tcp); !tc.want(h) {
			d.Errorf("%v gave %+v", tc.fields, h)
		}
		d.open(path, 200)
		for _, text := range tc.shown {
			d.says(text)
		}
	}
	d.fill(path, 422, append([]string{"CheckType", "PING"}, numbers...)...)
	d.says("targets of TCP cannot be checked by PING")
	new := append([]string{"Protocol", "UDP", "Port", "53", "CheckType", "CUSTOM", "ContextType", "TEXT", "SendContext", "ping", "RecvContext", "pong"}, numbers...)
	d.open(base+"/new", 200)
	d.fill(base+"/new", 200, new...)
	for id, l := range d.api.Store.State().Listeners.All() {
		if l.Port == 53 && (l.Check.Type != "CUSTOM" || l.Check.SendContext != "ping") {
			d.Errorf("%s: %+v", id, l.Check)
		}
	}
	for id, l := range d.api.Store.State().Listeners.All() {
		if l.Port == 53 {
			d.open(base+"/"+string(id)+"/delete", 200)
			d.fill(base+"/"+string(id)+"/delete", 200)
		}
	}
}

// The types that can be chosen are those that the API takes of the protocol.
func TestCheckTypes(t *testing.T) {
	for _, p := range []lb.ListenerProtocol{lb.ListenTCP, lb.ListenUDP} {
		var offered []string
		for _, one := range checkTypes(string(p)) {
			offered = append(offered, one.Value)
			h := lb.DefaultCheck(p)
			h.Type = one.Value
			if err := h.WithDefaults().Validate("", p); err != nil && one.Value != "CUSTOM" {
				t.Errorf("%s by %s: %v", p, one.Value, err)
			}
		}
		for _, kind := range []string{"TCP", "HTTP", "PING", "CUSTOM"} {
			h := lb.DefaultCheck(p)
			h.Type = kind
			if err := h.WithDefaults().Validate("", p); strings.Contains(fmt.Sprint(err), "cannot be checked") == strings.Contains(strings.Join(offered, " "), kind) {
				t.Errorf("%s by %s is offered or not, against %v", p, kind, err)
			}
		}
	}
}
