// SPDX-License-Identifier: Apache-2.0

package console

import (
	"fmt"
	"slices"
	"strings"
)

// textMark stands between rules in textsOf.
const textMark = " ¦ "

// textsOf are rules as a form remembers them, to tell later what they were.
func textsOf(rules []policyRule) string {
	texts := make([]string, len(rules))
	for i, r := range rules {
		texts[i] = lineOf(r).text()
	}
	return strings.Join(texts, textMark)
}

// text is the line in one, with as much of its notes as tells it.
func (l line) text() string {
	source := l.Source
	if source == "" {
		source = "ALL"
	}
	return strings.TrimSpace(fmt.Sprintf("%s %s %s %s", l.Policy, l.Service, source, clip(l.Notes, 60)))
}

// A change is what is different from what a form's author saw.
type change struct {
	Text  string            // in a sentence
	List  []string          // each rule concerned, as it was and as it is
	Marks map[string]string // of the rules that are there, by id
}

// maxChanges is how many changes are named; the others are counted.
const maxChanges = 12

// changes compares the rules' ids and texts that a form's author saw with what
// is there. A rule that stands where another one was is that one, rewritten.
func changes(seen, texts string, now []policyRule) change {
	c := change{Marks: map[string]string{}}
	var old []string
	if seen != "" {
		old = strings.Split(seen, ",")
	}
	var was []string // nothing when the form did not remember it
	if texts != "" {
		was = strings.Split(texts, textMark)
	}
	text := func(i int) string {
		if len(was) != len(old) {
			return "a rule"
		}
		return was[i]
	}
	ids := strings.Split(idsOf(now), ",")
	added, replaced := places(ids, old), map[string]string{} // by place, what stood there
	for id, place := range places(old, ids) {
		replaced[place] = id
	}
	news, moved := 0, 0
	var kept []string
	for i, r := range now {
		at, l := slices.Index(old, r.PolicyId), lineOf(r).text()
		switch {
		case at < 0:
			news++
			c.Marks[r.PolicyId] = "new"
			if from, ok := replaced[added[r.PolicyId]]; ok {
				c.List = append(c.List, fmt.Sprintf("rule %d was %s → is %s", i+1, text(slices.Index(old, from)), l))
				delete(replaced, added[r.PolicyId])
			} else {
				c.List = append(c.List, fmt.Sprintf("added as rule %d: %s", i+1, l))
			}
			continue
		case len(was) == len(old) && was[at] != l:
			c.List = append(c.List, fmt.Sprintf("rule %d was %s → is %s", i+1, was[at], l))
		}
		kept = append(kept, r.PolicyId)
	}
	still := slices.DeleteFunc(slices.Clone(old), func(id string) bool { return !slices.Contains(kept, id) })
	for i, id := range kept {
		if still[i] != id {
			c.Marks[id], moved = "moved", moved+1
			c.List = append(c.List, fmt.Sprintf("moved from %d to %d: %s", slices.Index(old, id)+1, slices.Index(ids, id)+1, text(slices.Index(old, id))))
		}
	}
	for i, id := range old {
		for _, gone := range replaced {
			if gone == id {
				c.List = append(c.List, fmt.Sprintf("removed rule %d: %s", i+1, text(i)))
			}
		}
	}
	c.say(news, len(old)-len(still), moved)
	return c
}

// places tells where ids stand that another list has not: after which one that
// it has, and how far.
func places(list, other []string) map[string]string {
	all, after, n := map[string]string{}, "", 0
	for _, id := range list {
		if slices.Contains(other, id) {
			after, n = id, 0
			continue
		}
		n++
		all[id] = fmt.Sprint(after, "/", n)
	}
	return all
}

func (c *change) say(added, removed, moved int) {
	parts := []string{}
	for _, p := range []struct {
		n    int
		what string
	}{{added, "added or rewritten"}, {removed, "removed"}, {moved, "moved"}} {
		if p.n > 0 {
			parts = append(parts, fmt.Sprintf("%s %s", plural(p.n, "rule"), p.what))
		}
	}
	if len(parts) == 0 {
		parts = []string{"a note or the other direction changed"}
	}
	if more := len(c.List) - maxChanges; more > 0 {
		c.List = append(c.List[:maxChanges], fmt.Sprintf("and %d more", more))
	}
	c.Text = "Somebody changed this group while you were looking: " + strings.Join(parts, ", ") +
		". Nothing of yours was written. What you typed is kept: send it again to write it to the rules as they are now."
}
