// SPDX-License-Identifier: Apache-2.0

package selector

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// SyntaxError says where and why a text is not a selector.
type SyntaxError struct {
	// Input is the whole text.
	Input string
	// Offset is where the fault is, in bytes from the start; len(Input) if
	// something is missing at the end.
	Offset int
	// Message says what is wrong and, where it can be guessed, what was
	// meant.
	Message string
}

// Error is one line: the text (shortened around the fault if it is long), the
// position counted in characters from 1, the message.
func (e *SyntaxError) Error() string {
	const around = 40
	from, to := 0, len(e.Input)
	var before, after string
	if e.Offset > 2*around {
		from, before = e.Offset-around, "..."
		for from < e.Offset && !utf8.RuneStart(e.Input[from]) {
			from++
		}
	}
	if to > e.Offset+2*around {
		to, after = e.Offset+around, "..."
		for to > e.Offset && !utf8.RuneStart(e.Input[to]) {
			to--
		}
	}
	return fmt.Sprintf("selector %s%q%s: character %d: %s", before, e.Input[from:to], after,
		utf8.RuneCountInString(e.Input[:e.Offset])+1, e.Message)
}

func (p *parser) errorAt(offset int, format string, args ...any) error {
	return &SyntaxError{Input: p.in, Offset: offset, Message: fmt.Sprintf(format, args...)}
}

func (p *parser) errorHere(format string, args ...any) error {
	return p.errorAt(p.pos, format, args...)
}

const operators = "==, !=, in, not in, contains, starts with, ends with"

// here describes what stands at the position.
func (p *parser) here() string {
	if p.end() {
		return "the end"
	}
	if isLabelChar(p.peek()) {
		q := *p
		return fmt.Sprintf("%.40q", q.word())
	}
	_, n := utf8.DecodeRuneInString(p.in[p.pos:])
	return fmt.Sprintf("%q", p.in[p.pos:p.pos+n])
}

// strange catches characters that are never right outside of quotes; nil if
// there is none here.
func (p *parser) strange() error {
	if p.end() {
		return nil
	}
	r, _ := utf8.DecodeRuneInString(p.in[p.pos:])
	switch {
	case r == '\u201c' || r == '\u201d' || r == '\u2018' || r == '\u2019' || r == '`' || r == '\u00b4':
		return p.errorHere("%c is not a quotation mark here; use \" or '", r)
	case r == '\n' || r == '\r':
		return p.errorHere("a selector must be on one line; only space and tab may stand between words")
	case unicode.IsSpace(r) && r != ' ' && r != '\t':
		return p.errorHere("%q is not allowed; only space and tab may stand between words", r)
	case r == '\\':
		return p.errorHere("\\ is not allowed here; there are no escapes (a value with one kind of quotes goes inside the other kind)")
	}
	return nil
}

// noCondition: a condition must begin here and none does.
func (p *parser) noCondition() error {
	if err := p.strange(); err != nil {
		return err
	}
	switch c := p.peek(); {
	case p.end() && p.depth > 0:
		return p.errorHere("a condition is missing at the end, and ( is not closed")
	case p.end():
		return p.errorHere("a condition is missing at the end")
	case c == '"' || c == '\'':
		return p.errorHere("a label is not quoted; only values are, as in label == 'value'")
	case c == ')':
		return p.errorHere("a condition is missing before )")
	case c == '&' || c == '|':
		return p.errorHere("a condition is missing before %c", c)
	case c == '=' || p.has("!="):
		return p.errorHere("a label is missing before the operator")
	}
	return p.errorHere("%s cannot begin a condition; a label has only letters, digits and _ . / -", p.here())
}

// afterCondition: a condition has ended and what follows is neither an
// operator between conditions nor the end.
func (p *parser) afterCondition() error {
	if err := p.strange(); err != nil {
		return err
	}
	q := *p
	switch w := strings.ToLower(q.word()); {
	case p.peek() == '&':
		return p.errorHere("& is not an operator; did you mean &&")
	case p.peek() == '|':
		return p.errorHere("| is not an operator; did you mean ||")
	case p.peek() == ')':
		return p.errorHere(") closes nothing")
	case p.peek() == ',':
		return p.errorHere(", does not join conditions; did you mean &&")
	case p.peek() == '"' || p.peek() == '\'':
		return p.errorHere("a value follows a value; a quotation mark ends the value and cannot be escaped")
	case w == "and":
		return p.errorHere("%s is not an operator; did you mean &&", p.here())
	case w == "or":
		return p.errorHere("%s is not an operator; did you mean ||", p.here())
	}
	return p.errorHere("%s follows a complete condition; && or || is missing before it", p.here())
}

func (p *parser) noLabel() error {
	if err := p.strange(); err != nil {
		return err
	}
	switch p.peek() {
	case ')':
		return p.errorHere("has() needs a label")
	case '"', '\'':
		return p.errorHere("a label is not quoted; write has(label)")
	}
	return p.errorHere("%s is not a label; a label has only letters, digits and _ . / -", p.here())
}

