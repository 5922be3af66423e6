// SPDX-License-Identifier: Apache-2.0

package command

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/spf13/cobra"

	"github.com/ripstop/ripstop/daemon/api"
	"github.com/ripstop/ripstop/daemon/client/clienttest"
	"github.com/ripstop/ripstop/web/apiserver"
)

var update = flag.Bool("update", false, "rewrite the outputs in testdata; read the difference")

func TestMain(m *testing.M) {
	if filepath.Base(os.Args[0]) != "ripstop" { // in a transcript it is ripstop, with its own environment
		// Contexts and datastores of whoever runs the tests are not theirs.
		os.Setenv("XDG_CONFIG_HOME", "/dev/null")
		for _, v := range []string{"ETCD_ENDPOINTS", "DATASTORE_TYPE", "CALICO_ETCD_ENDPOINTS", "CALICO_DATASTORE_TYPE"} {
			os.Unsetenv(v)
		}
	}
	testscript.Main(m, map[string]func(){
		"ripstop": func() { os.Exit(Main(os.Args[1:], Streams{os.Stdin, os.Stdout, os.Stderr})) },
	})
}

// server is what a script talks to: a real API server on $WORK/api.sock in
// front of a store in memory.
type server struct {
	store clienttest.Store
	stop  func()
}

type serverKey struct{}

// serve runs a server until stop.
func serve(t testing.TB, path string) *server {
	t.Helper()
	return serveStore(t, path, clienttest.NewStore(t, 0))
}

// serveStore runs a server in front of a store until stop.
func serveStore(t testing.TB, path string, st clienttest.Store) *server {
	t.Helper()
	l, err := apiserver.Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- apiserver.New(apiserver.Config{Store: st, Version: "9.8.7"}).Serve(ctx, l) }()
	stopped := false
	return &server{st, func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Serve: %v", err)
		}
	}}
}

// TestScripts runs the transcripts in testdata. Beside ripstop they have:
//
//	stopserver           stop the API server
//	putraw KIND NAME F   store the file F as it is
//	alter F OLD NEW      replace a text in the file F
//	agent F [HELD]       start an agent that answers /status with the file F,
//	                     /doctor, /exposure, /counts and /connections with doctor.json,
//	                     exposure.json, counts.json and connections.json
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata",
		RequireExplicitExec: true,
		UpdateScripts:       *update,
		Setup: func(e *testscript.Env) error {
			s := serve(t, filepath.Join(e.WorkDir, "api.sock"))
			e.Values[serverKey{}] = s
			e.Defer(s.stop)
			e.Setenv("RIPSTOP_SERVER", "unix://"+filepath.Join(e.WorkDir, "api.sock"))
			e.Setenv("RIPSTOP_AGENT", "unix://"+filepath.Join(e.WorkDir, "agent.sock"))
			e.Setenv("USER", "alice")
			e.Setenv("SSH_CONNECTION", "") // that of whoever runs the tests is not theirs
			e.Setenv("XDG_CONFIG_HOME", filepath.Join(e.WorkDir, "home"))
			host, err := os.Hostname()
			e.Setenv("HOSTNAME", host)
			return err
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"stopserver": func(ts *testscript.TestScript, _ bool, _ []string) { ts.Value(serverKey{}).(*server).stop() },
			"putraw":     putRaw,
			"agent":      startAgent,
			"alter":      alterFile,
		},
	})
}

// alterFile replaces a text in a file by another.
func alterFile(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) != 3 {
		ts.Fatalf("usage: alter FILE OLD NEW")
	}
	text := ts.ReadFile(args[0])
	if !strings.Contains(text, args[1]) {
		ts.Fatalf("%s has no %q", args[0], args[1])
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(strings.ReplaceAll(text, args[1], args[2])), 0o600))
}

func putRaw(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) != 3 {
		ts.Fatalf("usage: putraw KIND NAME FILE")
	}
	k := api.Key{Kind: api.Kind(args[0]), Name: args[1]}
	_, err := ts.Value(serverKey{}).(*server).store.PutBytes(context.Background(), k, []byte(ts.ReadFile(args[2])))
	ts.Check(err)
}

