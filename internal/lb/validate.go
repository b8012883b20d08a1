// SPDX-License-Identifier: Apache-2.0

package lb

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// MaxDescription is the most characters a policy rule's description has.
const MaxDescription = 100

// Validate reports the first fault of a policy rule as an *Error whose Field
// begins with field, such as "Ingress[1].". It does not know whether the
// group and templates that it names exist.
func (r PolicyRule) Validate(field string) error {
	switch {
	case r.Action != Accept && r.Action != Drop:
		return Refuse(Missing, field+"Action", "no action is given", "use ACCEPT or DROP")
	case len(r.Ports) > 0 && !r.Proto.HasPorts():
		return Refuse(Invalid, field+"Port", fmt.Sprintf("%v has no ports", r.Proto), `use "ALL", or protocol TCP or UDP`)
	case r.Service != "" && (r.Proto != AnyProto || len(r.Ports) > 0):
		return Refuse(Coexist, field+"ServiceTemplate", "a rule takes protocol and ports from one place, this has both", "give Protocol and Port, or ServiceTemplate")
	case r.peers() > 1:
		return Refuse(Coexist, field+"SecurityGroupId", "a rule has one peer, this has several", "give one of CidrBlock, Ipv6CidrBlock, SecurityGroupId, AddressTemplate")
	case r.peers() == 0:
		return Refuse(Missing, field+"CidrBlock", "no peer is given", "give one of CidrBlock, Ipv6CidrBlock, SecurityGroupId, AddressTemplate")
	case r.Peer != r.Peer.Masked():
		return Refuse(Invalid, field+"CidrBlock", fmt.Sprintf("%v has host bits set", r.Peer), fmt.Sprintf("did you mean %v?", r.Peer.Masked()))
	case r.Proto == ICMP && r.Peer.Addr().Is6():
		return Refuse(Invalid, field+"Protocol", "ICMP does not go with Ipv6CidrBlock", "use ICMPv6")
	case r.Proto == ICMPv6 && r.Peer.IsValid() && r.Peer.Addr().Is4():
		return Refuse(Invalid, field+"Protocol", "ICMPv6 does not go with CidrBlock", "use ICMP")
	case utf8.RuneCountInString(r.Description) > MaxDescription:
		return Refuse(TooLong, field+"PolicyDescription", fmt.Sprintf("longer than %d characters", MaxDescription), "shorten it")
	}
	for _, p := range r.Ports {
		if p.First > p.Last {
			return Refuse(Range, field+"Port", fmt.Sprintf("%v is backwards", p), "write the lower port first")
		}
	}
	return nil
}

// peers counts what the rule names as its peer.
func (r PolicyRule) peers() int {
	n := 0
	for _, given := range []bool{r.Peer.IsValid(), r.PeerGroup != "", r.PeerTemplate != ""} {
		if given {
			n++
		}
	}
	return n
}

// ValidateDomain checks the domain of a layer-7 rule: 1–80 characters, exact
// or with one wildcard, "*.example.com" or "www.example.*". An IPv4 address is
// a domain too. Regular expressions are Unsupported.
func ValidateDomain(field, domain string) error {
	const charset = "abcdefghijklmnopqrstuvwxyz0123456789.-_*"
	switch {
	case domain == "":
		return Refuse(Missing, field, "no domain is given", "give a domain of 1 to 80 characters")
	case strings.HasPrefix(domain, "~"):
		return Refuse(Unsupported, field, "domains as regular expressions (~) are not served", `use an exact domain, "*.example.com" or "www.example.*"`)
	case len(domain) > 80:
		return Refuse(TooLong, field, "longer than 80 characters", "shorten it")
	case strings.HasPrefix(domain, "_"):
		return Refuse(Invalid, field, fmt.Sprintf("%q begins with _", domain), "begin with a letter or digit")
	case strings.IndexFunc(domain, outside(charset)) >= 0:
		return Refuse(Invalid, field, fmt.Sprintf("%q has characters that domains do not have", domain), "use a-z 0-9 . - _ (lower case)")
	}
	bare := domain
	if rest, ok := strings.CutPrefix(bare, "*."); ok {
		bare = rest
	} else if rest, ok := strings.CutSuffix(bare, ".*"); ok {
		bare = rest
	}
	if strings.Contains(bare, "*") {
		return Refuse(Invalid, field, fmt.Sprintf("%q has a wildcard where none can be", domain), `one * may stand for the first or last label: "*.example.com", "www.example.*"`)
	}
	for label := range strings.SplitSeq(bare, ".") {
		if label == "" {
			return Refuse(Invalid, field, fmt.Sprintf("%q has an empty label", domain), "remove the dot")
		}
	}
	return nil
}

// ValidateURL checks the URL of a layer-7 rule: a prefix of 1–200 characters
// that begins with /. Modifiers (=, ^~, ~, ~*) are Unsupported.
func ValidateURL(field, url string) error {
	const charset = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_/=?:"
	for _, modifier := range []string{"~*", "~", "^~", "="} {
		if strings.HasPrefix(url, modifier) {
			return Refuse(Unsupported, field, fmt.Sprintf("the URL modifier %s is not served", modifier), "give a plain prefix that begins with /")
		}
	}
	switch {
	case url == "":
		return Refuse(Missing, field, "no URL is given", "/ matches everything")
	case len(url) > 200:
		return Refuse(TooLong, field, "longer than 200 characters", "shorten it")
	case url[0] != '/':
		return Refuse(Invalid, field, fmt.Sprintf("%q does not begin with /", url), fmt.Sprintf("did you mean %q?", "/"+url))
	case strings.IndexFunc(url, outside(charset)) >= 0:
		return Refuse(Invalid, field, fmt.Sprintf("%q has characters that URLs do not have", url), "use a-z A-Z 0-9 . - _ / = ? :")
	}
	return nil
}

func outside(charset string) func(rune) bool {
	return func(c rune) bool { return !strings.ContainsRune(charset, c) }
}
