// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/sallyport/sallyport/internal/control"
	"github.com/sallyport/sallyport/internal/lab"
)

// caBeside is where a server with this record puts its CA's certificate.
func caBeside(record string) string {
	return filepath.Join(filepath.Dir(record), filepath.Base(lab.ServerCA))
}

// controlDir is where a server's data folder keeps what control needs.
func controlDir(data string) string { return filepath.Join(data, "control") }

func newCACommand() *cobra.Command {
	var data string
	cmd := &cobra.Command{
		Use: "ca", Short: "Print the certificate (PEM) of the CA behind `--tls`, for other clients to trust", Args: cobra.NoArgs,
		Example: "  sallyport ca > ca.pem\n  NODE_EXTRA_CA_CERTS=ca.pem node script.js",
		RunE: func(cmd *cobra.Command, _ []string) error {
			pem, err := readCA(data, lab.ServerRecord)
			if err != nil {
				return err
			}
			_, err = cmd.OutOrStdout().Write(pem)
			return err
		},
	}
	cmd.Flags().StringVar(&data, "data", "", "data folder of the server (default: the server that runs on this machine)")
	return cmd
}

// readCA reads the CA's certificate from a data folder or, without one, as the
// server of this machine put it beside its record.
func readCA(data, record string) ([]byte, error) {
	if data != "" {
		pem, err := control.ReadCACertificate(controlDir(data))
		if errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("no server has run in %s yet, so it has no CA", data)
		}
		return pem, err
	}
	pem, err := os.ReadFile(caBeside(record))
	if !errors.Is(err, fs.ErrNotExist) {
		return pem, err
	}
	if _, err := os.Stat(record); err == nil {
		return nil, errors.New("the server of this machine does not use its own CA but certificate files (--tls-cert)")
	}
	return nil, errors.New("no server runs on this machine; start one with `sallyport up --tls`, or name a server's folder with --data")
}
