// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// on runs a command against a server and returns exit code and both outputs.
func (c connection) on(t *testing.T, args ...string) (int, string, string) {
	t.Helper()
	var out, errs bytes.Buffer
	args = append(args, "--endpoint", c.Endpoint, "--secret-id", c.SecretID, "--secret-key", c.SecretKey)
	code := run(t.Context(), args, &out, &errs)
	return code, out.String(), errs.String()
}

const shopYAML = `# the shop
SecurityGroups:
- GroupName: front
  Ingress:
  - {Action: ACCEPT, Protocol: TCP, Port: 80, CidrBlock: 203.0.113.0/24}
LoadBalancers:
- LoadBalancerName: shop
  SecurityGroups: [front]
  Listeners:
  - {Protocol: TCP, Port: 80, ListenerName: web}
`

// Files applied to one server, exported, applied to an empty one and exported
// again are the same bytes; a fault names file, line and column and changes
// nothing.
// The page's example is one that a server takes, and its export applies to itself.
func TestFilesPage(t *testing.T) {
	page, err := os.ReadFile("../../docs/files.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(page), "```yaml\n")
	example, _, ok := strings.Cut(rest, "```")
	if !ok {
		t.Fatal("no example")
	}
	file := filepath.Join(t.TempDir(), "shop.yaml")
	if err := os.WriteFile(file, []byte(example), 0o600); err != nil {
		t.Fatal(err)
	}
	server, _ := startServer(t, "--listen", "127.0.0.1:0", "--vip-pool", "192.0.2.0/26", "--data", t.TempDir())
	if code, out, errs := server.on(t, "apply", "-f", file); code != 0 || !strings.Contains(out, "to create") {
		t.Fatalf("exit %d, %s%s", code, out, errs)
	}
	conf := filepath.Join(t.TempDir(), "conf")
	if code, _, errs := server.on(t, "export", "-o", conf); code != 0 {
		t.Fatal(errs)
	}
	if code, out, errs := server.on(t, "apply", "-f", conf, "--dry-run", "--prune"); code != 0 || !strings.HasPrefix(out, "nothing to do") {
		t.Errorf("exit %d, %s%s", code, out, errs)
	}
}

func TestExportAndApply(t *testing.T) {
	pool := []string{"--listen", "127.0.0.1:0", "--vip-pool", "192.0.2.0/26"}
	first, _ := startServer(t, append(pool, "--data", t.TempDir())...)
	dir := t.TempDir()
	file := filepath.Join(dir, "shop.yaml")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(shopYAML)
	code, out, errs := first.on(t, "apply", "-f", dir, "--dry-run")
	if want := "+ create SecurityGroup front  [" + file + ":3:3]\n+ create LoadBalancer  shop  [" + file + ":7:3]\n" +
		"+ create Listener      TCP:80 of shop  [" + file + ":10:5]\n3 to create; a dry run, nothing was written\n"; code != 0 || out != want {
		t.Errorf("dry run: exit %d, %s\n%s", code, errs, cmp.Diff(want, out))
	}
	if _, out, _ := first.on(t, "export"); strings.Contains(out, "front") {
		t.Error("the dry run wrote")
	}
	if code, out, errs := first.on(t, "apply", "-f", dir); code != 0 || !strings.Contains(out, "3 to create; written as revision 2") {
		t.Fatalf("apply: exit %d, %s%s", code, out, errs)
	}
	if code, out, _ := first.on(t, "apply", "-f", dir); code != 0 || out != "nothing to do: revision 2 says the same\n" {
		t.Errorf("again: exit %d, %s", code, out)
	}
	_, exported, _ := first.on(t, "export")

	for _, tc := range []struct{ name, text, want string }{
		{"unknown field", strings.Replace(shopYAML, "Port: 80, Cidr", "Prt: 80, Cidr", 1), file + `:5:37: "Prt" is not known here`},
		{"refused by the server", strings.Replace(shopYAML, "203.0.113.0/24", "203.0.113.1/33", 1), file + ":5:58: InvalidParameterValue: SecurityGroups.0.Ingress.0.CidrBlock: "},
		{"late fault", strings.Replace(shopYAML, "Port: 80, Lis", "Port: 70000, Lis", 1) + "    Targets: []\n", file + ":"},
	} {
		write(tc.text)
		if code, _, errs := first.on(t, "apply", "-f", file); code != exitError || !strings.Contains(errs, tc.want) {
			t.Errorf("%s: exit %d, %s; want %s", tc.name, code, errs, tc.want)
		}
	}
	// All that the server refuses is told, in the order of the file, and what depends on it.
	write(strings.NewReplacer("203.0.113.0/24", "203.0.113.1/33", "[front]", "[front, nowhere]").Replace(shopYAML))
	for _, args := range [][]string{{"apply", "-f", file}, {"apply", "-f", file, "--dry-run"}} {
		_, _, errs := first.on(t, args...)
		var lines []string
		for line := range strings.Lines(errs) {
			place, rest, _ := strings.Cut(strings.TrimPrefix(strings.TrimSpace(line), "sallyport: "), ": ")
			code, _, _ := strings.Cut(rest, ":")
			lines = append(lines, strings.TrimPrefix(place, file)+" "+code)
		}
		if want := []string{":5:58 InvalidParameterValue", ":8:27 ResourceNotFound", ":10:3 FailedOperation", "nothing was changed "}; !cmp.Equal(lines, want) {
			t.Errorf("%s: %s", errs, cmp.Diff(want, lines))
		}
	}
	if _, now, _ := first.on(t, "export"); now != exported {
		t.Errorf("a refused file changed something:\n%s", cmp.Diff(exported, now))
	}

	second, _ := startServer(t, append(pool, "--data", t.TempDir())...)
	files := filepath.Join(t.TempDir(), "conf")
	if code, _, errs := first.on(t, "export", "-o", files); code != 0 {
		t.Fatal(errs)
	}
	if code, _, errs := first.on(t, "export", "-o", files); code != exitError || !strings.Contains(errs, "--force overwrites it") {
		t.Errorf("a second export: exit %d, %s", code, errs)
	}
	if code, _, errs := second.on(t, "apply", "-f", files); code != 0 {
		t.Fatalf("apply to an empty server: %s", errs)
	}
	if _, now, _ := second.on(t, "export"); now != exported {
		t.Errorf("the empty server turned out different:\n%s", cmp.Diff(exported, now))
	}
	if code, _, errs := first.on(t, "apply"); code != exitUsage || !strings.Contains(errs, "-f FILE") {
		t.Errorf("without -f: exit %d, %s", code, errs)
	}
}
