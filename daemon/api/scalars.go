// SPDX-License-Identifier: Apache-2.0

package api

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Duration is a length of time, written as Go writes it ("1m30s", "2m0s").
type Duration struct{ time.Duration }

// MarshalJSON writes the canonical form as a string.
func (d Duration) MarshalJSON() ([]byte, error) { return json.Marshal(d.String()) }

// UnmarshalJSON reads a string such as "90s" or "1m30s"; a bare number is
// refused, since it does not say its unit.
func (d *Duration) UnmarshalJSON(b []byte) error {
	var s string
	if len(b) == 0 || b[0] != '"' {
		return fmt.Errorf("%s is not a duration; write a string with a unit, such as \"90s\" or \"1m30s\"", excerpt(string(b)))
	}
	if err := json.Unmarshal(b, &s); err != nil {
		return err
	}
	v, err := time.ParseDuration(s)
	if err != nil {
		return fmt.Errorf("%q is not a duration; write it as \"90s\" or \"1m30s\"", excerpt(s))
	}
	d.Duration = v
	return nil
}

// ASNumber is the number of an autonomous system. In JSON: an integer;
// read also from "65000" and "1.10".
type ASNumber uint32

// UnmarshalJSON reads an integer, "n" or "a.b" with 16-bit halves.
func (a *ASNumber) UnmarshalJSON(b []byte) error {
	s, err := intOrString(b, "an AS number")
	if err != nil {
		return err
	}
	if hi, lo, ok := strings.Cut(s, "."); ok && allDigits(hi) && allDigits(lo) {
		h, err1 := strconv.ParseUint(hi, 10, 16)
		l, err2 := strconv.ParseUint(lo, 10, 16)
		if err1 == nil && err2 == nil {
			*a = ASNumber(h<<16 | l)
			return nil
		}
	}
	if allDigits(s) {
		if n, err := strconv.ParseUint(s, 10, 32); err == nil {
			*a = ASNumber(n)
			return nil
		}
	}
	return fmt.Errorf("%q is not an AS number: 0 to 4294967295, or \"a.b\" with parts up to 65535", excerpt(s))
}

// DSCP is a differentiated-services code point: a number from 0 to 63 or one
// of the names in RFC 2474, 2597 and 3246.
//
// Text set: written as a string, as given; else as the integer Num.
type DSCP struct {
	Text string
	Num  uint8
}

// dscpNumbers are the code points that have names.
var dscpNumbers = map[string]uint8{
	"DF": 0, "EF": 46,
	"CS0": 0, "CS1": 8, "CS2": 16, "CS3": 24, "CS4": 32, "CS5": 40, "CS6": 48,
	"AF11": 10, "AF12": 12, "AF13": 14, "AF21": 18, "AF22": 20, "AF23": 22,
	"AF31": 26, "AF32": 28, "AF33": 30, "AF41": 34, "AF42": 36, "AF43": 38,
}

// Number is the code point, 0 to 63.
func (d DSCP) Number() uint8 {
	if n, ok := dscpNumbers[strings.ToUpper(d.Text)]; ok {
		return n
	}
	return d.Num
}

// String is the text as given, or the number.
func (d DSCP) String() string {
	if d.Text != "" {
		return d.Text
	}
	return strconv.Itoa(int(d.Num))
}

// MarshalJSON writes the code point as it was given.
func (d DSCP) MarshalJSON() ([]byte, error) {
	if d.Text != "" {
		return json.Marshal(d.Text)
	}
	return strconv.AppendUint(nil, uint64(d.Num), 10), nil
}

// UnmarshalJSON reads 0 to 63, the same as a string, or a name in any case.
func (d *DSCP) UnmarshalJSON(b []byte) error {
	s, err := intOrString(b, "a DSCP")
	if err != nil {
		return err
	}
	v := DSCP{}
	if b[0] == '"' {
		v.Text = s
	}
	if n, err := strconv.ParseUint(s, 10, 8); err == nil && n <= 63 && allDigits(s) {
		v.Num = uint8(n)
	} else if n, ok := dscpNumbers[strings.ToUpper(s)]; ok {
		v.Num = n
	} else {
		return fmt.Errorf("%q is not a DSCP: 0 to 63, DF, EF, CS0 to CS6, AF11 to AF43", excerpt(s))
	}
	*d = v
	return nil
}
