// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sallyport/sallyport/internal/cloudapi"
	"github.com/sallyport/sallyport/internal/lab"
)

// ownVersion is the version of the service `sallyport`.
const ownVersion = "2026-11-23"

// ownService is the name of the service that is ours alone.
const ownService = "sallyport"

// A connection says where the API is and who asks. Each field comes from its
// flag, else from the environment, else from the record of this machine's server.
type connection struct {
	Endpoint  string `json:"endpoint"`
	Region    string `json:"region"`
	SecretID  string `json:"secretId"`
	SecretKey string `json:"secretKey"`
}

// connects adds the flags of a connection to cmd.
func connects(cmd *cobra.Command) *connection {
	c := &connection{}
	cmd.Flags().StringVar(&c.Endpoint, "endpoint", "", "address of the API (default $SALLYPORT_ENDPOINT, then this machine's server)")
	cmd.Flags().StringVar(&c.SecretID, "secret-id", "", "id of the key (default $SALLYPORT_SECRET_ID, then this machine's server)")
	cmd.Flags().StringVar(&c.SecretKey, "secret-key", "", "the key (default $SALLYPORT_SECRET_KEY, then this machine's server)")
	return c
}

// client completes c and makes a client of it.
func (c *connection) client() (*cloudapi.Client, error) {
	full := connection{
		Endpoint:  cmp.Or(c.Endpoint, os.Getenv("SALLYPORT_ENDPOINT")),
		SecretID:  cmp.Or(c.SecretID, os.Getenv("SALLYPORT_SECRET_ID")),
		SecretKey: cmp.Or(c.SecretKey, os.Getenv("SALLYPORT_SECRET_KEY")),
	}
	if full.Endpoint == "" || full.SecretID == "" || full.SecretKey == "" {
		here, err := recordedServer()
		if err != nil {
			return nil, err
		}
		full.Endpoint = cmp.Or(full.Endpoint, here.Endpoint)
		full.SecretID = cmp.Or(full.SecretID, here.SecretID)
		full.SecretKey = cmp.Or(full.SecretKey, here.SecretKey)
		full.Region = here.Region
	}
	client := &cloudapi.Client{Endpoint: full.Endpoint, SecretID: full.SecretID, SecretKey: full.SecretKey, Region: full.Region}
	return client, trust(client)
}

// trust makes the client accept a server with a certificate of the CA that
// $SALLYPORT_CA names or, without it, of this machine's server.
func trust(client *cloudapi.Client) error {
	if !strings.HasPrefix(client.Endpoint, "https://") {
		return nil
	}
	path := os.Getenv("SALLYPORT_CA")
	pem, err := os.ReadFile(cmp.Or(path, lab.ServerCA))
	switch {
	case path == "" && err != nil:
		return nil // the system's CAs may do
	case err != nil:
		return fmt.Errorf("SALLYPORT_CA: %w", err)
	}
	if err := client.Trust(pem); err != nil {
		return fmt.Errorf("%s %w", cmp.Or(path, lab.ServerCA), err)
	}
	return nil
}

// recordedServer reads what this machine's server wrote down.
func recordedServer() (connection, error) {
	var c connection
	data, err := os.ReadFile(lab.ServerRecord)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return c, errors.New("no server runs on this machine; start one with `sallyport up`, or name one with --endpoint, --secret-id and --secret-key")
	case errors.Is(err, fs.ErrPermission):
		return c, fmt.Errorf("%s is for root; use sudo, or name the server with --endpoint, --secret-id and --secret-key", lab.ServerRecord)
	case err != nil:
		return c, err
	}
	if err := json.Unmarshal(data, &c); err != nil {
		return c, fmt.Errorf("%s: %w", lab.ServerRecord, err)
	}
	return c, nil
}

// printJSON writes v for machines that people read along with.
func printJSON(cmd *cobra.Command, v any) error {
	enc := json.NewEncoder(cmd.OutOrStdout())
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}
