// SPDX-License-Identifier: Apache-2.0

package cloudapi

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"crypto/sha1"
	"encoding/base64"

	"github.com/sallyport/sallyport/internal/lb"
	"github.com/sallyport/sallyport/internal/store"
)

// A bench is a server on an empty memory store, with short ways to call it.
type bench struct {
	*testing.T
	*Server
	log *bytes.Buffer
}

func newBench(t *testing.T, change ...func(*Options)) *bench {
	t.Helper()
	log := &bytes.Buffer{}
	o := Options{
		Store: store.NewMemory(), Region: "local", Logger: slog.New(slog.NewJSONHandler(log, nil)),
		VIPPool: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/26")}, EIPPool: []netip.Prefix{netip.MustParsePrefix("192.0.2.64/26")},
		IPv6Pool: []netip.Prefix{netip.MustParsePrefix("2001:db8:200::/55")}, // two VPCs
	}
	for _, fn := range change {
		fn(&o)
	}
	b := &bench{T: t, Server: New(o), log: log}
	if _, err := b.Adopt(context.Background(), vectorID, vectorKey, "vector"); err != nil {
		t.Fatal(err)
	}
	watch(b.Server)
	return b
}

// versionOf finds an action's version by its name; names do not overlap.
func (b *bench) versionOf(action string) string {
	for key := range b.actions {
		if key.name == action {
			return key.version
		}
	}
	b.Helper()
	b.Fatalf("no action %s", action)
	return ""
}

// try runs an action and decodes its answer into out, unless that is nil.
func (b *bench) try(action, params string, out any) error {
	b.Helper()
	raw, err := b.Do(context.Background(), b.versionOf(action), action, json.RawMessage(params))
	if err != nil || out == nil {
		return err
	}
	if err := json.Unmarshal(raw, out); err != nil {
		b.Fatalf("%s answers %s: %v", action, raw, err)
	}
	return nil
}

// must is try for what has to succeed.
func (b *bench) must(action, params string, out any) {
	b.Helper()
	if err := b.try(action, params, out); err != nil {
		b.Fatalf("%s %s: %v", action, params, err)
	}
}

// refused checks the code of a refusal, and that its message names a text.
func (b *bench) refused(action, params, wantCode, wantText string) {
	b.Helper()
	before := b.Store.State().Revision
	err := b.try(action, params, nil)
	if code(err) != wantCode || !strings.Contains(fmt.Sprint(err), wantText) {
		b.Errorf("%s %s:\n got %v\nwant %s naming %q", action, params, err, wantCode, wantText)
	}
	sawRow(action, wantCode)
	b.namesOwnField(action, err)
	if b.Store.State().Revision != before {
		b.Errorf("%s %s was refused and changed the state", action, params)
	}
}

var opensWithField = regexp.MustCompile(`^[A-Z]\w*(\.\w+)*: `)

// namesOwnField checks that a refusal that opens with a field names one that
// its action has.
func (b *bench) namesOwnField(action string, err error) {
	b.Helper()
	e := (*Error)(nil)
	if !errors.As(err, &e) || !opensWithField.MatchString(e.Message) {
		return
	}
	path, _, _ := strings.Cut(e.Message, ": ")
	for key, a := range b.actions {
		if key.name == action && !a.fields.has(path) {
			b.Errorf("%s has no field %s, and its refusal names that: %v", action, path, err)
		}
	}
}

// has reports whether a path such as "Filters.0.Values" leads to a field, or to
// an item or a field that is known and refused.
func (o *object) has(path string) bool {
	name, rest, deeper := strings.Cut(path, ".")
	f := o.byName[name]
	if f == nil {
		return slices.Contains(o.unserved, name)
	}
	v := f.value
	for deeper && v.kind == kindList {
		index, more, further := strings.Cut(rest, ".")
		if _, err := strconv.Atoi(index); err != nil {
			return false
		}
		rest, deeper, v = more, further, v.elem
	}
	return !deeper || v.kind == kindObject && v.obj.has(rest)
}

