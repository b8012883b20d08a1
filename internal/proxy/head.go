// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"bytes"
	"errors"
	"net/http"
	"strconv"
	"strings"
)

// A refusal is what a request is answered with before anybody reads it. After
// it the connection is closed: where the next request begins is not known.
type refusal struct {
	status int
	why    string
}

func bad(why string) *refusal { return &refusal{http.StatusBadRequest, why} }

// A framing says where a request ends after its head.
type framing struct {
	length  int64 // of the body, in bytes; 0 when chunked
	chunked bool
	upgrade bool // what follows may be another protocol, if the target agrees
}

// headEnd finds the end of the head that begins at in[0], from byte from on:
// the place after the empty line, or 0 when it isn't there yet. Lines end
// with CR LF and with nothing else: what one reader takes for a line end and
// another does not, smuggles requests.
func headEnd(in []byte, from int) (end int, refused *refusal) {
	for i := from; i < len(in); i++ {
		switch in[i] {
		case '\n':
			if i == 0 || in[i-1] != '\r' {
				return 0, bad("line ends without CR")
			}
			if i >= 3 && in[i-2] == '\n' {
				return i + 1, nil
			}
		case '\r':
			if i+1 < len(in) && in[i+1] != '\n' {
				return 0, bad("CR without LF")
			}
		}
	}
	return 0, nil
}

// checkHead judges a whole head, empty line included. It is stricter than
// net/http, which accepts several spellings that other readers take to mean
// something else.
func checkHead(head []byte) (framing, *refusal) {
	lines := strings.Split(strings.TrimSuffix(string(head), "\r\n\r\n"), "\r\n")
	modern, refused := checkRequestLine(lines[0])
	if refused != nil {
		return framing{}, refused
	}
	var lengths, codings, hosts, connection []string
	upgrade := false
	for _, line := range lines[1:] {
		if line[0] == ' ' || line[0] == '\t' {
			return framing{}, bad("folded field")
		}
		name, value, ok := strings.Cut(line, ":")
		if !ok || !isToken(name) {
			return framing{}, bad("field name")
		}
		value = strings.Trim(value, " \t")
		if hasControl(value) {
			return framing{}, bad("control character in a field")
		}
		switch strings.ToLower(name) {
		case "content-length":
			lengths = append(lengths, value)
		case "transfer-encoding":
			codings = append(codings, value)
		case "host":
			hosts = append(hosts, value)
		case "connection":
			connection = append(connection, strings.Split(value, ",")...)
		case "upgrade":
			upgrade = true
		}
	}
	if len(hosts) > 1 || modern && len(hosts) == 0 {
		return framing{}, bad("not exactly one Host")
	}
	f, refused := bodyFraming(modern, lengths, codings)
	if refused != nil {
		return framing{}, refused
	}
	for _, option := range connection {
		if modern && upgrade && strings.EqualFold(strings.Trim(option, " \t"), "upgrade") {
			f.upgrade = true
		}
	}
	return f, nil
}

// checkRequestLine accepts "METHOD target HTTP/1.0" and 1.1, which is modern.
func checkRequestLine(line string) (modern bool, refused *refusal) {
	parts := strings.Split(line, " ")
	if len(parts) != 3 || !isToken(parts[0]) || parts[1] == "" || hasControl(parts[1]) || strings.Contains(parts[1], "\t") {
		return false, bad("request line")
	}
	switch parts[2] {
	case "HTTP/1.1":
		return true, nil
	case "HTTP/1.0":
		return false, nil
	}
	if strings.HasPrefix(parts[2], "HTTP/") {
		return false, &refusal{http.StatusHTTPVersionNotSupported, "version"}
	}
	return false, bad("request line")
}

func bodyFraming(modern bool, lengths, codings []string) (framing, *refusal) {
	switch {
	case len(lengths) > 0 && len(codings) > 0:
		return framing{}, bad("Content-Length and Transfer-Encoding")
	case len(lengths) > 1:
		return framing{}, bad("several Content-Lengths")
	case len(codings) > 1:
		return framing{}, bad("several Transfer-Encodings")
	case len(codings) == 1 && !modern:
		return framing{}, bad("Transfer-Encoding in HTTP/1.0")
	case len(codings) == 1 && !strings.EqualFold(codings[0], "chunked"):
		return framing{}, &refusal{http.StatusNotImplemented, "Transfer-Encoding other than chunked"}
	case len(codings) == 1:
		return framing{chunked: true}, nil
	case len(lengths) == 0:
		return framing{}, nil
	}
	if strings.Trim(lengths[0], "0123456789") != "" {
		return framing{}, bad("Content-Length")
	}
	n, err := strconv.ParseInt(lengths[0], 10, 64)
	if err != nil {
		return framing{}, bad("Content-Length")
	}
	return framing{length: n}, nil
}

