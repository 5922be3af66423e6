// SPDX-License-Identifier: Apache-2.0

package audit

import (
	"bufio"
	"errors"
	"io"
)

// lines reads lines with bounded memory.
type lines struct{ r *bufio.Reader }

func newLines(r io.Reader) *lines { return &lines{bufio.NewReaderSize(r, 64<<10)} }

// next is the next line without its end. whole is false for what comes after
// the last end of line, if only nothing; then err is io.EOF. The line is the
// caller's.
func (l *lines) next() (line []byte, whole bool, err error) {
	for {
		part, err := l.r.ReadSlice('\n')
		line = append(line, part...)
		switch {
		case err == nil:
			return line[:len(line)-1], true, nil
		case !errors.Is(err, bufio.ErrBufferFull):
			return line, false, err
		case len(line) > MaxLine:
			return nil, false, errors.New("a line is longer than any that is written")
		}
	}
}
