// SPDX-License-Identifier: Apache-2.0

package config

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"net/url"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Key describes one setting. Its name is the same in the file and as a flag;
// the environment variable is RIPSTOP_ and the name in capitals, with "_" for
// "-".
type Key struct {
	Name string
	// Default is the default as text; a list is separated by commas.
	Default string
	// Type says what a value looks like: "string", "list", "duration",
	// "bytes", "number", "path", "address", "true or false", or "one of a, b".
	Type string
	// Help says what the setting does, in one or two sentences.
	Help string
	// FlagOnly settings are not taken from the file or the environment.
	FlagOnly bool

	check func(string) error
}

// Env is the name of the environment variable of a setting.
func (k Key) Env() string {
	return envPrefix + strings.ToUpper(strings.ReplaceAll(k.Name, "-", "_"))
}

func (k Key) isList() bool { return k.Type == "list" }
func (k Key) isBool() bool { return k.Type == "true or false" }

// defaultResync is the period of the audit: all that is ours in the kernel is
// read and compared with what is wanted. It costs 0.2 % of one processor at
// 5,000 rules. (Felix looks every 90 s.)
const defaultResync = 60 * time.Second

func etcdKeys(what string) []Key {
	return []Key{
		{Name: "etcd-endpoints", Type: "list", Help: "URLs of the etcd to use as datastore, such as https://10.0.0.1:2379. " + what, check: checkEndpoints},
		{Name: "etcd-ca-file", Type: "path", Help: "Certificates (PEM) that the datastore's own must be signed by.", check: checkPath},
		{Name: "etcd-cert-file", Type: "path", Help: "Certificate (PEM) shown to the datastore; needs etcd-key-file.", check: checkPath},
		{Name: "etcd-key-file", Type: "path", Help: "Private key (PEM) of etcd-cert-file; neither group nor others may read it.", check: checkPath},
		{Name: "etcd-username", Type: "string", Help: "Name to log in to the datastore with; needs etcd-password-file."},
		{Name: "etcd-password-file", Type: "path", Help: "File with the password on its first line; neither group nor others may read it. The password itself is never a setting.", check: checkPath},
	}
}

func logKeys() []Key {
	return []Key{
		{Name: "log-level", Default: "info", Type: "one of debug, info, warn, error", Help: "The least important lines that are logged."},
		{Name: "log-format", Default: "text", Type: "one of text, json", Help: "How lines are logged."},
	}
}

// AgentKeys lists the settings of ripstopd, in the order of the file.
func AgentKeys() []Key {
	keys := []Key{
		{Name: "config", Default: "/etc/ripstop/ripstopd.yaml", Type: "path", Help: "The configuration file. It may be missing unless it is named.", FlagOnly: true, check: checkPath},
		{Name: "check", Default: "false", Type: "true or false", Help: "Load everything, print what would be enforced, and change nothing.", FlagOnly: true},
		{Name: "boot", Default: "false", Type: "true or false", Help: "Put the last state on disk in force, without datastore and network, and end: for the time before the network is up.", FlagOnly: true},
		{Name: "cleanup", Default: "false", Type: "true or false", Help: "Remove all that Ripstop has put on this host, and end.", FlagOnly: true},
		{Name: "doctor", Default: "false", Type: "true or false", Help: "Look at all packet filters of this host, print what ripstop doctor prints, and end: for when the agent does not run.", FlagOnly: true},
		{Name: "exposure", Default: "false", Type: "true or false", Help: "Print who can reach this host's sockets and published ports, as ripstop exposure does, and end.", FlagOnly: true},
		{Name: "role", Default: string(Standalone), Type: "one of standalone, agent", Help: "standalone runs ripstop-server, with a datastore of its own unless etcd-endpoints is set, beside the agent; agent runs the agent alone."},
		{Name: "node", Type: "string", Help: "The name of this host in HostEndpoint and Node resources. Empty: the operating system's host name in lower case.", check: checkNode},
		{Name: "state-dir", Default: "/var/lib/ripstop", Type: "path", Help: "Directory of what must survive a reboot.", check: checkPath},
		{Name: "run-dir", Default: "/run/ripstop", Type: "path", Help: "Directory of sockets.", check: checkRunDir},
		{Name: "dataplane", Default: "auto", Type: "one of auto, nftables, iptables", Help: "The packet filter to use; auto takes nftables where the kernel has it, else iptables."},
		{Name: "failsafe-defaults", Default: string(FailsafeRipstop), Type: "one of Ripstop, Calico", Help: "The failsafe ports that hold where FelixConfiguration names none: Ripstop opens SSH, DHCP and DNS of this host and its datastore, Calico what Calico opens."},
		{Name: "resync-interval", Default: defaultResync.String(), Type: "duration", Help: "How often the kernel is compared with what is wanted even if nothing has changed, give or take 10 %. 0s: only when something has changed.", check: checkDuration},
		{Name: "metrics-address", Default: "127.0.0.1:9091", Type: "address", Help: "Loopback address and port of /metrics, /livez and /readyz. Empty: not served.", check: checkLoopback},
	}
	keys = append(keys, etcdKeys("Empty in role standalone: Ripstop runs its own.")...)
	return append(keys, logKeys()...)
}

