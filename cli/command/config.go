// SPDX-License-Identifier: Apache-2.0

package command

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"github.com/spf13/viper"

	"github.com/ripstop/ripstop/daemon/client"
)

// config is what holds for all commands. A flag goes before its environment
// variable (RIPSTOP_SERVER, RIPSTOP_AGENT, RIPSTOP_NAMESPACE ...), that before
// the context, and that before the default.
type config struct {
	// Server is where ripstop-server listens.
	Server string
	// Agent is where the agent on this machine listens.
	Agent string
	// Namespace is where namespaced resources are looked for; empty: not said.
	Namespace string
	// Context is the name of the context in use; empty: none.
	Context string
	// Credentials are files (PEM, and one with a token); empty: none.
	CAFile, CertFile, KeyFile, TokenFile string
	// ServerName is the name in the server's certificate; empty: its host.
	ServerName string
	// Etcd is a datastore to be used without a server of its own.
	Etcd etcdConfig
}

// defaultAgent is where ripstopd listens unless told otherwise.
const defaultAgent = "unix:///run/ripstop/agent.sock"

// configFlags adds the flags of config.
func configFlags(f *pflag.FlagSet) {
	f.String("server", client.DefaultServer, "address of ripstop-server: unix:///SOCKET, https://HOST:PORT or http://HOST:PORT (env RIPSTOP_SERVER)")
	f.String("agent", defaultAgent, "address of the agent on this machine: unix:///SOCKET (env RIPSTOP_AGENT)")
	f.StringP("namespace", "n", "", `namespace of namespaced resources (env RIPSTOP_NAMESPACE; default "default")`)
	f.String("context", "", "context to use, of those that ripstop config has (env RIPSTOP_CONTEXT)")
	f.StringP("config", "c", "", "file of contexts, or of calicoctl's settings (env RIPSTOP_CONFIG; default "+shortContextFile+")")
	f.Bool("allow-version-mismatch", false, "nothing: of calicoctl, whose versions must match")
	_ = f.MarkHidden("allow-version-mismatch")
	f.String("certificate-authority", "", "file with the certificates that the server's own must be signed by (env RIPSTOP_CERTIFICATE_AUTHORITY)")
	f.String("tls-server-name", "", "name that the server's certificate must have (env RIPSTOP_TLS_SERVER_NAME)")
	f.String("client-certificate", "", "file with the certificate to be known by (env RIPSTOP_CLIENT_CERTIFICATE)")
	f.String("client-key", "", "file with the key of the certificate (env RIPSTOP_CLIENT_KEY)")
	f.String("token-file", "", "file with the bearer token to be known by (env RIPSTOP_TOKEN_FILE)")
}

// loadConfig reads flags, environment and the file of contexts.
func (a *app) loadConfig(cmd *cobra.Command) error {
	flags := cmd.Root().PersistentFlags()
	v := viper.New()
	v.SetEnvPrefix("RIPSTOP")
	v.SetEnvKeyReplacer(strings.NewReplacer("-", "_"))
	v.AutomaticEnv()
	if err := v.BindPFlags(flags); err != nil {
		return err
	}
	explicit := flags.Changed("server") || os.Getenv("RIPSTOP_SERVER") != ""
	etcd, err := etcdFromEnvironment()
	if err != nil {
		return usage(cmd, "%w", err)
	}
	if file, is, err := calicoSettings(v.GetString("config")); err != nil {
		return fmt.Errorf("config: %w", err)
	} else if is {
		etcd = file
		v.Set("config", "")
	}
	useEtcd := etcd.used() && !explicit && !flags.Changed("context")
	c, err := a.chosenContext(v.GetString("config"), v.GetString("context"))
	if err != nil {
		return err
	}
	if err := v.MergeConfigMap(c.settings(explicit || useEtcd)); err != nil {
		return err
	}
	a.cfg = config{
		Server: v.GetString("server"), Agent: v.GetString("agent"), Namespace: v.GetString("namespace"), Context: c.Name,
		CAFile: v.GetString("certificate-authority"), ServerName: v.GetString("tls-server-name"),
		CertFile: v.GetString("client-certificate"), KeyFile: v.GetString("client-key"), TokenFile: v.GetString("token-file"),
	}
	if useEtcd {
		a.cfg.Etcd = etcd
	}
	return nil
}

// calicoSettings reads the file of --config if it is one of calicoctl's.
func calicoSettings(path string) (e etcdConfig, is bool, err error) {
	if path == "" {
		return e, false, nil
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return e, false, nil // chosenContext says so, where it matters
	}
	return etcdFromFile(path, data)
}

// credentials reads the files that the server knows the user by.
func (c config) credentials() (client.Credentials, error) {
	creds := client.Credentials{ServerName: c.ServerName}
	for _, f := range []struct {
		flag, path string
		into       *[]byte
	}{{"certificate-authority", c.CAFile, &creds.CA}, {"client-certificate", c.CertFile, &creds.Certificate}, {"client-key", c.KeyFile, &creds.Key}} {
		if f.path == "" {
			continue
		}
		data, err := os.ReadFile(f.path)
		if err != nil {
			return creds, fmt.Errorf("%s: %w", f.flag, ofFile(f.path, err))
		}
		*f.into = data
	}
	if c.TokenFile != "" {
		data, err := os.ReadFile(c.TokenFile)
		if err != nil {
			return creds, fmt.Errorf("token-file: %w", ofFile(c.TokenFile, err))
		}
		if creds.Token = strings.TrimSpace(string(data)); creds.Token == "" {
			return creds, fmt.Errorf("token-file: %s is empty", c.TokenFile)
		}
	}
	return creds, nil
}

// namespace is the namespace to use for a namespaced resource.
func (c config) namespace() string {
	if c.Namespace == "" {
		return "default"
	}
	return c.Namespace
}

// shortContextFile is contextFile as help names it.
const shortContextFile = "~/.config/ripstop/config.yaml"

// contextFile is where contexts are kept unless told otherwise; empty if the
// user has no directory for it.
func contextFile() string {
	dir, err := os.UserConfigDir()
	if err != nil {
		return ""
	}
	return filepath.Join(dir, "ripstop", "config.yaml")
}
