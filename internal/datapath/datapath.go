// SPDX-License-Identifier: Apache-2.0

// Package datapath puts snapshots in force in the kernel: it loads and
// attaches the eBPF programs of a gateway or a host, writes snapshots into
// their maps so that every packet sees exactly one revision, and reads back
// what the programs counted and told.
//
// Programs, maps and links are pinned: they go on without this process, and
// the next one takes them over without a packet lost.
package datapath

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/cilium/ebpf/rlimit"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/sallyport/sallyport/internal/lb"
	"github.com/sallyport/sallyport/internal/policy"
	"github.com/sallyport/sallyport/internal/snapshot"
)

// TunnelPort is the UDP port of the tunnel unless Options say otherwise.
const TunnelPort = 6081

// What the tunnel adds to a packet over IPv4 and over IPv6: outer IP and UDP
// headers, Geneve's and our option.
const (
	tunnelOverhead  = 60
	tunnelOverhead6 = 80
)

// Options say where the programs are attached and who this node is.
type Options struct {
	Node    lb.NodeID
	Role    lb.NodeRole
	Device  string         // the interface that faces the network
	PinDir  string         // a folder in a bpffs; made if missing
	Address netip.Addr     // where the tunnel ends on this node
	Other   netip.Addr     // the same over the other family; zero: over one only
	Control netip.AddrPort // the control plane, for the system rule of a host; zero: none
	Port    uint16         // UDP port of the tunnel; 0: TunnelPort
	Buckets uint32         // flow buckets of two slots each, a power of two; 0: 32,768 on a gateway, 16,384 on a host
	Events  uint32         // verdict events a second and CPU; more are counted as lost; 0: 4,096
	Attach  Attach         // which hooks a gateway uses; \"\": AttachTC
	ARP     bool           // gateway: answer address resolution for VIPs
	Standby lb.NodeID      // gateway: answer only while this one is drained; "": always
	Observe bool           // host: refuse nothing until the first snapshot is in force, which says how to go on
	Every   bool           // host: judge all interfaces of the machine, also those that come later, not Device alone
	Except  []string       // with Every: interfaces that are left alone
	Proxied bool           // gateway: a proxy of this node listens on layer-7 VIPs; nobody else's sockets may answer there
	Log     *slog.Logger   // nil: the default logger

	objects func() (*ebpf.CollectionSpec, error) // tests: other programs than the committed ones
	opened  opener                               // tests: programs that are loaded already
	hashKey uint64                               // tests: as those have it; 0: by chance
}

// opener makes a collection.
type opener func(*ebpf.CollectionSpec, ebpf.CollectionOptions) (*ebpf.Collection, error)

// Attach says which hooks a gateway's programs use.
type Attach string

// The two ways. AttachXDP puts a program into the device's driver, in front of
// the one at TC: it is for devices that run XDP natively without giving up
// segmentation offload.
const (
	AttachTC  Attach = "tc"
	AttachXDP Attach = "xdp"
)

// sizes of the tables of one role. Words are 8 bytes; a host has room for the
// greatest policies of both directions at two revisions.
type sizes struct {
	arena   uint32 // words of policies and rings
	buckets uint32 // flow buckets; a power of two
}

func sizesOf(role lb.NodeRole) sizes {
	if role == lb.RoleGateway {
		return sizes{arena: lb.GatewayArena, buckets: 1 << 15}
	}
	return sizes{arena: lb.HostArena, buckets: 1 << 14}
}

