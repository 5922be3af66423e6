// SPDX-License-Identifier: Apache-2.0

package command

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"

	"github.com/ripstop/ripstop/daemon/api"
	"github.com/ripstop/ripstop/daemon/client"
	"github.com/ripstop/ripstop/daemon/impact"
	"github.com/ripstop/ripstop/daemon/policy"
)

// tellImpact says on standard output what it would mean if objects were written
// as wanted and others were gone: who gains and who loses access, and which
// connections of this host would be cut; and on standard error if the user's
// own session were denied. What keeps it from being told is a warning, not an
// error: what was asked for is done.
func (a *app) tellImpact(ctx context.Context, c *client.Client, wanted []api.Object, gone []api.Key) {
	matters := func(k api.Key) bool { return slices.Contains(policy.Kinds(), k.Kind) }
	if !slices.ContainsFunc(wanted, func(o api.Object) bool { return matters(o.Key()) }) && !slices.ContainsFunc(gone, matters) {
		return
	}
	live, err := a.listJudged(ctx, c)
	if err != nil {
		fmt.Fprintf(a.Err, "warning: who gains and who loses access is not known: %v\n", err)
		return
	}
	then := map[api.Key]api.Object{}
	for _, o := range append(slices.Clone(live), wanted...) {
		then[o.Key()] = o
	}
	for _, k := range gone {
		delete(then, k)
	}
	after := slices.Collect(maps.Values(then))
	is := impact.Picture{Objects: live, World: policy.NewWorld(live, policy.OptionsOf(live))}
	would := impact.Picture{Objects: after, World: policy.NewWorld(after, policy.OptionsOf(after))}
	report := impact.Of(is, would)
	for _, line := range report.Lines() {
		fmt.Fprintln(a.Out, line)
	}
	connections, err := a.connections(ctx)
	cut := impact.Cut(is, would, connections)
	switch {
	case len(cut) == 0 && report.Nothing(): // and so none can be
	case err != nil:
		fmt.Fprintf(a.Out, "would cut: it is not known which connections of this host: %v\n", err)
	default:
		fmt.Fprintln(a.Out, impact.CutLine(cut, connections.More))
	}
	a.warnOfSession(ctx, is.World, would.World)
}

// connections asks the agent what the kernel of this machine tracks.
func (a *app) connections(ctx context.Context) (api.Connections, error) {
	data, err := a.askAgent(ctx, http.MethodGet, "/connections")
	if err != nil {
		return api.Connections{}, err
	}
	var list api.Connections
	if err := json.Unmarshal(data, &list); err != nil {
		return api.Connections{}, fmt.Errorf("agent %s: connections: %w", a.cfg.Agent, err)
	}
	return list, nil
}
