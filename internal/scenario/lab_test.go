// SPDX-License-Identifier: Apache-2.0

package scenario

import (
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// Every story on real packets, once for each form of the gateway and each
// return path, each time in one lab; those that need a server of their own in one more.
func TestLab(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: the lab makes network namespaces")
	}
	binaries := t.TempDir()
	build := exec.Command("go", "build", "-o", binaries+"/", "./cmd/sallyport", "./cmd/sallyport-node")
	build.Dir = "../.."
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	byServer := map[string][]*Script{} // by the flags that their server needs
	for _, s := range scripts(t) {
		flags := strings.Join(s.Server, " ")
		byServer[flags] = append(byServer[flags], s)
	}
	for attach, returns := range map[string]string{"tc": "", "xdp": "gateway"} { // the return path may be either with each
		var stories []*Script
		for _, s := range byServer[""] {
			told := *s
			told.Return = returns
			stories = append(stories, &told)
		}
		t.Run(attach, func(t *testing.T) { labStories(t, binaries, stories, "--attach", attach) })
	}
	// Tunnels and control streams by IPv6, for flows of either family.
	t.Run("IPv6 underlay", func(t *testing.T) {
		some := slices.DeleteFunc(slices.Clone(byServer[""]), func(s *Script) bool { return !s.IPv6() && s.Name != "seed-28-example.txtar" })
		labStories(t, binaries, some, "--underlay", "ipv6")
	})
	for flags, own := range byServer {
		if flags != "" {
			t.Run(flags, func(t *testing.T) { labStories(t, binaries, own, own[0].Server...) })
		}
	}
}

func labStories(t *testing.T, binaries string, stories []*Script, flags ...string) {
	lab, err := StartLab(t.Context(), binaries+"/sallyport", t.TempDir(), flags...)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := lab.Close(); err != nil {
			t.Error(err)
		}
	}()
	// Stories mostly wait for silence, so some run at the same time, each on
	// instances of its own.
	stages := make(chan struct{}, 7)
	var count Count
	defer func() { t.Logf("lab, %v: %v", flags, count) }()
	t.Run("stories", func(t *testing.T) {
		for _, s := range stories {
			count.Add(s, "lab")
			t.Run(strings.TrimSuffix(s.Name, ".txtar"), func(t *testing.T) {
				t.Parallel()
				stages <- struct{}{}
				defer func() { <-stages }()
				stage := lab.Stage()
				defer stage.Leave()
				if err := Run(t.Context(), stage, "lab", s); err != nil {
					t.Error(err)
				}
			})
		}
	})
}

func TestEventText(t *testing.T) {
	tests := []struct {
		event event
		want  string
	}{
		{event{Gate: "clb", Action: "ACCEPT", Reason: "rule", SecurityGroupId: "sg-a", PolicyPosition: 2, Direction: "in"}, "accept clb sg-a rule 2"},
		{event{Gate: "cvm", Action: "DROP", Reason: "no_match", Direction: "out"}, "drop cvm out no_match"},
		{event{Gate: "cvm", Action: "accept", Reason: "pass_to_target"}, "accept cvm pass_to_target"},
	}
	for _, tt := range tests {
		if got := tt.event.text(); got != tt.want {
			t.Errorf("text = %q, want %q", got, tt.want)
		}
	}
}

// Which verdicts belong to an attempt decides what a story can assert.
func TestAbout(t *testing.T) {
	client, vip, web := clients()["client-1"], clients()["client-2"], clients()["client-3"]
	layer4 := attempt{Send: Send{From: Host{Address: client}, To: vip, Port: 80, Listener: "lbl-1"}, port: 20001}
	layer7 := layer4
	layer7.Layer7 = true
	cut := layer4
	cut.UDP, cut.Cut = true, true
	ping := attempt{Send: Send{From: Host{Address: client}, To: web, ICMP: true}, port: 20001}
	tests := []struct {
		name    string
		attempt attempt
		event   event
		want    bool
	}{
		{"own port", layer4, event{Gate: "clb", Source: "203.0.113.10:20001"}, true},
		{"other port", layer4, event{Gate: "clb", Source: "203.0.113.10:20002"}, false},
		{"other client", layer4, event{Gate: "clb", Source: "198.51.100.20:20001"}, false},
		{"gate 2 behind layer 4", layer4, event{Gate: "cvm", Source: "203.0.113.10:20001", ListenerId: "lbl-1"}, true},
		{"gate 1 before layer 7", layer7, event{Gate: "clb", Source: "203.0.113.10:20002", ListenerId: "lbl-1"}, false},
		{"gate 2 behind layer 7", layer7, event{Gate: "cvm", Source: "203.0.113.10:41000", ListenerId: "lbl-1"}, true},
		{"another listener's gate 2", layer7, event{Gate: "cvm", Source: "203.0.113.10:41000", ListenerId: "lbl-2"}, false},
		{"ping", ping, event{Gate: "cvm", Protocol: "ICMP", Source: "203.0.113.10", Destination: "203.0.113.30"}, true},
		{"a fragment", cut, event{Gate: "clb", Reason: "fragment", Protocol: "UDP", Source: "203.0.113.10:0", Destination: "198.51.100.20:0"}, true},
		{"a fragment of a whole one", layer4, event{Gate: "clb", Reason: "fragment", Protocol: "UDP", Source: "203.0.113.10:0", Destination: "198.51.100.20:0"}, false},
		{"a fragment to another", cut, event{Gate: "cvm", Reason: "fragment", Protocol: "UDP", Source: "203.0.113.10:0", Destination: "203.0.113.30:0"}, false},
		{"ping of another", ping, event{Gate: "cvm", Protocol: "ICMP", Source: "203.0.113.10", Destination: "198.51.100.20"}, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := tt.attempt.about(tt.event); got != tt.want {
				t.Errorf("about = %v, want %v", got, tt.want)
			}
		})
	}
}

func TestChecksum(t *testing.T) {
	if got := checksum([]byte{8, 0, 0, 0, 0x12, 0x34, 0, 1}); got != 0xe5ca {
		t.Errorf("checksum = %#x, want 0xe5ca", got)
	}
}
