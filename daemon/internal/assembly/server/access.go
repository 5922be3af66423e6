// SPDX-License-Identifier: Apache-2.0

package server

import (
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/ripstop/ripstop/daemon/internal/config"
	"github.com/ripstop/ripstop/web/apiserver/authn"
)

// pkiDir is the directory of certificates inside of the state directory.
const pkiDir = "pki"

// openPKI opens the certificates of a server that listens on TCP, and gives
// the URL that new clients are told.
func openPKI(cfg config.ServerConfig, log *slog.Logger) (*authn.PKI, string, error) {
	at, err := netip.ParseAddrPort(cfg.Listen)
	if err != nil {
		return nil, "", fmt.Errorf("listen: %w", err)
	}
	names := func() []string { return serverNames(cfg.TLSNames, at.Addr()) }
	pki, err := authn.OpenPKI(authn.PKIConfig{Dir: filepath.Join(cfg.StateDir, pkiDir), Names: names, Log: log})
	if err != nil {
		return nil, "", err
	}
	return pki, "https://" + net.JoinHostPort(names()[0], strconv.Itoa(int(at.Port()))), nil
}

// serverNames are the names and addresses by which clients call the server,
// the one that they are told first: those of the configuration, the address it
// listens at (of all addresses: the host's name and what it has), and
// loopback.
func serverNames(configured []string, at netip.Addr) []string {
	names := slices.Clone(configured)
	add := func(n string) {
		if n != "" && !slices.Contains(names, n) {
			names = append(names, n)
		}
	}
	if !at.IsUnspecified() {
		add(at.WithZone("").String())
	}
	if host, err := os.Hostname(); err == nil {
		add(strings.ToLower(host))
	}
	if at.IsUnspecified() {
		addrs, err := net.InterfaceAddrs()
		if err != nil {
			addrs = nil // the names above will do
		}
		for _, a := range addrs {
			if p, err := netip.ParsePrefix(a.String()); err == nil && p.Addr().IsGlobalUnicast() {
				add(p.Addr().String())
			}
		}
	}
	for _, n := range []string{"localhost", "127.0.0.1", "::1"} {
		add(n)
	}
	return names
}

// openOIDC is what accepts the tokens of an issuer; nil if none is configured.
func openOIDC(cfg config.OIDC, log *slog.Logger) (*authn.OIDC, error) {
	if cfg.Issuer == "" {
		return nil, nil
	}
	c := authn.OIDCConfig{Issuer: cfg.Issuer, Audience: cfg.Audience, Username: cfg.UsernameClaim, Groups: cfg.GroupsClaim}
	if cfg.JWKSFile != "" {
		keys, err := authn.NewFileKeys(cfg.JWKSFile)
		if err != nil {
			return nil, fmt.Errorf("oidc-jwks-file: %w", err)
		}
		c.Keys = keys
		return authn.NewOIDC(c)
	}
	var ca []byte
	if cfg.CAFile != "" {
		var err error
		if ca, err = os.ReadFile(cfg.CAFile); err != nil {
			return nil, fmt.Errorf("oidc-ca-file: %w", err)
		}
	}
	keys, err := authn.NewURLKeys(cfg.Issuer, cfg.JWKSURL, ca, log, nil)
	if err != nil {
		return nil, err
	}
	c.Keys = keys
	return authn.NewOIDC(c)
}
