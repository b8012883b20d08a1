// SPDX-License-Identifier: Apache-2.0

package scenario

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// An OutcomeError says that something was served, refused, alive or dead that
// should not have been. Every other error is about how a story is told.
type OutcomeError struct {
	Line      int
	Want, Got string
}

// Error names the line with both outcomes.
func (e *OutcomeError) Error() string { return fmt.Sprintf("want %s, got %s", e.Want, e.Got) }

// Run plays the script on the engine and takes away what it made. The error
// names file, line and the act, and joins all faults of a block of sends.
func Run(ctx context.Context, e Engine, engine string, s *Script) error {
	return play(ctx, e, engine, s, nil)
}

// Sharp plays the script once without each decisive rule; a play that comes
// out the same means that the rule decides nothing.
func Sharp(ctx context.Context, e Engine, engine string, s *Script) error {
	for _, d := range s.Decisive {
		err := play(ctx, e, engine, s, &d)
		if outcome := (*OutcomeError)(nil); errors.As(err, &outcome) {
			continue
		}
		if err != nil {
			return fmt.Errorf("without %v: %w", d, err)
		}
		return fmt.Errorf("%s: comes out the same without %v", s.Name, d)
	}
	return nil
}

func play(ctx context.Context, e Engine, engine string, s *Script, without *Decisive) (err error) {
	w, err := newWorld(ctx, e, s, without)
	if w != nil {
		defer func() { err = errors.Join(err, w.close(ctx)) }()
	}
	if err != nil {
		return fmt.Errorf("%s: %w", s.Name, err)
	}
	lines := slices.DeleteFunc(slices.Clone(s.Lines), func(l Line) bool { return l.Engine != "" && l.Engine != engine })
	for i := 0; i < len(lines); {
		block := i + 1
		for block < len(lines) && isSend(lines[i]) && isSend(lines[block]) {
			block++
		}
		if err := w.act(ctx, lines[i:block]); err != nil {
			return err
		}
		i = block
	}
	return nil
}

// isSend reports whether a line belongs to a block of sends, which run at the
// same time.
func isSend(l Line) bool { return l.Verb == "send" || l.Verb == "verdict" }

// act runs one line, or one block of sends with their verdicts.
func (w *world) act(ctx context.Context, lines []Line) error {
	if isSend(lines[0]) {
		return w.sends(ctx, lines)
	}
	l := lines[0]
	acts := map[string]func(context.Context, []string) error{
		"apply": w.apply, "bind": w.bind, "listen": w.listen, "switch": w.switchOn, "shows": w.shows, "health": w.health, "log": w.log,
		"balancer": w.makeBalancer, "members": w.members, "redirect": w.redirect,
		"template": w.template, "insert": w.insert, "targets": w.targets, "choice": w.choice, "keep-flows": w.keepFlows,
		"spread": w.spread, "open": w.openFlow, "still": w.still,
	}
	acts["refuses"] = func(ctx context.Context, args []string) error {
		act := acts[args[1]]
		if act == nil {
			return fmt.Errorf("write %s", verbs["refuses"].usage)
		}
		return refused(act(ctx, args[2:]), args[0])
	}
	if w.without != nil && (l.Verb == "shows" || l.Verb == "log") {
		return nil // of a story told wrongly only the outcomes count
	}
	if err := acts[l.Verb](ctx, l.Args); err != nil {
		if outcome := (*OutcomeError)(nil); errors.As(err, &outcome) {
			outcome.Line = l.Number
		}
		return w.at(l, err)
	}
	return nil
}

// refused is nil when an act ended with the API's error code.
func refused(err error, code string) error {
	if err == nil {
		return fmt.Errorf("the API did it")
	}
	if !strings.Contains(err.Error(), code+": ") {
		return fmt.Errorf("the API refuses it otherwise: %w", err)
	}
	return nil
}

func (w *world) at(l Line, err error) error {
	return fmt.Errorf("%s:%d: %v: %w", w.script.Name, l.Number, l, err)
}

// sends runs a block: sends, each followed by the verdicts it must cause.
func (w *world) sends(ctx context.Context, lines []Line) error {
	var sends []Send
	for _, l := range lines {
		if l.Verb == "send" {
			s, err := w.send(l)
			if err != nil {
				return w.at(l, err)
			}
			sends = append(sends, s)
			continue
		}
		if len(sends) == 0 {
			return w.at(l, fmt.Errorf("a verdict follows its send"))
		}
		wanted, err := w.wanted(l.Args)
		if err != nil {
			return w.at(l, err)
		}
		last := &sends[len(sends)-1]
		last.Wanted = append(last.Wanted, wanted)
	}
	if err := w.engine.Settle(ctx); err != nil {
		return w.at(lines[0], err)
	}
	results, err := w.engine.Send(ctx, sends)
	if err != nil {
		return w.at(lines[0], err)
	}
	var faults []error
	for i, s := range sends {
		faults = append(faults, w.judge(s, results[i])...)
	}
	return errors.Join(faults...)
}

