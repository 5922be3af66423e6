// SPDX-License-Identifier: Apache-2.0

package command

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/ripstop/ripstop/daemon/api"
	"github.com/ripstop/ripstop/daemon/store"
)

// diagsFlags are the flags of diags.
type diagsFlags struct {
	output, logDir, configDir string
}

func (a *app) diagsCommand() *cobra.Command {
	var f diagsFlags
	cmd := &cobra.Command{
		Use:   "diags",
		Short: "Collect what helps to find a fault",
		Long: `diags writes a file (tar, gzip) with what helps to find a fault: what the agent
reports (status, settings, doctor, exposure), the packet filters as the kernel
has them, addresses, routes and neighbours, sockets, the resources on the
server, the files in /etc/ripstop, and the journal of Ripstop's units.

Private keys, passwords and tokens are taken out, and resources of kind
Credential are not read. Names, addresses and policies stay: look at the file
before you give it away. What could not be collected is listed in errors.txt.`,
		Example: `  ripstop node diags
  ripstop node diags --output=/tmp/web-3.tar.gz --log-dir=/var/log/ripstop`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.diags(cmd, f) },
	}
	cmd.Flags().StringVar(&f.output, "output", "", "file to write (default diags-DATE.tar.gz in the directory for temporary files)")
	cmd.Flags().StringVar(&f.logDir, "log-dir", "", "directory with more logs to collect")
	cmd.Flags().StringVar(&f.configDir, "config-dir", "/etc/ripstop", "directory with the configuration")
	return cmd
}

// What is kept of one program or file, and how long a program may take.
const (
	diagsBytes = 32 << 20
	diagsTime  = 20 * time.Second
)

// diagsPrograms are programs whose output is kept, by the name of the file.
var diagsPrograms = []struct{ file, command string }{
	{"system/uname", "uname -a"},
	{"system/sockets", "ss -tulpn"},
	{"system/journal", "journalctl --no-pager --lines=20000 --unit=ripstopd --unit=ripstop-server --unit=ripstop-boot"},
	{"filters/nft", "nft -a list ruleset"},
	{"filters/iptables", "iptables-save -c"},
	{"filters/ip6tables", "ip6tables-save -c"},
	{"filters/iptables-legacy", "iptables-legacy-save -c"},
	{"filters/ip6tables-legacy", "ip6tables-legacy-save -c"},
	{"filters/ipset", "ipset list"},
	{"network/addresses", "ip -s -d address show"},
	{"network/rules4", "ip -4 rule show"},
	{"network/rules6", "ip -6 rule show"},
	{"network/routes4", "ip -4 route show table all"},
	{"network/routes6", "ip -6 route show table all"},
	{"network/neighbours", "ip neighbour show"},
}

// collection is the file that is being written.
type collection struct {
	tar    *tar.Writer
	now    time.Time
	errors []string
}

// add keeps a text, without secrets.
func (c *collection) add(name string, data []byte) error {
	if len(data) > diagsBytes {
		data = data[len(data)-diagsBytes:] // of logs, the end
	}
	data = redact(data)
	h := &tar.Header{Name: "diags/" + name, Mode: 0o600, Size: int64(len(data)), ModTime: c.now, Typeflag: tar.TypeReg}
	if err := c.tar.WriteHeader(h); err != nil {
		return err
	}
	_, err := c.tar.Write(data)
	return err
}

// missed notes what could not be collected.
func (c *collection) missed(what string, err error) {
	c.errors = append(c.errors, fmt.Sprintf("%s: %v", what, err))
}

func (a *app) diags(cmd *cobra.Command, f diagsFlags) error {
	now := a.now()
	if f.output == "" {
		f.output = filepath.Join(os.TempDir(), "diags-"+now.Format("20060102_150405")+".tar.gz")
	}
	file, err := os.OpenFile(f.output, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("diags: %w", ofFile(f.output, err))
	}
	gz := gzip.NewWriter(file)
	c := &collection{tar: tar.NewWriter(gz), now: now}
	err = a.collect(cmd, c, f)
	if err == nil {
		err = c.add("errors.txt", []byte(strings.Join(append(c.errors, ""), "\n")))
	}
	err = errors.Join(err, c.tar.Close(), gz.Close(), file.Close())
	if err != nil {
		_ = os.Remove(f.output)
		return fmt.Errorf("diags: %w", ofFile(f.output, err))
	}
	for _, e := range c.errors {
		fmt.Fprintf(a.Err, "not collected: %s\n", oneLine(e))
	}
	fmt.Fprintf(a.Out, "Diags saved to %s\n", f.output)
	return nil
}