// Datapath is one node's programs and maps. Its methods may be called from
// several goroutines.
type Datapath struct {
	opts  Options
	gate  policy.Gate
	log   *slog.Logger
	maps  map[string]*ebpf.Map
	vars  map[string]*ebpf.Variable
	links []link.Link

	loading  sync.Mutex
	progs    map[string]*ebpf.Program // those that are loaded: loadProgram gives any
	unloaded *ebpf.CollectionSpec     // what they are loaded from; nil: closed

	mu        sync.Mutex
	revisions *GatewayRevisions // mapped; the kernel reads it at every packet
	key       uint64            // of the flow table's hash
	arena     *arena
	targets   *table[uint32, GatewayTargetRow, GatewayTarget]
	listeners *table[GatewayListenerKey, GatewayListenerRow, GatewayListener] // nil on a host
	instances *table[GatewayAddr, HostInstanceRow, HostInstance]              // nil on a gateway
	counters  *counters
	names     *names
	peers     *peerTable
	vips      *table[GatewayAddr, GatewayVipRow, GatewayVip]
	vipBits   []uint64
	dead      map[uint32]bool
	kin       map[kinKey]bool   // in the map of that name
	loads     map[uint32]uint32 // connections by target, as hosts told last
	held      map[uint32]uint16 // what targets that start slowly do not take yet
	leaving   map[uint32]leaver // layer-7 targets that were taken away, by number
	pending   *pending
	partners  map[GatewayAddr]peer // of the revision in force; nil until this process has committed one
	last      *snapshot.Snapshot   // staged last by this process
	grace     chan struct{}        // closed when every program that runs began after the last commit
	passed    time.Time            // when gateways were known to be past what was in force before; zero: they are not
	settling  *time.Timer
	hops      *neighbours
	mtu       int           // of Device, as the programs were told last
	closing   chan struct{} // closed by Close
	resolved  chan struct{} // closed when keepResolving has ended

	guarded     map[string]door   // further interfaces that are judged, by name
	guests      map[string]*guest // by port, of the revision in force
	guestsMoved chan struct{}     // asks keepGuests to look
	guarding    chan struct{}     // closed when keepGuests has ended; nil on a gateway
	memory      [][]byte          // mappings to undo at Close
	flowTables
	aside  map[string]*ebpf.Map // flow tables that others of another size replace, by name
	movers map[string]mover
	gates  gateStates
}

// pending is what a staged revision does when it is committed.
type pending struct {
	revision lb.Revision
	peers    map[GatewayAddr]peer
	targets  map[uint32]bool
	gates    map[string]gateState
	quiet    uint32
	guests   map[string]*guest
	kin      map[kinKey]bool
}

// Open loads the programs, takes over what an earlier process pinned in
// PinDir, and attaches to Device. On an error nothing new stays attached.
func Open(o Options) (*Datapath, error) {
	if err := o.checkAddresses(); err != nil {
		return nil, err
	}
	if o.Port == 0 {
		o.Port = TunnelPort
	}
	if o.Log == nil {
		o.Log = slog.Default()
	}
	if o.Events == 0 {
		o.Events = 4096
	}
	if o.Buckets&(o.Buckets-1) != 0 {
		return nil, fmt.Errorf("%d flow buckets: must be a power of two", o.Buckets)
	}
	if err := rlimit.RemoveMemlock(); err != nil {
		return nil, fmt.Errorf("lift the limit on locked memory: %w", err)
	}
	if err := preparePins(o.PinDir); err != nil {
		return nil, err
	}
	d := &Datapath{opts: o, log: o.Log, gate: policy.GateCVM, grace: make(chan struct{}), dead: map[uint32]bool{},
		loads: map[uint32]uint32{}, held: map[uint32]uint16{}, guarded: map[string]door{}, settling: time.NewTimer(0)}
	if o.Role == lb.RoleGateway {
		d.gate = policy.GateCLB
	}
	close(d.grace)
	handle, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("ask the kernel for routes and neighbours: %w", err)
	}
	d.hops, d.closing = &neighbours{handle}, make(chan struct{})
	if err := d.load(); err != nil {
		d.Close()
		return nil, err
	}
	if err := d.takeOver(); err != nil {
		d.Close()
		return nil, err
	}
	if err := d.carryFlows(false); err != nil {
		d.Close()
		return nil, err
	}
	if err := d.attach(); err != nil {
		d.Close()
		return nil, err
	}
	if err := d.watchGuests(); err != nil {
		d.Close()
		return nil, err
	}
	d.mu.Lock()
	err = d.carryFlows(o.Role == lb.RoleGateway) // programs at guests' ports may still use the old table
	d.mu.Unlock()
	if err != nil {
		d.Close()
		return nil, err
	}
	d.resolved = make(chan struct{})
	go d.keepResolving()
	return d, nil
}

