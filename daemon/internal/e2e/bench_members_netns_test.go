// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/ripstop/ripstop/daemon/api"
	"github.com/ripstop/ripstop/daemon/internal/netnstest"
	"github.com/ripstop/ripstop/daemon/store"
)

// membersPort is what the members of the sets are let in to.
const membersPort = 3000

// setMembers is how many members one set has; a rule's selector takes in all
// the sets.
const setMembers = 1000

// memberSet has setMembers members, as many of IPv4 as of IPv6: nine of ten
// are addresses, the others prefixes. The sender of the probes is one more if
// with is set.
func memberSet(i int, with bool) *api.GlobalNetworkSet {
	s := &api.GlobalNetworkSet{
		TypeMeta: api.TypeMeta{Kind: api.KindGlobalNetworkSet, APIVersion: api.VersionCalico},
		Meta:     api.Meta{Name: fmt.Sprintf("members-%04d", i), Labels: map[string]string{"members": "yes"}},
	}
	for m := range setMembers / 2 {
		n := i*setMembers/2 + m
		four, six := fmt.Sprintf("172.%d.%d.%d/32", 16+n>>16, n>>8&255, n&255), fmt.Sprintf("fd70::%x:%x/128", n>>16, n&0xffff)
		if m%10 == 0 {
			four, six = fmt.Sprintf("10.%d.%d.%d/28", 64+n>>12, n>>4&255, n<<4&255), fmt.Sprintf("fd71:%x:%x::/48", n>>16, n&0xffff)
		}
		s.Spec.Nets = append(s.Spec.Nets, four, six)
	}
	if with {
		s.Spec.Nets = append(s.Spec.Nets, "10.1.0.7/32", "fd01::7/128")
	}
	s.Default()
	return s
}

// BenchmarkNetnsMember times, on each packet filter, how long it takes from the
// write of a set, through the REST API, to the first packet that fares as it
// says, when one member comes to all those that a rule's selector takes in, and
// when it goes; and the processor time that the agent takes for one.
func BenchmarkNetnsMember(b *testing.B) {
	const name = "From the write of a member to the first packet that obeys"
	sets := max(1, *benchMembers/setMembers)
	kase := fmt.Sprintf("%d members in %d sets", sets*setMembers, sets)
	onFilters(b, func(b *testing.B) {
		inj := netnstest.NewInjector(b, netnstest.InjectorConfig{})
		srv := startServer(b)
		policy := probePolicy(membersPort)
		policy.Spec.Ingress[0].Source.Selector = "members == 'yes'"
		objs := append(size{hosts: 1}.objects(), policy)
		for i := range sets {
			objs = append(objs, memberSet(i, false))
		}
		rev := srv.seed(b, objs)
		for b.Loop() {
			a := startAgent(b, inj.NS, srv.etcd(), onFilter(inj)...)
			a.applied(b, rev)
			a.live(b)
			p := &prober{inj: inj}
			var took [2][]time.Duration // gone, come
			spent := processorTime(b, a.cmd.Process.Pid)
			for n := range *benchWrites {
				with := n%2 == 0
				began := time.Now()
				var wg sync.WaitGroup
				wg.Go(func() {
					ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
					defer cancel()
					if _, err := srv.store.Put(ctx, memberSet(sets/2, with), store.Always()); err != nil {
						b.Errorf("writing a set: %v", err)
					}
				})
				p.until(b, membersPort, with)
				i := 0
				if with {
					i = 1
				}
				took[i] = append(took[i], time.Since(began))
				wg.Wait()
				if n%20 == 0 {
					inj.FlushConntrack()
				}
			}
			spent = processorTime(b, a.cmd.Process.Pid) - spent
			for i, what := range []string{"gone", "come"} {
				note(b, name, kase, what+" p50", "ms", ms(percentile(took[i], 50)))
				note(b, name, kase, what+" p99", "ms", ms(percentile(took[i], 99)))
			}
			note(b, name, kase, "ripstopd CPU a change", "ms", ms(spent)/float64(*benchWrites))
			time.Sleep(*benchSettle)
			now, _ := memory(b, a.cmd.Process.Pid)
			note(b, name, kase, "ripstopd", "MB", now)
			a.stop()
		}
	})
	table(b, name)
}
