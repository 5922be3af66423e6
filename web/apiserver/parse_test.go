// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"encoding/json"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ripstop/ripstop/daemon/api"
)

func TestLabelSelector_Matches(t *testing.T) {
	labels := map[string]string{"a": "1", "b": "", "x.io/y": "z", "n": "12"}
	for text, want := range map[string]bool{
		"": true, "a": true, "!a": false, "c": false, "!c": true, "a=1": true, "a==1": true, "a = 1": true, "a!=1": false,
		"c!=1": true, "a in (1,2)": true, "a in (2)": false, "c in (1)": false, "a notin (1)": false, "c notin (1)": true,
		"a notin (2,3)": true, "b=": true, "b": true, "a=": false, "x.io/y=z": true, "n>11": true, "n>12": false, "n<13": true,
		"b>0": false, "c<1": false, "a=1,!c,x.io/y in (z)": true, "a=1,c": false, " a , b ": true, "a in (,1)": true, "in in (in)": false,
	} {
		l, err := parseLabelSelector(text)
		if err != nil {
			t.Errorf("parseLabelSelector(%q): %v", text, err)
			continue
		}
		if got := l.Matches(labels); got != want {
			t.Errorf("%q matches %v: got %v, want %v", text, labels, got, want)
		}
	}
	for _, text := range []string{
		",", "a,", "a=1=2", "a in", "a in (", "a in (1", "a in (1 2)", "!a=1", "a>x", "=1", "a b", "a&b", "a=b c", "-a", "a/", "/a",
		"A.io/b", "a=" + strings.Repeat("x", 64), strings.Repeat("x", 64), "a notin", "a!", "a in ()x", strings.Repeat("a,", maxSelector),
	} {
		if l, err := parseLabelSelector(text); err == nil {
			t.Errorf("parseLabelSelector(%q): got %v, want an error", text, l)
		}
	}
}

func FuzzParseLabelSelector(f *testing.F) {
	for _, s := range []string{"a=1,!b", "a in (x,y),b notin (z)", "x.io/y!=z,n>1,m<-2", "a in (,)", ""} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		l, err := parseLabelSelector(s)
		if err != nil {
			return
		}
		again, err := parseLabelSelector(l.String())
		if err != nil || again.String() != l.String() {
			t.Fatalf("%q prints as %q, which reads as %q, %v", s, l, again, err)
		}
		for _, labels := range []map[string]string{nil, {"a": "1"}, {"a": ""}, {"b": "z", "n": "3"}} {
			if l.Matches(labels) != again.Matches(labels) {
				t.Fatalf("%q and %q differ on %v", s, l, labels)
			}
		}
	})
}

func FuzzParseContinue(f *testing.F) {
	f.Add(continueToken{Revision: 7, Name: "a"}.String())
	f.Add(continueToken{Revision: 1 << 60, Namespace: "n", Name: "a.b"}.String())
	f.Add("")
	f.Fuzz(func(t *testing.T, s string) {
		tok, err := parseContinue(s)
		if err != nil {
			return
		}
		if tok.String() != s {
			t.Fatalf("parseContinue(%q) = %+v, which prints as %q", s, tok, tok)
		}
		if tok.Revision <= 0 || !isDNSName(tok.Name) || tok.Namespace != "" && !isDNSName(tok.Namespace) {
			t.Fatalf("parseContinue(%q) = %+v", s, tok)
		}
	})
}

func FuzzMergePatch(f *testing.F) {
	f.Add(`{"a":{"b":1}}`, `{"a":{"b":null,"c":[1]}}`)
	f.Fuzz(func(t *testing.T, target, patch string) {
		a, errA := jsonTree([]byte(target))
		b, errB := jsonTree([]byte(patch))
		if errA != nil || errB != nil {
			return
		}
		once := mergePatch(a, b)
		first, err := json.Marshal(once)
		if err != nil {
			t.Fatalf("merged document does not marshal: %v", err)
		}
		second, err := json.Marshal(mergePatch(once, b))
		if err != nil || string(first) != string(second) {
			t.Fatalf("applied twice: %s, then %s (%v)", first, second, err)
		}
	})
}

