// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sallyport/sallyport/internal/e2e"
)

const (
	changes   = 200
	pace      = time.Millisecond // between two probes of one place
	firstPort = 20000
	ports     = 40000 // source ports of probes; none comes back within 40 s
	client    = "203.0.113.10"
	proven    = 25 // probes in a row that show how a place treats packets now
	inFlight  = 25 * time.Millisecond
)

// A place is somewhere probes are sent: a gate as a client sees it.
type place struct {
	name   string
	to     netip.AddrPort
	sent   []time.Time // by probe
	answer []time.Time // zero: none
}

// A prober sends one SYN a millisecond to each place from a lab client, each
// from a port of its own, and notes which are answered.
type prober struct {
	from      netip.Addr
	out, back int // raw sockets

	mu     sync.Mutex
	places []*place
	fault  error
}

func newProber(host string, from netip.Addr, places ...*place) (*prober, error) {
	p := &prober{from: from, places: places}
	err := e2e.Inside(host, func() (err error) {
		if p.out, err = unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_RAW); err != nil {
			return err
		}
		if p.back, err = unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_TCP); err != nil {
			return err
		}
		if err := unix.SetsockoptInt(p.back, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 8<<20); err != nil {
			return err
		}
		return unix.SetsockoptTimeval(p.back, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Usec: 20_000})
	})
	return p, err
}

func (p *prober) run(ctx context.Context) (wait func()) {
	var wg sync.WaitGroup
	wg.Go(func() {
		for ctx.Err() == nil {
			p.probe()
			_ = unix.Nanosleep(&unix.Timespec{Nsec: pace.Nanoseconds()}, nil)
		}
	})
	wg.Go(func() {
		buf := make([]byte, 2048)
		for ctx.Err() == nil {
			if n, _, err := unix.Recvfrom(p.back, buf, 0); err == nil {
				p.answered(buf[:n], time.Now())
			}
		}
	})
	return wg.Wait
}

func (p *prober) probe() {
	for _, at := range p.places {
		p.mu.Lock()
		n := len(at.sent)
		at.sent, at.answer = append(at.sent, time.Now()), append(at.answer, time.Time{})
		p.mu.Unlock()
		packet := syn(netip.AddrPortFrom(p.from, uint16(firstPort+n%ports)), at.to, uint32(n))
		if err := unix.Sendto(p.out, packet, 0, &unix.SockaddrInet4{Addr: at.to.Addr().As4()}); err != nil {
			p.mu.Lock()
			p.fault = err
			p.mu.Unlock()
		}
	}
}

// answered takes in a packet that came; a SYN-ACK of a place is an answer.
func (p *prober) answered(b []byte, now time.Time) {
	head := int(b[0]&15) * 4
	if len(b) < head+14 || b[head+13]&0x12 != 0x12 {
		return
	}
	from := netip.AddrPortFrom(netip.AddrFrom4([4]byte(b[12:16])), binary.BigEndian.Uint16(b[head:]))
	n := int(binary.BigEndian.Uint32(b[head+8:])) - 1 // it acknowledges our sequence number, which counts probes
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, at := range p.places {
		if at.to == from && n >= 0 && n < len(at.answer) && at.answer[n].IsZero() {
			at.answer[n] = now
		}
	}
}

// turned reports whether the last probes of every place were treated alike,
// served or not, leaving out those whose answer may be under way.
func (p *prober) turned(served bool, since time.Time) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, at := range p.places {
		n := len(at.sent)
		for n > 0 && time.Since(at.sent[n-1]) < inFlight {
			n--
		}
		if n < proven || at.sent[n-proven].Before(since) {
			return false
		}
		for _, a := range at.answer[n-proven : n] {
			if !a.IsZero() != served {
				return false
			}
		}
	}
	return true
}

// turn is, for each place, when the first probe was sent after the last one
// that the former rule treated. mixed counts probes that the new rule had
// treated before that one.
func (p *prober) turn(served bool, since time.Time) (at []time.Time, mixed int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, place := range p.places {
		first, _ := slices.BinarySearchFunc(place.sent, since, time.Time.Compare)
		end := len(place.sent)
		for end > 0 && time.Since(place.sent[end-1]) < inFlight {
			end--
		}
		last := first - 1
		for i := first; i < end; i++ {
			if !place.answer[i].IsZero() != served {
				last = i
			}
		}
		for i := first; i < last; i++ {
			if !place.answer[i].IsZero() == served {
				mixed++
			}
		}
		at = append(at, place.sent[last+1])
	}
	return at, mixed
}

