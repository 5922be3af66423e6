// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"context"
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/ripstop/ripstop/daemon/api"
	"github.com/ripstop/ripstop/daemon/policy"
	"github.com/ripstop/ripstop/daemon/store"
)

// waysTime bounds how long the ways into hosts are looked at for one request.
const waysTime = 3 * time.Second

// maxManagers is how many addresses of a manager are looked at.
const maxManagers = 16

// lostWays says in the answer which ways into hosts the staged writes shut. A
// change that shuts the operator's own session is refused: every host would go
// back from it at once.
// Whoever may write may know: it names no object that he has not named but
// hosts, and what of it denies.
func (s *Server) lostWays(ctx context.Context, req *api.ChangeRequest, st *staged) error {
	m, err := manager(req.Spec)
	if err != nil {
		return err
	}
	if len(m.Addresses) == 0 && m.Session == nil || !slices.ContainsFunc(st.writes, func(w *stagedWrite) bool { return slices.Contains(policy.Kinds(), w.key.Kind) }) {
		return nil
	}
	before, err := world(ctx, st.Store)
	if err != nil {
		return err
	}
	after, err := world(ctx, st)
	if err != nil {
		return err
	}
	end := time.Now().Add(waysTime)
	lost, left := policy.LostWays(before, after, m, func() bool { return time.Now().Before(end) && ctx.Err() == nil })
	req.Status.UnseenHosts = left
	hosts := map[string]bool{}
	for _, l := range lost {
		if l.Session && !req.Spec.DryRun {
			st := failure(http.StatusUnprocessableEntity, api.ReasonInvalid, "your own session, from %s to %s at host %s, would be denied, %s",
				req.Spec.Operator.Client, req.Spec.Operator.Server, l.Host, why(l))
			st.Details = &api.StatusDetails{Causes: []api.StatusCause{{Field: "spec.operator", Message: st.Message}}}
			return st
		}
		hosts[l.Host] = true
		if len(req.Status.LostWays) < api.MaxLostWays {
			f := l.Flow
			to := netip.AddrPortFrom(f.Destination, f.DestinationPort).String()
			if f.Destination.IsUnspecified() {
				to = fmt.Sprintf(":%d", f.DestinationPort) // no address of the host is known
			}
			req.Status.LostWays = append(req.Status.LostWays, api.LostWay{
				Host: l.Host, From: f.Source.String(), To: to,
				Why: why(l),
			})
		}
	}
	req.Status.LostHosts = len(hosts)
	return nil
}

// why says what denies a way.
func why(l policy.LostWay) string {
	return strings.TrimPrefix(l.Decision.String(), "verdict: denied, ")
}

// world is the picture of a store.
func world(ctx context.Context, s store.Store) (*policy.World, error) {
	var all []api.Object
	for _, k := range policy.Kinds() {
		objs, _, err := s.List(ctx, k, store.ListOptions{})
		if err != nil {
			return nil, err
		}
		all = append(all, objs...)
		if made := builtinOf[k]; made != nil && !slices.ContainsFunc(objs, func(o api.Object) bool { return o.Key() == made().Key() }) {
			all = append(all, made())
		}
	}
	return policy.NewWorld(all, policy.OptionsOf(all)), nil
}

// manager reads from where somebody works on the hosts.
func manager(spec api.ChangeRequestSpec) (m policy.Manager, err error) {
	if len(spec.ManagedFrom) > maxManagers {
		return m, failure(http.StatusUnprocessableEntity, api.ReasonInvalid, "spec.managedFrom: %d addresses; at most %d are looked at", len(spec.ManagedFrom), maxManagers)
	}
	for i, text := range spec.ManagedFrom {
		a, err := netip.ParseAddr(text)
		if err != nil {
			return m, failure(http.StatusUnprocessableEntity, api.ReasonInvalid, "spec.managedFrom[%d]: %q is not an address", i, text)
		}
		m.Addresses = append(m.Addresses, a)
	}
	if o := spec.Operator; o != nil {
		client, errClient := netip.ParseAddrPort(o.Client)
		server, errServer := netip.ParseAddrPort(o.Server)
		if errClient != nil || errServer != nil {
			return m, failure(http.StatusUnprocessableEntity, api.ReasonInvalid, "spec.operator: client %q and server %q: want ADDRESS:PORT, of IPv6 [ADDRESS]:PORT", o.Client, o.Server)
		}
		m.Session = &policy.Session{Client: client, Server: server, Host: o.Host}
	}
	return m, nil
}
