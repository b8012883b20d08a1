// SPDX-License-Identifier: Apache-2.0

package lb

import (
	"fmt"
	"reflect"
	"strings"
	"testing"
)

// Every quota can be set, and setting one changes that one alone.
func TestQuotasCanBeSet(t *testing.T) {
	kind := reflect.TypeFor[Quotas]()
	names := Quotas{}.Names()
	at := 0
	for i := range kind.NumField() {
		if kind.Field(i).Type.Kind() != reflect.Int {
			continue
		}
		name := strings.TrimSuffix(names[at], "=0")
		at++
		q := Quotas{}
		if err := q.Set(name, 7); err != nil {
			t.Fatal(err)
		}
		want := Quotas{}
		reflect.ValueOf(&want).Elem().Field(i).SetInt(7)
		if q != want {
			t.Errorf("%s sets %+v", name, q)
		}
	}
	if at != len(names) {
		t.Errorf("%d names of %d quotas", len(names), at)
	}
	q := DefaultQuotas()
	for _, n := range []int{-1, maxQuota + 1} {
		if err := q.Set("groups", n); err == nil || !strings.Contains(err.Error(), fmt.Sprint(n)) {
			t.Errorf("%d: %v", n, err)
		}
	}
	if err := q.Set("targets-per-listener", MaxRoster+1); err == nil || !strings.Contains(err.Error(), "targets-per-listener: 129 is not within 0-128") {
		t.Errorf("more targets than gateways look through: %v", err)
	}
	if err := q.Set("group", 1); err == nil || !strings.Contains(err.Error(), `no quota "group"; there are groups, rules-per-direction`) || q != DefaultQuotas() {
		t.Errorf("an unknown one: %v", err)
	}
}
