// SPDX-License-Identifier: Apache-2.0

package cloudapi

import (
	"encoding/json"
	"regexp"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"
)

// wholeNumber is what an integer looks like, of whatever size.
var wholeNumber = regexp.MustCompile(`^-?[0-9]+$`)

// checkText refuses a body with halves of characters: the parser would put
// another character in their place, and what is stored would not be what was
// sent.
func checkText(body []byte) error {
	if !utf8.Valid(body) {
		return errorf("InvalidParameter", "the body is no UTF-8; encode it so")
	}
	for i := 0; i < len(body); i++ {
		if body[i] != '\\' {
			continue
		}
		if i++; i >= len(body) || body[i] != 'u' {
			continue
		}
		r := escaped(body, i+1)
		if !utf16.IsSurrogate(r) {
			continue
		}
		pair := i+6 < len(body) && body[i+5] == '\\' && body[i+6] == 'u'
		if !pair || utf16.DecodeRune(r, escaped(body, i+7)) == utf8.RuneError {
			return errorf("InvalidParameter", "the body has half a character, \\u%04x; write both halves, or the character itself", r)
		}
		i += 10
	}
	return nil
}

// escaped is the number that four hexadecimal digits write, -1 when they are
// none.
func escaped(body []byte, at int) rune {
	if at+4 > len(body) {
		return -1
	}
	n, err := strconv.ParseUint(string(body[at:at+4]), 16, 32)
	if err != nil {
		return -1
	}
	return rune(n)
}

// checkNames refuses an object with the same name twice, of which the parser
// would take the last. The text is JSON.
func checkNames(dec *json.Decoder, at string) error {
	token, err := dec.Token()
	if err != nil {
		return errorf("InvalidParameter", "the body is not JSON: %v", err)
	}
	dot := at
	if at != "" {
		dot += "."
	}
	switch token {
	case json.Delim('{'):
		seen := map[string]bool{}
		for dec.More() {
			token, err := dec.Token()
			name, _ := token.(string)
			switch {
			case err != nil:
				return errorf("InvalidParameter", "the body is not JSON: %v", err)
			case seen[name]:
				return errorf("InvalidParameter", "parameter %s is given twice; give it once", clip(dot+name, 120))
			}
			seen[name] = true
			if err := checkNames(dec, dot+name); err != nil {
				return err
			}
		}
		_, _ = dec.Token() // the closing one: the text is JSON
	case json.Delim('['):
		for i := 0; dec.More(); i++ {
			if err := checkNames(dec, dot+strconv.Itoa(i)); err != nil {
				return err
			}
		}
		_, _ = dec.Token()
	}
	return nil
}
