// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/ripstop/ripstop/daemon/api"
	"github.com/ripstop/ripstop/daemon/internal/store/etcd"
	"github.com/ripstop/ripstop/daemon/store"
)

var (
	benchSizes    = flag.String("bench-sizes", "10000/1000,10000/10000,50000/10000", "hosts/policies of the benchmarks on nftables; a tenth of the policies is local")
	benchIPTables = flag.String("bench-iptables-sizes", "10000/1000,10000/10000", "the same on each variant of iptables")
	benchLocal    = flag.String("bench-local", "10,100,1000", "local policies in the benchmark of one packet")
	benchWrites   = flag.Int("bench-writes", 200, "policy writes that are timed for each size")
	benchStarts   = flag.Int("bench-starts", 3, "cold starts, and restarts, that are timed for each size")
	benchMembers  = flag.Int("bench-members", 100_000, "members of the sets of the benchmark of one member")
	benchSettle   = flag.Duration("bench-settle", 15*time.Second, "how long programs are left alone before their memory is read")
	benchJSON     = flag.String("bench-json", "", "file that gets the figures as JSON")
)

// figure is one measured number.
type figure struct {
	Filter    string  `json:"filter"` // as -filter names it
	Benchmark string  `json:"benchmark"`
	Case      string  `json:"case"`
	Name      string  `json:"name"`
	Unit      string  `json:"unit"`
	Value     float64 `json:"value"`
}

// figures are all that were measured in this run. Benchmarks run one after
// the other.
var figures []figure

func note(b *testing.B, benchmark, kase, name, unit string, value float64) {
	figures = append(figures, figure{*filterFlag, benchmark, kase, name, unit, value})
	b.ReportMetric(value, strings.ReplaceAll(strings.TrimSpace(name+" "+unit), " ", "-"))
}

// table prints what a benchmark has measured as a table in Markdown, a case a
// line, and writes all figures so far to the file of -bench-json.
func table(b *testing.B, benchmark string) {
	type row struct{ filter, kase string }
	var rows []row
	var names []string
	values := map[row]map[string]string{}
	for _, f := range figures {
		if f.Benchmark != benchmark {
			continue
		}
		name, r := strings.TrimSpace(f.Name+" "+f.Unit), row{f.Filter, f.Case}
		if values[r] == nil {
			rows, values[r] = append(rows, r), map[string]string{}
		}
		if !slices.Contains(names, name) {
			names = append(names, name)
		}
		values[r][name] = strconv.FormatFloat(f.Value, 'f', precision(f), 64)
	}
	if len(rows) == 0 {
		return
	}
	fmt.Printf("\n## %s\n\n| packet filter | | %s |\n| --- | --- |%s\n", benchmark, strings.Join(names, " | "), strings.Repeat(" ---: |", len(names)))
	for _, r := range rows {
		fmt.Printf("| %s | %s |", r.filter, r.kase)
		for _, n := range names {
			fmt.Printf(" %s |", values[r][n])
		}
		fmt.Println()
	}
	fmt.Println()
	writeFigures(b)
}

// onFilters runs a benchmark on each packet filter, of which -filter names one
// if it is given.
func onFilters(b *testing.B, run func(b *testing.B)) {
	given := false
	flag.Visit(func(f *flag.Flag) { given = given || f.Name == "filter" })
	filters := []string{"nftables", "legacy", "nf_tables"}
	if given {
		filters = []string{*filterFlag}
	}
	was := *filterFlag
	defer func() { *filterFlag = was }()
	for _, name := range filters {
		*filterFlag = name
		b.Run(name, run)
	}
}

func precision(f figure) int {
	switch {
	case f.Unit == "":
		return 0
	case f.Unit == "times":
		return 2
	case f.Value < 100:
		return 1
	}
	return 0
}

func writeFigures(b *testing.B) {
	if *benchJSON == "" {
		return
	}
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		b.Fatal(err)
	}
	data, err := json.MarshalIndent(map[string]any{
		"version": api.Version, "go": runtime.Version(), "cpus": runtime.NumCPU(),
		"kernel": unix.ByteSliceToString(u.Release[:]), "time": time.Now().UTC().Format(time.RFC3339), "figures": figures,
	}, "", "  ")
	if err != nil {
		b.Fatal(err)
	}
	if err := os.WriteFile(*benchJSON, append(data, '\n'), 0o644); err != nil {
		b.Fatal(err)
	}
}

