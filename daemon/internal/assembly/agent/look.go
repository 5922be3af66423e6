// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/ripstop/ripstop/daemon/api"
	"github.com/ripstop/ripstop/daemon/internal/config"
	"github.com/ripstop/ripstop/daemon/internal/dataplane/iptables"
	"github.com/ripstop/ripstop/daemon/internal/dataplane/nftables"
	"github.com/ripstop/ripstop/daemon/internal/host"
)

// findings are what the agent sees on its host before it begins.
type findings struct {
	cfg        config.Config
	endpoints  []string
	interfaces []string
	firewalls  []string
	// rules: those of a run before are in the kernel.
	rules bool
}

func look(cfg config.Config, endpoints []string) (*findings, error) {
	f := &findings{cfg: cfg, endpoints: endpoints}
	all, err := net.Interfaces()
	if err != nil {
		return nil, fmt.Errorf("listing interfaces: %w", err)
	}
	for _, i := range all {
		var addrs []string
		list, err := i.Addrs()
		if err != nil {
			return nil, fmt.Errorf("listing addresses of %s: %w", i.Name, err)
		}
		for _, a := range list {
			addrs = append(addrs, a.String())
		}
		state := "up"
		if i.Flags&net.FlagUp == 0 {
			state = "down"
		}
		f.interfaces = append(f.interfaces, fmt.Sprintf("%-15s %-4s %s", i.Name, state, strings.Join(addrs, ", ")))
	}
	legacy, err := host.LegacyFirewalls("/proc")
	if err != nil {
		return nil, err
	}
	for _, l := range legacy {
		f.firewalls = append(f.firewalls, fmt.Sprintf("%s (legacy), tables %s", l.Kind, strings.Join(l.Tables, ", ")))
	}
	if f.rules, err = iptables.Remains(context.Background(), host.RealRunner{}); err != nil {
		return nil, err
	}
	tables, err := nftables.Tables()
	if err != nil {
		return f, nil // a kernel without nf_tables; iptables is used then
	}
	for _, t := range tables {
		if t == "inet "+nftables.Default().Table {
			f.rules = true
		} else {
			f.firewalls = append(f.firewalls, "nftables, table "+t)
		}
	}
	slices.Sort(f.firewalls)
	return f, nil
}

// print tells what was found.
func (f *findings) print(w io.Writer) {
	fmt.Fprintf(w, "ripstopd %s protects host %q (role %s)\n\n", api.Version, f.cfg.Node, f.cfg.Role)
	fmt.Fprintf(w, "Datastore   %s\n", strings.Join(f.endpoints, ", "))
	fmt.Fprintf(w, "Interfaces  %s\n", strings.Join(f.interfaces, "\n            "))
	if len(f.firewalls) == 0 {
		fmt.Fprintf(w, "Firewalls   no other one seen\n")
	} else {
		fmt.Fprintf(w, "Firewalls   %s\n", strings.Join(f.firewalls, "\n            "))
		fmt.Fprintf(w, "            These stay untouched. A packet must be let through by each of them and by Ripstop.\n")
	}
	if f.rules {
		fmt.Fprintf(w, "Rules       those of a run before stay in force until the policy is known\n")
	} else {
		fmt.Fprintf(w, "Rules       none: nothing is filtered until a HostEndpoint names an interface\n")
	}
	fmt.Fprintln(w)
}

// advise tells the person at the terminal what to do next. systemd, which
// gives a place to be told of things (sd_notify(3)), is none.
func (f *findings) advise(w io.Writer) {
	if os.Getenv("NOTIFY_SOCKET") != "" {
		return
	}
	fmt.Fprintf(w, `Type next, in another shell (the programs are in %s):

%s  ripstop status                   what is enforced here
  ripstop get tiers                what is in the datastore
  ripstop apply -f FILE            put policy in force; README.md has a first one

Ctrl-C stops the agent and leaves the rules as they are; 'ripstopd --cleanup' removes them.

`, programDir(), f.exports())
}

// exports is the line that tells ripstop where the sockets are, if they are
// not where it looks.
func (f *findings) exports() string {
	if f.cfg.RunDir == usualRunDir {
		return ""
	}
	out := "  export RIPSTOP_AGENT=unix://" + filepath.Join(f.cfg.RunDir, "agent.sock")
	if f.cfg.Role == config.Standalone {
		out += " RIPSTOP_SERVER=unix://" + filepath.Join(f.cfg.RunDir, "api.sock")
	}
	return out + "\n"
}

// usualRunDir is where ripstop looks for sockets.
const usualRunDir = "/run/ripstop"

func programDir() string {
	own, err := ownPath()
	if err != nil {
		return "PATH"
	}
	return filepath.Dir(own)
}
