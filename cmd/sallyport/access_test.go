// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sallyport/sallyport/internal/cloudapi"
)

// use makes the commands talk to a server.
func (c connection) use(t *testing.T) {
	t.Setenv("SALLYPORT_ENDPOINT", c.Endpoint)
	t.Setenv("SALLYPORT_SECRET_ID", c.SecretID)
	t.Setenv("SALLYPORT_SECRET_KEY", c.SecretKey)
}

// command runs one command of this program.
func command(t *testing.T, args ...string) (code int, out, errs string) {
	t.Helper()
	var o, e bytes.Buffer
	code = run(t.Context(), args, &o, &e)
	return code, o.String(), e.String()
}

// The commands of docs/access.md work as they stand there, and what they print
// is what the page says.
func TestAccessPage(t *testing.T) {
	page, err := os.ReadFile("../../docs/access.md")
	if err != nil {
		t.Fatal(err)
	}
	server, stop := startServer(t, "--data", t.TempDir(), "--listen", "127.0.0.1:0")
	server.use(t)
	var outputs []string
	id, secrets := "", []string{server.SecretKey}
	for line := range strings.Lines(string(page)) {
		text, ok := strings.CutPrefix(strings.TrimSpace(line), "sallyport ")
		if !ok || !strings.HasPrefix(line, "    ") {
			continue
		}
		code, out, errs := command(t, strings.Fields(strings.ReplaceAll(text, " ID", " "+id))...)
		if code != 0 {
			t.Fatalf("%s: exit %d, %s", text, code, errs)
		}
		for l := range strings.Lines(out) {
			if got, ok := strings.CutPrefix(l, "SALLYPORT_SECRET_ID="); ok {
				id = strings.TrimSpace(got)
			}
			if got, ok := strings.CutPrefix(l, "SALLYPORT_SECRET_KEY="); ok {
				secrets = append(secrets, strings.TrimSpace(got))
			}
		}
		outputs = append(outputs, out)
	}
	if len(outputs) != 9 || len(secrets) != 5 {
		t.Fatalf("%d commands and %d secrets were found on the page", len(outputs), len(secrets))
	}
	for i, want := range map[int][]string{
		2: {"ci", "operator", "7", "night-watch", "auditor", "admin.json", "active"},
		6: {"CreateAccessKey", "made key " + id, "admin admin.json (" + server.SecretID + ") from 127.0.0.1", "RevokeAccessKey", "changed key"},
	} {
		for _, part := range want {
			if !strings.Contains(outputs[i], part) {
				t.Errorf("command %d printed no %q:\n%s", i, part, outputs[i])
			}
		}
	}
	_, log := stop()
	for _, secret := range secrets {
		if strings.Contains(log, secret) {
			t.Error("the server's log holds a secret")
		}
		if strings.Contains(strings.Join(outputs[6:], ""), secret) || strings.Contains(outputs[2], secret) {
			t.Error("a secret was printed twice")
		}
	}
}

