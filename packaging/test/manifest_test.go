// SPDX-License-Identifier: Apache-2.0

package test

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write testdata/manifest.txt as this machine has it")

// manifest is what the packages put on a machine and what runs there, as text:
// files, sockets, and what each process may do.
func (m *machine) manifest() string {
	m.t.Helper()
	var b strings.Builder
	section := func(name, script string) {
		lines := strings.Split(strings.TrimSpace(m.run("sh", "-c", script)), "\n")
		slices.Sort(lines)
		lines = slices.DeleteFunc(lines, func(l string) bool { return l == "" })
		fmt.Fprintf(&b, "# %s\n%s\n\n", name, strings.Join(slices.Compact(lines), "\n"))
	}
	// One page a command: they are many, and all alike.
	section("files of the packages", `dpkg -L ripstop ripstop-server | sort -u | while read -r f; do [ -d "$f" ] && case $f in *ripstop*) ;; *) continue ;; esac; [ -e "$f" ] && stat -c '%A %U:%G %n' "$f"; done | sed 's|/man1/ripstop[a-z-]*\.1|/man1/ripstop*.1|'`)
	section("files made by what runs", `find /var/lib/ripstop /run/ripstop -printf '%M %u:%g %p\n' | sed -e 's|[0-9a-f]\{16\}|HEX|g' -e 's|audit/.*|audit/*|' -e 's|member/wal/.*|member/wal/*|' | grep -v agent/snapshot`)
	section("listening sockets", `ss -Hlnp -A tcp,udp,raw,unix_stream,unix_seqpacket,packet_raw,packet_dgram 2>/dev/null | grep ripstop | sed 's/users:(("\([a-z-]*\).*/\1/' | awk '{ print $NF, $1, $5 }'`)
	section("processes", `for p in $(pidof ripstopd ripstop-server); do tr '\0' ' ' </proc/$p/cmdline | awk '{ printf "%s %s", $1, $2 ~ /^[a-z]/ ? $2 : "" }'; awk '/^(Uid|Gid|Cap(Inh|Prm|Eff|Bnd|Amb)|NoNewPrivs|Seccomp):/ { printf " %s%s", $1, $2 }' /proc/$p/status; echo; done`)
	section("where the agent may write", `systemctl show ripstopd ripstop-boot -p ReadOnlyPaths -p ReadWritePaths -p ProtectSystem --no-pager`)
	return b.String()
}

// TestDeb_ManifestIsWhatIsThere: files with their modes and owners, sockets
// and capabilities are those of testdata/manifest.txt; nothing is set-user-ID
// or set-group-ID; the agent can write nowhere that it or root runs programs
// from; and systemd-networkd leaves the routes of others alone.
func TestDeb_ManifestIsWhatIsThere(t *testing.T) {
	m := boot(t)
	m.install(built(t, "1.0.0"))
	m.settled()

	got, golden := m.manifest(), "testdata/manifest.txt"
	if *update {
		write(t, golden, []byte(got))
	}
	if diff := cmp.Diff(string(read(t, golden)), got); diff != "" {
		t.Errorf("the machine is not as %s says (-want +got); -update writes it:\n%s", golden, diff)
	}
	if found := m.run("sh", "-c", `dpkg -L ripstop ripstop-server | sort -u | while read -r f; do [ ! -f "$f" ] || find "$f" -perm /6000; done; find /var/lib/ripstop /run/ripstop -perm /6000`); found != "" {
		t.Errorf("set-user-ID or set-group-ID:\n%s", found)
	}
	wantConfined(m)
	wantRoutesKept(m)
}

