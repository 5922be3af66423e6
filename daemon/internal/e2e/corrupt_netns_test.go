// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ripstop/ripstop/daemon/api"
	"github.com/ripstop/ripstop/daemon/internal/snapshot"
	"github.com/ripstop/ripstop/daemon/internal/store/etcd"
	"github.com/ripstop/ripstop/daemon/internal/syncer"
	"github.com/ripstop/ripstop/daemon/store"
)

var flips = flag.Int("flips", 100, "how many bits are flipped, one at a time, in all files together")

// corrupt puts a value into etcd past everything, and returns the revision.
func corrupt(t testing.TB, g *guarded, k api.Key, value string) {
	t.Helper()
	raw := rawEtcd(t, g.srv.etcd())
	if err := raw.PutRaw(bounded(t), etcd.Path(k), []byte(value), 0); err != nil {
		t.Fatal(err)
	}
}

// storedPolicy is the JSON of a policy as a store holds it.
func storedPolicy(name, spec string) string {
	return `{"kind":"GlobalNetworkPolicy","apiVersion":"projectcalico.org/v3","metadata":{"name":"` + name + `"},"spec":` + spec + `}`
}

// TestNetnsCorruptValue_IsQuarantined: values that cannot be read are put
// straight into etcd.
func TestNetnsCorruptValue_IsQuarantined(t *testing.T) {
	other := `---
apiVersion: projectcalico.org/v3
kind: HostEndpoint
metadata: {name: other, labels: {role: bystander}}
spec: {node: h1, interfaceName: rstun1, expectedIPs: [10.2.0.1, "fd02::1"]}
---
apiVersion: projectcalico.org/v3
kind: GlobalNetworkPolicy
metadata: {name: bystander}
spec:
  order: 100
  selector: role == 'bystander'
  types: [Ingress]
  ingress: [{action: Allow, protocol: TCP, destination: {ports: [5000]}}]
`
	g := newGuarded(t, false, allowTCP("early", 7000)+other)
	pid := g.agent.cmd.Process.Pid
	faults := 0
	check := func(when string, bystander bool, ports map[uint16]bool) {
		t.Helper()
		wantPass(t, g.inj, when, ports)
		for port, want := range map[uint16]bool{5000: bystander, 5001: false} {
			if got := passes(t, g.inj, "rstun1", port); got != want {
				t.Errorf("%s: TCP port %d on the other endpoint passes: %v, want %v", when, port, got, want)
			}
		}
		if got := g.agent.metric(t, "ripstop_faults"); got != float64(faults) {
			t.Errorf("%s: metric ripstop_faults is %v, want %d", when, got, faults)
		}
		if err := syscall.Kill(pid, 0); err != nil {
			t.Fatalf("%s: the agent has ended: %v", when, err)
		}
	}
	faulty := func(k api.Key, word string) {
		t.Helper()
		faults++
		hs := g.agent.until(t, "a fault of "+k.String(), func(hs *api.HostStatus) bool {
			return slices.ContainsFunc(hs.Status.Faults, func(f api.Fault) bool {
				return f.Object == k.String() && strings.Contains(f.Message, word) && f.Effect != ""
			}) && len(hs.Status.Faults) == faults
		})
		if c := condition(hs, "NoFaults"); c.Status != "False" {
			t.Errorf("condition NoFaults is %+v, want False", c)
		}
		g.agent.applied(t, hs.Status.Datastore.SeenRevision)
	}
	normal := map[uint16]bool{7000: true, 7001: false, 8000: true, 9999: false}
	check("at first", true, normal)

	corrupt(t, g, gnpKey("early"), `{"kind": "GlobalNetwork`)
	faulty(gnpKey("early"), "byte")
	check("a good policy's value is broken", true, normal)

	corrupt(t, g, gnpKey("broken"), "\x00\x01{")
	faulty(gnpKey("broken"), "")
	check("a new value is broken", true, normal)

	// What it selects is known: it is denied, ahead of all other policies.
	corrupt(t, g, gnpKey("typo"), storedPolicy("typo", `{"order":1,"selector":"role == 'bystander'","types":["Ingress"],"ingress":[{"action":"Allow","protocl":"TCP"}]}`))
	faulty(gnpKey("typo"), "protocl")
	check("a rule has an unknown field", false, normal)
	corrupt(t, g, gnpKey("typo"), storedPolicy("typo", `{"order":1,"selector":"role == 'bystander'","types":["Ingress"],"ingress":[{"action":"Allow","protocol":"TCP","destination":{"ports":[5001]}}]}`))
	faults--
	g.agent.until(t, "the mended policy is no fault", func(hs *api.HostStatus) bool { return len(hs.Status.Faults) == faults })
	eventually(t, "the mended policy is in force", func() error {
		if !passes(t, g.inj, "rstun1", 5001) || !passes(t, g.inj, "rstun1", 5000) {
			return fmt.Errorf("TCP ports 5000 and 5001 do not pass")
		}
		return nil
	})
	g.agent.applied(t, g.srv.remove(t, gnpKey("typo")))

	corrupt(t, g, gnpKey("cidr"), storedPolicy("cidr", `{"order":1,"selector":"role == 'bystander'","types":["Ingress"],"ingress":[{"action":"Allow","source":{"nets":["10.2.0.0/33"]}}]}`))
	faulty(gnpKey("cidr"), "10.2.0.0/33")
	check("a rule has a net that is none", false, normal)

	// A set keeps its good nets; everything else goes on.
	corrupt(t, g, api.Key{Kind: api.KindGlobalNetworkSet, Name: "odd"}, `{"kind":"GlobalNetworkSet","apiVersion":"projectcalico.org/v3","metadata":{"name":"odd"},"spec":{"nets":["10.0.0.0/99","192.0.2.1/32"]}}`)
	faulty(api.Key{Kind: api.KindGlobalNetworkSet, Name: "odd"}, "10.0.0.0/99")
	g.agent.applied(t, g.srv.put(t, allowTCP("late", 7001)))
	after := map[uint16]bool{7000: true, 7001: true, 8000: true, 9999: false}
	check("a later change", false, after)
	g.s.last(300 * time.Millisecond)
	g.s.check(t)

	// A restart must not turn the last good version into none.
	g.agent.kill()
	g.agent.run(t)
	pid = g.agent.cmd.Process.Pid
	g.agent.until(t, "the faults are there after a restart", func(hs *api.HostStatus) bool {
		return verified(hs) && hs.Status.Datastore.Source == "live" && len(hs.Status.Faults) == faults
	})
	check("after a restart", false, after)

	// All is well again when the values are.
	g.srv.remove(t, gnpKey("broken"), gnpKey("cidr"), api.Key{Kind: api.KindGlobalNetworkSet, Name: "odd"})
	g.srv.remove(t, gnpKey("early"))
	rev := g.srv.put(t, allowTCP("early", 7000))
	faults = 0
	hs := g.agent.until(t, "no faults are left", func(hs *api.HostStatus) bool { return len(hs.Status.Faults) == 0 })
	g.agent.applied(t, max(rev, hs.Status.Datastore.SeenRevision))
	check("mended", true, after)
	g.s.burst(100)
	g.s.check(t)
}

