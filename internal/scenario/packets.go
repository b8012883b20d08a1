// SPDX-License-Identifier: Apache-2.0

package scenario

import (
	"bufio"
	"cmp"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// How long a send may take that must be served, and how long silence lasts
// before it is a refusal.
const (
	servedWithin = 6 * time.Second
	silence      = 2 * time.Second
)

// attempt is a Send on its way: its own source port and its own URL make it
// recognisable in verdicts and logs.
type attempt struct {
	Send
	port  uint16
	token string
}

// Send sends all at once from inside the hosts' namespaces, then looks for
// what may not be there: a refused attempt in an instance's log.
func (l *Stage) Send(ctx context.Context, sends []Send) ([]Result, error) {
	began, err := l.verdicts.mark(ctx)
	if err != nil {
		return nil, err
	}
	results := make([]Result, len(sends))
	faults := make([]error, len(sends))
	attempts := make([]attempt, len(sends))
	var wait sync.WaitGroup
	for i, s := range sends {
		port := uint16(l.port.Add(1))
		attempts[i] = attempt{Send: s, port: port, token: fmt.Sprintf("/scenario/%d", port)}
		pid := l.pid(cmp.Or(s.From.Instance, s.From.Name))
		wait.Go(func() { results[i], faults[i] = attempts[i].send(ctx, pid) })
	}
	wait.Wait()
	if err := errors.Join(faults...); err != nil {
		return nil, err
	}
	if err := l.unheard(attempts, results); err != nil {
		return nil, err
	}
	return results, l.tell(ctx, began, attempts, results)
}

// unheard checks that no instance accepted or logged a refused attempt.
func (l *Stage) unheard(attempts []attempt, results []Result) error {
	if !slices.ContainsFunc(results, func(r Result) bool { return !r.Served }) {
		return nil
	}
	logs, err := l.logs()
	for i, a := range attempts {
		peer := fmt.Sprintf("peer=%v:%d ", a.From.Address, a.port)
		if !results[i].Served && (strings.Contains(logs, a.token+`"`) || strings.Contains(logs, peer)) {
			results[i].Fault = "silence, but it stands in an instance's log"
		}
	}
	return err
}

// tell adds the verdicts of each attempt, waiting for those the story wants.
// What nobody wants but comes later than they do would be missed, so one more
// answer of the API is awaited after the last of them.
func (l *Lab) tell(ctx context.Context, began mark, attempts []attempt, results []Result) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	err := until(ctx, func() (bool, error) {
		events, err := l.verdicts.since(began)
		complete := true
		for i, a := range attempts {
			results[i].Verdicts = a.verdicts(events)
			complete = complete && a.complete(results[i].Verdicts)
		}
		return complete, err
	})
	if ctx.Err() != nil {
		return nil // the story's judge says what is missing
	}
	return err
}

func (a attempt) complete(verdicts []string) bool {
	for _, wanted := range a.Wanted {
		if !slices.Contains(verdicts, wanted) && !(a.Warm && strings.HasPrefix(wanted, "accept cvm ")) {
			return false
		}
	}
	return true
}

// verdicts are the different ones among the events that are about a.
func (a attempt) verdicts(events []event) []string {
	var own []string
	for _, e := range events {
		if text := e.text(); a.about(e) && !slices.Contains(own, text) {
			own = append(own, text)
		}
	}
	return own
}

// about reports whether the event is about a's packets. Behind an HTTP
// listener the gateway opens the flow to the instance with the client's
// address and a port of its own.
func (a attempt) about(e event) bool {
	source := addrPortOf(e.Source)
	switch {
	case source.Addr() != a.From.Address:
		return false
	case a.ICMP:
		return strings.EqualFold(e.Protocol, echoOf(a.To).String()) && addrPortOf(e.Destination).Addr() == a.To
	case a.Cut && e.Reason == "fragment": // which has no ports
		return addrPortOf(e.Destination).Addr() == a.To
	case a.Layer7 && e.Gate == "cvm" && e.Direction != "out":
		return e.ListenerId == a.Listener
	}
	return source.Port() == a.port
}

func addrPortOf(text string) netip.AddrPort {
	if ap, err := netip.ParseAddrPort(text); err == nil {
		return ap
	}
	a, _ := netip.ParseAddr(text)
	return netip.AddrPortFrom(a, 0)
}

// text is the event as verdict lines have it, with the group's id.
func (e event) text() string {
	words := []string{strings.ToLower(e.Action), strings.ToLower(e.Gate)}
	if strings.EqualFold(e.Direction, "out") {
		words = append(words, "out")
	}
	if e.SecurityGroupId != "" {
		return fmt.Sprintf("%s %s rule %d", strings.Join(words, " "), e.SecurityGroupId, e.PolicyPosition)
	}
	if e.Reason == "system_rule" && e.PolicyPosition > 0 {
		return fmt.Sprintf("%s %s rule %d", strings.Join(words, " "), systemGroup, e.PolicyPosition)
	}
	return strings.Join(append(words, e.Reason), " ")
}

