// SPDX-License-Identifier: Apache-2.0

package assembly

import (
	"encoding/json"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sort"
	"strings"
	"testing"
)

const module = "github.com/ripstop/ripstop/"

var update = flag.Bool("update", false, "rewrite the lists of linked packages")

// floors is the plan of docs/architecture.md. A package imports lower floors
// only; on floors 0 and 1 also packages listed as neighbours.
var floors = map[string]int{
	"daemon/api":                        0,
	"daemon/selector":                   0,
	"daemon/internal/intent":            0,
	"daemon/internal/delta":             0,
	"daemon/internal/nlattr":            0,
	"daemon/internal/dataplane/ruleset": 0,
	"daemon/internal/dataplane/kernel":  0,

	"daemon/policy":                      1,
	"daemon/impact":                      1,
	"daemon/policytest":                  1,
	"daemon/audit":                       1,
	"daemon/internal/doctor":             1,
	"cli/jsonpath":                       1,
	"daemon/internal/calc":               1,
	"daemon/internal/calc/index":         1,
	"daemon/internal/dataplane":          1,
	"daemon/internal/dataplane/classify": 1,

	"daemon/store":              2,
	"daemon/internal/syncer":    2,
	"daemon/internal/reconcile": 2,
	"daemon/internal/host":      2,
	"daemon/internal/rtnetlink": 2,

	"daemon/client":                       3,
	"daemon/change":                       3,
	"daemon/internal/store/etcd":          3,
	"daemon/internal/store/etcd/embedded": 3,
	"daemon/internal/store/mem":           3,
	"daemon/internal/snapshot":            3,
	"daemon/internal/auditlog":            3,
	"daemon/internal/pause":               3,
	"daemon/internal/trial":               3,
	"daemon/internal/stepback":            3,
	"daemon/internal/doctor/survey":       3,
	"daemon/internal/dataplane/nftables":  3,
	"daemon/internal/dataplane/iptables":  3,
	"daemon/internal/dataplane/monitor":   3,
	"daemon/internal/dataplane/route":     3,
	"daemon/internal/dataplane/neigh":     3,
	"daemon/internal/dataplane/sysctl":    3,
	"daemon/internal/dataplane/conntrack": 3,

	"web/apiserver/authn":  3,
	"web/apiserver/authz":  3,
	"web/apiserver/follow": 3,

	"daemon/internal/status": 4,
	"daemon/internal/config": 4,
	"web/apiserver":          4,

	"daemon/internal/assembly/agent":  5,
	"daemon/internal/assembly/server": 5,
	"daemon/internal/assembly":        5,

	"daemon/cmd/ripstopd":       6,
	"daemon/cmd/ripstop-server": 6,
	"cli/command":               6,
	"cli/ripstop":               6,
	"packaging/man":             6,
	"packaging/sbom":            6,
}

// neighbours are imports inside one floor that the plan allows.
var neighbours = map[string][]string{
	"daemon/internal/intent":              {"daemon/api"},
	"daemon/api":                          {"daemon/selector"},
	"daemon/internal/calc":                {"daemon/internal/calc/index"},
	"daemon/internal/doctor":              {"daemon/policy"},
	"daemon/impact":                       {"daemon/policy"},
	"daemon/policytest":                   {"daemon/policy"},
	"daemon/internal/dataplane":           {"daemon/internal/dataplane/classify"},
	"daemon/internal/assembly":            {"daemon/internal/assembly/agent", "daemon/internal/assembly/server"},
	"web/apiserver/authn":                 {"web/apiserver/follow"},
	"web/apiserver/authz":                 {"web/apiserver/authn", "web/apiserver/follow"},
	"cli/ripstop":                         {"cli/command"},
	"daemon/internal/store/etcd/embedded": {"daemon/internal/store/etcd"},
	"daemon/internal/reconcile":           {"daemon/internal/host"},
	"daemon/internal/syncer":              {"daemon/store"},
}

// rooms are imported by tests only.
var rooms = []string{
	"daemon/internal/store/storetest", "daemon/internal/dataplane/filtertest", "daemon/internal/reconcile/reconciletest",
	"daemon/internal/calc/calctest", "daemon/internal/netnstest", "daemon/internal/e2e", "daemon/internal/e2e/mutation", "daemon/client/clienttest",
	"web/apiserver/kubetest", "packaging/test",
}

// pure lists what floors must not even import from the standard library.
var pure = map[int][]string{
	0: {"context", "log/slog", "log", "os", "net", "sync", "os/exec", "net/http"},
	1: {"context", "log/slog", "log", "os", "net", "sync", "os/exec", "net/http"},
	2: {"net/http"},
}

// execAllowed may start programs: the daemons through package host; the CLI its
// user's editor, and programs of which diags keeps the output.
var execAllowed = []string{"daemon/internal/host", "cli/command"}

