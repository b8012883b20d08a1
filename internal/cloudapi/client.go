// SPDX-License-Identifier: Apache-2.0

package cloudapi

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// A Client calls the API over HTTP, signed with TC3-HMAC-SHA256. Endpoint is a
// URL such as "https://127.0.0.1:7780". The zero HTTP is http.DefaultClient,
// which trusts the system's CAs; Trust adds others.
type Client struct {
	Endpoint  string
	SecretID  string
	SecretKey string
	Region    string
	HTTP      *http.Client
}

// Do runs one action. in becomes the JSON parameters (nil: none); the answer's
// "Response" is decoded into out, unless that is nil. A refusal by the server
// is an *Error. What came too soon is repeated for a while.
func (c *Client) Do(ctx context.Context, service, version, action string, in, out any) error {
	body := []byte("{}")
	if in != nil {
		var err error
		if body, err = json.Marshal(in); err != nil {
			return err
		}
	}
	for pause := firstPause; ; pause *= 2 {
		err := c.once(ctx, service, version, action, body, out)
		e := (*Error)(nil)
		if !errors.As(err, &e) || e.Code != "RequestLimitExceeded" || pause > lastPause {
			return err
		}
		select {
		case <-time.After(pause/2 + rand.N(pause)):
		case <-ctx.Done():
			return err
		}
	}
}

// Pauses before a call that came too soon is repeated.
const (
	firstPause = 50 * time.Millisecond
	lastPause  = 2 * time.Second
)

func (c *Client) once(ctx context.Context, service, version, action string, body []byte, out any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.Endpoint, bytes.NewReader(body))
	if err != nil {
		return err
	}
	c.sign(req, service, body, time.Now().UTC())
	req.Header.Set("X-TC-Action", action)
	req.Header.Set("X-TC-Version", version)
	req.Header.Set("X-TC-RequestClient", "sallyport")
	if c.Region != "" {
		req.Header.Set("X-TC-Region", c.Region)
	}
	client := c.HTTP
	if client == nil {
		client = http.DefaultClient
	}
	res, err := client.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	raw, err := io.ReadAll(res.Body)
	if err != nil {
		return fmt.Errorf("%s: read the answer: %w", action, err)
	}
	return readAnswer(action, res.StatusCode, raw, out)
}

// Trust makes the client accept servers with a certificate of the CAs in pem,
// besides those that the system trusts. It replaces c.HTTP.
func (c *Client) Trust(pem []byte) error {
	roots, err := x509.SystemCertPool()
	if err != nil {
		roots = x509.NewCertPool()
	}
	if !roots.AppendCertsFromPEM(pem) {
		return errors.New("holds no certificate in PEM")
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.TLSClientConfig = &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots}
	c.HTTP = &http.Client{Transport: transport}
	return nil
}

func readAnswer(action string, status int, raw []byte, out any) error {
	var answer struct {
		Response json.RawMessage
	}
	if err := json.Unmarshal(raw, &answer); err != nil || len(answer.Response) == 0 {
		return fmt.Errorf("%s: HTTP status %d and no API answer; is this the API's address?", action, status)
	}
	var refusal struct{ Error *Error }
	if err := json.Unmarshal(answer.Response, &refusal); err != nil {
		return fmt.Errorf("%s: %w", action, err)
	}
	if refusal.Error != nil {
		return refusal.Error
	}
	if out == nil {
		return nil
	}
	if err := json.Unmarshal(answer.Response, out); err != nil {
		return fmt.Errorf("%s: the answer does not decode: %w", action, err)
	}
	return nil
}

func (c *Client) sign(req *http.Request, service string, body []byte, at time.Time) {
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("X-TC-Timestamp", strconv.FormatInt(at.Unix(), 10))
	if req.URL == nil {
		req.URL = &url.URL{}
	}
	headers := []string{"content-type", "host"}
	text := canonical(req, headers, hosts(req.Host)[0], "/", "", hexSHA256(body), true)
	date := at.Format(time.DateOnly)
	signature := signTC3(keyTC3(c.SecretKey, date, service), at, service, text)
	req.Header.Set("Authorization", fmt.Sprintf("%s Credential=%s/%s/%s/tc3_request, SignedHeaders=content-type;host, Signature=%s",
		algorithmTC3, c.SecretID, date, service, hex.EncodeToString(signature)))
}
