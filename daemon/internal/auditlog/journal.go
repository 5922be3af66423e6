// SPDX-License-Identifier: Apache-2.0

package auditlog

import (
	"fmt"
	"strings"
	"time"

	"github.com/coreos/go-systemd/v22/journal"

	"github.com/ripstop/ripstop/daemon/audit"
)

// journalled is a line on its way to the journal.
type journalled struct {
	record *audit.Record
	line   []byte
}

// tell hands a line to the journal's goroutine, if there is one and it keeps
// up.
func (l *Log) tell(r *audit.Record, line []byte) {
	if l.journal == nil {
		return
	}
	select {
	case l.journal <- journalled{r, line}:
	default:
		l.left++
	}
}

// tellJournal hands lines on until the log is closed; what is waiting then is
// handed on first.
func (l *Log) tellJournal() {
	var said time.Time
	send := func(j journalled) {
		err := l.cfg.Journal(j.record, j.line)
		l.mu.Lock()
		if err != nil {
			l.left++
		}
		left := l.left
		if left > 0 && time.Since(said) > time.Minute {
			l.left = 0
		} else {
			left = 0
		}
		l.mu.Unlock()
		if left > 0 {
			said = time.Now()
			l.log.Warn("Audit lines are missing in the journal, not in the log", "lines", left, "err", err)
		}
	}
	for {
		select {
		case j := <-l.journal:
			send(j)
		case <-l.done:
			for {
				select {
				case j := <-l.journal:
					send(j)
				default:
					return
				}
			}
		}
	}
}

// ToJournald is a Config.Journal that writes to systemd's journal: a sentence
// as message, and number, hash and line as fields, so that the journal is a
// witness of the chain, under the name that identifier gives it
// (SYSLOG_IDENTIFIER): each chain of a machine has one of its own. It is nil
// where no journal runs.
func ToJournald(identifier string) func(*audit.Record, []byte) error {
	if !journal.Enabled() {
		return nil
	}
	return func(r *audit.Record, line []byte) error {
		return journal.Send(sentence(r), journal.PriInfo, map[string]string{
			"SYSLOG_IDENTIFIER":      identifier,
			"RIPSTOP_AUDIT_SEQ":      fmt.Sprint(r.Seq),
			"RIPSTOP_AUDIT_HASH":     audit.Hash(line),
			"RIPSTOP_AUDIT_STAGE":    string(r.Stage),
			"RIPSTOP_AUDIT_REQUEST":  r.Request,
			"RIPSTOP_AUDIT_RESOURCE": r.Resource,
		})
	}
}

// sentence is a record in words.
func sentence(r *audit.Record) string {
	words := []string{"audit", fmt.Sprintf("%d:", r.Seq), string(r.Stage)}
	for _, w := range []string{r.Verb, r.Resource, r.Namespace, r.Name, r.Path} {
		if w != "" {
			words = append(words, w)
		}
	}
	if r.Who != nil {
		words = append(words, "by", fmt.Sprintf("%q", r.Who.User), "from", r.Who.From)
	}
	if r.Code != 0 {
		words = append(words, fmt.Sprintf("(%d)", r.Code))
	}
	return strings.Join(words, " ")
}