// seed writes objects of other services straight into the store.
func (b *bench) seed(fn func(tx *store.Tx)) {
	b.Helper()
	if _, err := b.Store.Update(context.Background(), func(tx *store.Tx) error { fn(tx); return nil }); err != nil {
		b.Fatal(err)
	}
}

type probeIn struct {
	Name  string      `tc:"required"`
	Count *int64      `tc:""`
	On    *bool       `tc:""`
	Mode  string      `tc:"only=A|B"`
	Note  *string     `tc:"echo"`
	Item  *probeItem  `tc:""`
	Items []probeItem `tc:""`
	Words []string    `tc:""`
	_     struct{}    `unserved:"Later Never"`
}

type probeItem struct {
	Key   string   `tc:"required"`
	Size  int64    `tc:""`
	Words []string `tc:""`
}

func ptr[T any](v T) *T { return &v }

func TestDecode(t *testing.T) {
	a := action(serviceCLB, "Probe", func(*Call, *probeIn) (*done, error) { return nil, nil })
	for _, tc := range []struct {
		name, body, query string // query: the same request, flattened; "" when there is no such thing
		want              probeIn
		echo              map[string]string
	}{
		{"least", `{"Name":""}`, "Name=", probeIn{}, nil},
		{"all", `{"Name":"n","Count":-3,"On":true,"Mode":"B","Note":"x","Item":{"Key":"k","Size":1},"Items":[{"Key":"a","Words":["p","q"]}],"Words":["u","v"]}`,
			"Name=n&Count=-3&On=true&Mode=B&Note=x&Item.Key=k&Item.Size=1&Items.0.Key=a&Items.0.Words.0=p&Items.0.Words.1=q&Words.0=u&Words.1=v",
			probeIn{Name: "n", Count: ptr(int64(-3)), On: ptr(true), Mode: "B", Note: ptr("x"), Item: &probeItem{Key: "k", Size: 1},
				Items: []probeItem{{Key: "a", Words: []string{"p", "q"}}}, Words: []string{"u", "v"}}, map[string]string{"Note": `"x"`}},
		{"integer as text", `{"Name":"n","Count":"7"}`, "Name=n&Count=7", probeIn{Name: "n", Count: ptr(int64(7))}, nil},
		{"null is absent", `{"Name":"n","Count":null,"Items":null}`, "", probeIn{Name: "n"}, nil},
		{"empty lists are given", `{"Name":"n","Words":[]}`, "Name=n&Words=", probeIn{Name: "n", Words: []string{}}, nil},
		{"refused names that ask for nothing", `{"Name":"n","Later":"","Never":{"A":[],"B":0,"C":false}}`, "Name=n&Later=", probeIn{Name: "n"}, nil},
		{"empty choice", `{"Name":"n","Mode":""}`, "Name=n&Mode=", probeIn{Name: "n"}, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			for form, q := range map[string]*request{"JSON": {body: json.RawMessage(tc.body)}, "query": queryRequest(t, tc.query)} {
				if q == nil {
					continue
				}
				in, echo, err := a.decode(q)
				if err != nil {
					t.Fatalf("%s: %v", form, err)
				}
				if got := in.(*probeIn); !reflect.DeepEqual(*got, tc.want) || !reflect.DeepEqual(echo, tc.echo) {
					t.Errorf("%s: got %+v, echo %v; want %+v, %v", form, *got, echo, tc.want, tc.echo)
				}
			}
		})
	}
}

func queryRequest(t *testing.T, query string) *request {
	if query == "" {
		return nil
	}
	flat, err := flatQuery(query)
	if err != nil {
		t.Fatal(err)
	}
	return &request{flat: flat}
}

