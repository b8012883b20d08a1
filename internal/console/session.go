// SPDX-License-Identifier: Apache-2.0

package console

import (
	"crypto/rand"
	"crypto/sha256"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"time"
)

// How long a login lasts: idle, and altogether.
const (
	idleLimit   = 30 * time.Minute
	wholeLimit  = 12 * time.Hour
	maxSessions = 10000
)

const cookieName = "sallyport_session"

// A session is one login. Its cookie's text is known to the browser alone; we
// keep its hash.
type session struct {
	secretID, csrf string

	mu     sync.Mutex
	made   time.Time
	used   time.Time
	notice string
	draft  draft
	open   int // streams
}

// streams counts n streams more or less; false when there is no room for more.
func (s *session) streams(n int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if n > 0 && s.open+n > maxStreams {
		return false
	}
	s.open += n
	return true
}

// A draft is what somebody was about to send to a dialog when their login had
// expired.
type draft struct {
	path   string
	values url.Values
}

func (s *session) setDraft(d draft) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.draft = d
}

// draftFor is what was typed into the dialog of a path, nil when nothing was.
func (s *session) draftFor(path string) url.Values {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.draft.path != path {
		return nil
	}
	return s.draft.values
}

func (s *session) setNotice(text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.notice = text
}

// takeNotice reads the notice once.
func (s *session) takeNotice() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	text := s.notice
	s.notice = ""
	return text
}

// alive reports whether the login holds at now, and counts as its use if
// touch is set.
func (s *session) alive(now time.Time, touch bool) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if now.Sub(s.used) > idleLimit || now.Sub(s.made) > wholeLimit {
		return false
	}
	if touch {
		s.used = now
	}
	return true
}

type sessions struct {
	now func() time.Time
	mu  sync.Mutex
	all map[[sha256.Size]byte]*session
}

func newSessions(now func() time.Time) *sessions {
	return &sessions{now: now, all: map[[sha256.Size]byte]*session{}}
}

// begin makes a login and returns it with its cookie's text.
func (s *sessions) begin(secretID string) (string, *session) {
	text, now := rand.Text()+rand.Text(), s.now()
	s.mu.Lock()
	defer s.mu.Unlock()
	for key, old := range s.all {
		if !old.alive(now, false) || len(s.all) >= maxSessions {
			delete(s.all, key)
		}
	}
	made := &session{secretID: secretID, csrf: rand.Text(), made: now, used: now}
	s.all[sha256.Sum256([]byte(text))] = made
	return text, made
}

// find is the request's login, nil when there is none, it has expired, or its
// key is no longer known.
func (s *sessions) find(r *http.Request, keys Keys, touch bool) *session {
	cookie, err := r.Cookie(cookieName)
	if err != nil {
		return nil
	}
	key := sha256.Sum256([]byte(cookie.Value))
	s.mu.Lock()
	defer s.mu.Unlock()
	found := s.all[key]
	if found == nil {
		return nil
	}
	if !keys.Known(found.secretID) || !found.alive(s.now(), touch) {
		delete(s.all, key)
		return nil
	}
	return found
}

func (s *sessions) end(r *http.Request) {
	if cookie, err := r.Cookie(cookieName); err == nil {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.all, sha256.Sum256([]byte(cookie.Value)))
	}
}

// any reports whether somebody is logged in.
func (s *sessions) any() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.all) > 0
}

// Failed logins: so many are free, then each doubles the wait.
const (
	freeFailures = 5
	maxWait      = time.Minute
	maxWatched   = 10000
)

// A throttle slows down who guesses keys, by where they come from. It does not
// count by key, so that nobody can lock out a key's owner.
type throttle struct {
	now func() time.Time
	mu  sync.Mutex
	all map[string]failures
}

type failures struct {
	count int
	until time.Time // refused without looking before this
	last  time.Time
}

func newThrottle(now func() time.Time) *throttle {
	return &throttle{now: now, all: map[string]failures{}}
}

// networkOf is the part of an address that one client can choose from: all of
// an IPv4 one, the /64 of an IPv6 one.
func networkOf(remote string) string {
	a, err := netip.ParseAddrPort(remote)
	if err != nil {
		return remote
	}
	address := a.Addr().Unmap().WithZone("")
	bits := min(64, address.BitLen())
	return netip.PrefixFrom(address, bits).Masked().String()
}

// wait is how long somebody must still wait; not above 0 when they may try.
func (t *throttle) wait(from string) time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.all[from].until.Sub(t.now())
}

func (t *throttle) failed(from string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := t.now()
	for name, f := range t.all {
		if now.Sub(f.last) > 10*time.Minute || len(t.all) > maxWatched {
			delete(t.all, name)
		}
	}
	f := t.all[from]
	f.count++
	f.last = now
	if over := f.count - freeFailures; over >= 0 {
		f.until = now.Add(min(maxWait, time.Second<<min(over, 6)))
	}
	t.all[from] = f
}

func (t *throttle) succeeded(from string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.all, from)
}

type loginData struct {
	F          form
	Next       string
	Resume     string // what was about to be sent when the login had expired
	ResumePath string
	Expired    bool
}

func (v *visit) loginPage() error {
	return v.show(http.StatusOK, "login", "", "Log in", loginData{F: defaults(), Next: v.r.URL.Query().Get("next")})
}

