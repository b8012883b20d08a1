// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/sallyport/sallyport/internal/datapath"
	"github.com/sallyport/sallyport/internal/lb"
)

func newDoctorCommand() *cobra.Command {
	var role, device, pin string
	cmd := &cobra.Command{
		Use: "doctor", Short: "Say what this machine supports and what would be used; changes nothing",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if role != string(lb.RoleGateway) && role != string(lb.RoleHost) {
				return usageError{fmt.Errorf("--role %q is neither gateway nor host", role)}
			}
			if device == "" {
				return usageError{errors.New("doctor needs --device, the interface that faces the network")}
			}
			bad := 0
			for _, f := range append(datapath.Doctor(lb.NodeRole(role), device, pin), tunnelFinding(device)) {
				word := "ok "
				if !f.OK {
					word, bad = "BAD", bad+1
				}
				if _, err := fmt.Fprintf(cmd.OutOrStdout(), "%s  %-9s  %s\n", word, f.What, f.Text); err != nil {
					return err
				}
			}
			if bad > 0 {
				return fmt.Errorf("%d of these must be mended before a %s can run here", bad, role)
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&role, "role", "gateway", "gateway or host")
	cmd.Flags().StringVar(&device, "device", "", "interface that faces the network")
	cmd.Flags().StringVar(&pin, "pin", pinRoot, "folder in a bpffs to pin programs and maps in")
	return cmd
}

// tunnelFinding says over which families tunnels can run on this machine.
func tunnelFinding(device string) datapath.Finding {
	p, err := standing(device)
	if err != nil {
		return datapath.Finding{What: "tunnel", Text: err.Error() + "; give it one"}
	}
	text := fmt.Sprintf("ends at %v", p.address)
	if second := p.second(); second.IsValid() {
		return datapath.Finding{What: "tunnel", OK: true, Text: fmt.Sprintf("%s and %v: to nodes of either family", text, second)}
	}
	has := "IPv4"
	if p.address.Is6() {
		has = "IPv6"
	}
	return datapath.Finding{What: "tunnel", OK: true, Text: fmt.Sprintf("%s: only to nodes that have an %s address too", text, has)}
}

// newPassAllCommand is what the lab runs at the far end of a gateway's link.
func newPassAllCommand() *cobra.Command {
	var device string
	cmd := &cobra.Command{
		Use: "pass-all", Short: "Hold an XDP program that passes everything, until stopped", Hidden: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			pass, err := datapath.PassAll(device)
			if err != nil {
				return err
			}
			<-cmd.Context().Done()
			return pass.Close()
		},
	}
	cmd.Flags().StringVar(&device, "device", "", "one end of a veth pair")
	return cmd
}
