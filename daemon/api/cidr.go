// SPDX-License-Identifier: Apache-2.0

package api

import (
	"errors"
	"net/netip"
	"strings"
)

var (
	errNotCIDR = errors.New("not an IP prefix or address")
	errNotIP   = errors.New("not an IP address")
	errZone    = errors.New("an address with a zone is not supported")
	errMapped  = errors.New("an IPv4 address in IPv6 form; write it as IPv4")
)

// ParseCIDR reads a prefix or an address as network sets hold them: host bits
// are masked, an address is a prefix of full length.
func ParseCIDR(s string) (netip.Prefix, error) {
	if !strings.Contains(s, "/") {
		a, err := parseIP(s)
		if err != nil {
			if errors.Is(err, errNotIP) {
				err = errNotCIDR
			}
			return netip.Prefix{}, err
		}
		return netip.PrefixFrom(a, a.BitLen()), nil
	}
	p, err := netip.ParsePrefix(s)
	if err != nil {
		return netip.Prefix{}, errNotCIDR
	}
	if p.Addr().Is4In6() {
		return netip.Prefix{}, errMapped
	}
	return p.Masked(), nil
}

// parseIP reads an address without zone or prefix length.
func parseIP(s string) (netip.Addr, error) {
	a, err := netip.ParseAddr(s)
	switch {
	case err != nil:
		return a, errNotIP
	case a.Zone() != "":
		return a, errZone
	case a.Is4In6():
		return a, errMapped
	}
	return a, nil
}

// laxCIDR is what is wrong with an element of a network set, or nil.
func laxCIDR(s string) error {
	_, err := ParseCIDR(s)
	return err
}

// plainIP is what is wrong with an address, or nil.
func plainIP(s string) error {
	_, err := parseIP(s)
	return err
}

// strictNet checks a prefix as rules hold them, with all host bits zero, and
// tells how to write it right.
func strictNet(s string) (p netip.Prefix, fix string, err error) {
	masked, err := ParseCIDR(s)
	if err != nil {
		return p, "", err
	}
	if !strings.Contains(s, "/") {
		return p, "write " + masked.String(), errors.New("no prefix length")
	}
	if p = netip.MustParsePrefix(s); p != masked {
		return p, "write " + masked.String(), errors.New("has bits set beyond its prefix length")
	}
	return p, "", nil
}
