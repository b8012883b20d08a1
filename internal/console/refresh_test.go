// SPDX-License-Identifier: Apache-2.0

package console

import (
	"io"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"
)

// refresh loads a page as the script does to keep it live.
func (d *desk) refresh(path string, want int) string {
	d.Helper()
	r, _ := http.NewRequest("GET", d.server.URL+Root+path, nil)
	r.Header.Set(refreshHeader, "1")
	return d.send(r, want)
}

// A page that keeps itself live is nobody's use of the login: it ends as if
// the page were not there, and what the login is to be told is kept for it.
func TestRefreshIsNoUse(t *testing.T) {
	d := newDesk(t)
	d.login()
	w := d.build()
	d.open("sg/"+w.edge+"/edit", 200)
	for range 3 { // each opened page is use
		*d.clock = d.clock.Add(20 * time.Minute)
		d.open("", 200)
	}
	d.sessionOf().setNotice("for who reads")
	*d.clock = d.clock.Add(20 * time.Minute)
	d.refresh("", 200)
	d.saysNot("for who reads")
	if d.sessionOf().takeNotice() == "" {
		t.Error("a refresh took the notice")
	}
	*d.clock = d.clock.Add(11 * time.Minute)
	d.refresh("", http.StatusUnauthorized)
}

// sessionOf is the only login there is.
func (d *desk) sessionOf() *session {
	d.sessions.mu.Lock()
	defer d.sessions.mu.Unlock()
	for _, s := range d.sessions.all {
		return s
	}
	return nil
}

// What a key may not count is not shown as 0.
func TestScopedKeyReadsNoZero(t *testing.T) {
	d := newDesk(t)
	w := d.build()
	d.settle()
	d.loginWith("operator", "0")
	for path, wrong := range map[string][]string{
		"sg/" + w.edge:                   {"never", "Nothing has been counted yet", "Hits are packets since", ">0<br>"},
		"":                               {">0/s", " 0/s", "No targets", "<strong>0</strong>"},
		"clb":                            {"No targets"},
		"clb/" + w.balancer + "/picture": {">0/s", " 0/s"}, // not …0/sg, an address of an id that ends so
	} {
		page := mainOf(d.open(path, 200))
		for _, text := range wrong {
			if strings.Contains(page, text) {
				t.Errorf("%q says %q to a key that may not know", path, text)
			}
		}
		if !strings.Contains(page, "not shown") {
			t.Errorf("%q does not say what it leaves out", path)
		}
	}
	d.open("sg/"+w.edge, 200)
	d.says("Hits are counted over all projects and not shown to a key with projects.")
}

// Streams share looks with those that may see the same, and with nobody else.
func TestLooksAreNotSharedAcrossScopes(t *testing.T) {
	d := newDesk(t)
	w := d.build()
	d.loginWith("operator", "0")
	scoped := d.stream("topics=counters,status&group=" + w.edge)
	scoped.next("hello")
	deadline := time.Now().Add(10 * time.Second)
	for looked := false; !looked; { // the refused look is what the next one would find
		d.lookout.mu.Lock()
		looked = len(d.lookout.seen) >= 2
		d.lookout.mu.Unlock()
		if time.Now().After(deadline) {
			t.Fatal("the scoped key's stream looks at nothing")
		}
	}
	d.newBrowser()
	d.login()
	s := d.stream("topics=counters,status&group=" + w.edge)
	began := time.Now()
	s.next("changed")
	s.next("changed")
	d.facts.mu.Lock()
	d.facts.counters[0].Packets++
	d.facts.mu.Unlock()
	if topic := s.next("changed"); topic != "counters" {
		t.Errorf("%q is told", topic)
	}
	if took := time.Since(began); took > 10*livePeriod {
		t.Errorf("it took %v", took)
	}
}

// A page that shows a refused form knows an address that it can be asked for
// again at, and what is live on a page goes on beside a fault in its address.
func TestRefusedPageStaysLive(t *testing.T) {
	d := newDesk(t)
	d.login()
	w := d.build()
	d.settle()
	page := regexp.MustCompile(` data-page="([^"]*)"`)
	for _, c := range []struct {
		open, send string
		fields     []string
	}{
		{"sg/" + w.edge, "sg/" + w.edge + "/rules/delete", []string{"dir", "in", "seen", "pol-x", "version", "0", "rule", "pol-x"}},
		{"sg/" + w.edge + "?dir=out", "sg/" + w.edge + "/rules/order", []string{"dir", "out", "seen", "pol-x", "version", "0", "move", "pol-x:up"}},
		{"clb/" + w.balancer + "/security", "clb/" + w.balancer + "/security/order", []string{"was", "sg-x"}},
	} {
		d.open(c.open, 200)
		values := d.hidden()
		values.Set("csrf", csrfField.FindStringSubmatch(d.page)[1])
		for i := 0; i < len(c.fields); i += 2 {
			values.Set(c.fields[i], c.fields[i+1])
		}
		r, _ := http.NewRequest("POST", d.server.URL+Root+c.send, strings.NewReader(values.Encode()))
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		answer, err := d.client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		raw, err := io.ReadAll(answer.Body)
		answer.Body.Close()
		if err != nil || answer.StatusCode != 409 && answer.StatusCode != 422 {
			t.Fatalf("%s: %d %v", c.send, answer.StatusCode, err)
		}
		at := page.FindStringSubmatch(string(raw))
		if at == nil {
			t.Fatalf("%s: the page does not say where it is", c.send)
		}
		d.refresh(strings.TrimPrefix(at[1], Root), 200)
		d.says("<h1>")
		if strings.Contains(c.open, "out") {
			d.says(`name="dir" value="out"`)
		}
	}
	d.open("clb/"+w.balancer+"/picture?source=999.1.1.1&port=80", 422)
	d.refresh("clb/"+w.balancer+"/picture?source=999.1.1.1&port=80", 200)
	d.says("999.1.1.1")
}