// load makes or reuses the maps and loads the programs.
func (d *Datapath) load() error {
	spec, err := d.spec()
	if err != nil {
		return err
	}
	set := sizesOf(d.opts.Role)
	if d.opts.Buckets != 0 {
		set.buckets = d.opts.Buckets
	}
	spec.Maps["arena"].ValueSize = 8 * set.arena
	spec.Maps["arena"].Value = nil // the type says another size
	for name, m := range spec.Maps {
		if strings.Contains(name, "_flows") && name != formerFlows {
			m.MaxEntries = set.buckets + apartOf(name)
		}
	}
	key, err := d.hashKey(spec.Maps["revisions"])
	if err != nil {
		return err
	}
	if err := d.setVariables(spec, set, key); err != nil {
		return err
	}
	if err := d.setAside(spec); err != nil {
		return err
	}
	if err := d.replaceOutgrown(spec); err != nil {
		return err
	}
	programs := spec.Programs
	spec.Programs = nil
	coll, err := d.collect(spec)
	if err != nil {
		return fmt.Errorf("load the %s's programs: %w", d.opts.Role, err)
	}
	d.maps, d.vars = coll.Maps, coll.Variables
	spec.Programs = programs
	d.unloaded, d.progs = spec, coll.Programs // those that a test has loaded already, else none
	for _, name := range always(d.opts.Role) {
		if _, err := d.loadProgram(name); err != nil {
			return err
		}
	}
	return nil
}

// hashKey is the secret that places flows in their table. It has to outlive
// the process, or tracked flows would not be found again.
func (d *Datapath) hashKey(spec *ebpf.MapSpec) (uint64, error) {
	m, err := ebpf.LoadPinnedMap(filepath.Join(d.opts.PinDir, spec.Name), nil)
	if err == nil {
		defer m.Close()
		var r GatewayRevisions
		if err := m.Lookup(uint32(0), &r); err == nil && r.HashKey != 0 {
			return r.HashKey, nil
		}
	}
	if d.opts.hashKey != 0 {
		return d.opts.hashKey, nil
	}
	var b [8]byte
	if _, err := rand.Read(b[:]); err != nil {
		return 0, err
	}
	return binary.NativeEndian.Uint64(b[:]) | 1, nil
}

func (d *Datapath) setVariables(spec *ebpf.CollectionSpec, set sizes, key uint64) error {
	dev, err := net.InterfaceByName(d.opts.Device)
	if err != nil {
		return fmt.Errorf("device %s: %w", d.opts.Device, err)
	}
	values := map[string]any{
		"own_address":  rawAddr(d.opts.own(4)),
		"own_address6": rawAddr(d.opts.own(6)),
		"tunnel_port":  d.opts.Port,
		"uplink":       uint32(dev.Index),
		"arena_mask":   set.arena - 1,
		"flow_mask":    set.buckets - 1,
		"hash_key":     key,
		"event_rate":   d.opts.Events,
	}
	if d.opts.Role == lb.RoleGateway {
		values["proxied"] = flagOf(d.opts.Proxied)
		values["answer_vips"] = flagOf(d.opts.ARP)
		values["own_mac"] = hardwareAddr(dev)
		values["mark_mask"] = snapshot.MarkMask
		values["mark_local"] = snapshot.MarkLocal
		values["mark_target"] = snapshot.TargetMark(0)
	} else if d.opts.Control.IsValid() {
		values["control_address"] = rawAddr(d.opts.Control.Addr())
		values["control_family"] = familyOf(d.opts.Control.Addr())
		values["control_port"] = d.opts.Control.Port()
	}
	if d.opts.Role == lb.RoleHost {
		values["mark_judged"] = snapshot.MarkJudged
		values["observe_first"], values["every_interface"] = flagOf(d.opts.Observe), flagOf(d.opts.Every)
	}
	for name, v := range values {
		variable := spec.Variables[name]
		if variable == nil {
			return fmt.Errorf("the programs have no setting %s", name)
		}
		if err := variable.Set(v); err != nil {
			return fmt.Errorf("setting %s: %w", name, err)
		}
	}
	d.key = key
	return nil
}

