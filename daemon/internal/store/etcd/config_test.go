// SPDX-License-Identifier: Apache-2.0

package etcd_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ripstop/ripstop/daemon/internal/store/etcd"
)

func TestSecret_NeverShows(t *testing.T) {
	const canary = "canary-7f3a"
	cfg := etcd.Config{Endpoints: []string{"http://[::1]:1"}, Username: "u", Password: canary}
	var log bytes.Buffer
	slog.New(slog.NewJSONHandler(&log, nil)).Info("x", "cfg", cfg, "password", cfg.Password)
	slog.New(slog.NewTextHandler(&log, nil)).Info("x", "cfg", cfg, "password", cfg.Password)
	j, err := json.Marshal(struct{ P etcd.Secret }{cfg.Password})
	if err != nil {
		t.Fatal(err)
	}
	texts := []string{log.String(), string(j), cfg.Password.String(), fmt.Errorf("x: %w", fmt.Errorf("%v", cfg)).Error()}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%T"} {
		texts = append(texts, fmt.Sprintf(verb, cfg), fmt.Sprintf(verb, &cfg), fmt.Sprintf(verb, cfg.Password))
	}
	for _, text := range texts {
		if strings.Contains(text, canary) || strings.Contains(text, fmt.Sprintf("%x", canary)) {
			t.Errorf("secret shows in %q", text)
		}
	}
	if cfg.Password.Reveal() != canary {
		t.Errorf("Reveal() = %q, want the text", cfg.Password.Reveal())
	}
}

func TestOpen_RefusesBadConfigurations(t *testing.T) {
	dir := t.TempDir()
	ca := newAuthority(t, dir)
	cert, key := ca.issue(t, "client")
	loose := filepath.Join(dir, "loose.key")
	b, err := os.ReadFile(key)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(loose, b, 0o644); err != nil {
		t.Fatal(err)
	}
	https := []string{"https://127.0.0.1:2379"}
	for _, c := range []struct {
		name string
		cfg  etcd.Config
		want []string
	}{
		{"nothing", etcd.Config{}, []string{"no endpoints"}},
		{"no scheme", etcd.Config{Endpoints: []string{"127.0.0.1:2379"}}, []string{"127.0.0.1:2379"}},
		{"wrong scheme", etcd.Config{Endpoints: []string{"ftp://h:1"}}, []string{"ftp://h:1", "want http://"}},
		{"mixed schemes", etcd.Config{Endpoints: []string{"https://h:1", "http://h:2"}}, []string{"http://h:2", "must be https"}},
		{"password in the URL", etcd.Config{Endpoints: []string{"http://u:hunter2@h:1"}}, []string{"must not hold"}},
		{"relative socket", etcd.Config{Endpoints: []string{"unix://sock"}}, []string{"unix:///path"}},
		{"certificate without key", etcd.Config{Endpoints: https, CertFile: cert}, []string{"given together"}},
		{"user without password", etcd.Config{Endpoints: https, Username: "u"}, []string{"given together"}},
		{"certificates that would not be used", etcd.Config{Endpoints: []string{"http://h:1"}, CAFile: ca.file}, []string{"would not use them"}},
		{"no CA file", etcd.Config{Endpoints: https, CAFile: filepath.Join(dir, "none")}, []string{"CA file", "none"}},
		{"CA file without certificate", etcd.Config{Endpoints: https, CAFile: key}, []string{"no PEM certificate"}},
		{"key that all may read", etcd.Config{Endpoints: https, CertFile: cert, KeyFile: loose}, []string{loose, "0644", "chmod 0600"}},
		{"several faults", etcd.Config{Endpoints: []string{"x"}, Username: "u"}, []string{"endpoint", "given together"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, err := etcd.Open(c.cfg)
			if err == nil {
				s.Close()
				t.Fatalf("Open(%+v): no error", c.cfg)
			}
			for _, w := range c.want {
				if !strings.Contains(err.Error(), w) {
					t.Errorf("Open: error %q, want %q in it", err, w)
				}
			}
			if strings.Contains(err.Error(), "hunter2") {
				t.Errorf("Open: error %q shows the password", err)
			}
		})
	}
	s, err := etcd.Open(etcd.Config{Endpoints: https, CAFile: ca.file, CertFile: cert, KeyFile: key, Username: "u", Password: "p"})
	if err != nil {
		t.Fatalf("Open of a good configuration: %v", err)
	}
	s.Close()
}
