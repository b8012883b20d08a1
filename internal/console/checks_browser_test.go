// SPDX-License-Identifier: Apache-2.0

package console

import (
	"strings"
	"testing"
)

// Choosing a protocol and a type of check shows the fields that belong to them.
func TestCheckTypeInBrowser(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	w := d.build()
	b := newBrowser(t, d.server.URL)
	b.screen(1280, "light")
	b.login()
	b.visit("clb/" + w.balancer + "/listeners")
	b.press("Create a listener")
	seen := func(what, name string, want bool) {
		b.Helper()
		is := "=== null"
		if want {
			is = "!== null"
		}
		b.until(what+": the field "+name, `document.querySelector("dialog[open] [name=`+name+`]").offsetParent `+is)
	}
	for _, tc := range []struct {
		protocol, kind     string
		choice, path, send bool
	}{{"HTTP", "", false, true, false}, {"TCP", "", true, false, false}, {"TCP", "HTTP", true, true, false}, {"TCP", "CUSTOM", true, false, true}, {"UDP", "CUSTOM", true, false, true}, {"UDP", "PING", true, false, false}} {
		b.put("[name=Protocol]", tc.protocol)
		b.put("[name=CheckType]", tc.kind)
		what := tc.protocol + " by " + tc.kind
		seen(what, "CheckType", tc.choice)
		seen(what, "HttpCheckPath", tc.path)
		seen(what, "SendContext", tc.send)
		if tc.kind == "CUSTOM" {
			b.shot("check of " + strings.ToLower(tc.protocol+" by "+tc.kind))
		}
	}
	// A type that the protocol cannot have is no choice, and none stays chosen.
	b.put("[name=Protocol]", "TCP")
	b.until("PING is offered for TCP", `[...document.querySelectorAll("dialog[open] [name=CheckType] option")].every(o => o.value !== "PING" || o.disabled) && document.querySelector("dialog[open] [name=CheckType]").value === ""`)
	b.quiet("choosing a check")
}
