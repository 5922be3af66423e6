// SPDX-License-Identifier: Apache-2.0

package command

import (
	"bytes"
	"regexp"
)

// redacted stands where a secret was.
const redacted = "REDACTED"

// Secrets as they look in settings, logs and command lines.
var (
	secretPEM = regexp.MustCompile(`(?s)-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----.*?(-----END [A-Z0-9 ]*PRIVATE KEY-----|\z)`)
	// password: x, "token": "x", --secret=x, PASSWORD=x; not password-file.
	secretNamed  = regexp.MustCompile(`(?i)("?[a-z0-9_.-]*(?:password|passwd|passphrase|secret|token|api[-_]?key|private[-_]?key|credential)"?)(\s*[:=]\s*)("(?:[^"\\]|\\.)*"|'[^']*'|[^\s,;&}]+)`)
	secretBearer = regexp.MustCompile(`(?i)\b(bearer|basic)(\s+)[A-Za-z0-9._~+/=-]{8,}`)
	secretURL    = regexp.MustCompile(`([a-z][a-z0-9+.-]*://[^/\s:@]+:)[^/\s@]+@`)
)

// redact takes out what looks like a secret. It would rather take out too
// much.
func redact(data []byte) []byte {
	data = secretPEM.ReplaceAll(data, []byte("-----BEGIN PRIVATE KEY----- "+redacted))
	data = secretBearer.ReplaceAll(data, []byte("${1}${2}"+redacted))
	data = secretURL.ReplaceAll(data, []byte("${1}"+redacted+"@"))
	return secretNamed.ReplaceAllFunc(data, func(m []byte) []byte {
		parts := secretNamed.FindSubmatch(m)
		value := []byte(redacted)
		if q := parts[3][0]; q == '"' || q == '\'' {
			value = append(append([]byte{q}, redacted...), q)
		}
		return bytes.Join([][]byte{parts[1], parts[2], value}, nil)
	})
}
