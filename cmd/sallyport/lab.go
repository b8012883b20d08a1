// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/sallyport/sallyport/internal/lab"
)

func newLabCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "lab",
		Short: "Use the hosts of the lab that `sallyport up` runs",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newLabLsCommand(), newLabExecCommand(), newLabForwardCommand(), newLabLogsCommand(), newLabGetCommand())
	return cmd
}

// currentLab is the running lab's record, with a hint for those who may not read it.
func currentLab() (*lab.Record, error) {
	r, err := lab.Current()
	if errors.Is(err, fs.ErrPermission) {
		return nil, errors.New("the lab belongs to root; use sudo")
	}
	return r, err
}

// labHost finds one of the lab's hosts by name or instance name.
func labHost(name string) (*lab.Record, lab.HostRecord, error) {
	r, err := currentLab()
	if err != nil {
		return nil, lab.HostRecord{}, err
	}
	h, err := r.Host(name)
	return r, h, err
}

func newLabLsCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "ls", Short: "List hosts and load balancers of the lab", Args: cobra.NoArgs}
	conn := connects(cmd)
	asJSON := cmd.Flags().Bool("json", false, "print what the ready file holds, as it is now")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		r, err := currentLab()
		if err != nil {
			return err
		}
		client, err := conn.client()
		if err != nil {
			return err
		}
		balancers, err := listBalancers(cmd.Context(), client)
		if err != nil {
			return err
		}
		if *asJSON {
			return printJSON(cmd, newReady(r, client, balancers))
		}
		table := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
		fmt.Fprintln(table, "HOST\tROLE\tNAME\tADDRESSES\tPID")
		for _, h := range r.Hosts {
			fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%d\n", h.Name, h.Role, dash(h.Title), joined(h.Addresses), h.PID)
		}
		if len(balancers) > 0 {
			fmt.Fprintln(table, "\nLOAD BALANCER\tNAME\tVIPS")
		}
		for _, b := range balancers {
			fmt.Fprintf(table, "%s\t%s\t%s\n", b.ID, b.Name, strings.Join(b.VIPs, " "))
		}
		return table.Flush()
	}
	return cmd
}

func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

func joined[T fmt.Stringer](list []T) string {
	texts := make([]string, len(list))
	for i, v := range list {
		texts[i] = v.String()
	}
	return strings.Join(texts, " ")
}

func newLabExecCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "exec HOST -- COMMAND…",
		Short:   "Run a command on a host of the lab; its exit code is ours",
		Example: "  sallyport lab exec client-1 -- curl -m 2 http://192.0.2.1/\n  sallyport lab exec web-1 -- tcpdump -ni eth0",
		Args:    cobra.MinimumNArgs(2),
		RunE: func(_ *cobra.Command, args []string) error {
			_, h, err := labHost(args[0])
			if err != nil {
				return err
			}
			return lab.Exec(h.Name, args[1:])
		},
	}
}

func newLabForwardCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "forward LOCAL:PORT CLIENT VIP:PORT",
		Short:   "Reach a VIP from this machine's own browser, arriving with a client's address",
		Example: "  sallyport lab forward 127.0.0.1:8000 client-1 192.0.2.1:80",
		Args:    cobra.ExactArgs(3),
		RunE: func(cmd *cobra.Command, args []string) error {
			_, h, err := labHost(args[1])
			if err != nil {
				return err
			}
			if _, _, err := net.SplitHostPort(args[2]); err != nil {
				return usageError{fmt.Errorf("%s is not VIP:PORT", args[2])}
			}
			ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGINT, syscall.SIGTERM)
			defer stop()
			l, err := net.Listen("tcp", args[0])
			if err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "http://%s now is %s as %s sees it; Ctrl-C ends it\n", l.Addr(), args[2], h.Name)
			return lab.Forward(ctx, l, h.Name, args[2], func(format string, a ...any) {
				fmt.Fprintf(cmd.ErrOrStderr(), "sallyport: "+format+"\n", a...)
			})
		},
	}
}

func newLabLogsCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "logs HOST",
		Short: "Print a host's log: an instance's access log, what server and gateway say",
		Args:  cobra.ExactArgs(1),
	}
	follow := cmd.Flags().Bool("follow", false, "go on with new lines as they come")
	agent := cmd.Flags().Bool("agent", false, "an instance: what its node says instead")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		r, h, err := labHost(args[0])
		if err != nil {
			return err
		}
		name := h.Name + ".log"
		if *agent && h.Role == lab.RoleInstance {
			name = h.Name + ".agent.log"
		}
		ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGINT, syscall.SIGTERM)
		defer stop()
		return copyLog(ctx, cmd.OutOrStdout(), filepath.Join(r.DataDir, "logs", name), *follow)
	}
	return cmd
}

// copyLog copies the file, and with follow goes on until ctx ends.
func copyLog(ctx context.Context, out io.Writer, path string, follow bool) error {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) && !follow {
		return nil // it has said nothing yet
	}
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	for {
		if _, err := io.Copy(out, f); err != nil {
			return err
		}
		if !follow || pauseFor(ctx, 50*time.Millisecond) != nil {
			return nil
		}
	}
}

// newLabHostCommand is what stands for a lab host; `up` starts it.
func newLabHostCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "lab-host", Hidden: true, Args: cobra.NoArgs}
	role := cmd.Flags().String("role", "", "role of the host")
	name := cmd.Flags().String("name", "", "name of the host")
	log := cmd.Flags().String("log", "", "access log of an instance")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGINT, syscall.SIGTERM)
		defer stop()
		return lab.Stand(ctx, lab.Role(*role), *name, *log)
	}
	return cmd
}