// startAgent is a stand-in for the agent's socket.
func startAgent(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) == 0 {
		ts.Fatalf("usage: agent FILE [HELD]")
	}
	status := ts.ReadFile(args[0])
	held := strings.Join(args[1:], " ")
	l, err := net.Listen("unix", ts.MkAbs("agent.sock"))
	ts.Check(err)
	mux := http.NewServeMux()
	mux.HandleFunc("GET /status", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, status) })
	for _, name := range []string{"doctor", "exposure", "counts", "denials", "connections"} {
		if data, err := os.ReadFile(ts.MkAbs(name + ".json")); err == nil {
			mux.HandleFunc("GET /"+name, func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(data) })
		}
	}
	mux.HandleFunc("POST /accept-held", func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode(map[string]string{"held": held})
		held = ""
	})
	paused := false
	mux.HandleFunc("POST /pause", func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Get("for") == "3h" {
			http.Error(w, "pause: nothing was paused, for it cannot be recorded: disk full", http.StatusConflict)
			return
		}
		paused = true
		fmt.Fprint(w, `{"since": "2090-01-01T00:00:00Z", "until": "2090-01-01T00:30:00Z", "by": "root"}`)
	})
	mux.HandleFunc("POST /resume", func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode(map[string]bool{"paused": paused})
		paused = false
	})
	srv := &http.Server{Handler: mux}
	done := make(chan struct{})
	go func() { defer close(done); _ = srv.Serve(l) }()
	ts.Defer(func() { srv.Close(); <-done })
}

// run runs a command line in this process.
func run(t *testing.T, stdin string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, err bytes.Buffer
	code = Main(args, Streams{strings.NewReader(stdin), &out, &err})
	return code, out.String(), err.String()
}

// commands are all commands of the tree but help.
func commands() []*cobra.Command {
	var out []*cobra.Command
	var walk func(c *cobra.Command)
	walk = func(c *cobra.Command) {
		out = append(out, c)
		for _, sub := range c.Commands() {
			walk(sub)
		}
	}
	walk((&app{now: time.Now}).root())
	return out
}

func TestEveryCommand_ExplainsItself(t *testing.T) {
	for _, c := range commands() {
		path := c.CommandPath()
		if c.Short == "" || len(c.Long) < len(c.Short) || c.Example == "" {
			t.Errorf("%s: short, long help and examples are wanted", path)
		}
		if strings.HasSuffix(c.Short, ".") || !strings.Contains(c.Example, "ripstop") {
			t.Errorf("%s: short help ends with a stop, or the example is none", path)
		}
		for line := range strings.Lines(c.Long) {
			if len(line) > 81 {
				t.Errorf("%s: line of help is too wide: %q", path, line)
			}
		}
		if c.HasParent() && !c.HasSubCommands() {
			args := append(strings.Fields(path)[1:], "--no-such-flag")
			if code, _, stderr := run(t, "", args...); code != exitUsage || !strings.Contains(stderr, path+" --help") {
				t.Errorf("%s --no-such-flag: code %d, %q", path, code, stderr)
			}
		}
	}
}

func TestEveryCommand_HasATranscript(t *testing.T) {
	for _, c := range commands() {
		if !c.HasParent() || c.HasSubCommands() {
			continue
		}
		path := filepath.Join("testdata", strings.ReplaceAll(strings.TrimPrefix(c.CommandPath(), "ripstop "), " ", "-")+".txtar")
		data, err := os.ReadFile(path)
		if err != nil || !strings.Contains(string(data), "exec "+c.CommandPath()) {
			t.Errorf("%s: no transcript of it in %s (%v)", c.CommandPath(), path, err)
		}
	}
}

func TestHelp_ListsEveryCommand(t *testing.T) {
	code, stdout, _ := run(t, "", "help")
	if code != 0 {
		t.Fatalf("help: code %d", code)
	}
	for _, c := range commands() {
		if c.HasParent() && c.Parent() == c.Root() && !strings.Contains(stdout, c.Name()) {
			t.Errorf("help does not list %s", c.Name())
		}
	}
}
