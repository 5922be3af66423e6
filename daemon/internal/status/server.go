// SPDX-License-Identifier: Apache-2.0

package status

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/ripstop/ripstop/daemon/api"
	"github.com/ripstop/ripstop/daemon/internal/host"
)

// SocketName is the name of the agent's socket in the run directory.
const SocketName = "agent.sock"

// Actions are what an operator may ask for on the socket.
type Actions struct {
	// AcceptHeld lets the held picture be applied. The answer is JSON:
	// {"held": "why it was held"}, empty if nothing was.
	AcceptHeld func() error
	// Resync makes all parts read the kernel anew.
	Resync func()
	// Settings is shown as JSON at /config; nil: it is not.
	Settings any
	// Doctor and Exposure look at the host; shown as JSON at /doctor and
	// /exposure. nil: they are not.
	Doctor   func(context.Context) (*api.DoctorReport, error)
	Exposure func(context.Context) (*api.ExposureReport, error)
	// Denials tells what was denied in the time before now; shown as JSON at
	// /denials?since=15m. nil: it is not.
	Denials func(ctx context.Context, before time.Duration) (*api.Denials, error)
	// Pause puts policy out of force for a while, Resume in force again; by
	// says who asked. nil: they cannot be asked for.
	Pause  func(d time.Duration, by string) (api.Pause, error)
	Resume func(by string) (bool, error)
	// StepBack holds what the last change on this host was of at what it was
	// before, UndoStepBack lets all go that is held; by says who asked. nil: they
	// cannot be asked for.
	StepBack     func(ctx context.Context, by string) (api.SteppedBack, error)
	UndoStepBack func(ctx context.Context, by string) (bool, error)
	// Counts reads the counters of rules; shown as JSON at /counts. nil: they
	// are not.
	Counts func(context.Context) (*api.RuleCounts, error)
	// Connections shows what the kernel tracks, as JSON at /connections. nil:
	// it is not.
	Connections Connections
}

// Connections begins an answer with the host and its interfaces, and then hands
// on so many connections at the most; more is how many there are beside them.
// Both may fail, as visit may.
type Connections func(ctx context.Context, most int, begin func(api.Connections) error, visit func(api.Connection) error) (more int, err error)

// Accepted is the answer to POST /accept-held, as JSON.
type Accepted struct {
	// Held is why the picture was held that is applied now.
	Held string `json:"held"`
}

// Resumed is the answer to POST /resume, as JSON.
type Resumed struct {
	// Paused tells whether policy was out of force.
	Paused bool `json:"paused"`
}

// SteppedForward is the answer to POST /stepback/undo, as JSON.
type SteppedForward struct {
	// SteppedBack tells whether anything was held.
	SteppedBack bool `json:"steppedBack"`
}

