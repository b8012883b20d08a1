// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tencentcloud/tencentcloud-sdk-go/tencentcloud/common"
	sdkhttp "github.com/tencentcloud/tencentcloud-sdk-go/tencentcloud/common/http"
	"github.com/tencentcloud/tencentcloud-sdk-go/tencentcloud/common/profile"
	"golang.org/x/sys/unix"

	"github.com/sallyport/sallyport/internal/lab"
)

// A stage is the lab with the example on it, which the stories share.
type stage struct {
	*Lab
	*Example
	seed    int64
	random  *rand.Rand
	writers int
}

func (s *stage) http() string { return netip.AddrPortFrom(s.VIP, 80).String() }
func (s *stage) tcp() string  { return netip.AddrPortFrom(s.VIP, 8000).String() }

// TestStories runs them in one lab, one after the other.
func TestStories(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: the lab makes network namespaces")
	}
	s := &stage{seed: time.Now().UnixNano()}
	if text := os.Getenv("E2E_SEED"); text != "" {
		s.seed, _ = strconv.ParseInt(text, 10, 64)
	}
	s.random = rand.New(rand.NewPCG(uint64(s.seed), 0))
	t.Logf("seed %d (E2E_SEED repeats it)", s.seed)
	dir := t.TempDir()
	if err := Build(t.Context(), "../..", dir); err != nil {
		t.Fatal(err)
	}
	var err error
	if s.Lab, err = Start(t.Context(), dir); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			t.Logf("up said:\n%s", s.Said())
		}
	})
	if !t.Run("the official client builds the example", s.officialClient) {
		return
	}
	if !s.VIP.IsValid() {
		t.Fatal("every story needs the example: -run '^TestStories$/^(the_official_client_builds_the_example|soak)$'")
	}
	t.Run("idle memory", s.memory)
	t.Run("the backend sees the client", s.clientAddress)
	t.Run("probes come from the VIP", s.probeSource)
	t.Run("gate 1 is silent and lets nothing out", s.gateOne)
	t.Run("gate 2 is silent and lets nothing in", s.gateTwo)
	t.Run("TLS ends at the gateway, after gate 1", s.https)
	t.Run("warm connections serve one client only", s.warmConnections)
	t.Run("the server dies", func(t *testing.T) { s.deaths(t, "server", 12*time.Second, 6) })
	t.Run("the host's node dies", func(t *testing.T) { s.deaths(t, s.Instances[0]+".agent", 12*time.Second, 6) })
	t.Run("the gateway's node dies", func(t *testing.T) { s.deaths(t, "gateway-1.agent", 12*time.Second, 6) })
	t.Run("layer 7 is back soon", s.layer7Back)
	t.Run("a kept snapshot is damaged", s.damagedSnapshot)
	t.Run("nodes are upgraded", s.upgrades)
	t.Run("the host's stream stalls", func(t *testing.T) { s.stalled(t, s.Instances[0], 7*time.Second) })
	t.Run("the gateway's stream stalls", func(t *testing.T) { s.stalled(t, lab.DefaultGateway, 13*time.Second) })
	t.Run("the server's disk is full", s.fullServer)
	t.Run("the nodes' disks are full", s.fullNodes)
	t.Run("soak", s.soak)
	t.Run("the clock jumps", s.clockJump) // the last: it waits until other labs have ended
}

