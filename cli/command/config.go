// SPDX-License-Identifier: Apache-2.0

package command

import (
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"github.com/spf13/viper"

	"github.com/ripstop/ripstop/daemon/client"
)

// config is what holds for all commands. A flag goes before its environment
// variable (RIPSTOP_SERVER, RIPSTOP_AGENT, RIPSTOP_NAMESPACE), that before the
// default.
type config struct {
	// Server is where ripstop-server listens.
	Server string
	// Agent is where the agent on this machine listens.
	Agent string
	// Namespace is where namespaced resources are looked for; empty: not said.
	Namespace string
}

// defaultAgent is where ripstopd listens unless told otherwise.
const defaultAgent = "unix:///run/ripstop/agent.sock"

// configFlags adds the flags of config.
func configFlags(f *pflag.FlagSet) {
	f.String("server", client.DefaultServer, "address of ripstop-server: unix:///SOCKET or http://HOST:PORT (env RIPSTOP_SERVER)")
	f.String("agent", defaultAgent, "address of the agent on this machine: unix:///SOCKET (env RIPSTOP_AGENT)")
	f.StringP("namespace", "n", "", `namespace of namespaced resources (env RIPSTOP_NAMESPACE; default "default")`)
}

// loadConfig reads flags and environment.
func (a *app) loadConfig(cmd *cobra.Command) error {
	v := viper.New()
	v.SetEnvPrefix("RIPSTOP")
	v.SetEnvKeyReplacer(strings.NewReplacer("-", "_"))
	v.AutomaticEnv()
	if err := v.BindPFlags(cmd.Root().PersistentFlags()); err != nil {
		return err
	}
	a.cfg = config{Server: v.GetString("server"), Agent: v.GetString("agent"), Namespace: v.GetString("namespace")}
	return nil
}

// namespace is the namespace to use for a namespaced resource.
func (c config) namespace() string {
	if c.Namespace == "" {
		return "default"
	}
	return c.Namespace
}
