// SPDX-License-Identifier: Apache-2.0

package cloudapi

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"net/http/httptest"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/tencentcloud/tencentcloud-sdk-go/tencentcloud/common"
	sdkerrors "github.com/tencentcloud/tencentcloud-sdk-go/tencentcloud/common/errors"
	sdkhttp "github.com/tencentcloud/tencentcloud-sdk-go/tencentcloud/common/http"

	"github.com/sallyport/sallyport/internal/replay"
)

// signings are the ways in which clients sign and send.
func signings() [][2]string {
	return [][2]string{{"TC3-HMAC-SHA256", "POST"}, {"TC3-HMAC-SHA256", "GET"}, {"HmacSHA256", "POST"}, {"HmacSHA256", "GET"}, {"HmacSHA1", "POST"}, {"HmacSHA1", "GET"}}
}

// flatten writes a request's tree as a query has it: "Filters.0.Name". What is
// empty is left out, as a query cannot say it.
func flatten(v any, at string, into map[string]string) {
	switch v := v.(type) {
	case map[string]any:
		for k, item := range v {
			flatten(item, strings.TrimPrefix(at+"."+k, "."), into)
		}
	case []any:
		for i, item := range v {
			flatten(item, at+"."+strconv.Itoa(i), into)
		}
	case nil:
	default:
		into[at] = fmt.Sprint(v)
	}
}

// The official Go client makes, reads, changes and deletes every noun, and sees
// every refusal, in each way that it can sign and send.
func TestGoClientInEveryWay(t *testing.T) {
	sequences, err := replay.Sequences()
	if err != nil {
		t.Fatal(err)
	}
	for _, way := range signings() {
		t.Run(way[0]+" "+way[1], func(t *testing.T) {
			b := newBench(t)
			web := httptest.NewServer(b)
			t.Cleanup(web.Close)
			p := sdkProfile("HTTP", strings.TrimPrefix(web.URL, "http://"))
			p.SignMethod, p.HttpProfile.ReqMethod = way[0], way[1]
			client := common.NewCommonClient(common.NewCredential(vectorID, vectorKey), "local", p)
			for _, s := range sequences {
				if err := s.Play(func(service, version, action string, params json.RawMessage) (json.RawMessage, error) {
					return goCall(client, way, service, version, action, params)
				}, nil); err != nil {
					t.Error(err)
				}
			}
		})
	}
}

func goCall(client *common.Client, way [2]string, service, version, action string, params json.RawMessage) (json.RawMessage, error) {
	req := sdkhttp.NewCommonRequest(service, version, action)
	if way == [2]string{"TC3-HMAC-SHA256", "POST"} {
		if err := req.SetActionParameters([]byte(params)); err != nil {
			return nil, err
		}
	} else {
		dec := json.NewDecoder(strings.NewReader(string(params)))
		dec.UseNumber()
		var tree any
		if err := dec.Decode(&tree); err != nil {
			return nil, err
		}
		flatten(tree, "", req.GetParams())
	}
	res := sdkhttp.NewCommonResponse()
	if err := client.Send(req, res); err != nil {
		if e := (*sdkerrors.TencentCloudSDKError)(nil); errors.As(err, &e) {
			return nil, fmt.Errorf("%s: %s", e.GetCode(), e.GetMessage())
		}
		return nil, err
	}
	var out struct{ Response json.RawMessage }
	err := json.Unmarshal(res.GetBody(), &out)
	return out.Response, err
}

// The same with the official Node client.
func TestNodeClientInEveryWay(t *testing.T) {
	dir := nodeSDK(t)
	sequences, err := replay.Sequences()
	if err != nil {
		t.Fatal(err)
	}
	for _, way := range [][2]string{{"TC3-HMAC-SHA256", "POST"}, {"TC3-HMAC-SHA256", "GET"}, {"HmacSHA256", "POST"}, {"HmacSHA1", "GET"}} {
		t.Run(way[0]+" "+way[1], func(t *testing.T) {
			b := newBench(t)
			web := httptest.NewServer(b)
			t.Cleanup(web.Close)
			node := exec.CommandContext(t.Context(), "node", "testdata/node/calls.js", dir, strings.TrimPrefix(web.URL, "http://"), way[0], way[1])
			node.Env = append(slices.DeleteFunc(os.Environ(), func(v string) bool {
				name, _, _ := strings.Cut(strings.ToLower(v), "=")
				return strings.HasSuffix(name, "_proxy") // the server is here
			}), "SECRET_ID="+vectorID, "SECRET_KEY="+vectorKey)
			in, err := node.StdinPipe()
			if err != nil {
				t.Fatal(err)
			}
			out, err := node.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := node.Start(); err != nil {
				t.Fatal(err)
			}
			answers := bufio.NewScanner(out)
			answers.Buffer(nil, 1<<20)
			for _, s := range sequences {
				if err := s.Play(func(service, _, action string, params json.RawMessage) (json.RawMessage, error) {
					fmt.Fprintf(in, `{"service":%q,"action":%q,"params":%s}`+"\n", service, action, params)
					if !answers.Scan() {
						return nil, errors.New("node has ended")
					}
					var refused struct{ Refused string }
					if err := json.Unmarshal(answers.Bytes(), &refused); err == nil && refused.Refused != "" {
						return nil, errors.New(refused.Refused)
					}
					return slices.Clone(answers.Bytes()), nil
				}, nil); err != nil {
					t.Error(err)
				}
			}
			_ = in.Close()
			if err := node.Wait(); err != nil {
				t.Error(err)
			}
		})
	}
}