func TestDecodeRefusals(t *testing.T) {
	a := action(serviceCLB, "Probe", func(*Call, *probeIn) (*done, error) { return nil, nil })
	for _, tc := range []struct{ body, query, code, message string }{
		{`{`, "", "InvalidParameter", "not JSON"},
		{`[]`, "", "InvalidParameter", "a list; want a JSON object"},
		{`{"Name":"n"} {}`, "", "InvalidParameter", "goes on"},
		{`{}`, "Count=1", "MissingParameter", "parameter Name is missing"},
		{`{"Name":null}`, "", "MissingParameter", "parameter Name is missing"},
		{`{"Name":"n","Nmae":1}`, "Name=n&Nmae=1", "UnknownParameter", `"Nmae"`},
		{`{"name":"n"}`, "name=n", "UnknownParameter", `"name"`},
		{`{"Name":"n","Items":[{"Key":"k","Kye":1}]}`, "Name=n&Items.0.Key=k&Items.0.Kye=1", "UnknownParameter", `"Items.0.Kye"`},
		{`{"Name":"n","Items":[{"Size":1}]}`, "Name=n&Items.0.Size=1", "MissingParameter", "Items.0.Key is missing"},
		{`{"Name":"n","Later":{"A":1}}`, "Name=n&Later.A=1", "UnsupportedOperation", "parameter Later is known but not served"},
		{`{"Name":"n","Mode":"C"}`, "Name=n&Mode=C", "UnsupportedOperation", `Mode: "C" is not served; served: A, B`},
		{`{"Name":7}`, "", "InvalidParameter", "Name is the number 7; want a string"},
		{`{"Name":"n","Count":1.5}`, "", "InvalidParameter", "Count is the number 1.5; want an integer"},
		{`{"Name":"n","Count":"many"}`, "Name=n&Count=many", "InvalidParameter", `Count is the string "many"; want an integer`},
		{`{"Name":"n","Count":9223372036854775808}`, "", "InvalidParameter", "greater than any number here"},
		{`{"Name":"n","On":"true"}`, "", "InvalidParameter", `On is the string "true"; want a bool`},
		{`{"Name":"n","On":1}`, "Name=n&On=yes", "InvalidParameter", "want a bool"},
		{`{"Name":"n","Item":[]}`, "Name=n&Item=x", "InvalidParameter", "want an object"},
		{`{"Name":"n","Words":{}}`, "", "InvalidParameter", "Words is an object; want a list"},
		{`{"Name":"n","Words":"u"}`, "Name=n&Words=u", "InvalidParameter", `Words is the string "u"; want a list`},
		{`{"Name":"n","Words":["u",null]}`, "", "InvalidParameter", "Words.1 is null; want a string"},
		{"", "Name=n&Words.0=u&Words.2=v", "InvalidParameter", "numbered from 0 without gaps"},
		{"", "Name=n&Item=x&Item.Key=k", "InvalidParameter", "both a value and a structure"},
	} {
		for _, q := range []*request{{body: json.RawMessage(tc.body)}, queryRequest(t, tc.query)} {
			if q == nil || q.flat == nil && tc.body == "" {
				continue
			}
			_, _, err := a.decode(q)
			if code(err) != tc.code || !strings.Contains(fmt.Sprint(err), tc.message) {
				t.Errorf("%s %s:\n got %v\nwant %s: … %s …", tc.body, tc.query, err, tc.code, tc.message)
			}
		}
	}
}

func FuzzDecode(f *testing.F) {
	a := action(serviceCLB, "Probe", func(*Call, *probeIn) (*done, error) { return nil, nil })
	f.Add(`{"Name":"n","Items":[{"Key":"a"}]}`, "Name=n&Items.0.Key=a")
	f.Fuzz(func(t *testing.T, body, query string) {
		_, _, _ = a.decode(&request{body: json.RawMessage(body)})
		if flat, err := flatQuery(query); err == nil {
			_, _, _ = a.decode(&request{flat: flat})
		}
	})
}

