// SPDX-License-Identifier: Apache-2.0

package cloudapi

import (
	"bytes"
	"crypto/sha256"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sallyport/sallyport/internal/control"
	"github.com/sallyport/sallyport/internal/lb"
)

// serveTLS serves a bench over HTTPS as the server does with --tls. It returns
// HOST:PORT and a file with the CA's certificate.
func serveTLS(t *testing.T, b *bench) (address, caFile string) {
	t.Helper()
	c, err := control.New(control.Options{Store: b.Store, DataDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	config, err := c.ListenerTLS(nil)
	if err != nil {
		t.Fatal(err)
	}
	web := httptest.NewUnstartedServer(b)
	web.Config.ErrorLog = log.New(io.Discard, "", 0)     // some clients here refuse us, which it would tell
	web.Listener = tls.NewListener(web.Listener, config) // StartTLS would add a certificate of its own
	web.Start()
	t.Cleanup(web.Close)
	caFile = filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(caFile, c.CACertificate(), 0o600); err != nil {
		t.Fatal(err)
	}
	return web.Listener.Addr().String(), caFile
}

// nodeSDKFolder is where the SDK of the lock file is or will be installed.
func nodeSDKFolder() (string, error) {
	lock, err := os.ReadFile("testdata/node/package-lock.json")
	if err != nil {
		return "", err
	}
	root, err := os.UserCacheDir()
	if err != nil { // no home
		root = os.TempDir()
	}
	return filepath.Join(root, "sallyport-test", fmt.Sprintf("node-sdk-%x", sha256.Sum256(lock))[:25]), nil
}

// nodeSDK installs the official Node SDK at the versions of the lock file,
// once per lock file and machine, and returns the folder of node_modules.
func nodeSDK(t *testing.T) string {
	t.Helper()
	for _, program := range []string{"node", "npm"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("%s is not installed (Debian: apt-get install nodejs npm)", program)
		}
	}
	dir, err := nodeSDKFolder()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(dir); err == nil {
		return dir
	}
	root := filepath.Dir(dir)
	if err := os.MkdirAll(root, 0o755); err != nil {
		t.Fatal(err)
	}
	fresh, err := os.MkdirTemp(root, "installing-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(fresh)
	if err := os.CopyFS(fresh, os.DirFS("testdata/node")); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	npm := exec.CommandContext(t.Context(), "npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts")
	npm.Dir = fresh
	if out, err := npm.CombinedOutput(); err != nil {
		t.Fatalf("npm ci: %v\n%s", err, out)
	}
	t.Logf("installed the Node SDK in %.1f s", time.Since(began).Seconds())
	// Another test process may have been faster; both have the same.
	if err := os.Rename(fresh, dir); err != nil && !errors.Is(err, fs.ErrExist) && !strings.Contains(err.Error(), "not empty") {
		t.Fatal(err)
	}
	return dir
}

// The document's example by the official Node SDK over TLS, in each way that
// it can sign and send.
func TestNodeSDKRunsTheExample(t *testing.T) {
	dir := nodeSDK(t)
	for _, way := range [][2]string{{"TC3-HMAC-SHA256", "POST"}, {"TC3-HMAC-SHA256", "GET"}, {"HmacSHA256", "POST"}, {"HmacSHA1", "GET"}} {
		t.Run(way[0]+" "+way[1], func(t *testing.T) {
			t.Parallel()
			b := newBench(t)
			address, ca := serveTLS(t, b)
			node := exec.CommandContext(t.Context(), "node", "testdata/node/example.js", dir, address, way[0], way[1])
			node.Env = append(slices.DeleteFunc(os.Environ(), func(v string) bool {
				name, _, _ := strings.Cut(strings.ToLower(v), "=")
				return strings.HasSuffix(name, "_proxy") // the server is here
			}), "NODE_EXTRA_CA_CERTS="+ca, "SECRET_ID="+vectorID, "SECRET_KEY="+vectorKey)
			var out, errs bytes.Buffer
			node.Stdout, node.Stderr = &out, &errs
			if err := node.Run(); err != nil {
				t.Fatalf("%v\n%s%s\n%s", err, out.String(), errs.String(), b.log)
			}
			var made struct {
				CLB       lb.BalancerID   `json:"clb"`
				Instances []lb.InstanceID `json:"instances"`
				Checked   int             `json:"checked"`
			}
			if err := json.Unmarshal(out.Bytes(), &made); err != nil || len(made.Instances) != 2 {
				t.Fatalf("%s: %v", out.String(), err)
			}
			t.Logf("%d answers checked against the SDK's models", made.Checked)
			(&sdk{bench: b}).gatesJudge(made.CLB, made.Instances[0])
		})
	}
}

// A client that does not trust our CA does not talk to us.
func TestNodeSDKNeedsTheCA(t *testing.T) {
	dir := nodeSDK(t)
	address, _ := serveTLS(t, newBench(t))
	node := exec.CommandContext(t.Context(), "node", "testdata/node/example.js", dir, address, "TC3-HMAC-SHA256", "POST")
	node.Env = append(os.Environ(), "NODE_EXTRA_CA_CERTS=", "SECRET_ID="+vectorID, "SECRET_KEY="+vectorKey)
	if out, err := node.CombinedOutput(); err == nil || !strings.Contains(string(out), "certificate") {
		t.Errorf("%v\n%s", err, out)
	}
}
