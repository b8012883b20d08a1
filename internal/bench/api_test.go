// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http/httptest"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sallyport/sallyport/internal/cloudapi"
	"github.com/sallyport/sallyport/internal/lb"
	"github.com/sallyport/sallyport/internal/snapshot"
	"github.com/sallyport/sallyport/internal/store"
)

const (
	apiGroups, apiRules, apiBalancers = 10000, 100, 1000
	apiFor                            = 4 * time.Second // each measurement
	apiClients                        = 4
)

// A region is a server on a store that holds many objects.
type region struct {
	*testing.B
	store *store.Store
	api   *cloudapi.Server
	web   *httptest.Server
}

func quotasOfMany() lb.Quotas {
	q := lb.DefaultQuotas()
	q.Groups, q.BalancersPerType = 1<<20, 1<<20
	return q
}

func newRegion(b *testing.B, s *store.Store) *region {
	api := cloudapi.New(cloudapi.Options{Store: s, Region: "local", Quotas: quotasOfMany(), Compile: snapshot.NewCompiler().Compile})
	if _, err := api.Adopt(b.Context(), "AKIDbench0000000000", "bench", "bench"); err != nil {
		b.Fatal(err)
	}
	web := httptest.NewServer(api)
	b.Cleanup(web.Close)
	return &region{b, s, api, web}
}

// populate writes groups with rules, and load balancers with a listener, an
// instance behind it, and a group each.
func populate(b *testing.B, s *store.Store, groups, rules, balancers int) {
	batch := func(n, size int, put func(tx *store.Tx, i int)) {
		for from := 0; from < n; from += size {
			if _, err := s.Update(context.Background(), func(tx *store.Tx) error {
				for i := from; i < min(from+size, n); i++ {
					put(tx, i)
				}
				return nil
			}); err != nil {
				b.Fatal(err)
			}
		}
	}
	batch(1, 1, func(tx *store.Tx, _ int) {
		tx.PutVPC(&lb.VPC{ID: "vpc-00000001", IsDefault: true, Cidr: netip.MustParsePrefix("10.0.0.0/8")})
	})
	batch(groups, 20, func(tx *store.Tx, i int) {
		g := &lb.SecurityGroup{ID: groupID(i), Name: "group-" + strconv.Itoa(i), ProjectID: "0", Created: time.Unix(int64(i), 0)}
		for r := range rules {
			port := strconv.Itoa(1 + r)
			cidr := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i >> 8), byte(i), 0}), 24)
			g.Ingress = append(g.Ingress, lb.PolicyRule{ID: lb.RuleID(fmt.Sprintf("pol-%d-%d", i, r)), Action: lb.Accept, Proto: lb.TCP,
				Ports: []lb.PortRange{{First: uint16(1 + r), Last: uint16(1 + r)}}, Peer: cidr, Text: lb.RuleText{Protocol: "TCP", Port: port, Cidr: cidr.String()}})
		}
		tx.PutGroup(g)
	})
	batch(balancers, 50, func(tx *store.Tx, i int) {
		at := [2]byte{byte(i >> 8), byte(i)}
		instance := lb.InstanceID(fmt.Sprintf("ins-%08d", i))
		tx.PutInstance(&lb.Instance{ID: instance, VPC: "vpc-00000001", Private: netip.AddrFrom4([4]byte{10, 1, at[0], at[1]}), State: lb.Running, Groups: []lb.GroupID{groupID(i)}})
		id := lb.BalancerID(fmt.Sprintf("lb-%08d", i))
		tx.PutBalancer(&lb.LoadBalancer{ID: id, Name: "lb-" + strconv.Itoa(i), Num: tx.NextNum(), Type: lb.Open, VPC: "vpc-00000001",
			VIPs: []netip.Addr{netip.AddrFrom4([4]byte{198, 18, at[0], at[1]})}, Groups: []lb.GroupID{groupID(i + 1)}})
		tx.PutListener(&lb.Listener{ID: lb.ListenerID(fmt.Sprintf("lbl-%08d", i)), Num: tx.NextNum(), Balancer: id, Protocol: lb.ListenTCP, Port: 80, Scheduler: "WRR",
			Targets: []lb.Target{{Num: tx.NextNum(), Instance: instance, Port: 8080, Weight: 10}}})
	})
}