// post signs and sends a request as Client does, and returns the whole body.
func post(t *testing.T, s http.Handler, action, version string, change func(*http.Request)) (status int, contentType, body string) {
	t.Helper()
	r := httptest.NewRequest(http.MethodPost, "http://clb.example.test/", strings.NewReader("{}"))
	(&Client{SecretID: vectorID, SecretKey: vectorKey}).sign(r, "clb", []byte("{}"), time.Now().UTC())
	r.Header.Set("X-TC-Action", action)
	r.Header.Set("X-TC-Version", version)
	r.Header.Set("X-TC-Region", "local")
	if change != nil {
		change(r)
	}
	w := httptest.NewRecorder()
	s.ServeHTTP(w, r)
	return w.Code, w.Header().Get("Content-Type"), w.Body.String()
}

func TestEnvelope(t *testing.T) {
	b := newBench(t)
	big := strings.Repeat("x", maxBody+1)
	for _, tc := range []struct {
		name, action, version string
		change                func(*http.Request)
		want                  string // code; "" for success
	}{
		{"success", "DescribeLoadBalancers", "2018-03-17", nil, ""},
		{"no region", "DescribeLoadBalancers", "2018-03-17", func(r *http.Request) { r.Header.Del("X-TC-Region") }, ""},
		{"unknown region", "DescribeLoadBalancers", "2018-03-17", func(r *http.Request) { r.Header.Set("X-TC-Region", "ap-guangzhou") }, "UnsupportedRegion"},
		{"unknown action", "DescribeMoon", "2018-03-17", nil, "InvalidAction"},
		{"action of another version", "DescribeLoadBalancers", "2026-11-23", nil, "InvalidAction"},
		{"unknown version", "DescribeLoadBalancers", "2018-03-18", nil, "NoSuchVersion"},
		{"no action", "", "2018-03-17", nil, "MissingParameter"},
		{"no version", "DescribeLoadBalancers", "", nil, "MissingParameter"},
		{"method", "DescribeLoadBalancers", "2018-03-17", func(r *http.Request) { r.Method = "PUT" }, "UnsupportedProtocol"},
		{"content type", "DescribeLoadBalancers", "2018-03-17", func(r *http.Request) { r.Header.Set("Content-Type", "multipart/form-data") }, "AuthFailure.SignatureFailure"},
		{"no signature", "DescribeLoadBalancers", "2018-03-17", func(r *http.Request) { r.Header.Del("Authorization") }, "AuthFailure.SignatureFailure"},
		{"body too long", "DescribeLoadBalancers", "2018-03-17", func(r *http.Request) { r.Body = http.NoBody; *r = *withBody(r, big) }, "RequestSizeLimitExceeded"},
		{"query too long", "DescribeLoadBalancers", "2018-03-17", func(r *http.Request) { r.URL.RawQuery = big[:maxQuery+1] }, "RequestSizeLimitExceeded"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			status, contentType, body := post(t, b, tc.action, tc.version, tc.change)
			var answer struct {
				Response struct {
					Error     *Error
					RequestId string
				}
			}
			if err := json.Unmarshal([]byte(body), &answer); err != nil {
				t.Fatalf("%s: %v", body, err)
			}
			got := ""
			if answer.Response.Error != nil {
				got = answer.Response.Error.Code
			}
			if status != 200 || contentType != "application/json" || len(answer.Response.RequestId) != 36 || got != tc.want {
				t.Errorf("status %d, type %s, want code %q: %s", status, contentType, tc.want, body)
			}
		})
	}
	if strings.Contains(b.log.String(), vectorKey) {
		t.Error("the log holds a secret key")
	}
}

func withBody(r *http.Request, body string) *http.Request {
	n := httptest.NewRequest(r.Method, r.URL.String(), strings.NewReader(body))
	n.Header = r.Header
	return n
}

