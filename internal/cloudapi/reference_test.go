// SPDX-License-Identifier: Apache-2.0

package cloudapi

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
)

type referenceIn struct {
	referenceName
	Count  *int64   `tc:"range=1-9"`
	On     *bool    `tc:""`
	Mode   string   `tc:"only=A|B"`
	Note   *string  `tc:"echo,len=5"`
	Words  []string `tc:"items=3"`
	Ports  []int64  `tc:""`
	Items  []Filter `tc:"" filters:"name size=S|L tag:KEY"`
	Place  *Paging  `tc:""`
	_      struct{} `unserved:"Later Never"`
	Choice string   `tc:"enum=X|Y"`
}

type referenceName struct {
	Name string `tc:"required"`
}

func TestHelp(t *testing.T) {
	a := action(serviceCLB, "Refer", func(*Call, *referenceIn) (*done, error) { return nil, nil }).fails("FailedOperation")
	const want = `clb Refer, version 2018-03-17

Fields (* must be given, ~ is stored and returned without effect):
  * Name            string
    Count           integer  1-9
    On              bool
    Mode            string   A|B
  ~ Note            string   at most 5 characters
    Words[]         string   at most 3 items
    Ports[]         integer
    Items[]         object
  * Items[].Name    string
  * Items[].Values[]  string
    Place           object
    Place.Offset    integer  0 or more
    Place.Limit     integer  1-100
    Choice          string   X|Y

Filters:
  name size=S|L tag:KEY

Known, but answered with UnsupportedOperation unless empty:
  Later Never

Error codes:
  FailedOperation InvalidParameter InvalidParameterValue InvalidParameterValue.InvalidFilter InvalidParameterValue.Length
  InvalidParameterValue.Range LimitExceeded MissingParameter UnknownParameter UnsupportedOperation

Example:
  sallyport api Refer --json - <<<'{"Name":"example"}'
`
	got := a.Help()
	if strings.Join(strings.Fields(got), " ") != strings.Join(strings.Fields(want), " ") {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestParams(t *testing.T) {
	a := action(serviceCLB, "Refer", func(*Call, *referenceIn) (*done, error) { return nil, nil })
	for _, tc := range []struct {
		given map[string][]string
		want  string // JSON, or the start of an error
	}{
		{map[string][]string{"Name": {"7"}, "Count": {"7"}, "On": {"true"}}, `{"Count":7,"Name":"7","On":true}`},
		{map[string][]string{"Words": {"a", "b"}, "Ports": {"80"}}, `{"Ports":[80],"Words":["a","b"]}`},
		{map[string][]string{"Words": {`["a"]`}, "Place": {`{"Limit":3}`}}, `{"Place":{"Limit":3},"Words":["a"]}`},
		{map[string][]string{"Items.0.Name": {"n"}, "Items.0.Values.0": {"1"}, "Place.Limit": {"5"}}, `{"Items":[{"Name":"n","Values":["1"]}],"Place":{"Limit":5}}`},
		{map[string][]string{"Later": {"x"}, "Count": {"many"}}, `{"Count":"many","Later":"x"}`}, // the server names what is wrong
		{map[string][]string{"Items.1.Name": {"n"}}, `{"Items":{"1":{"Name":"n"}}}`},
		{map[string][]string{"name": {"x"}}, "Refer has no field name; names are told apart by capitals: write Name"},
		{map[string][]string{"Nmae": {"x"}}, "Refer has no field Nmae; known: Name, Count"},
		{map[string][]string{"Name": {"a", "b"}}, "Name is given 2 times"},
		{map[string][]string{"Words": {"[a"}}, "Words: its text opens like JSON"},
		{map[string][]string{"Place": {"x"}, "Place.Limit": {"5"}}, "InvalidParameter: parameter"},
	} {
		raw, err := a.Params(tc.given)
		got := string(raw)
		if err != nil {
			got = err.Error()
		}
		if !strings.HasPrefix(got, tc.want) {
			t.Errorf("%v: got %s, want %s", tc.given, got, tc.want)
		}
	}
}

func TestFind(t *testing.T) {
	if a, ok := Find("CreateListener"); !ok || a.Service.Name != "clb" {
		t.Errorf("CreateListener: %v, %v", a.Service, ok)
	}
	if _, ok := Find("createlistener"); ok {
		t.Error("an action of another spelling is found")
	}
}

// Adding a field is one edit: a tagged field of the input struct is decoded,
// refused, documented, in the help and taken from a command line.
func TestAFieldIsOneEdit(t *testing.T) {
	type before struct {
		Name string `tc:"required"`
	}
	type after struct {
		Name  string `tc:"required"`
		Added *int64 `tc:"range=1-9"`
	}
	was := action(serviceCLB, "Grow", func(*Call, *before) (*done, error) { return nil, nil })
	is := action(serviceCLB, "Grow", func(*Call, *after) (*done, error) { return nil, nil })
	body := json.RawMessage(`{"Name":"n","Added":3}`)
	if _, _, err := was.decode(&request{body: body}); code(err) != "UnknownParameter" {
		t.Errorf("without the field: %v", err)
	}
	in, _, err := is.decode(&request{body: body})
	if err != nil || !reflect.DeepEqual(in, &after{"n", ptr(int64(3))}) {
		t.Errorf("decoded %+v, %v", in, err)
	}
	if _, _, err := is.decode(&request{body: json.RawMessage(`{"Name":"n","Added":10}`)}); code(err) != "InvalidParameterValue.Range" {
		t.Errorf("out of range: %v", err)
	}
	for what, text := range map[string]string{"the document": string(document([]Action{is})), "the help": is.Help()} {
		if !strings.Contains(text, "Added") || !strings.Contains(text, "1-9") || !strings.Contains(text, "InvalidParameterValue.Range") {
			t.Errorf("%s lacks the field, its range or its code:\n%s", what, text)
		}
	}
	if raw, err := is.Params(map[string][]string{"Added": {"4"}}); err != nil || string(raw) != `{"Added":4}` {
		t.Errorf("from a command line: %s, %v", raw, err)
	}
	if len(faultsOf(&is)) <= len(faultsOf(&was))+5 {
		t.Error("the field has no rows of generic faults")
	}
}
