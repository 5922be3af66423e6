// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"
)

var (
	benchObjects  = flag.Int("bench-api-objects", 10_000, "how many policies the benchmark of the API creates and lists")
	benchWatchers = flag.Int("bench-api-watchers", 1000, "how many clients watch in the benchmark of the API")
	benchSeconds  = flag.Int("bench-api-seconds", 5, "how long they watch 100 writes a second")
)

// apiSide is one of the two servers, as a client has it.
type apiSide struct {
	name, url, token string
	http             *http.Client
}

func (s *apiSide) do(b *testing.B, method, path string, body []byte) []byte {
	b.Helper()
	resp := s.open(b, method, path, body)
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode >= 300 {
		b.Fatalf("%s: %s %s: %s, %v: %.300s", s.name, method, path, resp.Status, err, data)
	}
	return data
}

func (s *apiSide) open(b *testing.B, method, path string, body []byte) *http.Response {
	b.Helper()
	req, err := http.NewRequestWithContext(b.Context(), method, s.url+path, bytes.NewReader(body))
	if err != nil {
		b.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	if s.token != "" {
		req.Header.Set("Authorization", "Bearer "+s.token)
	}
	resp, err := s.http.Do(req)
	if err != nil {
		b.Fatal(err)
	}
	return resp
}

// spread are durations, of which a few are told.
type spread []time.Duration

func (s spread) at(p float64) time.Duration {
	if len(s) == 0 {
		return 0
	}
	slices.Sort(s)
	return s[min(len(s)-1, int(p*float64(len(s))))]
}

const apiBenchPath = "/apis/projectcalico.org/v3/globalnetworkpolicies"

func apiBenchPolicy(name, value string) []byte {
	return fmt.Appendf(nil, `{"apiVersion":"projectcalico.org/v3","kind":"GlobalNetworkPolicy","metadata":{"name":%q,"labels":{"sent":%q}},"spec":{"tier":"default","order":100,"selector":"all()","types":["Ingress"],"ingress":[{"action":"Allow","protocol":"TCP","source":{"selector":"role == 'web'"},"destination":{"ports":[80,443]}}]}}`, name, value)
}

// creates makes the policies with four clients at once.
func (s *apiSide) creates(b *testing.B) spread {
	var mu sync.Mutex
	var took spread
	var wg sync.WaitGroup
	for c := range 4 {
		wg.Go(func() {
			for i := c; i < *benchObjects; i += 4 {
				began := time.Now()
				s.do(b, "POST", apiBenchPath, apiBenchPolicy(fmt.Sprintf("default.p%05d", i), "0"))
				mu.Lock()
				took = append(took, time.Since(began))
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	return took
}

func (s *apiSide) lists(b *testing.B) (took spread, size int) {
	for range 7 {
		began := time.Now()
		size = len(s.do(b, "GET", apiBenchPath, nil))
		took = append(took, time.Since(began))
	}
	return took, size
}

// watches is how long changes take from before the write until each watcher
// has them, at 100 writes a second; late is how many never came.
func (s *apiSide) watches(b *testing.B) (took spread, late int) {
	ctx, cancel := context.WithCancel(b.Context())
	var mu sync.Mutex
	var wg sync.WaitGroup
	for range *benchWatchers {
		resp := s.open(b, "GET", apiBenchPath+"?watch=true&fieldSelector=metadata.name%3Ddefault.p00000&timeoutSeconds=600", nil)
		wg.Go(func() {
			defer resp.Body.Close()
			go func() { <-ctx.Done(); resp.Body.Close() }()
			var mine spread
			r := bufio.NewReaderSize(resp.Body, 16<<10)
			for {
				line, err := r.ReadBytes('\n')
				if err != nil {
					break
				}
				_, rest, found := bytes.Cut(line, []byte(`"sent":"`))
				if digits, _, ok := bytes.Cut(rest, []byte(`"`)); found && ok {
					if at, err := strconv.ParseInt(string(digits), 10, 64); err == nil && at > 0 {
						mine = append(mine, time.Since(time.Unix(0, at)))
					}
				}
			}
			mu.Lock()
			defer mu.Unlock()
			took = append(took, mine...)
		})
	}
	tick := time.NewTicker(10 * time.Millisecond)
	writes := 0
	for end := time.Now().Add(time.Duration(*benchSeconds) * time.Second); time.Now().Before(end); writes++ {
		<-tick.C
		patch := fmt.Appendf(nil, `{"metadata":{"labels":{"sent":"%d"}}}`, time.Now().UnixNano())
		s.patch(b, apiBenchPath+"/default.p00000", patch)
	}
	tick.Stop()
	time.Sleep(2 * time.Second) // what has not come by now is late
	cancel()
	wg.Wait()
	return took, writes**benchWatchers - len(took)
}

func (s *apiSide) patch(b *testing.B, path string, body []byte) {
	req, err := http.NewRequestWithContext(b.Context(), "PATCH", s.url+path, bytes.NewReader(body))
	if err != nil {
		b.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/merge-patch+json")
	if s.token != "" {
		req.Header.Set("Authorization", "Bearer "+s.token)
	}
	resp, err := s.http.Do(req)
	if err != nil {
		b.Fatal(err)
	}
	defer resp.Body.Close()
	if data, _ := io.ReadAll(resp.Body); resp.StatusCode != 200 {
		b.Fatalf("%s: PATCH: %s: %.300s", s.name, resp.Status, data)
	}
}

// BenchmarkAPI_BesideKubeAPIServer does the same with ripstop-server and with
// a kube-apiserver that has the kinds as custom resources, on one etcd, and
// prints the table of docs/reference/benchmarks.md.
func BenchmarkAPI_BesideKubeAPIServer(b *testing.B) {
	srv := startServer(b)
	socket := srv.dir + "/run/api.sock"
	ours := &apiSide{name: "ripstop-server", url: "http://localhost", http: &http.Client{Transport: &http.Transport{
		MaxIdleConnsPerHost: 16,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", socket)
		},
	}}}
	k := startKubeAPIServerOn(b, srv.dir+"/run/etcd.sock")
	k.define(b)
	theirs := &apiSide{name: "kube-apiserver", url: k.url, token: k.token, http: &http.Client{Transport: &http.Transport{
		ForceAttemptHTTP2: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true},
	}}}
	var rows [][3]string
	row := func(what string, a, z time.Duration) {
		rows = append(rows, [3]string{what, fmt.Sprintf("%.1f | %.1f", ms(a), ms(z)), fmt.Sprintf("%.2f", float64(a)/float64(z))})
	}
	us, them := ours.creates(b), theirs.creates(b)
	row("create, p50 ms", us.at(0.5), them.at(0.5))
	row("create, p99 ms", us.at(0.99), them.at(0.99))
	us, size := ours.lists(b)
	them, size2 := theirs.lists(b)
	row(fmt.Sprintf("list of %d policies (%d and %d kB), p50 ms", *benchObjects, size>>10, size2>>10), us.at(0.5), them.at(0.5))
	us, late := ours.watches(b)
	them, late2 := theirs.watches(b)
	row(fmt.Sprintf("change to each of %d watchers, 100 writes a second, p50 ms", *benchWatchers), us.at(0.5), them.at(0.5))
	row(fmt.Sprintf("the same, p99 ms (%d and %d events, %d and %d late)", len(us), len(them), late, late2), us.at(0.99), them.at(0.99))
	var text bytes.Buffer
	fmt.Fprintf(&text, "\n| | ripstop-server | kube-apiserver | ratio |\n| --- | ---: | ---: | ---: |\n")
	for _, r := range rows {
		fmt.Fprintf(&text, "| %s | %s | %s |\n", r[0], r[1], r[2])
	}
	fmt.Print(text.String())
}
