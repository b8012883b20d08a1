// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/sallyport/sallyport/internal/console"
	"github.com/sallyport/sallyport/internal/lab"
)

// announce writes the ready file and tells what runs and what to try. A demo
// that lacks a part the commands need is announced without them.
func (u *upper) announce(ctx context.Context, d *demo, nodes int) error {
	balancers, err := listBalancers(ctx, u.client)
	if err != nil {
		return err
	}
	record := u.lab.Record()
	if err := u.summary(&record, balancers, nodes); err != nil {
		return err
	}
	if d != nil && d.complete() {
		if err := printTries(u.out, d.tries(programName())); err != nil {
			return err
		}
	}
	fmt.Fprintln(u.out, "\nCtrl-C ends the lab and leaves nothing.")
	if u.o.readyFile == "" {
		return nil
	}
	return newReady(&record, u.client, balancers).write(u.o.readyFile)
}

func (u *upper) summary(r *lab.Record, balancers []readyBalancer, nodes int) error {
	var clients, instances []string
	for _, h := range r.Hosts {
		switch h.Role {
		case lab.RoleClient:
			clients = append(clients, fmt.Sprintf("%s %s", h.Name, joined(h.Addresses)))
		case lab.RoleInstance:
			instances = append(instances, fmt.Sprintf("%s %s", h.Title, joined(h.Addresses)))
		}
	}
	fmt.Fprintf(u.out, "The lab is up after %.1f s, %s ready.\n\n", time.Since(u.began).Seconds(), count(nodes, "node"))
	for _, b := range balancers {
		fmt.Fprintf(u.out, "  VIP          %s  (load balancer %q, %s)\n", strings.Join(b.VIPs, " "), b.Name, b.ID)
	}
	fmt.Fprintf(u.out, "  API          %s  (region %s)\n", r.API, r.Region)
	fmt.Fprintf(u.out, "  console      %s%s\n", r.API, console.Root)
	fmt.Fprintf(u.out, "  credentials  %s\n", lab.ServerRecord)
	if u.o.transport.secure() {
		fmt.Fprintf(u.out, "  CA           %s\n", lab.ServerCA)
	}
	fmt.Fprintf(u.out, "  clients      %s\n", strings.Join(clients, ", "))
	if len(instances) > 0 {
		fmt.Fprintf(u.out, "  instances    %s\n", strings.Join(instances, ", "))
	}
	_, err := fmt.Fprintf(u.out, "  logs         %s\n", filepath.Join(r.DataDir, "logs"))
	return err
}

// A try is a command worth trying, and what it shows.
type try struct{ shows, command string }

func printTries(out io.Writer, tries []try) error {
	fmt.Fprintf(out, "\nFive commands to try in another terminal, in this order:\n")
	for i, t := range tries {
		if _, err := fmt.Fprintf(out, "\n# %d. %s\n%s\n", i+1, t.shows, t.command); err != nil {
			return err
		}
	}
	return nil
}

func (d *demo) complete() bool {
	return d.vip != "" && d.clbGroup != "" && d.cvmGroup != "" && d.web.PublicAddress != ""
}

// The network of client-2 alone; the other clients are elsewhere.
const clientTwoNetwork = "198.51.100.0/24"

// tries are the five commands, each of which may be pasted as it is, and again.
func (d *demo) tries(program string) []try {
	get := func(from, address string) string {
		return fmt.Sprintf("%s lab get --from %s http://%s/", program, from, address)
	}
	change := func(action, group string, rule map[string]any) string {
		// Map keys are sorted, so the line is the same every time.
		params, _ := json.Marshal(map[string]any{
			"SecurityGroupId": group, "SecurityGroupPolicySet": map[string]any{"Ingress": []any{rule}},
		})
		return fmt.Sprintf("%s call --wait vpc %s '%s'", program, action, params)
	}
	refusal := func() map[string]any {
		return map[string]any{"Action": "DROP", "Protocol": "TCP", "Port": "80", "CidrBlock": clientTwoNetwork}
	}
	first := refusal()
	first["PolicyIndex"] = 0
	opening := map[string]any{"Action": "ACCEPT", "Protocol": "TCP", "Port": "8081", "CidrBlock": "0.0.0.0/0"}
	direct := d.web.PublicAddress + ":8081"
	return []try{
		{"Served: both gates let client-1 through to port 8080, and the backend sees client-1's own address (\"peer\").",
			get("client-1", d.vip)},
		{"Refused by gate 1: a DROP for client-2's network goes to the top of " + clbGroupName + ", and client-2 gets silence.",
			change("CreateSecurityGroupPolicies", d.clbGroup, first) + "; " + get("client-2", d.vip)},
		{"Refused by gate 2: " + cvmGroupName + " has no rule for port 8081, so " + d.web.InstanceName + "'s own address is silent there.",
			get("client-1", direct)},
		{"Gate 1 turns: without that DROP client-2 is served again.",
			change("DeleteSecurityGroupPolicies", d.clbGroup, refusal()) + "; " + get("client-2", d.vip)},
		{"Gate 2 turns: with an ACCEPT for 8081 in " + cvmGroupName + " the request of number 3 is served.",
			change("CreateSecurityGroupPolicies", d.cvmGroup, opening) + "; " + get("client-1", direct)},
	}
}

// programName is how this program is called in a pasted line: short if it is
// below the current directory, by sudo if `up` was.
func programName() string {
	name, err := os.Executable()
	if err != nil {
		name = "sallyport"
	}
	if dir, err := os.Getwd(); err == nil {
		if rel, err := filepath.Rel(dir, name); err == nil && !strings.HasPrefix(rel, "..") && strings.Contains(rel, "/") {
			name = rel
		}
	}
	if os.Getenv("SUDO_UID") != "" && os.Geteuid() == 0 {
		return "sudo " + name
	}
	return name
}
