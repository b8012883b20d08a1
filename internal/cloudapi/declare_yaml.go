// SPDX-License-Identifier: Apache-2.0

package cloudapi

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// maxFaults bounds what is told of one file.
const maxFaults = 50

// errEnough ends the reading of a file; why is among its faults.
var errEnough = errors.New("the rest of the file is not read")

// maxNodes bounds the YAML values that one Configuration holds, so that a few
// lines of aliases cannot become billions of values.
const maxNodes = 4 << 20

// A Configuration is what files of `sallyport apply` say, with the place of
// every value in them. The zero Configuration says nothing.
type Configuration struct {
	tree   map[string]any
	places map[string]Place
	nodes  int
}

// A Place is where a value stands in a file: line and column begin at 1. The
// zero Place is nowhere.
type Place struct {
	File         string
	Line, Column int
}

// String is "file:line:column", "" for nowhere.
func (p Place) String() string {
	if p.File == "" {
		return ""
	}
	return fmt.Sprintf("%s:%d:%d", p.File, p.Line, p.Column)
}

// Add reads the YAML documents of one file. Their lists are appended to those
// of earlier files. Unknown names, names given twice and values of a wrong kind
// are refused with their line and column, all that can be told of the file, one
// a line; then c is good for nothing but finding the faults of further files.
func (c *Configuration) Add(file string, content []byte) error {
	if c.tree == nil {
		c.tree, c.places = map[string]any{}, map[string]Place{}
	}
	r := yamlReader{c: c, file: file}
	dec := yaml.NewDecoder(bytes.NewReader(content))
	for {
		var doc yaml.Node
		err := dec.Decode(&doc)
		if errors.Is(err, io.EOF) {
			return r.all(nil)
		}
		if err != nil {
			return r.all(syntaxFault(file, content, err))
		}
		if len(doc.Content) == 0 || blankNode(doc.Content[0]) {
			continue
		}
		if err := r.top(doc.Content[0]); err != nil {
			return r.all(nil)
		}
	}
}

// syntaxLine is how the parser begins its faults.
var syntaxLine = regexp.MustCompile(`^yaml: line (\d+): (.*)`)

// syntaxFault gives a fault of the parser, which knows lines only, a column: the
// first that is not blank, or the first tab.
func syntaxFault(file string, content []byte, err error) error {
	m := syntaxLine.FindStringSubmatch(err.Error())
	if m == nil {
		return fmt.Errorf("%v: %s", Place{file, 1, 1}, strings.TrimPrefix(err.Error(), "yaml: "))
	}
	line, _ := strconv.Atoi(m[1]) // digits only
	column := 1
	if lines := strings.Split(string(content), "\n"); line >= 1 && line <= len(lines) {
		text := lines[line-1]
		column += max(0, strings.IndexFunc(text, func(r rune) bool { return r != ' ' }))
	}
	return fmt.Errorf("%v: %s", Place{file, line, column}, m[2])
}

// JSON is the configuration as the parameters of ApplyConfiguration.
func (c *Configuration) JSON(dryRun, prune, keepFlows bool) (json.RawMessage, error) {
	body := map[string]any{"DryRun": dryRun, "Prune": prune, "KeepFlows": keepFlows}
	for name, list := range c.tree {
		body[name] = list
	}
	return json.Marshal(body)
}

// Place finds the value that an answer of ApplyConfiguration speaks of: the one
// its message opens with, or the nearest that holds it.
func (c *Configuration) Place(message string) Place {
	path, _, _ := strings.Cut(message, ": ")
	for {
		if p, ok := c.places[path]; ok {
			return p
		}
		cut := strings.LastIndexByte(path, '.')
		if cut < 0 {
			return Place{}
		}
		path = path[:cut]
	}
}

// A yamlReader reads on after a fault and notes it; the errors of its methods
// end the file.
type yamlReader struct {
	c      *Configuration
	file   string
	faults []yamlFault
}

type yamlFault struct {
	place Place
	text  string
}

