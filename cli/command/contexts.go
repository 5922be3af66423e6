// SPDX-License-Identifier: Apache-2.0

package command

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"syscall"

	"github.com/spf13/cobra"
	"sigs.k8s.io/yaml"
)

// contextConfig is the file of contexts. It holds names of files with secrets,
// never the secrets.
type contextConfig struct {
	CurrentContext string          `json:"current-context,omitempty"`
	Contexts       []serverContext `json:"contexts"`
}

// serverContext is a server with how the user is known there.
type serverContext struct {
	Name                 string `json:"name"`
	Server               string `json:"server,omitempty"`
	CertificateAuthority string `json:"certificate-authority,omitempty"`
	TLSServerName        string `json:"tls-server-name,omitempty"`
	ClientCertificate    string `json:"client-certificate,omitempty"`
	ClientKey            string `json:"client-key,omitempty"`
	TokenFile            string `json:"token-file,omitempty"`
	Namespace            string `json:"namespace,omitempty"`
	Agent                string `json:"agent,omitempty"`

	dir string // of the file: names of files in it are relative to that
}

// contextFields are the settings of a context, by the flags that set them.
func (c *serverContext) contextFields() map[string]*string {
	return map[string]*string{
		"server": &c.Server, "certificate-authority": &c.CertificateAuthority, "tls-server-name": &c.TLSServerName,
		"client-certificate": &c.ClientCertificate, "client-key": &c.ClientKey, "token-file": &c.TokenFile,
		"namespace": &c.Namespace, "agent": &c.Agent,
	}
}

// settings are what a context sets. Of another server, its credentials are
// never shown: they are for the server that the context names.
func (c serverContext) settings(otherServer bool) map[string]any {
	out := map[string]any{}
	for name, value := range c.contextFields() {
		switch name {
		case "namespace", "agent":
		case "server", "tls-server-name":
			if otherServer {
				continue
			}
		default:
			if otherServer {
				continue
			}
			if *value != "" && !filepath.IsAbs(*value) {
				*value = filepath.Join(c.dir, *value)
			}
		}
		if *value != "" {
			out[name] = *value
		}
	}
	return out
}

// readContexts reads a file of contexts; one that is not there has none.
func readContexts(path string) (contextConfig, error) {
	var f contextConfig
	if path == "" {
		return f, nil
	}
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) { // the home of many a service is /dev/null
		return f, nil
	}
	if err != nil {
		return f, ofFile(path, err)
	}
	if err := yaml.UnmarshalStrict(data, &f); err != nil {
		return f, fmt.Errorf("%s: %w", path, err)
	}
	seen := map[string]bool{}
	for i, c := range f.Contexts {
		if c.Name == "" || seen[c.Name] {
			return f, fmt.Errorf("%s: contexts[%d].name: %q is missing or there twice", path, i, c.Name)
		}
		seen[c.Name] = true
		f.Contexts[i].dir = filepath.Dir(path)
	}
	return f, nil
}

// find is the context of a name, or nil.
func (f *contextConfig) find(name string) *serverContext {
	i := slices.IndexFunc(f.Contexts, func(c serverContext) bool { return c.Name == name })
	if i < 0 {
		return nil
	}
	return &f.Contexts[i]
}

// chosenContext is the context to use: of that name, or the current one. An
// empty one sets nothing.
func (a *app) chosenContext(path, name string) (serverContext, error) {
	if path == "" {
		path = contextFile()
	} else if _, err := os.Stat(path); err != nil && !a.writesContexts {
		return serverContext{}, fmt.Errorf("config: %w", ofFile(path, err))
	}
	a.contextPath = path
	f, err := readContexts(path)
	if err != nil {
		return serverContext{}, fmt.Errorf("config: %w", err)
	}
	if name == "" {
		name = f.CurrentContext
	}
	if name == "" || a.writesContexts {
		return serverContext{}, nil
	}
	c := f.find(name)
	if c == nil {
		return serverContext{}, fmt.Errorf("config: %s: there is no context %q; ripstop config get-contexts shows them", path, name)
	}
	return *c, nil
}