// What the commands about keys and the audit log refuse, and how.
func TestKeyCommands(t *testing.T) {
	server, _ := startServer(t, "--data", t.TempDir(), "--listen", "127.0.0.1:0")
	server.use(t)
	var made newKey
	code, out, errs := command(t, "key", "create", "--name", "made", "--role", "auditor", "--json")
	if err := json.Unmarshal([]byte(out), &made); code != 0 || err != nil || made.SecretKey == "" {
		t.Fatalf("exit %d: %s%s", code, out, errs)
	}
	for _, row := range []struct {
		args string
		code int
		says string
	}{
		{"key create --name ci", 2, "--role"},
		{"key create --role admin", 2, "--name"},
		{"key create --name x --role king", 1, "king"},
		{"key create --name x --role operator --project=", 2, "--project"}, // not a key for all
		{"key create --name x --role operator --project=7,", 2, "--project"},
		{"key create --name x --role operator --project=7 --project=", 2, "--project"},
		{"key create --name x --role operator --project=web", 1, "Projects.0"},
		{"node token --role host --instance=", 2, "--instance"}, // not a token for a new instance
		{"key rotate", 2, "usage"},
		{"key rotate AKIDNONE", 1, "AKIDNONE"},
		{"key rotate X --overlap 1ms", 2, "whole seconds"},
		{"key revoke " + server.SecretID, 1, "last admin key"},
		{"key ls --json", 0, ""},
		{"key ls --all", 0, ""},
		{"audit --limit -1", 2, "--limit"},
		{"audit --since noon", 1, "StartTime"},
		{"audit --limit 1 --json", 0, ""},
	} {
		code, _, errs := command(t, strings.Fields(row.args)...)
		if code != row.code || !strings.Contains(errs, row.says) {
			t.Errorf("%s: exit %d, %q; want %d and %q", row.args, code, errs, row.code, row.says)
		}
	}
	t.Setenv("SALLYPORT_SECRET_ID", made.SecretID)
	t.Setenv("SALLYPORT_SECRET_KEY", made.SecretKey)
	if code, _, errs := command(t, "key", "create", "--name", "x", "--role", "admin"); code != 1 || !strings.Contains(errs, "UnauthorizedOperation") {
		t.Errorf("an auditor made a key: exit %d, %s", code, errs)
	}
	if code, out, errs := command(t, "audit", "--outcome", "refused"); code != 0 || !strings.Contains(out, "refused: the role auditor") {
		t.Errorf("the refusal is not in the log: exit %d, %s%s", code, out, errs)
	}
}

// `audit --follow` shows a line as it comes.
func TestAuditCommandFollows(t *testing.T) {
	server, _ := startServer(t, "--data", t.TempDir(), "--listen", "127.0.0.1:0")
	server.use(t)
	cmd := newRoot()
	cmd.SetArgs([]string{"audit", "--follow"})
	lines := make(chan string, 100)
	cmd.SetOut(writerFunc(func(p []byte) { lines <- string(p) }))
	ended := make(chan error, 1)
	go func() { ended <- cmd.ExecuteContext(t.Context()) }()
	if err := server.call(t, "CreateSecurityGroup", map[string]string{"GroupName": "web", "GroupDescription": "d"}); err != nil {
		t.Fatal(err)
	}
	for {
		select {
		case line := <-lines:
			if strings.Contains(line, "CreateSecurityGroup") && strings.Contains(line, "made group sg-") {
				return
			}
		case err := <-ended:
			t.Fatalf("it ended: %v", err)
		case <-time.After(30 * time.Second):
			t.Fatal("no line came")
		}
	}
}

type writerFunc func(p []byte)

func (f writerFunc) Write(p []byte) (int, error) { f(p); return len(p), nil }

// The key file: made at the first start, needed at every other one.
func TestSecretKeyFile(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "secret.key")
	server, stop := startServer(t, "--data", dir, "--listen", "127.0.0.1:0")
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("the key file: %v, %v", info, err)
	}
	stop()
	right, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	stored := stored(t, dir)
	if bytes.Contains(stored, []byte(server.SecretKey)) || bytes.Contains(stored, bytes.TrimSpace(right)) {
		t.Error("the database holds a secret in plain")
	}
	refused := func(what, want string, args ...string) {
		t.Helper()
		code, _, errs := command(t, append([]string{"server", "--data", dir, "--listen", "127.0.0.1:0", "--node-listen", "127.0.0.1:0", "--record", ""}, args...)...)
		if code != 1 || !strings.Contains(errs, want) {
			t.Errorf("%s: exit %d, %s; want %q", what, code, errs, want)
		}
	}
	elsewhere := filepath.Join(t.TempDir(), "key")
	if err := os.Rename(file, elsewhere); err != nil {
		t.Fatal(err)
	}
	refused("missing", "is missing")
	write := func(text string, mode os.FileMode) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(file, mode); err != nil {
			t.Fatal(err)
		}
	}
	write(strings.Repeat("A", 43)+"=", 0o600)
	refused("another one", "does not open the access keys and certificates in the store")
	write("short", 0o600)
	refused("damaged", "damaged")
	write("QUJD", 0o600)
	refused("too short", "damaged")
	write(string(right), 0o644)
	refused("open to others", "chmod 600")
	again, stop := startServer(t, "--data", dir, "--listen", "127.0.0.1:0", "--secret-key-file", elsewhere)
	if err := again.call(t, "DescribeSecurityGroups", nil); err != nil || again.SecretKey != server.SecretKey {
		t.Errorf("with the file elsewhere: %v", err)
	}
	stop()
}

