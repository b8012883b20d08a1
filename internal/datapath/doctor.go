// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/features"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/sallyport/sallyport/internal/lb"
)

// A Finding is one thing that Doctor looked at.
type Finding struct {
	OK   bool // false: the node will not work until this is mended
	What string
	Text string // what is there, and what to do if it is not enough
}

// clientMTU is the packet size that clients are assumed to use.
const clientMTU = 1500

// earlyDrivers run XDP natively and keep segmentation offload for the rest of
// the stack. On veth, tap and virtio XDP costs more than it saves.
var earlyDrivers = []string{"bnxt_en", "ena", "gve", "i40e", "ice", "igb", "igc", "ixgbe", "mlx4_en", "mlx5_core", "nfp", "qede", "sfc"}

// ChooseAttach says which hooks a gateway should use on a device, and why in
// plain words.
func ChooseAttach(device string) (Attach, string) {
	driver, err := driverOf(device)
	switch {
	case err != nil:
		return AttachTC, fmt.Sprintf("TC: the driver of %s does not say who it is", device)
	case slices.Contains(earlyDrivers, driver):
		links, err := netlink.LinkList()
		if err != nil {
			return AttachTC, fmt.Sprintf("TC: cannot look for VLANs on %s: %v", device, err)
		}
		if why := hidesVLANs(device, vlansOn(device, links), stripsTags(device)); why != "" {
			return AttachTC, "TC only: " + why
		}
		return AttachXDP, fmt.Sprintf("XDP with TC behind it: driver %s runs XDP by itself", driver)
	}
	return AttachTC, fmt.Sprintf("TC only: on driver %s XDP would give up segmentation offload", driver)
}

// driverOf is the name of the driver behind an interface.
func driverOf(device string) (string, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return "", err
	}
	defer unix.Close(fd)
	info, err := unix.IoctlGetEthtoolDrvinfo(fd, device)
	if err != nil {
		return "", err
	}
	return unix.ByteSliceToString(info.Driver[:]), nil
}

// Doctor looks at what this machine supports for a role on a device, and says
// what will be used. It changes nothing.
func Doctor(role lb.NodeRole, device, pinDir string) []Finding {
	findings := []Finding{kernelFinding(), privilegeFinding(), programFinding()}
	dev, err := net.InterfaceByName(device)
	if err != nil {
		return append(findings, Finding{false, "device", fmt.Sprintf("%s: %v; name the interface that faces the network with --device", device, err)})
	}
	attach, why := AttachTC, "TC: gate 2 stands there on every device"
	if role == lb.RoleGateway {
		attach, why = ChooseAttach(device)
	}
	findings = append(findings,
		Finding{true, "attach", fmt.Sprintf("%s (--attach %s)", why, attach)},
		mtuFinding(dev), pinFinding(pinDir))
	return append(findings, linkFindings(role, device)...)
}

func kernelFinding() Finding {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return Finding{false, "kernel", err.Error()}
	}
	release := unix.ByteSliceToString(u.Release[:])
	var major, minor int
	if _, err := fmt.Sscanf(release, "%d.%d", &major, &minor); err != nil || major < 6 || major == 6 && minor < 6 {
		return Finding{false, "kernel", fmt.Sprintf("Linux %s is older than 6.6, which brought the hook that the gates use; install a newer kernel (on Debian 12 linux-image-amd64 from backports)", release)}
	}
	return Finding{true, "kernel", "Linux " + release}
}

func privilegeFinding() Finding {
	if os.Geteuid() != 0 {
		return Finding{false, "privilege", "not root: loading programs needs CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON"}
	}
	return Finding{true, "privilege", "root"}
}

func programFinding() Finding {
	for _, t := range []ebpf.ProgramType{ebpf.SchedCLS, ebpf.XDP} {
		if err := features.HaveProgramType(t); err != nil && !errors.Is(err, ebpf.ErrNotSupported) {
			return Finding{false, "programs", fmt.Sprintf("cannot ask the kernel about %v programs: %v", t, err)}
		} else if err != nil {
			return Finding{false, "programs", fmt.Sprintf("this kernel was built without %v programs", t)}
		}
	}
	if err := features.HaveMapType(ebpf.RingBuf); err != nil {
		return Finding{false, "programs", fmt.Sprintf("this kernel has no ring buffers: %v", err)}
	}
	return Finding{true, "programs", "TC and XDP programs and ring buffers are there"}
}

// mtuFinding says what the tunnel leaves for packets, and what that means for
// fragments.
func mtuFinding(dev *net.Interface) Finding {
	inside := dev.MTU - tunnelOverhead
	text := fmt.Sprintf("MTU %d leaves %d bytes inside the tunnel, so TCP is asked for segments of at most %d", dev.MTU, inside, inside-40)
	if inside < clientMTU {
		text += fmt.Sprintf("; packets of %d bytes do not fit whole: raise the MTU to %d to spare segments", clientMTU, clientMTU+tunnelOverhead)
	}
	if inside < clientMTU {
		text += fmt.Sprintf("; until then fragments are dropped (reason fragment), so let UDP applications send what fits whole")
	} else {
		text += "; fragments pass once the first of their packet did (reason fragment: those that are early, or come alone)"
	}
	return Finding{dev.MTU >= 576+tunnelOverhead, "mtu", text}
}

func pinFinding(dir string) Finding {
	for dir != "/" && dir != "." {
		var fs unix.Statfs_t
		if err := unix.Statfs(dir, &fs); err == nil {
			if fs.Type == unix.BPF_FS_MAGIC {
				return Finding{true, "pins", dir + " is in a bpf file system: the gates outlive the process"}
			}
			return Finding{false, "pins", dir + " is not in a bpf file system; mount -t bpf bpf /sys/fs/bpf, or name another folder with --pin"}
		}
		dir = dir[:max(strings.LastIndex(dir, "/"), 1)]
	}
	return Finding{false, "pins", "no folder for pinned programs: name one with --pin"}
}
