// SPDX-License-Identifier: Apache-2.0

package main

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/sallyport/sallyport/internal/cloudapi"
	"github.com/sallyport/sallyport/internal/store"
)

// The addresses that guides name lead to the console, and API requests to the
// bare address stay API requests.
//
// Covers: SEED-64
func TestConsoleAddresses(t *testing.T) {
	s := &server{}
	api := cloudapi.New(cloudapi.Options{Store: store.NewMemory(), Region: "local"})
	if err := s.openConsole(api, "local"); err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	s.serveConsole(mux, api)
	mux.Handle("/", api)
	for path, want := range map[string]string{"/": "/console/", "/console": "/console/", "/cvm/securitygroup": "/console/sg", "/vpc/securitygroup": "/console/sg"} {
		w := httptest.NewRecorder()
		mux.ServeHTTP(w, httptest.NewRequest("GET", path, nil))
		if w.Code != http.StatusFound || w.Header().Get("Location") != want {
			t.Errorf("%s answers %d to %q, want a way to %s", path, w.Code, w.Header().Get("Location"), want)
		}
	}
	for _, r := range []*http.Request{httptest.NewRequest("GET", "/?Action=DescribeVpcs", nil), httptest.NewRequest("POST", "/", nil)} {
		w := httptest.NewRecorder()
		mux.ServeHTTP(w, r)
		if kind := w.Header().Get("Content-Type"); w.Code != http.StatusOK || kind != "application/json" {
			t.Errorf("%s %s answers %d %s, want the API", r.Method, r.URL, w.Code, kind)
		}
	}
	w := httptest.NewRecorder()
	mux.ServeHTTP(w, httptest.NewRequest("GET", "/console/", nil))
	if w.Code != http.StatusUnauthorized {
		t.Errorf("the console answers %d to strangers", w.Code)
	}
}
