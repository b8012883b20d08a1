// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestAPICommand(t *testing.T) {
	var got map[string]any
	f := &fakeAPI{answers: map[string]func(map[string]any) any{
		"CreateListener": func(in map[string]any) any { got = in; return map[string]any{"ListenerIds": []string{"lbl-1"}} },
		"DescribeVpcs":   func(in map[string]any) any { got = in; return map[string]any{"TotalCount": 0} },
	}}
	file := filepath.Join(t.TempDir(), "vpcs.json")
	if err := os.WriteFile(file, []byte(`{"Limit":"5"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		args string
		want map[string]any // nil: refused as usage
		says string
	}{
		{"api CreateListener --LoadBalancerId lb-1a2b3c4d --Ports 80 --Ports=81 --Protocol TCP --HealthCheck.HealthSwitch 1",
			map[string]any{"LoadBalancerId": "lb-1a2b3c4d", "Ports": []any{80.0, 81.0}, "Protocol": "TCP", "HealthCheck": map[string]any{"HealthSwitch": 1.0}}, "lbl-1"},
		{"api DescribeVpcs --Filters.0.Name project-id --Filters.0.Values 7 --Filters.0.Values 8",
			map[string]any{"Filters": []any{map[string]any{"Name": "project-id", "Values": []any{"7", "8"}}}}, "TotalCount"},
		{`api DescribeVpcs --Filters.0.Name vpc-id --Filters.0.Values ["7"]`,
			map[string]any{"Filters": []any{map[string]any{"Name": "vpc-id", "Values": []any{"7"}}}}, "TotalCount"},
		{"api --LoadBalancerId lb-1a2b3c4d CreateListener", map[string]any{"LoadBalancerId": "lb-1a2b3c4d"}, "lbl-1"},
		{"api DescribeVpcs --json " + file, map[string]any{"Limit": "5"}, "TotalCount"},
		{"api DescribeVpcs", map[string]any{}, "TotalCount"},
		{"api DescribeVpcs --limit 5", nil, "unknown flag: --limit"},
		{"api DescribeVpcs --Limits 5", nil, "DescribeVpcs has no field Limits; known: VpcIds"},
		{"api DescribeVpcs --Limit 5 --json " + file, nil, "--json gives all fields"},
		{"api DescribeVpcs 5", nil, `"5" is one word too many`},
		{"api DescribeVPCs", nil, "there is no action DescribeVPCs"},
		{"api DescribeVpcs --json /nonexistent", nil, "no such file"},
	} {
		got = nil
		code, out, errs := f.program(t, strings.Fields(tc.args)...)
		if tc.want == nil {
			if code != exitUsage || !strings.Contains(errs, tc.says) {
				t.Errorf("%s: exit %d, %s; want %q", tc.args, code, errs, tc.says)
			}
			continue
		}
		if code != 0 || !strings.Contains(out, tc.says) {
			t.Errorf("%s: exit %d, %s%s", tc.args, code, out, errs)
		}
		if diff := cmp.Diff(tc.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tc.args, diff)
		}
	}
	if _, _, err := splitFields([]string{"DescribeVpcs", "--Limit"}); err == nil || !strings.Contains(err.Error(), "--Limit has no value") {
		t.Errorf("a field without a value: %v", err)
	}
}

func TestAPIHelp(t *testing.T) {
	for args, wants := range map[string][]string{
		"api":                       {"clb 2018-03-17", "  CreateListener", "sallyport 2026-11-23"},
		"api --help":                {"Without ACTION it lists the actions"},
		"api CreateListener --help": {"clb CreateListener, version 2018-03-17", "* Ports[]", "Error codes:", "InvalidParameter.PortCheckFailed", "Example:"},
		"api UploadCertificate --help": {"* CertificatePublicKey", "* CertificatePrivateKey",
			`sallyport api UploadCertificate --CertificatePublicKey "$(cat chain.pem)" --CertificatePrivateKey "$(cat key.pem)"`},
		"api -h CreateVpc": {"vpc CreateVpc", "* CidrBlock"},
	} {
		code, out, errs := (&fakeAPI{}).program(t, strings.Fields(args)...)
		for _, want := range wants {
			if code != 0 || !strings.Contains(out, want) {
				t.Errorf("%s: exit %d, lacks %q: %s%s", args, code, want, out, errs)
			}
		}
	}
}
