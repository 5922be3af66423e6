// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/ripstop/ripstop/daemon/api"
)

// continueToken says where a limited list goes on: after this key, as things
// were at this revision. Clients hand it back unread. It grants nothing, so it
// is not signed: whoever forges one reads what they may read anyway.
type continueToken struct {
	Revision  api.Revision
	Namespace string
	Name      string
}

var errToken = errors.New("continue token is damaged: start the list again without it")

// String is the token as it goes over the wire.
func (t continueToken) String() string {
	text := "1|" + strconv.FormatInt(int64(t.Revision), 10) + "|" + t.Namespace + "|" + t.Name
	return base64.RawURLEncoding.EncodeToString([]byte(text))
}

// parseContinue reads a token back. It accepts exactly what String writes.
func parseContinue(s string) (continueToken, error) {
	if len(s) > 2048 {
		return continueToken{}, fmt.Errorf("%w (%d bytes)", errToken, len(s))
	}
	raw, err := base64.RawURLEncoding.Strict().DecodeString(s)
	if err != nil {
		return continueToken{}, errToken
	}
	parts := strings.Split(string(raw), "|")
	if len(parts) != 4 || parts[0] != "1" {
		return continueToken{}, errToken
	}
	rev, err := strconv.ParseInt(parts[1], 10, 64)
	if err != nil || rev <= 0 || strconv.FormatInt(rev, 10) != parts[1] {
		return continueToken{}, errToken
	}
	if parts[2] != "" && !isDNSName(parts[2]) || !isDNSName(parts[3]) {
		return continueToken{}, errToken
	}
	return continueToken{Revision: api.Revision(rev), Namespace: parts[2], Name: parts[3]}, nil
}
