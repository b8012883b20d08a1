// SPDX-License-Identifier: Apache-2.0

package console

import (
	"fmt"
	"slices"
	"strings"
)

// The charts' size in their own units.
const (
	chartWidth  = 600
	chartHeight = 120
	chartParts  = 6 // told apart by colour; the rest is one more
)

// A span is a part of the past that charts show.
type span struct {
	Word, Name string // in addresses; for people
	Step       int    // seconds for each point
	Points     int
	Rows       int // of the table of numbers
}

func chartSpans() []span {
	return []span{{"10m", "10 minutes", 10, 60, 5}, {"1h", "1 hour", 60, 60, 6}}
}

// spanOf is the span that an address names, the shortest by default.
func spanOf(word string) span {
	for _, s := range chartSpans() {
		if s.Word == word {
			return s
		}
	}
	return chartSpans()[0]
}

// A chart is counts over time: bars that stand on each other, the first part
// at the bottom, or lines where parts are not parts of one sum.
type chart struct {
	Title, Unit   string // Unit is of one value: "requests"
	Width, Height int
	Lines         bool
	Top           string // what the upper edge stands for
	Span          span
	Parts         []chartPart
	Numbers       []chartRow
	Notes         []string // what is not in it
	Missing       string   // why there is none
	begin         int      // points of the time before the server began to count
}

// A chartPart is one thing over time.
type chartPart struct {
	Name, Class, Href string
	Total             uint64
	Most              string // per second
	Path              string // of an SVG path
	values            []uint64
}

// A chartRow is one row of the table of numbers: a part of the time.
type chartRow struct {
	When   string
	Counts []uint64
}

// Empty reports whether nothing happened.
func (c chart) Empty() bool { return len(c.Parts) == 0 }

// Said is the chart in words, for those who do not see it.
func (c chart) Said() string {
	if c.Empty() {
		return c.Title + ": nothing in the last " + c.Span.Name
	}
	var parts []string
	for _, p := range c.Parts {
		parts = append(parts, fmt.Sprintf("%s %d, at most %s", p.Name, p.Total, p.Most))
	}
	return fmt.Sprintf("%s in the last %s: %s", c.Title, c.Span.Name, strings.Join(parts, "; "))
}

// draw makes the paths and the table of numbers.
func (c *chart) draw() {
	c.Width, c.Height = chartWidth, chartHeight
	top := uint64(0)
	sums := make([]uint64, c.Span.Points)
	for _, p := range c.Parts {
		for i, n := range p.values {
			sums[i] += n
			if c.Lines {
				top = max(top, n)
			} else {
				top = max(top, sums[i])
			}
		}
	}
	scale := float64(max(1, top))
	c.Top = perSecond(float64(top) / float64(c.Span.Step))
	base := make([]uint64, c.Span.Points)
	for i := range c.Parts {
		p := &c.Parts[i]
		most := uint64(0)
		for _, n := range p.values {
			p.Total += n
			most = max(most, n)
		}
		p.Most = perSecond(float64(most) / float64(c.Span.Step))
		if c.Lines {
			p.Path = linePath(p.values, c.begin, scale)
		} else {
			p.Path = barPath(p.values, base, scale)
		}
	}
	c.count()
}

// barPath draws bars on top of base, and adds them to it.
func barPath(values, base []uint64, scale float64) string {
	var path strings.Builder
	step := float64(chartWidth) / float64(len(values))
	for i, n := range values {
		if n == 0 {
			continue
		}
		top, high := chartHeight*(1-float64(base[i]+n)/scale), chartHeight*float64(n)/scale
		fmt.Fprintf(&path, "M%.0f %.1fh%.0fv%.1fh-%.0fz", float64(i)*step+1, top, step-2, high, step-2)
		base[i] += n
	}
	return path.String()
}

// linePath draws a line from the begin-th value on: nothing is known of those
// before, and nothing is not zero. A value that was counted is always drawn.
func linePath(values []uint64, begin int, scale float64) string {
	var path strings.Builder
	step := float64(chartWidth) / float64(len(values))
	if first := slices.IndexFunc(values, func(n uint64) bool { return n > 0 }); first >= 0 {
		begin = min(begin, first)
	}
	for i, n := range values {
		if i < begin {
			continue
		}
		fmt.Fprintf(&path, "%c%.0f %.1f", "ML"[min(i-begin, 1)], (float64(i)+.5)*step, 1+(chartHeight-2)*(1-float64(n)/scale))
	}
	return path.String()
}

// count makes the table of numbers: the same in few rows.
func (c *chart) count() {
	if c.Empty() {
		return
	}
	each := c.Span.Points / c.Span.Rows
	for row := range c.Span.Rows {
		from := (c.Span.Rows - row) * each * c.Span.Step / 60
		r := chartRow{When: fmt.Sprintf("from %s ago", plural(from, "minute"))}
		for _, p := range c.Parts {
			sum := uint64(0)
			for _, n := range p.values[row*each : (row+1)*each] {
				sum += n
			}
			r.Counts = append(r.Counts, sum)
		}
		c.Numbers = append(c.Numbers, r)
	}
}

// A strip is the health of targets over time, a row for each.
type strip struct {
	Span          span
	Width, Height int
	Rows          []stripRow
	More          int // targets that are left out
	Notes         []string
	Missing       string
}

type stripRow struct {
	Name, Href, Word, Class string // Word and Class are of now
	Runs                    []stripRun
	Said                    string
}

// A stripRun is a time in which a target's health stayed the same.
type stripRun struct {
	X, W  int
	Class string
}

// stripWords are the marks of DescribeSeries: class and word.
func stripWords() [][2]string {
	return [][2]string{{"none", "unknown"}, {"close", "check off"}, {"ok", "healthy"}, {"warn", "detecting"}, {"bad", "abnormal"}}
}

// runs draws a target's strip.
func (r *stripRow) runs(values []uint64, s span) {
	words, counts := stripWords(), map[string]int{}
	step := chartWidth / max(1, len(values))
	var order []string
	for i, mark := range values {
		word := words[min(int(mark), len(words)-1)]
		if n := len(r.Runs); n > 0 && r.Runs[n-1].Class == word[0] {
			r.Runs[n-1].W += step
		} else {
			r.Runs = append(r.Runs, stripRun{i * step, step, word[0]})
		}
		if counts[word[1]] == 0 {
			order = append(order, word[1])
		}
		counts[word[1]]++
		r.Word, r.Class = word[1], word[0]
	}
	var said []string
	for _, word := range order {
		said = append(said, fmt.Sprintf("%s %d s", word, counts[word]*s.Step))
	}
	r.Said = fmt.Sprintf("%s: now %s; in the last %s %s", r.Name, r.Word, s.Name, strings.Join(said, ", "))
}