// officialClient builds everything with Tencent's own Go client; then real
// packets do what its rules say.
func (s *stage) officialClient(t *testing.T) {
	p := profile.NewClientProfile()
	p.HttpProfile.Scheme = "HTTP"
	p.HttpProfile.Endpoint = strings.TrimPrefix(s.Client.Endpoint, "http://")
	client := common.NewCommonClient(common.NewCredential(s.Client.SecretID, s.Client.SecretKey), s.Client.Region, p)
	call := func(_ context.Context, service, action string, in, out any) error {
		if in == nil {
			in = map[string]any{}
		}
		params, err := json.Marshal(in)
		if err != nil {
			return err
		}
		req, res := sdkhttp.NewCommonRequest(service, Versions()[service], action), sdkhttp.NewCommonResponse()
		if err := req.SetActionParameters(params); err != nil {
			return err
		}
		if err := client.Send(req, res); err != nil || out == nil {
			return err
		}
		var answer struct{ Response json.RawMessage }
		if err := json.Unmarshal(res.GetBody(), &answer); err != nil {
			return err
		}
		return json.Unmarshal(answer.Response, out)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 40*time.Second)
	defer cancel()
	began := time.Now()
	var err error
	if s.Example, err = Make(ctx, call); err != nil {
		t.Fatal(err)
	}
	t.Logf("all targets Alive after %v", time.Since(began).Round(time.Millisecond))
	for _, address := range []string{s.http(), s.tcp()} {
		for _, host := range []string{"client-1", "client-2", "client-3"} {
			if _, err := once(host, address, "/sdk"); err != nil {
				t.Errorf("%s is not served at %s: %v", host, address, err)
			}
		}
	}
	// Refuse one client at each gate, by the same client.
	for group, source := range map[string]string{s.Edge: client2, s.Web: client3} {
		rule := Drop(source)
		rule["PolicyIndex"] = 0
		if err := call(ctx, "vpc", "CreateSecurityGroupPolicies", policies(group, rule), nil); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Settle(ctx); err != nil {
		t.Fatal(err)
	}
	if _, err := once("client-1", s.http(), "/sdk"); err != nil {
		t.Errorf("client-1 is no longer served: %v", err)
	}
	var wg sync.WaitGroup
	for _, refused := range []struct{ host, address string }{
		{"client-2", s.http()}, {"client-2", s.tcp()}, {"client-3", s.tcp()},
	} {
		wg.Go(func() { silent(t, refused.host, refused.address) })
	}
	wg.Go(func() { // gate 2 meets the proxy, which answers for itself
		c, err := lab.Dial("client-3", "tcp4", s.http(), limit)
		if err != nil {
			t.Errorf("client-3 at layer 7: %v", err)
			return
		}
		defer c.Close()
		if got, err := ask(c, bufio.NewReader(c), "/sdk"); err == nil {
			t.Errorf("client-3 was served by %v past gate 2", got)
		}
	})
	wg.Wait()
	for group, source := range map[string]string{s.Edge: client2, s.Web: client3} {
		if err := s.Allow(ctx, group, source); err != nil {
			t.Error(err)
		}
	}
	if err := s.Settle(ctx); err != nil {
		t.Error(err)
	}
}

// silent wants nothing at all to come back within 2 s.
func silent(t *testing.T, host, address string) {
	t.Helper()
	c, err := lab.Dial(host, "tcp4", address, 2*time.Second)
	if err == nil {
		c.Close()
		t.Errorf("%s has a connection to %s", host, address)
	} else if timeout, ok := err.(net.Error); !ok || !timeout.Timeout() {
		t.Errorf("%s gets %v from %s instead of silence", host, err, address)
	}
}

// memory holds server and nodes to what they may take when nothing happens. The
// kernel's tables are not theirs: how large those are is what --flows says.
func (s *stage) memory(t *testing.T) {
	r, err := lab.Current()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range r.Processes {
		most := 60
		switch {
		case p.Name == "server":
			most = 150
		case !strings.HasSuffix(p.Name, ".agent"):
			continue
		}
		mb, tables, ok := residentMB(p.PID)
		if !ok {
			t.Errorf("%s: no resident memory is told", p.Name)
			continue
		}
		t.Logf("%s: %.0f MB resident, and %.0f MB of the kernel's tables in its sight", p.Name, mb, tables)
		if mb >= float64(most) {
			t.Errorf("%s has %.0f MB resident, must be below %d", p.Name, mb, most)
		}
	}
}

func (s *stage) accessLogs() string {
	var all strings.Builder
	for _, id := range s.Instances {
		all.WriteString(s.Log(id))
	}
	return all.String()
}

// clientAddress reads the instances' own access logs.
func (s *stage) clientAddress(t *testing.T) {
	for _, row := range []struct{ layer, host, client, address, port string }{
		{"4", "client-1", client1, s.tcp(), ":8081"}, {"7", "client-1", client1, s.http(), ":8080"},
		{"4", "client-2", client2, s.tcp(), ":8081"}, {"7", "client-2", client2, s.http(), ":8080"},
	} {
		path := "/whoami-" + row.layer + "-" + row.host
		if _, err := once(row.host, row.address, path); err != nil {
			t.Errorf("%s at layer %s: %v", row.host, row.layer, err)
		}
		found := false
		for line := range strings.Lines(s.accessLogs()) {
			found = found || strings.Contains(line, path) && strings.Contains(line, " peer="+row.client+":") && strings.Contains(line, row.port+" ")
		}
		if !found {
			t.Errorf("layer %s: no line of a log has %s from %s on %s", row.layer, path, row.client, row.port)
		}
	}
}

// probeSource looks at an instance's wire.
func (s *stage) probeSource(t *testing.T) {
	c := watch(t, s.Instances[0])
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	for _, port := range []int{s.HTTPTarget, s.TCPTarget} {
		err := Until(ctx, fmt.Sprintf("a probe of port %d comes from the VIP through the tunnel", port), func() (bool, error) {
			return c.count(func(f frame) bool {
				return f.tunnelled && !f.outgoing && f.src.Addr() == s.VIP && int(f.dst.Port()) == port
			}) > 0, nil
		})
		if err != nil {
			t.Error(err)
		}
	}
}

// refuse refuses a source in a group until the test ends.
func (s *stage) refuse(t *testing.T, group, source string) {
	t.Helper()
	if err := s.Refuse(t.Context(), group, source); err != nil {
		t.Fatal(err)
	}
	if err := s.Settle(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Allow(context.Background(), group, source); err != nil {
			t.Error(err)
		}
		ctx, cancel := context.WithTimeout(context.Background(), 15*time.Second)
		defer cancel()
		if err := s.Settle(ctx); err != nil {
			t.Error(err)
		}
	})
}