// ServerKeys lists the settings of ripstop-server, in the order of the file.
func ServerKeys() []Key {
	keys := []Key{
		{Name: "config", Default: "/etc/ripstop/ripstop-server.yaml", Type: "path", Help: "The configuration file. It may be missing unless it is named.", FlagOnly: true, check: checkPath},
		{Name: "state-dir", Default: "/var/lib/ripstop", Type: "path", Help: "Directory of what must survive a reboot.", check: checkPath},
		{Name: "run-dir", Default: "/run/ripstop", Type: "path", Help: "Directory of sockets; the API is at api.sock in it.", check: checkRunDir},
		{Name: "listen", Type: "address", Help: "Address and port at which the API is served with TLS besides its socket, such as 10.0.0.1:8443, or 0.0.0.0:8443 or [::]:8443 for all addresses. Empty: the socket alone.", check: checkAddress},
		{Name: "tls-names", Type: "list", Help: "Names and addresses by which clients call the server, besides the address it listens at and the host's name; the first is the one that new clients are told.", check: checkNames},
		{Name: "oidc-issuer", Type: "string", Help: "URL of an OpenID Connect issuer whose tokens are accepted, as it stands in their iss. Empty: none are."},
		{Name: "oidc-audience", Type: "string", Help: "What must be in the aud of the issuer's tokens; needs oidc-issuer."},
		{Name: "oidc-jwks-file", Type: "path", Help: "File with the issuer's keys (JWK set), read anew when it changes.", check: checkPath},
		{Name: "oidc-jwks-url", Type: "string", Help: "URL of the issuer's keys. Empty, and no file: where the issuer says."},
		{Name: "oidc-ca-file", Type: "path", Help: "Certificates (PEM) that the issuer's own must be signed by. Empty: the system's.", check: checkPath},
		{Name: "oidc-username-claim", Default: "sub", Type: "string", Help: "Claim of a token that names the user, who is known as oidc: and this name."},
		{Name: "oidc-groups-claim", Default: "groups", Type: "string", Help: "Claim of a token that lists the user's groups, which are known as oidc: and their names."},
		{Name: "quota", Default: "2GiB", Type: "bytes", Help: "The most that the built-in datastore may hold on disk: a number with KiB, MiB or GiB.", check: checkBytes},
		{Name: "audit-file-size", Default: "64MiB", Type: "bytes", Help: "The size from which on a file of the audit log, in audit/ of state-dir, is rotated: a number with KiB, MiB or GiB.", check: checkBytes},
		{Name: "audit-files", Default: "16", Type: "number", Help: "How many rotated files of the audit log are kept.", check: checkCount},
	}
	keys = append(keys, etcdKeys("Empty: Ripstop runs its own.")...)
	return append(keys, logKeys()...)
}

// oneOf splits "one of a, b" into a and b.
func (k Key) oneOf() []string {
	if rest, ok := strings.CutPrefix(k.Type, "one of "); ok {
		return strings.Split(rest, ", ")
	}
	return nil
}

// checkValue says what is wrong with a value and how to mend it.
func (k Key) checkValue(v string) error {
	if list := k.oneOf(); list != nil && !slices.Contains(list, v) {
		for _, w := range list {
			if strings.EqualFold(w, v) {
				return fmt.Errorf("%q is not known: write %q", v, w)
			}
		}
		return fmt.Errorf("%q is not known: use one of %s", v, strings.Join(list, ", "))
	}
	if k.isBool() {
		if _, err := strconv.ParseBool(v); err != nil {
			return fmt.Errorf("%q is neither true nor false", v)
		}
	}
	if k.check == nil || v == "" && k.Default == "" {
		return nil
	}
	return k.check(v)
}

func checkPath(v string) error {
	if v == "" {
		return fmt.Errorf("is empty: write an absolute path")
	}
	if !filepath.IsAbs(v) {
		return fmt.Errorf("%q is relative: write an absolute path", v)
	}
	return nil
}

// checkRunDir sees to it that the names of sockets fit into what the kernel
// allows (108 bytes with the end mark).
func checkRunDir(v string) error {
	if err := checkPath(v); err != nil {
		return err
	}
	// The API's socket is made under this name and then moved.
	if longest := len(filepath.Join(v, "api.sock.new")); longest > 107 {
		return fmt.Errorf("%q is too long for the name of a socket by %d bytes: use a shorter path", v, longest-107)
	}
	return nil
}

