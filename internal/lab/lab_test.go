// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"
)

// TestMain lets the test binary play the processes that a lab starts.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 {
		switch os.Args[1] {
		case "lab-host": // --role R --name N --log F
			ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
			defer stop()
			if err := Stand(ctx, Role(os.Args[3]), os.Args[5], os.Args[7]); err != nil {
				fmt.Fprintln(os.Stderr, err)
				os.Exit(1)
			}
			os.Exit(0)
		case "lab-victim": // DATA: a lab with one instance, until it is killed
			if err := victim(os.Args[2]); err != nil {
				fmt.Fprintln(os.Stderr, err)
				os.Exit(1)
			}
		}
	}
	os.Exit(m.Run())
}

func victim(dir string) error {
	lock, err := Acquire("http://127.0.0.1:1")
	for busy := (*BusyError)(nil); errors.As(err, &busy); lock, err = Acquire("http://127.0.0.1:1") {
		time.Sleep(50 * time.Millisecond) // another package's lab; whoever waits for us gives up some time
	}
	if err != nil {
		return err
	}
	exe, err := os.Executable()
	if err != nil {
		return err
	}
	l, err := Open(lock, Options{DataDir: dir, Temporary: true, Executable: exe})
	if err != nil {
		return err
	}
	if err := l.AddInstance("ins-aaaaaaaa", "web-1", private(1), netip.Addr{}, netip.Addr{}); err != nil {
		return err
	}
	fmt.Println("ready")
	select {}
}

func private(n byte) netip.Addr { return netip.AddrFrom4([4]byte{10, 0, 1, n}) }
func public(n byte) netip.Addr  { return netip.AddrFrom4([4]byte{192, 0, 2, 64 + n}) }

func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("namespaces need root")
	}
}

