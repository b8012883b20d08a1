// SPDX-License-Identifier: Apache-2.0

// Package console is the web console: server-rendered pages over the actions
// of cloudapi, so that an SDK can do all that it can. It keeps nothing but
// logins and a short history of verdicts for its charts. Pages work without
// scripts where that is reasonable; scripts make them live.
package console

import (
	"context"
	"encoding/json"
	"fmt"
	"html/template"
	"io/fs"
	"log/slog"
	"net/http"
	"time"

	"github.com/sallyport/sallyport/internal/cloudapi"
)

// Root is the path that the console is served below.
const Root = "/console/"

// Actions is the API: (*cloudapi.Server).Do for what the console itself
// watches, DoAs for whoever is logged in.
type Actions interface {
	Do(ctx context.Context, version, action string, params json.RawMessage) (json.RawMessage, error)
	DoAs(ctx context.Context, who cloudapi.Caller, version, action string, params json.RawMessage) (json.RawMessage, error)
}

// Keys says who may log in: (*cloudapi.Server) does.
type Keys interface {
	LogIn(secretID, secretKey string) bool
	Known(secretID string) bool // still
}

// Options configure a Console. API, Keys, Region and Docs are needed.
type Options struct {
	API    Actions
	Keys   Keys
	Region string
	Docs   fs.FS           // the markdown pages that are shown inside, by name
	Ending <-chan struct{} // closed when the server was asked to end: live pages end then; nil: it is never asked
	Now    func() time.Time
	Logger *slog.Logger
}

// A Console serves the pages. It is safe for concurrent use.
type Console struct {
	Options
	mux      *http.ServeMux
	origin   *http.CrossOriginProtection
	sessions *sessions
	throttle *throttle
	history  *history
	lookout  lookout
	pages    *template.Template
	static   *assets
}

// New makes a Console. Now defaults to time.Now and Logger to silence. It
// fails when its own templates do not parse.
func New(o Options) (*Console, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	c := &Console{Options: o, mux: http.NewServeMux(), origin: http.NewCrossOriginProtection(),
		sessions: newSessions(o.Now), throttle: newThrottle(o.Now), history: newHistory(),
		lookout: lookout{seen: map[string]*glance{}}}
	var err error
	if c.static, err = loadAssets(); err != nil {
		return nil, err
	}
	if c.pages, err = c.parsePages(); err != nil {
		return nil, fmt.Errorf("the console's templates: %w", err)
	}
	c.routes()
	return c, nil
}

// policyHeader allows only our own files. Nothing inline, nobody's frame.
const policyHeader = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"

// ServeHTTP serves one request below Root.
func (c *Console) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Content-Security-Policy", policyHeader)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Frame-Options", "DENY")
	h.Set("Referrer-Policy", "same-origin")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cache-Control", "no-store")
	c.mux.ServeHTTP(w, r)
}

// Run follows verdicts for the charts until ctx ends.
func (c *Console) Run(ctx context.Context) { c.history.follow(ctx, c) }

func (c *Console) routes() {
	c.mux.HandleFunc("GET "+Root+"static/{version}/{name}", c.static.serve)
	c.open("GET", "login", (*visit).loginPage)
	c.open("POST", "login", (*visit).login)
	c.open("POST", "theme", (*visit).setTheme)
	c.post("logout", (*visit).logout)
	c.get("{$}", (*visit).dashboard)
	c.get("live", (*visit).live)
	c.groupRoutes()
	c.balancerRoutes()
	c.instanceRoutes()
	c.get("verdicts", (*visit).verdicts)
	c.get("verdicts/explain", (*visit).explainVerdict)
	c.get("docs", (*visit).docsIndex)
	c.get("docs/{name}", (*visit).docsPage)
	c.get("", (*visit).notFound)
}

func (c *Console) groupRoutes() {
	c.get("sg", (*visit).groupList)
	c.both("sg/new", (*visit).newGroup)
	c.both("sg/{id}/edit", (*visit).editGroup)
	c.both("sg/{id}/clone", (*visit).cloneGroup)
	c.both("sg/{id}/delete", (*visit).deleteGroup)
	c.get("sg/{id}", (*visit).rulePage)
	c.both("sg/{id}/rules/add", (*visit).addRules)
	c.both("sg/{id}/rules/edit", (*visit).editRule)
	c.post("sg/{id}/rules/delete", (*visit).deleteRules)
	c.post("sg/{id}/rules/order", (*visit).orderRules)
	c.both("sg/{id}/rules/open", (*visit).openPorts)
	c.both("sg/{id}/rules/import", (*visit).importRules)
	c.get("sg/{id}/rules/export.csv", (*visit).exportRules)
	c.get("sg/{id}/associations", (*visit).associations)
	c.both("sg/{id}/associations/add", (*visit).associate)
	c.post("sg/{id}/associations/remove", (*visit).dissociate)
}

func (c *Console) balancerRoutes() {
	c.get("clb", (*visit).balancerList)
	c.both("clb/new", (*visit).newBalancer)
	c.both("clb/{id}/edit", (*visit).editBalancer)
	c.both("clb/{id}/delete", (*visit).deleteBalancer)
	c.both("clb/{id}/return", (*visit).returnPath)
	c.both("clb/{id}/keep", (*visit).keepOfBalancer)
	c.both("cvm/{id}/keep", (*visit).keepOfInstance)
	c.both("clb/{id}/eip", (*visit).bindEIP)
	c.both("clb/{id}/eip/unbind", (*visit).unbindEIP)
	c.get("clb/{id}", (*visit).balancerBasic)
	c.get("clb/{id}/listeners", (*visit).balancerListeners)
	c.get("clb/{id}/security", (*visit).balancerSecurity)
	c.get("clb/{id}/picture", (*visit).balancerPicture)
	c.both("clb/{id}/security/bind", (*visit).bindBalancer)
	c.post("clb/{id}/security/order", (*visit).orderBalancer)
	c.both("clb/{id}/security/pass", (*visit).passToTarget)
	c.both("clb/{id}/listeners/new", (*visit).newListener)
	c.both("clb/{id}/listeners/{listener}/delete", (*visit).deleteListener)
	c.both("clb/{id}/listeners/{listener}/rules/new", (*visit).newLocation)
	c.both("clb/{id}/listeners/{listener}/rules/{location}/delete", (*visit).deleteLocation)
	c.both("clb/{id}/listeners/{listener}/check", (*visit).editCheck)
	c.both("clb/{id}/listeners/{listener}/targets/add", (*visit).addTargets)
	c.both("clb/{id}/listeners/{listener}/targets/edit", (*visit).editTarget)
	c.both("clb/{id}/listeners/{listener}/targets/remove", (*visit).removeTarget)
}

func (c *Console) instanceRoutes() {
	c.get("cvm", (*visit).instanceList)
	c.both("cvm/new", (*visit).newInstance)
	c.get("cvm/{id}", (*visit).instanceBasic)
	c.get("cvm/{id}/security", (*visit).instanceSecurity)
	c.both("cvm/{id}/security/bind", (*visit).bindInstance)
	c.post("cvm/{id}/security/order", (*visit).orderInstance)
}
