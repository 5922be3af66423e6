// SPDX-License-Identifier: Apache-2.0

package api

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
)

// maxPortName is the longest name of an endpoint's port.
const maxPortName = 128

// SinglePort is the Port of one number.
func SinglePort(n uint16) Port { return Port{Min: n, Max: n} }

// ParsePort reads "80", "8000:8010" or the name of a port. Digits only are a
// number. The ends of a range must be in order. Port 0 is read, since Calico
// reads it; Validate refuses it.
func ParsePort(s string) (Port, error) {
	if allDigits(s) {
		n, err := portNumber(s)
		if err != nil {
			return Port{}, err
		}
		return SinglePort(n), nil
	}
	if lo, hi, ok := strings.Cut(s, ":"); ok {
		if !allDigits(lo) || !allDigits(hi) {
			return Port{}, fmt.Errorf("%q is not a port; a range is written as \"8000:8010\"", s)
		}
		lowest, err := portNumber(lo)
		if err != nil {
			return Port{}, err
		}
		highest, err := portNumber(hi)
		if err != nil {
			return Port{}, err
		}
		if lowest > highest {
			return Port{}, fmt.Errorf("port range %q is in the wrong order; write \"%d:%d\"", s, highest, lowest)
		}
		return Port{Min: lowest, Max: highest}, nil
	}
	if !isPortName(s) {
		return Port{}, fmt.Errorf("%q is not a port: a number, a range such as \"8000:8010\", or a name of 1 to %d letters, digits, '_', '.' and '-'", s, maxPortName)
	}
	return Port{Name: s}, nil
}

// portNumber reads a port's number; s is digits only.
func portNumber(s string) (uint16, error) {
	n, err := strconv.ParseUint(s, 10, 16)
	if err != nil {
		return 0, fmt.Errorf("port %s is beyond 65535", s)
	}
	return uint16(n), nil
}

// String is "80", "8000:8010" or the name.
func (p Port) String() string {
	switch {
	case p.Name != "":
		return p.Name
	case p.Min == p.Max:
		return strconv.Itoa(int(p.Min))
	}
	return strconv.Itoa(int(p.Min)) + ":" + strconv.Itoa(int(p.Max))
}

// MarshalJSON writes a number as an integer, ranges and names as strings.
func (p Port) MarshalJSON() ([]byte, error) {
	if p.Name == "" && p.Min == p.Max {
		return strconv.AppendUint(nil, uint64(p.Min), 10), nil
	}
	return json.Marshal(p.String())
}

// UnmarshalJSON reads an integer or what ParsePort reads.
func (p *Port) UnmarshalJSON(b []byte) error {
	s, err := intOrString(b, "a port")
	if err != nil {
		return err
	}
	v, err := ParsePort(s)
	if err != nil {
		return err
	}
	*p = v
	return nil
}

// intOrString is the text of a JSON string, or of a JSON integer that is not
// negative.
func intOrString(b []byte, what string) (string, error) {
	if len(b) > 0 && b[0] == '"' {
		var s string
		if err := json.Unmarshal(b, &s); err != nil {
			return "", err
		}
		return s, nil
	}
	if s := string(b); allDigits(s) {
		return s, nil
	}
	return "", fmt.Errorf("%s is not %s: neither a whole number of 0 or more nor a string", excerpt(string(b)), what)
}

// allDigits reports whether s is one or more ASCII digits.
func allDigits(s string) bool {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return s != ""
}

// isPortName reports whether s can be the name of an endpoint's port.
func isPortName(s string) bool {
	return len(s) <= maxPortName && isWord(s, "_.-")
}

// isWord reports whether s is one or more ASCII letters, digits and
// characters of others.
func isWord(s, others string) bool {
	for i := range len(s) {
		c := s[i]
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', strings.IndexByte(others, c) >= 0:
		default:
			return false
		}
	}
	return s != ""
}

// excerpt is s, cut when it is too long for an error text.
func excerpt(s string) string {
	const most = 60
	if len(s) <= most {
		return s
	}
	cut := most
	for cut > 0 && s[cut]&0xC0 == 0x80 { // not inside a character
		cut--
	}
	return s[:cut] + "..."
}
