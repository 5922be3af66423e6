// SPDX-License-Identifier: Apache-2.0

package nftables

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
)

// Names in the kernel. Sets, constant sets and maps share one name space
// there, so each has a prefix that the names of the others cannot have.
const (
	prefixOurs  = "rs-"
	prefixConst = "rs-c-"
	prefixMap   = "rs-m-"
	prefixHash  = "rs-h-"
	prefixRule  = "rs-v-"

	maxName     = 250 // the kernel's 255, less a variant's suffix
	maxVariants = 8
)

func chainName(name string) string { return plainOrHash(prefixOurs, name) }

func setName(name string) string {
	if len(name) > 1 && name[1] == '-' && strings.Contains("cmv", name[:1]) {
		return hashed(name)
	}
	return plainOrHash(prefixOurs, name)
}

func mapName(name string) string { return plainOrHash(prefixMap, name) }

func verdictsName(name string) string { return plainOrHash(prefixRule, name) }

// plainOrHash keeps a name that the kernel takes and that nothing else
// could be called; others are hashed.
func plainOrHash(prefix, name string) string {
	ok := len(prefix)+len(name) <= maxName && name != "" && !strings.HasPrefix(name, "h-")
	for _, c := range []byte(name) {
		ok = ok && (c == '-' || c == '_' || c == '.' || c == '/' || '0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z')
	}
	if !ok {
		return hashed(prefix + name)
	}
	return prefix + name
}

func hashed(name string) string {
	h := sha256.Sum256([]byte(name))
	return prefixHash + hex.EncodeToString(h[:20])
}

// variant is the n-th object of one name; several are there only while one
// replaces another.
func variant(kname string, n int) string {
	if n == 0 {
		return kname
	}
	return fmt.Sprintf("%s~%d", kname, n)
}

// pick returns the first variant that is there and fits, or else the first
// that is free.
func pick(kname string, state func(kname string) (there, fits bool)) (string, error) {
	free := ""
	for n := range maxVariants {
		v := variant(kname, n)
		there, fits := state(v)
		switch {
		case there && fits:
			return v, nil
		case !there && free == "":
			free = v
		}
	}
	if free == "" {
		return "", fmt.Errorf("no free name for %s", kname)
	}
	return free, nil
}

// free returns the first variant that is not there.
func free(kname string, there func(kname string) bool) (string, error) {
	return pick(kname, func(v string) (bool, bool) { return there(v), false })
}
