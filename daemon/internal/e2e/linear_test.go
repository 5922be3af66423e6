// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/ripstop/ripstop/daemon/api"
	"github.com/ripstop/ripstop/daemon/audit"
	"github.com/ripstop/ripstop/daemon/client"
	"github.com/ripstop/ripstop/daemon/internal/store/mem"
	"github.com/ripstop/ripstop/daemon/store"
)

var (
	histories  = flag.Int("histories", 5, "how many histories are checked for linearizability")
	historyOps = flag.Int("history-ops", 2000, "how many operations a history has")
)

// op is what a client asks of one resource. Every write writes a value of its
// own, so a value names the write; a condition on a revision is one on the
// value that was read with it.
type op struct {
	kind   string // get, create, update or delete
	key    int
	expect string // the value of the revision that update and delete insist on
	value  string // what is written
}

// outcome is what came of it: for a get the value, "" if there is none.
type outcome struct {
	result string // done, refused (a condition did not hold) or unknown
	value  string
}

// registers is what the API promises for each resource: as if all operations
// came one after the other, each between its call and its answer. One whose
// outcome is not known may have its effect at any later time, or at the end,
// where nobody sees it: that is as good as never.
var registers = porcupine.Model{
	Partition: func(history []porcupine.Operation) [][]porcupine.Operation {
		var parts [][]porcupine.Operation
		at := map[int]int{}
		for _, o := range history {
			key := o.Input.(op).key
			if _, has := at[key]; !has {
				at[key] = len(parts)
				parts = append(parts, nil)
			}
			parts[at[key]] = append(parts[at[key]], o)
		}
		return parts
	},
	Init: func() any { return "" },
	Step: func(state, input, output any) (bool, any) {
		now, in, out := state.(string), input.(op), output.(outcome)
		if in.kind == "get" {
			return out.result == "unknown" || out.value == now, now
		}
		holds, next := now == in.expect, in.value // a create expects nothing, a delete leaves nothing
		switch {
		case out.result == "unknown" && holds:
			return true, next
		case out.result == "unknown":
			return true, now
		case out.result == "done":
			return holds, next
		default:
			return !holds, now
		}
	},
	DescribeOperation: func(input, output any) string { return fmt.Sprintf("%+v → %+v", input, output) },
}

// recording makes a history of operations of clients on stores until left, from
// which each takes one, is nothing.
func recording(ctx context.Context, stores []store.Store, left *atomic.Int64, r *rand.Rand) []porcupine.Operation {
	const keys = 12
	prefix := fmt.Sprintf("lin%x", r.Uint32())
	var mu sync.Mutex
	var history []porcupine.Operation
	began := time.Now()
	var wg sync.WaitGroup
	for c, s := range stores {
		r := rand.New(rand.NewPCG(r.Uint64(), uint64(c)))
		wg.Go(func() {
			type seen struct {
				value string
				rev   api.Revision
			}
			known := map[int]seen{} // by this client
			for i := 0; left.Add(-1) >= 0 && ctx.Err() == nil; i++ {
				key := r.IntN(keys)
				was, has := known[key]
				in := op{kind: "get", key: key}
				switch choice := r.IntN(10); {
				case choice < 3 || !has:
				case was.value == "":
					in.kind, in.value = "create", fmt.Sprintf("c%d-%d", c, i)
				case choice < 9:
					in.kind, in.expect, in.value = "update", was.value, fmt.Sprintf("c%d-%d", c, i)
				default:
					in.kind, in.expect = "delete", was.value
				}
				call := time.Since(began).Nanoseconds()
				out, rev := do(ctx, s, prefix, in, was.rev)
				done := time.Since(began).Nanoseconds()
				switch {
				case out.result == "unknown":
					done = math.MaxInt64
					delete(known, key)
				case in.kind == "get":
					known[key] = seen{out.value, rev}
				case out.result == "done":
					known[key] = seen{in.value, rev}
				default:
					delete(known, key)
				}
				mu.Lock()
				history = append(history, porcupine.Operation{ClientId: c, Input: in, Call: call, Output: out, Return: done})
				mu.Unlock()
				if out.result == "unknown" {
					select {
					case <-ctx.Done():
					case <-time.After(50 * time.Millisecond):
					}
				}
			}
		})
	}
	wg.Wait()
	return history
}

