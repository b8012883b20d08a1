// SPDX-License-Identifier: Apache-2.0

package node

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"google.golang.org/protobuf/proto"

	"github.com/sallyport/sallyport/internal/lb"
	"github.com/sallyport/sallyport/internal/wire"
)

// The files of a keeper. A snapshot is written as next while it is staged and
// becomes last when it is committed, so last was always in force once.
const (
	fileLast     = "snapshot"
	filePrevious = "snapshot.previous"
	fileNext     = "snapshot.next"
	fileAside    = "snapshot.corrupt"
)

// keptForm is the first line of a kept snapshot; the second is the SHA-256 of
// the rest, a wire.Stage with every blob.
const keptForm = "sallyport snapshot 1\n"

// A keeper holds the last good snapshot on disk. It has no state besides.
type keeper struct{ dir string }

// prepare writes m, synced, beside the last good one.
func (k *keeper) prepare(m *wire.Stage) error {
	body, err := proto.Marshal(m)
	if err != nil {
		return err
	}
	sum := sha256.Sum256(body)
	var out bytes.Buffer
	out.WriteString(keptForm)
	out.WriteString(hex.EncodeToString(sum[:]) + "\n")
	out.Write(body)
	return writeFile(k.path(fileNext), out.Bytes())
}

// promote makes the prepared snapshot the last good one.
func (k *keeper) promote() error {
	if err := os.Rename(k.path(fileLast), k.path(filePrevious)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.Rename(k.path(fileNext), k.path(fileLast)); err != nil {
		return err
	}
	return syncDir(k.dir)
}

// load returns the snapshot to start from; nil when none is kept. kernel is
// the revision that the kernel enforces: when it is the prepared one, the
// former process ended between commit and promote. A damaged file is set
// aside and reported in err; the previous one then serves.
func (k *keeper) load(kernel lb.Revision) (m *wire.Stage, err error) {
	if next, nextErr := k.read(fileNext); nextErr == nil && next != nil &&
		kernel != 0 && lb.Revision(next.Revision) == kernel {
		return next, k.promote()
	}
	for _, name := range []string{fileLast, filePrevious} {
		m, fault := k.read(name)
		if fault == nil && m != nil {
			return m, err
		}
		if fault != nil {
			err = errors.Join(err, fmt.Errorf("%s is damaged and was set aside: %w", name, fault))
			if aside := os.Rename(k.path(name), k.path(fileAside)); aside != nil {
				err = errors.Join(err, aside)
			}
		}
	}
	return nil, err
}

// at returns the kept snapshot of revision r and changes nothing on disk; nil
// when there is none in good order.
func (k *keeper) at(r lb.Revision) *wire.Stage {
	for _, name := range []string{fileLast, fileNext} {
		if m, err := k.read(name); err == nil && m != nil && lb.Revision(m.Revision) == r {
			return m
		}
	}
	return nil
}

// read returns nil without an error when there is no such file.
func (k *keeper) read(name string) (*wire.Stage, error) {
	raw, err := os.ReadFile(k.path(name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	rest, ok := bytes.CutPrefix(raw, []byte(keptForm))
	if !ok {
		return nil, errors.New("not a kept snapshot")
	}
	sum, body, ok := bytes.Cut(rest, []byte("\n"))
	if got := sha256.Sum256(body); !ok || string(sum) != hex.EncodeToString(got[:]) {
		return nil, errors.New("the checksum does not match")
	}
	m := new(wire.Stage)
	if err := proto.Unmarshal(body, m); err != nil {
		return nil, err
	}
	return m, nil
}

func (k *keeper) path(name string) string { return filepath.Join(k.dir, name) }

// writeFile puts data in place: 0600, synced, whole or not at all.
func writeFile(path string, data []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".tmp-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