func checkNode(v string) error {
	if strings.ContainsAny(v, "/ \t\n") || len(v) > 253 {
		return fmt.Errorf("%q is no host name: it has a slash or blank, or is longer than 253 bytes", v)
	}
	return nil
}

func checkDuration(v string) error {
	d, err := time.ParseDuration(v)
	if err != nil {
		return fmt.Errorf("%q is no duration: write a number with a unit, such as 90s or 5m", v)
	}
	if d < 0 {
		return fmt.Errorf("%q is negative: write 0s or more", v)
	}
	if d > 0 && d < time.Second {
		return fmt.Errorf("%q is too short: write 1s or more, or 0s", v)
	}
	return nil
}

func checkLoopback(v string) error {
	if v == "" {
		return nil
	}
	a, err := netip.ParseAddrPort(v)
	if err != nil {
		return fmt.Errorf("%q is no address with a port: write it like 127.0.0.1:9091 or [::1]:9091", v)
	}
	if !a.Addr().IsLoopback() {
		return fmt.Errorf("%q is not on loopback, and whoever can reach it could read it: use 127.0.0.1 or [::1]", v)
	}
	return nil
}

func checkAddress(v string) error {
	if a, err := netip.ParseAddrPort(v); v != "" && (err != nil || a.Port() == 0) {
		return fmt.Errorf("%q is no address with a port: write it like 10.0.0.1:8443 or [::]:8443", v)
	}
	return nil
}

// checkNames checks what is to be in a certificate.
func checkNames(v string) error {
	for _, n := range splitList(v) {
		if _, err := netip.ParseAddr(n); err == nil {
			continue
		}
		if len(n) > 253 || n != strings.ToLower(n) || strings.Trim(n, "abcdefghijklmnopqrstuvwxyz0123456789-.") != "" || strings.Trim(n, "-.") != n {
			return fmt.Errorf("%q is neither a DNS name in lower case nor an address", n)
		}
	}
	return nil
}

func checkEndpoints(v string) error {
	var faults []error
	for _, e := range splitList(v) {
		if _, _, err := endpointHostPort(e); err != nil {
			faults = append(faults, err)
		}
	}
	return errors.Join(faults...)
}

// endpointHostPort gives host and port of an endpoint's URL. The host of a
// unix socket is empty.
func endpointHostPort(e string) (string, uint16, error) {
	u, err := url.Parse(e)
	if err == nil && (u.Scheme == "unix" || u.Scheme == "unixs") && (u.Path != "" || u.Host != "") {
		return "", 0, nil
	}
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" || strings.Trim(u.Path, "/") != "" {
		return "", 0, fmt.Errorf("%q is no endpoint: write it like https://10.0.0.1:2379", e)
	}
	if u.User != nil {
		return "", 0, fmt.Errorf("an endpoint has a user or password in it: use etcd-username and etcd-password-file")
	}
	port := u.Port()
	if port == "" {
		return "", 0, fmt.Errorf("%q has no port: write it like %s", e, u.Scheme+"://"+net.JoinHostPort(u.Hostname(), "2379"))
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || n == 0 {
		return "", 0, fmt.Errorf("%q: %s is no port", e, port)
	}
	return u.Hostname(), uint16(n), nil
}

func checkBytes(v string) error {
	_, err := parseBytes(v)
	return err
}

func checkCount(v string) error {
	if n, err := strconv.ParseUint(v, 10, 16); err != nil || n == 0 {
		return fmt.Errorf("%q is no count: write a whole number from 1 to 65535", v)
	}
	return nil
}

// parseBytes reads "2GiB".
func parseBytes(v string) (int64, error) {
	for _, u := range []struct {
		name  string
		shift uint
	}{{"KiB", 10}, {"MiB", 20}, {"GiB", 30}} {
		if digits, ok := strings.CutSuffix(v, u.name); ok {
			n, err := strconv.ParseInt(strings.TrimSpace(digits), 10, 32)
			if err == nil && n > 0 {
				return n << u.shift, nil
			}
		}
	}
	return 0, fmt.Errorf("%q is no size: write a number above 0 with KiB, MiB or GiB, such as 2GiB", v)
}

func splitList(v string) []string {
	var out []string
	for _, s := range strings.Split(v, ",") {
		if s = strings.TrimSpace(s); s != "" {
			out = append(out, s)
		}
	}
	return out
}

func parseLevel(v string) slog.Level {
	var l slog.Level
	_ = l.UnmarshalText([]byte(v)) // checked before: one of four words
	return l
}