// gateOne looks at the gateway's wire: client-1's packets go on, client-2's
// come and do not.
func (s *stage) gateOne(t *testing.T) {
	s.refuse(t, s.Edge, client2)
	c := watch(t, lab.DefaultGateway)
	var wg sync.WaitGroup
	for _, address := range []string{s.http(), s.tcp()} {
		wg.Go(func() { silent(t, "client-2", address) })
		wg.Go(func() {
			if _, err := once("client-1", address, "/gate-1"); err != nil {
				t.Errorf("client-1 at %s: %v", address, err)
			}
		})
	}
	wg.Wait()
	about := func(client string, outgoing bool) int {
		a := netip.MustParseAddr(client)
		return c.count(func(f frame) bool { return f.outgoing == outgoing && (f.src.Addr() == a || f.dst.Addr() == a) })
	}
	if in, out := about(client1, false), about(client1, true); in == 0 || out == 0 {
		t.Errorf("the capture saw %d packets of client-1 coming and %d leaving; it proves nothing", in, out)
	}
	if in, out := about(client2, false), about(client2, true); in == 0 || out != 0 {
		t.Errorf("of client-2 %d packets came and %d left the gateway; none may", in, out)
	}
}

// gateTwo looks at the instances' logs, which have a line for every accept.
func (s *stage) gateTwo(t *testing.T) {
	before := s.accessLogs()
	s.refuse(t, s.Web, client3)
	captures := []*capture{watch(t, s.Instances[0]), watch(t, s.Instances[1])}
	var wg sync.WaitGroup
	wg.Go(func() { silent(t, "client-3", s.tcp()) })
	for _, a := range s.Public { // without any load balancer too
		wg.Go(func() { silent(t, "client-3", netip.AddrPortFrom(a, 22).String()) })
	}
	wg.Wait()
	a, came := netip.MustParseAddr(client3), 0
	for _, c := range captures {
		came += c.count(func(f frame) bool { return f.src.Addr() == a && !f.outgoing })
		if n := c.count(func(f frame) bool { return f.dst.Addr() == a && f.outgoing }); n > 0 {
			t.Errorf("%d packets went back to client-3", n)
		}
	}
	if came < 3 {
		t.Errorf("only %d packets of client-3 came to the instances' wires; it proves nothing", came)
	}
	if n := strings.Count(s.accessLogs(), "peer="+client3+":") - strings.Count(before, "peer="+client3+":"); n != 0 {
		t.Errorf("%d connections or requests of client-3 reached a socket", n)
	}
}

