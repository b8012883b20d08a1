// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/sallyport/sallyport/internal/cloudapi"
)

// auditLine is what a line of the audit log is read as for people.
type auditLine struct {
	Number                   uint64
	Time                     string
	SecretID                 string `json:"SecretId"`
	KeyName, Role, Address   string
	Action, Outcome, Message string
	Revision                 uint64
	Changes                  []auditChange
}

type auditChange struct {
	Kind, ID      string
	Before, After json.RawMessage
}

type auditPage struct {
	Lines        []json.RawMessage
	Next, Newest uint64
	More         bool
}

// auditFlags are what the command asks for.
type auditFlags struct {
	follow, json                                 bool
	limit                                        int
	since, until                                 string
	key, action, object, revision, outcome, addr string
}

func newAuditCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "audit",
		Short:   "Show who changed what: one line for each write and each refused one",
		Example: "  sallyport audit --object sg-1a2b3c4d\n  sallyport audit --follow --json",
		Args:    cobra.NoArgs,
	}
	conn := connects(cmd)
	var o auditFlags
	f := cmd.Flags()
	f.BoolVar(&o.follow, "follow", false, "go on with new lines as they come")
	f.BoolVar(&o.json, "json", false, "one JSON object a line, with parameters and what was before and after")
	f.IntVar(&o.limit, "limit", 100, "how many lines, the newest; 0: all")
	f.StringVar(&o.since, "since", "", "only from this time on, such as \"2026-11-23 08:00:00\" in UTC, or so long ago, such as 2h")
	f.StringVar(&o.until, "until", "", "only before this time")
	f.StringVar(&o.key, "key", "", "only by the key of this id")
	f.StringVar(&o.action, "action", "", "only this action")
	f.StringVar(&o.object, "object", "", "only what changed the object of this id")
	f.StringVar(&o.revision, "revision", "", "only of this revision")
	f.StringVar(&o.outcome, "outcome", "", "only done or refused")
	f.StringVar(&o.addr, "address", "", "only from this address")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if o.limit < 0 {
			return usageError{errors.New("--limit is not negative")}
		}
		client, err := conn.client()
		if err != nil {
			return err
		}
		ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGINT, syscall.SIGTERM)
		defer stop()
		err = o.show(ctx, cmd, client)
		if ctx.Err() != nil {
			return nil
		}
		return err
	}
	return cmd
}

// query is the part of the question that stays the same from page to page.
func (o auditFlags) query(now time.Time) map[string]any {
	in := map[string]any{"Limit": 100}
	for name, text := range map[string]string{"StartTime": o.since, "EndTime": o.until} {
		if ago, err := time.ParseDuration(text); err == nil {
			text = now.UTC().Add(-ago).Format(time.RFC3339)
		}
		if text != "" {
			in[name] = text
		}
	}
	filters := []map[string]any{}
	for _, f := range []struct{ name, value string }{{"secret-id", o.key}, {"action", o.action}, {"object-id", o.object},
		{"revision", o.revision}, {"outcome", o.outcome}, {"address", o.addr}} {
		if f.value != "" {
			filters = append(filters, map[string]any{"Name": f.name, "Values": []string{f.value}})
		}
	}
	in["Filters"] = filters
	return in
}

func (o auditFlags) show(ctx context.Context, cmd *cobra.Command, client *cloudapi.Client) error {
	in := o.query(time.Now())
	lines, newest, err := o.newest(ctx, client, in)
	if err != nil {
		return err
	}
	for _, raw := range lines {
		if err := o.print(cmd, raw); err != nil {
			return err
		}
	}
	if !o.follow {
		return nil
	}
	in["WaitSeconds"], in["After"] = 20, newest
	for {
		var page auditPage
		err := client.Do(ctx, ownService, ownVersion, "DescribeAuditLog", in, &page)
		var refused *cloudapi.Error
		switch {
		case errors.As(err, &refused), ctx.Err() != nil:
			return err
		case err != nil: // the server is being restarted
			if err := pauseFor(ctx, 200*time.Millisecond); err != nil {
				return err
			}
			continue
		}
		for _, raw := range page.Lines {
			if err := o.print(cmd, raw); err != nil {
				return err
			}
		}
		in["After"] = page.Next
	}
}

// newest reads the newest lines that are asked for, the oldest of them first,
// and says which number the log's newest line had at the first look.
func (o auditFlags) newest(ctx context.Context, client *cloudapi.Client, in map[string]any) ([]json.RawMessage, uint64, error) {
	var lines []json.RawMessage
	var newest uint64
	ask := map[string]any{}
	for name, value := range in {
		ask[name] = value
	}
	for {
		var page auditPage
		if err := client.Do(ctx, ownService, ownVersion, "DescribeAuditLog", ask, &page); err != nil {
			return nil, 0, err
		}
		newest = cmp.Or(newest, page.Newest)
		lines = append(lines, page.Lines...)
		if o.limit > 0 && len(lines) >= o.limit {
			lines = lines[:o.limit]
			break
		}
		if !page.More {
			break
		}
		ask["Before"] = page.Next
	}
	slices.Reverse(lines)
	return lines, newest, nil
}

func (o auditFlags) print(cmd *cobra.Command, raw json.RawMessage) error {
	text := string(raw)
	if !o.json {
		var l auditLine
		if err := json.Unmarshal(raw, &l); err != nil {
			return err
		}
		text = l.String()
	}
	_, err := fmt.Fprintln(cmd.OutOrStdout(), text)
	return err
}

// String is the line for people: who did what to what, and when.
func (l auditLine) String() string {
	who := "the server"
	if l.SecretID != "" {
		who = l.SecretID
		if l.KeyName != "" {
			who = l.KeyName + " (" + l.SecretID + ")"
		}
		who = l.Role + " " + who
	}
	if l.Address != "" {
		who += " from " + l.Address
	}
	var what []string
	for _, c := range l.Changes {
		word := "changed"
		switch {
		case c.Before == nil && c.After != nil:
			word = "made"
		case c.Before != nil && c.After == nil:
			word = "deleted"
		}
		what = append(what, word+" "+c.Kind+" "+c.ID)
	}
	effect := strings.Join(what, ", ")
	if effect == "" {
		effect = cmp.Or(l.Message, "changed nothing")
	}
	if l.Outcome == "refused" {
		effect = "refused: " + l.Message
	}
	at, _, _ := strings.Cut(l.Time, ".")
	return fmt.Sprintf("%s  revision %d  %s  %s  %s", strings.TrimSuffix(at, "Z"), l.Revision, who, cmp.Or(l.Action, "-"), effect)
}