// flip changes one bit of a file, or cuts it off there.
func flip(t testing.TB, r *rand.Rand, path string, cut bool) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	end := len(b)
	for end > 1 && b[end-1] == 0 {
		end-- // what was only laid aside for later holds nothing
	}
	at, bit := r.IntN(end), r.IntN(8)
	what := fmt.Sprintf("%s: bit %d of byte %d of %d flipped", filepath.Base(path), bit, at, end)
	if b[at] ^= 1 << bit; cut {
		b, what = b[:at], fmt.Sprintf("%s: cut off at byte %d of %d", filepath.Base(path), at, end)
	}
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return what
}

// TestCorruptSnapshot_IsNeverBelieved: a damaged snapshot is set aside; what
// is used instead is one that was written, or nothing.
func TestCorruptSnapshot_IsNeverBelieved(t *testing.T) {
	r := newRand(t)
	dir := t.TempDir()
	var told string
	cfg := snapshot.Config{Dir: dir + "/agent", Host: here, Fault: func(s string) { told = s }}
	ctx := context.Background()
	w := snapshot.NewWriter(cfg, snapshot.Loaded{})
	w.Phase(ctx, syncer.InSync)
	picture := func(n int) string {
		t.Helper()
		docs, err := api.DecodeAll([]byte(chaosEndpoint+"---\n"+chaosPolicies(n)), "chaos")
		if err != nil {
			t.Fatal(err)
		}
		var evs []api.Event
		for i, d := range docs {
			evs = append(evs, api.Event{Key: d.Object.Key(), Object: d.Object, Revision: api.Revision(100*n + i + 1)})
		}
		w.Events(ctx, evs)
		if err := w.Flush(); err != nil {
			t.Fatal(err)
		}
		l, err := snapshot.Load(cfg)
		if err != nil {
			t.Fatal(err)
		}
		return fmt.Sprint(l.Header, textOf(l))
	}
	before := picture(0)
	last := picture(1)
	good := t.TempDir()
	copyTree(t, cfg.Dir, good)

	for n := range *flips / 2 {
		if err := os.RemoveAll(cfg.Dir); err != nil {
			t.Fatal(err)
		}
		copyTree(t, filepath.Join(good, "agent"), cfg.Dir)
		what := flip(t, r, cfg.Dir+"/snapshot", n%5 == 4)
		both := n%3 == 2
		if both {
			what += "; " + flip(t, r, cfg.Dir+"/snapshot.1", n%5 == 3)
		}
		told = ""
		l, err := snapshot.Load(cfg)
		switch got := fmt.Sprint(l.Header, textOf(l)); {
		case both && (err == nil || !l.Known.Lost || l.Known.Objects != nil):
			t.Errorf("%s: Load gives %d bytes of objects, lost: %v, error %v; want nothing, lost, an error", what, len(textOf(l)), l.Known.Lost, err)
		case !both && (err != nil || got != before):
			t.Errorf("%s: Load gives error %v and\n%s\nwant the one before:\n%s", what, err, got, before)
		case got == last:
			t.Errorf("%s: the damaged snapshot was believed", what)
		case told == "":
			t.Errorf("%s: no fault was told", what)
		}
	}
	t.Logf("%d damaged snapshots, none believed", *flips/2)
}

