// SPDX-License-Identifier: Apache-2.0

// Package iptables is the Part that makes chains of iptables and sets of
// ipset what the ruleset wants.
package iptables
