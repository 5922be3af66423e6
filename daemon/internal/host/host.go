// SPDX-License-Identifier: Apache-2.0

// Package host is the door to the operating system: the time, files, the
// host's name, other firewalls on it, and the programs we start. Each part of
// the door that changes something or waits has a fake beside it.
//
// It holds no decision and no netlink: packet filters, routes and links are
// the business of the packages that own them. Everything above floor 1 that
// needs the operating system comes through here.
package host

import (
	"fmt"
	"os"
	"strings"
)

// Name is the name of this host as Calico agents use it: the operating
// system's host name, trimmed and in lower case.
func Name() (string, error) {
	n, err := os.Hostname()
	if err != nil {
		return "", fmt.Errorf("host name: %w", err)
	}
	n = strings.ToLower(strings.TrimSpace(n))
	if n == "" {
		return "", fmt.Errorf("host name: the operating system's host name is empty")
	}
	return n, nil
}