// write puts the file in its place as a whole, for its owner alone.
func (f *contextConfig) write(path string) error {
	if path == "" {
		return errors.New("config: there is no home directory to keep contexts in; name a file with --config")
	}
	var b bytes.Buffer
	if err := writeDocument(&b, "yaml", f); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return ofFile(path, err)
	}
	tmp, err := os.CreateTemp(filepath.Dir(path), ".config-*") // mode 0600
	if err != nil {
		return ofFile(path, err)
	}
	_, err = tmp.Write(b.Bytes())
	err = errors.Join(err, tmp.Sync(), tmp.Close())
	if err == nil {
		err = os.Rename(tmp.Name(), path)
	}
	if err != nil {
		_ = os.Remove(tmp.Name())
		return ofFile(path, err)
	}
	return nil
}

func (a *app) configCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "config COMMAND",
		Short: "Keep servers under names (contexts)",
		Long: `config keeps servers under names, with how the user is known there: contexts.
One of them is the current one, which commands use unless told otherwise by
--server or --context.

They are in ` + shortContextFile + ` (--config or RIPSTOP_CONFIG names
another file), which holds the names of files with keys and tokens, not these
themselves. Where files are named relatively, it is from that directory.`,
		Example: `  ripstop config set-context office --server=https://10.0.0.1:8443 \
      --certificate-authority=ca.crt --token-file=token
  ripstop config use-context office
  ripstop get tiers --context=office`,
		Args: noSuchCommand,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(a.getContextsCommand(), a.useContextCommand(), a.setContextCommand(), a.deleteContextCommand())
	return cmd
}

// contextCommand completes a command of config: it works on the file itself,
// whatever context is chosen, and takes the name of a context.
func (a *app) contextCommand(cmd *cobra.Command, do func(*cobra.Command, *contextConfig, string) error) *cobra.Command {
	cmd.Args = func(cmd *cobra.Command, args []string) error {
		if len(args) != 1 || args[0] == "" {
			return usage(cmd, "%s: want the name of one context", cmd.Name())
		}
		return nil
	}
	cmd.PersistentPreRunE = func(cmd *cobra.Command, _ []string) error {
		a.writesContexts = true
		return a.loadConfig(cmd)
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		f, err := readContexts(a.contextPath)
		if err != nil {
			return fmt.Errorf("config: %w", err)
		}
		if err := do(cmd, &f, args[0]); err != nil {
			return err
		}
		return f.write(a.contextPath)
	}
	cmd.ValidArgsFunction = func(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		if len(args) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return a.contextNames(cmd), cobra.ShellCompDirectiveNoFileComp
	}
	return cmd
}

// contextNames are the names of the contexts, for completion.
func (a *app) contextNames(cmd *cobra.Command) []string {
	a.writesContexts = true
	if a.loadConfig(cmd) != nil {
		return nil
	}
	f, err := readContexts(a.contextPath)
	if err != nil {
		return nil
	}
	var names []string
	for _, c := range f.Contexts {
		names = append(names, c.Name)
	}
	return names
}

func (a *app) getContextsCommand() *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use:   "get-contexts",
		Short: "Show the contexts",
		Long: `get-contexts shows the contexts; the current one has a star. With -o yaml or
json the file is shown as it is.`,
		Example: `  ripstop config get-contexts
  ripstop config get-contexts -o name`,
		Args: func(cmd *cobra.Command, args []string) error {
			return errors.Join(noArgs(cmd, args), checkOutput(cmd, output, "", "name", "yaml", "json"))
		},
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error {
			a.writesContexts = true
			return a.loadConfig(cmd)
		},
		RunE: func(*cobra.Command, []string) error {
			f, err := readContexts(a.contextPath)
			if err != nil {
				return fmt.Errorf("config: %w", err)
			}
			return a.showContexts(f, output)
		},
	}
	addOutput(cmd, &output, "name", "yaml", "json")
	return cmd
}

