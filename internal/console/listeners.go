// SPDX-License-Identifier: Apache-2.0

package console

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
)

type listenerFormData struct {
	B        balancer
	L        listener
	R        location
	F        form
	Location string
	Http     bool
	Stamp    string // of what is edited

	Certificates []certificate // to choose from
	Types        []checkType   // to choose from; none: rules are checked by HTTP
}

func checkDefaults() []string {
	return []string{"Protocol", "HTTP", "Port", "80", "Url", "/", "HealthSwitch", "1", "HttpCheckPath", "/", "HttpCheckMethod", "GET",
		"IntervalTime", "5", "TimeOut", "2", "HealthNum", "3", "UnHealthNum", "3", "SourceIpType", "0"}
}

// number reads a field of a form as the API wants it; what is no number is
// refused beside the field.
func (f form) number(name string) (int64, error) {
	n, err := strconv.ParseInt(f.V(name), 10, 64)
	if err != nil {
		return 0, fieldError{name, fmt.Sprintf("%q is not a number", f.V(name))}
	}
	return n, nil
}

// A fieldError is a fault that never comes to the API.
type fieldError struct{ field, text string }

func (e fieldError) Error() string { return e.text }

// wrong puts any refusal beside its field.
func (f form) wrong(err error) (form, error) {
	if e := (fieldError{}); errors.As(err, &e) {
		return f.fault(e.field, e.text), nil
	}
	return f.refused(err)
}

// newListener makes a listener and, for HTTP, its first rule: both or none.
func (v *visit) newListener() error {
	b, err := v.balancer(v.r.PathValue("id"))
	if err != nil {
		return err
	}
	d := listenerFormData{B: b, F: v.initial(append(checkDefaults(), "Domain", firstText(b.LoadBalancerVips))...), Http: true, Types: checkTypes("")}
	if d.Certificates, err = v.certificates(); err != nil {
		return err
	}
	if v.posted() {
		d.F = v.typed()
		d.Http = overHTTP(d.F.V("Protocol"))
		id, err := v.createListener(b.LoadBalancerId, d.F)
		if err == nil {
			return v.to(listenersPath(b.LoadBalancerId, id), "Created. Bind targets next.")
		}
		if d.F, err = d.F.wrong(err); err != nil {
			return err
		}
	}
	return v.show(d.F.status(), "listener-new", "clb", "Create a listener", d)
}

func listenersPath(balancer, listener string) string {
	return "clb/" + balancer + "/listeners?listener=" + listener
}

func (v *visit) createListener(balancer string, f form) (id string, err error) {
	http := overHTTP(f.V("Protocol"))
	port, err := f.number("Port")
	if err != nil {
		return "", err
	}
	check, err := f.check(http)
	if err != nil {
		return "", err
	}
	in := m{"LoadBalancerId": balancer, "Protocol": f.V("Protocol"), "Ports": []int64{port}, "ListenerNames": []string{f.V("ListenerName")}}
	if f.V("EndPort") != "" {
		if in["EndPort"], err = f.number("EndPort"); err != nil {
			return "", err
		}
	}
	if !http {
		in["HealthCheck"] = check
	}
	if f.V("Protocol") == "HTTPS" {
		in["Certificate"] = m{"SSLMode": "UNIDIRECTIONAL", "CertId": f.V("CertId")}
	}
	var out struct{ ListenerIds []string }
	if err := v.do(clbVersion, "CreateListener", in, &out); err != nil {
		var e form
		if e, err = f.refused(err); err == nil && e.Field == "Ports" {
			return "", fieldError{"Port", e.Fault}
		}
		if err == nil && strings.HasPrefix(e.Field, "Cert") {
			return "", fieldError{"Certificate", e.Fault}
		}
		return "", firstOf(err, fieldError{e.Field, e.Fault})
	}
	id = firstText(out.ListenerIds)
	if !http {
		return id, nil
	}
	if err := v.createLocation(balancer, id, f, check); err != nil {
		return "", firstOf(v.do(clbVersion, "DeleteListener", m{"LoadBalancerId": balancer, "ListenerId": id}, nil), err)
	}
	return id, nil
}

// overHTTP reports whether a listener of the protocol has rules.
func overHTTP(protocol string) bool { return protocol == "HTTP" || protocol == "HTTPS" }

func (v *visit) createLocation(balancer, listener string, f form, check m) error {
	rule := m{"Domain": f.V("Domain"), "Url": f.V("Url"), "DefaultServer": f.V("DefaultServer") == "true", "HealthCheck": check}
	if f.V("CertId") != "" && f.V("Protocol") == "" { // of a rule by itself: its domain's
		rule["Certificate"] = m{"CertId": f.V("CertId")}
	}
	return v.do(clbVersion, "CreateRule", m{"LoadBalancerId": balancer, "ListenerId": listener, "Rules": []m{rule}}, nil)
}

// certificates are those that listeners can show.
func (v *visit) certificates() ([]certificate, error) {
	var out struct{ Certificates []certificate }
	err := v.do(sslVersion, "DescribeCertificates", m{"Limit": 1000}, &out)
	return out.Certificates, err
}

