// SPDX-License-Identifier: Apache-2.0

package client_test

import (
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/ripstop/ripstop/daemon/client"
)

func TestCredentials_TokenGoesWithEveryRequestOnHTTPS(t *testing.T) {
	var got string
	srv := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got = r.Header.Get("Authorization")
		io.WriteString(w, `{"gitVersion":"v1.35.0+ripstop.9"}`)
	}))
	defer srv.Close()
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: srv.Certificate().Raw})
	c, err := client.New(client.Config{Server: srv.URL, Credentials: client.Credentials{CA: ca, Token: "planted"}})
	if err != nil {
		t.Fatal(err)
	}
	if v, err := c.ServerVersion(t.Context()); err != nil || v != "9" || got != "Bearer planted" {
		t.Errorf("version %q, %v; Authorization %q", v, err, got)
	}
	stranger, err := client.New(client.Config{Server: srv.URL})
	if err != nil {
		t.Fatal(err)
	}
	got = ""
	if _, err := stranger.ServerVersion(t.Context()); err == nil || got != "" {
		t.Errorf("a server whose certificate nobody known has signed was talked to: %v, %q", err, got)
	}
}

func TestCredentials_ThatMakeNoSenseAreRefused(t *testing.T) {
	for _, c := range []struct {
		server string
		creds  client.Credentials
		want   string
	}{
		{"http://example.org:1", client.Credentials{Token: "planted"}, "in the clear"},
		{"https://example.org:1", client.Credentials{CA: []byte("no")}, "no certificate"},
		{"https://example.org:1", client.Credentials{Certificate: []byte("no")}, "client certificate"},
	} {
		_, err := client.New(client.Config{Server: c.server, Credentials: c.creds})
		if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "planted") {
			t.Errorf("New(%s): got %v, want %q in it", c.server, err, c.want)
		}
	}
	for _, server := range []string{"http://127.0.0.1:1", "http://[::1]:1", "unix:///run/x"} {
		if _, err := client.New(client.Config{Server: server, Credentials: client.Credentials{Token: "planted"}}); err != nil {
			t.Errorf("New(%s): %v", server, err)
		}
	}
}

func TestCredentials_DoNotPrintWhatIsSecret(t *testing.T) {
	c := client.Config{Credentials: client.Credentials{Token: "planted", Key: []byte("planted")}}
	for _, text := range []string{fmt.Sprint(c), fmt.Sprintf("%+v", c), fmt.Sprintf("%#v", c)} {
		if strings.Contains(text, "planted") || strings.Contains(text, "112") {
			t.Errorf("printed: %s", text)
		}
	}
}
