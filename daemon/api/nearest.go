// SPDX-License-Identifier: Apache-2.0

package api

import "strings"

// Nearest is the name of known that s was most likely meant to be, or "".
func Nearest(s string, known []string) string { return nearest(s, known) }

// nearest is the name of known that s was most likely meant to be, or "".
// The same letters in another case always count; else a third of the letters
// may be wrong, one at least.
func nearest(s string, known []string) string {
	if len(s) > 64 {
		return ""
	}
	best, least := "", max(1, len(s)/3)+1
	for _, k := range known {
		if strings.EqualFold(k, s) {
			return k
		}
		if d := distance(strings.ToLower(s), strings.ToLower(k), least); d < least && d < len(k) {
			best, least = k, d
		}
	}
	return best
}

// didYouMean is a fix that names the nearest known name, or "".
func didYouMean(s string, known []string) string {
	if k := nearest(s, known); k != "" {
		return "did you mean " + quoted(k) + "?"
	}
	return ""
}

// distance is the number of bytes to insert, delete, replace or swap with
// their neighbour to get from a to b; anything from limit on may be answered
// by limit.
func distance(a, b string, limit int) int {
	if d := len(a) - len(b); d >= limit || -d >= limit {
		return limit
	}
	// Three rows of the edit matrix: before last, last, current.
	before, last, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			row[j] = min(last[j]+1, row[j-1]+1, last[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, last, row = last, row, before
	}
	return min(last[len(b)], limit)
}
