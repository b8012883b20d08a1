// SPDX-License-Identifier: Apache-2.0

// Package scenario runs stories about the two gates: txtar files whose first
// part is a script of at most a dozen verbs and whose sections are security
// groups. The same file runs on three engines: `ref` makes its changes through
// the API in process and judges with policy.Decide, `bpf` (of package
// datapath's tests) walks frames through the kernel's programs, `lab` drives a
// running lab and sends real packets. docs/scenario.md is the language's page.
package scenario

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/tools/txtar"
)

// A Script is one scenario file.
type Script struct {
	Name     string     // base name of the file
	Covers   []string   // ids of the rows of docs/requirements.md that it shows
	Server   []string   // flags of the server that it needs
	Decisive []Decisive // rules without which it must come out differently
	Return   string     // the return path of every load balancer until a switch says otherwise; "": direct
	Lines    []Line
	Groups   map[string][]string // lines of each section
}

// A Line is one act.
type Line struct {
	Number int    // 1-based, in the file
	Engine string // "ref", "bpf" or "lab" when it runs on that engine only
	Verb   string
	Args   []string
}

// String is the line as it was written, spaces evened out.
func (l Line) String() string { return strings.Join(append([]string{l.Verb}, l.Args...), " ") }

// A Decisive names the rule at Position (1-based) among the rules of one
// direction of Section.
type Decisive struct {
	Section  string
	Egress   bool
	Position int
}

// String is the rule as the script names it.
func (d Decisive) String() string {
	if d.Egress {
		return fmt.Sprintf("%s egress %d", d.Section, d.Position)
	}
	return fmt.Sprintf("%s %d", d.Section, d.Position)
}

// verbs are the words a line may begin with, and how many arguments they take.
var verbs = map[string]struct {
	least, most int
	usage       string
}{
	"covers":     {1, 67, "covers SEED-03 SEED-04 …"},
	"decisive":   {2, 3, "decisive SECTION [egress] POSITION"},
	"server":     {1, 2, "server FLAG …"},
	"balancer":   {1, 4, "balancer public|private [ipv6] [classic CREATED] [basic] [eip]"},
	"refuses":    {2, 24, "refuses CODE bind|switch|apply|insert|template …"},
	"apply":      {1, 2, "apply GROUP [SECTION]"},
	"template":   {2, 21, "template NAME ADDRESS|HOST|SERVICE|TEMPLATE …"},
	"insert":     {3, 3, "insert GROUP N SECTION"},
	"bind":       {1, 6, "bind clb|INSTANCE [GROUP …]"},
	"listen":     {4, 22, "listen tcp|udp|http PORT[-PORT] [source-ip-type 0|1] [check TYPE] ->|=> INSTANCE:PORT …"},
	"members":    {1, 20, "members PORT [INSTANCE:PORT …]"},
	"redirect":   {2, 2, "redirect PORT PORT"},
	"targets":    {1, 20, "targets PORT INSTANCE:PORT[*WEIGHT] …"},
	"choice":     {3, 3, "choice PORT scheduler NAME, choice PORT sticky SECONDS, choice PORT when-all-unhealthy all|none"},
	"spread":     {4, 20, "spread HOST -> vip:PORT/tcp|udp one|INSTANCE …"},
	"open":       {4, 4, "open FLOW HOST -> vip:PORT/tcp"},
	"still":      {2, 2, "still FLOW served|refused|lost"},
	"keep-flows": {2, 2, "keep-flows clb|INSTANCE on|off"},
	"switch":     {2, 2, "switch pass-to-target|clb|PORT on|off, switch return-path direct|gateway"},
	"shows":      {2, 20, "shows clb|eip|INSTANCE|GROUP|listener …"},
	"send":       {4, 4, "send HOST -> vip|eip|INSTANCE[:PORT]/tcp|udp|udp-cut|icmp served|refused|redirected"},
	"verdict":    {3, 7, "verdict accept|drop clb|cvm [out] GROUP rule N | REASON"},
	"health":     {2, 3, "health INSTANCE:PORT alive|dead [KIND]"},
	"log":        {4, 4, "log INSTANCE PORT from HOST|vip"},
}

// Parse reads a scenario file. An error names file and line.
func Parse(name string, data []byte) (*Script, error) {
	archive := txtar.Parse(data)
	s := &Script{Name: path.Base(name), Groups: map[string][]string{}}
	for _, f := range archive.Files {
		if _, twice := s.Groups[f.Name]; twice {
			return nil, fmt.Errorf("%s: section %s stands twice", s.Name, f.Name)
		}
		s.Groups[f.Name] = rulesOf(string(f.Data))
	}
	for i, text := range strings.Split(string(archive.Comment), "\n") {
		if err := s.line(i+1, text); err != nil {
			return nil, fmt.Errorf("%s:%d: %s: %w", s.Name, i+1, strings.TrimSpace(text), err)
		}
	}
	return s, s.sound()
}