// askLogin keeps what was typed: a form that comes after the login's end is
// offered again behind the next one.
func (v *visit) askLogin() error {
	if strings.HasSuffix(v.r.URL.Path, "/live") {
		http.Error(v.w, "log in", http.StatusUnauthorized)
		return nil
	}
	d := loginData{F: defaults(), Next: v.r.URL.RequestURI()}
	_, err := v.r.Cookie(cookieName)
	d.Expired = err == nil
	if v.posted() && !hasDialog(v.r.URL.Path) {
		d.Next = Root
		if from, err := url.Parse(v.r.Referer()); err == nil {
			d.Next = ours(from.RequestURI())
		}
	} else if v.posted() {
		values := url.Values{}
		for name, list := range v.r.PostForm {
			if name != "csrf" && name != "step" {
				values[name] = list
			}
		}
		if text, err := v.uploaded(); err == nil && text != "" {
			values.Set("csv", text)
		}
		d.Resume, d.ResumePath, d.Next = values.Encode(), v.r.URL.RequestURI(), ""
	}
	return v.show(http.StatusUnauthorized, "login", "", "Log in", d)
}

// hasDialog reports whether a form's address also shows the form.
func hasDialog(path string) bool {
	for _, end := range []string{"/order", "/remove", "/rules/delete", "/logout"} {
		if strings.HasSuffix(path, end) {
			return false
		}
	}
	return true
}

// ours keeps redirects inside the console.
func ours(path string) string {
	u, err := url.Parse(path)
	if err != nil || u.Host != "" || u.Scheme != "" || !strings.HasPrefix(u.Path, Root) || strings.Contains(u.Path, "//") || strings.Contains(u.Path, `\`) {
		return Root
	}
	return u.RequestURI()
}

func (v *visit) login() error {
	f := v.typed()
	id, key := strings.TrimSpace(f.V("SecretId")), strings.TrimSpace(f.V("SecretKey"))
	d := loginData{F: f, Next: f.V("next"), Resume: f.V("resume"), ResumePath: f.V("resumePath")}
	d.F.Values.Del("SecretKey") // never shown again
	from := networkOf(v.r.RemoteAddr)
	if wait := v.throttle.wait(from); wait > 0 {
		d.F = d.F.fault("", "Too many attempts. Try again in "+wait.Round(time.Second).String()+".")
		return v.show(http.StatusTooManyRequests, "login", "", "Log in", d)
	}
	if !v.Keys.LogIn(id, key) {
		v.throttle.failed(from)
		v.Logger.Warn("console login refused", "peer", v.r.RemoteAddr)
		d.F = d.F.fault("SecretKey", "This secret id and key do not belong together.")
		return v.show(http.StatusUnauthorized, "login", "", "Log in", d)
	}
	v.throttle.succeeded(from)
	v.sessions.end(v.r)
	text, made := v.sessions.begin(id)
	http.SetCookie(v.w, &http.Cookie{Name: cookieName, Value: text, Path: Root, HttpOnly: true,
		Secure: v.r.TLS != nil, SameSite: http.SameSiteStrictMode, MaxAge: int(wholeLimit / time.Second)})
	if d.ResumePath == "" {
		http.Redirect(v.w, v.r, ours(d.Next), http.StatusSeeOther)
		return nil
	}
	return v.resume(made, d)
}

// resume leads back to the dialog whose form was not sent, with what was typed
// into it.
func (v *visit) resume(made *session, d loginData) error {
	to, err := url.Parse(ours(d.ResumePath))
	if err != nil {
		return err
	}
	if values, err := url.ParseQuery(d.Resume); err == nil {
		made.setDraft(draft{to.Path, values})
	}
	q := to.Query()
	q.Set("resumed", "1")
	to.RawQuery = q.Encode()
	http.Redirect(v.w, v.r, to.String(), http.StatusSeeOther)
	return nil
}

// resumes finds what was typed into this dialog before the login expired. The
// form's hidden fields count as the address's, so that the dialog is the same.
func (v *visit) resumes() {
	if v.posted() || v.r.Form.Get("resumed") == "" {
		return
	}
	v.draft = v.session.draftFor(v.r.URL.Path)
	for name, list := range v.draft {
		if !v.r.Form.Has(name) {
			v.r.Form[name] = list
		}
	}
}

func (v *visit) logout() error {
	v.sessions.end(v.r)
	http.SetCookie(v.w, &http.Cookie{Name: cookieName, Path: Root, MaxAge: -1, HttpOnly: true, SameSite: http.SameSiteStrictMode})
	return v.to("login", "")
}

const themeCookie = "sallyport_theme"

// theme is light, dark, or "" for what the system prefers.
func (v *visit) theme() string {
	if c, err := v.r.Cookie(themeCookie); err == nil && (c.Value == "light" || c.Value == "dark") {
		return c.Value
	}
	return ""
}

func (v *visit) setTheme() error {
	theme := v.r.PostFormValue("theme")
	if theme != "light" && theme != "dark" {
		theme = "auto"
	}
	http.SetCookie(v.w, &http.Cookie{Name: themeCookie, Value: theme, Path: Root, HttpOnly: true, SameSite: http.SameSiteLaxMode,
		Secure: v.r.TLS != nil, MaxAge: 365 * 24 * 3600})
	http.Redirect(v.w, v.r, ours(v.r.PostFormValue("here")), http.StatusSeeOther)
	return nil
}
