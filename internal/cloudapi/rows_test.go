// SPDX-License-Identifier: Apache-2.0

package cloudapi

import (
	"encoding/json"
	"errors"
	flags "flag"
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/sallyport/sallyport/internal/lb"
)

// Every error case of every action has a row. A row is a call of
//
//	b.refused(action, params, code, text)
//	b.refusals([]refusal{{action, params, code, text}, …})
//
// in any test of this package: it checks the code, that the message holds text,
// and that nothing was stored. What an action's fields allow (required, kinds,
// only, enum, range, len, items, names) gets its rows by itself, see
// TestSchemaRefuses. The codes of the handler are named at the action:
//
//	action(serviceVPC, "DeleteVpc", deleteVpc).fails("ResourceInUse", "ResourceNotFound")
//
// When all tests of the package have passed, TestMain compares: a code without a
// row fails, and so does a code that was answered but is not named.
type refusal struct{ action, params, code, text string }

// refusals runs rows.
func (b *bench) refusals(rows []refusal) {
	b.Helper()
	for _, r := range rows {
		b.refused(r.action, r.params, r.code, r.text)
	}
}

// The rows that ran and the codes that handlers answered, as "Action Code".
var seen = struct {
	sync.Mutex
	rows, answers, faults map[string]string          // value: where or what
	bodies                map[string]map[string]bool // answers without error by action
}{rows: map[string]string{}, answers: map[string]string{}, faults: map[string]string{}, bodies: map[string]map[string]bool{}}

func sawRow(action, code string) {
	seen.Lock()
	defer seen.Unlock()
	seen.rows[action+" "+code] = code
}

// watch makes a server note what its handlers answer.
func watch(s *Server) {
	for key, a := range s.actions {
		watched := *a
		watched.run = func(c *Call, in any) (any, error) {
			out, err := a.run(c, in)
			if err != nil {
				sawAnswer(a, err)
			} else {
				sawBody(a, out)
			}
			return out, err
		}
		s.actions[key] = &watched
	}
}

// mostBodies bounds what is kept of each action.
const mostBodies = 300

func sawBody(a *Action, out any) {
	body, err := encode(out)
	if err != nil {
		return
	}
	seen.Lock()
	defer seen.Unlock()
	if seen.bodies[a.Name] == nil {
		seen.bodies[a.Name] = map[string]bool{}
	}
	if len(seen.bodies[a.Name]) < mostBodies {
		seen.bodies[a.Name][string(body)] = true
	}
}

// internal are the codes of trouble that no row can ask for.
var internal = []string{codeInternal, "ResourceInsufficient", codeUnauthorized}

func sawAnswer(a *Action, err error) {
	e := asError(a.explain(err))
	seen.Lock()
	defer seen.Unlock()
	seen.answers[a.Name+" "+e.Code] = e.Message
	if fault := unhelpful(a, err, e); fault != "" {
		seen.faults[a.Name+" "+e.Code+": "+e.Message] = fault
	}
}

// objectID finds the id of an object that is at fault where no one field is.
var objectID = regexp.MustCompile(`\b(lb|lbl|loc|lbtg|sg|ins|vpc|subnet|rtb|ipmg?|ppmg?|eip|eni|cert)-\w{8}\b`)

// unhelpful says what a message lacks of field, fault and repair.
func unhelpful(a *Action, err error, e *Error) string {
	if slices.Contains(internal, e.Code) {
		return ""
	}
	if refused := (*lb.Error)(nil); errors.As(err, &refused) && refused.Hint == "" {
		return "no repair: give lb.Refuse a hint"
	}
	if fault := unsaidBound(err); fault != "" {
		return fault
	}
	named := strings.HasPrefix(e.Code, "LimitExceeded") || objectID.MatchString(e.Message)
	a.fields.eachField("", func(_ string, f *field) { named = named || strings.Contains(e.Message, f.name) })
	switch {
	case !named && len(a.fields.fields) > 0:
		return "names no field"
	case !strings.Contains(e.Message, "; "):
		return `no repair: write "FIELD: FAULT; REPAIR"`
	}
	return ""
}

// indexes are those of lists in a field's name.
var indexes = regexp.MustCompile(`\.\d+`)

// unsaidBound finds a range or a length that a handler holds by hand. Such a
// bound is a flag of the field (range, len, items, count), so that the help and
// the reference say it; listed here is what depends on more than the field.
func unsaidBound(err error) string {
	e := (*lb.Error)(nil)
	if !errors.As(err, &e) || e.Kind != lb.Range && e.Kind != lb.TooLong {
		return ""
	}
	field := indexes.ReplaceAllString(e.Field, "")
	for _, known := range []struct{ field, why string }{
		{"PolicyIndex", "depends on how many rules there are"},
		{"Port", "a text of ranges; in ExplainPath depends on Protocol"},
		{"CidrBlock", "a text: where its network lies and its mask"},
		{"Services", "texts of ports"},
		{"Member", "a text of ports, of a service template"},
		{"CidrBlocks", "texts: where their networks lie and their masks"},
		{"IntervalTime", "depends on the load balancer's family"},
		{"Step", "a multiple of what is kept"},
		{"SessionExpireTime", "0 or above a least, by layer"},
		{"Points", "depends on Step"},
		{"UserData", "the bytes before encoding"},
		{"MinCount", "depends on InstanceCount"},
		{"EndPort", "depends on the first port"},
		{"FullEndPorts", "depends on the first ports"},
	} {
		if strings.HasSuffix(field, known.field) {
			return ""
		}
	}
	return fmt.Sprintf("%s is bounded by hand: give its field a flag, or say in unsaidBound what the bound depends on", field)
}

func TestMain(m *testing.M) {
	flags.Parse()
	code := m.Run()
	whole := flags.Lookup("test.run").Value.String() == "" && flags.Lookup("test.skip").Value.String() == "" &&
		flags.Lookup("test.fuzz").Value.String() == "" && flags.Lookup("test.list").Value.String() == "" && !testing.Short()
	if code == 0 && whole {
		code = compareRows()
	}
	os.Exit(code)
}

func compareRows() int {
	var faults []string
	declared, known := map[string]bool{}, map[string]bool{}
	for _, a := range Actions() {
		known[a.Name] = true
		for _, code := range a.Codes() {
			declared[a.Name+" "+code] = true
		}
		for _, code := range a.codes {
			if key := a.Name + " " + code; seen.rows[key] == "" {
				faults = append(faults, key+": declared, but no row shows it (b.refused, see rows_test.go)")
			}
		}
	}
	for key, message := range seen.answers {
		name, code, _ := strings.Cut(key, " ")
		if known[name] && !declared[key] && !slices.Contains(internal, code) {
			faults = append(faults, fmt.Sprintf("%s: answered, but not declared: add .fails(%q) to the action (%s)", key, code, message))
		}
	}
	for what, fault := range seen.faults {
		faults = append(faults, what+": "+fault)
	}
	faults = append(faults, answerFaults()...)
	if len(faults) == 0 {
		return 0
	}
	slices.Sort(faults)
	fmt.Printf("--- FAIL: what the tests saw of errors and answers\n    %s\nFAIL\n", strings.Join(faults, "\n    "))
	if path := os.Getenv("SALLYPORT_ANSWERS"); path != "" { // for who declares many at once
		text, _ := json.Marshal(slices.Sorted(maps.Keys(seen.answers)))
		_ = os.WriteFile(path, text, 0o644)
	}
	return 1
}
