// SPDX-License-Identifier: Apache-2.0

package console

import (
	"fmt"
	"html"
	"html/template"
	"regexp"
	"strings"
)

// renderMarkdown renders the markdown of our own docs: headings, paragraphs,
// lists, tables, indented and fenced code, emphasis, code and links. All text
// is escaped; nothing in a page becomes HTML by itself.
func renderMarkdown(text string, link func(target string) string) (template.HTML, error) {
	md := markdown{link: link}
	lines := strings.Split(strings.ReplaceAll(text, "\r\n", "\n"), "\n")
	for len(lines) > 0 {
		lines = md.block(lines)
	}
	return template.HTML(md.out.String()), nil //nolint:gosec // every text was escaped
}

type markdown struct {
	link func(string) string
	out  strings.Builder
}

var (
	bullet   = regexp.MustCompile(`^(\s*)([-*]|\d+\.)\s+(.*)$`)
	heading  = regexp.MustCompile(`^(#{1,4})\s+(.*)$`)
	ruleLine = regexp.MustCompile(`^\|?[\s:|-]+\|?$`)
)

// block renders the block at the head of lines and returns the rest.
func (md *markdown) block(lines []string) []string {
	first := lines[0]
	switch {
	case strings.TrimSpace(first) == "":
		return lines[1:]
	case strings.HasPrefix(first, "```"):
		return md.fenced(lines[1:])
	case strings.HasPrefix(first, "    "):
		return md.indented(lines)
	case heading.MatchString(first):
		h := heading.FindStringSubmatch(first)
		fmt.Fprintf(&md.out, "<h%d id=%q>%s</h%d>\n", len(h[1]), slug(h[2]), md.inline(h[2]), len(h[1]))
		return lines[1:]
	case strings.HasPrefix(first, "|") && len(lines) > 1 && ruleLine.MatchString(lines[1]):
		return md.table(lines)
	case bullet.MatchString(first):
		return md.list(lines)
	}
	n := 0
	for n < len(lines) && strings.TrimSpace(lines[n]) != "" && !bullet.MatchString(lines[n]) && !heading.MatchString(lines[n]) && !strings.HasPrefix(lines[n], "|") {
		n++
	}
	n = max(n, 1)
	md.out.WriteString("<p>" + md.inline(strings.Join(lines[:n], " ")) + "</p>\n")
	return lines[n:]
}

func (md *markdown) fenced(lines []string) []string {
	n := 0
	for n < len(lines) && !strings.HasPrefix(lines[n], "```") {
		n++
	}
	md.code(lines[:n])
	return lines[min(n+1, len(lines)):]
}

func (md *markdown) indented(lines []string) []string {
	n := 0
	var code []string
	for n < len(lines) && (strings.HasPrefix(lines[n], "    ") || strings.TrimSpace(lines[n]) == "") {
		code = append(code, strings.TrimPrefix(lines[n], "    "))
		n++
	}
	md.code(code)
	return lines[n:]
}

func (md *markdown) code(lines []string) {
	text := strings.TrimRight(strings.Join(lines, "\n"), "\n ")
	md.out.WriteString(`<pre tabindex="0" role="region" aria-label="Example"><code>` + html.EscapeString(text) + "</code></pre>\n")
}

func (md *markdown) table(lines []string) []string {
	md.out.WriteString(`<div class="scroll" tabindex="0" role="region" aria-label="Table"><table><thead>`)
	n := 0
	for ; n < len(lines) && strings.HasPrefix(lines[n], "|"); n++ {
		if n == 1 {
			md.out.WriteString("</thead><tbody>")
			continue
		}
		tag := "td"
		if n == 0 {
			tag = "th"
		}
		md.out.WriteString("<tr>")
		for cell := range strings.SplitSeq(strings.Trim(strings.TrimSpace(lines[n]), "|"), "|") {
			fmt.Fprintf(&md.out, "<%s>%s</%s>", tag, md.inline(strings.TrimSpace(cell)), tag)
		}
		md.out.WriteString("</tr>")
	}
	md.out.WriteString("</tbody></table></div>\n")
	return lines[n:]
}

// list renders one list. Lines that go on belong to their item.
func (md *markdown) list(lines []string) []string {
	tag := "ul"
	if marker := bullet.FindStringSubmatch(lines[0])[2]; marker != "-" && marker != "*" {
		tag = "ol"
	}
	var items []string
	n := 0
	for ; n < len(lines); n++ {
		item := bullet.FindStringSubmatch(lines[n])
		switch {
		case item != nil:
			items = append(items, item[3])
		case strings.TrimSpace(lines[n]) == "" && n+1 < len(lines) && bullet.MatchString(lines[n+1]):
		case strings.HasPrefix(lines[n], " ") && strings.TrimSpace(lines[n]) != "":
			items[len(items)-1] += " " + strings.TrimSpace(lines[n])
		default:
			goto end
		}
	}
end:
	md.out.WriteString("<" + tag + ">")
	for _, item := range items {
		md.out.WriteString("<li>" + md.inline(item) + "</li>\n")
	}
	md.out.WriteString("</" + tag + ">\n")
	return lines[n:]
}

var (
	spans  = regexp.MustCompile("`[^`]+`|\\*\\*[^*]+\\*\\*|\\*[^* ][^*]*\\*|\\[[^\\]]+\\]\\([^)]+\\)")
	linked = regexp.MustCompile(`^\[([^\]]+)\]\(([^)]+)\)$`)
)

func (md *markdown) inline(text string) string {
	var out strings.Builder
	for {
		at := spans.FindStringIndex(text)
		if at == nil {
			out.WriteString(html.EscapeString(text))
			return out.String()
		}
		out.WriteString(html.EscapeString(text[:at[0]]))
		out.WriteString(md.span(text[at[0]:at[1]]))
		text = text[at[1]:]
	}
}

func (md *markdown) span(s string) string {
	switch {
	case s[0] == '`':
		return "<code>" + html.EscapeString(s[1:len(s)-1]) + "</code>"
	case strings.HasPrefix(s, "**"):
		return "<strong>" + html.EscapeString(s[2:len(s)-2]) + "</strong>"
	case s[0] == '*':
		return "<em>" + html.EscapeString(s[1:len(s)-1]) + "</em>"
	}
	l := linked.FindStringSubmatch(s)
	if href := md.link(l[2]); href != "" {
		return fmt.Sprintf(`<a href="%s">%s</a>`, html.EscapeString(href), md.inline(l[1]))
	}
	return md.inline(l[1])
}

var notSlug = regexp.MustCompile(`[^a-z0-9]+`)

// slug is a heading's anchor.
func slug(text string) string {
	return strings.Trim(notSlug.ReplaceAllString(strings.ToLower(text), "-"), "-")
}
