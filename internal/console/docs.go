// SPDX-License-Identifier: Apache-2.0

package console

import (
	"errors"
	"html/template"
	"io/fs"
	"path"
	"strings"
)

// A docPage is one markdown page that is shown inside.
type docPage struct{ Name, Title, Text string }

type docsData struct {
	Pages []docPage
	Name  string
	HTML  template.HTML
}

// docs lists the pages: what newcomers need first.
func (v *visit) docs() ([]docPage, error) {
	names, err := fs.Glob(v.Docs, "*.md")
	if err != nil {
		return nil, err
	}
	var all []docPage
	for _, name := range []string{"getting-started.md", "faq.md", "backend-access.md", "semantics.md"} {
		if !contains(names, name) {
			continue
		}
		raw, err := fs.ReadFile(v.Docs, name)
		if err != nil {
			return nil, err
		}
		title, _, _ := strings.Cut(strings.TrimPrefix(string(raw), "# "), "\n")
		all = append(all, docPage{strings.TrimSuffix(name, path.Ext(name)), title, string(raw)})
	}
	return all, nil
}

func (v *visit) docsIndex() error {
	pages, err := v.docs()
	if err != nil {
		return err
	}
	if len(pages) == 0 {
		return v.notFound()
	}
	return v.showDoc(pages, pages[0])
}

func (v *visit) docsPage() error {
	pages, err := v.docs()
	if err != nil {
		return err
	}
	for _, p := range pages {
		if p.Name == v.r.PathValue("name") {
			return v.showDoc(pages, p)
		}
	}
	return v.notFound()
}

func (v *visit) showDoc(pages []docPage, p docPage) error {
	html, err := renderMarkdown(p.Text, func(target string) string { return docLink(pages, target) })
	if err != nil {
		return errors.Join(errors.New("docs/"+p.Name+".md"), err)
	}
	return v.show(200, "docs", "docs", p.Title, docsData{pages, p.Name, html})
}

// docLink turns a link between markdown files into one between pages; "" is
// no link here.
func docLink(pages []docPage, target string) string {
	name, fragment, _ := strings.Cut(target, "#")
	if name == "" {
		return "#" + fragment
	}
	if strings.HasPrefix(name, "console:") {
		return Root + strings.TrimPrefix(name, "console:")
	}
	for _, p := range pages {
		if name == p.Name+".md" {
			if fragment != "" {
				fragment = "#" + fragment
			}
			return Root + "docs/" + p.Name + fragment
		}
	}
	return ""
}