func textOf(l snapshot.Loaded) string {
	var objs []api.Object
	if l.Known.Events == nil {
		return ""
	}
	for batch := range l.Known.Events {
		for _, ev := range batch {
			objs = append(objs, ev.Object)
		}
	}
	return text(objs)
}

// TestCorruptStore_ServesWhatWasWrittenOrNothing: bits are flipped in etcd's
// database and in its log; the store refuses to start, or serves exactly what
// was written, or says which value is damaged.
func TestCorruptStore_ServesWhatWasWrittenOrNothing(t *testing.T) {
	r := newRand(t)
	dir := shortDir(t)
	socket := dir + "/s"
	run := func(data string) *process {
		return start(t, nil, "ripstop-server", "store", "--data-dir", data, "--socket", socket)
	}
	open := func() *etcd.Store {
		t.Helper()
		s, err := etcd.Open(etcd.Config{Endpoints: []string{"unix://" + socket}, Checksums: true})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { s.Close() })
		return s
	}
	kinds := []api.Kind{api.KindGlobalNetworkPolicy, api.KindGlobalNetworkSet, api.KindHostEndpoint, api.KindTier, api.KindClusterInformation}
	// served are all objects by key, and how many of them are not readable.
	served := func(s *etcd.Store, p *process) (all map[string]string, alarms int, err error) {
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		go func() {
			select {
			case <-p.done:
				cancel()
			case <-ctx.Done():
			}
		}()
		for {
			all, alarms = map[string]string{}, 0
			err = nil
			for _, kind := range kinds {
				var objs []api.Object
				if objs, _, err = s.List(ctx, kind, store.ListOptions{}); err != nil {
					break
				}
				for _, o := range objs {
					if _, bad := o.(*api.Unreadable); bad {
						alarms++
						all[o.Key().String()] = ""
						continue
					}
					b, err := api.EncodeStored(o)
					if err != nil {
						t.Fatal(err)
					}
					all[o.Key().String()] = string(b) + " at " + o.Metadata().ResourceVersion
				}
			}
			select {
			case <-p.done:
				return nil, 0, fmt.Errorf("ended: %w", p.err)
			default:
			}
			if err == nil {
				return all, alarms, nil
			}
		}
	}

	// Two originals: one stopped in good order, one killed.
	originals := []string{dir + "/stopped", dir + "/killed"}
	want := make([]map[string]string, len(originals))
	for i, data := range originals {
		p := run(data)
		s := open()
		eventually(t, "the store answers", func() error {
			select {
			case <-p.done:
				t.Fatalf("the store has ended: %v", p.err)
			default:
			}
			return store.Initialise(bounded(t), s)
		})
		docs, err := api.DecodeAll([]byte(chaosEndpoint+"---\n"+chaosPolicies(i)+sets(0, 100)), "chaos")
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range docs {
			if _, err := s.Put(bounded(t), d.Object, store.Always()); err != nil {
				t.Fatal(err)
			}
		}
		if want[i], _, err = served(s, p); err != nil || len(want[i]) < 100 {
			t.Fatalf("%d objects, %v", len(want[i]), err)
		}
		st, err := s.Status(bounded(t))
		if err != nil {
			t.Fatal(err)
		}
		s.Close()
		if i == 0 {
			p.stop()
		} else {
			eventually(t, "all is sealed", func() error {
				b, err := os.ReadFile(data + "/seal.json")
				if err == nil && !strings.Contains(string(b), fmt.Sprintf(`"revision":%d,`, st.Revision)) {
					err = fmt.Errorf("revision %d is not: %s", st.Revision, b)
				}
				return err
			})
			p.kill()
		}
	}

	outcome := map[string]int{}
	var slowest time.Duration
	for n := range *flips - *flips/2 {
		which := n % 2
		data := dir + "/damaged"
		if err := os.RemoveAll(data); err != nil {
			t.Fatal(err)
		}
		copyTree(t, originals[which], data)
		file := data + "/member/snap/db"
		if n%4 >= 2 {
			logs, err := filepath.Glob(data + "/member/wal/*-*.wal")
			if err != nil || len(logs) == 0 {
				t.Fatal(logs, err)
			}
			file = slices.Max(logs)
		}
		what := filepath.Base(originals[which]) + ": " + flip(t, r, file, n%10 >= 8)
		began := time.Now()
		p := run(data)
		s := open()
		all, alarms, err := served(s, p)
		s.Close()
		slowest = max(slowest, time.Since(began))
		switch {
		case err != nil:
			outcome["refused"]++
			if p.log.String() == "" {
				t.Errorf("%s: the store ended without a word", what)
			}
		case alarms > 0:
			outcome["alarm"]++
		default:
			outcome["served as written"]++
		}
		if err == nil {
			for k, v := range all {
				if v != "" && v != want[which][k] {
					t.Errorf("%s: %s is served as\n%s\nwant\n%s", what, k, v, want[which][k])
				}
			}
			for k := range want[which] {
				if _, ok := all[k]; !ok {
					t.Errorf("%s: %s is not served", what, k)
				}
			}
		}
		p.kill()
	}
	t.Logf("%d damaged stores: %v; slowest answer %v", *flips-*flips/2, outcome, slowest.Round(time.Millisecond))
}