// collect puts everything into the collection. An error is one of writing it.
func (a *app) collect(cmd *cobra.Command, c *collection, f diagsFlags) error {
	steps := []func(context.Context, *collection) error{}
	for _, name := range []string{"status", "config", "doctor", "exposure"} {
		steps = append(steps, func(ctx context.Context, c *collection) error {
			data, err := a.askAgent(ctx, http.MethodGet, "/"+name)
			if err != nil {
				c.missed("agent/"+name, err)
				return nil
			}
			return c.add("agent/"+name+".json", data)
		})
	}
	for _, p := range diagsPrograms {
		steps = append(steps, func(ctx context.Context, c *collection) error {
			out, err := output(ctx, strings.Fields(p.command))
			if err != nil {
				c.missed(p.command, err)
			}
			if len(out) == 0 {
				return nil
			}
			return c.add(p.file, out)
		})
	}
	steps = append(steps,
		func(context.Context, *collection) error { return c.files("config", f.configDir, true) },
		func(context.Context, *collection) error {
			if f.logDir == "" {
				return nil
			}
			return c.files("logs", f.logDir, false)
		},
		func(_ context.Context, c *collection) error { return a.resources(cmd, c) },
	)
	p := a.progress("diags", len(steps))
	defer p.end()
	for i, step := range steps {
		p.step(i)
		if err := cmd.Context().Err(); err != nil {
			return err
		}
		if err := step(cmd.Context(), c); err != nil {
			return err
		}
	}
	return nil
}

// output is what a program prints, on both outputs.
func output(ctx context.Context, command []string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, diagsTime)
	defer cancel()
	program := exec.CommandContext(ctx, command[0], command[1:]...)
	program.Env = append(os.Environ(), "LC_ALL=C")
	return program.CombinedOutput()
}

// files keeps the files of a directory and of those below; settings alone, if
// only they are wanted: keys and passwords lie beside them.
func (c *collection) files(name, dir string, settings bool) error {
	return filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			c.missed(name, ofFile(path, err))
			return nil
		}
		ext := filepath.Ext(path)
		if !e.Type().IsRegular() || settings && ext != ".yaml" && ext != ".yml" && ext != ".conf" {
			return nil
		}
		file, err := os.Open(path)
		if err != nil {
			c.missed(name, ofFile(path, err))
			return nil
		}
		defer file.Close()
		if fi, err := file.Stat(); err == nil && fi.Size() > diagsBytes {
			_, _ = file.Seek(-diagsBytes, io.SeekEnd)
		}
		data, err := io.ReadAll(io.LimitReader(file, diagsBytes))
		if err != nil {
			c.missed(name, ofFile(path, err))
			return nil
		}
		rel, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		return c.add(name+"/"+rel, data)
	})
}

// resources keeps what is on the server.
func (a *app) resources(cmd *cobra.Command, c *collection) error {
	cl, err := a.connect(cmd, false)
	if err != nil {
		c.missed("resources", err)
		return nil
	}
	defer cl.Close()
	for _, d := range api.Kinds() {
		if d.Kind == api.KindCredential {
			continue
		}
		objs, rev, err := cl.List(cmd.Context(), d.Kind, store.ListOptions{})
		if err != nil {
			c.missed("resources/"+d.Plural, err)
			if gone(err) {
				return nil
			}
			continue
		}
		l := api.List[api.Object]{Kind: string(d.Kind) + "List", APIVersion: d.APIVersion(), Items: objs}
		l.Metadata.ResourceVersion = fmt.Sprint(rev)
		for i, o := range objs {
			if u, bad := o.(*api.Unreadable); bad {
				c.missed(nameOf(u.Key()), u.Err)
				objs[i] = nil
			}
		}
		var b bytes.Buffer
		if err := writeDocument(&b, "yaml", l); err != nil {
			return err
		}
		if err := c.add("resources/"+d.Plural+".yaml", b.Bytes()); err != nil {
			return err
		}
	}
	data, err := json.Marshal(map[string]string{"client": api.Version, "server": a.cfg.Server})
	if err != nil {
		return err
	}
	return c.add("version.json", data)
}
