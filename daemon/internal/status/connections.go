// SPDX-License-Identifier: Apache-2.0

package status

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net/http"
	"sync"

	"github.com/ripstop/ripstop/daemon/api"
)

// mostConnections is how many connections an answer has.
const mostConnections = 100_000

// connections answers with an api.Connections, written piece by piece: all of
// it would take 50 MB of the agent's memory. One is answered at a time, as the
// kernel goes through its whole table for each. An answer that cannot be ended
// is no JSON.
func connections(look Connections) http.HandlerFunc {
	var one sync.Mutex
	return func(w http.ResponseWriter, r *http.Request) {
		if !one.TryLock() {
			http.Error(w, "connections are being listed for somebody else", http.StatusServiceUnavailable)
			return
		}
		defer one.Unlock()
		out := bufio.NewWriter(w)
		begun, n := false, 0
		begin := func(c api.Connections) error {
			host, err := json.Marshal(c.Host)
			if err != nil {
				return err
			}
			interfaces, err := json.Marshal(c.Interfaces)
			if err != nil {
				return err
			}
			begun = true
			w.Header().Set("Content-Type", "application/json")
			_, err = fmt.Fprintf(out, "{\"host\": %s,\n\"interfaces\": %s,\n\"connections\": [", host, interfaces)
			return err
		}
		visit := func(c api.Connection) error {
			b, err := json.Marshal(c)
			if err != nil {
				return err
			}
			between := ",\n"
			if n == 0 {
				between = "\n"
			}
			n++
			_, err = fmt.Fprintf(out, "%s%s", between, b)
			return err
		}
		more, err := look(r.Context(), mostConnections, begin, visit)
		switch {
		case err != nil && !begun:
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		case err != nil:
			return
		}
		fmt.Fprintf(out, "],\n\"more\": %d}\n", more)
		out.Flush()
	}
}
