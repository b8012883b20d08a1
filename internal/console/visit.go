// SPDX-License-Identifier: Apache-2.0

package console

import (
	"bytes"
	"cmp"
	"crypto/subtle"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/sallyport/sallyport/internal/cloudapi"
)

// maxForm bounds what a form may send; the greatest is an import of rules.
const maxForm = 1 << 20

// A visit is one request to a page by somebody who is logged in; session is
// nil only on the login page and the theme switch.
type visit struct {
	*Console
	w       http.ResponseWriter
	r       *http.Request
	session *session
	draft   url.Values // what was typed here before the login expired
	known   *who       // see who
}

// A handler answers a visit. An error it returns becomes a page; it must not
// have written anything by then.
type handler func(*visit) error

func (c *Console) get(path string, h handler)  { c.guarded("GET", path, h) }
func (c *Console) post(path string, h handler) { c.guarded("POST", path, h) }

// both serves a dialog: GET shows the form, POST takes it.
func (c *Console) both(path string, h handler) { c.get(path, h); c.post(path, h) }

// open serves a path without login. Forms from other sites are refused.
func (c *Console) open(method, path string, h handler) {
	c.mux.Handle(method+" "+Root+path, c.origin.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		v := &visit{Console: c, w: w, r: r}
		if method == http.MethodPost && !v.readForm() {
			return
		}
		if method == http.MethodGet {
			_ = r.ParseForm() // what cannot be read of an address is not asked for
		}
		if err := h(v); err != nil {
			v.fail(err)
		}
	})))
}

// guarded serves a path to who is logged in, and takes forms only with the
// login's token in them.
func (c *Console) guarded(method, path string, h handler) {
	c.open(method, path, func(v *visit) error {
		v.session = c.sessions.find(v.r, c.Keys, path != "live" && !v.refreshes())
		switch {
		case v.session == nil:
			return v.askLogin()
		case method == http.MethodPost && subtle.ConstantTimeCompare([]byte(v.r.PostFormValue("csrf")), []byte(v.session.csrf)) != 1:
			return v.problem(http.StatusForbidden, "This form is not from your login",
				"It may be left over from an earlier one. Nothing was changed: go back, load the page again and send the form once more.")
		}
		v.resumes()
		return h(v)
	})
}

func (v *visit) readForm() bool {
	v.r.Body = http.MaxBytesReader(v.w, v.r.Body, maxForm)
	err := v.r.ParseForm()
	if err == nil {
		err = v.r.ParseMultipartForm(maxForm)
	}
	if err == nil || errors.Is(err, http.ErrNotMultipart) {
		return true
	}
	if err := v.problem(http.StatusRequestEntityTooLarge, "That form is too large or broken", fmt.Sprintf("A form may have at most %d kB. Nothing was changed.", maxForm>>10)); err != nil {
		v.Logger.Error("console", "error", err)
	}
	return false
}

// posted reports whether the visit sends a form.
func (v *visit) posted() bool { return v.r.Method == http.MethodPost }

// The API's versions that pages use.
const (
	clbVersion = "2018-03-17"
	sslVersion = "2019-12-05"
	vpcVersion = "2017-03-12" // cvm has the same
	ourVersion = "2026-11-23"
)

// do runs one action as an SDK would: JSON in, JSON out.
func (v *visit) do(version, action string, in, out any) error {
	return v.as(v.r.Context(), version, action, in, out)
}

// A screen is what the frame around each page needs, and the page's own data.
type screen struct {
	Title, Nav                               string
	Region, User, CSRF, Theme, Here, Version string
	Notice                                   string
	LoggedIn                                 bool
	Who                                      who
	D                                        any
}

// here is the address of the page that is shown. A form that its page alone
// shows, refused, leaves the browser at an address that takes forms only.
func (v *visit) here() string {
	if v.posted() {
		for _, end := range []string{"/rules/delete", "/rules/order", "/associations/remove", "/security/order"} {
			base, found := strings.CutSuffix(v.r.URL.Path, end)
			if !found {
				continue
			}
			if own := end[:strings.LastIndexByte(end, '/')]; own != "/rules" {
				base += own
			}
			return strings.TrimSuffix(base+"?"+query("dir", v.r.PostFormValue("dir"), "kind", v.r.FormValue("kind")), "?")
		}
	}
	return v.r.URL.RequestURI()
}

// show renders a page.
func (v *visit) show(status int, page, nav, title string, data any) error {
	s := screen{Title: title, Nav: nav, Region: v.Region, Theme: v.theme(), Here: v.here(), Version: v.static.version, D: data}
	if v.session != nil {
		s.User, s.CSRF, s.LoggedIn, s.Who = v.session.secretID, v.session.csrf, true, v.who()
		if !v.posted() && !v.refreshes() {
			s.Notice = v.session.takeNotice()
		}
	}
	var b bytes.Buffer
	if err := v.pages.ExecuteTemplate(&b, page, s); err != nil {
		return fmt.Errorf("page %s: %w", page, err)
	}
	if v.refreshes() && status == http.StatusUnprocessableEntity {
		status = http.StatusOK // the fault is the typed address's; what is live on the page is well
	}
	v.w.Header().Set("Content-Type", "text/html; charset=utf-8")
	v.w.WriteHeader(status)
	_, _ = v.w.Write(b.Bytes()) // a browser that went away cannot be told
	return nil
}