// do does one operation. rev is the revision of what is expected; the one that
// comes back is that of what is there now.
func do(ctx context.Context, s store.Store, prefix string, in op, rev api.Revision) (outcome, api.Revision) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	o := &api.GlobalNetworkSet{TypeMeta: api.TypeMeta{Kind: api.KindGlobalNetworkSet, APIVersion: api.VersionCalico},
		Meta: api.Meta{Name: fmt.Sprintf("%s-%d", prefix, in.key), Labels: map[string]string{"value": in.value}}}
	var err error
	switch in.kind {
	case "get":
		got, gerr := s.Get(ctx, o.Key())
		if errors.Is(gerr, store.ErrNotFound) {
			return outcome{"done", ""}, 0
		}
		if gerr != nil {
			return outcome{"unknown", ""}, 0
		}
		n, perr := strconv.ParseInt(got.Metadata().ResourceVersion, 10, 64)
		if perr != nil {
			panic(perr)
		}
		return outcome{"done", got.Metadata().Labels["value"]}, api.Revision(n)
	case "create":
		rev, err = s.Put(ctx, o, store.Absent())
	case "update":
		rev, err = s.Put(ctx, o, store.At(rev))
	case "delete":
		err, rev = s.Delete(ctx, o.Key(), store.At(rev)), 0
	}
	switch {
	case err == nil:
		return outcome{"done", ""}, rev
	case errors.Is(err, store.ErrExists), errors.Is(err, store.ErrConflict), errors.Is(err, store.ErrNotFound):
		return outcome{"refused", ""}, 0
	}
	return outcome{"unknown", ""}, 0
}

// judge checks a history and says what is in it.
func judge(history []porcupine.Operation) (porcupine.CheckResult, string) {
	began := time.Now()
	result := porcupine.CheckOperationsTimeout(registers, history, time.Minute)
	count := map[string]int{}
	for _, o := range history {
		count[o.Input.(op).kind+" "+o.Output.(outcome).result]++
	}
	var words []string
	for k, n := range count {
		words = append(words, fmt.Sprintf("%s %d", k, n))
	}
	slices.Sort(words)
	return result, fmt.Sprintf("%s; checked in %v", strings.Join(words, ", "), time.Since(began).Round(time.Millisecond))
}

// TestAPI_IsLinearizableWhileEtcdIsKilled records what ten clients see of
// twelve resources while etcd is killed and started again under them.
func TestAPI_IsLinearizableWhileEtcdIsKilled(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	r := rand.New(rand.NewPCG(seed, 0))
	srv := startServer(t)
	var stores []store.Store
	for range 10 {
		c, err := client.New(client.Config{Server: srv.socket()})
		if err != nil {
			t.Fatal(err)
		}
		stores = append(stores, c)
	}
	kills := 0
	var acknowledged []string // values
	for n := range *histories {
		var left atomic.Int64
		left.Store(int64(*historyOps))
		done := make(chan []porcupine.Operation, 1)
		go func() { done <- recording(t.Context(), stores, &left, rand.New(rand.NewPCG(seed, uint64(n)+1))) }()
		var history []porcupine.Operation
		for next := int64(*historyOps); history == nil; {
			if next == int64(*historyOps) {
				next -= 100 + r.Int64N(1000)
			}
			select {
			case history = <-done:
				continue
			case <-time.After(time.Millisecond):
			}
			if left.Load() > next {
				continue
			}
			next -= 500 + r.Int64N(1000)
			// Etcd that dies soon after its start is not started again at once,
			// so the server goes with it and begins anew.
			for _, pid := range srv.children(t) {
				if syscall.Kill(pid, syscall.SIGKILL) == nil {
					kills++
				}
			}
			srv.kill()
			srv.run(t)
		}
		for _, o := range history {
			if in := o.Input.(op); in.value != "" && o.Output.(outcome).result == "done" {
				acknowledged = append(acknowledged, in.value)
			}
		}
		result, words := judge(history)
		if result != porcupine.Ok {
			t.Errorf("history %d: %s: %s", n, result, words)
		}
		if n < 5 {
			t.Logf("history %d: %s", n, words)
		}
		srv.ready(t)
	}
	t.Logf("%d histories of %d operations, %d kills of etcd, seed %d", *histories, *historyOps, kills, seed)
	if kills == 0 {
		t.Error("etcd was never killed")
	}
	srv.stop()
	checkRecord(t, srv, acknowledged)
}

