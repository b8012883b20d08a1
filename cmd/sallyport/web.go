// SPDX-License-Identifier: Apache-2.0

package main

import (
	"net/http"

	"github.com/sallyport/sallyport/docs"
	"github.com/sallyport/sallyport/internal/cloudapi"
	"github.com/sallyport/sallyport/internal/console"
)

// openConsole makes the web console over the API.
func (s *server) openConsole(api *cloudapi.Server, region string) (err error) {
	s.console, err = console.New(console.Options{API: api, Keys: api, Region: region, Docs: docs.Pages(), Logger: s.log, Ending: s.ending})
	return err
}

// serveConsole puts the console beside the API. The addresses of the security
// group module that guides name lead to it, and so does the bare address,
// unless what comes there is a request to the API.
func (s *server) serveConsole(mux *http.ServeMux, api http.Handler) {
	mux.Handle(console.Root, s.console)
	for from, to := range map[string]string{"/console": "", "/cvm/securitygroup": "sg", "/vpc/securitygroup": "sg"} {
		mux.Handle("GET "+from, http.RedirectHandler(console.Root+to, http.StatusFound))
	}
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, r *http.Request) {
		if r.URL.RawQuery != "" || r.Header.Get("Authorization") != "" || r.Header.Get("X-TC-Action") != "" {
			api.ServeHTTP(w, r)
			return
		}
		http.Redirect(w, r, console.Root, http.StatusFound)
	})
}
