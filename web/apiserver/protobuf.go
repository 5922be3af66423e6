// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"

	"google.golang.org/protobuf/encoding/protowire"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/ripstop/ripstop/daemon/api"
)

// Kubernetes' clients send the kinds they were built with as protobuf: kubectl
// since 1.32 a Namespace, client-go the options of a deletion. The form is
// four magic bytes and a runtime.Unknown that holds the object.

// protobufMagic begins a body.
var protobufMagic = []byte("k8s\x00")

// protobufBody is the object inside of a body, which must be of a kind.
func protobufBody(data []byte, kind string) (_ []byte, err error) {
	defer func() { // generated code; nothing it is sent may end the request otherwise
		if p := recover(); p != nil {
			err = fmt.Errorf("protobuf: %v", p)
		}
	}()
	rest, ok := bytes.CutPrefix(data, protobufMagic)
	if !ok {
		return nil, errors.New("protobuf: does not begin with k8s and a zero byte")
	}
	var u runtime.Unknown
	if err := u.Unmarshal(rest); err != nil {
		return nil, fmt.Errorf("protobuf: %w", err)
	}
	if u.Kind != kind {
		return nil, fmt.Errorf("protobuf: kind %q, want %s", u.Kind, kind)
	}
	if u.ContentEncoding != "" || u.ContentType != "" && u.ContentType != typeProtobuf {
		return nil, fmt.Errorf("protobuf: content of type %q and encoding %q inside", u.ContentType, u.ContentEncoding)
	}
	return u.Raw, nil
}

// namespaceFromProtobuf reads a core/v1 Namespace: its metadata. It goes
// through JSON, so that it is checked as any other.
func namespaceFromProtobuf(data []byte) (o api.Object, err error) {
	defer func() {
		if p := recover(); p != nil {
			o, err = nil, fmt.Errorf("protobuf: %v", p)
		}
	}()
	raw, err := protobufBody(data, "Namespace")
	if err != nil {
		return nil, err
	}
	var meta metav1.ObjectMeta
	for len(raw) > 0 {
		number, typ, n := protowire.ConsumeTag(raw)
		if n < 0 {
			return nil, fmt.Errorf("protobuf: Namespace: %w", protowire.ParseError(n))
		}
		raw = raw[n:]
		if number == 1 && typ == protowire.BytesType {
			value, n := protowire.ConsumeBytes(raw)
			if n < 0 {
				return nil, fmt.Errorf("protobuf: Namespace: %w", protowire.ParseError(n))
			}
			if err := meta.Unmarshal(value); err != nil {
				return nil, fmt.Errorf("protobuf: Namespace: metadata: %w", err)
			}
			raw = raw[n:]
			continue
		}
		if n = protowire.ConsumeFieldValue(number, typ, raw); n < 0 {
			return nil, fmt.Errorf("protobuf: Namespace: %w", protowire.ParseError(n))
		}
		raw = raw[n:]
	}
	doc, err := json.Marshal(map[string]any{"kind": api.KindNamespace, "apiVersion": api.VersionCore, "metadata": meta})
	if err != nil {
		return nil, err
	}
	return api.Decode(doc)
}

// deleteOptionsFromProtobuf reads DeleteOptions.
func deleteOptionsFromProtobuf(data []byte) (doc []byte, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("protobuf: %v", p)
		}
	}()
	raw, err := protobufBody(data, "DeleteOptions")
	if err != nil {
		return nil, err
	}
	var o metav1.DeleteOptions
	if err := o.Unmarshal(raw); err != nil {
		return nil, fmt.Errorf("protobuf: DeleteOptions: %w", err)
	}
	return json.Marshal(o)
}
