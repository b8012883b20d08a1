// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"

	"github.com/spf13/cobra"
)

// kinds are the flags about kinds of load balancers, which server and up share.
type kinds struct {
	seedMode     bool
	sourceIPType int
}

func (k *kinds) flags(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&k.seedMode, "seed-mode", false, "refuse to bind security groups to private load balancers, as the documents of 2019 say")
	cmd.Flags().IntVar(&k.sourceIPType, "source-ip-type", 0, "where health checks come from when their author says nothing: 0 the VIP, 1 an address of 100.64.0.0/16")
}

func (k *kinds) check() error {
	if k.sourceIPType != 0 && k.sourceIPType != 1 {
		return fmt.Errorf("--source-ip-type %d is neither 0 (the VIP) nor 1 (100.64.0.0/16)", k.sourceIPType)
	}
	return nil
}

// args are the same flags for another command.
func (k *kinds) args() []string {
	return []string{fmt.Sprintf("--seed-mode=%v", k.seedMode), fmt.Sprintf("--source-ip-type=%d", k.sourceIPType)}
}
