// SPDX-License-Identifier: Apache-2.0

// Package config makes one typed, immutable Config out of flags, environment,
// file and defaults, in this order of strength, and remembers where each
// value is from. LoadAgent is for ripstopd, LoadServer for ripstop-server;
// their files are etc/ripstop/ripstopd.yaml and etc/ripstop/ripstop-server.yaml.
//
// A setting has one name: etcd-endpoints in the file, --etcd-endpoints as a
// flag, RIPSTOP_ETCD_ENDPOINTS in the environment (where empty means not
// set). Unknown keys, misspelt variables and bad values are errors that say
// what, where, why, and what to write instead; all are reported at once.
//
// What holds for the whole fleet is not here: it is FelixConfiguration in the
// datastore. Secrets are not here either, only the names of files that hold
// them. No other package of the daemon imports viper.
package config

import (
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"time"

	"github.com/spf13/pflag"

	"github.com/ripstop/ripstop/daemon/internal/host"
)

// Role is what a ripstopd does beside enforcing.
type Role string

// Roles. Standalone runs ripstop-server beside the agent.
const (
	Standalone Role = "standalone"
	Agent      Role = "agent"
)

// FailsafeDefaults chooses the failsafe ports that hold where
// FelixConfiguration names none.
type FailsafeDefaults string

// Sets of failsafe ports; see Config.Failsafes.
const (
	FailsafeRipstop FailsafeDefaults = "Ripstop"
	FailsafeCalico  FailsafeDefaults = "Calico"
)

// Etcd says how to reach an external etcd.
type Etcd struct {
	// Endpoints are URLs; empty: there is no external etcd.
	Endpoints []string
	// CAFile, CertFile and KeyFile are paths of PEM files, or empty.
	CAFile, CertFile, KeyFile string
	// Username and PasswordFile are set together or not at all. The password
	// is the file's first line.
	Username, PasswordFile string
}

// OIDC says which tokens of an OpenID Connect issuer the API accepts.
type OIDC struct {
	// Issuer is empty if none are.
	Issuer, Audience string
	// JWKSFile, or JWKSURL and CAFile, say where the issuer's keys are; all
	// empty: where the issuer says.
	JWKSFile, JWKSURL, CAFile  string
	UsernameClaim, GroupsClaim string
}

// Log says what is logged and how.
type Log struct {
	Level slog.Level
	// JSON: lines are JSON objects instead of text.
	JSON bool
}

// Config is the configuration of ripstopd. It is not changed after LoadAgent.
type Config struct {
	Role             Role
	Node             string
	Etcd             Etcd
	StateDir         string
	RunDir           string
	Dataplane        string // auto, nftables or iptables
	FailsafeDefaults FailsafeDefaults
	// ResyncInterval is zero if only changes are to be looked at.
	ResyncInterval time.Duration
	// MetricsAddress is empty if metrics are not to be served.
	MetricsAddress string
	Log            Log
	// Check, Boot, Cleanup, Doctor and Exposure are the flags of these names.
	Check, Boot, Cleanup, Doctor, Exposure bool
	// File is the file that was read; empty: none.
	File string

	settings []Setting
}

// ServerConfig is the configuration of ripstop-server. It is not changed after
// LoadServer.
type ServerConfig struct {
	Etcd     Etcd
	StateDir string
	RunDir   string
	// Listen is empty if the API is to be served at its socket alone.
	Listen string
	// TLSNames are more names and addresses by which clients call the server.
	TLSNames []string
	OIDC     OIDC
	// QuotaBytes bounds the built-in datastore.
	QuotaBytes int64
	// AuditFileBytes is the size from which on a file of the audit log is
	// rotated, AuditFiles how many rotated ones are kept.
	AuditFileBytes int64
	AuditFiles     int
	Log            Log
	// File is the file that was read; empty: none.
	File string

	settings []Setting
}

// LoadAgent makes the Config of ripstopd. flags were made by AddFlags with
// AgentKeys and have been parsed; environ is os.Environ() or a test's. The
// error joins all faults.
func LoadAgent(flags *pflag.FlagSet, environ []string) (Config, error) {
	v, err := load(AgentKeys(), flags, environ)
	c := Config{
		Role:             Role(v.text("role")),
		Node:             v.text("node"),
		Etcd:             v.etcd(),
		StateDir:         v.text("state-dir"),
		RunDir:           v.text("run-dir"),
		Dataplane:        v.text("dataplane"),
		FailsafeDefaults: FailsafeDefaults(v.text("failsafe-defaults")),
		MetricsAddress:   v.text("metrics-address"),
		Log:              v.log(),
		Check:            v.viper.GetBool("check"),
		Boot:             v.viper.GetBool("boot"),
		Cleanup:          v.viper.GetBool("cleanup"),
		Doctor:           v.viper.GetBool("doctor"),
		Exposure:         v.viper.GetBool("exposure"),
		File:             v.file,
		settings:         v.settings,
	}
	c.ResyncInterval, _ = time.ParseDuration(v.text("resync-interval")) // checked by load
	faults := []error{err, c.Etcd.check()}
	if c.Node == "" {
		name, err := host.Name()
		c.Node = name
		faults = append(faults, err)
		for i := range c.settings {
			if c.settings[i].Key == "node" {
				c.settings[i].Value = name
			}
		}
	}
	if excluding(c.Check, c.Boot, c.Cleanup, c.Doctor, c.Exposure) {
		faults = append(faults, errors.New("flags --check, --boot, --cleanup, --doctor and --exposure exclude each other: use one"))
	}
	return c, errors.Join(faults...)
}

