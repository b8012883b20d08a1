// SPDX-License-Identifier: Apache-2.0

package console

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"net/http/httptest"
	"strings"
	"testing"
)

// loginAs makes an access key and logs in with it.
func (d *desk) loginAs(role string, projects ...string) (id string) {
	d.Helper()
	var made struct{ SecretId, SecretKey string }
	d.do(ourVersion, "CreateAccessKey", m{"Name": rand.Text(), "Role": role, "Projects": projects}, &made)
	d.newBrowser()
	d.open("login", 200)
	d.fill("login", 200, "SecretId", made.SecretId, "SecretKey", made.SecretKey)
	return made.SecretId
}

// The console does what the key of who is logged in may do, and no more: roles
// and projects hold, and the audit log says who it was.
func TestRolesHoldInTheConsole(t *testing.T) {
	d := newDesk(t)
	w := d.build()
	d.loginAs("auditor")
	for _, path := range []string{"", "sg", "sg/" + w.edge, "clb", "clb/" + w.balancer, "cvm", "cvm/" + w.ins1, "verdicts"} {
		d.open(path, 200)
	}
	d.open("sg/new", 200)
	d.fill("sg/new", 422, "GroupName", "sly", "GroupDescription", "d")
	d.says("the role auditor of key")
	d.open("sg", 200)
	d.saysNot("sly")
	var log struct {
		Lines []struct{ Action, Outcome, Role, Address, Client string }
	}
	d.do(ourVersion, "DescribeAuditLog", m{"Filters": []m{{"Name": "outcome", "Values": []string{"refused"}}}}, &log)
	if len(log.Lines) != 1 || log.Lines[0].Role != "auditor" || log.Lines[0].Client != "console" || log.Lines[0].Address != "127.0.0.1" {
		t.Errorf("the audit log has %+v", log.Lines)
	}

	d.do(vpcVersion, "CreateSecurityGroup", m{"GroupName": "of seven", "GroupDescription": "d", "ProjectId": "7"}, nil)
	d.loginAs("operator", "7")
	d.open("sg", 200)
	d.says("of seven")
	d.saysNot("clb-web")
	d.open("sg/"+w.edge, 404)

	// A key that is revoked ends its logins.
	last := d.loginAs("operator")
	d.open("sg", 200)
	d.do(ourVersion, "RevokeAccessKey", m{"SecretId": last}, nil)
	d.open("sg", 401)
}

// Nobody's session reaches the API as the console itself.
func TestVisitsNeedAKey(t *testing.T) {
	d := newDesk(t)
	v := &visit{Console: d.Console, r: httptest.NewRequest("GET", Root+"sg", nil)}
	err := v.as(context.Background(), vpcVersion, "DescribeSecurityGroups", nil, nil)
	if err == nil || !strings.Contains(err.Error(), "AuthFailure.SecretIdNotFound") {
		t.Errorf("a visit without login: %v", err)
	}
	if raw, _ := json.Marshal(v.caller()); strings.Contains(string(raw), testID) {
		t.Error("it has somebody's key")
	}
}
