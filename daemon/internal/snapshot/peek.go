// SPDX-License-Identifier: Apache-2.0

package snapshot

import "errors"

// Peek is Load that changes nothing on disk: a damaged file stays where it is.
func Peek(cfg Config) (Loaded, error) {
	cfg = cfg.withDefaults()
	l, err := load(cfg, fileLast)
	if err == nil {
		return l, nil
	}
	before, errBefore := load(cfg, fileBefore)
	if errBefore == nil {
		return before, nil
	}
	return Loaded{}, errors.Join(err, errBefore)
}
