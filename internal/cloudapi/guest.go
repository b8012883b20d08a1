// SPDX-License-Identifier: Apache-2.0

package cloudapi

import (
	"cmp"
	"fmt"
	"net"
	"net/netip"
	"regexp"
	"strings"

	"github.com/sallyport/sallyport/internal/lb"
	"github.com/sallyport/sallyport/internal/policy"
	"github.com/sallyport/sallyport/internal/store"
)

// deviceName is what the kernel takes for an interface's name, without the few
// characters that would not do in a file's.
var deviceName = regexp.MustCompile(`^[A-Za-z0-9_.:-]{1,15}$`)

type addGuestIn struct {
	Host             string   `tc:"required"` // the host's name: its instance's id
	Device           string   `tc:"required"` // the tap, veth or bridge's port there behind which the guest is
	MacAddress       string   `tc:"required"` // the guest's own
	PrivateIpAddress string   `tc:"required"`
	Ipv6Address      string   `tc:""`
	InstanceName     string   `tc:""`
	SecurityGroupIds []string `tc:""` // none: the default group
}

type addGuestOut struct{ InstanceId string }

// addGuest makes the instance of a virtual machine or container on a host whose
// agent is ours: that agent guards the guest's port, out of the guest's reach.
// Its gate enforces from the start.
func addGuest(c *Call, in *addGuestIn) (*addGuestOut, error) {
	i := lb.Instance{Name: cmp.Or(in.InstanceName, "Unnamed"), State: lb.Pending, Joined: true, Host: lb.NodeID(in.Host), Port: in.Device}
	if err := in.read(&i); err != nil {
		return nil, err
	}
	out := &addGuestOut{}
	return out, c.Update(func(tx *store.Tx) error {
		host := tx.State().Instances.Get(lb.InstanceID(in.Host))
		if n := tx.State().Nodes.Get(i.Host); n == nil || n.Role != lb.RoleHost || host == nil || host.Host != "" {
			return refuse(lb.NotFound, "Host", fmt.Sprintf("there is no host %q", clip(in.Host, 70)), "`sallyport node ls` lists them")
		}
		groups, err := (&runInstancesIn{SecurityGroupIds: in.SecurityGroupIds}).groups(c, tx)
		if err != nil {
			return err
		}
		for id, other := range tx.State().Instances.All() {
			if other.Host == i.Host && (other.Port == i.Port || other.MAC == i.MAC) {
				return refuse(lb.InUse, "Device", fmt.Sprintf("%s, behind %s with %s, has that port or MAC address", id, other.Port, other.MAC), "let RemoveGuest remove it, or name another port and address")
			}
		}
		used := usedAddresses(tx.State())
		for field, a := range map[string]netip.Addr{"PrivateIpAddress": i.Private, "Ipv6Address": i.IPv6} {
			if a.IsValid() && used[a] {
				return refuse(lb.InUse, field, fmt.Sprintf("%v belongs to another instance, load balancer or gateway", a), "addresses are unique in a region")
			}
		}
		i.ID, i.VPC, i.Groups, i.Created = makeID(c, "ins-", tx.State().Instances), host.VPC, groups, c.Now().UTC()
		tx.PutInstance(&i)
		out.InstanceId = string(i.ID)
		return c.checkMembers(tx, groups)
	})
}

// read takes what the call says of a guest.
func (in *addGuestIn) read(i *lb.Instance) error {
	if !deviceName.MatchString(in.Device) || in.Device == "lo" {
		return refuse(lb.Invalid, "Device", fmt.Sprintf("%q is no interface's name", clip(in.Device, 40)), "`ip link` on the host lists them; 1 to 15 of letters, digits and _.:-")
	}
	mac, err := net.ParseMAC(in.MacAddress)
	if err != nil || len(mac) != 6 || mac[0]&1 != 0 {
		return refuse(lb.Invalid, "MacAddress", fmt.Sprintf("%q is not a machine's MAC address", clip(in.MacAddress, 40)), "give it as 02:00:00:00:00:01")
	}
	i.MAC = mac.String()
	for _, a := range []struct {
		field, text string
		into        *netip.Addr
		ok          func(netip.Addr) bool
	}{{"PrivateIpAddress", in.PrivateIpAddress, &i.Private, netip.Addr.Is4}, {"Ipv6Address", in.Ipv6Address, &i.IPv6, netip.Addr.Is6}} {
		if a.text == "" {
			continue
		}
		parsed, err := netip.ParseAddr(a.text)
		if err != nil || !a.ok(parsed) || parsed.Is4In6() || parsed.Zone() != "" || !parsed.IsGlobalUnicast() {
			return refuse(lb.Malformed, a.field, fmt.Sprintf("%q is not such an address", clip(a.text, 60)), "give the address that the guest has")
		}
		*a.into = parsed
	}
	return instanceName("InstanceName", in.InstanceName)
}

type removeGuestIn struct {
	InstanceId string `tc:"required"`
}

// removeGuest removes a guest, also from behind listeners. Its port is nobody's
// then: what is behind it is judged no longer.
func removeGuest(c *Call, in *removeGuestIn) (*done, error) {
	return &done{}, c.Update(func(tx *store.Tx) error {
		i := tx.State().Instances.Get(lb.InstanceID(in.InstanceId))
		if i == nil || i.Host == "" {
			return refuse(lb.NotFound, "InstanceId", fmt.Sprintf("there is no guest %q", clip(in.InstanceId, 40)), "AddGuest made it; DescribeHosts says which instances are guests")
		}
		removeInstance(tx, i)
		return nil
	})
}

// checkHosts refuses a change after which a host with guests could not hold the
// policies and addresses of all of them: one without has room for any.
func (c *Call) checkHosts(tx *store.Tx, before *lb.State) error {
	st := tx.State()
	if len(st.Instances.Changed(before.Instances))+len(st.Groups.Changed(before.Groups))+len(st.Templates.Changed(before.Templates)) == 0 {
		return nil
	}
	hosts := map[lb.NodeID][]*lb.Instance{}
	for _, i := range st.Instances.All() {
		if i.Host != "" {
			hosts[i.Host] = append(hosts[i.Host], i)
		}
	}
	resolver := policy.NewResolver(st)
	for host, all := range hosts {
		if own := st.Instances.Get(lb.InstanceID(host)); own != nil {
			all = append(all, own)
		}
		rows, words, counters, seen := 0, 0, 0, map[string]bool{}
		for _, i := range all {
			rows += len(i.Addresses())
			key := strings.Join(groupTextsOf(i.Groups), " ")
			if counters += 2; seen[key] {
				continue
			}
			seen[key] = true
			for _, direction := range []policy.Direction{policy.In, policy.Out} {
				compiled, err := c.Compile(resolver.Resolve(i.Groups, direction))
				if err != nil {
					return nil // said where it is bound
				}
				words += lb.BlobHeader + compiled.Words()
				counters += len(compiled.Rules)
			}
		}
		for _, a := range []struct {
			n, limit int
			of       string
		}{{rows, lb.MaxInstanceRows, "addresses"}, {words, lb.MaxHostWords, "words of memory for rules"}, {counters, lb.MaxCounterSlots, "counters of rules"}} {
			if a.n > a.limit {
				return refuse(lb.LimitExceeded, "", fmt.Sprintf("host %s with its guests would take %d %s; it has room for %d", host, a.n, a.of, a.limit),
					"bind the same or smaller groups to its guests, or put some on another host")
			}
		}
	}
	return nil
}
