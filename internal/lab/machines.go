// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
)

// agentSuffix makes the name of a host's node process.
const agentSuffix = ".agent"

// Options say what a lab is made of.
type Options struct {
	DataDir      string                           // kept between labs: addresses, logs, what server and nodes keep
	Temporary    bool                             // DataDir goes with the lab
	API          string                           // base URL, for records
	Region       string                           // for records
	Executable   string                           // sallyport
	Node         string                           // sallyport-node; "" in labs without nodes
	ServerArgs   []string                         // more flags for `sallyport server`
	IPv6Underlay bool                             // tunnels and control streams go by IPv6
	Flows        uint32                           // room in each node's flow table; 0: the agent's choice
	Attach       string                           // which hooks the gateway uses: tc or xdp; "": the agent's choice
	Say          func(format string, args ...any) // told what a person should know; nil: nobody
}

// A Lab is a running lab. It must be closed.
type Lab struct {
	o        Options
	madeDir  bool // /run/netns
	mu       sync.Mutex
	hosts    []Host
	children []*child
	next     chan struct{} // closed and replaced at every change
	saving   sync.Mutex    // one writer of the record at a time
	closed   bool          // guarded by saving: no record is written after Close
	underlay map[string]netip.Addr
}

// Open clears away what a killed lab left and makes the fabric and the fixed
// hosts, each with the process that stands for it. The caller holds the lock.
// On error nothing is left.
func Open(_ *Lock, o Options) (*Lab, error) {
	if o.Say == nil {
		o.Say = func(string, ...any) {}
	}
	if err := clearLeftovers(); err != nil {
		return nil, fmt.Errorf("clear away the last lab: %w", err)
	}
	l := &Lab{o: o, next: make(chan struct{}), underlay: map[string]netip.Addr{}}
	if _, err := os.Stat(netnsDir); errors.Is(err, fs.ErrNotExist) {
		l.madeDir = true
	}
	if err := l.build(); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

func (l *Lab) build() error {
	if err := os.MkdirAll(l.logDir(), 0o700); err != nil {
		return err
	}
	if err := l.loadUnderlay(); err != nil {
		return err
	}
	// The record comes first: whoever kills us now leaves something to go by.
	if err := l.write(); err != nil {
		return err
	}
	if err := mountPins(); err != nil {
		return err
	}
	if err := makeFabric(); err != nil {
		return err
	}
	for _, h := range FixedHosts() {
		if l.o.IPv6Underlay && h.Underlay.IsValid() {
			h.Underlay = underlayIPv6(h.Underlay)
		}
		if err := l.add(h); err != nil {
			return err
		}
	}
	return nil
}

// add makes a host and starts the process that stands for it.
func (l *Lab) add(h Host) error {
	l.mu.Lock()
	taken := slices.ContainsFunc(l.hosts, func(o Host) bool { return o.Name == h.Name })
	l.mu.Unlock()
	if taken {
		return fmt.Errorf("the lab has a host %s already", h.Name)
	}
	routed := h.all()
	if h.Role == RoleInstance && l.o.Node != "" {
		routed = []netip.Addr{h.Underlay} // the rest once its gate stands: see StartNode
	}
	if err := makeHost(h, routed); err != nil {
		return err
	}
	l.mu.Lock()
	l.hosts = append(l.hosts, h)
	l.mu.Unlock()
	face := Process{Name: h.Name + ".host", Host: h.Name, Face: true, Path: l.o.Executable, Log: h.Name,
		Args: []string{"lab-host", "--role", string(h.Role), "--name", h.Name, "--log", l.Log(h.Name)}}
	return l.Start(face)
}

// AddInstance makes the host of an instance with its web server; its node is
// started apart (StartNode). public and six, its IPv6 address, are zero if it
// has none. The same instance gets the same underlay address in every lab of
// this DataDir.
func (l *Lab) AddInstance(id, title string, private, public, six netip.Addr) error {
	under, err := l.allocate(id)
	if err != nil {
		return err
	}
	if l.o.IPv6Underlay {
		under = underlayIPv6(under)
	}
	h := Host{Name: id, Role: RoleInstance, Instance: id, Title: title, Underlay: under, Addresses: []netip.Addr{private}, IPv6: six}
	if public.IsValid() {
		h.Addresses = []netip.Addr{public, private}
	}
	return l.add(h)
}

// StartServer starts `sallyport server` in its host. api is the listener that
// every server of this lab inherits in turn, so that requests wait, not fail,
// while one is being replaced.
func (l *Lab) StartServer(api *os.File, listen string) error {
	return l.Start(Process{
		Name: DefaultServer, Host: DefaultServer, Path: l.o.Executable, Files: []*os.File{api},
		Args: append([]string{
			"server", "--data", filepath.Join(l.o.DataDir, "server"), "--listen", listen, "--listen-fd", "3",
			"--node-listen", netip.AddrPortFrom(unspecified(l.serverUnderlay()), nodePort).String(), "--region", l.o.Region,
		}, l.o.ServerArgs...),
	})
}

// StartNode starts the agent of a gateway or instance host. It enrols with
// token unless it has a certificate already.
func (l *Lab) StartNode(host, token string) error {
	l.mu.Lock()
	at := slices.IndexFunc(l.hosts, func(h Host) bool { return h.Name == host })
	if at < 0 {
		l.mu.Unlock()
		return fmt.Errorf("the lab has no host %s", host)
	}
	h := l.hosts[at]
	l.mu.Unlock()
	dir := l.nodeDir(host)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	if err := l.GiveToken(host, token); err != nil {
		return err
	}
	role, log := "gateway", host
	if h.Role == RoleInstance {
		role, log = "host", host+agentSuffix
	}
	args := []string{
		"run", "--name", host, "--role", role, "--server", netip.AddrPortFrom(l.serverUnderlay(), nodePort).String(), "--data", dir,
		"--device", "eth0", "--address", h.Underlay.String(), "--token-file", l.tokenFile(host), "--pin", PinDir(host),
	}
	if l.o.Flows != 0 {
		args = append(args, "--flows", fmt.Sprint(l.o.Flows))
	}
	if h.Role == RoleGateway && l.o.Attach != "" {
		args = append(args, "--attach", l.o.Attach)
		if err := l.startPass(host); err != nil {
			return err
		}
	}
	if err := l.Start(Process{Name: host + agentSuffix, Host: host, Path: l.o.Node, Log: log, Args: args}); err != nil {
		return err
	}
	if h.Role == RoleInstance {
		go l.openBehindGate(h)
	}
	return nil
}

// nodePort is where the server listens for nodes.
const nodePort = 7781

// serverUnderlay is where agents find the server.
func (l *Lab) serverUnderlay() netip.Addr {
	if l.o.IPv6Underlay {
		return underlayIPv6(serverAddress())
	}
	return serverAddress()
}

// unspecified is "every address" of the same family.
func unspecified(a netip.Addr) netip.Addr {
	if a.Is6() {
		return netip.IPv6Unspecified()
	}
	return netip.IPv4Unspecified()
}

// startPass puts a program that passes everything onto the fabric's end of a
// gateway's link: without one the kernel never collects what the gateway's XDP
// program sends into the pair.
func (l *Lab) startPass(host string) error {
	return l.Start(Process{
		Name: fabricName + passSuffix + host, Host: fabricName, Path: l.o.Node, Args: []string{"pass-all", "--device", host},
	})
}

// GiveToken puts another join token where the host's agent looks for it: one
// that dies between using its token and keeping its certificate needs it.
func (l *Lab) GiveToken(host, token string) error {
	return WriteFile(l.tokenFile(host), []byte(token))
}

// FailingNodes are the hosts whose agents keep dying early.
func (l *Lab) FailingNodes() []string {
	var failing []string
	for _, p := range l.Record().Processes {
		if host, ok := strings.CutSuffix(p.Name, agentSuffix); ok && l.Failing(p.Name) {
			failing = append(failing, host)
		}
	}
	return failing
}

// Record is the lab as it is now.
func (l *Lab) Record() Record {
	l.mu.Lock()
	defer l.mu.Unlock()
	r := Record{
		PID: os.Getpid(), Start: startOf(os.Getpid()), API: l.o.API, Region: l.o.Region,
		DataDir: l.o.DataDir, Temporary: l.o.Temporary, NetnsDir: l.madeDir,
	}
	face := map[string]int{}
	for _, c := range l.children {
		p := c.record()
		r.Processes = append(r.Processes, p)
		if c.Face {
			face[c.Host] = p.PID
		}
	}
	for _, h := range l.hosts {
		r.Hosts = append(r.Hosts, HostRecord{
			Name: h.Name, Role: h.Role, InstanceID: h.Instance, PID: face[h.Name], Addresses: h.Addresses, IPv6: sixOf(h), Title: h.Title,
		})
	}
	return r
}

// Log is the path of a host's log: the access log of an instance, what server
// and gateway say, nothing much for a client.
func (l *Lab) Log(host string) string { return filepath.Join(l.logDir(), host+".log") }

func (l *Lab) logDir() string               { return filepath.Join(l.o.DataDir, "logs") }
func (l *Lab) tokenFile(host string) string { return filepath.Join(l.nodeDir(host), "token") }
func (l *Lab) nodeDir(host string) string   { return filepath.Join(l.o.DataDir, "nodes", host) }

// save writes the record and wakes the watchers.
func (l *Lab) save() {
	if err := l.write(); err != nil {
		l.o.Say("write down the lab's state: %v", err)
	}
	l.mu.Lock()
	close(l.next)
	l.next = make(chan struct{})
	l.mu.Unlock()
}

func (l *Lab) write() error {
	l.saving.Lock()
	defer l.saving.Unlock()
	if l.closed {
		return nil
	}
	return writeRecord(l.Record())
}

// Close ends the lab within a few seconds and removes all of it; a data
// directory that was given stays.
func (l *Lab) Close() error {
	l.stopAll(func(Process) bool { return true })
	l.saving.Lock()
	l.closed = true
	l.saving.Unlock()
	r := l.Record()
	return clearAway(&r)
}

// allocate finds the instance's underlay address or gives it a free one.
func (l *Lab) allocate(id string) (netip.Addr, error) {
	l.mu.Lock()
	a, known := l.underlay[id]
	if !known {
		used := map[netip.Addr]bool{}
		for _, a := range l.underlay {
			used[a] = true
		}
		for a = firstInstance(); used[a]; a = a.Next() {
			if a == lastInstance() {
				l.mu.Unlock()
				return netip.Addr{}, fmt.Errorf("the lab is full: it has room for %d instances", len(l.underlay))
			}
		}
		l.underlay[id] = a
	}
	l.mu.Unlock()
	return a, l.saveUnderlay()
}

// KeepOnly forgets the addresses of instances that are gone for good.
func (l *Lab) KeepOnly(live func(id string) bool) error {
	l.mu.Lock()
	for id := range l.underlay {
		if !live(id) {
			delete(l.underlay, id)
		}
	}
	l.mu.Unlock()
	return l.saveUnderlay()
}

// kept is DATA/lab.json.
type kept struct {
	Underlay map[string]netip.Addr `json:"underlay"` // by instance
}

func (l *Lab) keptFile() string { return filepath.Join(l.o.DataDir, "lab.json") }

func (l *Lab) loadUnderlay() error {
	data, err := os.ReadFile(l.keptFile())
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	var k kept
	if err := json.Unmarshal(data, &k); err != nil {
		return fmt.Errorf("%s: %w", l.keptFile(), err)
	}
	for id, a := range k.Underlay {
		l.underlay[id] = a
	}
	return nil
}

func (l *Lab) saveUnderlay() error {
	l.saving.Lock()
	defer l.saving.Unlock()
	l.mu.Lock()
	data, err := json.MarshalIndent(kept{l.underlay}, "", "  ")
	l.mu.Unlock()
	if err != nil {
		return err
	}
	return WriteFile(l.keptFile(), append(data, '\n'))
}
