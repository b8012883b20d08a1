// SPDX-License-Identifier: Apache-2.0

package snapshot

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/sallyport/sallyport/internal/lb"
	"github.com/sallyport/sallyport/internal/policy"
)

// encode is Encode; what cannot be encoded fails the test.
func encode(t testing.TB, s *Snapshot) (Manifest, map[policy.Hash][]byte) {
	t.Helper()
	m, blobs, err := Encode(s)
	if err != nil {
		t.Fatal(err)
	}
	return m, blobs
}

// randomState is a state in which everything that is named exists.
func randomState(t *rapid.T) *lb.State {
	n := func(most int, what string) int { return rapid.IntRange(0, most).Draw(t, what) }
	s := demo()
	s.Revision = lb.Revision(n(1<<30, "revision"))
	host := func(i int) lb.InstanceID { return lb.InstanceID(fmt.Sprintf("ins-%02d", i)) }
	hosts := n(5, "instances")
	for i := range hosts {
		id := host(i)
		s.Instances.Put(id, &lb.Instance{ID: id, Private: netip.AddrFrom4([4]byte{10, 200, 1, byte(i)}), Groups: []lb.GroupID{"sg-cvm", "sg-clb"}[:1+n(1, "groups")]})
		s.Nodes.Put(lb.NodeID(id), &lb.Node{ID: lb.NodeID(id), Num: uint32(100 + i), Role: lb.RoleHost, Instance: id, Address: netip.AddrFrom4([4]byte{192, 0, 2, byte(150 + i)})})
	}
	num := uint32(1000)
	for i := range n(4, "listeners") {
		l := &lb.Listener{ID: lb.ListenerID(fmt.Sprintf("lbl-%02d", i)), Num: uint32(200 + i), Balancer: []lb.BalancerID{"lb-1", "lb-2"}[n(1, "balancer")],
			Protocol: []lb.ListenerProtocol{lb.ListenTCP, lb.ListenHTTP}[n(1, "protocol")], Port: uint16(1 + n(65534, "port"))}
		var targets []lb.Target
		for j := range hosts {
			num++
			targets = append(targets, lb.Target{Num: num, Instance: host(j), Port: uint16(1 + n(65534, "service")), Weight: n(100, "weight")})
		}
		check := lb.DefaultCheck(l.Protocol)
		check.SourceIPType = n(1, "source")
		if l.Protocol.Layer7() {
			l.Rules = []lb.Rule{{ID: "loc-1", Domain: rapid.StringMatching(`[a-z<>&"]{1,8}`).Draw(t, "domain"), URL: "/", Check: check, Targets: targets}}
		} else {
			l.Targets, l.Check = targets, check
		}
		s.Listeners.Put(l.ID, l)
	}
	return s
}

func TestRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		state := randomState(t)
		node := rapid.SampledFrom(slices.Sorted(state.Nodes.Keys())).Draw(t, "node")
		s, err := Assemble(state, node, testKeys, policy.Compile)
		if err != nil {
			t.Fatal(err)
		}
		m, blobs, err := Encode(s)
		if err != nil {
			t.Fatal(err)
		}
		text, err := json.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		var read Manifest
		if err := json.Unmarshal(text, &read); err != nil {
			t.Fatal(err)
		}
		got, err := Decode(read, blobs)
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(got, s) {
			t.Fatalf("got  %+v\nwant %+v", got, s)
		}
		again, err := Assemble(state, node, testKeys, policy.Compile)
		if err != nil {
			t.Fatal(err)
		}
		if m2, blobs2, _ := Encode(again); !reflect.DeepEqual(m, m2) || !reflect.DeepEqual(blobs, blobs2) {
			t.Fatal("equal states gave different bytes")
		}
	})
}

// A change costs what it changes.
func TestEncodeSharesBlobs(t *testing.T) {
	state := demo()
	_, before := encode(t, assemble(t, state, "gateway-1"))
	state.Revision++
	state.Listeners.Get("lbl-2").Targets[0].Weight = 50
	_, after := encode(t, assemble(t, state, "gateway-1"))
	fresh := 0
	for hash := range after {
		if before[hash] == nil {
			fresh++
		}
	}
	if fresh != 1 {
		t.Errorf("%d new blobs for one changed listener", fresh)
	}
}

