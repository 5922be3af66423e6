// SPDX-License-Identifier: Apache-2.0

package command

import (
	"strings"
	"testing"
)

func TestRedact_TakesSecretsOutAndLeavesTheRest(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{"password: hunter2", "password: REDACTED"},
		{`{"token":"hunter2","user":"alice"}`, `{"token":"REDACTED","user":"alice"}`},
		{"ETCD_PASSWORD=hunter2 x", "ETCD_PASSWORD=REDACTED x"},
		{"client-secret: 'hunter2'", "client-secret: 'REDACTED'"},
		{"http://alice:hunter2@db:2379/x", "http://alice:REDACTED@db:2379/x"},
		{"Authorization: Basic aHVudGVyMg==", "Authorization: Basic REDACTED"},
		{"-----BEGIN PRIVATE KEY-----\nhunter2", "-----BEGIN PRIVATE KEY----- REDACTED"},
		{"etcd-password-file: /etc/x", "etcd-password-file: /etc/x"},
		{"-----BEGIN CERTIFICATE-----\nabc", "-----BEGIN CERTIFICATE-----\nabc"},
		{"nets: [10.0.0.0/8]", "nets: [10.0.0.0/8]"},
	} {
		got := string(redact([]byte(c.in)))
		if got != c.want || strings.Contains(got, "hunter2") {
			t.Errorf("redact(%q): got %q, want %q", c.in, got, c.want)
		}
	}
}
