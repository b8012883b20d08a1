// SPDX-License-Identifier: Apache-2.0

// Package replay plays recorded sequences of API calls and compares the answers:
// what the Terraform provider sends for each of its resources, and what it needs
// to read back. It is for tests only.
//
// A file is a few sections of calls:
//
//	# What it shows.
//	== create
//	vpc CreateVpc {"VpcName":"office","CidrBlock":"10.0.0.0/16"}
//	-> {"Vpc":{"VpcId":"$vpc","VpcName":"office"}}
//	== read
//	vpc DescribeVpcs {"VpcIds":["$vpc"]}
//	-> {"TotalCount":1,"VpcSet":[{"VpcId":"$vpc","CidrBlock":"10.0.0.0/16"}]}
//	== again read
//	== delete
//	vpc DeleteVpc {"VpcId":"$vpc"}
//	vpc DeleteVpc {"VpcId":"$vpc"}
//	-> ! ResourceNotFound
//
// A call or answer goes on in lines that begin with a space. An answer names the
// fields that the provider reads: others may be there too, but lists have
// exactly the items given. "$name" takes a value when it is first met and
// stands for it from then on; "*" is any value but null. "-> ! CODE" is a
// refusal. "again SECTION" plays a section once more: what was read before must
// be read again, as when a second plan finds nothing to do. "state INSTANCE
// STATE" is what the instance's node does to it; sections with such lines, and
// those whose titles end as theirs do in "with a host", are for players who can.
//
// Some names stand for something from the beginning: $site-crt and $site-key, a
// certificate for www.example.com and its key in PEM, without the newline at the
// end, as the provider wants them; $next-crt and $next-key, another one;
// $ca-crt, a CA's certificate.
package replay

import (
	"bufio"
	"bytes"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"sort"
	"strings"
)

//go:embed provider
var files embed.FS

// A Sequence is one file.
type Sequence struct {
	Name     string // such as "tencentcloud_vpc"
	sections map[string][]step
	order    []string // sections as they are played
}

type step struct {
	line            int
	service, action string
	params          string
	want            string // JSON; "" when any answer will do
	code            string // of the refusal wanted; "" when it must succeed
	instance, state string // instead of a call
}

// A Caller sends one request and returns what stands inside Response. A refusal
// is an error whose text begins with its code.
type Caller func(service, version, action string, params json.RawMessage) (json.RawMessage, error)

// Sequences are the recorded sequences, by name.
func Sequences() ([]*Sequence, error) {
	names, err := fs.Glob(files, "provider/*.replay")
	if err != nil {
		return nil, err
	}
	sort.Strings(names)
	var all []*Sequence
	for _, name := range names {
		text, err := fs.ReadFile(files, name)
		if err != nil {
			return nil, err
		}
		s, err := Parse(strings.TrimSuffix(path.Base(name), ".replay"), text)
		if err != nil {
			return nil, err
		}
		all = append(all, s)
	}
	return all, nil
}

// Resources are the provider's resources with the actions that each calls.
func Resources() (map[string][]string, error) {
	text, err := fs.ReadFile(files, "provider/resources.txt")
	if err != nil {
		return nil, err
	}
	all := map[string][]string{}
	for line := range strings.Lines(string(text)) {
		if words := strings.Fields(line); len(words) > 0 && words[0] != "#" {
			all[words[0]] = words[1:]
		}
	}
	return all, nil
}

// Parse reads a sequence. Errors name the line.
func Parse(name string, text []byte) (*Sequence, error) {
	s := &Sequence{Name: name, sections: map[string][]step{}}
	section, n := "", 0
	for in := bufio.NewScanner(bytes.NewReader(text)); in.Scan(); {
		n++
		line := in.Text()
		steps := s.sections[section]
		last := len(steps) - 1
		title, isTitle := strings.CutPrefix(line, "== ")
		switch {
		case strings.TrimSpace(line) == "" || line[0] == '#':
		case isTitle:
			old, again := strings.CutPrefix(title, "again ")
			if _, known := s.sections[old]; known != again {
				return nil, fmt.Errorf("%s:%d: section %q is there already, or is not", name, n, old)
			}
			section = old
			if s.order = append(s.order, section); !again {
				s.sections[section] = []step{}
			}
		case line[0] == ' ' && last >= 0:
			if steps[last].want != "" {
				steps[last].want += line
			} else {
				steps[last].params += line
			}
		case strings.HasPrefix(line, "state ") && section != "":
			words := strings.Fields(line)
			if len(words) != 3 || !withHost(section) {
				return nil, fmt.Errorf("%s:%d: want state INSTANCE STATE in a section with a host, found %q", name, n, line)
			}
			s.sections[section] = append(steps, step{line: n, instance: words[1], state: words[2]})
		case strings.HasPrefix(line, "-> ! ") && last >= 0:
			steps[last].code = strings.TrimSpace(line[len("-> ! "):])
		case strings.HasPrefix(line, "-> ") && last >= 0:
			steps[last].want = line[len("-> "):]
		default:
			words := strings.SplitN(line, " ", 3)
			if len(words) < 3 || section == "" || versions()[words[0]] == "" {
				return nil, fmt.Errorf("%s:%d: want SERVICE ACTION JSON in a section, found %q", name, n, line)
			}
			s.sections[section] = append(steps, step{line: n, service: words[0], action: words[1], params: words[2]})
		}
	}
	return s, nil
}

func versions() map[string]string {
	return map[string]string{"clb": "2018-03-17", "vpc": "2017-03-12", "cvm": "2017-03-12", "tag": "2018-08-13", "ssl": "2019-12-05"}
}

