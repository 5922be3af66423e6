// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"mime"
	"strconv"
	"strings"
)

// shape is the form in which a client wants resources.
type shape uint8

// The shapes. shapeNone: the client accepts nothing that we can write.
const (
	shapeNone shape = iota
	shapeObject
	shapeTable
	shapePartial
)

// negotiate picks the first form in an Accept header, by quality and then by
// place, that the server can write. No header means plain JSON.
func negotiate(accept string) shape {
	if strings.TrimSpace(accept) == "" {
		return shapeObject
	}
	best, bestQ := shapeNone, 0.0
	for part := range strings.SplitSeq(accept, ",") {
		typ, params, err := mime.ParseMediaType(part)
		if err != nil {
			continue
		}
		q := 1.0
		if s, ok := params["q"]; ok {
			if q, err = strconv.ParseFloat(s, 64); err != nil {
				continue
			}
		}
		sh := shapeOf(typ, params)
		if sh != shapeNone && q > bestQ {
			best, bestQ = sh, q
		}
	}
	return best
}

func shapeOf(typ string, params map[string]string) shape {
	switch typ {
	case "application/json", "application/*", "*/*":
	default:
		return shapeNone
	}
	as, ok := params["as"]
	if !ok {
		return shapeObject
	}
	if params["g"] != "meta.k8s.io" || params["v"] != "v1" {
		return shapeNone
	}
	switch as {
	case "Table":
		return shapeTable
	case "PartialObjectMetadata", "PartialObjectMetadataList":
		return shapePartial
	default:
		return shapeNone
	}
}
