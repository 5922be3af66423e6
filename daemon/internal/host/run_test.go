// SPDX-License-Identifier: Apache-2.0

package host

import (
	"context"
	"errors"
	"os/exec"
	"strings"
	"testing"
	"time"
)

func TestRun_GivesInputAndTakesOutput(t *testing.T) {
	out, err := RealRunner{}.Run(t.Context(), Cmd{Path: "tr", Args: []string{"a-z", "A-Z"}, Stdin: []byte("words")})
	if err != nil || string(out) != "WORDS" {
		t.Errorf("Run(tr) = %q, %v, want WORDS", out, err)
	}
}

func TestRun_FailureTellsCodeAndWords(t *testing.T) {
	_, err := RealRunner{}.Run(t.Context(), Cmd{Path: "sh", Args: []string{"-c", "echo no >&2; exit 4"}})
	var exit *ExitError
	if !errors.As(err, &exit) || exit.Code != 4 || exit.Stderr != "no\n" || err.Error() != "sh: exit code 4: no" {
		t.Errorf("Run(sh) = %v, want exit code 4 and its words", err)
	}
}

func TestRun_OfAMissingProgramSaysSo(t *testing.T) {
	if _, err := (RealRunner{}).Run(t.Context(), Cmd{Path: "no-such-program"}); !errors.Is(err, exec.ErrNotFound) {
		t.Errorf("Run(no-such-program) = %v, want exec.ErrNotFound", err)
	}
}

func TestRun_EndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err := RealRunner{}.Run(ctx, Cmd{Path: "sleep", Args: []string{"60"}})
	if !errors.Is(err, context.DeadlineExceeded) || !strings.HasPrefix(err.Error(), "sleep: ") {
		t.Errorf("Run(sleep) = %v, want the context's error", err)
	}
}