// Handler serves GET /status (api.HostStatus as JSON), /config, /doctor,
// /exposure, /counts, /connections, /denials?since=15m, /livez, /readyz and /metrics, and POST
// /accept-held, /resync, /pause?for=30m (the answer is an api.Pause as JSON),
// /resume (Resumed), /stepback (api.SteppedBack) and /stepback/undo
// (SteppedForward). It does not ask who is there: see Listen.
func Handler(b *Board, g prometheus.Gatherer, a Actions) http.Handler {
	mux := http.NewServeMux()
	public(mux, b, g)
	mux.HandleFunc("GET /status", func(w http.ResponseWriter, _ *http.Request) { writeJSON(w, b.Status()) })
	if a.Settings != nil {
		mux.HandleFunc("GET /config", func(w http.ResponseWriter, _ *http.Request) { writeJSON(w, a.Settings) })
	}
	if a.Doctor != nil {
		mux.HandleFunc("GET /doctor", report(a.Doctor))
	}
	if a.Exposure != nil {
		mux.HandleFunc("GET /exposure", report(a.Exposure))
	}
	if a.Counts != nil {
		mux.HandleFunc("GET /counts", report(a.Counts))
	}
	if a.Connections != nil {
		mux.HandleFunc("GET /connections", connections(a.Connections))
	}
	if a.Denials != nil {
		mux.HandleFunc("GET /denials", func(w http.ResponseWriter, r *http.Request) {
			before, err := time.ParseDuration(r.URL.Query().Get("since"))
			if err != nil || before <= 0 {
				http.Error(w, "denials: since: want how long ago, such as 15m", http.StatusBadRequest)
				return
			}
			report(func(ctx context.Context) (*api.Denials, error) { return a.Denials(ctx, before) })(w, r)
		})
	}
	if a.AcceptHeld != nil {
		mux.HandleFunc("POST /accept-held", func(w http.ResponseWriter, _ *http.Request) {
			held := b.Held()
			if err := a.AcceptHeld(); err != nil {
				http.Error(w, err.Error(), http.StatusConflict)
				return
			}
			b.cfg.Log.Warn("status: an operator has accepted the held picture", "why", held)
			writeJSON(w, Accepted{Held: held})
		})
	}
	if a.Pause != nil {
		mux.HandleFunc("POST /pause", func(w http.ResponseWriter, r *http.Request) {
			d, err := time.ParseDuration(r.URL.Query().Get("for"))
			if err != nil {
				http.Error(w, "pause: for: "+err.Error(), http.StatusBadRequest)
				return
			}
			p, err := a.Pause(d, whoAsks(r))
			if err != nil {
				http.Error(w, err.Error(), http.StatusConflict)
				return
			}
			writeJSON(w, p)
		})
	}
	if a.Resume != nil {
		mux.HandleFunc("POST /resume", func(w http.ResponseWriter, r *http.Request) {
			was, err := a.Resume(whoAsks(r))
			if err != nil {
				http.Error(w, err.Error(), http.StatusInternalServerError)
				return
			}
			writeJSON(w, Resumed{Paused: was})
		})
	}
	if a.StepBack != nil {
		mux.HandleFunc("POST /stepback", func(w http.ResponseWriter, r *http.Request) {
			s, err := a.StepBack(r.Context(), whoAsks(r))
			if err != nil {
				http.Error(w, err.Error(), http.StatusConflict)
				return
			}
			writeJSON(w, s)
		})
	}
	if a.UndoStepBack != nil {
		mux.HandleFunc("POST /stepback/undo", func(w http.ResponseWriter, r *http.Request) {
			was, err := a.UndoStepBack(r.Context(), whoAsks(r))
			if err != nil {
				http.Error(w, err.Error(), http.StatusInternalServerError)
				return
			}
			writeJSON(w, SteppedForward{SteppedBack: was})
		})
	}
	if a.Resync != nil {
		mux.HandleFunc("POST /resync", func(w http.ResponseWriter, _ *http.Request) {
			a.Resync()
			fmt.Fprintln(w, "resync asked for")
		})
	}
	return mux
}

// report answers with what a look at the host gives.
func report[T any](look func(context.Context) (T, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		v, err := look(r.Context())
		if err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		writeJSON(w, v)
	}
}

// PublicHandler serves what anybody on the host may see: GET /livez, /readyz
// and /metrics.
func PublicHandler(b *Board, g prometheus.Gatherer) http.Handler {
	mux := http.NewServeMux()
	public(mux, b, g)
	return mux
}

func public(mux *http.ServeMux, b *Board, g prometheus.Gatherer) {
	mux.HandleFunc("GET /livez", health(b.LiveReasons))
	mux.HandleFunc("GET /readyz", health(b.ReadyReasons))
	mux.Handle("GET /metrics", promhttp.HandlerFor(g, promhttp.HandlerOpts{ErrorHandling: promhttp.ContinueOnError}))
}

// health answers 200 "ok", or 503 with a reason a line.
func health(reasons func() []string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		if r := reasons(); len(r) > 0 {
			w.WriteHeader(http.StatusServiceUnavailable)
			fmt.Fprintln(w, strings.Join(r, "\n"))
			return
		}
		fmt.Fprintln(w, "ok")
	}
}

func writeJSON(w http.ResponseWriter, v any) {
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Write(append(b, '\n'))
}