// warmConnections alternates two clients over warm connections through the
// proxy while gate 2 turns for one of them.
func (s *stage) warmConnections(t *testing.T) {
	const rounds, connections = 12, 6
	for round := range rounds {
		if t.Failed() {
			return
		}
		s.warmRound(t, round, connections)
	}
	t.Logf("%d rounds of %d warm connections of each client", rounds, connections)
}

// A warmClient keeps connections to the layer-7 listener.
type warmClient struct {
	conns   []net.Conn
	readers []*bufio.Reader
}

func warm(t *testing.T, host, address, path string, n int) *warmClient {
	w := &warmClient{}
	for i := range n {
		c, err := lab.Dial(host, "tcp4", address, limit)
		if err != nil {
			t.Fatal(err)
		}
		w.conns, w.readers = append(w.conns, c), append(w.readers, bufio.NewReader(c))
		if _, err := ask(c, w.readers[i], path+"warm"); err != nil {
			t.Fatalf("%s is not served while both gates let it pass: %v", host, err)
		}
	}
	return w
}

func (w *warmClient) close() {
	for _, c := range w.conns {
		c.Close()
	}
}

func (s *stage) warmRound(t *testing.T, round, n int) {
	t.Helper()
	path := fmt.Sprintf("/warm-%d-", round)
	one, three := warm(t, "client-1", s.http(), path+"1-", n), warm(t, "client-3", s.http(), path+"3-", n)
	defer one.close()
	defer three.close()
	if err := s.Refuse(t.Context(), s.Web, client3); err != nil {
		t.Fatal(err)
	}
	if err := s.Settle(t.Context()); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for i := range n {
		// Alternating, so that what serves one could serve the other.
		wg.Go(func() {
			_ = three.conns[i].SetDeadline(time.Now().Add(500 * time.Millisecond))
			_, _ = fmt.Fprintf(three.conns[i], "GET %s3-refused HTTP/1.1\r\nHost: www.example.com\r\n\r\n", path)
			if line, err := three.readers[i].ReadString('\n'); err == nil && strings.Contains(line, " 200 ") {
				t.Errorf("round %d: client-3 was served on a warm connection", round)
			}
		})
		got, err := ask(one.conns[i], one.readers[i], path+"1-meanwhile")
		if err != nil || got.Peer.String() != client1 {
			t.Errorf("round %d: client-1 is served with %v by an instance that saw %v", round, err, got.Peer)
		}
	}
	wg.Wait()
	if strings.Contains(s.accessLogs(), path+"3-refused") {
		t.Errorf("round %d: a refused request of client-3 stands in an access log", round)
	}
	three.close()
	if err := s.Allow(t.Context(), s.Web, client3); err != nil {
		t.Fatal(err)
	}
	if err := s.Settle(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// newWriter gives the load balancer one more group to write into.
func (s *stage) newWriter(t *testing.T) *writer {
	t.Helper()
	s.writers++
	do := func(service, action string, in map[string]any, out any) error {
		return s.Do(t.Context(), service, action, in, out)
	}
	id, err := group(do, fmt.Sprintf("written-%d", s.writers), Accept("TCP", "80", "198.19.0.0/16"))
	if err == nil {
		err = do("clb", "SetLoadBalancerSecurityGroups", map[string]any{"LoadBalancerId": s.Balancer, "SecurityGroups": []string{s.Edge, id}}, nil)
	}
	if err != nil {
		t.Fatal(err)
	}
	return &writer{lab: s.Lab, group: id, begins: make(chan struct{})}
}

// deaths kills a process again and again, at random instants and in the middle
// of changes, while clients ask, read, and try what is refused.
func (s *stage) deaths(t *testing.T, process string, last time.Duration, least int) {
	s.refuse(t, s.Edge, client2)
	s.refuse(t, s.Web, client3)
	w := s.newWriter(t)
	l, ctx := newLoad(t.Context())
	l.fresh(ctx, fresh, s.tcp(), 4*time.Millisecond)
	l.warm(ctx, "request on one connection", s.tcp())
	l.download(ctx, s.tcp())
	l.refused(ctx, "client-2", s.tcp())
	l.refused(ctx, "client-2", s.http())
	l.refused(ctx, "client-3", s.tcp())
	writing, stop := context.WithCancel(ctx)
	var wrote sync.WaitGroup
	wrote.Go(func() { w.run(writing, last/50) })

	kills, during := 0, 0
	pause := last / time.Duration(least+2)
	for began := time.Now(); time.Since(began) < last; kills++ {
		if kills%2 == 1 { // in the middle of a change
			select {
			case <-w.begins:
			case <-time.After(limit):
				t.Error("no change begins any more")
			}
			time.Sleep(time.Duration(s.random.Int64N(int64(40 * time.Millisecond))))
			during++
		} else {
			time.Sleep(time.Duration(s.random.Int64N(int64(pause))))
		}
		if err := s.Signal(ctx, process, unix.SIGKILL); err != nil {
			t.Fatal(err)
		}
		time.Sleep(pause / 2)
	}
	stop()
	wrote.Wait()
	settling, cancel := context.WithTimeout(t.Context(), 15*time.Second)
	defer cancel()
	if err := s.Settle(settling); err != nil {
		t.Errorf("after the deaths: %v", err)
	}
	rate := float64(l.count(fresh)) / last.Seconds()
	l.end(t)
	t.Logf("%s was killed %d times, %d of them during a change; %.0f new connections a second", process, kills, during, rate)
	if kills < least {
		t.Errorf("only %d kills", kills)
	}
	w.check(t)
}

// layer7Back kills the gateway's node, where the proxy lives: new requests are
// served within 2 s, and gate 1 never opens meanwhile.
func (s *stage) layer7Back(t *testing.T) {
	s.refuse(t, s.Edge, client2)
	bounded, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	l, ctx := newLoad(bounded)
	l.refused(ctx, "client-2", s.http())
	l.refused(ctx, "client-2", s.tcp())
	var took []time.Duration
	for range 10 {
		time.Sleep(time.Duration(s.random.Int64N(int64(600 * time.Millisecond))))
		if err := s.Signal(ctx, "gateway-1.agent", unix.SIGKILL); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		err := Until(ctx, "a request is served", func() (bool, error) {
			c, err := lab.Dial("client-1", "tcp4", s.http(), 100*time.Millisecond)
			if err != nil {
				return false, nil
			}
			defer c.Close()
			_, err = ask(c, bufio.NewReader(c), "/back")
			return err == nil, nil
		})
		if err != nil {
			t.Fatal(err)
		}
		took = append(took, time.Since(began).Round(time.Millisecond))
	}
	l.end(t)
	slices.Sort(took)
	longest := took[len(took)-1]
	t.Logf("of %d kills: layer 7 served again after %v (median), %v at most", len(took), took[len(took)/2], longest)
	if longest > 2*time.Second {
		t.Errorf("layer 7 was away for %v", longest)
	}
}

// damagedSnapshot spoils what the gateway's node keeps on disk, and lets it
// start without the server.
func (s *stage) damagedSnapshot(t *testing.T) {
	s.refuse(t, s.Edge, client2)
	l, loading := newLoad(t.Context())
	s.standard(loading, l)
	defer l.end(t)
	if err := s.Signal(t.Context(), "server", unix.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	kept := filepath.Join(s.Data(), "nodes", lab.DefaultGateway, "snapshot")
	data, err := os.ReadFile(kept)
	if err != nil {
		t.Fatal(err)
	}
	data[len(data)/2] ^= 1
	if err := os.WriteFile(kept, data, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := s.Signal(t.Context(), "gateway-1.agent", unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 15*time.Second)
	defer cancel()
	if err := Until(ctx, "the damaged snapshot is set aside and told of", func() (bool, error) {
		_, err := os.Stat(kept + ".corrupt")
		return err == nil && strings.Contains(s.Log(lab.DefaultGateway), "is damaged and was set aside"), nil
	}); err != nil {
		t.Error(err)
	}
	silent(t, "client-2", s.tcp())
	if _, err := once("client-1", s.tcp(), "/damaged"); err != nil {
		t.Errorf("client-1, by what the kernel has: %v", err)
	}
	if err := s.Signal(ctx, "server", unix.SIGCONT); err != nil {
		t.Fatal(err)
	}
	if err := s.Settle(ctx); err != nil {
		t.Errorf("recovering from the server: %v", err)
	}
	for _, address := range []string{s.http(), s.tcp()} {
		if _, err := once("client-1", address, "/damaged"); err != nil {
			t.Errorf("client-1 after the recovery: %v", err)
		}
	}
	if err := Until(ctx, "a good snapshot is kept again", func() (bool, error) {
		_, err := os.Stat(kept)
		return err == nil, nil
	}); err != nil {
		t.Error(err)
	}
}

// upgrades ends the nodes politely, then replaces their program by another
// build and does it again: no request fails at either layer.
func (s *stage) upgrades(t *testing.T) {
	rebuilt := t.TempDir()
	if err := Build(t.Context(), "../..", rebuilt, "-ldflags=-s -w"); err != nil {
		t.Fatal(err)
	}
	s.refuse(t, s.Edge, client2)
	s.refuse(t, s.Web, client3)
	bounded, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	l, ctx := newLoad(bounded)
	l.fresh(ctx, "new connection", s.tcp(), 5*time.Millisecond)
	l.fresh(ctx, "layer-7 request", s.http(), 20*time.Millisecond)
	l.warm(ctx, "request on one connection", s.tcp())
	l.download(ctx, s.tcp())
	l.refused(ctx, "client-2", s.tcp())
	l.refused(ctx, "client-2", s.http())
	l.refused(ctx, "client-3", s.tcp())
	ended := 0
	for _, build := range []string{"same", "rebuilt"} {
		if build == "rebuilt" {
			if err := os.Rename(filepath.Join(rebuilt, "sallyport-node"), filepath.Join(s.Dir, "sallyport-node")); err != nil {
				t.Fatal(err)
			}
		}
		for _, process := range []string{s.Instances[0] + ".agent", s.Instances[1] + ".agent", "gateway-1.agent"} {
			before, err := s.PID(process)
			if err != nil {
				t.Fatal(err)
			}
			if err := s.Signal(ctx, process, unix.SIGTERM); err != nil {
				t.Fatal(err)
			}
			if err := Until(ctx, "another process of it runs", func() (bool, error) {
				pid, err := s.PID(process)
				return pid != 0 && pid != before, err
			}); err != nil {
				t.Fatal(err)
			}
			if err := s.Settle(ctx); err != nil {
				t.Fatal(err)
			}
			ended++
			served := l.count("layer-7 request")
			if err := Until(ctx, "layer 7 goes on", func() (bool, error) { return l.count("layer-7 request") > served+20, nil }); err != nil {
				t.Error(err)
				l.end(t)
				return
			}
		}
	}
	l.end(t)
	t.Logf("%d polite ends, half of them upgrades: %d layer-7 requests served, %d faults", ended, l.count("layer-7 request"), len(l.faults))
}
