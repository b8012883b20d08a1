// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"

	"github.com/sallyport/sallyport/internal/snapshot"
)

// destination is the Location that a redirect answers a request with. It
// always has a host, its own, the one asked for or the VIP at, so a path such
// as "//elsewhere" leads nowhere else.
func destination(to *snapshot.Redirect, r *http.Request, at netip.Addr) string {
	host := to.Host
	if host == "" {
		host = askedHost(r.Host)
	}
	if host == "" { // HTTP/1.0 need not name one
		host = askedHost(netip.AddrPortFrom(at, 1).String())
	}
	if to.Port != 0 {
		host += ":" + strconv.Itoa(int(to.Port))
	}
	path := to.URL
	if path == "" {
		path = r.URL.EscapedPath()
		if r.URL.RawQuery != "" {
			path += "?" + r.URL.RawQuery
		}
	}
	return to.Scheme + "://" + host + path
}

// askedHost is the Host header without its port; brackets stay.
func askedHost(host string) string {
	if name, _, err := net.SplitHostPort(host); err == nil {
		if strings.Contains(name, ":") {
			return "[" + name + "]"
		}
		return name
	}
	return host
}
