// SPDX-License-Identifier: Apache-2.0

package command

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
)

func (a *app) checkSystemCommand() *cobra.Command {
	var s system
	cmd := &cobra.Command{
		Use:   "checksystem",
		Short: "Check whether the kernel has what Ripstop needs",
		Long: `checksystem looks for what Ripstop needs of the kernel: in the kernel's
configuration (/proc/config.gz, /boot/config-RELEASE, or the file of
--kernel-config), among the modules that are loaded, and among those that can
be. It loads nothing and changes nothing, and needs neither root nor the agent.

One of two packet filters is enough: nf_tables, or iptables with ipset. The
exit code is 1 if neither is complete. Where the kernel tells nothing of itself,
it is said so: ripstopd finds out when it starts.`,
		Example: `  ripstop node checksystem
  ripstop node checksystem --kernel-config=/boot/config-6.1.0-13-amd64`,
		Args: noArgs,
		RunE: func(*cobra.Command, []string) error { return a.checkSystem(&s) },
	}
	cmd.Flags().StringVarP(&s.configFile, "kernel-config", "f", "", "file with the kernel's configuration, plain or gzip")
	_ = cmd.MarkFlagFilename("kernel-config")
	cmd.Flags().StringVar(&s.root, "root", "/", "directory that is looked at instead of /")
	_ = cmd.Flags().MarkHidden("root")
	return cmd
}

// feature is one thing of the kernel, by the option of its configuration and
// by its module; a module of "" is part of another.
type feature struct {
	option, module, what string
}

// Features of the two packet filters, and what both need.
var (
	featuresBoth = []feature{
		{"NF_CONNTRACK", "nf_conntrack", "connection tracking"},
		{"NF_CT_NETLINK", "nf_conntrack_netlink", "to cut flows that policy no longer allows"},
	}
	featuresNFT = []feature{
		{"NF_TABLES", "nf_tables", "nf_tables"},
		{"NF_TABLES_INET", "", "tables for IPv4 and IPv6 together"},
		{"NFT_CT", "nft_ct", "the state of connections"},
		{"NFT_LOG", "nft_log", "the action Log"},
		{"NFT_REJECT", "nft_reject", "the deny action Reject"},
		{"NFT_REJECT_INET", "nft_reject_inet", "the deny action Reject in tables for both"},
	}
	featuresXT = []feature{
		{"IP_NF_IPTABLES", "ip_tables", "iptables"},
		{"IP6_NF_IPTABLES", "ip6_tables", "ip6tables"},
		{"IP_SET", "ip_set", "ipset"},
		{"IP_SET_HASH_NET", "ip_set_hash_net", "sets of prefixes"},
		{"NETFILTER_XT_SET", "xt_set", "rules that look into sets"},
		{"NETFILTER_XT_MATCH_CONNTRACK", "xt_conntrack", "the state of connections"},
		{"NETFILTER_XT_MATCH_MULTIPORT", "xt_multiport", "lists of ports"},
		{"NETFILTER_XT_MARK", "xt_mark", "marks of packets"},
		{"NETFILTER_XT_MATCH_COMMENT", "xt_comment", "to know our rules again"},
	}
)

// presence is where a feature was found.
type presence string

const (
	builtIn presence = "built in"
	loaded  presence = "loaded"
	module  presence = "module"
	missing presence = "missing"
	unknown presence = "unknown"
)

// system is what the kernel tells of itself.
type system struct {
	root, configFile string

	release string
	config  map[string]string // option → y, m or n; nil: not to be had
	modules map[string]presence
	listed  bool // modules of this release are listed at all
}

