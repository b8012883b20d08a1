// SPDX-License-Identifier: Apache-2.0

package cloudapi

import (
	"slices"
	"strings"

	"pgregory.net/rapid"
)

// one draws one of the ids there are, of those there were, or none there is.
func (w *world) one(what string, there []string, prefix string) string {
	slices.Sort(there)
	never := prefix + "00000000"
	all := slices.Repeat(there, 12) // likelier than the others
	for _, id := range w.gone {
		if strings.HasPrefix(id, prefix) {
			all = append(all, id)
			break
		}
	}
	return rapid.SampledFrom(append(all, never)).Draw(w.T, what)
}

func (w *world) group() string    { return w.one("group", keysOf(w.groups), "sg-") }
func (w *world) clb() string      { return w.one("clb", keysOf(w.clbs), "lb-") }
func (w *world) instance() string { return w.one("instance", keysOf(w.model.instances), "ins-") }
func (w *world) direction() string {
	return rapid.SampledFrom([]string{"Ingress", "Egress"}).Draw(w.T, "direction")
}
func (w *world) somePort() int64 {
	return rapid.SampledFrom([]int64{80, 81, 82, 443, 80, 81, 82, 443, 80, 80, 443, 443, 0, 65536}).Draw(w.T, "port")
}
func (w *world) targetPort() int64 {
	return rapid.SampledFrom([]int64{8080, 8080, 8080, 8080, 8080, 8081, 8081, 8081, 8081, 8081, 8081, 0}).Draw(w.T, "target port")
}
func (w *world) weight() int64 {
	return rapid.SampledFrom([]int64{0, 0, 10, 10, 10, 100, 100, 100, 100, 100, 100, 101, -1}).Draw(w.T, "weight")
}
func (w *world) chance() bool { return rapid.Bool().Draw(w.T, "chance") }
func (w *world) listenerOf() (clb, id string) {
	id = w.one("listener", keysOf(w.listeners), "lbl-")
	clb = w.clb()
	if l := w.listeners[id]; l != nil && rapid.IntRange(0, 9).Draw(w.T, "right") > 0 {
		clb = l.clb
	}
	return clb, id
}

func keysOf[V any](m map[string]V) []string { return sortedKeys(m) }

func (w *world) vpc() string    { return w.one("vpc", keysOf(w.vpcs), "vpc-") }
func (w *world) subnet() string { return w.one("subnet", keysOf(w.subnets), "subnet-") }
func (w *world) pool() string   { return w.one("target group", keysOf(w.pools), "lbtg-") }
func (w *world) cert() string   { return w.one("certificate", keysOf(w.certs), "cert-") }

// template draws one of a kind, which is the prefix of its id.
func (w *world) template(kind string) string {
	return w.one("template", w.kindOf(keysOf(w.templates), kind), kind)
}

// network draws a VPC that a load balancer or target group is to be in: mostly
// the default one, which is "".
func (w *world) network() string {
	if len(w.vpcs) == 0 || rapid.IntRange(0, 2).Draw(w.T, "network") > 0 {
		return ""
	}
	return w.vpc()
}

func (w *world) project() int64 {
	return rapid.SampledFrom([]int64{0, 0, scoped, scoped, -1}).Draw(w.T, "project")
}

// index draws a place in a list of so many, its end, or one beyond.
func (w *world) index(n int) int64 {
	places := []int64{0}
	for i := range n + 1 {
		places = append(places, int64(i), int64(i))
	}
	return rapid.SampledFrom(append(places, int64(n)+1, -1)).Draw(w.T, "index")
}

// length is how many rules a group has in a direction.
func (w *world) length(group, dir string) int {
	if g := w.groups[group]; g != nil {
		return len(g.rules[dir])
	}
	return 0
}

// location draws a rule of an HTTP listener, and mostly none for others.
func (w *world) location(listener string) string {
	l := w.listeners[listener]
	if wrong := rapid.IntRange(0, 9).Draw(w.T, "wrong") == 0; l != nil && l.layer7() != wrong {
		return w.one("location", keysOf(l.rules), "loc-")
	}
	return ""
}

// someCert draws a certificate as calls name it, and how it is written.
func (w *world) someCert() (givenCert, map[string]any) {
	if w.chance() {
		id := w.cert()
		return givenCert{id: id}, map[string]any{"SSLMode": "UNIDIRECTIONAL", "CertId": id}
	}
	inline := rapid.SampledFrom([]string{"", "good", "good", "partial", "another's key", "broken"}).Draw(w.T, "paper")
	if inline == "" {
		return givenCert{}, map[string]any{}
	}
	paper := w.papers[inline]
	return givenCert{inline: inline}, map[string]any{"CertName": inline, "CertContent": paper.chain, "CertKey": paper.key}
}
