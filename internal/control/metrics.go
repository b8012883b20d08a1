// SPDX-License-Identifier: Apache-2.0

package control

import (
	"maps"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// collector reads a Control when it is asked: nothing is counted twice.
type collector struct {
	c    *Control
	desc map[string]*prometheus.Desc
}

// Collector gives the server's metrics, named sallyport_server_….
func (c *Control) Collector() prometheus.Collector {
	all := map[string]*prometheus.Desc{}
	for name, d := range map[string]struct {
		help   string
		labels []string
	}{
		"revision":          {"Newest revision of the desired state.", nil},
		"nodes":             {"Nodes of the state by role and whether they are attached.", []string{"role", "connected"}},
		"node_revision":     {"Revision in force on a node; 0: none.", []string{"node", "role"}},
		"node_lag_seconds":  {"From a revision's arrival at the server to its being in force on the node.", []string{"node", "role"}},
		"node_failing":      {"1 when the node refuses the newest revision or warns of a fault.", []string{"node", "role"}},
		"node_alarm":        {"1 while a flow table of the node is too full; sallyport_node_flow_table_… of the node says more.", []string{"node", "role"}},
		"events_total":      {"Verdict events received from nodes.", nil},
		"events_lost_total": {"Verdict events that nodes could not tell, for want of room.", nil},
	} {
		all[name] = prometheus.NewDesc("sallyport_server_"+name, d.help, d.labels, nil)
	}
	return &collector{c: c, desc: all}
}

// Describe lists the metrics.
func (k *collector) Describe(out chan<- *prometheus.Desc) {
	for _, name := range slices.Sorted(maps.Keys(k.desc)) {
		out <- k.desc[name]
	}
}

// Collect reads them.
func (k *collector) Collect(out chan<- prometheus.Metric) {
	gauge := func(name string, v float64, labels ...string) {
		out <- prometheus.MustNewConstMetric(k.desc[name], prometheus.GaugeValue, v, labels...)
	}
	counter := func(name string, v uint64) {
		out <- prometheus.MustNewConstMetric(k.desc[name], prometheus.CounterValue, float64(v))
	}
	gauge("revision", float64(k.c.store.State().Revision))
	count := map[[2]string]int{}
	for _, role := range []string{"gateway", "host"} {
		count[[2]string{role, "true"}], count[[2]string{role, "false"}] = 0, 0
	}
	for _, n := range k.c.facts.Nodes() {
		id, role := string(n.ID), string(n.Role)
		connected, failing := "false", 0.0
		if n.Connected {
			connected = "true"
		}
		if n.Err != "" {
			failing = 1
		}
		count[[2]string{role, connected}]++
		gauge("node_revision", float64(n.Committed), id, role)
		gauge("node_lag_seconds", float64(n.Lag)/float64(time.Second), id, role)
		gauge("node_failing", failing, id, role)
		alarm := 0.0
		if len(n.Tables.Alarms) > 0 {
			alarm = 1
		}
		gauge("node_alarm", alarm, id, role)
	}
	for labels, n := range count {
		gauge("nodes", float64(n), labels[0], labels[1])
	}
	total, lost := k.c.facts.events.totals()
	counter("events_total", total)
	counter("events_lost_total", lost)
}
