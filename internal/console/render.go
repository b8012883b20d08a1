// SPDX-License-Identifier: Apache-2.0

package console

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"errors"
	"fmt"
	"html/template"
	"net/http"
	"net/url"
	"path"
	"slices"
	"strings"
	"time"
)

//go:embed pages/*.html
var pageFiles embed.FS

//go:embed static
var staticFiles embed.FS

// assets are the files that every page loads. Their address changes with
// their content, so browsers keep them.
type assets struct {
	version string
	files   map[string]asset
}

type asset struct {
	kind   string
	plain  []byte
	packed []byte
}

func loadAssets() (*assets, error) {
	a := &assets{files: map[string]asset{}}
	entries, err := staticFiles.ReadDir("static")
	if err != nil {
		return nil, err
	}
	sum := sha256.New()
	kinds := map[string]string{".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".svg": "image/svg+xml"}
	for _, e := range entries {
		raw, err := staticFiles.ReadFile("static/" + e.Name())
		if err != nil {
			return nil, err
		}
		var packed bytes.Buffer
		z := gzip.NewWriter(&packed)
		if _, err := z.Write(raw); err != nil {
			return nil, err
		}
		if err := z.Close(); err != nil {
			return nil, err
		}
		sum.Write(raw)
		a.files[e.Name()] = asset{kinds[path.Ext(e.Name())], raw, packed.Bytes()}
	}
	a.version = hex.EncodeToString(sum.Sum(nil))[:12]
	return a, nil
}

func (a *assets) serve(w http.ResponseWriter, r *http.Request) {
	f, ok := a.files[r.PathValue("name")]
	if !ok || f.kind == "" {
		http.NotFound(w, r)
		return
	}
	h := w.Header()
	h.Set("Content-Type", f.kind)
	h.Set("Vary", "Accept-Encoding")
	if r.PathValue("version") == a.version {
		h.Set("Cache-Control", "public, max-age=31536000, immutable")
	}
	body := f.plain
	if strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
		h.Set("Content-Encoding", "gzip")
		body = f.packed
	}
	_, _ = w.Write(body) // a browser that went away cannot be told
}

// parsePages parses all templates. Each page's template has its file's name.
func (c *Console) parsePages() (*template.Template, error) {
	return template.New("").Funcs(template.FuncMap{
		"root": func() string { return Root }, "asset": func(name string) string { return Root + "static/" + c.static.version + "/" + name },
		"dict": dict, "list": func(v ...string) []string { return v }, "plural": plural, "joined": joined, "contains": contains, "clip": clip,
		"query": func(pairs ...string) template.URL { return template.URL(query(pairs...)) }, "add": func(a, b int) int { return a + b }, "health": healthWord, "policyWord": policyWord, "gate": gateWord, "reason": reasonWord,
		"ago": c.ago, "words": gateWords, "second": toSecond, "num": num, "rate": perSecond, "focus": focusOf, "services": servicePresets, "few": fewExposed,
	}).ParseFS(pageFiles, "pages/*.html")
}

// dict makes a map of pairs, for templates within templates.
func dict(pairs ...any) (map[string]any, error) {
	d := map[string]any{}
	for i := 0; i+1 < len(pairs); i += 2 {
		name, ok := pairs[i].(string)
		if !ok {
			return nil, errors.New("dict: a name is not a text")
		}
		d[name] = pairs[i+1]
	}
	return d, nil
}

// query writes pairs as an address's query, leaving out empty ones.
func query(pairs ...string) string {
	q := url.Values{}
	for i := 0; i+1 < len(pairs); i += 2 {
		if pairs[i+1] != "" {
			q.Set(pairs[i], pairs[i+1])
		}
	}
	return q.Encode()
}

func plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

func joined(list []string) string { return strings.Join(list, ", ") }

func contains(list []string, s string) bool { return slices.Contains(list, s) }

func firstText(list []string) string {
	if len(list) == 0 {
		return ""
	}
	return list[0]
}

func clip(s string, n int) string {
	if r := []rune(s); len(r) > n {
		return string(r[:n-1]) + "…"
	}
	return s
}

// healthWord is a health as people read it.
func healthWord(s string) string {
	switch s {
	case "Alive":
		return "Healthy"
	case "Dead":
		return "Abnormal"
	case "Close":
		return "Check off"
	case "":
		return "No targets"
	}
	return "Detecting"
}

func gateWord(g string) string {
	switch g {
	case "clb":
		return "gate 1"
	case "cvm":
		return "gate 2"
	}
	return g
}

// gateWords is a text with the gates called as pages call them.
func gateWords(text string) string {
	return strings.NewReplacer("gate cvm", gateWord("cvm"), "gate clb", gateWord("clb")).Replace(text)
}

// toSecond is a time as people read it; one that cannot be read stays.
func toSecond(text string) string {
	at, err := time.Parse(time.RFC3339Nano, text)
	if err != nil {
		return text
	}
	return at.UTC().Format("2006-01-02 15:04:05 UTC")
}

// focusOf says which of a row's two buttons keeps the focus after "id:up" or
// "id:down" has moved it: at the ends, the one that still works.
func focusOf(moved, id string, first, last bool) string {
	of, way, _ := strings.Cut(moved, ":")
	switch {
	case of != id || first && last:
		return ""
	case first:
		return "down"
	case last:
		return "up"
	}
	return way
}

// reasonWord is a verdict's reason as people read it.
func reasonWord(r string) string {
	switch r {
	case "no_match":
		return "implicit last rule"
	case "no_groups":
		return "no group is bound"
	}
	return strings.ReplaceAll(r, "_", " ")
}

// ago says how long ago a time was that an answer has as text.
func (c *Console) ago(text string) string {
	if text == "" {
		return "never"
	}
	at, err := time.Parse(time.RFC3339Nano, text)
	if err != nil {
		return text
	}
	switch d := c.Now().Sub(at); {
	case d < time.Minute:
		return "just now"
	case d < time.Hour:
		return plural(int(d/time.Minute), "minute") + " ago"
	case d < 48*time.Hour:
		return plural(int(d/time.Hour), "hour") + " ago"
	default:
		return plural(int(d/(24*time.Hour)), "day") + " ago"
	}
}

// num shortens great counts: 1234567 is "1.2 M".
func num(n uint64) string {
	switch {
	case n >= 1_000_000_000:
		return fmt.Sprintf("%.1f G", float64(n)/1e9)
	case n >= 1_000_000:
		return fmt.Sprintf("%.1f M", float64(n)/1e6)
	case n >= 10_000:
		return fmt.Sprintf("%.1f k", float64(n)/1e3)
	}
	return fmt.Sprint(n)
}

func perSecond(f float64) string {
	if f == 0 || f >= 10 {
		return fmt.Sprintf("%.0f/s", f)
	}
	return fmt.Sprintf("%.1f/s", f)
}

// servicePresets is a rule types' list as scripts read it.
func servicePresets() []string {
	var all []string
	for _, t := range ruleTypes() {
		if t.Service != "" {
			all = append(all, t.Service)
		}
	}
	return append(all, "TCP:ALL", "UDP:ALL", "ICMPv6", "GRE", "ALL")
}