// isToken reports whether s is a token of RFC 9110 section 5.6.2.
func isToken(s string) bool {
	for i := range len(s) {
		c := s[i]
		letter := 'a' <= c|0x20 && c|0x20 <= 'z'
		if !letter && (c < '0' || c > '9') && !strings.ContainsRune("!#$%&'*+-.^_`|~", rune(c)) {
			return false
		}
	}
	return s != ""
}

// hasControl reports whether s has a control character other than a tab.
func hasControl(s string) bool {
	return strings.ContainsFunc(s, func(c rune) bool { return c < ' ' && c != '\t' || c == 0x7f })
}

// errBadBody: the chunks of a request body can't be told apart.
var errBadBody = errors.New("malformed chunked body")

// A bodyReader follows a body to its end without changing it.
type bodyReader struct {
	left   int64 // bytes of the body or of this chunk
	state  chunkState
	spoken int // bytes of the present size line, or of all trailers
}

type chunkState uint8

const (
	wholeBody  chunkState = iota // left bytes, then the end
	chunkSize                    // hex digits
	chunkExt                     // ignored, up to CR
	chunkLF                      // after the size
	chunkData                    // left bytes
	chunkEnd                     // CR after the data
	chunkEndLF                   // LF after the data
	trailer                      // at the beginning of a trailer line
	trailerEnd                   // within one, up to CR
	trailerLF                    // after one
	lastLF                       // after the empty line
	bodyDone
)

// maxSizeLine and maxTrailers bound what isn't data, in bytes.
const (
	maxSizeLine = 4 << 10
	maxTrailers = 16 << 10
)

func newBodyReader(f framing) bodyReader {
	switch {
	case f.chunked:
		return bodyReader{state: chunkSize}
	case f.length == 0:
		return bodyReader{state: bodyDone}
	}
	return bodyReader{left: f.length}
}

// advance takes as much of p as belongs to the body and returns how much that
// was. The only error is errBadBody.
func (b *bodyReader) advance(p []byte) (n int, err error) {
	for n < len(p) && b.state != bodyDone {
		if b.state == wholeBody || b.state == chunkData {
			take := int(min(b.left, int64(len(p)-n)))
			n += take
			b.left -= int64(take)
			if b.left == 0 && b.state == wholeBody {
				b.state = bodyDone
			} else if b.left == 0 {
				b.state = chunkEnd
			}
			continue
		}
		if !b.step(p[n]) {
			return n, errBadBody
		}
		n++
	}
	return n, nil
}

// step takes one byte that is not data; false refuses it.
func (b *bodyReader) step(c byte) bool {
	b.spoken++
	switch b.state {
	case chunkSize, chunkExt:
		return b.spoken <= maxSizeLine && b.sizeLine(c)
	case chunkLF:
		b.state, b.spoken = chunkData, 0
		if b.left == 0 {
			b.state = trailer
		}
		return c == '\n'
	case chunkEnd:
		b.state = chunkEndLF
		return c == '\r'
	case chunkEndLF:
		b.state, b.spoken = chunkSize, 0
		return c == '\n'
	case trailer:
		b.state = trailerEnd
		if c == '\r' {
			b.state = lastLF
		}
		return c != '\n' && c != ' ' && c != '\t'
	case trailerEnd:
		if c == '\r' {
			b.state = trailerLF
		}
		return c != '\n' && b.spoken <= maxTrailers
	case trailerLF:
		b.state = trailer
		return c == '\n'
	case lastLF:
		b.state = bodyDone
		return c == '\n'
	}
	return false
}

func (b *bodyReader) sizeLine(c byte) bool {
	first := b.spoken == 1
	if c == '\r' && !first {
		b.state = chunkLF
		return true
	}
	if b.state == chunkExt {
		return c >= ' ' && c != 0x7f || c == '\t'
	}
	if c == ';' && !first {
		b.state = chunkExt
		return true
	}
	digit := bytes.IndexByte([]byte("0123456789abcdef"), c|0x20)
	if c <= '9' {
		digit = bytes.IndexByte([]byte("0123456789"), c)
	}
	if digit < 0 || b.left > 1<<55 {
		return false
	}
	b.left = b.left<<4 | int64(digit)
	return true
}
