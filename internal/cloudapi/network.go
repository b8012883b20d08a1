// SPDX-License-Identifier: Apache-2.0

package cloudapi

import (
	"net/netip"

	"github.com/sallyport/sallyport/internal/lb"
	"github.com/sallyport/sallyport/internal/store"
)

// The default network, made on first use, where a call names none.
var (
	defaultVPCCidr    = netip.MustParsePrefix("10.200.0.0/16")
	defaultSubnetCidr = netip.MustParsePrefix("10.200.0.0/20")
)

// defaultVPC is the region's default VPC; the first use makes it.
func (c *Call) defaultVPC(tx *store.Tx) *lb.VPC {
	st := tx.State()
	for _, id := range st.VPCs.Sorted() {
		if st.VPCs.Get(id).IsDefault {
			return st.VPCs.Get(id)
		}
	}
	v := &lb.VPC{ID: makeID(c, "vpc-", st.VPCs), Name: "Default-VPC", Cidr: defaultVPCCidr, IsDefault: true, Created: c.Now().UTC()}
	tx.PutVPC(v)
	return v
}

// defaultSubnet is the default subnet of the default VPC; the first use makes
// both.
func (c *Call) defaultSubnet(tx *store.Tx) *lb.Subnet {
	v := c.defaultVPC(tx)
	st := tx.State()
	for _, id := range st.Subnets.Sorted() {
		if n := st.Subnets.Get(id); n.VPC == v.ID && n.IsDefault {
			return n
		}
	}
	n := &lb.Subnet{ID: makeID(c, "subnet-", st.Subnets), VPC: v.ID, Name: "Default-Subnet", Cidr: defaultSubnetCidr,
		Zone: c.Zone(), IsDefault: true, Created: c.Now().UTC()}
	tx.PutSubnet(n)
	return n
}
