// SPDX-License-Identifier: Apache-2.0

package cloudapi

import (
	"fmt"
	"net/netip"

	"github.com/sallyport/sallyport/internal/lb"
)

type addressDoc struct {
	Id                      string  `tc:""`
	AddressName             string  `tc:"len=20"`
	AddressIp               string  `tc:""`
	InternetServiceProvider *string `tc:"" kept:"echo"`
	InternetChargeType      *string `tc:"" kept:"echo"`
	InternetMaxBandwidthOut *int64  `tc:"" kept:"echo"`
	Tags                    []Tag   `tc:""`
}

func addressSort() sort[lb.AddressID, lb.Address] {
	return sort[lb.AddressID, lb.Address]{"Address", "eip-", func(s *lb.State) lb.Table[lb.AddressID, lb.Address] { return s.Addresses }, func(e *lb.Address) string { return e.Name }}
}

func (x *exporter) address(e *lb.Address) addressDoc {
	d := addressDoc{Id: string(e.ID), AddressName: e.Name, AddressIp: addrText(e.IP), Tags: tagsOut(e.Tags)}
	fillEcho(&d, e.Echo)
	return d
}

// eipOf is how documents name the EIP of a load balancer; "" for none.
func (x *exporter) eipOf(b *lb.LoadBalancer) string {
	for _, id := range x.st.Addresses.Sorted() {
		if e := x.st.Addresses.Get(id); e.Balancer == b.ID {
			return reference(x, x.names.addresses, id, e.Name)
		}
	}
	return ""
}

func (a *applier) addresses() error {
	for i, d := range a.in.Addresses {
		path := fmt.Sprintf("Addresses.%d.", i)
		if err := a.attempt(path, "Address", d.Id, d.AddressName, func() error { return a.address(path, d) }); err != nil {
			return err
		}
	}
	return nil
}

func (a *applier) address(path string, d addressDoc) error {
	e, id, err := addressSort().match(a, path, d.Id, d.AddressName)
	if err != nil {
		return err
	}
	made := e == nil
	if made {
		c := a.sub(echoOf(d), d.Id)
		if d.AddressIp != "" {
			if c.public, err = netip.ParseAddr(d.AddressIp); err != nil {
				return refuse(lb.Malformed, path+"AddressIp", fmt.Sprintf("%q is not an address", clip(d.AddressIp, 60)), "leave it out to get a free one")
			}
		}
		out, err := allocateAddresses(c, &allocateAddressesIn{AddressName: d.AddressName, Tags: d.Tags})
		if err != nil {
			return at(path, "", err)
		}
		id = lb.AddressID(out.AddressSet[0])
		if err := a.claimNew(path, d.Id, string(id)); err != nil {
			return err
		}
	}
	have := (&exporter{st: a.st(), ids: true}).address(a.st().Addresses.Get(id))
	keep(&d.AddressIp, have.AddressIp)
	keepEcho(&d, have)
	changed := unlike(have, d, "Id")
	if err := fixed(path, "an EIP", changed, append(echoNames(d), "AddressIp")...); err != nil {
		return err
	}
	if err := a.noted(made, "Address", d.Id, string(id), d.AddressName, path, changed); err != nil || len(changed) == 0 {
		return err
	}
	if _, err := modifyAddressAttribute(a.sub(nil), &modifyAddressAttributeIn{AddressId: string(id), AddressName: &d.AddressName}); err != nil {
		return at(path, "", err)
	}
	return a.tags(path, "vpc", "eip", string(id), d.Tags)
}

// bindEIP gives a load balancer the EIP of its document, or none.
func (a *applier) bindEIP(path string, id lb.BalancerID, have, want string) error {
	if have == want {
		return nil
	}
	if have != "" {
		if _, err := disassociateAddress(a.sub(nil), &disassociateAddressIn{AddressId: have}); err != nil {
			return at(path, "", err)
		}
	}
	if want == "" {
		return nil
	}
	_, err := associateAddress(a.sub(nil), &associateAddressIn{AddressId: want, InstanceId: string(id)})
	return at(path, "", err)
}
