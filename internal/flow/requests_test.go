// SPDX-License-Identifier: Apache-2.0

package flow

import "testing"

func TestStatusClass(t *testing.T) {
	for status, want := range map[int]string{0: "none", 99: "none", 100: "1xx", 204: "2xx", 399: "3xx", 404: "4xx", 599: "5xx", 600: "none", -7: "none"} {
		if got := StatusWord(StatusClass(status)); got != want {
			t.Errorf("%d is %s, want %s", status, got, want)
		}
	}
	if StatusWord(6) != "none" || StatusWord(-1) != "none" {
		t.Error("a class that there is not has a word")
	}
}

func TestRequestsKey(t *testing.T) {
	r := Requests{Node: "gateway-1", Listener: "lbl-1", Location: "loc-1", Answers: [RequestClasses]uint64{2: 7}}
	if k := r.Key(); k.Answers[2] != 0 || k.Location != "loc-1" || !k.Baseline.IsZero() {
		t.Errorf("%+v", k)
	}
}
