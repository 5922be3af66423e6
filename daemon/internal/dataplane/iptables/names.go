// SPDX-License-Identifier: Apache-2.0

package iptables

import (
	"crypto/sha256"
	"encoding/base32"
	"fmt"
	"strings"
)

// Names in the kernel. Chains may have 28 characters (XT_EXTENSION_MAXNAMELEN
// less the end), sets 31 (IPSET_MAXNAMELEN). A name that fits is kept behind
// our prefix; another keeps its beginning and gets a hash, and is then exactly
// as long as no kept name can be, so that the two cannot clash.
const (
	prefixOurs  = "rs-"
	prefixConst = "rs-c-"
	chainLen    = 28
	setLen      = 29 // the kernel's 31, less a variant's suffix
	maxVariants = 8
)

var letters = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

// digest is n characters that stand for s; 5 bits each.
func digest(s string, n int) string {
	h := sha256.Sum256([]byte(s))
	return letters.EncodeToString(h[:])[:n]
}

func plain(name string) bool {
	for _, c := range []byte(name) {
		if !(c == '-' || c == '_' || c == '.' || c == '/' || '0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z') {
			return false
		}
	}
	return name != ""
}

// hashed keeps the readable beginning of a name; the result has n characters.
func hashed(name, unique string, n int) string {
	var b strings.Builder
	b.WriteString(prefixOurs)
	for _, c := range []byte(name) {
		if b.Len() == len(prefixOurs)+12 {
			break
		}
		if plain(string(c)) {
			b.WriteByte(c)
		} else {
			b.WriteByte('_')
		}
	}
	b.WriteByte('.')
	return b.String() + digest(unique, n-b.Len())
}

// chainName is the kernel's name of a chain of the ruleset.
func chainName(name string) string {
	if len(prefixOurs)+len(name) >= chainLen || !plain(name) || strings.ToUpper(name) == name {
		return hashed(name, name, chainLen)
	}
	return prefixOurs + name
}

// partName is the name of a further kernel chain that a chain of the ruleset
// needs.
func partName(name, part string) string { return hashed(name, name+"\x00"+part, chainLen) }

// setName is the kernel's name of a set of the ruleset.
func setName(name string) string {
	if len(prefixOurs)+len(name) >= setLen || !plain(name) || strings.HasPrefix(name, "c-") {
		return hashed(name, name, setLen)
	}
	return prefixOurs + name
}

// constName is the name of a set with content that does not change.
func constName(content string) string {
	return prefixConst + digest(content, setLen-len(prefixConst))
}

// variant is the n-th set of one name; several are there only while one
// replaces another.
func variant(kname string, n int) string {
	if n == 0 {
		return kname
	}
	return fmt.Sprintf("%s~%d", kname, n)
}

// freeVariant returns the first variant that is not there.
func freeVariant(kname string, there func(string) bool) (string, error) {
	for n := range maxVariants {
		if v := variant(kname, n); !there(v) {
			return v, nil
		}
	}
	return "", fmt.Errorf("no free name for %s", kname)
}

// ours reports whether a chain or set bears our mark.
func ours(name string) bool { return strings.HasPrefix(name, prefixOurs) }