// checkRecord verifies the audit log that a server left that was killed again
// and again, and that no acknowledged write is missing in it.
func checkRecord(t *testing.T, srv *server, acknowledged []string) {
	t.Helper()
	dir := srv.dir + "/state/audit"
	out, err := srv.cli(t, "audit", "verify", "--dir", dir)
	if err != nil {
		t.Errorf("ripstop audit verify: %v: %s", err, out)
	}
	lines, err := srv.cli(t, "audit", "--dir", dir, "--kind", "globalnetworkset", "-o", "json")
	if err != nil {
		t.Fatalf("ripstop audit: %v", err)
	}
	intended := map[string]bool{}
	for line := range strings.Lines(lines) {
		r, err := audit.Parse([]byte(strings.TrimSpace(line)))
		if err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		var o api.GlobalNetworkSet
		if r.After != nil {
			if err := json.Unmarshal(r.After, &o); err != nil {
				t.Fatal(err)
			}
			intended[o.Labels["value"]] = true
		}
	}
	missing := 0
	for _, v := range acknowledged {
		if !intended[v] {
			missing++
		}
	}
	t.Logf("%s; %d of %d acknowledged writes are missing in the record", out, missing, len(acknowledged))
	if missing > 0 {
		t.Error("acknowledged writes are missing in the record")
	}
}

// liar is a Store with a fault.
type liar struct {
	store.Store
	fault string
	mu    sync.Mutex // guards what follows
	old   map[api.Key]api.Object
	n     int
}

func (l *liar) now(every int) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.n++
	return l.n%every == 0
}

func (l *liar) Get(ctx context.Context, k api.Key) (api.Object, error) {
	o, err := l.Store.Get(ctx, k)
	if l.fault != "stale read" || err != nil {
		return o, err
	}
	stale := l.now(30)
	l.mu.Lock()
	defer l.mu.Unlock()
	if before := l.old[k]; stale && before != nil {
		return before, nil
	}
	l.old[k] = o
	return o, nil
}

func (l *liar) Put(ctx context.Context, o api.Object, cond store.If) (api.Revision, error) {
	if l.fault == "lost update" && l.now(30) {
		cond = store.Always()
	}
	if l.fault == "write that is not done" && l.now(30) {
		return 1 << 40, nil
	}
	return l.Store.Put(ctx, o, cond)
}

// TestLinearizability_CheckerFindsPlantedFaults: a checker that says yes to
// everything proves nothing.
func TestLinearizability_CheckerFindsPlantedFaults(t *testing.T) {
	for _, c := range []struct {
		fault string
		want  porcupine.CheckResult
	}{{"none", porcupine.Ok}, {"stale read", porcupine.Illegal}, {"lost update", porcupine.Illegal}, {"write that is not done", porcupine.Illegal}} {
		t.Run(c.fault, func(t *testing.T) {
			m := mem.New(mem.Config{})
			if err := store.Initialise(t.Context(), m); err != nil {
				t.Fatal(err)
			}
			l := &liar{Store: m, fault: c.fault, old: map[api.Key]api.Object{}}
			stores := make([]store.Store, 10)
			for i := range stores {
				stores[i] = l
			}
			var left atomic.Int64
			left.Store(2000)
			history := recording(t.Context(), stores, &left, rand.New(rand.NewPCG(1, 2)))
			if result, words := judge(history); result != c.want {
				t.Errorf("%s, want %s: %s", result, c.want, words)
			}
		})
	}
}
