// SPDX-License-Identifier: Apache-2.0

package command

import (
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"github.com/spf13/cobra"

	"github.com/ripstop/ripstop/daemon/api"
)

// stepBack makes the agent on this machine go back before the last change that
// reached it.
func (a *app) stepBack(cmd *cobra.Command) error {
	data, err := a.askAgent(cmd.Context(), http.MethodPost, "/stepback")
	if err != nil {
		return err
	}
	var s api.SteppedBack
	if err := json.Unmarshal(data, &s); err != nil {
		return fmt.Errorf("agent %s: rollback: %w", a.cfg.Agent, err)
	}
	fmt.Fprintf(a.Out, "This machine enforces what was before %s of %d resources:\n", s.Before.UTC().Format(time.RFC3339), s.Count)
	for _, r := range s.Resources {
		fmt.Fprintf(a.Out, "  %s\n", r)
	}
	if n := s.Count - len(s.Resources); n > 0 {
		fmt.Fprintf(a.Out, "  and %d more\n", n)
	}
	fmt.Fprintf(a.Out, "The datastore is as it was. It can go back by %d more changes; ripstop rollback --here --undo ends it.\n", s.Left)
	return nil
}

// stepForward makes it enforce what the datastore has again.
func (a *app) stepForward(cmd *cobra.Command) error {
	data, err := a.askAgent(cmd.Context(), http.MethodPost, "/stepback/undo")
	if err != nil {
		return err
	}
	var answer struct {
		SteppedBack bool `json:"steppedBack"`
	}
	if err := json.Unmarshal(data, &answer); err != nil {
		return fmt.Errorf("agent %s: rollback: %w", a.cfg.Agent, err)
	}
	if !answer.SteppedBack {
		fmt.Fprintln(a.Out, "This machine had not gone back.")
		return nil
	}
	fmt.Fprintln(a.Out, "This machine enforces what the datastore has.")
	return nil
}