// excluding tells whether more than one is set.
func excluding(flags ...bool) bool {
	n := 0
	for _, f := range flags {
		if f {
			n++
		}
	}
	return n > 1
}

// LoadServer makes the configuration of ripstop-server, as LoadAgent does with
// ServerKeys.
func LoadServer(flags *pflag.FlagSet, environ []string) (ServerConfig, error) {
	v, err := load(ServerKeys(), flags, environ)
	c := ServerConfig{
		Etcd:     v.etcd(),
		StateDir: v.text("state-dir"),
		RunDir:   v.text("run-dir"),
		Listen:   v.text("listen"),
		TLSNames: splitList(v.text("tls-names")),
		OIDC: OIDC{
			Issuer: v.text("oidc-issuer"), Audience: v.text("oidc-audience"),
			JWKSFile: v.text("oidc-jwks-file"), JWKSURL: v.text("oidc-jwks-url"), CAFile: v.text("oidc-ca-file"),
			UsernameClaim: v.text("oidc-username-claim"), GroupsClaim: v.text("oidc-groups-claim"),
		},
		Log:      v.log(),
		File:     v.file,
		settings: v.settings,
	}
	c.QuotaBytes, _ = parseBytes(v.text("quota")) // checked by load
	c.AuditFileBytes, _ = parseBytes(v.text("audit-file-size"))
	c.AuditFiles, _ = strconv.Atoi(v.text("audit-files"))
	return c, errors.Join(err, c.Etcd.check(), c.OIDC.check())
}

// check reports settings that do not go together.
func (o OIDC) check() error {
	var faults []error
	if (o.Issuer == "") != (o.Audience == "") {
		faults = append(faults, errors.New("oidc-issuer and oidc-audience go together: set both or none"))
	}
	if o.Issuer == "" && (o.JWKSFile != "" || o.JWKSURL != "" || o.CAFile != "") {
		faults = append(faults, errors.New("oidc-jwks-file, oidc-jwks-url or oidc-ca-file is set, but oidc-issuer is empty: set oidc-issuer too"))
	}
	if o.JWKSFile != "" && (o.JWKSURL != "" || o.CAFile != "") {
		faults = append(faults, errors.New("oidc-jwks-file: the keys come from a file, so oidc-jwks-url and oidc-ca-file have no effect: remove them"))
	}
	return errors.Join(faults...)
}

// Effective lists the settings in force with where each is from.
func (c Config) Effective() []Setting { return slices.Clone(c.settings) }

// Effective lists the settings in force with where each is from.
func (c ServerConfig) Effective() []Setting { return slices.Clone(c.settings) }

func (v *values) etcd() Etcd {
	return Etcd{
		Endpoints:    splitList(v.text("etcd-endpoints")),
		CAFile:       v.text("etcd-ca-file"),
		CertFile:     v.text("etcd-cert-file"),
		KeyFile:      v.text("etcd-key-file"),
		Username:     v.text("etcd-username"),
		PasswordFile: v.text("etcd-password-file"),
	}
}

func (v *values) log() Log {
	return Log{Level: parseLevel(v.text("log-level")), JSON: v.text("log-format") == "json"}
}

// check reports settings that do not go together.
func (e Etcd) check() error {
	var faults []error
	if (e.CertFile == "") != (e.KeyFile == "") {
		faults = append(faults, errors.New("etcd-cert-file and etcd-key-file go together: set both or none"))
	}
	if (e.Username == "") != (e.PasswordFile == "") {
		faults = append(faults, errors.New("etcd-username and etcd-password-file go together: set both or none"))
	}
	if len(e.Endpoints) == 0 && (e.CAFile != "" || e.CertFile != "" || e.Username != "") {
		faults = append(faults, errors.New("etcd-ca-file, etcd-cert-file or etcd-username is set, but etcd-endpoints is empty: set etcd-endpoints too"))
	}
	if e.Username != "" && e.CAFile == "" {
		for _, ep := range e.Endpoints {
			if len(ep) > 7 && ep[:7] == "http://" && !loopbackEndpoint(ep) {
				faults = append(faults, fmt.Errorf("etcd-username: the password would go over the network in the clear to %s: use https", ep))
			}
		}
	}
	return errors.Join(append(faults, checkSecretFile("etcd-key-file", e.KeyFile), checkSecretFile("etcd-password-file", e.PasswordFile))...)
}