// The same action by GET with TC3, and by GET and POST with the old signature.
func TestOtherForms(t *testing.T) {
	b := newBench(t)
	now := time.Now().UTC()
	query := "LoadBalancerIds.0=lb-00000000&Limit=1"
	check := func(name string, r *http.Request) {
		t.Helper()
		w := httptest.NewRecorder()
		b.ServeHTTP(w, r)
		if want := `{"Response":{"TotalCount":0,"LoadBalancerSet":[],"RequestId":"`; !strings.HasPrefix(w.Body.String(), want) {
			t.Errorf("%s: got %s, want %s…", name, w.Body, want)
		}
	}
	r := httptest.NewRequest(http.MethodGet, "http://clb.example.test/?"+query, nil)
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.Header.Set("X-TC-Action", "DescribeLoadBalancers")
	r.Header.Set("X-TC-Version", "2018-03-17")
	r.Header.Set("X-TC-Timestamp", strconv.FormatInt(now.Unix(), 10))
	text := canonical(r, []string{"content-type", "host"}, "clb.example.test", "/", query, hexSHA256(nil), true)
	date := now.Format(time.DateOnly)
	r.Header.Set("Authorization", fmt.Sprintf("TC3-HMAC-SHA256 Credential=%s/%s/clb/tc3_request, SignedHeaders=content-type;host, Signature=%x",
		vectorID, date, signTC3(keyTC3(vectorKey, date, "clb"), now, "clb", text)))
	check("GET TC3", r)

	p := map[string]string{"Action": "DescribeLoadBalancers", "Version": "2018-03-17", "Region": "local", "Nonce": "1", "SecretId": vectorID,
		"Timestamp": strconv.FormatInt(now.Unix(), 10), "LoadBalancerIds.0": "lb-00000000", "Limit": "1"}
	form := func(method string) url.Values {
		v := url.Values{}
		for name, value := range p {
			v.Set(name, value)
		}
		mac := sum(sha1.New, []byte(vectorKey), method+"clb.example.test/?"+textV1(p))
		v.Set("Signature", base64.StdEncoding.EncodeToString(mac))
		return v
	}
	check("GET v1", httptest.NewRequest(http.MethodGet, "http://clb.example.test/?"+form("GET").Encode(), nil))
	p["Nonce"] = "2"
	r = httptest.NewRequest(http.MethodPost, "http://clb.example.test/", strings.NewReader(form("POST").Encode()))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	check("POST v1", r)
}

func TestPanicIsInternalError(t *testing.T) {
	b := newBench(t)
	boom := action(serviceCLB, "Boom", func(*Call, *probeIn) (*done, error) { panic("the secret of the boom") })
	b.actions[actionKey{boom.Version, "Boom"}] = &boom
	err := b.try("Boom", `{"Name":"n"}`, nil)
	if code(err) != "InternalError" || strings.Contains(err.Error(), "boom") {
		t.Errorf("got %v", err)
	}
	if log := b.log.String(); !strings.Contains(log, "the secret of the boom") || !strings.Contains(log, "frame_test.go") {
		t.Errorf("the log lacks cause or stack: %s", log)
	}
}

func TestFullDiskIsNamed(t *testing.T) {
	b := newBench(t)
	full := action(serviceCLB, "Full", func(*Call, *probeIn) (*done, error) {
		return nil, fmt.Errorf("write revision 7: %w: 3 MB are free in /var/secret", store.ErrNoRoom)
	})
	b.actions[actionKey{full.Version, "Full"}] = &full
	err := b.try("Full", `{"Name":"n"}`, nil)
	if code(err) != "ResourceInsufficient" || !strings.Contains(err.Error(), "no room left; nothing was changed") || strings.Contains(err.Error(), "/var/secret") {
		t.Errorf("got %v", err)
	}
}

