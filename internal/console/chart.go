// SPDX-License-Identifier: Apache-2.0

package console

import (
	"fmt"
	"strings"
	"time"
)

// The charts' size in their own units.
const (
	chartWidth  = 600
	chartHeight = 120
	chartPoints = 60 // of two steps each
)

// A chart is a small picture of the last ten minutes. Bars stand on each
// other, the first series at the bottom.
type chart struct {
	Title, Unit   string
	Width, Height int
	Max           int
	Empty         bool
	Series        []chartSeries
}

type chartSeries struct {
	Name, Class string
	Total       int
	Path        string // of an SVG path
}

// flows charts what was admitted and refused.
func (h *history) flows(title string, now time.Time, match func(seriesKey) bool) chart {
	h.mu.Lock()
	defer h.mu.Unlock()
	var admitted, refused [chartPoints]int
	first := stepOf(now) - steps + 1
	for key, s := range h.series {
		if !match(key) {
			continue
		}
		for i := range steps {
			n := s.at(first + int64(i))
			if key.action == "ACCEPT" {
				admitted[i/2] += n
			} else {
				refused[i/2] += n
			}
		}
	}
	return drawChart(title, "in 10 s", []string{"allowed", "refused"}, []string{"ok", "bad"}, admitted, refused)
}

// probes charts how many targets of a load balancer were in which health.
func (h *history) probes(balancer string, now time.Time) chart {
	h.mu.Lock()
	defer h.mu.Unlock()
	var alive, dead, unknown [chartPoints]int
	first := stepOf(now) - steps + 1
	for _, s := range h.health[balancer] {
		if at := s.step - first; at >= 0 && at < steps {
			alive[at/2], dead[at/2], unknown[at/2] = s.Alive+s.Close, s.Dead, s.Unknown
		}
	}
	return drawChart("Targets by health, last 10 minutes", "targets", []string{"healthy", "abnormal", "detecting"}, []string{"ok", "bad", "warn"}, alive, dead, unknown)
}

func drawChart(title, unit string, names, classes []string, values ...[chartPoints]int) chart {
	c := chart{Title: title, Unit: unit, Width: chartWidth, Height: chartHeight, Max: 1, Empty: true}
	for i := range chartPoints {
		sum := 0
		for _, v := range values {
			sum += v[i]
		}
		c.Max = max(c.Max, sum)
	}
	var base [chartPoints]int
	for n, v := range values {
		s := chartSeries{Name: names[n], Class: classes[n]}
		var path strings.Builder
		step := float64(chartWidth) / chartPoints
		for i, count := range v {
			if count == 0 {
				continue
			}
			s.Total += count
			top := chartHeight * (1 - float64(base[i]+count)/float64(c.Max))
			high := chartHeight * float64(count) / float64(c.Max)
			fmt.Fprintf(&path, "M%.1f %.1fh%.1fv%.1fh-%.1fz", float64(i)*step+1, top, step-2, high, step-2)
			base[i] += count
		}
		s.Path = path.String()
		c.Empty = c.Empty && s.Total == 0
		c.Series = append(c.Series, s)
	}
	return c
}

// Said is the chart in words, for those who do not see it.
func (c chart) Said() string {
	if c.Empty {
		return "nothing yet"
	}
	var parts []string
	for _, s := range c.Series {
		parts = append(parts, fmt.Sprintf("%d %s", s.Total, s.Name))
	}
	if c.Unit == "targets" {
		return fmt.Sprintf("at most %d %s at once", c.Max, c.Unit)
	}
	return strings.Join(parts, ", ") + fmt.Sprintf("; at most %d %s", c.Max, c.Unit)
}
