// SPDX-License-Identifier: Apache-2.0

package command

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/ripstop/ripstop/daemon/api"
	"github.com/ripstop/ripstop/daemon/client"
	"github.com/ripstop/ripstop/daemon/policy"
)

// askFirst asks on a terminal, and refuses elsewhere, if the writes of a
// command would shut a way into a host: the user's own session, or SSH and the
// failsafe ports of any host as they are reached from this machine. The server
// judges it, by all resources.
func (a *app) askFirst(cmd *cobra.Command, c *client.Client, do func(c *client.Client) error) error {
	// That something cannot be written will be told when it is done; the rest is
	// written all the same.
	writes, _ := a.wouldWrite(c, do)
	st, err := a.lostWays(cmd, c, writes)
	switch {
	case err != nil:
		fmt.Fprintf(a.Err, "warning: whether this shuts a way into a host is not known: %v\n", err)
		return nil
	case st == nil:
		return nil
	case st.UnseenHosts > 0:
		fmt.Fprintf(a.Err, "warning: whether this shuts a way into %d more hosts is not known: it would take too long to find out\n", st.UnseenHosts)
	}
	if st.LostHosts == 0 {
		return nil
	}
	shut := shutWays(st)
	if !terminal(a.Err) || !terminal(a.In) {
		return fmt.Errorf("%s: nothing was written: %s\n  give --confirm 2m, so that it goes back unless you confirm it, or --yes", cmd.Name(), shut)
	}
	fmt.Fprintf(a.Err, "%s\nWith --confirm 2m it would go back unless you confirm it. Go on without? [y/N] ", upperFirst(shut))
	answer, err := bufio.NewReader(io.LimitReader(a.In, 100)).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	if answer = strings.ToLower(strings.TrimSpace(answer)); answer != "y" && answer != "yes" {
		return fmt.Errorf("%s: nothing was written", cmd.Name())
	}
	return nil
}

// wouldWrite are the writes that do would do. It says nothing.
func (a *app) wouldWrite(c *client.Client, do func(c *client.Client) error) ([]api.ChangeWrite, error) {
	collected := c.Collect()
	out, errs := a.Out, a.Err
	a.Out, a.Err = io.Discard, io.Discard
	err := do(collected)
	a.Out, a.Err = out, errs
	return collected.Collected(), err
}

// lostWays asks the server which ways writes shut; nil: none can be. Writes
// that would be refused shut none, and the others are asked about without them.
func (a *app) lostWays(cmd *cobra.Command, c *client.Client, writes []api.ChangeWrite) (*api.ChangeRequestStatus, error) {
	writes = slices.DeleteFunc(writes, func(w api.ChangeWrite) bool {
		return !slices.Contains(policy.Kinds(), w.Kind) || !api.Changeable(w.Kind)
	})
	spec := api.ChangeRequestSpec{DryRun: true}
	spec.ManagedFrom, spec.Operator = a.manager(cmd.Context())
	for len(writes) > 0 {
		spec.Writes = writes
		st, err := c.RequestChange(cmd.Context(), spec)
		if err == nil {
			return st, nil
		}
		bad := faulty(err)
		if len(bad) == 0 {
			return nil, err
		}
		var rest []api.ChangeWrite
		for i, w := range writes {
			if !bad[i] {
				rest = append(rest, w)
			}
		}
		writes = rest
	}
	return nil, nil
}

// shutsSession reports whether a change was refused because it would shut the
// user's own session.
func shutsSession(err error) bool {
	var st *client.StatusError
	return errors.As(err, &st) && st.Status.Details != nil &&
		slices.ContainsFunc(st.Status.Details.Causes, func(c api.StatusCause) bool { return c.Field == "spec.operator" })
}

// faulty are the indices of the writes for which a change was refused.
func faulty(err error) map[int]bool {
	var st *client.StatusError
	if !errors.As(err, &st) || st.Status.Details == nil {
		return nil
	}
	bad := map[int]bool{}
	for _, c := range st.Status.Details.Causes {
		text, is := strings.CutPrefix(c.Field, "spec.writes[")
		text, _, closed := strings.Cut(text, "]")
		if i, err := strconv.Atoi(text); is && closed && err == nil {
			bad[i] = true
		}
	}
	return bad
}

// mostManagers is how many addresses of this machine the server is asked about.
const mostManagers = 16

// manager is from where the user works on hosts: where his session comes from,
// and this machine; and his session.
func (a *app) manager(ctx context.Context) (from []string, op *api.Operator) {
	if s, ok := ownSession(); ok {
		op = &api.Operator{Client: s.client.String(), Server: s.server.String(), Host: a.thisHost(ctx)}
		from = append(from, s.client.Addr().String())
	}
	ifaces, err := interfaces()
	if err != nil {
		return from, op
	}
	for _, addrs := range ifaces {
		for _, addr := range addrs {
			if text := addr.WithZone("").String(); addr.IsGlobalUnicast() && !slices.Contains(from, text) {
				from = append(from, text)
			}
		}
	}
	slices.Sort(from)
	return from[:min(len(from), mostManagers)], op
}

// shutWays says in words which ways would be shut.
func shutWays(st *api.ChangeRequestStatus) string {
	var b strings.Builder
	fmt.Fprintf(&b, "this shuts the way into %d host", st.LostHosts)
	if st.LostHosts > 1 {
		b.WriteByte('s')
	}
	b.WriteByte(':')
	for _, w := range st.LostWays {
		fmt.Fprintf(&b, "\n  %s: tcp from %s to %s, denied %s", w.Host, w.From, w.To, w.Why)
	}
	if len(st.LostWays) == api.MaxLostWays {
		b.WriteString("\n  and perhaps more")
	}
	return b.String()
}

func upperFirst(s string) string { return strings.ToUpper(s[:1]) + s[1:] }
