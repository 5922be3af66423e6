// SPDX-License-Identifier: Apache-2.0

package policy

import "github.com/ripstop/ripstop/daemon/api"

// EntityText is one side of a rule in words, as explain says it: "role ==
// 'web' and port 80"; empty: anything.
func EntityText(e api.EntityRule) string { return entityText(e) }