func TestMergePatch_RFC7396(t *testing.T) {
	// The examples of RFC 7396, appendix A.
	for _, c := range [][3]string{
		{`{"a":"b"}`, `{"a":"c"}`, `{"a":"c"}`}, {`{"a":"b"}`, `{"b":"c"}`, `{"a":"b","b":"c"}`}, {`{"a":"b"}`, `{"a":null}`, `{}`},
		{`{"a":"b","b":"c"}`, `{"a":null}`, `{"b":"c"}`}, {`{"a":["b"]}`, `{"a":"c"}`, `{"a":"c"}`}, {`{"a":"c"}`, `{"a":["b"]}`, `{"a":["b"]}`},
		{`{"a":{"b":"c"}}`, `{"a":{"b":"d","c":null}}`, `{"a":{"b":"d"}}`}, {`{"a":[{"b":"c"}]}`, `{"a":[1]}`, `{"a":[1]}`},
		{`["a","b"]`, `["c","d"]`, `["c","d"]`}, {`{"a":"b"}`, `["c"]`, `["c"]`}, {`{"a":"foo"}`, `null`, `null`}, {`{"a":"foo"}`, `"bar"`, `"bar"`},
		{`{"e":null}`, `{"a":1}`, `{"a":1,"e":null}`}, {`[1,2]`, `{"a":"b","c":null}`, `{"a":"b"}`}, {`{}`, `{"a":{"bb":{"ccc":null}}}`, `{"a":{"bb":{}}}`},
	} {
		a, errA := jsonTree([]byte(c[0]))
		b, errB := jsonTree([]byte(c[1]))
		out, err := json.Marshal(mergePatch(a, b))
		if errA != nil || errB != nil || err != nil || string(out) != c[2] {
			t.Errorf("mergePatch(%s, %s): got %s, want %s (%v, %v, %v)", c[0], c[1], out, c[2], errA, errB, err)
		}
	}
}

func TestJSONTree_Refuses(t *testing.T) {
	for _, s := range []string{
		``, `{`, `{"a":1,"a":2}`, `{"a":{"b":1,"b":2}}`, `[{"a":1,"a":1}]`, `{} {}`, `nul`, `{"a":}`, `[1,]`,
		strings.Repeat("[", maxDepth+2) + strings.Repeat("]", maxDepth+2),
	} {
		if v, err := jsonTree([]byte(s)); err == nil {
			t.Errorf("jsonTree(%q): got %v, want an error", s, v)
		}
	}
	v, err := jsonTree([]byte(` {"a":[1.50,true,null,"x"],"A":12345678901234567890} `))
	out, _ := json.Marshal(v)
	if err != nil || string(out) != `{"A":12345678901234567890,"a":[1.50,true,null,"x"]}` {
		t.Errorf("numbers and case are kept: got %s, %v", out, err)
	}
}

func TestContinueToken_RoundTrip(t *testing.T) {
	for range 100 {
		tok := continueToken{Revision: api.Revision(1 + rand.Int64N(1<<62)), Namespace: []string{"", "a", "x-1"}[rand.IntN(3)], Name: []string{"a", "a.b-c", "0"}[rand.IntN(3)]}
		got, err := parseContinue(tok.String())
		if err != nil {
			t.Fatalf("parseContinue(%+v): %v", tok, err)
		}
		if diff := cmp.Diff(tok, got); diff != "" {
			t.Fatalf("round trip (-want +got):\n%s", diff)
		}
	}
}

func TestNegotiate(t *testing.T) {
	for accept, want := range map[string]shape{
		"": shapeObject, "*/*": shapeObject, "application/json": shapeObject, "text/html": shapeNone,
		"text/html, */*;q=0.1": shapeObject, "application/json;as=Table;v=v1;g=meta.k8s.io": shapeTable,
		"application/json;as=Table;v=v1beta1;g=meta.k8s.io": shapeNone, "application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json": shapeObject,
		"application/vnd.kubernetes.protobuf,application/json":                 shapeObject,
		"application/json;q=0.5,application/json;as=Table;v=v1;g=meta.k8s.io":  shapeTable,
		"application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io":         shapePartial,
		"application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList": shapeNone,
		"application/json;q=0": shapeNone, ";;;": shapeNone, "application/json;q=x": shapeNone,
	} {
		if got := negotiate(accept); got != want {
			t.Errorf("negotiate(%q): got %d, want %d", accept, got, want)
		}
	}
}