// findListener is the listener that the address names, and its rule if it
// names one.
func (v *visit) findListener() (d listenerFormData, err error) {
	if d.B, err = v.balancer(v.r.PathValue("id")); err != nil {
		return d, err
	}
	all, err := v.listeners(d.B.LoadBalancerId)
	if err != nil {
		return d, err
	}
	at := slices.IndexFunc(all, func(l listener) bool { return l.ListenerId == v.r.PathValue("listener") })
	if at < 0 {
		return d, missing("listener", v.r.PathValue("listener"))
	}
	d.L = all[at]
	d.Http = d.L.Layer7()
	d.Location = v.r.PathValue("location")
	if d.Location == "" {
		d.Location = v.r.FormValue("location")
	}
	if d.Location == "" {
		return d, nil
	}
	at = slices.IndexFunc(d.L.Rules, func(r location) bool { return r.LocationId == d.Location })
	if at < 0 {
		return d, missing("rule", d.Location)
	}
	d.R = d.L.Rules[at]
	return d, nil
}

func (v *visit) deleteListener() error {
	d, err := v.findListener()
	if err != nil {
		return err
	}
	q := confirmation{Heading: "Delete listener " + d.L.Title(), Danger: true, Button: "Delete",
		Back: Root + "clb/" + d.B.LoadBalancerId + "/listeners", Text: "Clients get no answer on this port any more. Its rules and bindings go with it."}
	if v.posted() {
		err := v.do(clbVersion, "DeleteListener", m{"LoadBalancerId": d.B.LoadBalancerId, "ListenerId": d.L.ListenerId}, nil)
		if err == nil {
			return v.to("clb/"+d.B.LoadBalancerId+"/listeners", "Deleted the listener.")
		}
		if q.F, err = v.typed().refused(err); err != nil {
			return err
		}
	}
	return v.confirm("clb", q)
}

func (v *visit) newLocation() error {
	d, err := v.findListener()
	if err != nil {
		return err
	}
	d.F = v.initial(checkDefaults()...)
	if d.L.SniSwitch == 1 {
		if d.Certificates, err = v.certificates(); err != nil {
			return err
		}
	}
	if v.posted() {
		d.F = v.typed()
		check, err := d.F.check(true)
		if err == nil {
			err = v.createLocation(d.B.LoadBalancerId, d.L.ListenerId, d.F, check)
		}
		if err == nil {
			return v.to(listenersPath(d.B.LoadBalancerId, d.L.ListenerId), "Created the rule. Bind targets next.")
		}
		if d.F, err = d.F.wrong(err); err != nil {
			return err
		}
	}
	return v.show(d.F.status(), "location-new", "clb", "Create a rule", d)
}

func (v *visit) deleteLocation() error {
	d, err := v.findListener()
	if err != nil {
		return err
	}
	q := confirmation{Heading: "Delete rule " + d.R.Domain + d.R.Url, Danger: true, Button: "Delete",
		Back: Root + listenersPath(d.B.LoadBalancerId, d.L.ListenerId), Text: "Its targets are unbound with it."}
	if v.posted() {
		err := v.do(clbVersion, "DeleteRule", m{"LoadBalancerId": d.B.LoadBalancerId, "ListenerId": d.L.ListenerId, "LocationIds": []string{d.Location}}, nil)
		if err == nil {
			return v.to(listenersPath(d.B.LoadBalancerId, d.L.ListenerId), "Deleted the rule.")
		}
		if q.F, err = v.typed().refused(err); err != nil {
			return err
		}
	}
	return v.confirm("clb", q)
}

// editCheck changes the health check of a layer-4 listener or of a rule.
func (v *visit) editCheck() error {
	d, err := v.findListener()
	if err != nil {
		return err
	}
	have := d.L.HealthCheck
	if d.Http {
		have = d.R.HealthCheck
	}
	if have == nil {
		return v.problem(http.StatusNotFound, "There is no health check here", "An HTTP listener is checked by its rules.")
	}
	if !d.Http {
		d.Types = checkTypes(d.L.Protocol)
	}
	d.F = v.initial(have.fields()...)
	d.Stamp = stamp(have.values()...)
	if v.posted() {
		d.F = v.typed()
		if d.F.V("stamp") != d.Stamp {
			d.F = d.F.changed("it is now " + have.said())
			return v.show(d.F.status(), "check-edit", "clb", "Health check", d)
		}
		check, err := d.F.check(d.Http)
		if err == nil {
			in := m{"LoadBalancerId": d.B.LoadBalancerId, "ListenerId": d.L.ListenerId, "HealthCheck": check}
			action := "ModifyListener"
			if d.Http {
				action, in["LocationId"] = "ModifyRule", d.Location
			}
			err = v.do(clbVersion, action, in, nil)
		}
		if err == nil {
			return v.to(listenersPath(d.B.LoadBalancerId, d.L.ListenerId), "Saved the health check.")
		}
		if d.F, err = d.F.wrong(err); err != nil {
			return err
		}
	}
	return v.show(d.F.status(), "check-edit", "clb", "Health check", d)
}
