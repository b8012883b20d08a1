// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sallyport/sallyport/internal/cloudapi"
	"github.com/sallyport/sallyport/internal/lb"
)

// accessOptions are the server's flags about keys, rates and the audit log.
type accessOptions struct {
	keyFile   string
	rates     cloudapi.Rates
	retention time.Duration
	lines     int
}

func (o *accessOptions) flags(cmd *cobra.Command) {
	f := cmd.Flags()
	o.rates = cloudapi.DefaultRates()
	f.StringVar(&o.keyFile, "secret-key-file", "", "file with the key that seals the secrets of access keys and the private keys of certificates (default: secret.key in the data folder, made when missing)")
	f.Float64Var(&o.rates.Reads, "rate-reads", o.rates.Reads, "calls a second of one reading action that one access key may make; 0: any number")
	f.Float64Var(&o.rates.Writes, "rate-writes", o.rates.Writes, "the same for one writing action")
	f.DurationVar(&o.retention, "audit-retention", 90*24*time.Hour, "how long lines of the audit log are kept")
	f.IntVar(&o.lines, "audit-lines", 200_000, "how many lines of the audit log are kept at most")
}

// check says what is wrong with the flags.
func (o *accessOptions) check() error {
	switch {
	case !(o.rates.Reads >= 0 && o.rates.Writes >= 0): // NaN is neither
		return errors.New("--rate-reads and --rate-writes are not negative; 0 sets no bound")
	case o.retention < time.Hour:
		return fmt.Errorf("--audit-retention %v is too short; give an hour or more", o.retention)
	case o.lines < 1000:
		return fmt.Errorf("--audit-lines %d is too few; give 1000 or more", o.lines)
	}
	return nil
}

// vault opens the key file, or makes it for a store that has no access keys
// yet. A file that is missing or not the right one is refused: going on would
// shut everybody out.
func (o *accessOptions) vault(dir string, st *lb.State) (*cloudapi.Vault, error) {
	path := cmp.Or(o.keyFile, filepath.Join(dir, "secret.key"))
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		if st.Keys.Len()+st.Certificates.Len() > 0 {
			return nil, fmt.Errorf("the key file %s is missing, and the store holds access keys that only it opens; put it back, or name it with --secret-key-file", path)
		}
		key := make([]byte, cloudapi.VaultKeySize)
		_, _ = rand.Read(key) // never fails: it ends the program instead
		text = []byte(base64.StdEncoding.EncodeToString(key) + "\n")
		err = writeWhole(path, text, 0o600)
	}
	if err != nil {
		return nil, fmt.Errorf("the key file: %w", err)
	}
	if info, err := os.Stat(path); err == nil && info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("the key file %s can be read by others (mode %04o); chmod 600 it", path, info.Mode().Perm())
	}
	key, err := base64.StdEncoding.DecodeString(strings.TrimSpace(string(text)))
	if err != nil {
		return nil, fmt.Errorf("the key file %s is damaged: it is not base64", path)
	}
	vault, err := cloudapi.NewVault(key)
	if err != nil {
		return nil, fmt.Errorf("the key file %s is damaged: %w", path, err)
	}
	if err := vault.Check(st); err != nil {
		return nil, fmt.Errorf("%s: %w; name the right one with --secret-key-file", path, err)
	}
	return vault, nil
}

// adoptAdmin makes the key of admin.json known, so that whoever can read the
// data folder is admin. A key that was revoked stays so: without the file the
// next start makes another.
func adoptAdmin(ctx context.Context, api *cloudapi.Server, dir string, key connection) (connection, error) {
	secret, err := api.Adopt(ctx, key.SecretID, key.SecretKey, "admin.json")
	if err != nil || secret == "" || secret == key.SecretKey {
		return key, err
	}
	key.SecretKey = secret // it was rotated
	return key, writeSecret(filepath.Join(dir, "admin.json"), connection{SecretID: key.SecretID, SecretKey: secret})
}

// An adminFile is where this server keeps its own admin key, and where it told
// it to the other commands.
type adminFile struct {
	api          *cloudapi.Server
	path, record string
	ca           []byte
	key          connection
}

// keepAdmin follows rotations of the server's own admin key, so that the files
// that name it stay true.
func (s *server) keepAdmin(ctx context.Context) {
	for st := range s.store.Watch(ctx) {
		if st.Keys.Get(lb.KeyID(s.admin.key.SecretID)) == nil {
			continue
		}
		secret, err := s.admin.api.Adopt(ctx, s.admin.key.SecretID, "", "")
		if err != nil || secret == "" || secret == s.admin.key.SecretKey {
			continue
		}
		s.admin.key.SecretKey = secret
		err = writeSecret(s.admin.path, connection{SecretID: s.admin.key.SecretID, SecretKey: secret})
		writeRecord(s.admin.record, s.admin.key, s.admin.ca, s.log)
		if err != nil {
			s.log.Error("the rotated admin key could not be written down", "file", s.admin.path, "error", err)
		}
	}
}

// trimEvery is how often the audit log is cut to its bounds.
const trimEvery = 10 * time.Minute

func (s *server) trimAudit(ctx context.Context) {
	for {
		if err := s.store.TrimAudit(ctx, s.access.lines, time.Now().Add(-s.access.retention)); err != nil && ctx.Err() == nil {
			s.log.Warn("the audit log could not be trimmed", "error", err)
		}
		if pauseFor(ctx, trimEvery) != nil {
			return
		}
	}
}