func TestErrorCodes(t *testing.T) {
	for _, tc := range []struct {
		s    Service
		kind lb.Kind
		want string
	}{
		{serviceCLB, lb.Malformed, "InvalidParameter.FormatError"}, {serviceCLB, lb.TooLong, "InvalidParameterValue.Length"},
		{serviceCLB, lb.InUse, "FailedOperation"}, {serviceCLB, lb.NotFound, "InvalidParameterValue"},
		{serviceVPC, lb.Malformed, "InvalidParameterValue.Malformed"}, {serviceVPC, lb.Coexist, "InvalidParameter.Coexist"},
		{serviceVPC, lb.NotFound, "ResourceNotFound"}, {serviceVPC, lb.InUse, "ResourceInUse"}, {serviceVPC, lb.TooLong, "InvalidParameterValue.TooLong"},
		{serviceCVM, lb.Unsupported, "UnsupportedOperation"}, {serviceCVM, lb.Missing, "MissingParameter"}, {serviceCVM, lb.Invalid, "InvalidParameterValue"},
		{serviceTag, lb.LimitExceeded, "LimitExceeded"},
	} {
		if got := tc.s.code(tc.kind); got != tc.want {
			t.Errorf("%s %v: %s, want %s", tc.s.Name, tc.kind, got, tc.want)
		}
	}
}

func TestPage(t *testing.T) {
	items := make([]int, 130)
	for _, tc := range []struct {
		offset, limit *int64
		want          int
	}{
		{nil, nil, 20}, {ptr(int64(120)), nil, 10}, {ptr(int64(500)), nil, 0}, {nil, ptr(int64(100)), 100},
	} {
		if got := page(items, Paging{tc.offset, tc.limit}); len(got) != tc.want {
			t.Errorf("%v %v: %d items", tc.offset, tc.limit, len(got))
		}
	}
	if p := (TextPaging{Offset: ptr("5"), Limit: ptr("")}).numbers(); *p.Offset != 5 || p.Limit != nil {
		t.Errorf("text paging: %+v", p)
	}
	b := newBench(t)
	b.refusals([]refusal{
		{"DescribeLoadBalancers", `{"Limit":101}`, "InvalidParameterValue.Range", "Limit: 101 is outside 1-100"},
		{"DescribeLoadBalancers", `{"Limit":0}`, "InvalidParameterValue.Range", "Limit: 0 is outside 1-100"},
		{"DescribeLoadBalancers", `{"Offset":-1}`, "InvalidParameterValue.Range", "Offset: -1 is less than 0"},
		{"DescribeSecurityGroups", `{"Limit":"ten"}`, "InvalidParameterValue.Malformed", `Limit: "ten" is not a number`},
		{"DescribeSecurityGroups", `{"Limit":"101"}`, "InvalidParameterValue.Range", "Limit: 101 is outside 1-100"},
	})
}

func TestClientErrors(t *testing.T) {
	b := newBench(t)
	web := httptest.NewServer(b)
	defer web.Close()
	c := &Client{Endpoint: web.URL, SecretID: vectorID, SecretKey: vectorKey, Region: "local"}
	var out struct{ TotalCount int }
	if err := c.Do(t.Context(), "clb", "2018-03-17", "DescribeLoadBalancers", map[string]any{"Limit": 5}, &out); err != nil {
		t.Errorf("a good call: %v", err)
	}
	if err := c.Do(t.Context(), "clb", "2018-03-17", "DescribeLoadBalancers", map[string]any{"Limit": "x"}, &out); code(err) != "InvalidParameter" {
		t.Errorf("a bad call: %v", err)
	}
	other := httptest.NewServer(http.NotFoundHandler())
	defer other.Close()
	c.Endpoint = other.URL
	if err := c.Do(t.Context(), "clb", "2018-03-17", "DescribeLoadBalancers", nil, &out); err == nil || !strings.Contains(err.Error(), "404") {
		t.Errorf("not an API: %v", err)
	}
}