// soleImporters: outside module → the packages of ours that may import it.
var soleImporters = map[string][]string{
	"go.etcd.io/etcd/server":            {"daemon/internal/store/etcd/embedded"},
	"go.etcd.io/etcd/client":            {"daemon/internal/store/etcd", "daemon/internal/store/etcd/embedded"},
	"go.etcd.io/bbolt":                  {"daemon/internal/store/etcd/embedded"},
	"github.com/gorilla/mux":            {"web/apiserver"},
	"github.com/spf13/viper":            {"daemon/internal/config", "cli/command"},
	"github.com/vishvananda/netlink":    {"daemon/internal/dataplane/monitor", "daemon/internal/dataplane/nftables", "daemon/internal/rtnetlink", "daemon/internal/dataplane/route", "daemon/internal/dataplane/neigh", "daemon/internal/dataplane/conntrack", "daemon/internal/doctor/survey", "daemon/internal/dataplane/iptables"},
	"github.com/coreos/go-systemd":      {"daemon/internal/assembly/agent", "daemon/internal/auditlog"},
	"github.com/coreos/go-iptables":     {"daemon/internal/dataplane/iptables"},
	"github.com/prometheus":             {"daemon/internal/status", "daemon/internal/assembly/agent"},
	"github.com/go-jose/go-jose":        {"web/apiserver/authn"},
	"k8s.io/apimachinery":               {"web/apiserver"},
	"k8s.io/kube-openapi":               {"web/apiserver"},
	"k8s.io/client-go":                  {"daemon/internal/kdd"},
	"github.com/evanphx/json-patch":     {"web/apiserver"},
	"github.com/google/gnostic-models":  {"web/apiserver"},
	"sigs.k8s.io/structured-merge-diff": {"web/apiserver"},
	"github.com/osrg/gobgp":             {"daemon/internal/bgp/speaker"},
	"github.com/CycloneDX/cyclonedx-go": {"packaging/sbom"},
}

type listed struct {
	ImportPath string
	Imports    []string
}

func list(t *testing.T, args ...string) []listed {
	t.Helper()
	cmd := exec.Command("go", append([]string{"list", "-json=ImportPath,Imports"}, args...)...)
	cmd.Dir = root(t)
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list %v: %v", args, err)
	}
	var all []listed
	for d := json.NewDecoder(strings.NewReader(string(out))); d.More(); {
		var l listed
		if err := d.Decode(&l); err != nil {
			t.Fatal(err)
		}
		all = append(all, l)
	}
	return all
}

func root(t *testing.T) string {
	t.Helper()
	dir, err := filepath.Abs("../../..")
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// TestArrowsPointDown holds the plan of floors.
func TestArrowsPointDown(t *testing.T) {
	for _, p := range list(t, "./...") {
		from := strings.TrimPrefix(p.ImportPath, module)
		if slices.Contains(rooms, from) {
			continue
		}
		floor, ok := floors[from]
		if !ok {
			t.Errorf("package %s has no floor: add it to the plan in this test and in docs/architecture.md", from)
			continue
		}
		for _, path := range p.Imports {
			to, ours := strings.CutPrefix(path, module)
			switch {
			case ours && slices.Contains(rooms, to):
				t.Errorf("%s (floor %d) imports the test room %s", from, floor, to)
			case ours:
				if f := floors[to]; f > floor || f == floor && !slices.Contains(neighbours[from], to) {
					t.Errorf("%s (floor %d) imports %s (floor %d)", from, floor, to, f)
				}
			case slices.Contains(pure[floor], path):
				t.Errorf("%s (floor %d) imports %s, which that floor must do without", from, floor, path)
			case path == "os/exec" && !slices.Contains(execAllowed, from):
				t.Errorf("%s (floor %d) imports os/exec: programs are started through daemon/internal/host", from, floor)
			default:
				for mod, who := range soleImporters {
					if (path == mod || strings.HasPrefix(path, mod+"/")) && !slices.Contains(who, from) {
						t.Errorf("%s imports %s, which only %v may", from, path, who)
					}
				}
			}
		}
	}
}

// TestLinkedPackages compares what each binary links with a committed list,
// so that growth shows in review. -update rewrites the lists.
func TestLinkedPackages(t *testing.T) {
	for _, binary := range []string{"daemon/cmd/ripstopd", "daemon/cmd/ripstop-server", "cli/ripstop"} {
		cmd := exec.Command("go", "list", "-deps", "./"+binary)
		cmd.Dir = root(t)
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("go list -deps %s: %v", binary, err)
		}
		var got []string
		for _, l := range strings.Fields(string(out)) {
			if strings.Contains(strings.SplitN(l, "/", 2)[0], ".") { // not the standard library
				got = append(got, l)
			}
		}
		sort.Strings(got)
		text := strings.Join(got, "\n") + "\n"
		file := filepath.Join("testdata", "linked", filepath.Base(binary)+".txt")
		if *update {
			if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
			continue
		}
		want, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if string(want) == text {
			continue
		}
		have := strings.Fields(string(want))
		for _, p := range got {
			if !slices.Contains(have, p) {
				t.Errorf("%s now links %s (not in %s; -update accepts it)", binary, p, file)
			}
		}
		for _, p := range have {
			if !slices.Contains(got, p) {
				t.Errorf("%s no longer links %s (still in %s; -update accepts it)", binary, p, file)
			}
		}
	}
}

// forbidden is what a binary must never link, and why.
var forbidden = map[string]map[string]string{
	"daemon/cmd/ripstopd": {
		"go.etcd.io/etcd/server": "etcd's server exits the process on a full disk",
		"github.com/osrg/gobgp":  "BGP runs in its own process",
		"k8s.io":                 "a host firewall does not link Kubernetes",
	},
	"cli/ripstop": {
		"go.etcd.io/etcd/server":         "the CLI is a client",
		"github.com/vishvananda/netlink": "the CLI does not touch the host",
		"k8s.io":                         "the CLI speaks to the API with the types of package api",
	},
}

// TestForbiddenPackages holds the trust boundaries of the binaries.
func TestForbiddenPackages(t *testing.T) {
	for binary, no := range forbidden {
		cmd := exec.Command("go", "list", "-deps", "./"+binary)
		cmd.Dir = root(t)
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("go list -deps %s: %v", binary, err)
		}
		for _, p := range strings.Fields(string(out)) {
			for prefix, why := range no {
				if p == prefix || strings.HasPrefix(p, prefix+"/") {
					t.Errorf("%s links %s: %s", binary, p, why)
				}
			}
		}
	}
}
