// SPDX-License-Identifier: Apache-2.0

package cloudapi

import (
	"fmt"
	"slices"
	"strings"

	"github.com/sallyport/sallyport/internal/lb"
	"github.com/sallyport/sallyport/internal/policy"
)

// A Filter keeps items one of whose values equals one of Values, of which
// there is at least one. Which names an action has, and which values where
// they are counted, say the flags of its field Filters (see filterRule).
type Filter struct {
	Name   string   `tc:"required"`
	Values []string `tc:"required,late"`
}

// Bounds of filters.
const (
	maxFilters      = 10
	maxFilterValues = 100
)

// A filterRule is a filter that an action serves. A list of filters declares
// them in a tag of its own, and decoding, its refusals, docs/api.md and the
// command line's help say what is written there:
//
//	Filters []Filter `tc:"" filters:"vpc-id is-default=true|false tag:KEY"`
//
// A name that ends in ":KEY" stands for all that begin so. Without values any
// is taken; with them others are refused, whatever their capitals, and readers
// see them as they are declared. "@reasons" stands for all reasons of verdicts.
type filterRule struct {
	name   string
	values []string
}

func parseFilters(tag string) []filterRule {
	var all []filterRule
	for word := range strings.FieldsSeq(tag) {
		name, values, enumerated := strings.Cut(word, "=")
		rule := filterRule{name: name}
		switch {
		case values == "@reasons":
			for _, r := range policy.Reasons() {
				rule.values = append(rule.values, r.String())
			}
		case enumerated:
			rule.values = strings.Split(values, "|")
		}
		all = append(all, rule)
	}
	return all
}

func (r filterRule) String() string {
	if r.values == nil {
		return r.name
	}
	return r.name + "=" + strings.Join(r.values, "|")
}

func (r filterRule) serves(name string) bool {
	open, wild := strings.CutSuffix(r.name, "KEY")
	return name == r.name && !wild || wild && len(name) > len(open) && strings.HasPrefix(name, open)
}

// sample is a use of the filter.
func (r filterRule) sample() any {
	return map[string]any{"Name": r.name, "Values": []any{r.one()}}
}

// one is a value of the filter.
func (r filterRule) one() string {
	if r.values != nil {
		return r.values[0]
	}
	return "example"
}

// filterFault is the code of what is wrong with an action's filters.
type filterFault uint8

const (
	unknownFilter filterFault = iota // a name that is not served
	noValues                         // no list of values
	unknownValue                     // a value of an enumerated filter
	manyFilters                      // more filters or values than are taken
)

// filterCode is the published code of a fault; what is published for one
// action alone stands in the flags of its field.
func (f *field) filterCode(s Service, fault filterFault) string {
	switch {
	case f.code != "":
		return f.code
	case fault == manyFilters && s.Name == serviceCLB.Name:
		return s.code(lb.TooLong)
	case fault == manyFilters && s.Name == serviceVPC.Name:
		return "InvalidParameterValue.LimitExceeded"
	case fault == manyFilters && s.Name == serviceCVM.Name:
		return "InvalidFilterValue.LimitExceeded"
	case fault == manyFilters:
		return s.code(lb.LimitExceeded)
	case s.Name == serviceCVM.Name:
		return "InvalidFilter"
	case s.Name == serviceVPC.Name:
		return [...]string{"InvalidParameter.FilterInvalidKey", "InvalidParameter.FilterValuesNotList", s.code(lb.Malformed)}[fault]
	}
	return "InvalidParameterValue.InvalidFilter"
}

// filterCodes are the codes of all that can be wrong with the filters.
func (f *field) filterCodes(s Service) []string {
	codes := []string{f.filterCode(s, unknownFilter), f.filterCode(s, noValues), f.filterCode(s, manyFilters)}
	if slices.ContainsFunc(f.filters, func(r filterRule) bool { return r.values != nil }) {
		codes = append(codes, f.filterCode(s, unknownValue))
	}
	return codes
}

// checkFilters holds filters against those that the field declares, and gives
// enumerated values the form in which they are declared.
func (f *field) checkFilters(s Service, given []Filter, at string) error {
	name := at + f.name
	refused := func(fault filterFault, text string, args ...any) error {
		return errorf(f.filterCode(s, fault), text, args...)
	}
	if len(given) > maxFilters {
		return refused(manyFilters, "%s: %d filters are too many; give at most %d", name, len(given), maxFilters)
	}
	for i, one := range given {
		n := slices.IndexFunc(f.filters, func(r filterRule) bool { return r.serves(one.Name) })
		switch {
		case n < 0:
			return refused(unknownFilter, "%s.%d.Name: filter %q is not served; served: %s", name, i, clip(one.Name, 60), strings.Join(f.filterNames(), ", "))
		case len(one.Values) == 0:
			return refused(noValues, "%s.%d.Values: filter %s has no values; give a list of at least one", name, i, clip(one.Name, 60))
		case len(one.Values) > maxFilterValues:
			return refused(manyFilters, "%s.%d.Values: %d values are too many; give at most %d", name, i, len(one.Values), maxFilterValues)
		}
		known := f.filters[n].values
		for j, v := range one.Values {
			k := slices.IndexFunc(known, func(value string) bool { return strings.EqualFold(value, v) })
			if k < 0 && known != nil {
				return refused(unknownValue, "%s.%d.Values.%d: %q is no value of filter %s; it is one of %s", name, i, j, clip(v, 40), one.Name, strings.Join(known, ", "))
			}
			if k >= 0 {
				one.Values[j] = known[k]
			}
		}
	}
	return nil
}

func (f *field) filterNames() []string {
	names := make([]string, len(f.filters))
	for i, r := range f.filters {
		names[i] = r.name
	}
	return names
}

// filterTexts are all filters of an action with their values, as docs show them.
func (o *object) filterTexts() (texts []string) {
	o.eachField("", func(_ string, f *field) {
		for _, r := range f.filters {
			texts = append(texts, r.String())
		}
	})
	return texts
}

// filter keeps the items that match every filter, whose names and values have
// passed the action's schema. keys says how a filter's name reads an item's
// values, tags how tag-key and tag:KEY do (nil: they are not served). A
// declared filter that nothing reads is a fault of ours.
func filter[T any](items []T, filters []Filter, keys map[string]func(T) []string, tags func(T) lb.Tags) ([]T, error) {
	for _, f := range filters {
		read := keys[f.Name]
		if tags != nil && read == nil {
			read = tagFilter(f.Name, tags)
		}
		if read == nil {
			return nil, fmt.Errorf("filter %q is declared and nothing reads it", f.Name)
		}
		items = slices.DeleteFunc(slices.Clone(items), func(item T) bool {
			return !slices.ContainsFunc(read(item), func(v string) bool { return slices.Contains(f.Values, v) })
		})
	}
	return items, nil
}

func tagFilter[T any](name string, tags func(T) lb.Tags) func(T) []string {
	if name == "tag-key" {
		return func(item T) []string { return sortedKeys(tags(item)) }
	}
	if key, ok := strings.CutPrefix(name, "tag:"); ok {
		return func(item T) []string {
			if v, ok := tags(item)[key]; ok {
				return []string{v}
			}
			return nil
		}
	}
	return nil
}
