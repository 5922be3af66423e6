// SPDX-License-Identifier: Apache-2.0

package selector

import (
	"regexp"
	"strings"
)

// The reference decides by rewriting text, with nothing in common with the
// parser: every simple condition becomes T or F, then the operators between
// them are worked off until one letter is left.

const (
	refLabel = `[A-Za-z0-9_./-]{1,512}`
	refWS    = `[ \t]*`
	refStr   = `(?s:"[^"]*"|'[^']*')`
)

var (
	refBlank   = regexp.MustCompile(`^[ \t]+`)
	refPunct   = regexp.MustCompile(`^(&&|\|\||!|\(|\))`)
	refTrue    = regexp.MustCompile(`^(all|global)\(` + refWS + `\)`)
	refHas     = regexp.MustCompile(`^has\(` + refWS + `(` + refLabel + `)` + refWS + `\)`)
	refCompare = regexp.MustCompile(`^(` + refLabel + `)(?:` + refWS + `(==|!=)|[ \t]+(contains|starts[ \t]+with|startswith|ends[ \t]+with|endswith))` + refWS + `(` + refStr + `)`)
	refSet     = regexp.MustCompile(`^(` + refLabel + `)[ \t]+(in|notin|not[ \t]+in)` + refWS + `\{` + refWS + `((?:` + refStr + refWS + `,` + refWS + `)*(?:` + refStr + refWS + `)?)\}`)
	refString  = regexp.MustCompile(refStr)

	refNot   = regexp.MustCompile(`![TF]`)
	refAnd   = regexp.MustCompile(`[TF]&[TF]`)
	refGroup = regexp.MustCompile(`\([TF](\|[TF])*\)|<[TF](\|[TF])*>`)
)

// reference says whether s is a selector and whether it matches.
func reference(s string, labels map[string]string) (matches, valid bool) {
	if strings.Trim(s, " \t") == "" {
		return true, true
	}
	var b strings.Builder
	b.WriteByte('<')
	truth := func(v bool) {
		if v {
			b.WriteByte('T')
		} else {
			b.WriteByte('F')
		}
	}
	for s != "" {
		if m := refBlank.FindString(s); m != "" {
			s = s[len(m):]
		} else if m := refTrue.FindString(s); m != "" {
			s = s[len(m):]
			truth(true)
		} else if m := refHas.FindStringSubmatch(s); m != nil {
			s = s[len(m[0]):]
			_, ok := labels[m[1]]
			truth(ok)
		} else if m := refCompare.FindStringSubmatch(s); m != nil {
			s = s[len(m[0]):]
			v, ok := labels[m[1]]
			want := m[4][1 : len(m[4])-1]
			switch o := m[2] + m[3]; {
			case o == "==":
				truth(ok && v == want)
			case o == "!=":
				truth(!ok || v != want)
			case o == "contains":
				truth(ok && strings.Contains(v, want))
			case o[0] == 's':
				truth(ok && strings.HasPrefix(v, want))
			default:
				truth(ok && strings.HasSuffix(v, want))
			}
		} else if m := refSet.FindStringSubmatch(s); m != nil {
			s = s[len(m[0]):]
			v, in := labels[m[1]]
			if in {
				in = false
				for _, q := range refString.FindAllString(m[3], -1) {
					in = in || q[1:len(q)-1] == v
				}
			}
			truth(in == (m[2] == "in"))
		} else if m := refPunct.FindString(s); m != "" {
			s = s[len(m):]
			b.WriteByte(m[0])
		} else {
			return false, false
		}
	}
	b.WriteByte('>')
	return reduce(b.String())
}

func reduce(e string) (matches, valid bool) {
	for {
		before := e
		e = refNot.ReplaceAllStringFunc(e, func(m string) string {
			return map[string]string{"!T": "F", "!F": "T"}[m]
		})
		if e != before {
			continue
		}
		e = refAnd.ReplaceAllStringFunc(e, func(m string) string {
			if m == "T&T" {
				return "T"
			}
			return "F"
		})
		if e != before {
			continue
		}
		e = refGroup.ReplaceAllStringFunc(e, func(m string) string {
			if strings.Contains(m, "T") {
				return "T"
			}
			return "F"
		})
		if e == before {
			return e == "T", e == "T" || e == "F"
		}
	}
}
