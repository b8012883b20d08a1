// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"strings"
	"testing"

	"github.com/sallyport/sallyport/internal/snapshot"
)

func TestDestination(t *testing.T) {
	for _, row := range []struct {
		to         snapshot.Redirect
		host, path string
		want       string
	}{
		{snapshot.Redirect{Scheme: "http", Host: "new.example.com", Port: 8080, URL: "/to"}, "www.example.com", "/from?q=1", "http://new.example.com:8080/to"},
		{snapshot.Redirect{Scheme: "https", Host: "new.example.com"}, "www.example.com", "/from/a%2Fb?q=1", "https://new.example.com/from/a%2Fb?q=1"},
		{snapshot.Redirect{Scheme: "https"}, "www.example.com:80", "/", "https://www.example.com/"},
		{snapshot.Redirect{Scheme: "http", Port: 81}, "[2001:db8::1]:80", "//elsewhere/x", "http://[2001:db8::1]:81//elsewhere/x"},
		{snapshot.Redirect{Scheme: "http", Port: 81}, "[2001:db8::1]", "/", "http://[2001:db8::1]:81/"},
		{snapshot.Redirect{Scheme: "http", Port: 81}, "", "/x", "http://192.0.2.1:81/x"},
	} {
		r, err := http.NewRequest("GET", "http://x"+row.path, nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Host = row.host
		if got := destination(&row.to, r, netip.MustParseAddr("192.0.2.1")); got != row.want {
			t.Errorf("%s%s: %s, want %s", row.host, row.path, got, row.want)
		}
	}
}

// A rule that redirects is answered by the proxy: no target hears of it, and
// the connection stays.
func TestRedirects(t *testing.T) {
	r := newRig(t, Limits{})
	num := r.target(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "target") })
	r.rule("www.example.com", "/", num)
	r.rule("www.example.com", "/old", num)
	r.rule("www.example.com", "/moved")
	rules := r.snap.Listeners[0].Rules
	rules[1].Redirect = &snapshot.Redirect{Code: 301, Scheme: "http", Host: "new.example.com"}
	rules[2].Redirect = &snapshot.Redirect{Code: 307, Scheme: "http", Port: 8080, URL: "/here"}
	r.apply()
	c := r.client("127.0.0.2")
	for _, row := range []struct {
		method, path string
		status       int
		location     string
	}{
		{"GET", "/old/page?x=y", 301, "http://new.example.com/old/page?x=y"},
		{"POST", "/moved", 307, "http://www.example.com:8080/here"},
		{"GET", "/", 200, ""},
	} {
		req, err := http.NewRequest(row.method, fmt.Sprintf("http://%v%s", r.at, row.path), strings.NewReader(""))
		if err != nil {
			t.Fatal(err)
		}
		req.Host = "www.example.com"
		res, err := c.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		io.Copy(io.Discard, res.Body)
		res.Body.Close()
		if res.StatusCode != row.status || res.Header.Get("Location") != row.location || res.Close {
			t.Errorf("%s: %d to %q (close %v), want %d to %q", row.path, res.StatusCode, res.Header.Get("Location"), res.Close, row.status, row.location)
		}
	}
	if got := r.dialled(); len(got) != 1 {
		t.Errorf("targets were dialled: %v", got)
	}
}