func (p *parser) afterHasLabel(label string) error {
	if err := p.strange(); err != nil {
		return err
	}
	if p.end() {
		return p.errorHere("has(%.40s is not closed; ) is missing", label)
	}
	if isLabelChar(p.peek()) || p.peek() == ',' || p.peek() == '=' || p.peek() == '!' {
		return p.errorHere("has() takes one label and nothing else")
	}
	return p.errorHere("%s cannot be part of a label; a label has only letters, digits and _ . / -", p.here())
}

// noOperator: a label was read, starting at start, and no operator follows.
// word is the word that stands there instead, if it is one.
func (p *parser) noOperator(start, afterLabel int, label, word string) error {
	short := fmt.Sprintf("%.40s", label)
	if p.peek() == '(' {
		switch label {
		case "has", "all", "global":
			return p.errorAt(afterLabel, "there must be no space between %s and (", label)
		}
		switch strings.ToLower(label) {
		case "has", "all", "global":
			return p.errorAt(start, "%s( is not a function; did you mean %s(", label, strings.ToLower(label))
		case "not":
			return p.errorAt(start, "%s does not negate; did you mean !", label)
		}
		return p.errorAt(start, "%s( is not a function; there are has(label), all() and global()", short)
	}
	if err := p.strange(); err != nil {
		return err
	}
	if strings.EqualFold(label, "not") && word != "" {
		return p.errorAt(start, "%s does not negate; did you mean !", label)
	}
	if p.end() || p.peek() == ')' || p.peek() == '&' || p.peek() == '|' {
		return p.errorHere("label %s has no operator after it; did you mean has(%s)", short, short)
	}
	switch lower := strings.ToLower(word); {
	case p.has("=~") || p.has("~"):
		return p.errorHere("there are no regular expressions; did you mean contains, starts with or ends with")
	case p.peek() == '=':
		return p.errorHere("= is not an operator; did you mean ==")
	case p.peek() == '!':
		return p.errorHere("! is not an operator after a label; did you mean !=")
	case p.peek() == '<' || p.peek() == '>':
		return p.errorHere("%c is not an operator; values are not compared by size (there are %s)", p.peek(), operators)
	case p.peek() == ':':
		return p.errorHere(": cannot be part of a label, and is not an operator; did you mean ==")
	case p.peek() == '{':
		return p.errorHere("an operator is missing before {; did you mean in")
	case p.peek() == '"' || p.peek() == '\'':
		return p.errorHere("an operator is missing before the value; did you mean ==")
	case lower == "and" || lower == "or":
		return p.errorHere("label %s has no operator after it; did you mean has(%s), and %s for %s", short, short,
			map[string]string{"and": "&&", "or": "||"}[lower], word)
	case lower == "not":
		return p.errorHere("not is only an operator together with in; to negate another condition put ! before the label")
	case lower == "starts" || lower == "ends":
		return p.errorHere("%s is only an operator together with with: %s with", word, lower)
	case lower == "in" || lower == "notin" || lower == "contains" || lower == "startswith" || lower == "endswith":
		return p.errorHere("operators are in lower case; did you mean %s", lower)
	case lower == "eq" || lower == "equals" || lower == "is":
		return p.errorHere("%s is not an operator; did you mean ==", word)
	case lower == "has":
		return p.errorHere("has is not an operator; did you mean has(label), or contains")
	case word != "":
		return p.errorHere("%.40q is not an operator; there are %s", word, operators)
	}
	return p.errorHere("%s cannot be part of a label, and is not an operator; a label has only letters, digits and _ . / -", p.here())
}

func (p *parser) noSet() error {
	if err := p.strange(); err != nil {
		return err
	}
	switch p.peek() {
	case '"', '\'':
		return p.errorHere("in needs a set; did you mean {%c...%c}, or == for one value", p.peek(), p.peek())
	case '(', '[':
		return p.errorHere("%c does not begin a set; a set is written {'a', 'b'}", p.peek())
	}
	return p.errorHere("a set such as {'a', 'b'} is missing before %s", p.here())
}

func (p *parser) noComma() error {
	if err := p.strange(); err != nil {
		return err
	}
	return p.errorHere("a comma is missing between the values of the set, before %s", p.here())
}

func (p *parser) noValue() error {
	if err := p.strange(); err != nil {
		return err
	}
	switch {
	case p.end():
		return p.errorHere("a value in quotes is missing at the end")
	case isLabelChar(p.peek()):
		q := *p
		w := q.word()
		return p.errorHere("value %.40s must be in quotes: '%.40s'", w, w)
	case p.peek() == '=':
		return p.errorHere("too many =; the operator is ==")
	case p.peek() == '{':
		return p.errorHere("this operator takes one value; did you mean in or not in")
	}
	return p.errorHere("a value in quotes is missing before %s", p.here())
}