// fault notes a fault, once: what aliases stand for is read several times.
func (r *yamlReader) fault(n *yaml.Node, format string, args ...any) error {
	f := yamlFault{Place{r.file, n.Line, n.Column}, fmt.Sprintf(format, args...)}
	if slices.Contains(r.faults, f) {
		return nil
	}
	if len(r.faults) >= maxFaults {
		f.text = fmt.Sprintf("more than %d faults; the rest of the file is not read", maxFaults)
		r.faults = append(r.faults, f)
		return errEnough
	}
	r.faults = append(r.faults, f)
	return nil
}

// all are the faults in the order of their places, then the last one.
func (r *yamlReader) all(last error) error {
	slices.SortStableFunc(r.faults, func(a, b yamlFault) int {
		return cmp.Or(cmp.Compare(a.place.Line, b.place.Line), cmp.Compare(a.place.Column, b.place.Column))
	})
	var all []error
	for _, f := range r.faults {
		all = append(all, fmt.Errorf("%v: %s", f.place, f.text))
	}
	return errors.Join(append(all, last)...)
}

func blankNode(n *yaml.Node) bool { return n.Kind == yaml.ScalarNode && n.Tag == "!!null" }

// follow gives what an alias stands for, and counts.
func (r *yamlReader) follow(n *yaml.Node) (*yaml.Node, error) {
	if r.c.nodes++; r.c.nodes > maxNodes {
		if err := r.fault(n, "more than %d values; split the files or use fewer aliases", maxNodes); err != nil {
			return nil, err
		}
		return nil, errEnough
	}
	if n.Kind == yaml.AliasNode {
		meant := *n.Alias // said here: faults are about this place
		meant.Line, meant.Column = n.Line, n.Column
		return &meant, nil
	}
	return n, nil
}

// top appends the lists of one document.
func (r *yamlReader) top(n *yaml.Node) error {
	schema := objectOf(reflect.TypeFor[configuration]())
	return r.entries(schema, n, "", func(f *field, v *yaml.Node) error {
		list, _ := r.c.tree[f.name].([]any)
		more, err := r.list(f.value.elem, v, f.name, len(list))
		r.c.tree[f.name] = append(list, more...)
		return err
	})
}

// entries calls fn for every entry of a mapping that is given.
func (r *yamlReader) entries(o *object, n *yaml.Node, at string, fn func(f *field, v *yaml.Node) error) error {
	n, err := r.follow(n)
	if err != nil {
		return err
	}
	if n.Kind != yaml.MappingNode {
		return r.fault(n, "%s; want a mapping of names to values", nodeIs(n))
	}
	seen, strange := map[string]int{}, false
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, v := n.Content[i], n.Content[i+1]
		f := o.byName[key.Value]
		switch first, twice := seen[key.Value]; {
		case key.Kind != yaml.ScalarNode || f == nil:
			strange = true
			if err := r.fault(key, "%q is not known here; %s", clip(key.Value, 60), o.guess(at, key.Value)); err != nil {
				return err
			}
			continue
		case twice:
			if err := r.fault(key, "%s is given twice, first in line %d", key.Value, first); err != nil {
				return err
			}
			continue
		}
		seen[key.Value] = key.Line
		if blankNode(v) {
			continue
		}
		if err := fn(f, v); err != nil {
			return err
		}
	}
	for _, f := range o.fields {
		if _, ok := seen[f.name]; f.required && !ok && !strange { // a name that is not known may be a slip of it
			if err := r.fault(n, "%s is missing; give %s", f.name, article(f.value.kind)); err != nil {
				return err
			}
		}
	}
	return nil
}

func (r *yamlReader) value(v *value, n *yaml.Node, path string) (any, error) {
	n, err := r.follow(n)
	if err != nil {
		return nil, err
	}
	r.c.places[path] = Place{r.file, n.Line, n.Column}
	switch v.kind {
	case kindObject:
		tree := map[string]any{}
		return tree, r.entries(v.obj, n, path+".", func(f *field, n *yaml.Node) error {
			var err error
			tree[f.name], err = r.value(f.value, n, path+"."+f.name)
			return err
		})
	case kindList:
		return r.list(v.elem, n, path, 0)
	}
	if n.Kind != yaml.ScalarNode || n.Tag == "!!binary" {
		return nil, r.fault(n, "%s; want %s", nodeIs(n), article(v.kind))
	}
	switch v.kind {
	case kindInt:
		if i, err := strconv.ParseInt(n.Value, 10, 64); err == nil && n.Tag == "!!int" {
			return i, nil
		}
		return nil, r.fault(n, "%q is not a whole number", clip(n.Value, 60))
	case kindBool:
		if n.Tag == "!!bool" {
			return strings.EqualFold(n.Value, "true"), nil
		}
		return nil, r.fault(n, "%q is neither true nor false", clip(n.Value, 60))
	}
	return n.Value, nil // 80 and "80" are the same text
}