// TestNetnsCorrupt_DamagedStoreAndSnapshotsLeaveThePolicyInForce: the database
// is damaged and both snapshots are; the host keeps its rules, nothing spins,
// and everything says what is wrong.
func TestNetnsCorrupt_DamagedStoreAndSnapshotsLeaveThePolicyInForce(t *testing.T) {
	t.Parallel()
	r := newRand(t)
	g := newGuarded(t, false, allowTCP("early", 7000))
	g.agent.saved(t, g.rev)
	g.srv.stop()
	data := g.srv.dir + "/state/etcd"
	copyTree(t, data, g.srv.dir+"/backup")
	g.agent.kill()
	db, err := os.OpenFile(data+"/member/snap/db", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	needle := []byte(`role == 'victim'`)
	b, err := io.ReadAll(db)
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for i := 0; i+len(needle) < len(b); i++ {
		if string(b[i:i+len(needle)]) == string(needle) {
			db.WriteAt([]byte("s"), int64(i)) // a selector of something else
			found++
		}
	}
	db.Close()
	if found == 0 {
		t.Fatal("no selector in the database")
	}
	files, err := filepath.Glob(g.agent.dir + "/state/agent/snapshot*")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	for _, f := range files {
		flip(t, r, f, false)
	}

	g.srv.run(t)
	g.agent.run(t)
	now := map[uint16]bool{7000: true, 7001: false, 9999: false}
	hs := g.agent.until(t, "the damaged snapshot is told", func(hs *api.HostStatus) bool {
		return condition(hs, "SnapshotFresh").Status == "False"
	})
	if c := condition(hs, "Ready"); c.Status != "False" {
		t.Errorf("condition Ready is %+v, want False: nothing is known", c)
	}
	began := time.Now()
	ended := func() int { return strings.Count(g.srv.log.String(), "Store ended") }
	g.s.last(11 * time.Second)
	eventually(t, "the store has refused to start", func() error {
		if ended() == 0 {
			return fmt.Errorf("log: %s", tail(g.srv.log.String(), 1000))
		}
		return nil
	})
	g.s.check(t)
	wantPass(t, g.inj, "all is damaged", now)
	if n, took := ended(), time.Since(began); n > 2+int(took/(5*time.Second)) {
		t.Errorf("in %v the store was started %d times, want once in five seconds", took, n)
	}
	if !strings.Contains(g.srv.log.String(), "damaged") {
		t.Errorf("the server's log does not say what is wrong:\n%s", tail(g.srv.log.String(), 2000))
	}
	if _, err := g.srv.store.Get(bounded(t), gnpKey("early")); err == nil {
		t.Error("the damaged store is served")
	}

	g.srv.stop()
	if err := os.RemoveAll(data); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(g.srv.dir+"/backup", data); err != nil {
		t.Fatal(err)
	}
	g.srv.restart(t)
	g.agent.applied(t, g.srv.put(t, allowTCP("late", 7001)))
	now[7001] = true
	wantPass(t, g.inj, "the backup is back", now)
	g.s.burst(100)
	g.s.check(t)
	g.agent.until(t, "the new snapshot is good", func(hs *api.HostStatus) bool { return condition(hs, "SnapshotFresh").Status == "True" })
}
