// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"errors"
	"strings"
	"testing"
)

func TestCheckHead(t *testing.T) {
	for _, c := range []struct {
		name, head string
		status     int // 0: accepted
		want       framing
	}{
		{"plain", "GET / HTTP/1.1\r\nHost: a\r\n\r\n", 0, framing{}},
		{"old", "GET / HTTP/1.0\r\n\r\n", 0, framing{}},
		{"length", "POST / HTTP/1.1\r\nHost: a\r\ncontent-length:\t12 \r\n\r\n", 0, framing{length: 12}},
		{"chunked", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: Chunked\r\n\r\n", 0, framing{chunked: true}},
		{"upgrade", "GET / HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\r\n", 0, framing{upgrade: true}},
		{"upgrade without option", "GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\n\r\n", 0, framing{}},
		{"empty value", "GET / HTTP/1.1\r\nHost:\r\n\r\n", 0, framing{}},
		{"length and chunked", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n", 400, framing{}},
		{"two lengths", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\n", 400, framing{}},
		{"length list", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3, 3\r\n\r\n", 400, framing{}},
		{"signed length", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +3\r\n\r\n", 400, framing{}},
		{"empty length", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length:\r\n\r\n", 400, framing{}},
		{"huge length", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999\r\n\r\n", 400, framing{}},
		{"two codings", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n", 400, framing{}},
		{"coding list", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", 501, framing{}},
		{"chunked in 1.0", "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", 400, framing{}},
		{"folded", "GET / HTTP/1.1\r\nHost: a\r\nX: 1\r\n 2\r\n\r\n", 400, framing{}},
		{"space before colon", "GET / HTTP/1.1\r\nHost: a\r\nX : 1\r\n\r\n", 400, framing{}},
		{"no colon", "GET / HTTP/1.1\r\nHost: a\r\nX\r\n\r\n", 400, framing{}},
		{"no name", "GET / HTTP/1.1\r\nHost: a\r\n: x\r\n\r\n", 400, framing{}},
		{"control in value", "GET / HTTP/1.1\r\nHost: a\r\nX: a\x00b\r\n\r\n", 400, framing{}},
		{"control in target", "GET /\x01 HTTP/1.1\r\nHost: a\r\n\r\n", 400, framing{}},
		{"no host", "GET / HTTP/1.1\r\n\r\n", 400, framing{}},
		{"two hosts", "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400, framing{}},
		{"two spaces", "GET  / HTTP/1.1\r\nHost: a\r\n\r\n", 400, framing{}},
		{"0.9", "GET /\r\n\r\n", 400, framing{}},
		{"version 2", "PRI * HTTP/2.0\r\n\r\n", 505, framing{}},
		{"method", "G(T / HTTP/1.1\r\nHost: a\r\n\r\n", 400, framing{}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if end, refused := headEnd([]byte(c.head), 0); end != len(c.head) || refused != nil {
				t.Fatalf("headEnd: %d %v", end, refused)
			}
			got, refused := checkHead([]byte(c.head))
			status := 0
			if refused != nil {
				status = refused.status
			}
			if status != c.status || got != c.want {
				t.Errorf("status %d, %+v; want %d, %+v", status, got, c.status, c.want)
			}
		})
	}
}

func TestHeadEnd(t *testing.T) {
	for _, c := range []struct {
		in      string
		end     int
		refused bool
	}{
		{"", 0, false},
		{"GET / HTTP/1.1\r\nHost: a\r\n\r", 0, false},
		{"G\r\n\r\nmore", 5, false},
		{"G\n\n", 0, true},
		{"G\r\nX: 1\n\r\n", 0, true},
		{"G\r\nX: 1\r2\r\n\r\n", 0, true},
		{"\n", 0, true},
	} {
		end, refused := headEnd([]byte(c.in), 0)
		if end != c.end || (refused != nil) != c.refused {
			t.Errorf("%q: %d %v", c.in, end, refused)
		}
	}
}

// However the bytes are cut, the body ends at the same place.
func TestBodyReader(t *testing.T) {
	for _, c := range []struct {
		name string
		f    framing
		body string // "|" marks the end
		bad  bool
	}{
		{"none", framing{}, "|GET", false},
		{"length", framing{length: 5}, "hello|GET", false},
		{"chunked", framing{chunked: true}, "5\r\nhello\r\n0\r\n\r\n|GET", false},
		{"extension", framing{chunked: true}, "A;x=\"y\"\r\n0123456789\r\n00\r\n\r\n|", false},
		{"trailer", framing{chunked: true}, "0\r\nX: y\r\nZ: 1\r\n\r\n|GET", false},
		{"no digits", framing{chunked: true}, "\r\nhello", true},
		{"only extension", framing{chunked: true}, ";x\r\nhello", true},
		{"not hex", framing{chunked: true}, "g\r\n", true},
		{"control that looks like a digit", framing{chunked: true}, "\x11\r\n", true},
		{"prefix", framing{chunked: true}, "0x5\r\nhello", true},
		{"space", framing{chunked: true}, "5 \r\nhello", true},
		{"bare LF after size", framing{chunked: true}, "5\nhello", true},
		{"bare LF in extension", framing{chunked: true}, "5;a\nhello", true},
		{"data too long", framing{chunked: true}, "4\r\nhello\r\n0\r\n\r\n", true},
		{"overflow", framing{chunked: true}, "fffffffffffffffff\r\n", true},
		{"long size line", framing{chunked: true}, "1;" + strings.Repeat("x", maxSizeLine) + "\r\n", true},
		{"endless trailer", framing{chunked: true}, "0\r\nX: " + strings.Repeat("x", maxTrailers) + "\r\n\r\n", true},
		{"bare LF trailer", framing{chunked: true}, "0\r\n\n", true},
	} {
		want := strings.IndexByte(c.body, '|')
		body := strings.Replace(c.body, "|", "", 1)
		for _, cut := range []int{1, 2, 3, 7, len(body) + 1} {
			b, taken := newBodyReader(c.f), 0
			var err error
			for taken < len(body) && b.state != bodyDone && err == nil {
				var n int
				n, err = b.advance([]byte(body[taken:min(len(body), taken+cut)]))
				taken += n
			}
			if c.bad {
				if !errors.Is(err, errBadBody) {
					t.Errorf("%s cut by %d: accepted", c.name, cut)
				}
			} else if err != nil || taken != want || b.state != bodyDone {
				t.Errorf("%s cut by %d: took %d, %v, state %d; want %d", c.name, cut, taken, err, b.state, want)
			}
		}
	}
}

func FuzzCheckHead(f *testing.F) {
	f.Add([]byte("GET / HTTP/1.1\r\nHost: a\r\n\r\n"))
	f.Add([]byte("\r\n\r\n"))
	f.Fuzz(func(t *testing.T, in []byte) {
		end, refused := headEnd(in, 0)
		if refused != nil || end == 0 {
			return
		}
		got, refused := checkHead(in[:end])
		if refused == nil && (got.length < 0 || got.chunked && got.length != 0) {
			t.Errorf("%q: %+v", in, got)
		}
	})
}