func (r *yamlReader) list(elem *value, n *yaml.Node, path string, first int) ([]any, error) {
	n, err := r.follow(n)
	if err != nil {
		return nil, err
	}
	if n.Kind != yaml.SequenceNode {
		return nil, r.fault(n, "%s; want a list", nodeIs(n))
	}
	list := make([]any, 0, len(n.Content))
	for i, item := range n.Content {
		v, err := r.value(elem, item, path+"."+strconv.Itoa(first+i))
		if err != nil {
			return nil, err
		}
		list = append(list, v)
	}
	return list, nil
}

func nodeIs(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "this is a mapping"
	case yaml.SequenceNode:
		return "this is a list"
	}
	return fmt.Sprintf("%q is a single value", clip(n.Value, 60))
}

// ConfigurationKinds names the lists of a configuration in the order in which
// they depend on each other.
func ConfigurationKinds() []string {
	var kinds []string
	for _, f := range objectOf(reflect.TypeFor[configuration]()).fields {
		kinds = append(kinds, f.name)
	}
	return kinds
}

// ExportFiles writes an answer of DescribeConfiguration as YAML: one file for
// each kind of object there is, by name, such as "SecurityGroups.yaml". What is
// empty is left out unless it must be given, so the same state always gives the
// same bytes.
func ExportFiles(answer json.RawMessage) (map[string][]byte, error) {
	tree, err := parseJSON(answer)
	if err != nil {
		return nil, err
	}
	files := map[string][]byte{}
	for _, f := range objectOf(reflect.TypeFor[configuration]()).fields {
		list, _ := tree[f.name].([]any)
		if len(list) == 0 {
			continue
		}
		var out bytes.Buffer
		enc := yaml.NewEncoder(&out)
		enc.SetIndent(2)
		body := &yaml.Node{Kind: yaml.MappingNode, Content: []*yaml.Node{textNode(f.name), nodeOf(f.value, list)}}
		if err := enc.Encode(body); err != nil {
			return nil, err
		}
		files[f.name+".yaml"] = out.Bytes()
	}
	return files, nil
}

// nodeOf is a value in YAML, nil when it is empty.
func nodeOf(v *value, raw any) *yaml.Node {
	switch raw := raw.(type) {
	case map[string]any:
		n := &yaml.Node{Kind: yaml.MappingNode}
		for _, f := range v.obj.fields {
			item := nodeOf(f.value, raw[f.name])
			if item == nil && f.required {
				item = sayEmpty(f.value.kind)
			}
			if item != nil {
				n.Content = append(n.Content, textNode(f.name), item)
			}
		}
		return unlessEmpty(n)
	case []any:
		n := &yaml.Node{Kind: yaml.SequenceNode}
		for _, item := range raw {
			if item := nodeOf(v.elem, item); item != nil {
				n.Content = append(n.Content, item)
			}
		}
		return unlessEmpty(n)
	case json.Number:
		return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!int", Value: raw.String()}
	case bool:
		if raw {
			return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!bool", Value: "true"}
		}
	case string:
		if raw != "" {
			return textNode(raw)
		}
	}
	return nil
}

// sayEmpty is the empty value of a field that must be given.
func sayEmpty(k kind) *yaml.Node {
	switch k {
	case kindString:
		return textNode("")
	case kindBool:
		return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!bool", Value: "false"}
	}
	return nil
}

func unlessEmpty(n *yaml.Node) *yaml.Node {
	if len(n.Content) == 0 {
		return nil
	}
	return n
}

func textNode(text string) *yaml.Node {
	return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: text}
}
