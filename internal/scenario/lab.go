// SPDX-License-Identifier: Apache-2.0

package scenario

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/sallyport/sallyport/internal/cloudapi"
)

// Lab is one `sallyport up` for all stories. Stories run on its stages.
type Lab struct {
	binary   string
	data     string // the lab's folder
	up       *exec.Cmd
	said     *bytes.Buffer
	ended    chan struct{}
	client   cloudapi.Client
	port     atomic.Uint32 // source port of the next send
	verdicts *follower

	mu   sync.Mutex
	pids map[string]int        // of a process in the network namespace of each host
	free map[string][]Instance // that no stage has, by kind
}

// A Stage is the engine with real packets: a lab, and instances of its own for
// as long as one story lasts. Stages of one lab run stories at the same time.
type Stage struct {
	*Lab
	instances map[string]Instance
	flows     map[string]*liveFlow // that the story holds open, by name
}

// Stage makes a stage without instances. Leave ends it.
func (l *Lab) Stage() *Stage {
	return &Stage{Lab: l, instances: map[string]Instance{}, flows: map[string]*liveFlow{}}
}

// Leave lets other stages have the instances, which the story left as they were.
func (l *Stage) Leave() {
	for _, f := range l.flows {
		_ = f.conn.Close()
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for name, i := range l.instances {
		l.free[kindOf(name)] = append(l.free[kindOf(name)], i)
	}
	clear(l.instances)
}

// take gives an instance of the name's kind that no stage has; false when there
// is none.
func (l *Lab) take(name string) (Instance, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	free := l.free[kindOf(name)]
	if len(free) == 0 {
		return Instance{}, false
	}
	i := free[len(free)-1]
	l.free[kindOf(name)], i.Name = free[:len(free)-1], name
	return i, true
}

// kindOf is what an instance's name says of its place.
func kindOf(name string) string {
	kind, _, _ := strings.Cut(name, "-")
	return kind
}

// patience is how long a test waits for another lab on the machine to end, and
// for its own to be ready.
const patience = 14 * time.Minute

// StartLab runs `up` of the binary in dir, without the demo, and waits until
// it is ready. The machine has room for one lab, so it waits for another's end.
func StartLab(ctx context.Context, binary, dir string, flags ...string) (*Lab, error) {
	deadline := time.Now().Add(patience)
	for {
		l, busy, err := startLab(ctx, binary, dir, flags)
		if !busy || time.Now().After(deadline) {
			return l, err
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(time.Second):
		}
	}
}

func startLab(ctx context.Context, binary, dir string, flags []string) (l *Lab, busy bool, err error) {
	ready := filepath.Join(dir, "ready.json")
	l = &Lab{binary: binary, data: filepath.Join(dir, "data"), said: &bytes.Buffer{}, ended: make(chan struct{}), pids: map[string]int{}, free: map[string][]Instance{}}
	l.port.Store(20000)
	l.up = exec.Command(binary, append([]string{"up", "--data", l.data, "--ready-file", ready}, flags...)...)
	l.up.Stdout, l.up.Stderr = l.said, l.said
	l.up.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	if err := l.up.Start(); err != nil {
		return nil, false, err
	}
	go func() {
		_ = l.up.Wait()
		close(l.ended)
	}()
	err = until(ctx, func() (bool, error) {
		select {
		case <-l.ended:
			return false, fmt.Errorf("up ended: %s", strings.TrimSpace(l.said.String()))
		default:
		}
		_, err := os.Stat(ready)
		return err == nil, nil
	})
	if err != nil {
		busy = l.gone() && (strings.Contains(l.said.String(), "already running") || strings.Contains(l.said.String(), "just starting"))
		_ = l.Close()
		return nil, busy, err
	}
	if err := l.read(ready); err != nil {
		_ = l.Close()
		return nil, false, err
	}
	l.verdicts = follow(&l.client)
	return l, false, nil
}

func (l *Lab) gone() bool {
	select {
	case <-l.ended:
		return true
	default:
		return false
	}
}

// Close ends the lab and waits for its end.
func (l *Lab) Close() error {
	if l.verdicts != nil {
		l.verdicts.stop()
	}
	if l.gone() {
		return nil
	}
	if err := l.up.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	select {
	case <-l.ended:
		return nil
	case <-time.After(20 * time.Second):
		return fmt.Errorf("up does not end; it said: %s", l.said.String())
	}
}

// readyFile is what `up` writes when it is ready and `lab ls --json` prints.
type readyFile struct {
	API       string
	Region    string
	SecretID  string
	SecretKey string
	Hosts     []struct {
		Name       string
		InstanceID string
		PID        int
	}
}

func (l *Lab) read(name string) error {
	data, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	return l.learn(data)
}

// learn takes the API's address and the hosts' processes from a ready file.
func (l *Lab) learn(data []byte) error {
	var ready readyFile
	if err := json.Unmarshal(data, &ready); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.client.Endpoint == "" {
		l.client = cloudapi.Client{Endpoint: ready.API, SecretID: ready.SecretID, SecretKey: ready.SecretKey, Region: ready.Region}
	}
	for _, h := range ready.Hosts {
		if h.PID != 0 {
			l.pids[h.Name] = h.PID
		}
	}
	return nil
}

// pid is a process in the host's namespace, 0 when there is none.
func (l *Lab) pid(host string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.pids[host]
}

// command runs the lab's own binary.
func (l *Lab) command(ctx context.Context, args ...string) ([]byte, error) {
	out, err := exec.CommandContext(ctx, l.binary, args...).Output()
	if exit, ok := err.(*exec.ExitError); ok {
		err = fmt.Errorf("sallyport %s: %w: %s", strings.Join(args, " "), err, exit.Stderr)
	}
	return out, err
}

// Call signs the request and sends it over HTTP.
func (l *Lab) Call(ctx context.Context, api API, action string, in, out any) error {
	if err := l.client.Do(ctx, api.Service, api.Version, action, in, out); err != nil {
		return fmt.Errorf("%s: %w", action, err)
	}
	return nil
}

// Instance takes a free instance of that kind, or runs one and waits until it has
// a host in the lab.
func (l *Stage) Instance(ctx context.Context, name string, public bool) (Instance, error) {
	if i, ok := l.instances[name]; ok {
		return i, nil
	}
	if i, ok := l.take(name); ok {
		l.instances[name] = i
		return i, nil
	}
	id, err := runInstance(ctx, l, name, public)
	if err != nil {
		return Instance{}, err
	}
	var out struct {
		InstanceSet []struct {
			InstanceState      string
			PrivateIpAddresses []netip.Addr
			PublicIpAddresses  []netip.Addr
		}
	}
	err = until(ctx, func() (bool, error) {
		if err := l.Call(ctx, apiCVM(), "DescribeInstances", map[string]any{"InstanceIds": []string{id}}, &out); err != nil {
			return false, err
		}
		return len(out.InstanceSet) == 1 && out.InstanceSet[0].InstanceState == "RUNNING", nil
	})
	if err != nil {
		return Instance{}, fmt.Errorf("%s does not run: %w", id, err)
	}
	err = until(ctx, func() (bool, error) {
		data, err := l.command(ctx, "lab", "ls", "--json")
		if err == nil {
			err = l.learn(data)
		}
		return l.pid(id) != 0, err
	})
	if err != nil {
		return Instance{}, fmt.Errorf("%s has no host: %w", id, err)
	}
	i := Instance{Name: name, ID: id, Private: out.InstanceSet[0].PrivateIpAddresses[0]}
	if public {
		i.Public = out.InstanceSet[0].PublicIpAddresses[0]
	}
	l.instances[name] = i
	return i, nil
}

// Settle waits until every node has the newest revision in force.
func (l *Lab) Settle(ctx context.Context) error {
	want := uint64(0)
	return until(ctx, func() (bool, error) {
		var status struct {
			Revision uint64
			Nodes    []struct {
				Name     string
				Revision uint64
				Error    string
			}
		}
		if err := l.Call(ctx, apiSallyport(), "DescribeStatus", nil, &status); err != nil {
			return false, err
		}
		if want == 0 {
			want = status.Revision
		}
		for _, n := range status.Nodes {
			if n.Error != "" {
				return false, fmt.Errorf("node %s: %s", n.Name, n.Error)
			}
			if n.Revision < want {
				return false, nil
			}
		}
		return len(status.Nodes) > 0, nil
	})
}

// Health asks until the state is the one wanted, at most half a minute: with
// the shortest intervals a target changes its state within ten seconds.
func (l *Lab) Health(ctx context.Context, h Health) (Health, error) {
	got := h
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	err := until(ctx, func() (bool, error) {
		var err error
		got, err = l.healthNow(ctx, h)
		return got.State == h.State && (h.Kind == "" || got.Kind == h.Kind), err
	})
	if ctx.Err() != nil {
		err = nil // it never came to that: got says what it is
	}
	return got, err
}

func (l *Lab) healthNow(ctx context.Context, h Health) (Health, error) {
	type target struct {
		TargetId           string
		Port               uint16
		HealthStatusDetail string
		HealthReason       *struct{ Kind string }
	}
	var out struct {
		LoadBalancers []struct {
			Listeners []struct {
				Rules []struct{ Targets []target }
			}
		}
	}
	if err := l.Call(ctx, apiCLB(), "DescribeTargetHealth", map[string]any{"LoadBalancerIds": []string{h.Balancer}}, &out); err != nil {
		return h, err
	}
	h.State, h.Kind = "unknown", ""
	for _, b := range out.LoadBalancers {
		for _, listener := range b.Listeners {
			for _, rule := range listener.Rules {
				for _, t := range rule.Targets {
					if t.TargetId != h.Instance.ID || t.Port != h.Port {
						continue
					}
					h.State = strings.ToLower(t.HealthStatusDetail)
					if t.HealthReason != nil {
						h.Kind = t.HealthReason.Kind
					}
				}
			}
		}
	}
	return h, nil
}

// Logged looks into the instance's access log, waiting for the line if need be.
// A TCP probe asks nothing, so an accepted connection counts.
func (l *Lab) Logged(ctx context.Context, i Instance, port uint16, from netip.Addr) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	peer, local := fmt.Sprintf(" peer=%v:", from), fmt.Sprintf(":%d ", port)
	err := until(ctx, func() (bool, error) {
		data, err := l.command(ctx, "lab", "logs", i.ID)
		for line := range strings.SplitSeq(string(data), "\n") {
			if _, at, ok := strings.Cut(line, " local="); ok && strings.Contains(line, peer) && strings.Contains(at+" ", local) {
				return true, nil
			}
		}
		return false, err
	})
	if ctx.Err() != nil {
		return false, nil
	}
	return err == nil, err
}

// logs are the access logs of all instances, read where the lab keeps them:
// that is done so often that a program for each would take most of the time.
func (l *Stage) logs() (string, error) {
	var all strings.Builder
	for _, i := range l.instances {
		data, err := os.ReadFile(filepath.Join(l.data, "logs", i.ID+".log"))
		if err != nil {
			return "", err
		}
		all.Write(data)
	}
	return all.String(), nil
}
