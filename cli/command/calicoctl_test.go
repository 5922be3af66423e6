// SPDX-License-Identifier: Apache-2.0

package command

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// likeness is how a command line of calicoctl behaves with this program.
type likeness string

const (
	// alike: the same is done, and it fails where calicoctl fails. What is
	// printed has other words.
	alike likeness = "alike"
	// differs: it is taken, and means what the page says.
	differs likeness = "differs"
	// absent: it is refused, for the reason that the page gives.
	absent likeness = "absent"
)

// calicoctlLines are the documented command lines of calicoctl 3.32, in an
// order in which they can be run, and what becomes of them. DIR is a directory
// with the files that they name. What differs is named by a few words that the
// page on migration has.
var calicoctlLines = []struct {
	line string
	is   likeness
	want string // a pattern of what is printed, on either output
	page string
}{
	{"calicoctl create -f DIR/tier.yaml", alike, `^tier/sec created`, ""},
	{"calicoctl create --filename=DIR/tier.yaml --skip-exists", alike, `is there already`, ""},
	{"calicoctl create -f DIR/policies -R", alike, `networkpolicy/prod/db created`, ""},
	{"calicoctl create -f DIR/empty.yaml --skip-empty", alike, `^$`, ""},
	{"calicoctl create -n prod -f DIR/set.yaml", alike, `^networkset/prod/office created`, ""},
	{"calicoctl apply -f DIR/tier.yaml", alike, `^tier/sec unchanged`, "one line for each resource"},
	{"calicoctl apply -f DIR/hep.yaml", alike, `^hostendpoint/h1 created`, ""},
	{"calicoctl apply -f DIR/policies --recursive", alike, `unchanged`, ""},
	{"calicoctl replace -f DIR/tier.yaml", alike, `^tier/sec replaced`, ""},
	{"calicoctl patch hostendpoint h1 -p {\"spec\":{\"expectedIPs\":[\"10.0.0.1\"]}}", alike, `^hostendpoint/h1 patched`, "lists are replaced as a whole"},
	{"calicoctl patch hostendpoint h1 --patch={\"spec\":{\"profiles\":[]}} --type=merge", alike, `patched`, ""},
	{"calicoctl patch hostendpoint h1 -t strategic -p {}", absent, `Use --type=merge`, "strategic"},
	{"calicoctl get nodes", alike, `no nodes`, ""},
	{"calicoctl get tiers", alike, `(?m)^sec +100$`, ""},
	{"calicoctl get tier sec -o yaml", alike, `kind: Tier\n`, ""},
	{"calicoctl get tier sec -o json", alike, `"kind": "Tier"`, ""},
	{"calicoctl get hep -o wide", alike, `h1 +h1 +eth0 +10.0.0.1`, ""},
	{"calicoctl get hep -o ps", alike, `^NAME +NODE`, ""},
	{"calicoctl get gnp -o custom-columns=NAME,TIER", alike, `web +sec`, ""},
	{"calicoctl get networkpolicy -A", alike, `^NAMESPACE +NAME`, ""},
	{"calicoctl get policy -n prod", alike, `db`, "NAMESPACE stands in tables of all namespaces"},
	{"calicoctl get np --all-namespaces -o yaml", alike, `kind: NetworkPolicyList`, ""},
	{"calicoctl get tier sec nope", alike, `(?s)sec.*"nope" not found`, ""},
	{"calicoctl get -f DIR/tier.yaml", alike, `sec`, ""},
	{"calicoctl get tier sec -o yaml --export", alike, `name: sec`, "keeps the namespace"},
	{"calicoctl get gnp -o go-template={{range.items}}{{.metadata.name}}{{end}}", alike, `web`, "names of fields as in YAML"},
	{"calicoctl get gnp -o go-template-file=DIR/t.gotmpl", alike, `web`, ""},
	{"calicoctl get tier -o xml", alike, `not known`, ""},
	{"calicoctl get bogus", alike, `there is no kind`, ""},
	{"calicoctl get bgppeers", absent, `there is no kind`, "BGP"},
	{"calicoctl label tier sec a=b", alike, `^tier/sec labelled`, ""},
	{"calicoctl label tier sec a=c", alike, `already "b"`, ""},
	{"calicoctl label tier sec a=c --overwrite", alike, `labelled`, ""},
	{"calicoctl label tier sec a --remove", alike, `labelled`, ""},
	{"calicoctl validate -f DIR/tier.yaml", alike, `valid`, ""},
	{"calicoctl validate -R -f DIR/policies", alike, `valid`, ""},
	{"calicoctl delete networkset office -n prod", alike, `^networkset/prod/office deleted`, ""},
	{"calicoctl delete gnp nope --skip-not-exists", alike, `is not there`, ""},
	{"calicoctl delete gnp nope -s", alike, `is not there`, ""},
	{"calicoctl delete gnp nope", alike, `not found`, ""},
	{"calicoctl delete tier sec", alike, `non-empty tier`, ""},
	{"calicoctl delete -f DIR/policies -R", alike, `deleted`, ""},
	{"calicoctl delete tier sec", alike, `deleted`, ""},
	{"calicoctl delete hep", alike, `what to delete is not said`, ""},
	{"calicoctl version --client", alike, `^ripstop `, ""},
	{"calicoctl version", alike, `server`, ""},
	{"calicoctl version --poll=1s", absent, `unknown flag`, "--poll"},
	{"calicoctl get tiers --allow-version-mismatch", alike, `default`, ""},
	{"calicoctl get tiers --config=DIR/none.cfg", alike, `no such file`, ""},
	{"calicoctl -l debug get tiers", differs, `no tiers`, "`-l` is a label selector"},
	{"calicoctl --log-level=debug get tiers", absent, `unknown flag`, "--log-level"},
	{"calicoctl node status", alike, `agent`, ""},
	{"calicoctl node checksystem --kernel-config=DIR/kernel", alike, `Ripstop can run here`, ""},
	{"calicoctl node diags --log-dir=DIR/policies --output=DIR/d.tar.gz --config-dir=DIR/policies", alike, `Diags saved to`, "journalctl"},
	{"calicoctl node run", absent, `no command "run"`, "node run"},
	{"calicoctl datastore migrate export", alike, `===`, "nothing needs to be locked"},
	{"calicoctl datastore migrate import -f DIR/export.txt", alike, `unchanged`, "into any datastore"},
	{"calicoctl datastore migrate lock", absent, `no command "lock"`, "lock"},
	{"calicoctl datastore migrate unlock", absent, `no command "unlock"`, "lock"},
	{"calicoctl datastore migrate-policy-names", absent, `no command`, "migrate-policy-names"},
	{"calicoctl ipam show", absent, `no command "ipam"`, "IPAM"},
	{"calicoctl ipam check", absent, `no command "ipam"`, "IPAM"},
	{"calicoctl ipam release --ip=10.0.0.1", absent, `no command "ipam"|unknown flag`, "IPAM"},
	{"calicoctl ipam split 2", absent, `no command "ipam"`, "IPAM"},
	{"calicoctl ipam configure --strictaffinity=true", absent, `no command "ipam"|unknown flag`, "IPAM"},
	{"calicoctl cluster diags", absent, `no command "cluster"`, "cluster diags"},
}

