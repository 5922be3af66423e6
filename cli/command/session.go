// SPDX-License-Identifier: Apache-2.0

package command

import (
	"bytes"
	"context"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/ripstop/ripstop/daemon/policy"
)

// session is the SSH connection over which the user works on this machine.
type session struct {
	client, server netip.AddrPort
	// iface is where it comes in if the addresses say; empty: they do not.
	iface string
}

// ownSession is the session that sshd tells to the programs it starts, in
// SSH_CONNECTION; sudo and su take it away, so the environments of the
// programs above this one are asked, too, unless it is there and empty. It is
// false if there is none.
func ownSession() (session, bool) {
	if text, found := os.LookupEnv("SSH_CONNECTION"); found {
		return parseSession(text)
	}
	const deepest = 64 // programs above; a chain is shorter
	for pid, n := os.Getppid(), 0; pid > 1 && n < deepest; n++ {
		env, _ := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid)) // of others' programs it may be kept from us
		for v := range bytes.SplitSeq(env, []byte{0}) {
			if text, found := bytes.CutPrefix(v, []byte("SSH_CONNECTION=")); found {
				return parseSession(string(text))
			}
		}
		pid = parentOf(pid)
	}
	return session{}, false
}

// parentOf is the program that started another; 0: it is not known. See
// proc_pid_stat(5): the name stands in brackets and may have any character.
func parentOf(pid int) int {
	stat, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	if len(fields) < 2 {
		return 0
	}
	parent, _ := strconv.Atoi(fields[1])
	return parent
}

// parseSession reads SSH_CONNECTION, see ssh(1): the client's address and
// port, then the server's.
func parseSession(text string) (s session, ok bool) {
	f := strings.Fields(text)
	if len(f) != 4 {
		return session{}, false
	}
	end := func(addr, port string) netip.AddrPort {
		a, err := netip.ParseAddr(addr)
		p, errPort := strconv.ParseUint(port, 10, 16)
		if err != nil || errPort != nil {
			return netip.AddrPort{}
		}
		if a.Zone() != "" {
			s.iface = a.Zone()
		}
		return netip.AddrPortFrom(a.WithZone("").Unmap(), uint16(p))
	}
	s.client, s.server = end(f[0], f[1]), end(f[2], f[3])
	return s, s.client.IsValid() && s.server.IsValid() && s.client.Addr().Is4() == s.server.Addr().Is4()
}

// warnOfSession says on standard error if the user's own session passes now and
// would be denied then. Nothing is said without a session. What keeps it from
// being judged is a warning.
func (a *app) warnOfSession(ctx context.Context, now, then *policy.World) {
	s, ok := ownSession()
	if !ok {
		return
	}
	losses, err := a.sessionLosses(ctx, s, now, then)
	switch {
	case err != nil:
		fmt.Fprintf(a.Err, "warning: whether your own SSH session stays allowed is not known: %v\n", err)
	case len(losses) > 0:
		d := losses[0].Decision
		fmt.Fprintf(a.Err, "warning: your own SSH session (%s to %s) would be denied, %s\n",
			s.client, s.server, strings.TrimPrefix(d.String(), "verdict: denied, "))
	}
}

// sessionLosses judges the session now and then.
func (a *app) sessionLosses(ctx context.Context, s session, now, then *policy.World) ([]policy.Loss, error) {
	known := a.known(ctx)
	if known.ThisHost == "" {
		return nil, fmt.Errorf("this machine has no name")
	}
	for _, addrs := range known.Hosts[known.ThisHost].Interfaces {
		if slices.Contains(addrs, s.client.Addr()) {
			return nil, nil // from this machine to itself: it passes no endpoint's interface
		}
	}
	// What is written may be the first to name this host: then it is what
	// knows the ways in.
	answer, err := then.Explain(policy.Query{
		Protocol: 6, From: policy.Place{Addr: s.client.Addr()}, SourcePort: s.client.Port(),
		To: policy.Place{Host: known.ThisHost, At: s.server.Addr(), Port: s.server.Port(), Via: s.iface},
	}, known)
	if err != nil {
		return nil, err
	}
	var flows []policy.Flow
	for _, c := range answer.Cases {
		for _, h := range c.Hops {
			flows = append(flows, h.Flow)
		}
	}
	return policy.Losses(now, then, flows), nil
}
