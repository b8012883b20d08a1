// SPDX-License-Identifier: Apache-2.0

package lb

import "testing"

func TestReturnPathNames(t *testing.T) {
	for _, p := range []ReturnPath{ReturnDirect, ReturnGateway} {
		if got := ReturnPathNamed(p.Name()); got != p {
			t.Errorf("%q is named %q, which names %q", p, p.Name(), got)
		}
	}
	if (ReturnPath("")).Name() != "direct" {
		t.Error("the zero return path is not direct")
	}
}