func groupID(i int) lb.GroupID { return lb.GroupID(fmt.Sprintf("sg-%08d", i)) }

// A request is one signed call; n makes each one of a kind.
type request struct {
	service, version, action string
	params                   func(n int) string
}

func apiReads() []request {
	return []request{
		{"vpc", "2017-03-12", "DescribeSecurityGroups", func(n int) string { return fmt.Sprintf(`{"SecurityGroupIds":["%s"]}`, groupID(n%apiGroups)) }},
		{"vpc", "2017-03-12", "DescribeSecurityGroupPolicies", func(n int) string { return fmt.Sprintf(`{"SecurityGroupId":"%s"}`, groupID(n%apiGroups)) }},
		{"clb", "2018-03-17", "DescribeLoadBalancers", func(n int) string { return fmt.Sprintf(`{"LoadBalancerIds":["lb-%08d"]}`, n%apiBalancers) }},
		{"clb", "2018-03-17", "DescribeTargets", func(n int) string { return fmt.Sprintf(`{"LoadBalancerId":"lb-%08d"}`, n%apiBalancers) }},
	}
}

// apiWrites change one rule of one of n groups, and one weight of one of m load
// balancers.
func apiWrites(groups, balancers int) []request {
	return []request{
		{"vpc", "2017-03-12", "ReplaceSecurityGroupPolicy", func(n int) string {
			return fmt.Sprintf(`{"SecurityGroupId":"%s","SecurityGroupPolicySet":{"Ingress":[{"PolicyIndex":0,"Protocol":"TCP","Port":"1","CidrBlock":"192.0.2.0/24","Action":"ACCEPT","PolicyDescription":"%d"}]}}`, groupID(n%groups), n)
		}},
		{"clb", "2018-03-17", "ModifyTargetWeight", func(n int) string {
			i := n % balancers
			return fmt.Sprintf(`{"LoadBalancerId":"lb-%08d","ListenerId":"lbl-%08d","Targets":[{"InstanceId":"ins-%08d","Port":8080}],"Weight":%d}`, i, i, i, n%100)
		}},
	}
}

// load sends requests from several clients for a while, and returns how many
// there were a second and how long each took, sorted.
func (r *region) load(requests []request, clients int, during time.Duration) (rate float64, took []time.Duration) {
	r.Helper()
	var wg sync.WaitGroup
	var mu sync.Mutex
	began := time.Now()
	for c := range clients {
		wg.Go(func() {
			client := &cloudapi.Client{Endpoint: r.web.URL, SecretID: "AKIDbench0000000000", SecretKey: "bench", Region: "local"}
			var own []time.Duration
			for n := c * 7919; time.Since(began) < during; n++ {
				q := requests[n%len(requests)]
				at := time.Now()
				if err := client.Do(r.Context(), q.service, q.version, q.action, json.RawMessage(q.params(n)), nil); err != nil {
					r.Errorf("%s: %v", q.action, err)
					return
				}
				own = append(own, time.Since(at))
			}
			mu.Lock()
			defer mu.Unlock()
			took = append(took, own...)
		})
	}
	wg.Wait()
	slices.Sort(took)
	return float64(len(took)) / time.Since(began).Seconds(), took
}

func quantile(took []time.Duration, q float64) float64 {
	if len(took) == 0 {
		return 0
	}
	return float64(took[min(len(took)-1, int(q*float64(len(took))))].Microseconds()) / 1000
}

// rss is the process's resident memory in MB.
func rss() float64 {
	text, _ := os.ReadFile("/proc/self/status")
	for line := range strings.Lines(string(text)) {
		if kb, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			n, _ := strconv.ParseFloat(strings.Fields(kb)[0], 64)
			return n / 1024
		}
	}
	return 0
}

func open(b *testing.B, dir string) *store.Store {
	s, err := store.Open(b.Context(), store.Options{DataDir: dir})
	if err != nil {
		b.Fatal(err)
	}
	return s
}

