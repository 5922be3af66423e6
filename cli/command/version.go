// SPDX-License-Identifier: Apache-2.0

package command

import (
	"errors"
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"

	"github.com/ripstop/ripstop/daemon/api"
)

// revision is the commit that the program was built from. The linker may set
// it; else it is what the Go tool has noted, if anything.
var revision string

// commit is the revision that the program was built from, or "".
func commit() string {
	if revision != "" {
		return revision
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return ""
	}
	c, dirty := "", ""
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			c = s.Value
		case "vcs.modified":
			if s.Value == "true" {
				dirty = "-modified"
			}
		}
	}
	if c == "" {
		return ""
	}
	return c[:min(len(c), 12)] + dirty
}

// versions is the output of version.
type versions struct {
	Client    string `json:"client"`
	Commit    string `json:"commit,omitempty"`
	GoVersion string `json:"goVersion"`
	Platform  string `json:"platform"`
	Server    string `json:"server,omitempty"`
	Error     string `json:"error,omitempty"`
}

func (a *app) versionCommand() *cobra.Command {
	var clientOnly bool
	var output string
	cmd := &cobra.Command{
		Use:   "version",
		Short: "Show the version of this program and of the server",
		Long: `version shows the version of this program and, unless --client is given, that of
the server. A server that does not answer is reported on standard error, and
the exit code is then 1.`,
		Example: `  ripstop version
  ripstop version --client -o json`,
		Args: func(cmd *cobra.Command, args []string) error {
			return errors.Join(noArgs(cmd, args), checkOutput(cmd, output, "", "json", "yaml"))
		},
		RunE: func(cmd *cobra.Command, _ []string) error {
			v := versions{Client: api.Version, Commit: commit(), GoVersion: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH}
			var err error
			if !clientOnly {
				v.Server, err = a.serverVersion(cmd)
			}
			if err != nil {
				v.Error = err.Error()
			}
			return errors.Join(a.showVersions(v, output), err)
		},
	}
	cmd.Flags().BoolVar(&clientOnly, "client", false, "only this program, without asking the server")
	addOutput(cmd, &output, "json", "yaml")
	return cmd
}

func (a *app) serverVersion(cmd *cobra.Command) (string, error) {
	c, err := a.connect(cmd, false)
	if err != nil {
		return "", err
	}
	defer c.Close()
	return c.ServerVersion(cmd.Context())
}

func (a *app) showVersions(v versions, output string) error {
	if output != "" {
		return writeDocument(a.Out, output, v)
	}
	built := v.GoVersion + ", " + v.Platform
	if v.Commit != "" {
		built = "commit " + v.Commit + ", " + built
	}
	fmt.Fprintf(a.Out, "ripstop %s (%s)\n", v.Client, built)
	if v.Server != "" {
		fmt.Fprintf(a.Out, "server  %s at %s\n", v.Server, a.cfg.Server)
	}
	return nil
}