// wantConfined looks at the file system as the agent and the server see it.
func wantConfined(m *machine) {
	m.t.Helper()
	own := regexp.MustCompile(`^(/var/lib/ripstop|/run/ripstop|/tmp|/var/tmp|/dev|/dev/(shm|mqueue|pts|hugepages)|/proc|/proc/sys/net|/run/xtables\.lock|/run/host/.*)$`) // the last: how nspawn hands things in
	for _, program := range []string{"ripstopd", "ripstop-server"} {
		pid := strings.TrimSpace(m.run("pidof", "-s", program))
		mounts := m.run("sh", "-c", "cut -d' ' -f5,6 /proc/"+pid+"/mountinfo")
		writable := 0
		for line := range strings.Lines(mounts) {
			f := strings.Fields(line)
			if !slices.Contains(strings.Split(f[1], ","), "rw") {
				continue
			}
			writable++
			if !own.MatchString(f[0]) {
				m.t.Errorf("%s has %s writable (%s)", program, f[0], f[1])
			}
		}
		if writable == 0 {
			m.t.Errorf("%s: no mount is writable, so this looked at nothing:\n%s", program, mounts)
		}
		// What it or root runs programs from, what says which to run, and what
		// makes the kernel run one: as the process itself would try.
		for _, path := range []string{"/usr/sbin", "/usr/bin", "/usr/sbin/ripstopd", "/usr/local/sbin", "/usr/lib/systemd/system", "/etc", "/etc/systemd/system", "/etc/cron.d",
			"/etc/ripstop", "/etc/ripstop/ripstopd.yaml", "/root", "/usr/lib/modules", "/var/spool/cron", "/var/lib/dpkg/info", "/opt", "/run/systemd/system",
			"/proc/sys/kernel/core_pattern", "/proc/sys/kernel/modprobe", "/proc/sysrq-trigger", "/sys/kernel/uevent_helper", "/sys/kernel"} {
			out := m.run("sh", "-c", "nsenter -t "+pid+" -m -- sh -c '[ ! -e "+path+" ] || [ ! -w "+path+" ] || echo writable'")
			if out != "" {
				m.t.Errorf("%s can write %s", program, path)
			}
		}
	}
}

// networkdConfig lets systemd-networkd look after the machine's interface.
const networkdConfig = "[Match]\nName=host0\n[Network]\nAddress=10.213.0.11/24\nLinkLocalAddressing=ipv6\n"

// wantRoutesKept restarts systemd-networkd beside a route and a routing rule
// that it has not made. (Protocol 82 is the agent's: it removes what it does not want.)
func wantRoutesKept(m *machine) {
	m.t.Helper()
	file := filepath.Join(m.t.TempDir(), "host0.network")
	if err := os.WriteFile(file, []byte(networkdConfig), 0o644); err != nil {
		m.t.Fatal(err)
	}
	m.push(file, "/etc/systemd/network/host0.network")
	restart := func() {
		m.t.Helper()
		m.run("systemctl", "restart", "systemd-networkd")
		m.eventually("systemd-networkd has taken the interface", func() error {
			out, err := m.try("exec", "networkctl", "status", "host0")
			if err == nil && !strings.Contains(out, "(configured)") {
				err = fmt.Errorf("%s", out)
			}
			return err
		})
	}
	restart()
	m.run("sh", "-ec", "ip route add 192.0.2.1 dev host0 proto 99 metric 1024; ip -6 route add 2001:db8::1 dev host0 proto 99 metric 1024; ip rule add fwmark 0x20 table 82 protocol 99; ip -6 rule add fwmark 0x20 table 82 protocol 99")
	there := func() string {
		return m.run("sh", "-c", "ip route show proto 99; ip -6 route show proto 99; ip rule show | grep -c 'lookup 82'; ip -6 rule show | grep -c 'lookup 82'")
	}
	before := there()
	restart()
	if diff := cmp.Diff(before, there()); diff != "" || !strings.Contains(before, "192.0.2.1") || !strings.Contains(before, "2001:db8::1") {
		m.t.Errorf("routes and rules before (-) and after (+) a restart of systemd-networkd:\n%s\n%s", before, diff)
	}
}