// percentile is the value that p percent of the samples are not above.
func percentile(samples []time.Duration, p int) time.Duration {
	s := slices.Sorted(slices.Values(samples))
	return s[(len(s)-1)*p/100]
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// size is a fleet of hosts, one endpoint each, and its policies. Local
// policies govern this host.
type size struct{ hosts, policies, local int }

func (s size) String() string {
	return fmt.Sprintf("%d hosts, %d policies (%d local)", s.hosts, s.policies, s.local)
}

func parseSizes(b *testing.B, text string) []size {
	var out []size
	for _, part := range strings.Split(text, ",") {
		var s size
		if _, err := fmt.Sscanf(part, "%d/%d", &s.hosts, &s.policies); err != nil || s.hosts < 1 || s.policies < 1 {
			b.Fatalf("-bench-sizes %q: want hosts/policies,hosts/policies,…", text)
		}
		s.local = max(1, s.policies/10)
		out = append(out, s)
	}
	return out
}

const benchRoles = 100 // of hosts; a rule lets the hosts of one role in

// objects are the endpoints and policies of a fleet. The first endpoint is
// this host's.
func (s size) objects() []api.Object {
	var out []api.Object
	for i := range s.hosts {
		h := &api.HostEndpoint{
			Meta: api.Meta{Name: fmt.Sprintf("host-%05d-eth0", i), Labels: map[string]string{
				"role": fmt.Sprintf("r%d", i%benchRoles), "zone": fmt.Sprintf("z%d", i%7), "group": fmt.Sprintf("g%d", i%10),
			}},
			Spec: api.HostEndpointSpec{
				Node: fmt.Sprintf("host-%05d", i), InterfaceName: "eth0",
				ExpectedIPs: []string{fmt.Sprintf("172.%d.%d.%d", 16+i>>16, i>>8&255, i&255), fmt.Sprintf("fd50::%x", i+1)},
			},
		}
		if i == 0 {
			h.Labels = map[string]string{"bench": "local", "role": "none"}
			h.Spec.Node, h.Spec.InterfaceName, h.Spec.ExpectedIPs = here, "rstun0", []string{"10.1.0.1", "fd01::1"}
		}
		out = append(out, h)
	}
	for i := range s.policies {
		selector := fmt.Sprintf("group == 'g%d'", i%10)
		if i < s.local {
			selector = "bench == 'local'"
		}
		out = append(out, benchPolicy(i, selector))
	}
	return out
}

// benchPolicy has five rules of the protocol that the probes have: three for
// hosts of a role, one for nets, one against all but some nets, each for two
// ports; nets are IPv4 in every other policy, else IPv6. Each policy has a net of
// its own, and what is not denied are the fleet's networks and one of ten
// others. None matches a probe.
func benchPolicy(i int, selector string) *api.GlobalNetworkPolicy {
	p := &api.GlobalNetworkPolicy{Meta: api.Meta{Name: fmt.Sprintf("policy-%05d", i)}}
	p.Spec.Order, p.Spec.Selector, p.Spec.Types = ptr(float64(100+i)), selector, []api.PolicyType{api.Ingress}
	for r := range 5 {
		port := uint16(10000 + (5*i+r)%10000)
		rule := api.Rule{
			Action: api.Allow, Protocol: &api.Protocol{Name: "UDP"},
			Destination: api.EntityRule{Ports: []api.Port{api.SinglePort(port), api.SinglePort(port + 1)}},
		}
		switch r {
		default:
			rule.Source.Selector = fmt.Sprintf("role == 'r%d'", (i+r*7)%benchRoles)
		case 3:
			rule.Source.Nets = []string{fmt.Sprintf("10.%d.%d.0/24", 128+i>>8&127, i&255), "192.0.2.0/24"}
			if i%2 == 1 {
				rule.Source.Nets = []string{fmt.Sprintf("fd60:%x::/32", i), "2001:db8::/32"}
			}
		case 4:
			rule.Action, rule.Source.NotNets = api.Deny, []string{"10.0.0.0/8", "172.16.0.0/12", fmt.Sprintf("192.168.%d.0/24", i%10)}
			if i%2 == 1 {
				rule.Source.NotNets = []string{"fd00::/8", fmt.Sprintf("2001:db8:%x::/48", i%10)}
			}
		}
		p.Spec.Ingress = append(p.Spec.Ingress, rule)
	}
	return p
}

// seed writes objects straight into the server's etcd, many at once.
func (s *server) seed(b *testing.B, objs []api.Object) api.Revision {
	b.Helper()
	st, err := etcd.Open(etcd.Config{Endpoints: []string{s.etcd()}, Checksums: true})
	if err != nil {
		b.Fatal(err)
	}
	defer st.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(64)
	for _, o := range objs {
		o.Default()
		if err := o.Validate(); err != nil {
			b.Fatalf("%s: %v", o.Key(), err)
		}
		group.Go(func() error {
			_, err := st.Put(ctx, o, store.Always())
			return err
		})
	}
	if err := group.Wait(); err != nil {
		b.Fatal(err)
	}
	_, rev, err := st.List(context.Background(), api.KindTier, store.ListOptions{})
	if err != nil {
		b.Fatal(err)
	}
	return rev
}

// memory is what a process has in memory, in MB: now, and at its most.
func memory(b *testing.B, pid int) (now, most float64) {
	b.Helper()
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		b.Fatal(err)
	}
	for _, line := range strings.Split(string(data), "\n") {
		f := strings.Fields(line)
		if len(f) == 3 && f[0] == "VmRSS:" {
			now, _ = strconv.ParseFloat(f[1], 64)
		}
		if len(f) == 3 && f[0] == "VmHWM:" {
			most, _ = strconv.ParseFloat(f[1], 64)
		}
	}
	return now / 1000, most / 1000
}

// storeProcess is the id of the server's child with the datastore.
func (s *server) storeProcess(b *testing.B) int {
	b.Helper()
	all, err := os.ReadDir("/proc")
	if err != nil {
		b.Fatal(err)
	}
	for _, e := range all {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		stat, err := os.ReadFile("/proc/" + e.Name() + "/stat")
		if err != nil {
			continue // ended meanwhile
		}
		if f := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:])); len(f) > 1 && f[1] == strconv.Itoa(s.cmd.Process.Pid) {
			return pid
		}
	}
	b.Fatal("ripstop-server has no child process")
	return 0
}