// read reads everything; what is not there is left out.
func (s *system) read() error {
	data, err := os.ReadFile(filepath.Join(s.root, "proc/sys/kernel/osrelease"))
	if err != nil {
		return ofFile("osrelease", err)
	}
	s.release = strings.TrimSpace(string(data))
	if err := s.readConfig(); err != nil {
		return err
	}
	s.modules = map[string]presence{}
	dir := filepath.Join(s.root, "lib/modules", s.release)
	for _, list := range []struct {
		file string
		is   presence
	}{{filepath.Join(dir, "modules.dep"), module}, {filepath.Join(dir, "modules.builtin"), builtIn}, {filepath.Join(s.root, "proc/modules"), loaded}} {
		data, err := os.ReadFile(list.file)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return ofFile(list.file, err)
		}
		s.listed = s.listed || list.is != loaded
		for line := range strings.Lines(string(data)) {
			name, _, _ := strings.Cut(strings.TrimSpace(line), ":")
			name, _, _ = strings.Cut(name, " ")
			name, _, _ = strings.Cut(filepath.Base(name), ".ko")
			s.modules[strings.ReplaceAll(name, "-", "_")] = list.is
		}
	}
	return nil
}

// readConfig reads the kernel's configuration from the first place that has
// it.
func (s *system) readConfig() error {
	places := []string{s.configFile}
	if s.configFile == "" {
		places = []string{
			filepath.Join(s.root, "proc/config.gz"), filepath.Join(s.root, "boot/config-"+s.release),
			filepath.Join(s.root, "lib/modules", s.release, "config"),
		}
	}
	for _, p := range places {
		data, err := os.ReadFile(p)
		if errors.Is(err, fs.ErrNotExist) && s.configFile == "" {
			continue
		}
		if err != nil {
			return ofFile(p, err)
		}
		var r io.Reader = bytes.NewReader(data)
		if bytes.HasPrefix(data, []byte{0x1f, 0x8b}) {
			if r, err = gzip.NewReader(r); err != nil {
				return fmt.Errorf("%s: %w", p, err)
			}
		}
		s.config = map[string]string{}
		lines := bufio.NewScanner(io.LimitReader(r, 16<<20))
		for lines.Scan() {
			if option, value, is := strings.Cut(lines.Text(), "="); is && strings.HasPrefix(option, "CONFIG_") {
				s.config[strings.TrimPrefix(option, "CONFIG_")] = value
			}
		}
		return lines.Err()
	}
	return nil
}

// has finds a feature.
func (s *system) has(f feature) presence {
	if p, ok := s.modules[f.module]; ok && f.module != "" {
		return p
	}
	switch {
	case s.config == nil && (!s.listed || f.module == ""):
		return unknown
	case s.config == nil:
		return missing
	}
	switch s.config[f.option] {
	case "y":
		return builtIn
	case "m":
		if !s.listed { // the module may be anywhere
			return module
		}
		return missing // configured so, and not installed
	}
	return missing
}

func (a *app) checkSystem(s *system) error {
	if err := s.read(); err != nil {
		return fmt.Errorf("checksystem: %w", err)
	}
	fmt.Fprintf(a.Out, "kernel %s\n", s.release)
	if s.config == nil && !s.listed {
		fmt.Fprintln(a.Err, "neither the kernel's configuration nor a list of its modules is to be had: only what is loaded is seen")
	}
	complete := map[string]bool{}
	for _, group := range []struct {
		name     string
		features []feature
	}{{"both packet filters", featuresBoth}, {"nf_tables", featuresNFT}, {"iptables", featuresXT}} {
		complete[group.name] = true
		fmt.Fprintf(a.Out, "\n%s\n", group.name)
		t := newTable(a.Out)
		for _, f := range group.features {
			p := s.has(f)
			if p == missing {
				complete[group.name] = false
			}
			t.row("  "+orNone(f.module, strings.ToLower(f.option)), string(p), f.what)
		}
		if err := t.flush(); err != nil {
			return err
		}
	}
	fmt.Fprintln(a.Out)
	switch {
	case !complete["both packet filters"] || !complete["nf_tables"] && !complete["iptables"]:
		return errors.New("checksystem: the kernel lacks what is missing above; neither nf_tables nor iptables is complete")
	case complete["nf_tables"]:
		fmt.Fprintln(a.Out, "Ripstop can run here, with nf_tables.")
	default:
		fmt.Fprintln(a.Out, "Ripstop can run here, with iptables.")
	}
	return nil
}
