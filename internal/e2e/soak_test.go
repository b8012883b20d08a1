// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sallyport/sallyport/internal/cloudapi"
	"github.com/sallyport/sallyport/internal/lab"
)

// soakFor is how long the soak lasts: SALLYPORT_SOAK, or two minutes.
func soakFor(t *testing.T) time.Duration {
	text := os.Getenv("SALLYPORT_SOAK")
	if text == "" {
		return 2 * time.Minute
	}
	d, err := time.ParseDuration(text)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// A soaking is everything at once: load, changes, deaths, churn and floods.
type soaking struct {
	*stage
	*load
	t   *testing.T
	ctx context.Context

	mu       sync.Mutex
	proxyAt  time.Time // when the process with the proxy was last sent a signal
	polite   bool      // and whether it was asked to end
	signals  map[string]int
	turns    int // of rules, acknowledged and seen in force by real packets
	churned  int // targets that came and went, or changed their weight
	flooded  atomic.Uint64
	looks    int // at the health of all targets
	excused  int // layer-7 requests that met a killed proxy
	waited   int // and those that came too late for one which ended when asked, and were too early for the next
	resident map[string][]float64
	maps     map[string][]float64
}

// soak runs all of it for a while: nothing refused is ever admitted, no change
// is without effect, established flows go on, and memory stays flat.
func (s *stage) soak(t *testing.T) {
	last := soakFor(t)
	s.refuse(t, s.Edge, client2)
	bounded, cancel := context.WithTimeout(t.Context(), last+2*time.Minute)
	defer cancel()
	l, ctx := newLoad(bounded)
	k := &soaking{stage: s, load: l, t: t, ctx: ctx, signals: map[string]int{}, resident: map[string][]float64{}, maps: map[string][]float64{}}
	s.standard(ctx, l)
	l.every(ctx, 20*time.Millisecond, k.layer7)
	remove, err := k.listenDatagrams(ctx)
	if err != nil {
		t.Error(err)
	}
	k.datagrams(ctx)
	var wg sync.WaitGroup
	going, stop := context.WithTimeout(ctx, last)
	defer stop()
	for _, part := range []func(context.Context){k.turn, k.churn, k.kill, k.flood, k.measure, k.watch} {
		wg.Go(func() { part(going) })
	}
	wg.Wait()
	l.cancel() // of clients, before what they ask goes
	l.wg.Wait()
	remove(bounded)
	settling, done := context.WithTimeout(bounded, 40*time.Second)
	defer done()
	if err := s.Settle(settling); err != nil {
		t.Error(err)
	}
	since := time.Now() // every target is Alive; a node that has just begun says Unknown until it has probed
	if err := Until(settling, "every target stays Alive", func() (bool, error) {
		target, err := s.ailing(settling)
		if target != "" {
			since = time.Now()
		}
		return time.Since(since) > 3*time.Second, err
	}); err != nil {
		t.Error(err)
	}
	l.end(t)
	k.report(last)
}

// layer7 makes one request through the proxy. Only one that meets the death of
// the process that the proxy lives in may fail. Where that was asked to end, no
// connection breaks: at most none comes about until the next process is there.
func (k *soaking) layer7() {
	began := time.Now()
	var s sight
	c, err := lab.Dial("client-1", "tcp4", k.http(), limit)
	connected := err == nil
	if connected {
		s, err = ask(c, bufio.NewReader(c), "/soak")
		c.Close()
	}
	k.mu.Lock()
	excused := err != nil && k.proxyAt.After(began.Add(-2*time.Second)) && !(k.polite && connected)
	switch {
	case excused && k.polite:
		k.waited++
	case excused:
		k.excused++
	}
	k.mu.Unlock()
	switch {
	case err != nil && !excused:
		k.fault("layer-7 request, begun %v before: %v", time.Since(began).Round(time.Millisecond), err)
	case err != nil:
	case s.Peer.String() != client1:
		k.fault("layer-7 request: the instance saw %v", s.Peer)
	default:
		k.good("layer-7 request", time.Since(began))
	}
}

// insist sends a change until it is acknowledged: the server may be away.
func (k *soaking) insist(ctx context.Context, change func() error) bool {
	for first := true; ctx.Err() == nil; first = false {
		err := change()
		var refusal *cloudapi.Error
		switch {
		case err == nil, !first && errors.As(err, &refusal): // the attempt before did it
			return true
		case ctx.Err() == nil && errors.As(err, &refusal): // a server that was ended in the middle refuses nothing
			k.fault("a change was refused: %v", err)
			return false
		}
		time.Sleep(10 * time.Millisecond)
	}
	return false
}

// turn refuses client-3 at gate 2 and lets it in again. Whenever a turn is in
// force everywhere, a real connection says so.
func (k *soaking) turn(ctx context.Context) {
	refuse := true
	for ; ctx.Err() == nil; refuse = !refuse {
		change := k.Allow
		if refuse {
			change = k.Refuse
		}
		if !k.insist(ctx, func() error { return change(ctx, k.Web, client3) }) || k.Settle(ctx) != nil {
			continue
		}
		for i, a := range k.Public {
			if passes("client-3", a) == refuse && ctx.Err() == nil {
				k.fault("WRONG VERDICT: client-3 refused %v, and its connection to %s says otherwise", refuse, k.Instances[i])
			}
		}
		k.mu.Lock()
		k.turns++
		k.mu.Unlock()
	}
	end, cancel := context.WithTimeout(k.ctx, 10*time.Second)
	defer cancel()
	_ = k.Allow(end, k.Web, client3) // it may be allowed already
}

// churn lets a third target come and go behind both listeners' instances, and
// moves weights: what is established stays where it is.
func (k *soaking) churn(ctx context.Context) {
	third := map[string]any{"InstanceId": k.Instances[0], "Port": 22}
	second := map[string]any{"InstanceId": k.Instances[1], "Port": k.TCPTarget}
	do := func(action string, target map[string]any, weight any) bool {
		in := map[string]any{"LoadBalancerId": k.Balancer, "ListenerId": k.TCP, "Targets": []any{target}}
		if weight != nil {
			in["Weight"] = weight
		}
		ok := k.insist(ctx, func() error { return k.Do(ctx, "clb", action, in, nil) })
		k.mu.Lock()
		k.churned++
		k.mu.Unlock()
		select {
		case <-ctx.Done():
		case <-time.After(400 * time.Millisecond):
		}
		return ok
	}
	for n := 1; ctx.Err() == nil; n++ {
		_ = do("RegisterTargets", third, nil) && do("ModifyTargetWeight", second, n%2*10) &&
			do("ModifyTargetWeight", third, 0) && do("DeregisterTargets", third, nil)
	}
	end, cancel := context.WithTimeout(k.ctx, 10*time.Second)
	defer cancel()
	in := map[string]any{"LoadBalancerId": k.Balancer, "ListenerId": k.TCP, "Targets": []any{third}}
	_ = k.Do(end, "clb", "DeregisterTargets", in, nil) // it may be gone already
	in["Targets"], in["Weight"] = []any{second}, 10
	_ = k.Do(end, "clb", "ModifyTargetWeight", in, nil)
}

// kill ends one process after the other, in either way.
func (k *soaking) kill(ctx context.Context) {
	processes := []string{"server", lab.DefaultGateway + ".agent", k.Instances[0] + ".agent", k.Instances[1] + ".agent"}
	for n := 0; ctx.Err() == nil; n++ {
		time.Sleep(time.Duration(k.random.Int64N(int64(time.Second))))
		process, signal, name := processes[n%len(processes)], unix.SIGKILL, "killed"
		if n/len(processes)%2 == 1 {
			signal, name = unix.SIGTERM, "ended"
		}
		if strings.HasPrefix(process, lab.DefaultGateway) {
			k.mu.Lock()
			k.proxyAt, k.polite = time.Now(), signal == unix.SIGTERM
			k.mu.Unlock()
		}
		if err := k.Signal(ctx, process, signal); err != nil {
			continue
		}
		k.mu.Lock()
		k.signals[name]++
		k.mu.Unlock()
		within, cancel := context.WithTimeout(ctx, 15*time.Second)
		if err := k.Settle(within); err != nil && ctx.Err() == nil {
			k.fault("after %s was %s: %v", process, name, err)
		}
		cancel()
	}
}

// flood sends first packets of connections that nobody means to make: half of
// them from a client that gate 1 refuses, half from addresses without number.
func (k *soaking) flood(ctx context.Context) {
	var fd int
	err := Inside("client-2", func() (err error) {
		fd, err = unix.Socket(unix.AF_INET, unix.SOCK_RAW, unix.IPPROTO_RAW)
		return err
	})
	if err != nil {
		k.fault("flood: %v", err)
		return
	}
	defer unix.Close(fd)
	to := &unix.SockaddrInet4{Addr: k.VIP.As4()}
	packet := make([]byte, 40)
	packet[0], packet[8], packet[9], packet[32], packet[33], packet[34] = 0x45, 64, 6, 0x50, 2, 0xff
	binary.BigEndian.PutUint16(packet[2:], 40)
	binary.BigEndian.PutUint16(packet[22:], 8000)
	dst, refused := k.VIP.As4(), netip.MustParseAddr(client2).As4()
	copy(packet[16:], dst[:])
	ticker := time.NewTicker(10 * time.Millisecond)
	defer ticker.Stop()
	for n := uint32(0); ctx.Err() == nil; {
		<-ticker.C
		if time.Now().Unix()%20 < 8 { // bursts of twelve seconds
			continue
		}
		for range 40 {
			n++
			copy(packet[12:], refused[:])
			if n%4 == 0 {
				packet[12], packet[13], packet[14], packet[15] = 100, byte(65+n>>16%30), byte(n>>8), byte(n)
			}
			binary.BigEndian.PutUint16(packet[20:], uint16(1024+n%60000))
			binary.BigEndian.PutUint32(packet[24:], n)
			if unix.Sendto(fd, packet, 0, to) == nil {
				k.flooded.Add(1)
			}
		}
	}
}

// measure samples what the processes and their maps take.
func (k *soaking) measure(ctx context.Context) {
	ticker := time.NewTicker(2 * time.Second)
	defer ticker.Stop()
	for ctx.Err() == nil {
		if r, err := lab.Current(); err == nil {
			for _, p := range r.Processes {
				if p.PID == 0 || p.Name != "server" && !strings.HasSuffix(p.Name, ".agent") {
					continue
				}
				if mb, _, ok := residentMB(p.PID); ok {
					k.resident[p.Name] = append(k.resident[p.Name], mb)
				}
				if mb := mapMB(p.PID); mb > 0 {
					k.maps[p.Name] = append(k.maps[p.Name], mb)
				}
			}
		}
		select {
		case <-ctx.Done():
		case <-ticker.C:
		}
	}
}

// residentMB is what a process has in memory, and apart from that what it sees of
// the kernel's tables.
func residentMB(pid int) (own, tables float64, ok bool) {
	maps, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps", pid))
	if err != nil {
		return 0, 0, false
	}
	of := &own
	for line := range strings.Lines(string(maps)) {
		field := strings.Fields(line)
		switch {
		case len(field) >= 5 && !strings.HasSuffix(field[0], ":"): // a mapping begins
			of = &own
			if strings.HasSuffix(field[len(field)-1], "bpf-map") {
				of = &tables
			}
		case len(field) == 3 && field[0] == "Rss:":
			kb, err := strconv.Atoi(field[1])
			if err != nil {
				return 0, 0, false
			}
			*of += float64(kb) / 1024
		}
	}
	return own, tables, own > 0
}

// mapMB is what the eBPF maps that a process holds take in the kernel.
func mapMB(pid int) (sum float64) {
	files, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fdinfo/*", pid))
	seen := map[string]bool{}
	for _, name := range files {
		info, err := os.ReadFile(name)
		if err != nil {
			continue
		}
		bytes, id := 0.0, ""
		for line := range strings.Lines(string(info)) {
			field := strings.Fields(line)
			switch {
			case len(field) == 2 && field[0] == "memlock:":
				bytes, _ = strconv.ParseFloat(field[1], 64)
			case len(field) == 2 && field[0] == "map_id:":
				id = field[1]
			}
		}
		if id != "" && !seen[id] {
			seen[id] = true
			sum += bytes / (1 << 20)
		}
	}
	return sum
}

// report says what was measured and fails on what grew. Processes start anew
// all the time, so the levels of two stretches of the run are compared.
func (k *soaking) report(last time.Duration) {
	k.t.Logf("%v: %d turns of rules seen in force, %d changes of targets, processes %v, %d packets of floods, %d looks at health, %d layer-7 requests met a killed proxy and %d waited in vain for the next",
		last, k.turns, k.churned, k.signals, k.flooded.Load(), k.looks, k.excused, k.waited)
	level := func(samples []float64) float64 {
		sorted := slices.Sorted(slices.Values(samples))
		return sorted[len(sorted)*3/4]
	}
	for _, kind := range []struct {
		name    string
		samples map[string][]float64
		most    float64 // growth that is no leak, in MB
	}{{"resident", k.resident, 12}, {"in maps", k.maps, 0.5}} {
		for _, name := range slices.Sorted(maps.Keys(kind.samples)) {
			all := kind.samples[name]
			if len(all) < 12 {
				k.t.Errorf("%s: only %d samples", name, len(all))
				continue
			}
			early, late := level(all[len(all)/4:len(all)/2]), level(all[len(all)*3/4:])
			k.t.Logf("%s, %s: %.1f MB in the second quarter, %.1f MB in the last, at most %.1f", name, kind.name, early, late, slices.Max(all))
			if late > early*1.25+kind.most {
				k.t.Errorf("%s, %s: grows from %.1f to %.1f MB", name, kind.name, early, late)
			}
		}
	}
	most := int(last.Seconds())
	if k.turns < most/10 || k.churned < most/10 || k.signals["killed"] < most/20 || k.signals["ended"] < most/30 || k.flooded.Load() == 0 || k.looks < most {
		k.t.Error("too little happened to prove anything")
	}
}