// to sends the browser to a page of the console, with a notice to show there.
func (v *visit) to(path, notice string) error {
	if v.session != nil && notice != "" {
		v.session.setNotice(notice)
	}
	if v.r.Header.Get(dialogHeader) != "" { // a script cannot see where a redirect leads without following it
		v.w.Header().Set("X-Location", Root+path)
		v.w.WriteHeader(http.StatusNoContent)
		return nil
	}
	http.Redirect(v.w, v.r, Root+path, http.StatusSeeOther)
	return nil
}

// refreshHeader is set by the script when a page that is open asks for itself
// again to stay live. Nobody did that, so it is no use of the login.
const refreshHeader = "Sallyport-Refresh"

// refreshes reports whether the script asks for the page, and nobody reads it
// as a whole.
func (v *visit) refreshes() bool { return !v.posted() && v.r.Header.Get(refreshHeader) != "" }

// dialogHeader is set by the script when it sends the form of a dialog, to keep
// the dialog open when the form is refused.
const dialogHeader = "X-Dialog"

type problemData struct{ Heading, Text, Code string }

func (v *visit) problem(status int, heading, text string) error {
	return v.show(status, "problem", "", heading, problemData{heading, text, ""})
}

// fail turns an error into a page. What the API refused is told as it says it;
// anything else is for the log.
func (v *visit) fail(err error) {
	status, heading, text, code := http.StatusInternalServerError, "Something went wrong here", "The server's log has the cause. Nothing you sent was changed by this page.", ""
	if e := (*cloudapi.Error)(nil); errors.As(err, &e) && e.Code != "InternalError" {
		status, heading, text, code = http.StatusBadRequest, "The API refused this", e.Message, e.Code
		if e.Code == codeUnauthorized {
			status, heading = http.StatusForbidden, "Your key does not allow this"
			text = e.Message + ". Nothing was changed."
		}
		if strings.Contains(e.Code, "NotFound") || strings.Contains(e.Code, "Malformed") {
			status, heading = http.StatusNotFound, "There is nothing under this address"
		}
	} else {
		v.Logger.Error("console", "path", v.r.URL.Path, "error", err)
	}
	if err := v.show(status, "problem", "", heading, problemData{heading, text, code}); err != nil {
		v.Logger.Error("console", "error", err)
		http.Error(v.w, heading, http.StatusInternalServerError)
	}
}

func (v *visit) notFound() error {
	return v.problem(http.StatusNotFound, "There is no such page", "The address may be mistyped, or what it showed was deleted.")
}

// A form is what somebody typed, and what the API says about it.
type form struct {
	Values url.Values
	Field  string // as the API names it, such as GroupName; "" when no one field is at fault
	Fault  string // "" when nothing is wrong
	Code   string

	Changes []string // what somebody else changed meanwhile
}

// V is what was typed into a field.
func (f form) V(name string) string { return f.Values.Get(name) }

// Has reports whether a tick or choice of this name has the value.
func (f form) Has(name, value string) bool { return slices.Contains(f.Values[name], value) }

// Err is the fault of one field, "" when it is well.
func (f form) Err(name string) string {
	last := f.Field[strings.LastIndexByte(f.Field, '.')+1:]
	if f.Fault != "" && (f.Field == name || last == name) {
		return f.Fault
	}
	return ""
}

// typed is the form as it came, without fault.
func (v *visit) typed() form { return form{Values: v.r.PostForm} }

// defaults is a form that nobody has typed into yet.
func defaults(pairs ...string) form {
	f := form{Values: url.Values{}}
	for i := 0; i+1 < len(pairs); i += 2 {
		f.Values.Add(pairs[i], pairs[i+1])
	}
	return f
}

// initial is what a dialog shows first: what was typed before a login ended,
// or else the defaults.
func (v *visit) initial(pairs ...string) form {
	if v.draft != nil {
		return form{Values: v.draft}
	}
	return defaults(pairs...)
}

// refused puts the API's refusal beside the form. Errors that are not the
// client's stay errors.
func (f form) refused(err error) (form, error) {
	e := (*cloudapi.Error)(nil)
	if !errors.As(err, &e) || e.Code == "InternalError" {
		return f, err
	}
	f.Code = e.Code
	f.Field, f.Fault = splitFault(e.Message)
	return f, nil
}

// fault refuses a form that never came to the API.
func (f form) fault(field, text string) form {
	f.Field, f.Fault = field, text
	return f
}

// splitFault takes "Field.0.Name: what is wrong" apart.
func splitFault(message string) (field, fault string) {
	head, rest, ok := strings.Cut(message, ": ")
	if !ok || strings.ContainsAny(head, " \"") {
		return "", message
	}
	return head, rest
}

// status is what a page that shows a form answers with.
func (f form) status() int {
	if f.Fault != "" {
		return http.StatusUnprocessableEntity
	}
	return http.StatusOK
}

// A confirmation asks before something is done that cannot be taken back.
type confirmation struct {
	Heading, Text, Button, Action, Back string
	Danger                              bool
	Hidden                              [][2]string
	List                                []string
	F                                   form
}

func (v *visit) confirm(nav string, q confirmation) error {
	q.Action = cmp.Or(q.Action, v.r.URL.RequestURI())
	return v.show(q.F.status(), "confirm", nav, q.Heading, q)
}
