// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"fmt"
	"maps"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/sallyport/sallyport/internal/lb"
)

// What a load may cost: a node that starts leaves its gates shut for as long.
const (
	maxVerified = 700_000 // instructions that the verifier may walk; it gives up at a million
	maxOpening  = 5 * time.Second
)

// Every program passes the verifier with every combination of the settings that
// the verifier can see, since they decide which code is left.
func TestEveryVariantPassesTheVerifier(t *testing.T) {
	w := newQuiet(t)
	on := []bool{false, true}
	variants := map[string]Options{}
	for _, a := range on {
		for _, b := range on {
			variants[fmt.Sprintf("gateway, proxied %v, ARP %v", a, b)] = Options{Node: "gateway-1", Role: lb.RoleGateway, Proxied: a, ARP: b}
			o := Options{Node: "ins-1", Role: lb.RoleHost, Observe: a}
			if b {
				o.Control = netip.MustParseAddrPort("192.0.2.250:7781")
			}
			variants[fmt.Sprintf("host, observing %v, control %v", a, b)] = o
		}
	}
	// Where fragments pass there is more to walk.
	variants["jumbo gateway"] = Options{Node: "gateway-1", Role: lb.RoleGateway}
	variants["jumbo host"] = Options{Node: "ins-1", Role: lb.RoleHost}
	variants["host, upgraded, observing, control"] = Options{Node: "ins-1", Role: lb.RoleHost, Observe: true, Control: netip.MustParseAddrPort("192.0.2.250:7781")}
	for _, name := range slices.Sorted(maps.Keys(variants)) {
		o := variants[name]
		if strings.HasPrefix(name, "jumbo") {
			w.in(quietName(), "ip", "link", "set", "eth0", "mtu", "9000")
		}
		o.Address, o.Buckets = netip.MustParseAddr(gwAddr), 1024
		delete(w.dirs, quietName())
		if strings.Contains(name, "upgraded") {
			w.open(quietName(), o).Close()
			pinFormer(t, filepath.Join(w.dirs[quietName()], "pins")).Close()
		}
		began := spent(t)
		d := w.open(quietName(), o)
		took := spent(t) - began
		programs := map[string]*ebpf.Program{}
		for program := range d.unloaded.Programs {
			programs[program] = d.loaded(t, program)
		}
		if o.Role == lb.RoleHost {
			for _, h := range hostHooks {
				p, err := d.loadBare(h.program)
				if err != nil {
					t.Fatal(err)
				}
				programs[h.program+bareSuffix] = p
			}
		}
		for _, program := range slices.Sorted(maps.Keys(programs)) {
			info, err := programs[program].Info()
			if err != nil {
				t.Fatal(err)
			}
			walked, _ := info.VerifiedInstructions()
			t.Logf("%-38s %-12s %6d instructions walked, opened in %v of CPU time", name, program, walked, took.Round(time.Millisecond))
			if walked > maxVerified {
				t.Errorf("%s, %s: the verifier walks %d instructions", name, program, walked)
			}
		}
		if took > maxOpening {
			t.Errorf("%s: opened in %v of CPU time", name, took)
		}
		d.Close()
	}
}

// spent is the CPU time of this process.
func spent(t *testing.T) time.Duration {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
