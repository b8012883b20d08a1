// SPDX-License-Identifier: Apache-2.0

package node

import (
	"fmt"
	"net/http"
	"slices"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/sallyport/sallyport/internal/flow"
	"github.com/sallyport/sallyport/internal/policy"
)

// collector reads a Node when it is asked: nothing is counted twice.
type collector struct {
	n *Node

	revision, kernel, connected, apply, lost, packets, unseen, requests *prometheus.Desc

	slots, live, half, bytes, full, alarm, share *prometheus.Desc // of flow tables
}

// Collector gives the node's metrics, named sallyport_node_….
func (n *Node) Collector() prometheus.Collector {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("sallyport_node_"+name, help, labels, nil)
	}
	return &collector{
		n:         n,
		slots:     desc("flow_table_slots", "How many flows a flow table has room for.", "table"),
		live:      desc("flow_table_flows", "Flows in a flow table that are alive.", "table"),
		half:      desc("flow_table_half_open", "Half-open flows in a flow table.", "table"),
		bytes:     desc("flow_table_bytes", "Kernel memory of a flow table.", "table"),
		share:     desc("flow_table_share", "Flows of one load balancer in a flow table, of the eight that have most; empty: what comes by none.", "table", "load_balancer"),
		full:      desc("flow_table_full_total", "Packets of new flows that found no room in a flow table."),
		alarm:     desc("flow_table_alarm", "1 while a flow table is too full: from 80 % of its slots until it is below 70 %, and for a minute after a flow was refused for want of room."),
		revision:  desc("revision", "Revision that this process has put in force; 0: none."),
		kernel:    desc("kernel_revision", "Revision that the kernel programs enforce; 0: none."),
		connected: desc("connected", "1 while attached to the server."),
		apply:     desc("apply_seconds", "How long staging and committing the newest snapshot took."),
		lost:      desc("events_lost_total", "Verdict events that could not be told to the server, for want of room."),
		packets:   desc("packets_total", "Packets by the reason they left the kernel programs.", "reason"),
		unseen:    desc("events_unseen_total", "Verdict events that the kernel programs did not tell: by rate limit or want of room."),
		requests:  desc("http_requests_total", "HTTP requests answered by layer-7 rule and status; rule is empty for what no rule took.", "load_balancer", "listener", "rule", "status"),
	}
}

// Describe lists the metrics.
func (k *collector) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{k.revision, k.kernel, k.connected, k.apply, k.lost, k.packets, k.unseen, k.requests,
		k.slots, k.live, k.half, k.bytes, k.full, k.alarm, k.share} {
		out <- d
	}
}

// Collect reads them.
func (k *collector) Collect(out chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	counter := func(d *prometheus.Desc, v uint64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), labels...)
	}
	connected := 0.0
	if k.n.attached.Load() {
		connected = 1
	}
	gauge(k.revision, float64(k.n.Revision()))
	gauge(k.connected, connected)
	gauge(k.apply, k.n.engine.applyTime().Seconds())
	counter(k.lost, k.n.reporter.lostEvents())
	if k.n.o.Requests != nil {
		for _, r := range k.n.o.Requests() {
			for class, count := range r.Answers {
				if count > 0 {
					counter(k.requests, count, string(r.Balancer), string(r.Listener), string(r.Location), flow.StatusWord(class))
				}
			}
		}
	}
	if t, ok := k.n.reporter.tables.read(); ok {
		k.collectTables(t, gauge, counter)
	}
	if k.n.o.Kernel == nil {
		return
	}
	gauge(k.kernel, float64(k.n.kernelRevision()))
	reasons, err := k.n.o.Kernel.Reasons()
	if err != nil {
		out <- prometheus.NewInvalidMetric(k.packets, err)
		return
	}
	for _, r := range policy.Reasons() {
		counter(k.packets, reasons.Packets[r], r.String())
	}
	counter(k.unseen, reasons.Lost)
}

// collectTables reads how full the flow tables are.
func (k *collector) collectTables(t flow.Tables, gauge func(*prometheus.Desc, float64, ...string), counter func(*prometheus.Desc, uint64, ...string)) {
	for _, table := range t.Tables {
		gauge(k.slots, float64(table.Slots), table.Name)
		gauge(k.live, float64(table.Live), table.Name)
		gauge(k.half, float64(table.Half), table.Name)
		gauge(k.bytes, float64(table.Bytes), table.Name)
		for _, s := range table.Shares {
			gauge(k.share, float64(s.Flows), table.Name, string(s.Balancer))
		}
	}
	counter(k.full, t.Full)
	alarm := 0.0
	if len(t.Alarms) > 0 {
		alarm = 1
	}
	gauge(k.alarm, alarm)
}

// Handler serves /metrics and /healthz. /healthz is 200 once a snapshot is in
// force, attached or not: gates go on without the server. On a drained gateway
// it is 503, for whoever routes VIPs by it.
func (n *Node) Handler() http.Handler {
	registry := prometheus.NewRegistry()
	registry.MustRegister(n.Collector(), collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		if a := n.engine.current(); a != nil && slices.Contains(a.snapshot.Drained, n.o.Name) {
			http.Error(w, "drained: send new flows elsewhere", http.StatusServiceUnavailable)
			return
		}
		if r := max(n.Revision(), n.kernelRevision()); r > 0 {
			fmt.Fprintf(w, "revision %d in force\n", r)
			return
		}
		http.Error(w, "no snapshot is in force", http.StatusServiceUnavailable)
	})
	return mux
}
