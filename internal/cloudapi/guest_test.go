// SPDX-License-Identifier: Apache-2.0

package cloudapi

import (
	"context"
	"net/netip"
	"testing"

	"github.com/sallyport/sallyport/internal/control"
	"github.com/sallyport/sallyport/internal/lb"
	"github.com/sallyport/sallyport/internal/store"
)

// joinedHost lets a machine join as ins-host0001 with a node.
func joinedHost(t *testing.T, b *bench) {
	t.Helper()
	_, err := b.Store.Update(context.Background(), func(tx *store.Tx) error {
		if err := b.Server.Admit(tx, control.Machine{Instance: "ins-host0001", Name: "metal", Address: netip.MustParseAddr("198.51.100.11")}); err != nil {
			return err
		}
		tx.PutNode(&lb.Node{ID: "ins-host0001", Num: tx.NextNum(), Role: lb.RoleHost, Instance: "ins-host0001", Address: netip.MustParseAddr("198.51.100.11")})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// A guest is an instance of its own, in its groups and behind listeners, until
// it is removed or its host is forgotten.
func TestGuests(t *testing.T) {
	b := newBench(t)
	joinedHost(t, b)
	const good = `"Host":"ins-host0001","Device":"tap0","MacAddress":"52:54:00:12:34:56","PrivateIpAddress":"10.9.0.5"`
	for _, row := range [][3]string{
		{`{"Host":"ins-nobody00","Device":"tap0","MacAddress":"52:54:00:12:34:56","PrivateIpAddress":"10.9.0.5"}`, "ResourceNotFound", "Host"},
		{`{"Host":"ins-host0001","Device":"tap/0","MacAddress":"52:54:00:12:34:56","PrivateIpAddress":"10.9.0.5"}`, "InvalidParameterValue", "Device"},
		{`{"Host":"ins-host0001","Device":"lo","MacAddress":"52:54:00:12:34:56","PrivateIpAddress":"10.9.0.5"}`, "InvalidParameterValue", "Device"},
		{`{"Host":"ins-host0001","Device":"tap0","MacAddress":"53:54:00:12:34:56","PrivateIpAddress":"10.9.0.5"}`, "InvalidParameterValue", "MacAddress"},
		{`{"Host":"ins-host0001","Device":"tap0","MacAddress":"52:54:00:12:34:56","PrivateIpAddress":"2001:db8::5"}`, "InvalidParameterValue", "PrivateIpAddress"},
		{`{"Host":"ins-host0001","Device":"tap0","MacAddress":"52:54:00:12:34:56","PrivateIpAddress":"198.51.100.11"}`, "ResourceInUse", "PrivateIpAddress"},
		{`{` + good + `,"Ipv6Address":"10.0.0.1"}`, "InvalidParameterValue", "Ipv6Address"},
	} {
		b.refused("AddGuest", row[0], row[1], row[2])
	}
	var made struct{ InstanceId string }
	b.must("AddGuest", `{`+good+`,"Ipv6Address":"2001:db8:9::5","InstanceName":"db-1"}`, &made)
	b.refused("AddGuest", `{`+good+`}`, "ResourceInUse", "Device")
	var hosts struct {
		Instances []struct{ InstanceId, InstanceName, Host, Device, MacAddress, Gate string }
	}
	b.must("DescribeHosts", `{}`, &hosts)
	found := false
	for _, h := range hosts.Instances {
		if h.InstanceId == made.InstanceId {
			found = h.Host == "ins-host0001" && h.Device == "tap0" && h.MacAddress == "52:54:00:12:34:56" && h.Gate == "enforce" && h.InstanceName == "db-1"
		}
	}
	if !found {
		t.Errorf("DescribeHosts says %+v of %s", hosts.Instances, made.InstanceId)
	}
	b.refused("RemoveGuest", `{"InstanceId":"ins-host0001"}`, "ResourceNotFound", "InstanceId")
	b.must("RemoveGuest", `{"InstanceId":"`+made.InstanceId+`"}`, nil)
	b.refused("RemoveGuest", `{"InstanceId":"`+made.InstanceId+`"}`, "ResourceNotFound", "InstanceId")
	b.must("AddGuest", `{`+good+`}`, &made)
	_, err := b.Store.Update(context.Background(), func(tx *store.Tx) error {
		host := tx.State().Instances.Get("ins-host0001")
		removeInstance(tx, host)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if b.Store.State().Instances.Get(lb.InstanceID(made.InstanceId)) != nil {
		t.Error("a guest is there without its host")
	}
}
