// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/sallyport/sallyport/internal/lab"
)

// newLabGetCommand is a web client that needs nothing installed and says in
// words how a gate's silence differs from a closed port.
func newLabGetCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "get URL",
		Short: "Send one HTTP request from a client of the lab and say what became of it",
		Long: "Get sends one HTTP request from a host of the lab. It prints the answer and exits with 0,\n" +
			"or says that it was refused, and how, and exits with 3.",
		Example: "  sallyport lab get --from client-2 http://192.0.2.1/",
		Args:    cobra.ExactArgs(1),
	}
	from := cmd.Flags().String("from", "client-1", "host that sends the request")
	limit := cmd.Flags().Duration("timeout", 2*time.Second, "how long silence is waited for")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		_, h, err := labHost(*from)
		if err != nil {
			return err
		}
		return get(cmd, h.Name, args[0], *limit)
	}
	return cmd
}

func get(cmd *cobra.Command, host, url string, limit time.Duration) error {
	client := http.Client{
		Timeout: limit,
		Transport: &http.Transport{
			DisableKeepAlives: true,
			DialContext: func(_ context.Context, network, address string) (net.Conn, error) {
				return lab.Dial(host, network, address, limit)
			},
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	began := time.Now()
	res, err := client.Get(url)
	var silent net.Error
	switch {
	case errors.As(err, &silent) && silent.Timeout():
		fmt.Fprintf(cmd.OutOrStdout(), "refused: silence, nothing came back to %s within %v\n", host, limit)
		return errNo
	case errors.Is(err, syscall.ECONNREFUSED):
		fmt.Fprintf(cmd.OutOrStdout(), "closed: nobody listens there, %s was told at once\n", host)
		return errNo
	case err != nil:
		return err
	}
	defer func() { _ = res.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(res.Body, 1<<20))
	if err != nil {
		return fmt.Errorf("the answer broke off: %w", err)
	}
	word := "served"
	if res.StatusCode >= http.StatusInternalServerError {
		word = "not served"
	}
	fmt.Fprintf(cmd.OutOrStdout(), "%s: %s after %d ms\n%s\n", word, res.Status, time.Since(began).Milliseconds(), strings.TrimSpace(string(body)))
	if word != "served" {
		return errNo
	}
	return nil
}
