// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/sallyport/sallyport/internal/cloudapi"
)

func newKeyCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "key",
		Short: "Make, list, rotate and revoke access keys",
		Long: "An access key is an id and a secret, for the API, the console and these commands. Its role is\n" +
			"admin (everything), operator (everything but keys, node tokens and the audit log) or auditor\n" +
			"(reads everything, changes nothing). These commands need a key of role admin.",
	}
	cmd.AddCommand(newKeyCreateCommand(), newKeyListCommand(), newKeyRotateCommand(), newKeyRevokeCommand())
	return cmd
}

// newKey is what an action answers that makes a secret.
type newKey struct {
	SecretID    string `json:"SecretId"`
	SecretKey   string
	ExpiredTime string `json:",omitempty"`
}

// show prints the only copy of a secret there is.
func (k newKey) show(cmd *cobra.Command, asJSON bool) error {
	if asJSON {
		return printJSON(cmd, k)
	}
	_, err := fmt.Fprintf(cmd.OutOrStdout(), "SALLYPORT_SECRET_ID=%s\nSALLYPORT_SECRET_KEY=%s\n", k.SecretID, k.SecretKey)
	if err == nil {
		_, err = fmt.Fprintln(cmd.ErrOrStderr(), "(keep the secret now: it cannot be shown again)")
	}
	return err
}

func newKeyCreateCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "create", Short: "Make a key and print its secret, once", Args: cobra.NoArgs,
		Example: "  sallyport key create --name ci --role operator --project 7",
	}
	conn := connects(cmd)
	name := cmd.Flags().String("name", "", "what the key is for")
	role := cmd.Flags().String("role", "", "admin, operator or auditor")
	projects := cmd.Flags().StringArray("project", nil, "project that the key is for; may be repeated (default: all)")
	asJSON := cmd.Flags().Bool("json", false, "print JSON")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if strings.TrimSpace(*name) == "" {
			return usageError{errors.New("key create needs --name, what the key is for")}
		}
		if *role == "" {
			return usageError{errors.New("key create needs --role admin, operator or auditor")}
		}
		in := map[string]any{"Name": *name, "Role": *role}
		if len(*projects) > 0 {
			scope, err := projectsOf(*projects)
			if err != nil {
				return usageError{err}
			}
			in["Projects"] = scope
		}
		var made newKey
		if err := conn.ours(cmd.Context(), "CreateAccessKey", in, &made); err != nil {
			return err
		}
		return made.show(cmd, *asJSON)
	}
	return cmd
}

// projectsOf are the projects that flags name, each one or several with commas
// between them. An empty one is an error: a variable that is not set must not
// make a key for all projects.
func projectsOf(flags []string) ([]string, error) {
	var all []string
	for _, text := range flags {
		for _, project := range strings.Split(text, ",") {
			if project = strings.TrimSpace(project); project == "" {
				return nil, fmt.Errorf("--project %q names no project; give its number, or leave --project out for a key for all", text)
			}
			all = append(all, project)
		}
	}
	return all, nil
}

// ours runs an action of our own service.
func (c *connection) ours(ctx context.Context, action string, in, out any) error {
	client, err := c.client()
	if err != nil {
		return err
	}
	return client.Do(ctx, ownService, ownVersion, action, in, out)
}

// listedKey is a key as DescribeAccessKeys tells it.
type listedKey struct {
	SecretID                 string `json:"SecretId"`
	Name, Role, Status       string
	Projects                 []string
	CreatedTime, RevokedTime string
	Secrets                  []struct{ CreatedTime, ExpiredTime string }
}

// listedKeys reads the list to its end.
func listedKeys(ctx context.Context, client *cloudapi.Client) ([]listedKey, error) {
	var all []listedKey
	for {
		var page struct {
			TotalCount int
			AccessKeys []listedKey
		}
		in := map[string]any{"Offset": len(all), "Limit": 100}
		if err := client.Do(ctx, ownService, ownVersion, "DescribeAccessKeys", in, &page); err != nil {
			return nil, err
		}
		if all = append(all, page.AccessKeys...); len(page.AccessKeys) == 0 || len(all) >= page.TotalCount {
			return all, nil
		}
	}
}

func newKeyListCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "ls", Short: "List keys", Args: cobra.NoArgs}
	conn := connects(cmd)
	all := cmd.Flags().Bool("all", false, "revoked ones too")
	asJSON := cmd.Flags().Bool("json", false, "print JSON")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		client, err := conn.client()
		if err != nil {
			return err
		}
		found, err := listedKeys(cmd.Context(), client)
		if err != nil {
			return err
		}
		keys := []listedKey{}
		for _, k := range found {
			if *all || k.Status == "active" {
				keys = append(keys, k)
			}
		}
		if *asJSON {
			return printJSON(cmd, keys)
		}
		w := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
		fmt.Fprintln(w, "ID\tNAME\tROLE\tPROJECTS\tSTATUS\tCREATED")
		for _, k := range keys {
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", k.SecretID, cmp.Or(k.Name, "-"), k.Role, cmp.Or(strings.Join(k.Projects, ","), "all"), k.state(), k.CreatedTime)
		}
		return w.Flush()
	}
	return cmd
}

// state is the status in a word or, during a rotation, a few.
func (k listedKey) state() string {
	if len(k.Secrets) > 1 {
		return "active, old secret until " + k.Secrets[1].ExpiredTime
	}
	return k.Status
}

func newKeyRotateCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "rotate ID", Short: "Give a key a new secret; the old one holds for a while", Args: cobra.ExactArgs(1),
		Example: "  sallyport key rotate AKID… --overlap 1h",
	}
	conn := connects(cmd)
	overlap := cmd.Flags().Duration("overlap", 24*time.Hour, "how long both secrets hold; 0 ends all old ones now")
	asJSON := cmd.Flags().Bool("json", false, "print JSON")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if *overlap < 0 || *overlap%time.Second != 0 {
			return usageError{errors.New("--overlap is a number of whole seconds, such as 1h or 30s")}
		}
		in := map[string]any{"SecretId": args[0], "OverlapSeconds": int64(*overlap / time.Second)}
		var made newKey
		if err := conn.ours(cmd.Context(), "RotateAccessKey", in, &made); err != nil {
			return err
		}
		return made.show(cmd, *asJSON)
	}
	return cmd
}

func newKeyRevokeCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "revoke ID", Short: "End a key at once and for good", Args: cobra.ExactArgs(1)}
	conn := connects(cmd)
	asJSON := cmd.Flags().Bool("json", false, "print JSON")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		var answer json.RawMessage
		if err := conn.ours(cmd.Context(), "RevokeAccessKey", map[string]any{"SecretId": args[0]}, &answer); err != nil {
			return err
		}
		if *asJSON {
			return printJSON(cmd, answer)
		}
		_, err := fmt.Fprintf(cmd.OutOrStdout(), "%s is revoked\n", args[0])
		return err
	}
	return cmd
}