// The API with 10,000 groups of 100 rules and 1,000 load balancers, by signed
// requests over HTTP, on the embedded database.
func BenchmarkAPI(b *testing.B) {
	if !Wanted("api-reads", "api-read-p99", "api-writes", "api-write-p99", "api-write-alone", "api-start", "api-memory") {
		b.Skip("not asked for")
	}
	dir := b.TempDir()
	s := open(b, dir)
	populate(b, s, apiGroups, apiRules, apiBalancers)
	if err := s.Close(); err != nil {
		b.Fatal(err)
	}
	runtime.GC()
	before := rss()
	began := time.Now()
	s = open(b, dir)
	start := time.Since(began)
	defer s.Close()
	runtime.GC()
	var heap runtime.MemStats
	runtime.ReadMemStats(&heap)
	r := newRegion(b, s)
	b.ResetTimer()
	reads, readTook := r.load(apiReads(), apiClients, apiFor)
	writes, writeTook := r.load(apiWrites(apiGroups, apiBalancers), apiClients, apiFor)
	alone, aloneTook := r.load(apiWrites(apiGroups, apiBalancers), 1, apiFor)
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(reads, "reads/s")
	b.ReportMetric(writes, "writes/s")
	b.ReportMetric(quantile(readTook, 0.99), "read-p99-ms")
	b.ReportMetric(quantile(writeTook, 0.99), "write-p99-ms")
	b.ReportMetric(start.Seconds(), "start-s")
	b.ReportMetric(float64(heap.HeapAlloc)/1e6, "heap-MB")
	b.Logf("rss %.0f MB (%.0f before opening); one writer %.0f/s", rss(), before, alone)
	at := fmt.Sprintf("%d groups × %d rules, %d load balancers", apiGroups, apiRules, apiBalancers)
	row := func(id, name, unit string, ours float64, spread [2]float64) Row {
		return Row{ID: id, Name: name + " (" + at + ")", Unit: unit, Ours: ours, Spread: spread}
	}
	Write(b,
		row("api-reads", "signed reads, 4 clients", "requests/s", reads, [2]float64{reads, reads}),
		row("api-read-p99", "signed reads, 4 clients, 99th percentile", "ms", quantile(readTook, 0.99), [2]float64{quantile(readTook, 0.5), quantile(readTook, 0.99)}),
		row("api-writes", "signed writes, 4 clients, durable", "requests/s", writes, [2]float64{writes, writes}),
		row("api-write-p99", "signed writes, 4 clients, 99th percentile", "ms", quantile(writeTook, 0.99), [2]float64{quantile(writeTook, 0.5), quantile(writeTook, 0.99)}),
		row("api-write-alone", "one signed write after the other, median", "ms", quantile(aloneTook, 0.5), [2]float64{quantile(aloneTook, 0.5), quantile(aloneTook, 0.99)}),
		row("api-start", "opening the database with that state", "s", start.Seconds(), [2]float64{start.Seconds(), start.Seconds()}),
		row("api-memory", "heap with that state", "MB", float64(heap.HeapAlloc)/1e6, [2]float64{float64(heap.HeapAlloc) / 1e6, rss()}),
	)
}

// One change, with a number of other objects and with ten times as many. Both
// are measured in turns, so that what else the machine does falls on both.
func BenchmarkAPIOneChange(b *testing.B) {
	if !Wanted("api-one-change") {
		b.Skip("not asked for")
	}
	const rounds = 9
	regionOf := func(times int) *region {
		s := open(b, b.TempDir())
		b.Cleanup(func() { s.Close() })
		populate(b, s, 1000*times, 10, 100*times)
		return newRegion(b, s)
	}
	few, many := regionOf(1), regionOf(10)
	median := func(r *region) float64 {
		_, took := r.load(apiWrites(1000, 100), 1, apiFor/4)
		return quantile(took, 0.5)
	}
	var one, ten []float64
	for range rounds {
		one, ten = append(one, median(few)), append(ten, median(many))
	}
	slices.Sort(one)
	slices.Sort(ten)
	ratio := ten[rounds/2] / one[rounds/2]
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(one[rounds/2], "ms-at-1×")
	b.ReportMetric(ten[rounds/2], "ms-at-10×")
	b.ReportMetric(ratio, "ratio")
	theirs := one[rounds/2]
	Write(b, Row{ID: "api-one-change", Name: "one signed write with 10,000 groups and 1,000 load balancers, against a tenth of them", Unit: "ms",
		Ours: ten[rounds/2], Theirs: &theirs, Peer: "the same with 1,000 groups and 100 load balancers", Ratio: &ratio, Goal: "about 1", Spread: [2]float64{ten[0], ten[rounds-1]}})
}