func (a *app) showContexts(f contextConfig, output string) error {
	switch output {
	case "yaml", "json":
		return writeDocument(a.Out, output, f)
	case "name":
		for _, c := range f.Contexts {
			fmt.Fprintln(a.Out, c.Name)
		}
		return nil
	}
	if len(f.Contexts) == 0 {
		fmt.Fprintf(a.Err, "no contexts in %s\n", a.contextPath)
		return nil
	}
	t := newTable(a.Out)
	t.row("CURRENT", "NAME", "SERVER", "USER", "NAMESPACE")
	for _, c := range f.Contexts {
		current, user := "", "-"
		if c.Name == f.CurrentContext {
			current = "*"
		}
		switch {
		case c.TokenFile != "":
			user = "token " + c.TokenFile
		case c.ClientCertificate != "":
			user = "certificate " + c.ClientCertificate
		}
		t.row(current, c.Name, orNone(c.Server, "-"), user, orNone(c.Namespace, "-"))
	}
	return t.flush()
}

func (a *app) useContextCommand() *cobra.Command {
	return a.contextCommand(&cobra.Command{
		Use:   "use-context NAME",
		Short: "Choose the context that commands use",
		Long: `use-context makes a context the current one, which commands use unless told
otherwise by --server or --context.`,
		Example: `  ripstop config use-context office`,
	}, func(cmd *cobra.Command, f *contextConfig, name string) error {
		if f.find(name) == nil {
			return fmt.Errorf("config: %s: there is no context %q; ripstop config get-contexts shows them", a.contextPath, name)
		}
		f.CurrentContext = name
		fmt.Fprintf(a.Out, "context %s is the current one\n", name)
		return nil
	})
}

func (a *app) setContextCommand() *cobra.Command {
	return a.contextCommand(&cobra.Command{
		Use:   "set-context NAME",
		Short: "Make a context, or change one",
		Long: `set-context keeps what the flags --server, --certificate-authority,
--tls-server-name, --client-certificate, --client-key, --token-file, --namespace
and --agent say under a name. Of a context that is there, what no flag says
stays; an empty value takes it out.`,
		Example: `  ripstop config set-context office --server=https://10.0.0.1:8443 --token-file=token
  ripstop config set-context office --namespace=prod`,
	}, func(cmd *cobra.Command, f *contextConfig, name string) error {
		done := "changed"
		c := f.find(name)
		if c == nil {
			done = "created"
			f.Contexts = append(f.Contexts, serverContext{Name: name})
			c = &f.Contexts[len(f.Contexts)-1]
		}
		said := false
		for flag, value := range c.contextFields() {
			if fl := cmd.Root().PersistentFlags().Lookup(flag); fl.Changed {
				*value, said = fl.Value.String(), true
			}
		}
		if !said && done == "created" {
			return usage(cmd, "set-context: what is to be kept is not said: --server and others")
		}
		fmt.Fprintf(a.Out, "context %s %s\n", name, done)
		return nil
	})
}

func (a *app) deleteContextCommand() *cobra.Command {
	return a.contextCommand(&cobra.Command{
		Use:   "delete-context NAME",
		Short: "Forget a context",
		Long: `delete-context takes a context out of the file. Files with keys and tokens stay.
If it was the current one, there is no current one.`,
		Example: `  ripstop config delete-context office`,
	}, func(cmd *cobra.Command, f *contextConfig, name string) error {
		if f.find(name) == nil {
			return fmt.Errorf("config: %s: there is no context %q", a.contextPath, name)
		}
		f.Contexts = slices.DeleteFunc(f.Contexts, func(c serverContext) bool { return c.Name == name })
		if f.CurrentContext == name {
			f.CurrentContext = ""
		}
		fmt.Fprintf(a.Out, "context %s deleted\n", name)
		return nil
	})
}