// ParseAll reads every scenario file of a folder, by name.
func ParseAll(fsys fs.FS) ([]*Script, error) {
	names, err := fs.Glob(fsys, "*.txtar")
	if err == nil && len(names) == 0 {
		err = errors.New("no scenario files")
	}
	if err != nil {
		return nil, err
	}
	var all []*Script
	for _, name := range names {
		data, err := fs.ReadFile(fsys, name)
		if err != nil {
			return nil, err
		}
		s, err := Parse(name, data)
		if err != nil {
			return nil, err
		}
		all = append(all, s)
	}
	return all, nil
}

// A Count is what an engine has played: how many stories, sends, verdicts and
// probes of targets.
type Count struct{ Stories, Sends, Verdicts, Health, Left int }

// Add counts a script as the engine plays it, the decisive runs apart. Left
// are lines that are for other engines.
func (c *Count) Add(s *Script, engine string) {
	c.Stories++
	for _, l := range s.Lines {
		switch {
		case l.Engine != "" && l.Engine != engine:
			c.Left++
		case l.Verb == "send":
			c.Sends++
		case l.Verb == "verdict":
			c.Verdicts++
		case l.Verb == "health":
			c.Health++
		}
	}
}

// String is the count as tests print it.
func (c Count) String() string {
	return fmt.Sprintf("%d stories, %d sends, %d verdicts, %d health, %d lines for other engines", c.Stories, c.Sends, c.Verdicts, c.Health, c.Left)
}

func rulesOf(section string) []string {
	var rules []string
	for text := range strings.SplitSeq(section, "\n") {
		if text, _, _ = strings.Cut(text, "#"); strings.TrimSpace(text) != "" {
			rules = append(rules, strings.Join(strings.Fields(text), " "))
		}
	}
	return rules
}

func (s *Script) line(number int, text string) error {
	words := strings.Fields(text)
	if len(words) == 0 || strings.HasPrefix(words[0], "#") {
		return nil
	}
	l := Line{Number: number}
	if slices.Contains([]string{"[ref]", "[bpf]", "[lab]"}, words[0]) {
		l.Engine, words = strings.Trim(words[0], "[]"), words[1:]
		if len(words) == 0 {
			return fmt.Errorf("an engine without an act")
		}
	}
	l.Verb, l.Args = words[0], words[1:]
	verb, known := verbs[l.Verb]
	if !known {
		return fmt.Errorf("no such verb; docs/scenario.md lists them")
	}
	if len(l.Args) < verb.least || len(l.Args) > verb.most {
		return fmt.Errorf("write %s", verb.usage)
	}
	switch l.Verb {
	case "covers":
		s.Covers = append(s.Covers, l.Args...)
	case "server":
		s.Server = append(s.Server, l.Args...)
	case "decisive":
		return s.decisive(l)
	default:
		s.Lines = append(s.Lines, l)
	}
	return nil
}

func (s *Script) decisive(l Line) error {
	d := Decisive{Section: l.Args[0], Egress: len(l.Args) == 3 && l.Args[1] == "egress"}
	position, err := strconv.Atoi(l.Args[len(l.Args)-1])
	d.Position = position
	count := 0
	for _, rule := range s.Groups[d.Section] {
		if strings.HasPrefix(rule, egressPrefix) == d.Egress {
			count++
		}
	}
	if err != nil || position < 1 || position > count {
		return fmt.Errorf("section %s has %d such rules", d.Section, count)
	}
	s.Decisive = append(s.Decisive, d)
	return nil
}

// sound enforces that a story shows both sides and knows why.
func (s *Script) sound() error {
	count := map[string]int{}
	for _, l := range s.Lines {
		switch l.Verb {
		case "send":
			count[l.Args[3]]++
		case "health":
			count[l.Args[1]]++
		}
	}
	switch {
	case len(s.Decisive) == 0:
		return fmt.Errorf("%s: no line says which rule is decisive", s.Name)
	case count["served"]+count["alive"] == 0:
		return fmt.Errorf("%s: nothing is served", s.Name)
	case count["refused"]+count["dead"] == 0:
		return fmt.Errorf("%s: nothing is refused", s.Name)
	}
	return nil
}

const egressPrefix = "egress: "

// rules are a section's rules of one direction, without the one left out.
func (s *Script) rules(section string, egress bool, without *Decisive) []string {
	var rules []string
	position := 0
	for _, rule := range s.Groups[section] {
		if strings.HasPrefix(rule, egressPrefix) != egress {
			continue
		}
		position++
		if without != nil && *without == (Decisive{section, egress, position}) {
			continue
		}
		rules = append(rules, strings.TrimPrefix(rule, egressPrefix))
	}
	return rules
}

// instanceKinds are how names of instances begin: web-N has a public address
// and app-N only a private one, both in the default VPC; other-N is in another
// VPC and basic-N in the basic network, with private addresses.
func instanceKinds() []string { return []string{"web-", "app-", "other-", "basic-"} }

// Hosts lists the instances that the script names, sorted.
func (s *Script) Hosts() []string {
	var names []string
	for _, l := range s.Lines {
		for _, arg := range l.Args {
			name, _, _ := strings.Cut(arg, ":")
			if slices.ContainsFunc(instanceKinds(), func(kind string) bool { return strings.HasPrefix(name, kind) }) {
				name, _, _ = strings.Cut(name, "/")
				name = strings.TrimSuffix(name, sixSuffix)
				names = append(names, name)
			}
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}