// Actions are the actions that the sequence calls, sorted.
func (s *Sequence) Actions() []string {
	var names []string
	for _, steps := range s.sections {
		for _, st := range steps {
			if st.action != "" {
				names = append(names, st.action)
			}
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// withHost reports whether a section needs somebody who moves instances.
func withHost(section string) bool { return strings.HasSuffix(section, "with a host") }

// A Host puts an instance into a state, as its node does.
type Host func(instance, state string) error

// Play plays the sequence and returns the first difference, or nil. Without a
// host it leaves out the sections that need one.
func (s *Sequence) Play(call Caller, host Host) error {
	bound, err := certificates()
	if err != nil {
		return err
	}
	for _, section := range s.order {
		if host == nil && withHost(section) {
			continue
		}
		for _, st := range s.sections[section] {
			if st.state != "" {
				if err := host(fmt.Sprint(bound[st.instance]), st.state); err != nil {
					return fmt.Errorf("%s:%d: %w", s.Name, st.line, err)
				}
				continue
			}
			if err := st.play(call, bound); err != nil {
				return fmt.Errorf("%s:%d: %s, %s: %w", s.Name, st.line, section, st.action, err)
			}
		}
	}
	return nil
}

func (st step) play(call Caller, bound map[string]any) error {
	params, err := read(st.params)
	if err != nil {
		return err
	}
	body, err := json.Marshal(fill(params, bound))
	if err != nil {
		return err
	}
	raw, err := call(st.service, versions()[st.service], st.action, body)
	switch {
	case st.code != "" && err == nil:
		return fmt.Errorf("%s is answered with %s, want %s", body, raw, st.code)
	case st.code != "":
		if code, _, _ := strings.Cut(err.Error(), ":"); code != st.code {
			return fmt.Errorf("%s is refused with %w, want %s", body, err, st.code)
		}
		return nil
	case err != nil:
		return fmt.Errorf("%s: %w", body, err)
	case st.want == "":
		return nil
	}
	want, err := read(st.want)
	if err != nil {
		return err
	}
	got, err := read(string(raw))
	if err != nil {
		return err
	}
	if err := match(want, got, bound, ""); err != nil {
		return fmt.Errorf("%s\nis answered with %s\n%w", body, raw, err)
	}
	return nil
}

func read(text string) (any, error) {
	dec := json.NewDecoder(strings.NewReader(text))
	dec.UseNumber()
	var v any
	if err := dec.Decode(&v); err != nil {
		return nil, fmt.Errorf("%s: %w", text, err)
	}
	return v, nil
}

// fill puts what names are bound to into a request.
func fill(v any, bound map[string]any) any {
	switch v := v.(type) {
	case string:
		if value, ok := bound[v]; ok {
			return value
		}
		for _, name := range longestFirst(bound) {
			v = strings.ReplaceAll(v, name, fmt.Sprint(bound[name]))
		}
		return v
	case []any:
		out := make([]any, len(v))
		for i := range v {
			out[i] = fill(v[i], bound)
		}
		return out
	case map[string]any:
		out := map[string]any{}
		for k := range v {
			out[k] = fill(v[k], bound)
		}
		return out
	}
	return v
}

// longestFirst keeps $group from being read as $g.
func longestFirst(bound map[string]any) []string {
	names := make([]string, 0, len(bound))
	for name := range bound {
		names = append(names, name)
	}
	slices.SortFunc(names, func(a, b string) int { return len(b) - len(a) })
	return names
}

// match compares an answer with what is wanted, and binds names.
func match(want, got any, bound map[string]any, at string) error {
	switch w := want.(type) {
	case string:
		return matchText(w, got, bound, at)
	case []any:
		g, ok := got.([]any)
		if !ok || len(g) != len(w) {
			return fmt.Errorf("%s has %s, want %d items", at, size(got), len(w))
		}
		for i := range w {
			if err := match(w[i], g[i], bound, fmt.Sprintf("%s.%d", at, i)); err != nil {
				return err
			}
		}
		return nil
	case map[string]any:
		g, ok := got.(map[string]any)
		if !ok {
			return fmt.Errorf("%s is %v, want an object", at, got)
		}
		keys := make([]string, 0, len(w))
		for k := range w {
			keys = append(keys, k)
		}
		slices.Sort(keys)
		var faults []error
		for _, k := range keys {
			value, there := g[k]
			if !there {
				faults = append(faults, fmt.Errorf("%s.%s is not there", at, k))
				continue
			}
			faults = append(faults, match(w[k], value, bound, at+"."+k))
		}
		return errors.Join(faults...)
	}
	if got != want {
		return fmt.Errorf("%s is %v, want %v", at, got, want)
	}
	return nil
}

func matchText(want string, got any, bound map[string]any, at string) error {
	if want == "*" {
		if got == nil {
			return fmt.Errorf("%s is null", at)
		}
		return nil
	}
	if strings.HasPrefix(want, "$") && !strings.ContainsAny(want, "/ ") {
		if _, known := bound[want]; !known {
			if got == nil || got == "" {
				return fmt.Errorf("%s is empty and should be %s", at, want)
			}
			bound[want] = got
			return nil
		}
	}
	if filled := fill(want, bound); filled != got {
		return fmt.Errorf("%s is %v, want %v", at, got, filled)
	}
	return nil
}

func size(v any) string {
	if list, ok := v.([]any); ok {
		return fmt.Sprintf("%d items", len(list))
	}
	return fmt.Sprint(v)
}
