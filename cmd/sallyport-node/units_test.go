// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// The units run the README's commands, come back for ever, keep their secrets
// to themselves, and systemd understands all of them.
func TestUnits(t *testing.T) {
	all := steps(t, "On your own machines")
	server, _, _ := strings.Cut(only(t, all, "server", "^sallyport server"), " --vip-pool")
	dir := t.TempDir()
	for _, program := range []string{"sallyport", "sallyport-node"} { // systemd looks whether they are there
		if err := os.WriteFile(filepath.Join(dir, program), nil, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	var files []string
	for name, start := range map[string]string{
		"sallyport.service":      server + " $SALLYPORT_FLAGS",
		"sallyport-node.service": only(t, all, "gateway", "^sallyport-node run"),
	} {
		raw, err := os.ReadFile(filepath.Join("../../dist/systemd", name))
		if err != nil {
			t.Fatal(err)
		}
		unit := string(raw)
		for _, line := range []string{"ExecStart=/usr/local/bin/" + start, "Restart=always", "NoNewPrivileges=yes", "UMask=0077", "StateDirectoryMode=0700",
			"ProtectSystem=strict", "ProtectHome=yes", "WantedBy=multi-user.target"} {
			if !strings.Contains(unit, "\n"+line+"\n") {
				t.Errorf("%s lacks %s", name, line)
			}
		}
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, []byte(strings.ReplaceAll(unit, "/usr/local/bin/", dir+"/")), 0o644); err != nil {
			t.Fatal(err)
		}
		files = append(files, file)
	}
	if _, err := exec.LookPath("systemd-analyze"); err != nil {
		t.Skip("skipped in part: this machine has no systemd-analyze, so systemd was not asked")
	}
	cmd := exec.Command("systemd-analyze", append([]string{"verify", "--man=no"}, files...)...)
	out, err := cmd.CombinedOutput()
	var own []string // what it says about this machine's own units is not ours
	for line := range strings.Lines(string(out)) {
		if strings.Contains(line, "sallyport") {
			own = append(own, line)
		}
	}
	if len(own) > 0 || err != nil && len(out) == 0 {
		t.Errorf("systemd-analyze verify: %v\n%s", err, strings.Join(own, ""))
	}
}
