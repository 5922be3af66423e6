// SPDX-License-Identifier: Apache-2.0

package api

import (
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestFelixParameters_TableAndStructAgree(t *testing.T) {
	var inTable, inStruct []string
	names := map[string]bool{}
	for _, p := range FelixParameters() {
		if names[strings.ToLower(p.Name)] {
			t.Errorf("parameter %s is there twice", p.Name)
		}
		names[strings.ToLower(p.Name)] = true
		if p.Name == "" || p.Type == "" || p.Purpose == "" || p.Group == "" {
			t.Errorf("parameter %+v lacks something", p)
		}
		if p.YAML != "" {
			inTable = append(inTable, p.YAML)
		}
	}
	for _, f := range felixFields() {
		inStruct = append(inStruct, f.name)
	}
	slices.Sort(inTable)
	slices.Sort(inStruct)
	if diff := cmp.Diff(inTable, inStruct); diff != "" {
		t.Errorf("names (-table +struct):\n%s", diff)
	}
	if len(names) != 202 || len(inTable) != 180 {
		t.Errorf("got %d parameters, %d of them in the store, want 202 and 180", len(names), len(inTable))
	}
}

// The sample sets every parameter, so that each is read, checked, laid over,
// listed and cleared.
func TestFelixConfigurationSpec_EveryParameter(t *testing.T) {
	f := sample(t, KindFelixConfiguration).(*FelixConfiguration)
	if got := len(f.Spec.SetFields()); got != 180 {
		t.Fatalf("the sample sets %d parameters, want 180", got)
	}
	if err := f.Validate(); err != nil {
		t.Fatal(err)
	}
	var s FelixConfigurationSpec
	s.Overlay(&f.Spec)
	s.NodeSelector = f.Spec.NodeSelector
	if diff := cmp.Diff(f.Spec, s); diff != "" {
		t.Errorf("Overlay over nothing (-want +got):\n%s", diff)
	}
	s.NodeSelector = ""
	for _, name := range f.Spec.SetFields() {
		if !s.Unset(name) {
			t.Errorf("Unset(%s): no such parameter", name)
		}
	}
	if !reflect.ValueOf(s).IsZero() {
		t.Errorf("after Unset of all: got %+v", s)
	}
	if s.Unset("nothing") {
		t.Error("Unset(nothing): found")
	}
}

// Every enum of the table takes exactly its words.
func TestFelixConfigurationSpec_Enums(t *testing.T) {
	for _, p := range FelixParameters() {
		words, ok := strings.CutPrefix(p.Type, "enum ")
		if !ok || p.YAML == "" {
			continue
		}
		for _, word := range append(strings.Fields(words), "Bogus") {
			f := &FelixConfiguration{Meta: Meta{Name: "default"}}
			for _, field := range felixFields() {
				if field.name == p.YAML {
					reflect.ValueOf(&f.Spec).Elem().FieldByIndex(field.index).SetString(word)
				}
			}
			want := []string(nil)
			if word == "Bogus" {
				want = []string{"spec." + p.YAML}
			}
			var got []string
			for _, e := range Faults(f.Validate()) {
				got = append(got, e.Path)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("%s = %s (-want +got):\n%s", p.YAML, word, diff)
			}
		}
	}
}

func TestFelixConfigurationSpec_Overlay(t *testing.T) {
	yes, no := true, false
	low := FelixConfigurationSpec{
		NodeSelector: "all()", LogPrefix: "low", HealthEnabled: &yes, IPv6Support: &yes,
		FailsafeInboundHostPorts: &[]ProtoPort{{"tcp", 22, ""}}, BPFLogLevel: "Info",
	}
	high := FelixConfigurationSpec{NodeSelector: "has(x)", HealthEnabled: &no, FailsafeInboundHostPorts: &[]ProtoPort{}, ReportingInterval: &Duration{time.Second}}
	low.Overlay(&high)
	want := FelixConfigurationSpec{
		NodeSelector: "all()", LogPrefix: "low", HealthEnabled: &no, IPv6Support: &yes,
		FailsafeInboundHostPorts: &[]ProtoPort{}, BPFLogLevel: "Info", ReportingInterval: &Duration{time.Second},
	}
	if diff := cmp.Diff(want, low); diff != "" {
		t.Errorf("Overlay (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"healthEnabled", "failsafeInboundHostPorts", "reportingInterval"}, high.SetFields()); diff != "" {
		t.Errorf("SetFields (-want +got):\n%s", diff)
	}
}

func TestFelixConfigurationSpec_ChangedFields(t *testing.T) {
	f := &FelixConfiguration{}
	f.Default()
	if got := f.Spec.ChangedFields(); got != nil {
		t.Errorf("ChangedFields of defaults: got %v, want none", got)
	}
	yes, mask, n := true, uint32(0xffff0000), 9099
	f.Spec.BPFEnabled, f.Spec.NftablesMarkMask, f.Spec.HealthPort = &yes, &mask, &n
	f.Spec.ReportingInterval, f.Spec.IptablesLockProbeInterval = &Duration{30 * time.Second}, &Duration{50 * time.Millisecond}
	f.Spec.FailsafeOutboundHostPorts = &[]ProtoPort{}
	f.Spec.LogPrefix = "calico-packet %t %k/%p %r"
	if diff := cmp.Diff([]string{"failsafeOutboundHostPorts", "bpfEnabled"}, f.Spec.ChangedFields()); diff != "" {
		t.Errorf("ChangedFields (-want +got):\n%s", diff)
	}
}

func TestFelixConfiguration_EmptyListIsNotAbsence(t *testing.T) {
	f := &FelixConfiguration{Meta: Meta{Name: "default"}, Spec: FelixConfigurationSpec{FailsafeInboundHostPorts: &[]ProtoPort{}}}
	b, err := EncodeStored(f)
	if err != nil {
		t.Fatal(err)
	}
	got := DecodeStored(f.Key(), b, 0).(*FelixConfiguration).Spec
	if got.FailsafeInboundHostPorts == nil || len(*got.FailsafeInboundHostPorts) != 0 || got.FailsafeOutboundHostPorts != nil {
		t.Errorf("stored and read: got %v and %v", got.FailsafeInboundHostPorts, got.FailsafeOutboundHostPorts)
	}
}

func TestFelixConfiguration_OverridesAndDropInvalid(t *testing.T) {
	n := 70000
	f := &FelixConfiguration{
		Meta: Meta{Name: "default", Annotations: map[string]string{"config.projectcalico.org/LogPrefix": "x", "config.projectcalico.org/": "y", "other": "z"}},
		Spec: FelixConfigurationSpec{
			LogPrefix: "ok", HealthPort: &n, LogSeverityScreen: "loud",
			FailsafeInboundHostPorts: &[]ProtoPort{{"tcp", 22, ""}, {"foo", 1, ""}},
		},
	}
	if diff := cmp.Diff(map[string]string{"LogPrefix": "x"}, f.Overrides()); diff != "" {
		t.Errorf("Overrides (-want +got):\n%s", diff)
	}
	if got := f.DropInvalid(); len(got) != 3 {
		t.Errorf("DropInvalid: got %v, want three faults", got)
	}
	if diff := cmp.Diff(FelixConfigurationSpec{LogPrefix: "ok"}, f.Spec); diff != "" {
		t.Errorf("DropInvalid left (-want +got):\n%s", diff)
	}
}