// ErrRunning is returned by Listen when another agent answers at the socket.
var ErrRunning = errors.New("another ripstopd answers at this socket")

// Listen makes the agent's socket in runDir: mode 0660 in a directory of 0750,
// which is made if it is missing; as root on a machine that has the group
// host.AdminGroup, both belong to it. Root, the agent's own user and members
// of the group get through, whatever the mode: others are cut off when they
// connect. A socket that nobody answers at is replaced.
func Listen(runDir string) (net.Listener, error) {
	path := filepath.Join(runDir, SocketName)
	gid := host.GroupID(host.AdminGroup)
	if err := makeRunDir(runDir, gid); err != nil {
		return nil, err
	}
	if c, err := net.DialTimeout("unix", path, time.Second); err == nil {
		c.Close()
		return nil, fmt.Errorf("%s: %w", path, ErrRunning)
	}
	if st, err := os.Lstat(path); err == nil {
		if st.Mode().Type() != os.ModeSocket {
			return nil, fmt.Errorf("%s: is there and is no socket: remove it", path)
		}
		if err := os.Remove(path); err != nil {
			return nil, err
		}
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, err
	}
	if err := own(path, gid, 0o660); err != nil {
		l.Close()
		return nil, err
	}
	return &peerListener{l.(*net.UnixListener), gid}, nil
}

// makeRunDir makes the directory of sockets. One that is there is left as it
// is.
func makeRunDir(dir string, gid int) error {
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return err
	}
	if err := os.Mkdir(dir, 0o750); errors.Is(err, fs.ErrExist) {
		return nil
	} else if err != nil {
		return err
	}
	return own(dir, gid, 0o750)
}

// own sets the mode, whatever the umask, and, as root, the group.
func own(path string, gid int, mode fs.FileMode) error {
	if gid >= 0 && os.Geteuid() == 0 {
		if err := os.Lchown(path, 0, gid); err != nil {
			return err
		}
	}
	return os.Chmod(path, mode)
}

// peerListener accepts connections of root, of our own user and of the admin
// group.
type peerListener struct {
	*net.UnixListener
	gid int // below zero: there is no such group
}

// Accept closes the connections of others and waits for the next.
func (l *peerListener) Accept() (net.Conn, error) {
	for {
		c, err := l.AcceptUnix()
		if err != nil {
			return nil, err
		}
		peer, err := host.PeerOf(c)
		if err == nil && allowed(peer, uint32(os.Geteuid()), l.gid) {
			return &peerConn{c, peer}, nil
		}
		c.Close()
	}
}

// peerConn is a connection of somebody known.
type peerConn struct {
	*net.UnixConn
	peer host.Peer
}

type peerKey struct{}

// withPeer lets handlers know who is at the other end.
func withPeer(ctx context.Context, c net.Conn) context.Context {
	if p, ok := c.(*peerConn); ok {
		return context.WithValue(ctx, peerKey{}, p.peer)
	}
	return ctx
}

// whoAsks names the user at the other end of a request's connection.
func whoAsks(r *http.Request) string {
	p, ok := r.Context().Value(peerKey{}).(host.Peer)
	if !ok {
		return "somebody"
	}
	id := strconv.FormatUint(uint64(p.UID), 10)
	if u, err := user.LookupId(id); err == nil {
		return u.Username
	}
	return "uid " + id
}

func allowed(peer host.Peer, own uint32, gid int) bool {
	return peer.UID == 0 || peer.UID == own || peer.In(gid)
}

// Serve serves h at l until ctx ends, gives requests two seconds to end, and
// returns nil; or an error if l breaks.
func Serve(ctx context.Context, l net.Listener, h http.Handler) error {
	s := &http.Server{Handler: h, ConnContext: withPeer, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second, WriteTimeout: 30 * time.Second, IdleTimeout: time.Minute, MaxHeaderBytes: 16 << 10}
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(l) }()
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
	}
	stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
	defer cancel()
	if err := s.Shutdown(stop); err != nil {
		s.Close()
	}
	<-ended
	return nil
}