// failsToo are lines that fail with calicoctl as well.
var failsToo = regexp.MustCompile(`sec nope|-o xml|get bogus|a=c$|gnp nope$|delete hep|none\.cfg|node status`)

func TestCalicoctl_DocumentedCommandLinesBehaveAlike(t *testing.T) {
	page, err := os.ReadFile("../../docs/how-to/migrate-from-calico.md")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	socket := filepath.Join(dir, "api.sock")
	s := serve(t, socket)
	defer s.stop()
	t.Setenv("RIPSTOP_SERVER", "unix://"+socket)
	t.Setenv("RIPSTOP_AGENT", "unix://"+dir+"/none.sock")
	const head = "apiVersion: projectcalico.org/v3\nkind: "
	for name, text := range map[string]string{
		"tier.yaml":             head + "Tier\nmetadata: {name: sec}\nspec: {order: 100}\n",
		"policies/a.yaml":       head + "GlobalNetworkPolicy\nmetadata: {name: web}\nspec: {tier: sec, selector: all()}\n",
		"policies/below/b.yaml": head + "NetworkPolicy\nmetadata: {name: db, namespace: prod}\nspec: {tier: sec, selector: all()}\n",
		"set.yaml":              head + "NetworkSet\nmetadata: {name: office}\nspec: {nets: [192.0.2.0/24]}\n",
		"hep.yaml":              head + "HostEndpoint\nmetadata: {name: h1}\nspec: {node: h1, interfaceName: eth0}\n",
		"empty.yaml":            "# nothing\n",
		"t.gotmpl":              "{{range .items}}{{.metadata.name}}{{end}}",
		"kernel":                "CONFIG_NF_CONNTRACK=y\nCONFIG_NF_CT_NETLINK=y\nCONFIG_NF_TABLES=y\nCONFIG_NF_TABLES_INET=y\nCONFIG_NFT_CT=y\nCONFIG_NFT_LOG=y\nCONFIG_NFT_REJECT=y\nCONFIG_NFT_REJECT_INET=y\n",
		"export.txt":            head + "TierList\nitems:\n- {apiVersion: projectcalico.org/v3, kind: Tier, metadata: {name: default}, spec: {order: 1000000, defaultAction: Deny}}\n---\n===\n{}\n===\n{}\n",
	} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range calicoctlLines {
		args := strings.Fields(strings.ReplaceAll(c.line, "DIR", dir))[1:]
		code, stdout, stderr := run(t, "", args...)
		fails := failsToo.MatchString(c.line) || strings.Contains(c.want, "non-empty")
		if c.is != absent && (code != 0) != fails || c.is == absent && code == 0 {
			t.Errorf("%s (%s): exit code %d\n%s%s", c.line, c.is, code, stdout, stderr)
		}
		if !regexp.MustCompile(c.want).MatchString(stdout+stderr) && !regexp.MustCompile(c.want).MatchString(stdout) {
			t.Errorf("%s (%s): want %q in\n%s%s", c.line, c.is, c.want, stdout, stderr)
		}
		if (c.is != alike || c.page != "") && (c.page == "" || !strings.Contains(string(page), c.page)) {
			t.Errorf("%s (%s): docs/how-to/migrate-from-calico.md does not have %q", c.line, c.is, c.page)
		}
	}
}