// send tries once from the namespace of the process.
func (a attempt) send(ctx context.Context, pid int) (Result, error) {
	limit := servedWithin
	if a.Line.Args[3] == "refused" {
		limit = silence
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	if a.ICMP {
		return a.ping(ctx, pid)
	}
	if a.UDP {
		return a.datagram(ctx, pid)
	}
	var conn net.Conn
	err := inNamespace(pid, func() (err error) {
		dialer := net.Dialer{LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(a.From.Address, a.port))}
		conn, err = dialer.DialContext(ctx, "tcp", netip.AddrPortFrom(a.To, a.Port).String())
		return err
	})
	if isTimeout(err) {
		return Result{Detail: "no handshake"}, nil
	}
	if errors.Is(err, unix.ECONNREFUSED) || errors.Is(err, unix.EHOSTUNREACH) || errors.Is(err, unix.ENETUNREACH) {
		return Result{Fault: fmt.Sprintf("an answer instead of silence: %v", err)}, nil
	}
	if err != nil {
		return Result{}, err
	}
	defer func() { _ = conn.Close() }()
	return a.ask(ctx, conn)
}

// ask sends the request and reads what comes.
func (a attempt) ask(ctx context.Context, conn net.Conn) (Result, error) {
	deadline, _ := ctx.Deadline()
	if err := conn.SetDeadline(deadline); err != nil {
		return Result{}, err
	}
	if _, err := fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: www.example.com\r\nConnection: close\r\n\r\n", a.token); err != nil {
		return Result{}, err
	}
	res, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if isTimeout(err) {
		return Result{Detail: "no answer"}, nil
	}
	if err != nil {
		return Result{Fault: fmt.Sprintf("a broken answer: %v", err)}, nil
	}
	defer func() { _ = res.Body.Close() }()
	return a.sees(res), nil
}

// sees reads what an instance answered: what it saw of the request. Behind layer 7
// that must name the client once more, as the last in a list that nobody else ends.
func (a attempt) sees(res *http.Response) Result {
	var sight struct {
		Instance string
		Peer     netip.Addr
		Headers  http.Header
	}
	if res.StatusCode == http.StatusFound && res.Header.Get("Location") != "" {
		return Result{Redirected: true, Detail: "to " + res.Header.Get("Location")}
	}
	if res.StatusCode != http.StatusOK {
		return Result{Fault: "answered with " + res.Status}
	}
	if err := json.NewDecoder(res.Body).Decode(&sight); err != nil {
		return Result{Fault: fmt.Sprintf("not the instance's answer: %v", err)}
	}
	if sight.Peer != a.From.Address {
		return Result{Fault: fmt.Sprintf("the instance saw %v, not the client's %v", sight.Peer, a.From.Address)}
	}
	if chain := strings.Join(sight.Headers["X-Forwarded-For"], ", "); a.Layer7 && chain != a.From.Address.String() {
		return Result{Fault: fmt.Sprintf("X-Forwarded-For is %q, not the client's %v", chain, a.From.Address)}
	}
	return Result{Served: true, By: sight.Instance, Detail: res.Status}
}

// ping sends one echo request, with the attempt's port as its identifier.
func (a attempt) ping(ctx context.Context, pid int) (Result, error) {
	echo := echoIn(a.To)
	var conn net.PacketConn
	err := inNamespace(pid, func() (err error) {
		conn, err = net.ListenPacket(echo.network, a.From.Address.String())
		return err
	})
	if err != nil {
		return Result{}, err
	}
	defer func() { _ = conn.Close() }()
	deadline, _ := ctx.Deadline()
	if err := conn.SetDeadline(deadline); err != nil {
		return Result{}, err
	}
	request := []byte{echo.request, 0, 0, 0, 0, 0, 0, 1}
	binary.BigEndian.PutUint16(request[4:], a.port)
	if !a.To.Is6() { // there the kernel does it
		binary.BigEndian.PutUint16(request[2:], checksum(request))
	}
	if _, err := conn.WriteTo(request, &net.IPAddr{IP: a.To.AsSlice()}); err != nil {
		return Result{}, err
	}
	for answer := make([]byte, 1500); ; {
		n, peer, err := conn.ReadFrom(answer)
		if isTimeout(err) {
			return Result{Detail: "no echo"}, nil
		}
		if err != nil {
			return Result{}, err
		}
		mine := n >= 8 && answer[0] == echo.reply && binary.BigEndian.Uint16(answer[4:]) == a.port
		if mine && peer.String() == a.To.String() {
			return Result{Served: true, Detail: "echo"}, nil
		}
	}
}

// checksum is the Internet checksum of an even number of bytes.
func checksum(data []byte) uint16 {
	var sum uint32
	for i := 0; i < len(data); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(data[i:]))
	}
	sum = sum>>16 + sum&0xffff
	return ^uint16(sum + sum>>16)
}

func isTimeout(err error) bool {
	var timeout net.Error
	return errors.As(err, &timeout) && timeout.Timeout() || errors.Is(err, context.DeadlineExceeded)
}

// inNamespace runs fn on a thread inside the network namespace of a process. A
// socket made there stays there. A thread that cannot come back is given up.
func inNamespace(pid int, fn func() error) error {
	if pid == 0 {
		return errors.New("the host has no process in its namespace")
	}
	runtime.LockOSThread()
	own, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		return err
	}
	defer func() { _ = own.Close() }()
	theirs, err := os.Open(fmt.Sprintf("/proc/%d/ns/net", pid))
	if err != nil {
		return err
	}
	defer func() { _ = theirs.Close() }()
	if err := unix.Setns(int(theirs.Fd()), unix.CLONE_NEWNET); err != nil {
		return err
	}
	result := fn()
	if err := unix.Setns(int(own.Fd()), unix.CLONE_NEWNET); err != nil {
		return errors.Join(result, err)
	}
	runtime.UnlockOSThread()
	return result
}