// stored is everything in the database's files.
func stored(t *testing.T, dir string) []byte {
	t.Helper()
	var all []byte
	err := filepath.WalkDir(filepath.Join(dir, "etcd"), func(path string, d os.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() || d.Name() == "reserve" {
			return err
		}
		raw, err := os.ReadFile(path)
		all = append(all, raw...)
		return err
	})
	if err != nil || len(all) == 0 {
		t.Fatalf("%d bytes, %v", len(all), err)
	}
	return all
}

// The server's own key can be rotated: its files follow, and the next start
// takes what holds.
func TestAdminKeyRotates(t *testing.T) {
	dir := t.TempDir()
	record := filepath.Join(t.TempDir(), "server.json")
	old, stop := startServer(t, "--data", dir, "--listen", "127.0.0.1:0", "--record", record)
	client := &cloudapi.Client{Endpoint: old.Endpoint, SecretID: old.SecretID, SecretKey: old.SecretKey}
	var made newKey
	if err := client.Do(t.Context(), ownService, ownVersion, "RotateAccessKey", map[string]any{"SecretId": old.SecretID, "OverlapSeconds": 0}, &made); err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{record, filepath.Join(dir, "admin.json")} {
		for deadline := time.Now().Add(10 * time.Second); ; {
			raw, err := os.ReadFile(file)
			if err == nil && strings.Contains(string(raw), made.SecretKey) {
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("%s does not follow: %s", file, raw)
			}
			time.Sleep(10 * time.Millisecond) // until the condition above
		}
	}
	stop()
	again, _ := startServer(t, "--data", dir, "--listen", "127.0.0.1:0")
	if again.SecretKey != made.SecretKey {
		t.Error("the next start has another key")
	}
	if err := again.call(t, "DescribeSecurityGroups", nil); err != nil {
		t.Error(err)
	}
}

// A client that sends its head slowly, or a head without end, is cut off.
func TestSlowAndEndlessHeads(t *testing.T) {
	server, _ := startServer(t, "--data", t.TempDir(), "--listen", "127.0.0.1:0")
	r, err := http.NewRequest(http.MethodPost, server.Endpoint, strings.NewReader("{}"))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("X-Long", strings.Repeat("x", 2*maxHead))
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	answer.Body.Close()
	if answer.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
		t.Errorf("a head of %d bytes answers %d", 2*maxHead, answer.StatusCode)
	}
	web := webServer(nil)
	if web.ReadHeaderTimeout <= 0 || web.ReadTimeout <= 0 || web.WriteTimeout <= 0 || web.IdleTimeout <= 0 || web.MaxHeaderBytes <= 0 {
		t.Errorf("a timeout is missing: %+v", web)
	}
}

func TestAccessFlags(t *testing.T) {
	for _, row := range []struct{ args, says string }{
		{"--rate-reads -1", "not negative"}, {"--rate-writes NaN", "not negative"}, {"--audit-retention 1s", "too short"}, {"--audit-lines 5", "too few"},
	} {
		code, _, errs := command(t, append([]string{"server", "--data", t.TempDir()}, strings.Fields(row.args)...)...)
		if code != exitUsage || !strings.Contains(errs, row.says) {
			t.Errorf("%s: exit %d, %s", row.args, code, errs)
		}
	}
}
