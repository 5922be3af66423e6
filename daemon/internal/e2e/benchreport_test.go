// SPDX-License-Identifier: Apache-2.0

package e2e

import (
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

	"golang.org/x/sys/unix"

	"github.com/ripstop/ripstop/daemon/api"
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

// processorTime is what a process, and its children that have ended, have
// taken so far, in steps of 10 ms: proc_pid_stat(5). The work of the kernel in
// their system calls is a part of it.
func processorTime(b *testing.B, pid int) time.Duration {
	b.Helper()
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		b.Fatal(err)
	}
	f := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
	var ticks int64
	for _, field := range f[11:15] { // utime, stime, cutime, cstime
		n, err := strconv.ParseInt(field, 10, 64)
		if err != nil {
			b.Fatalf("/proc/%d/stat: %v", pid, err)
		}
		ticks += n
	}
	return time.Duration(ticks) * 10 * time.Millisecond
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