// attach puts the programs on the device: first in the chain, so that nothing
// passes before them.
func (d *Datapath) attach() error {
	in, out := "host_in", "host_out"
	if d.opts.Role == lb.RoleGateway {
		in, out = "gateway", "gateway_out"
		if err := d.putBehind("rest", "gateway_rest"); err != nil {
			return err
		}
	}
	dev, err := net.InterfaceByName(d.opts.Device)
	if err != nil {
		return fmt.Errorf("device %s: %w", d.opts.Device, err)
	}
	if err := d.setMTU(dev.MTU); err != nil {
		return err
	}
	for _, hook := range []struct {
		program string
		at      ebpf.AttachType
	}{{in, ebpf.AttachTCXIngress}, {out, ebpf.AttachTCXEgress}} {
		l, err := attachOne(filepath.Join(d.opts.PinDir, "link_"+hook.program), d.progs[hook.program], dev.Index, hook.at)
		if err != nil {
			return fmt.Errorf("attach %s to %s: %w", hook.program, d.opts.Device, err)
		}
		d.links = append(d.links, l)
	}
	return d.attachEarly(dev.Index)
}

// attachEarly puts the gateway's XDP program into the device's driver when
// asked to, and takes an earlier process's away when not.
func (d *Datapath) attachEarly(ifindex int) error {
	pin := filepath.Join(d.opts.PinDir, "link_gateway_xdp")
	old, err := link.LoadPinnedLink(pin, nil)
	if d.opts.Attach != AttachXDP {
		if err == nil {
			return errors.Join(old.Unpin(), old.Close())
		}
		return nil
	}
	if d.opts.Role != lb.RoleGateway {
		return errors.New("only a gateway attaches to XDP: gate 2 stands at TC")
	}
	program, fault := d.loadProgram("gateway_xdp")
	if fault != nil {
		if err == nil {
			fault = errors.Join(fault, old.Close())
		}
		return fault
	}
	if err == nil {
		if err = old.Update(program); err == nil {
			d.links = append(d.links, old)
			return nil
		}
		old.Unpin()
		old.Close()
	}
	l, err := link.AttachXDP(link.XDPOptions{Program: program, Interface: ifindex, Flags: link.XDPDriverMode})
	if err != nil {
		return fmt.Errorf("attach gateway_xdp to %s in its driver: %w (use tc)", d.opts.Device, err)
	}
	if err := l.Pin(pin); err != nil {
		return errors.Join(err, l.Close())
	}
	d.links = append(d.links, l)
	return nil
}

// attachOne swaps the program of a link that an earlier process pinned, or
// makes and pins a new one.
func attachOne(pin string, prog *ebpf.Program, ifindex int, at ebpf.AttachType) (link.Link, error) {
	if l, err := link.LoadPinnedLink(pin, nil); err == nil {
		if err = l.Update(prog); err == nil {
			return l, nil
		}
		// The device it was attached to is gone, and the link with it.
		l.Unpin()
		l.Close()
	} else if !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	l, err := link.AttachTCX(link.TCXOptions{Interface: ifindex, Program: prog, Attach: at, Anchor: link.Head()})
	if err != nil {
		return nil, err
	}
	if err := l.Pin(pin); err != nil {
		l.Close()
		return nil, err
	}
	return l, nil
}

// Revision is the revision in force; 0 before the first.
func (d *Datapath) Revision() lb.Revision {
	return lb.Revision(atomic.LoadUint32(&d.revisions.Revision))
}

// Close lets go of programs, maps and links. They stay pinned and attached.
func (d *Datapath) Close() error {
	d.mu.Lock()
	if d.hops == nil {
		d.mu.Unlock()
		return nil
	}
	close(d.closing)
	d.hops.h.Close()
	d.hops = nil
	d.mu.Unlock()
	if d.resolved != nil {
		<-d.resolved
	}
	if d.guarding != nil {
		<-d.guarding
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.settling.Stop()
	<-d.grace
	var errs []error
	for _, m := range d.memory {
		errs = append(errs, unix.Munmap(m))
	}
	d.memory = nil
	for name := range d.aside {
		errs = append(errs, d.letGo(name))
	}
	for _, l := range d.links {
		errs = append(errs, l.Close())
	}
	errs = append(errs, d.closePrograms()...)
	for _, m := range d.maps {
		errs = append(errs, m.Close())
	}
	d.links, d.maps = nil, nil
	return errors.Join(errs...)
}

// Detach takes everything pinned in pinDir off its device and removes it.
// Traffic is no longer judged afterwards: it is for decommissioning a node.
func Detach(pinDir string) error {
	entries, err := os.ReadDir(pinDir)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	var errs []error
	for _, e := range entries {
		errs = append(errs, os.Remove(filepath.Join(pinDir, e.Name())))
	}
	errs = append(errs, os.Remove(pinDir))
	return errors.Join(errs...)
}
