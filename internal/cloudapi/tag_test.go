// SPDX-License-Identifier: Apache-2.0

package cloudapi

import (
	"fmt"
	"testing"

	"github.com/sallyport/sallyport/internal/lb"
	"github.com/sallyport/sallyport/internal/store"
)

func TestResourceTags(t *testing.T) {
	b := newBench(t)
	b.seed(func(tx *store.Tx) {
		tx.PutBalancer(&lb.LoadBalancer{ID: "lb-00000001"})
		tx.PutInstance(&lb.Instance{ID: "ins-00000001", Tags: lb.Tags{"old": "1"}})
		tx.PutGroup(&lb.SecurityGroup{ID: "sg-00000001"})
		tx.PutVPC(&lb.VPC{ID: "vpc-00000001"})
		tx.PutSubnet(&lb.Subnet{ID: "subnet-00000001"})
		for _, k := range templateKinds() {
			tx.PutTemplate(&lb.Template{ID: lb.TemplateID(k.prefix + "00000001"), Tags: lb.Tags{"old": "1"}})
		}
		tx.PutAddress(&lb.Address{ID: "eip-00000001"})
	})
	for _, r := range []struct{ service, prefix, id string }{
		{"clb", "clb", "lb-00000001"}, {"cvm", "instance", "ins-00000001"}, {"cvm", "sg", "sg-00000001"}, {"vpc", "vpc", "vpc-00000001"}, {"vpc", "subnet", "subnet-00000001"}, {"vpc", "eip", "eip-00000001"},
		{"vpc", "address", "ipm-00000001"}, {"vpc", "addressgroup", "ipmg-00000001"}, {"vpc", "service", "ppm-00000001"}, {"vpc", "servicegroup", "ppmg-00000001"},
	} {
		b.must("ModifyResourceTags", fmt.Sprintf(`{"Resource":"qcs::%s:local:uin/:%s/%s","ReplaceTags":[{"TagKey":"b","TagValue":"2"},{"TagKey":"a","TagValue":"1"}],"DeleteTags":[{"TagKey":"old"}]}`,
			r.service, r.prefix, r.id), nil)
		var out describeTagsOut
		b.must("DescribeResourceTagsByResourceIds", fmt.Sprintf(`{"ServiceType":%q,"ResourcePrefix":%q,"ResourceIds":[%q,"nothing"],"ResourceRegion":"local","Offset":0,"Limit":50}`,
			r.service, r.prefix, r.id), &out)
		if out.TotalCount != 2 || len(out.Tags) != 2 || out.Tags[0] != (tagResourceOut{"a", "1", r.id, r.service}) {
			t.Errorf("%s: %+v", r.id, out)
		}
	}
	for _, tc := range []struct{ params, code, text string }{
		{`{"ServiceType":"cos","ResourcePrefix":"bucket","ResourceIds":["x"],"ResourceRegion":"local"}`, "UnsupportedOperation", "cos/bucket"},
		{`{"ServiceType":"cvm","ResourcePrefix":"sg","ResourceIds":["x"],"ResourceRegion":"mars"}`, "InvalidParameterValue", "ResourceRegion"},
		{`{"ServiceType":"cvm","ResourcePrefix":"sg","ResourceIds":["x"],"ResourceRegion":"local","Limit":401}`, "InvalidParameterValue", "Limit"},
	} {
		b.refused("DescribeResourceTagsByResourceIds", tc.params, tc.code, tc.text)
	}
	for _, tc := range []struct{ params, code, text string }{
		{`{"Resource":"sg-00000001"}`, "InvalidParameterValue", "Resource"},
		{`{"Resource":"qcs::cvm:mars:uin/:sg/sg-00000001"}`, "InvalidParameterValue", "mars"},
		{`{"Resource":"qcs::cvm:local:uin/:sg/sg-00000009"}`, "ResourceNotFound", "sg-00000009"},
		{`{"Resource":"qcs::cvm:local:uin/:sg/sg-00000001","ReplaceTags":[{"TagKey":"a","TagValue":"1"}],"DeleteTags":[{"TagKey":"a"}]}`, "InvalidParameterCombination", "DeleteTags.0"},
		{`{"Resource":"qcs::cvm:local:uin/:sg/sg-00000001","ReplaceTags":[{"TagKey":"","TagValue":"1"}]}`, "InvalidParameterValue", "ReplaceTags.0"},
	} {
		b.refused("ModifyResourceTags", tc.params, tc.code, tc.text)
	}
}
