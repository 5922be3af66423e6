// SPDX-License-Identifier: Apache-2.0

package server

import (
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/ripstop/ripstop/daemon/internal/config"
)

func TestServerNames_BeginWithTheOneThatClientsAreTold(t *testing.T) {
	host, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	host = strings.ToLower(host)
	loopback := []string{"localhost", "127.0.0.1", "::1"}
	for _, c := range []struct {
		at         string
		configured []string
		first      string
	}{
		{"192.0.2.1", nil, "192.0.2.1"}, {"2001:db8::1", nil, "2001:db8::1"}, {"::1", nil, "::1"},
		{"0.0.0.0", nil, host}, {"::", nil, host}, {"::", []string{"ripstop.example.org"}, "ripstop.example.org"},
	} {
		got := serverNames(c.configured, netip.MustParseAddr(c.at))
		if got[0] != c.first || !slices.Contains(got, host) {
			t.Errorf("at %s: got %v, want %s first, and %s", c.at, got, c.first, host)
		}
		for _, n := range loopback {
			if !slices.Contains(got, n) {
				t.Errorf("at %s: got %v, without %s", c.at, got, n)
			}
		}
		for i, n := range got {
			if slices.Contains(got[:i], n) {
				t.Errorf("at %s: %s is there twice: %v", c.at, n, got)
			}
		}
	}
}

func TestOpenPKI_IsInTheStateDirectoryAndTellsTheAddress(t *testing.T) {
	dir := t.TempDir()
	log := slog.New(slog.DiscardHandler)
	for listen, want := range map[string]string{"192.0.2.1:8443": "https://192.0.2.1:8443", "[2001:db8::1]:443": "https://[2001:db8::1]:443"} {
		_, address, err := openPKI(config.ServerConfig{StateDir: dir, Listen: listen}, log)
		if err != nil || address != want {
			t.Errorf("%s: got %q, %v; want %q", listen, address, err, want)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "pki", "ca.key")); err != nil {
		t.Error(err)
	}
}

func TestOpenOIDC_IsOffUnlessConfigured(t *testing.T) {
	log := slog.New(slog.DiscardHandler)
	if o, err := openOIDC(config.OIDC{}, log); o != nil || err != nil {
		t.Errorf("nothing configured: %v, %v", o, err)
	}
	for name, c := range map[string]config.OIDC{
		"a file that is missing": {Issuer: "https://x", Audience: "a", JWKSFile: filepath.Join(t.TempDir(), "no")},
		"a CA that is missing":   {Issuer: "https://x", Audience: "a", CAFile: filepath.Join(t.TempDir(), "no")},
		"keys in the clear":      {Issuer: "http://x.test", Audience: "a"},
	} {
		if _, err := openOIDC(c, log); err == nil {
			t.Errorf("%s: is accepted", name)
		}
	}
	if o, err := openOIDC(config.OIDC{Issuer: "https://x", Audience: "a"}, log); o == nil || err != nil {
		t.Errorf("an issuer: %v, %v", o, err)
	}
}
