// SPDX-License-Identifier: Apache-2.0

package audit

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/ripstop/ripstop/daemon/api"
)

// chain is a log of n lines, from number first on.
func chain(t testing.TB, first uint64, prev string, n int) (lines []string, head string) {
	t.Helper()
	for i := range n {
		r := Record{Seq: first + uint64(i), Prev: prev, Time: time.Unix(int64(i), 0).UTC(), Stage: Intent, Name: fmt.Sprintf("n%d", i)}
		line, err := r.Line()
		if err != nil {
			t.Fatal(err)
		}
		lines = append(lines, string(line)+"\n")
		prev = Hash(line)
	}
	return lines, prev
}

func read(t testing.TB, files ...string) (*Reader, int, error) {
	t.Helper()
	rd := &Reader{}
	for i, f := range files {
		torn, err := rd.Read(fmt.Sprintf("f%d", i), strings.NewReader(f), nil)
		if err != nil || i == len(files)-1 {
			return rd, torn, err
		}
	}
	return rd, 0, nil
}

func TestReader_AcceptsAWholeChainOverFiles(t *testing.T) {
	a, head := chain(t, 1, First, 3)
	b, _ := chain(t, 4, head, 2)
	rd, torn, err := read(t, strings.Join(a, ""), strings.Join(b, "")+`{"seq":6,"pr`)
	if err != nil || rd.Lines != 5 || rd.First.Seq != 1 || rd.Last.Seq != 5 || torn != 12 {
		t.Errorf("got %+v, torn %d, %v; want 5 lines, 12 bytes torn", rd, torn, err)
	}
	// What was rotated away is not missed.
	if rd, _, err := read(t, strings.Join(b, "")); err != nil || rd.First.Seq != 4 {
		t.Errorf("the second file alone: %+v, %v", rd, err)
	}
}

func TestReader_NamesTheFirstLineThatWasTouched(t *testing.T) {
	whole, head := chain(t, 1, First, 5)
	other, _ := chain(t, 3, whole[1], 1)
	join := func(lines ...string) string { return strings.Join(lines, "") }
	for _, c := range []struct {
		name, text string
		line       int
	}{
		{"altered", join(whole[0], strings.Replace(whole[1], "n1", "nX", 1), whole[2]), 3},
		{"altered last but one, to no record", join(whole[0], "{}\n", whole[2]), 2},
		{"removed", join(whole[0], whole[2], whole[3]), 2},
		{"put in", join(whole[0], whole[1], other[0], whole[2]), 3},
		{"twice", join(whole[0], whole[1], whole[1], whole[2]), 3},
		{"exchanged", join(whole[1], whole[0]), 2},
		{"text in between", join(whole[0], "hello\n", whole[1]), 2},
		{"ends in junk", join(whole[0], whole[1], "hello\n"), 3},
		{"first line names one before", strings.Replace(join(whole...), First, head, 1), 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, _, err := read(t, c.text)
			b, is := err.(*Break)
			if !is || b.Line != c.line {
				t.Errorf("got %v, want a break in line %d", err, c.line)
			}
		})
	}
	a, _ := chain(t, 1, First, 3)
	if _, _, err := read(t, join(a...), join(whole[4])); err == nil || err.(*Break).File != "f1" {
		t.Errorf("a file is missing: %v, want a break in the second", err)
	}
}

// TestReader_EveryAlteredByteIsFound changes each byte of a chain.
func TestReader_EveryAlteredByteIsFound(t *testing.T) {
	whole, head := chain(t, 1, First, 3)
	text := []byte(strings.Join(whole, ""))
	for i := range text {
		bad := bytes.Clone(text)
		bad[i] ^= 1
		rd, torn, err := read(t, string(bad))
		if err == nil && torn == 0 && rd.Head == head {
			t.Errorf("byte %d altered: not found", i)
		}
	}
}