// acquire takes the machine's one lab, waiting for other tests to give it back.
func acquire(t *testing.T) *Lock {
	t.Helper()
	needRoot(t)
	for deadline := time.Now().Add(10 * time.Minute); ; {
		lock, err := Acquire("http://127.0.0.1:1")
		var busy *BusyError
		switch {
		case err == nil:
			return lock
		case !errors.As(err, &busy) || time.Now().After(deadline):
			t.Fatal(err)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

func openLab(t *testing.T, lock *Lock, dir string) *Lab {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	l, err := Open(lock, Options{DataDir: dir, API: "http://127.0.0.1:1", Region: "local", Executable: exe, Say: t.Logf})
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// until waits for a condition, not for a time.
func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(15 * time.Second); !ok(); {
		if time.Now().After(deadline) {
			t.Fatalf("not within 15 s: %s", what)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// ask sends one request from a host. Connections are not kept.
func ask(t *testing.T, from, url string) (Sight, error) {
	t.Helper()
	client := http.Client{Timeout: 3 * time.Second, Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(_ context.Context, network, address string) (net.Conn, error) {
			return Dial(from, network, address, 2*time.Second)
		},
	}}
	res, err := client.Get(url)
	if err != nil {
		return Sight{}, err
	}
	defer res.Body.Close()
	var s Sight
	return s, json.NewDecoder(res.Body).Decode(&s)
}

func mustAsk(t *testing.T, from, url string) Sight {
	t.Helper()
	var s Sight
	until(t, from+" is answered by "+url, func() bool {
		var err error
		s, err = ask(t, from, url)
		return err == nil
	})
	return s
}

// machine is what must be the same before and after a lab.
type machine struct {
	Links, Routes, Namespaces, Mounts, Run []string
}

func look(t *testing.T) machine {
	t.Helper()
	var m machine
	links, err := netlink.LinkList()
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range links {
		m.Links = append(m.Links, l.Attrs().Name)
	}
	routes, err := netlink.RouteList(nil, netlink.FAMILY_ALL)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range routes {
		m.Routes = append(m.Routes, r.String())
	}
	m.Namespaces, _ = filepath.Glob(netnsDir + "/sp-*")
	m.Run, _ = filepath.Glob(RunDir + "/*")
	m.Run = slices.DeleteFunc(m.Run, func(s string) bool { return s == lockFile })
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(mounts)) {
		if strings.Contains(line, "/run/netns/sp-") || strings.Contains(line, RunDir) {
			m.Mounts = append(m.Mounts, line)
		}
	}
	return m
}

func TestTopology(t *testing.T) {
	lock := acquire(t)
	defer lock.Release()
	if err := clearLeftovers(); err != nil {
		t.Fatal(err)
	}
	before := look(t)
	dir := t.TempDir()
	l := openLab(t, lock, dir)
	defer l.Close()
	during := look(t)
	if diff := cmp.Diff(before.Links, during.Links); diff != "" {
		t.Errorf("links in the machine's own namespace changed:\n%s", diff)
	}
	if diff := cmp.Diff(before.Routes, during.Routes); diff != "" {
		t.Errorf("routes in the machine's own namespace changed:\n%s", diff)
	}
	if err := l.AddInstance("ins-aaaaaaaa", "web-1", private(1), public(1), six(1)); err != nil {
		t.Fatal(err)
	}
	if err := l.AddInstance("ins-bbbbbbbb", "web-2", private(2), netip.Addr{}, netip.Addr{}); err != nil {
		t.Fatal(err)
	}

	rows := []struct{ from, url, instance, peer, local string }{
		{"client-1", "http://192.0.2.65:8080/x?y=1", "ins-aaaaaaaa", "203.0.113.10", "192.0.2.65"},
		{"client-2", "http://192.0.2.65:22/", "ins-aaaaaaaa", "198.51.100.20", "192.0.2.65"},
		{"client-3", "http://10.0.1.2:3389/", "ins-bbbbbbbb", "203.0.113.30", "10.0.1.2"},
		{"ins-aaaaaaaa", "http://10.0.1.2:8089/", "ins-bbbbbbbb", "10.0.1.1", "10.0.1.2"},       // within its network: with the private address
		{"ins-aaaaaaaa", "http://192.0.2.131:80/", "ins-bbbbbbbb", "192.0.2.65", "192.0.2.131"}, // elsewhere with the public one
		{"ins-bbbbbbbb", "http://192.0.2.65:80/", "ins-aaaaaaaa", "10.0.1.2", "192.0.2.65"},     // has none: with the private one
		{"gateway-1", "http://192.0.2.131:80/", "ins-bbbbbbbb", "192.0.2.129", "192.0.2.131"},   // the underlay
		{"client-1", "http://[2001:db8:200::1]:8080/", "ins-aaaaaaaa", "2001:db8:113::10", "2001:db8:200::1"},
		{"client-2", "http://[2001:db8:200::1]:22/", "ins-aaaaaaaa", "2001:db8:51:100::20", "2001:db8:200::1"},
		{"gateway-1", "http://[2001:db8:200::1]/", "ins-aaaaaaaa", "2001:db8:0:2::129", "2001:db8:200::1"},
	}
	if !hasIPv6() {
		rows = slices.DeleteFunc(rows, func(r struct{ from, url, instance, peer, local string }) bool { return strings.Contains(r.url, "[") })
	}
	for _, r := range rows {
		s := mustAsk(t, r.from, r.url)
		if s.Instance != r.instance || s.Peer.String() != r.peer || s.Local.String() != r.local {
			t.Errorf("%s asks %s: instance %s saw %v at %v, want %s %s %s", r.from, r.url, s.Instance, s.Peer, s.Local, r.instance, r.peer, r.local)
		}
	}
	for _, vip := range []string{"192.0.2.1", "10.0.1.77", "198.18.0.9", "2001:db8:200::99"} { // public, private, of the basic network, IPv6
		if _, err := ask(t, "client-1", "http://"+netip.AddrPortFrom(netip.MustParseAddr(vip), 80).String()+"/"); err == nil {
			t.Errorf("the VIP %s answered without any gateway program", vip)
		}
		if got := fabricHost(t, vip); got != DefaultGateway {
			t.Errorf("the fabric sends %s to %s", vip, got)
		}
	}

	t.Run("control stream leaves from the underlay address", func(t *testing.T) { controlSource(t) })
	t.Run("settings", func(t *testing.T) { settings(t) })
	t.Run("access log", func(t *testing.T) { accessLog(t, l) })
	t.Run("restart", func(t *testing.T) { restarted(t, l) })
	t.Run("remove and bring back", func(t *testing.T) { removed(t, l) })
	t.Run("forward", forwarded)
	t.Run("an IPv6 address comes and goes", func(t *testing.T) { readdressed(t, l) })

	if err := l.Close(); err != nil {
		t.Error(err)
	}
	if diff := cmp.Diff(before, look(t)); diff != "" {
		t.Errorf("the lab left something:\n%s", diff)
	}
	until(t, "no process of the lab runs", func() bool { return len(running(dir)) == 0 })

	again := openLab(t, lock, dir)
	defer again.Close()
	if err := again.AddInstance("ins-bbbbbbbb", "web-2", private(2), netip.Addr{}, netip.Addr{}); err != nil {
		t.Fatal(err)
	}
	if s := mustAsk(t, "gateway-1", "http://192.0.2.131:80/"); s.Instance != "ins-bbbbbbbb" {
		t.Errorf("the same data gave ins-bbbbbbbb another underlay address: %v answers at its old one", s.Instance)
	}
}

func six(n byte) netip.Addr { return netip.MustParseAddr(fmt.Sprintf("2001:db8:200::%d", n)) }

// readdressed gives a running instance another IPv6 address, and takes it away.
func readdressed(t *testing.T, l *Lab) {
	if !hasIPv6() {
		t.Skip("skipped: the kernel has no IPv6")
	}
	for _, a := range []netip.Addr{six(7), six(8)} {
		if err := l.SetIPv6("ins-cccccccc", a); err != nil {
			t.Fatal(err)
		}
		if s := mustAsk(t, "client-1", "http://"+netip.AddrPortFrom(a, 80).String()+"/"); s.Local != a || s.Instance != "ins-cccccccc" {
			t.Errorf("at %v: %+v", a, s)
		}
	}
	if h, err := recordedHost("ins-cccccccc"); err != nil || !slices.Equal(h.IPv6, []netip.Addr{six(8)}) {
		t.Errorf("recorded: %+v, %v", h, err)
	}
	if err := l.SetIPv6("ins-cccccccc", netip.Addr{}); err != nil {
		t.Fatal(err)
	}
	if got := fabricHost(t, six(8).String()); got != DefaultGateway {
		t.Errorf("an address that is gone leads to %s", got)
	}
}

// fabricHost is the host to which the fabric sends an address.
func fabricHost(t *testing.T, to string) (host string) {
	t.Helper()
	err := inside(Namespace(fabricName), func() error {
		routes, err := netlink.RouteGet(net.ParseIP(to))
		if err != nil || len(routes) == 0 {
			return fmt.Errorf("route to %s: %v, %w", to, routes, err)
		}
		link, err := netlink.LinkByIndex(routes[0].LinkIndex)
		if err == nil {
			host = link.Attrs().Name
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return host
}

func controlSource(t *testing.T) {
	listener, err := Listen(DefaultServer, "192.0.2.253:7781")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	for host, want := range map[string]string{"ins-aaaaaaaa": "192.0.2.130", "gateway-1": "192.0.2.129"} {
		conn, err := Dial(host, "tcp", "192.0.2.253:7781", 2*time.Second)
		if err != nil {
			t.Fatal(err)
		}
		if got := addrPort(conn.LocalAddr()).Addr().String(); got != want {
			t.Errorf("%s speaks with the server from %s, want %s", host, got, want)
		}
		conn.Close()
	}
}

func settings(t *testing.T) {
	rows := []struct{ host, file, want string }{
		{fabricName, "/proc/sys/net/ipv4/ip_forward", "1"},
		{"client-1", "/proc/sys/net/ipv4/ip_forward", "0"},
		{"gateway-1", "/proc/sys/net/ipv4/conf/eth0/rp_filter", "0"},
		{"ins-aaaaaaaa", "/proc/sys/net/ipv4/conf/eth0/send_redirects", "0"},
		{"ins-aaaaaaaa", "/proc/sys/net/ipv6/conf/eth0/accept_dad", "0"},
	}
	for _, r := range rows {
		err := inside(Namespace(r.host), func() error {
			data, err := os.ReadFile(r.file)
			if got := strings.TrimSpace(string(data)); got != r.want {
				t.Errorf("%s on %s is %q, want %s", r.file, r.host, got, r.want)
			}
			return err
		})
		if err != nil {
			t.Error(err)
		}
	}
	err := inside(Namespace("client-1"), func() error {
		eth, err := netlink.LinkByName("eth0")
		if err == nil && eth.Attrs().MTU != 1500 {
			t.Errorf("MTU is %d", eth.Attrs().MTU)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

func accessLog(t *testing.T, l *Lab) {
	data, err := os.ReadFile(l.Log("ins-aaaaaaaa"))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		`accept peer=203\.0\.113\.10:\d+ local=192\.0\.2\.65:8080\n`,
		`request peer=203\.0\.113\.10:\d+ local=192\.0\.2\.65:8080 method=GET url="/x\?y=1" host="192\.0\.2\.65:8080"\n`,
	} {
		if !regexp.MustCompile(want).Match(data) {
			t.Errorf("no line %s in:\n%s", want, data)
		}
	}
}

func restarted(t *testing.T, l *Lab) {
	host, err := recordedHost("ins-aaaaaaaa")
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(host.PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	until(t, "the web server is another process", func() bool {
		again, err := recordedHost("web-1") // by the owner's name too
		return err == nil && again.PID != 0 && again.PID != host.PID
	})
	mustAsk(t, "client-1", "http://192.0.2.65:8080/")
}

func recordedHost(name string) (HostRecord, error) {
	r, err := Current()
	if err != nil {
		return HostRecord{}, err
	}
	return r.Host(name)
}

func removed(t *testing.T, l *Lab) {
	if err := l.RemoveInstance("ins-aaaaaaaa"); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(Namespace("ins-aaaaaaaa")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("its namespace is still named: %v", err)
	}
	if _, err := recordedHost("ins-aaaaaaaa"); err == nil || !strings.Contains(err.Error(), "client-1, client-2") {
		t.Errorf("a host that is gone: %v", err)
	}
	// Address and name are free again at once.
	if err := l.AddInstance("ins-cccccccc", "web-3", private(1), public(1), netip.Addr{}); err != nil {
		t.Fatal(err)
	}
	if s := mustAsk(t, "gateway-1", "http://192.0.2.130:80/"); s.Instance != "ins-cccccccc" {
		t.Errorf("the freed underlay address belongs to %s", s.Instance)
	}
}

func forwarded(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- Forward(ctx, listener, "client-2", "192.0.2.65:8080", t.Logf) }()
	res, err := http.Get("http://" + listener.Addr().String() + "/through")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	var s Sight
	if err := json.NewDecoder(res.Body).Decode(&s); err != nil {
		t.Fatal(err)
	}
	if s.Peer.String() != "198.51.100.20" || s.URL != "/through" {
		t.Errorf("the instance saw %v asking for %s, want client-2's address and /through", s.Peer, s.URL)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// running lists processes that were started with dir among their arguments.
func running(dir string) []string {
	var found []string
	lines, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, file := range lines {
		data, _ := os.ReadFile(file)
		if bytes.Contains(data, []byte(dir)) {
			found = append(found, file+" "+string(bytes.ReplaceAll(data, []byte{0}, []byte(" "))))
		}
	}
	return found
}

func TestKilledLabIsClearedAway(t *testing.T) {
	lock := acquire(t)
	if err := clearLeftovers(); err != nil {
		t.Fatal(err)
	}
	before := look(t)
	if err := lock.Release(); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "victim")
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe, "lab-victim", dir)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if got, _ := io.ReadAll(io.LimitReader(out, 6)); string(got) != "ready\n" {
		t.Fatalf("the victim said %q", got)
	}
	_, err = Acquire("http://127.0.0.1:2")
	var busy *BusyError
	if !errors.As(err, &busy) || busy.PID != cmd.Process.Pid || busy.API != "http://127.0.0.1:1" {
		t.Errorf("a second lab got %v, want the first's pid %d and API", err, cmd.Process.Pid)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	until(t, "the victim's processes died with it", func() bool { return len(running(dir)) == 0 })

	lock = acquire(t)
	defer lock.Release()
	if err := clearLeftovers(); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(before, look(t)); diff != "" {
		t.Errorf("still there after the killed lab:\n%s", diff)
	}
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("its temporary data is still there: %v", err)
	}
	if _, err := Current(); !errors.Is(err, ErrNoLab) {
		t.Errorf("Current says %v, want ErrNoLab", err)
	}
}

func TestLastAddressIsRefusedByName(t *testing.T) {
	l := &Lab{o: Options{DataDir: t.TempDir()}, underlay: map[string]netip.Addr{}}
	for i := range 123 { // .130 to .252
		if _, err := l.allocate(fmt.Sprintf("ins-%08d", i)); err != nil {
			t.Fatalf("instance %d: %v", i+1, err)
		}
	}
	if a, err := l.allocate("ins-overfull"); err == nil || !strings.Contains(err.Error(), "room for 123 instances") {
		t.Errorf("the 124th instance got %v, %v", a, err)
	}
	if err := l.KeepOnly(func(id string) bool { return id != "ins-00000007" }); err != nil {
		t.Fatal(err)
	}
	if a, err := l.allocate("ins-overfull"); err != nil || a.String() != "192.0.2.137" {
		t.Errorf("the freed address: %v, %v", a, err)
	}
}

func TestKernelFault(t *testing.T) {
	rows := []struct {
		release string
		old     bool
	}{
		{"6.6.0", false}, {"6.12.41+deb13-amd64", false}, {"7.0.1", false},
		{"6.5.13", true}, {"6.1.0-37-amd64", true}, {"5.10.0", true}, {"nonsense", true},
	}
	for _, r := range rows {
		fault := KernelFault(r.release)
		if (fault != "") != r.old {
			t.Errorf("KernelFault(%q) = %q", r.release, fault)
		}
		if r.old && (!strings.Contains(fault, r.release) || !strings.Contains(fault, "install linux-image-")) {
			t.Errorf("KernelFault(%q) does not say what is there and what to install: %q", r.release, fault)
		}
	}
}

func TestPauseOnlyAfterRepeatedEarlyDeaths(t *testing.T) {
	rows := []struct {
		early int
		want  time.Duration
	}{{0, 0}, {1, 0}, {3, 0}, {4, 200 * time.Millisecond}, {5, 400 * time.Millisecond}, {9, 5 * time.Second}, {1000, 5 * time.Second}}
	for _, r := range rows {
		if got := pause(r.early); got != r.want {
			t.Errorf("pause(%d) = %v, want %v", r.early, got, r.want)
		}
	}
}

func TestWeb(t *testing.T) {
	var log bytes.Buffer
	web := &Web{Instance: "ins-aaaaaaaa", Log: &log, Now: time.Now}
	server := httptest.NewServer(web)
	defer server.Close()

	res, err := http.Post(server.URL+"/up", "text/plain", strings.NewReader(strings.Repeat("x", 100_000)))
	if err != nil {
		t.Fatal(err)
	}
	var s Sight
	err = json.NewDecoder(res.Body).Decode(&s)
	res.Body.Close()
	if err != nil || s.Bytes != 100_000 || s.Method != "POST" || s.Headers.Get("Content-Type") != "text/plain" || s.Peer.String() != "127.0.0.1" {
		t.Errorf("upload was seen as %+v (%v)", s, err)
	}

	res, err = http.Get(server.URL + "/download?bytes=3000000")
	if err != nil {
		t.Fatal(err)
	}
	n, _ := io.Copy(io.Discard, res.Body)
	res.Body.Close()
	if n != 3_000_000 {
		t.Errorf("download had %d bytes", n)
	}
	for _, bad := range []string{"", "?bytes=x", "?bytes=-1"} {
		res, err = http.Get(server.URL + "/download" + bad)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if res.StatusCode != http.StatusBadRequest {
			t.Errorf("/download%s answered %s", bad, res.Status)
		}
	}
	if !strings.Contains(log.String(), `method=POST url="/up"`) {
		t.Errorf("log:\n%s", log.String())
	}
}

func TestKilledTellsOwnDeathsFromOthers(t *testing.T) {
	rows := []struct {
		script string
		want   bool
	}{{"kill -9 $$", true}, {"kill -15 $$", true}, {"exit 1", false}, {"exit 0", false}}
	for _, r := range rows {
		if got := killed(exec.Command("sh", "-c", r.script).Run()); got != r.want {
			t.Errorf("killed after %q = %v", r.script, got)
		}
	}
}

func TestEarlyDeathsAreToldOnceAndCounted(t *testing.T) {
	var said []string
	c := &child{Process: Process{Name: "server"}, log: "/x/server.log", say: func(format string, args ...any) { said = append(said, fmt.Sprintf(format, args...)) }}
	l := &Lab{children: []*child{c}}
	for i := range 9 {
		c.tell(c.died(true), errors.New("exit status 1"))
		if got, want := l.Failing("server"), i >= hopeless; got != want {
			t.Errorf("after %d early deaths Failing is %v", i+1, got)
		}
	}
	want := []string{"server ended (exit status 1); starting it again", "server ends again and again (exit status 1); its log is /x/server.log"}
	if diff := cmp.Diff(want, said); diff != "" {
		t.Errorf("said (-want +got):\n%s", diff)
	}
	if c.died(false); l.Failing("server") {
		t.Error("a life that lasted does not count as well-being")
	}
}
