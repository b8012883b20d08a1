// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// dataDir is where a machine that joined keeps everything of its node.
const dataDir = "/var/lib/sallyport-node"

// configFile is what `join` writes there and `run` reads.
const configFile = "node.json"

// A config is what `join` found out, so that `run` needs no flags. It may be
// edited by hand; names that it does not know are refused.
type config struct {
	Name    string   `json:"name"`
	Role    string   `json:"role"`
	Server  string   `json:"server"`            // ADDRESS:PORT
	Device  string   `json:"device"`            // the interface that faces the network
	Address string   `json:"address,omitempty"` // where the tunnel ends; "": the device's own, followed when it changes
	Pin     string   `json:"pin,omitempty"`
	Metrics string   `json:"metrics"`
	Attach  string   `json:"attach,omitempty"`
	Except  []string `json:"except,omitempty"`  // host: interfaces that are not judged
	Flows   uint32   `json:"flows,omitempty"`   // room in the flow table; 0: the role's default
	Standby string   `json:"standby,omitempty"` // gateway: answer for VIPs only while this gateway is drained
	ARP     *bool    `json:"arp,omitempty"`     // gateway: answer for VIPs on the device's segment; not said: yes
}

// readConfig reads what `join` wrote into dir.
func readConfig(dir string) (*config, error) {
	path := filepath.Join(dir, configFile)
	raw, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("this machine has not joined: there is no %s; get a token with `sallyport node token` on the server, then `sallyport-node join TOKEN` here", path)
	}
	if err != nil {
		return nil, err
	}
	c := &config{}
	d := json.NewDecoder(bytes.NewReader(raw))
	d.DisallowUnknownFields()
	if err := d.Decode(c); err != nil {
		return nil, fmt.Errorf("%s: %w; mend it, or join again with --force", path, err)
	}
	return c, nil
}

// write puts the config into dir: whole or not at all.
func (c *config) write(dir string) error {
	raw, err := json.MarshalIndent(c, "", "  ")
	if err != nil {
		return err
	}
	path := filepath.Join(dir, configFile)
	f, err := os.CreateTemp(dir, ".tmp-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.Write(append(raw, '\n'))
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}

// fill takes from the config what the command line does not say.
func (f *runFlags) fill(c *config) {
	for _, p := range []struct {
		flag *string
		said string
	}{{&f.name, c.Name}, {&f.role, c.Role}, {&f.server, c.Server}, {&f.device, c.Device}, {&f.address, c.Address}, {&f.pin, c.Pin}} {
		if *p.flag == "" {
			*p.flag = p.said
		}
	}
	if !f.metricsSaid {
		f.metrics = c.Metrics
	}
	if f.attach == "auto" && c.Attach != "" {
		f.attach = c.Attach
	}
	if f.flows == 0 {
		f.flows = c.Flows
	}
	f.standby, f.except = c.Standby, c.Except
	f.arp = c.ARP == nil || *c.ARP
	f.joined = true
}