func TestReader_TakesJunkOnlyWithARepairThatTellsOfIt(t *testing.T) {
	whole, head := chain(t, 1, First, 2)
	junk := "{\"seq\":3,\"pre\x00\n"
	repair := func(seq uint64, of string) string {
		r := Record{Seq: seq, Prev: head, Stage: Repaired, Torn: &Torn{Bytes: len(of), SHA256: Hash([]byte(of))}}
		line, err := r.Line()
		if err != nil {
			t.Fatal(err)
		}
		return string(line) + "\n"
	}
	if rd, _, err := read(t, strings.Join(whole, "")+junk+repair(3, junk)); err != nil || rd.Repairs != 1 {
		t.Errorf("a repair: %v, want none", err)
	}
	for name, text := range map[string]string{
		"other bytes": strings.Join(whole, "") + strings.Replace(junk, "seq", "sex", 1) + repair(3, junk),
		"no bytes":    strings.Join(whole, "") + repair(3, junk),
		"no repair":   strings.Join(whole, "") + junk,
	} {
		if _, _, err := read(t, text); err == nil {
			t.Errorf("%s: no break", name)
		}
	}
}

func TestFiles_AreOldestFirstAndNothingElse(t *testing.T) {
	got := Files([]string{"lock", Current, Rotated(900), Rotated(10), "audit-1.jsonl", "audit.jsonl.new", "audit-0000000000000000000x.jsonl"})
	want := []string{Rotated(10), Rotated(900), Current}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("Files: got %v, want %v", got, want)
	}
}

// Types as an api package could have them.
type (
	routeSecret string
	withSecrets struct {
		Open     string
		Password string      `secret:"true"`
		Key      []byte      `secret:"true"`
		Token    *string     `secret:"true"`
		Route    routeSecret //
		Map      map[string]routeSecret
		List     []struct{ Inner routeSecret }
		Unset    string `secret:"true"`
	}
)

func TestHide_CoversSecretsByTypeAndTagAtAnyDepth(t *testing.T) {
	token := "canary"
	v := &withSecrets{Open: "open", Password: "canary", Key: []byte("canary"), Token: &token, Route: "canary",
		Map: map[string]routeSecret{"a": "canary"}, List: []struct{ Inner routeSecret }{{"canary"}}}
	hide(reflect.ValueOf(v))
	data, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(data, []byte("canary")) || bytes.Contains(data, []byte("Y2FuYXJ5")) {
		t.Errorf("shows %s", data)
	}
	if token != "canary" {
		t.Error("the secret itself was overwritten")
	}
	if v.Open != "open" || v.Unset != "" || v.Route != Hidden {
		t.Errorf("got %+v", v)
	}
}

func TestObject_ShowsNeitherManagedFieldsNorWhatKubectlKeeps(t *testing.T) {
	s := &api.GlobalNetworkSet{TypeMeta: api.TypeMeta{Kind: api.KindGlobalNetworkSet, APIVersion: api.VersionCalico},
		Meta: api.Meta{Name: "x", Annotations: map[string]string{lastApplied: `{"password":"canary"}`, "a": "b"}, ManagedFields: json.RawMessage(`["canary"]`)}}
	got := string(Object(s))
	if strings.Contains(got, "canary") || !strings.Contains(got, `"a":"b"`) || !strings.Contains(got, `"name":"x"`) {
		t.Errorf("Object: %s", got)
	}
	if len(s.ManagedFields) == 0 || s.Annotations[lastApplied] == Hidden {
		t.Error("the object itself was changed")
	}
	s.Spec.Nets = strings.Split(strings.Repeat("10.0.0.0/8,", 60_000), ",")
	if got := string(Object(s)); len(got) > 200 || !strings.Contains(got, "sha256") {
		t.Errorf("of a large object: %d bytes %.100s", len(got), got)
	}
}

// FuzzReader_NeverPanics reads any bytes.
func FuzzReader_NeverPanics(f *testing.F) {
	whole, _ := chain(f, 1, First, 3)
	f.Add([]byte(strings.Join(whole, "")))
	f.Add([]byte("\n\n{}\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		rd := &Reader{OnBreak: func(*Break) error { return nil }}
		if _, err := rd.Read("f", bytes.NewReader(data), nil); err != nil && len(data) < MaxLine {
			t.Errorf("a reader that goes on stops: %v", err)
		}
	})
}
