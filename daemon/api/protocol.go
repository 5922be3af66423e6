// SPDX-License-Identifier: Apache-2.0

package api

import (
	"encoding/json"
	"fmt"
	"strconv"
)

// ParseProtocol reads a name or a number. The name is kept as written;
// Validate tells whether it is known (exact case: "TCP").
func ParseProtocol(s string) (Protocol, error) {
	if !allDigits(s) {
		return Protocol{Name: s}, nil
	}
	n, err := strconv.ParseUint(s, 10, 8)
	if err != nil {
		return Protocol{}, fmt.Errorf("protocol %s is beyond 255", excerpt(s))
	}
	return Protocol{Num: uint8(n)}, nil
}

// String is the name if it has one, else the number.
func (p Protocol) String() string {
	if p.Name != "" {
		return p.Name
	}
	return strconv.Itoa(int(p.Num))
}

// HasPorts reports whether the protocol's packets carry ports that rules can
// match: TCP, UDP, SCTP.
func (p Protocol) HasPorts() bool {
	switch p.Number() {
	case 6, 17, 132:
		return true
	}
	return false
}

// MarshalJSON writes a name as a string, a number as an integer.
func (p Protocol) MarshalJSON() ([]byte, error) {
	if p.Name == "" {
		return strconv.AppendUint(nil, uint64(p.Num), 10), nil
	}
	return json.Marshal(p.Name)
}

// UnmarshalJSON reads an integer up to 255 or a string; a string of digits
// is a number.
func (p *Protocol) UnmarshalJSON(b []byte) error {
	s, err := intOrString(b, "a protocol")
	if err != nil {
		return err
	}
	v, err := ParseProtocol(s)
	if err != nil {
		return err
	}
	*p = v
	return nil
}
