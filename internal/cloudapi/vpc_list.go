// SPDX-License-Identifier: Apache-2.0

package cloudapi

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sallyport/sallyport/internal/lb"
)

// A query is what a Describe action of vpc or cvm asks for: ids or filters,
// and a page of what they leave.
type query[K ~string, V any] struct {
	field   string // the name of ids on the wire
	ids     []string
	filters []Filter
	text    TextPaging // vpc; or
	paging  Paging     // cvm; or
	whole   bool       // all of it: the caller cuts its own page
	objects lb.Table[K, V]
	find    func(st *lb.State, field, id string) (*V, error) // nil, nil: leave it out
	keys    map[string]func(*V) []string                     // filters by name
	match   map[string]func(v *V, text string) bool          // filters that do more than compare
	tags    func(*V) lb.Tags
	order   func(a, b *V) int
}

// listObjects answers a query: the page and the number of all that match.
func listObjects[K ~string, V any](c *Call, q query[K, V]) ([]*V, int, error) {
	if len(q.ids) > 0 && len(q.filters) > 0 {
		return nil, 0, refuse(lb.Coexist, "Filters", "they are given together with "+q.field, "give one of them")
	}
	if len(q.ids) > maxLimit {
		return nil, 0, refuse(lb.LimitExceeded, q.field, "more than 100 ids are given", "ask in several calls")
	}
	items := make([]*V, 0, q.objects.Len())
	if len(q.ids) == 0 {
		for _, v := range q.objects.All() {
			items = append(items, v)
		}
	}
	st := c.State()
	for i, id := range q.ids {
		v, err := q.find(st, q.field+"."+strconv.Itoa(i), id)
		if err != nil {
			return nil, 0, err
		}
		if v != nil && !slices.Contains(items, v) {
			items = append(items, v)
		}
	}
	var plain []Filter
	for _, f := range q.filters {
		match := q.match[f.Name]
		if match == nil {
			plain = append(plain, f)
			continue
		}
		items = slices.DeleteFunc(items, func(v *V) bool {
			return !slices.ContainsFunc(f.Values, func(text string) bool { return match(v, text) })
		})
	}
	items, err := filter(items, plain, q.keys, q.tags)
	if err != nil {
		return nil, 0, err
	}
	slices.SortFunc(items, q.order)
	if q.whole {
		return items, len(items), nil
	}
	paging := q.paging
	if q.text != (TextPaging{}) {
		paging = q.text.numbers()
	}
	return page(items, paging), len(items), nil
}

// older orders by time of creation, then id.
func older[K ~string](a, b time.Time, idA, idB K) int {
	return cmp.Or(a.Compare(b), cmp.Compare(idA, idB))
}

// tagsIn reads labels. A key is given once.
func tagsIn(field string, given []Tag) (lb.Tags, error) {
	if len(given) == 0 {
		return nil, nil
	}
	tags := lb.Tags{}
	for i, t := range given {
		at := fmt.Sprintf("%s.%d.Key", field, i)
		switch _, twice := tags[t.Key]; {
		case t.Key == "":
			return nil, refuse(lb.Invalid, at, "the key is empty", "give one of 1 to 127 characters")
		case len(t.Key) > 127 || len(t.Value) > 255:
			return nil, refuse(lb.TooLong, at, "the tag is too long", "keys have at most 127 characters, values 255")
		case twice:
			return nil, refuse(lb.Duplicate, at, strconv.Quote(t.Key)+" is given twice", "give each key once")
		}
		tags[t.Key] = t.Value
	}
	return tags, nil
}

// tagsOut lists labels in order of their keys.
func tagsOut(tags lb.Tags) []Tag {
	out := make([]Tag, 0, len(tags))
	keys := make([]string, 0, len(tags))
	for k := range tags {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	for _, k := range keys {
		out = append(out, Tag{k, tags[k]})
	}
	return out
}

// merged is old with the given echo fields put over it.
func merged(old, given map[string]string) map[string]string {
	all := map[string]string{}
	for k, v := range old {
		all[k] = v
	}
	for k, v := range given {
		all[k] = v
	}
	return all
}

// flag is a bool as vpc's older fields write it.
func flag(field, text string) (bool, error) {
	switch strings.ToLower(text) {
	case "true":
		return true, nil
	case "false", "":
		return false, nil
	}
	return false, refuse(lb.Invalid, field, strconv.Quote(clip(text, 40))+" is neither true nor false", `give "true" or "false"`)
}
