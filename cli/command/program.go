// SPDX-License-Identifier: Apache-2.0

package command

import (
	"context"
	"fmt"
	"os"
	"os/exec"
)

// editor is the program that edit opens: $RIPSTOP_EDITOR, $VISUAL or $EDITOR,
// with arguments if it has any, else vi.
func editor() string {
	for _, name := range []string{"RIPSTOP_EDITOR", "VISUAL", "EDITOR"} {
		if e := os.Getenv(name); e != "" {
			return e
		}
	}
	return "vi"
}

// openEditor lets the user edit a file, on his terminal.
func (a *app) openEditor(ctx context.Context, path string) error {
	e := editor()
	// The shell takes arguments in the variable apart, as other programs do.
	cmd := exec.CommandContext(ctx, "/bin/sh", "-c", e+` "$1"`, "sh", path)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = a.In, a.Out, a.Err
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("editor %q: %w", e, err)
	}
	return nil
}