// syn is an IPv4 packet with a TCP SYN; the kernel fills in IP's checksum.
func syn(from, to netip.AddrPort, seq uint32) []byte {
	b := make([]byte, 40)
	b[0], b[8], b[9] = 0x45, 64, unix.IPPROTO_TCP
	binary.BigEndian.PutUint16(b[2:], 40)
	src, dst := from.Addr().As4(), to.Addr().As4()
	copy(b[12:], src[:])
	copy(b[16:], dst[:])
	t := b[20:]
	binary.BigEndian.PutUint16(t, from.Port())
	binary.BigEndian.PutUint16(t[2:], to.Port())
	binary.BigEndian.PutUint32(t[4:], seq)
	t[12], t[13] = 0x50, 2
	binary.BigEndian.PutUint16(t[14:], 64240)
	sum := uint32(unix.IPPROTO_TCP + 20)
	for i := 12; i < 40; i += 2 {
		sum += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	sum = sum>>16 + sum&0xffff
	binary.BigEndian.PutUint16(t[16:], ^uint16(sum+sum>>16))
	return b
}

// BenchmarkEnforcement changes one rule of a group that stands at both gates,
// again and again, and measures until the packets at every node are treated by
// the new rule.
func BenchmarkEnforcement(b *testing.B) {
	if os.Geteuid() != 0 {
		b.Skip("needs root: the lab makes network namespaces")
	}
	dir := b.TempDir()
	if err := e2e.Build(b.Context(), "../..", dir); err != nil {
		b.Fatal(err)
	}
	l, err := e2e.Start(b.Context(), dir)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := l.Close(); err != nil {
			b.Error(err)
		}
	})
	e, err := e2e.Make(b.Context(), l.Do)
	if err != nil {
		b.Fatal(err)
	}
	group := everywhere(b, l, e)
	places := []*place{{name: "gateway", to: netip.AddrPortFrom(e.VIP, 8000)}}
	for i, a := range e.Public {
		places = append(places, &place{name: fmt.Sprintf("host-%d", i+1), to: netip.AddrPortFrom(a, 22)})
	}
	p, err := newProber("client-1", netip.MustParseAddr(client), places...)
	if err != nil {
		b.Fatal(err)
	}
	ctx, stop := context.WithCancel(b.Context())
	wait := p.run(ctx)
	measure(b, l, p, group)
	stop()
	wait()
	if p.fault != nil {
		b.Error(p.fault)
	}
}

// everywhere makes a group that comes first at the load balancer and at both
// instances.
func everywhere(b *testing.B, l *e2e.Lab, e *e2e.Example) string {
	b.Helper()
	var made struct {
		SecurityGroup struct{ SecurityGroupId string }
	}
	do := func(service, action string, in map[string]any, out any) {
		if err := l.Do(b.Context(), service, action, in, out); err != nil {
			b.Fatal(err)
		}
	}
	do("vpc", "CreateSecurityGroup", map[string]any{"GroupName": "switch", "GroupDescription": "both gates"}, &made)
	id := made.SecurityGroup.SecurityGroupId
	do("clb", "SetLoadBalancerSecurityGroups", map[string]any{"LoadBalancerId": e.Balancer, "SecurityGroups": []string{id, e.Edge}}, nil)
	do("cvm", "ModifyInstancesAttribute", map[string]any{"InstanceIds": e.Instances, "SecurityGroups": []string{id, e.Web}}, nil)
	if err := l.Settle(b.Context()); err != nil {
		b.Fatal(err)
	}
	return id
}

func measure(b *testing.B, l *e2e.Lab, p *prober, group string) {
	turns := func(served bool, since time.Time) {
		limit, cancel := context.WithTimeout(b.Context(), 5*time.Second)
		defer cancel()
		if err := e2e.Until(limit, "every place treats packets by the new rule", func() (bool, error) { return p.turned(served, since), nil }); err != nil {
			b.Fatal(err)
		}
	}
	turns(true, time.Now())
	var fromAnswer, fromRequest, answer, lag []time.Duration
	byPlace := make([][]time.Duration, len(p.places))
	mixed := 0
	for n := range changes {
		served := n%2 == 1
		change := l.Refuse
		if served {
			change = l.Allow
		}
		time.Sleep(time.Duration(rand.Int64N(int64(20 * time.Millisecond))))
		began := time.Now()
		if err := change(b.Context(), group, client+"/32"); err != nil {
			b.Fatal(err)
		}
		answered := time.Now()
		turns(served, began)
		at, m := p.turn(served, began)
		mixed += m
		for i, when := range at {
			byPlace[i] = append(byPlace[i], when.Sub(answered))
		}
		last := slices.MaxFunc(at, time.Time.Compare)
		fromAnswer, fromRequest = append(fromAnswer, last.Sub(answered)), append(fromRequest, last.Sub(began))
		answer = append(answer, answered.Sub(began))
		lag = append(lag, slowest(b, l))
	}
	told := func(name string, d []time.Duration) (p50, p99 float64) {
		slices.Sort(d)
		ms := func(q float64) float64 { return float64(d[int(q*float64(len(d)-1))].Microseconds()) / 1000 }
		b.Logf("%-36s p50 %7.2f  p90 %7.2f  p99 %7.2f  max %7.2f ms", name, ms(.5), ms(.9), ms(.99), ms(1))
		return ms(.5), ms(.99)
	}
	told("API request to answer (committed)", answer)
	told("arrival in server to nodes' word", lag)
	for i, d := range byPlace {
		told("answer to first packet, "+p.places[i].name, d)
	}
	told("request to first packet everywhere", fromRequest)
	p50, p99 := told("answer to first packet everywhere", fromAnswer)
	b.ReportMetric(p50, "p50-ms")
	b.ReportMetric(p99, "p99-ms")
	b.ReportMetric(float64(mixed), "mixed")
	b.ReportMetric(0, "ns/op")
	Write(b, Row{ID: "enforce-p50", Name: "commit to first packet by the new rule at every node, p50", Unit: "ms", Ours: p50, Goal: "", Spread: [2]float64{p50, p99}},
		Row{ID: "enforce-p99", Name: "commit to first packet by the new rule at every node, p99", Unit: "ms", Ours: p99, Goal: "<= 50", Spread: [2]float64{p50, p99}})
}

// slowest is the lag that the server sees at the node it waited for longest.
func slowest(b *testing.B, l *e2e.Lab) time.Duration {
	var s e2e.Status
	if err := l.Do(b.Context(), "sallyport", "DescribeStatus", nil, &s); err != nil {
		b.Fatal(err)
	}
	longest := 0.0
	for _, n := range s.Nodes {
		if n.Error != "" && !strings.Contains(n.Error, "not kept") {
			b.Errorf("%s: %s", n.Name, n.Error)
		}
		longest = max(longest, n.LagMs)
	}
	return time.Duration(longest * float64(time.Millisecond))
}