func TestDecodeRefuses(t *testing.T) {
	// rewrite replaces the text of the first blob of a kind and names it anew.
	rewrite := func(kind Kind, change func(string) string) func(*Manifest, map[policy.Hash][]byte) {
		return func(m *Manifest, blobs map[policy.Hash][]byte) {
			for i, r := range m.Refs {
				if r.Kind == kind {
					blob := []byte(change(string(blobs[r.Hash])))
					m.Refs[i].Hash = BlobHash(blob)
					blobs[m.Refs[i].Hash] = blob
					return
				}
			}
			t.Fatalf("no %s", kind)
		}
	}
	swap := func(old, new string) func(string) string {
		return func(s string) string {
			if !strings.Contains(s, old) {
				t.Errorf("no %s in %s", old, s)
			}
			return strings.Replace(s, old, new, 1)
		}
	}
	// repolicy changes a policy and gives it the hash of its new content, as a
	// faulty sender would, and lets whoever named it name the new one.
	repolicy := func(change func(*policy.Compiled)) func(*Manifest, map[policy.Hash][]byte) {
		return func(m *Manifest, blobs map[policy.Hash][]byte) {
			var c policy.Compiled
			if err := json.Unmarshal(blobs[m.Refs[0].Hash], &c); err != nil {
				t.Fatal(err)
			}
			old := c.Hash
			change(&c)
			c.Hash = c.ContentHash()
			blob, _ := json.Marshal(c)
			m.Refs[0].Hash = BlobHash(blob)
			blobs[m.Refs[0].Hash] = blob
			for i, r := range m.Refs {
				if blob := blobs[r.Hash]; r.Kind == KindListener && bytes.Contains(blob, []byte(old)) {
					blob = bytes.ReplaceAll(blob, []byte(old), []byte(c.Hash))
					m.Refs[i].Hash = BlobHash(blob)
					blobs[m.Refs[i].Hash] = blob
				}
			}
		}
	}
	drop := func(kind Kind) func(*Manifest, map[policy.Hash][]byte) {
		return func(m *Manifest, _ map[policy.Hash][]byte) {
			m.Refs = slices.DeleteFunc(m.Refs, func(r Ref) bool { return r.Kind == kind })
		}
	}
	for name, row := range map[string]struct {
		harm func(*Manifest, map[policy.Hash][]byte)
		says string
	}{
		"nothing":          {func(*Manifest, map[policy.Hash][]byte) {}, ""},
		"policy rewritten": {repolicy(func(*policy.Compiled) {}), ""},
		"missing blob":     {func(m *Manifest, b map[policy.Hash][]byte) { delete(b, m.Refs[1].Hash) }, "is missing"},
		"wrong content":    {func(m *Manifest, b map[policy.Hash][]byte) { b[m.Refs[1].Hash] = []byte("{}") }, "is named"},
		"unknown kind":     {func(m *Manifest, _ map[policy.Hash][]byte) { m.Refs[1].Kind = "tunnel" }, "unknown kind"},
		"unknown field":    {rewrite(KindTarget, swap(`{"Num"`, `{"More":1,"Num"`)), "unknown field"},
		"other spelling":   {rewrite(KindTarget, swap(`{"Num"`, `{"num"`)), "one form"},
		"repeated field":   {rewrite(KindTarget, swap(`{"Num"`, `{"Num":1,"Num"`)), "one form"},
		"trailing data":    {rewrite(KindTarget, func(s string) string { return s + "{}" }), "one form"},
		"not JSON":         {rewrite(KindListener, func(string) string { return "\x00" }), "invalid character"},
		"null policy":      {rewrite(KindPolicy, func(string) string { return "null" }), "null"},
		"no peers":         {drop(KindPeers), "0 lists of peers"},
		"no VIP list":      {drop(KindVIPs), "of VIPs"},
		"no policies":      {drop(KindPolicy), "which is not here"},
		"no targets":       {drop(KindTarget), "which is not here"},
		"no listeners":     {func(m *Manifest, b map[policy.Hash][]byte) { drop(KindListener)(m, b); drop(KindFront)(m, b) }, "nothing names policy"},
		"front elsewhere":  {rewrite(KindFront, swap(`"192.0.2.1"`, `"192.0.2.9"`)), "is no VIP"},
		"front twice": {func(m *Manifest, _ map[policy.Hash][]byte) {
			m.Refs = append(m.Refs, m.Refs[slices.IndexFunc(m.Refs, func(r Ref) bool { return r.Kind == KindFront })])
		}, "out of order"},
		"twice":              {func(m *Manifest, _ map[policy.Hash][]byte) { m.Refs = append(m.Refs, m.Refs[1]) }, "after"},
		"policy twice":       {func(m *Manifest, _ map[policy.Hash][]byte) { m.Refs = append(m.Refs, m.Refs[0]) }, "twice"},
		"role":               {func(m *Manifest, _ map[policy.Hash][]byte) { m.Role = "server" }, "not a role"},
		"host's listeners":   {func(m *Manifest, _ map[policy.Hash][]byte) { m.Role = lb.RoleHost }, "host with listeners"},
		"no node":            {func(m *Manifest, _ map[policy.Hash][]byte) { m.Node = "" }, "no node"},
		"weight":             {rewrite(KindListener, swap(`"Weight":100`, `"Weight":101`)), "weight"},
		"target beyond mark": {rewrite(KindTarget, swap(`"Num":41`, `"Num":4278190080`)), "24 bits"},
		"no service":         {rewrite(KindTarget, swap(`"10.200.0.5:8080"`, `""`)), "lacks"},
		"public with zone":   {rewrite(KindTarget, swap(`"Public":"192.0.2.65"`, `"Public":"fe80::1%eth0"`)), "is not an address"},
		"exempt":             {rewrite(KindTarget, swap(`"ProbeExempt":false,"ProbeSource":"192.0.2.1"`, `"ProbeExempt":true,"ProbeSource":""`)), "exempts"},
		"VIP order":          {rewrite(KindVIPs, func(string) string { return `["192.0.2.2","192.0.2.1"]` }), "out of order"},
		"peer order":         {rewrite(KindPeers, swap(`"ins-1"`, `"ins-7"`)), "peer"},
		"policy hash":        {rewrite(KindPolicy, swap(`"Slices":[0`, `"Slices":[1`)), "policy"},
		"no segments":        {repolicy(func(c *policy.Compiled) { c.Segments = nil }), "segments of class 0"},
		"ordinal":            {repolicy(func(c *policy.Compiled) { c.Segments[0].Class = 9 }), "of no class"},
		"source class":       {repolicy(func(c *policy.Compiled) { c.Src4[0].Class = 9 }), "of no class"},
		"slice elsewhere":    {repolicy(func(c *policy.Compiled) { c.Slices[0] = 1 }), "segments of class 0"},
		"v6 class":           {repolicy(func(c *policy.Compiled) { c.Src6[0].Class = 9 }), "of no class"},
		"first start":        {repolicy(func(c *policy.Compiled) { c.Segments[0].Start = 1 }), "start at 0"},
		"no intervals":       {repolicy(func(c *policy.Compiled) { c.Src4 = nil }), "start at 0"},
		"no v6 intervals":    {repolicy(func(c *policy.Compiled) { c.Src6 = nil }), "start at 0"},
		"unsorted":           {repolicy(func(c *policy.Compiled) { c.Segments[1].Start = 0 }), "out of order"},
		"no action":          {repolicy(func(c *policy.Compiled) { c.Rules[0].Action = 0 }), "no action"},
		"no classes":         {repolicy(func(c *policy.Compiled) { c.Slices = nil }), "classes of sources"},
	} {
		t.Run(name, func(t *testing.T) {
			m, blobs := encode(t, assemble(t, demo(), "gateway-1"))
			row.harm(&m, blobs)
			s, err := Decode(m, blobs)
			if row.says == "" {
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			if s != nil || err == nil || !strings.Contains(err.Error(), row.says) {
				t.Errorf("want an error with %q, got %v", row.says, err)
			}
		})
	}
}

// An instance without policies would be open: it must not get through.
func TestDecodeRefusesOpenInstance(t *testing.T) {
	s := assemble(t, demo(), "ins-1")
	s.Instances[0].Ingress = ""
	m, blobs := encode(t, s)
	if got, err := Decode(m, blobs); got != nil || err == nil {
		t.Error("an instance without policy was taken")
	}
}

// FuzzDecode reads lines "kind blob" as a snapshot whose hashes all fit, so
// that chance gets past the names.
func FuzzDecode(f *testing.F) {
	for _, node := range []lb.NodeID{"gateway-1", "ins-1", "ins-9"} {
		m, blobs := encode(f, assemble(f, demo(), node))
		var text bytes.Buffer
		for _, r := range m.Refs {
			fmt.Fprintf(&text, "%s %s\n", r.Kind, blobs[r.Hash])
		}
		f.Add(string(m.Role), text.String())
	}
	f.Add("host", "peers null\nvips null\n")
	f.Add("gateway", "policy {}\nlistener {}\ntarget {}\ninstance {}\npeers []\nvips []\n")
	f.Fuzz(func(t *testing.T, role, text string) {
		m, blobs := Manifest{Node: "n", Role: lb.NodeRole(role)}, make(map[policy.Hash][]byte)
		for line := range strings.Lines(text) {
			kind, blob, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
			hash := BlobHash([]byte(blob))
			m.Refs = append(m.Refs, Ref{Kind(kind), hash})
			blobs[hash] = []byte(blob)
		}
		s, err := Decode(m, blobs)
		if (s == nil) == (err == nil) {
			t.Fatalf("neither all nor nothing: %v", err)
		}
		if err != nil {
			return
		}
		for _, c := range s.Policies {
			for _, a := range []string{"0.0.0.0", "255.255.255.255", "::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"} {
				if n, ok := c.Lookup(addr(a), lb.TCP, 80); ok {
					_ = c.Rules[n]
				}
				c.Lookup(addr(a), 255, 65535)
			}
		}
		if _, again, err := Encode(s); err != nil || len(again) > len(blobs) {
			t.Fatalf("does not encode again: %v", err)
		}
	})
}
