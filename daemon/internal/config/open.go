// SPDX-License-Identifier: Apache-2.0

package config

import (
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
)

// NewLogger makes the logger that c asks for.
func NewLogger(c Log, w io.Writer) *slog.Logger {
	o := &slog.HandlerOptions{Level: c.Level}
	if c.JSON {
		return slog.New(slog.NewJSONHandler(w, o))
	}
	return slog.New(slog.NewTextHandler(w, o))
}

// Password is the first line of PasswordFile; empty if there is no such file
// configured. Who may read the file has been checked by LoadAgent and
// LoadServer.
func (e Etcd) Password() (string, error) {
	if e.PasswordFile == "" {
		return "", nil
	}
	b, err := os.ReadFile(e.PasswordFile)
	if err != nil {
		return "", fmt.Errorf("etcd-password-file: %w", err)
	}
	line, _, _ := strings.Cut(string(b), "\n")
	if line = strings.TrimRight(line, "\r"); line == "" {
		return "", fmt.Errorf("etcd-password-file %s: the first line is empty: write the password there", e.PasswordFile)
	}
	return line, nil
}

// Flags are the command-line flags that say the same.
func (e Etcd) Flags() []string {
	var out []string
	add := func(name, value string) {
		if value != "" {
			out = append(out, "--"+name, value)
		}
	}
	add("etcd-endpoints", strings.Join(e.Endpoints, ","))
	add("etcd-ca-file", e.CAFile)
	add("etcd-cert-file", e.CertFile)
	add("etcd-key-file", e.KeyFile)
	add("etcd-username", e.Username)
	add("etcd-password-file", e.PasswordFile)
	return out
}