// judge compares what became of a send with what the story says.
func (w *world) judge(s Send, r Result) []error {
	got := "refused"
	switch {
	case r.Fault != "":
		got = "neither: " + r.Fault
	case r.Redirected:
		got = "redirected"
	case r.Served:
		got = "served"
		w.warm[warmKey(s)] = w.warm[warmKey(s)] || s.Layer7
	}
	if want := s.Line.Args[3]; got != want {
		seen := strings.Join(w.named(r.Verdicts), ", ")
		return []error{w.at(s.Line, &OutcomeError{s.Line.Number, want, fmt.Sprintf("%s (%s; verdicts: %s)", got, r.Detail, seen)})}
	}
	if w.without != nil {
		return nil
	}
	var faults []error
	for _, wanted := range s.Wanted {
		if s.Warm && strings.HasPrefix(wanted, "accept cvm ") {
			continue // told when the flow was opened
		}
		if !slices.Contains(r.Verdicts, wanted) {
			faults = append(faults, w.at(s.Line, fmt.Errorf("no verdict %s\n got %s", w.named([]string{wanted})[0], strings.Join(w.named(r.Verdicts), ", "))))
		}
	}
	for _, got := range r.Verdicts {
		if !slices.Contains(s.Wanted, got) {
			faults = append(faults, w.at(s.Line, fmt.Errorf("nobody expected verdict %s", w.named([]string{got})[0])))
		}
	}
	return faults
}

func warmKey(s Send) string { return fmt.Sprintf("%s %d", s.From.Name, s.Port) }

// systemGroup stands where verdicts of system rules have no group.
const systemGroup = "system"

// named puts the names of groups where verdicts have ids.
func (w *world) named(verdicts []string) []string {
	var out []string
	for _, v := range verdicts {
		words := strings.Fields(v)
		for i, word := range words {
			if name := w.names[word]; name != "" {
				words[i] = name
			}
		}
		out = append(out, strings.Join(words, " "))
	}
	return out
}

// wanted is a verdict line's text with the group's id for its name.
func (w *world) wanted(args []string) (string, error) {
	words := slices.Clone(args)
	if n := len(words); n >= 5 && words[n-2] == "rule" && words[n-3] != systemGroup {
		id, ok := w.groups[words[n-3]]
		if !ok {
			return "", fmt.Errorf("no group %s", words[n-3])
		}
		words[n-3] = id
	}
	return strings.Join(words, " "), nil
}

// send reads "send FROM -> TO:PORT/tcp served".
func (w *world) send(l Line) (Send, error) {
	from, err := w.host(l.Args[0])
	if err != nil {
		return Send{}, err
	}
	where, proto, _ := strings.Cut(l.Args[2], "/")
	name, portText, hasPort := strings.Cut(where, ":")
	to, known := w.address(name)
	if l.Args[1] != "->" || !known || hasPort != (proto != "icmp") || proto != "tcp" && proto != "udp" && proto != "udp-cut" && proto != "icmp" {
		return Send{}, fmt.Errorf("write %s", verbs["send"].usage)
	}
	if from, err = w.sameFamily(from, to); err != nil {
		return Send{}, err
	}
	s := Send{Line: l, From: from, To: to, ICMP: proto == "icmp", UDP: proto == "udp" || proto == "udp-cut", Cut: proto == "udp-cut"}
	if hasPort {
		port, err := strconv.ParseUint(portText, 10, 16)
		if err != nil {
			return Send{}, fmt.Errorf("port %q", portText)
		}
		s.Port = uint16(port)
	}
	if name == "vip" || name == "eip" {
		l, _ := w.listenerAt(s.Port, s.UDP)
		s.Balancer, s.Listener, s.Layer7 = w.balancer, l.id, l.layer7
		s.Warm = w.warm[warmKey(s)]
		if i, ok := w.instances[from.Name]; ok && w.private && name == "vip" && !to.Is6() {
			s.From.Address = i.Private
		}
	} else if s.Target, err = w.host(name); err != nil {
		return Send{}, err
	}
	return s, nil
}

func (w *world) health(ctx context.Context, args []string) error {
	name, port, err := target(args[0])
	if err != nil {
		return err
	}
	want := Health{Balancer: w.balancer, Instance: w.instances[name], Port: port, State: args[1]}
	if len(args) == 3 {
		want.Kind = args[2]
	}
	if err := w.engine.Settle(ctx); err != nil {
		return err
	}
	got, err := w.engine.Health(ctx, want)
	if err != nil {
		return err
	}
	if got.State != want.State {
		return &OutcomeError{Want: want.State, Got: got.State}
	}
	if want.Kind != "" && got.Kind != want.Kind && w.without == nil {
		return fmt.Errorf("it is dead by %q, not by %q", got.Kind, want.Kind)
	}
	return nil
}

func (w *world) log(ctx context.Context, args []string) error {
	from, known := w.address(args[3])
	port, err := strconv.ParseUint(args[1], 10, 16)
	i, ok := w.instances[args[0]]
	if !known || !ok || err != nil || args[2] != "from" {
		return fmt.Errorf("write %s", verbs["log"].usage)
	}
	found, err := w.engine.Logged(ctx, i, uint16(port), from)
	if err == nil && !found {
		err = fmt.Errorf("%s logged nothing on %d from %v", i.Name, port, from)
	}
	return err
}

// target reads INSTANCE:PORT.
func target(text string) (string, uint16, error) {
	name, portText, _ := strings.Cut(text, ":")
	port, err := strconv.ParseUint(portText, 10, 16)
	if err != nil || port == 0 {
		return "", 0, fmt.Errorf("%q is no INSTANCE:PORT", text)
	}
	return name, uint16(port), nil
}

// peer is a rule's peer as the API takes it: a name of the story stands for
// its address, and a name of a group or template for that.
func (w *world) peer(text string) (field string, value any) {
	if t, ok := w.templates[text]; ok {
		return t.named()
	}
	if a, ok := w.address(text); ok {
		return cidrField(a), netip.PrefixFrom(a, a.BitLen()).String()
	}
	if id, ok := w.groups[text]; ok {
		w.nested = true
		return "SecurityGroupId", id
	}
	if p, err := netip.ParsePrefix(text); err == nil {
		return cidrField(p.Addr()), text
	}
	return "CidrBlock", text
}
