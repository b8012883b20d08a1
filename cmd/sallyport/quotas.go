// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sallyport/sallyport/internal/lb"
)

// quotas are the limits that a server was told to have other than published.
type quotas struct {
	texts []string
	set   lb.Quotas
}

func (q *quotas) flags(cmd *cobra.Command) {
	cmd.Flags().StringArrayVar(&q.texts, "quota", nil, "NAME=N, a limit other than the published one; may be repeated, and is the same on all servers of a cluster ("+
		strings.Join(lb.DefaultQuotas().Names(), " ")+")")
}

// check reads them all, so that set holds.
func (q *quotas) check() error {
	q.set = lb.DefaultQuotas()
	for _, text := range q.texts {
		name, value, _ := strings.Cut(text, "=")
		n, err := strconv.Atoi(value)
		if err != nil {
			return fmt.Errorf("--quota %q is not NAME=N, such as groups=200", text)
		}
		if err := q.set.Set(name, n); err != nil {
			return fmt.Errorf("--quota %s: %w", text, err)
		}
	}
	return nil
}

// args are the flags that tell another server the same.
func (q *quotas) args() []string {
	var args []string
	for _, text := range q.texts {
		args = append(args, "--quota", text)
	}
	return args
}
