// SPDX-License-Identifier: Apache-2.0

// Package apiserver is Ripstop's REST admin API: every kind of package api in
// Kubernetes' URL and JSON shapes, on gorilla/mux, in front of a store.Store.
//
//	socket, TLS ─► limits ─► authn ─► route table ─► authz ─► handler ─► store
//	                                                        watch ◄─ feed (one per kind)
//	                                                        advice ◄─ census (labels only)
//
// It decodes strictly, defaults, validates and checks before it writes, and
// answers every error with a Status that says what, where and why. It is not
// a store, knows no policy semantics and never touches the host. The assembly
// makes one and gives it the sockets of Listen.
package apiserver

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/gorilla/mux"

	"github.com/ripstop/ripstop/daemon/api"
	"github.com/ripstop/ripstop/daemon/store"
	"github.com/ripstop/ripstop/web/apiserver/authn"
	"github.com/ripstop/ripstop/web/apiserver/authz"
)

// Config is what a Server needs. Store is required; the rest has defaults.
type Config struct {
	Store store.Store
	// Log takes the server's own log; default: none is written.
	Log *slog.Logger
	// Version is Ripstop's version as /version tells it; default api.Version.
	Version string
	// Authn says who somebody is, Rights what he may do. Whoever gives them
	// runs them. By default they know the peers of sockets and the groups
	// with built-in rights.
	Authn  *authn.Authenticator
	Rights *authz.Rights
	// PKI holds the server's certificates and signs those of clients; nil if
	// the server is on its socket alone.
	PKI *authn.PKI
	// Address is the URL that new clients are told; empty without PKI.
	Address string
	// AdminGroup is the Unix group whose members are admins on the socket;
	// default DefaultAdminGroup.
	AdminGroup string
	// Hosts are the names by which TCP clients may call the server, without
	// port, besides those of its certificate; default localhost, 127.0.0.1
	// and ::1.
	Hosts []string
	// Now is the clock; default time.Now.
	Now func() time.Time
	// WatchWindow is how many changes of a kind are kept for watches that
	// resume; default 1024. WatchBuffer is how far a client may fall behind
	// before its watch is ended; default 256.
	WatchWindow, WatchBuffer int
	// Drain is how long Serve waits for running requests at the end; default
	// 5 s.
	Drain time.Duration
	// Limits bound what clients may take.
	Limits Limits
	// Audit keeps the record of writes and refusals; nil: there is none.
	Audit Recorder
}

// Server is the REST admin API. Its methods may be called from many
// goroutines.
type Server struct {
	cfg      Config
	log      *slog.Logger
	router   *mux.Router
	routes   []route
	adminGID int
	started  time.Time
	catalog  catalog
	openAPI  func() *openAPI
	feeds    *feeds
	limiter  *limiter
	census   *census
	counting sync.Once // starts the census and the history
	recorder *recorder
	history  *history

	// tiers keeps a tier from being deleted while a policy is put into it;
	// pools keeps two overlapping pools from being created side by side.
	tiers sync.RWMutex
	pools sync.Mutex

	draining  chan struct{} // closed when Serve ends: watches end
	drainOnce sync.Once
}

// New is a Server that does not listen yet: see Serve and Handler.
func New(cfg Config) *Server {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Version == "" {
		cfg.Version = api.Version
	}
	if cfg.AdminGroup == "" {
		cfg.AdminGroup = DefaultAdminGroup
	}
	if len(cfg.Hosts) == 0 {
		cfg.Hosts = []string{"localhost", "127.0.0.1", "::1"}
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Authn == nil {
		cfg.Authn = authn.New(nil, cfg.Now)
	}
	if cfg.Rights == nil {
		cfg.Rights = authz.New()
	}
	if cfg.WatchWindow == 0 {
		cfg.WatchWindow = 1024
	}
	if cfg.WatchBuffer == 0 {
		cfg.WatchBuffer = 256
	}
	if cfg.Drain == 0 {
		cfg.Drain = 5 * time.Second
	}
	cfg.Limits = cfg.Limits.withDefaults()
	s := &Server{
		cfg:      cfg,
		log:      cfg.Log,
		adminGID: adminGID(cfg.AdminGroup),
		started:  cfg.Now(),
		catalog:  newCatalog(),
		routes:   routes,
		draining: make(chan struct{}),
		limiter:  newLimiter(cfg.Limits, cfg.Now),
		recorder: newRecorder(cfg.Audit),
		history:  newHistory(cfg.Store, cfg.Log),
	}
	s.feeds = newFeeds(cfg.Store, cfg.Log, cfg.WatchWindow, cfg.WatchBuffer)
	s.census = newCensus(cfg.Store)
	s.openAPI = newOpenAPI(s.catalog, cfg.Version)
	s.router = s.newRouter()
	return s
}

// storeTime is how long a request waits for the store.
const storeTime = 15 * time.Second

// Serve answers requests on all listeners until ctx ends or a listener fails.
// Then it ends the watches, lets running requests finish (Config.Drain) and
// closes the listeners. A Server serves once.
func (s *Server) Serve(ctx context.Context, listeners ...net.Listener) error {
	srv := &http.Server{
		Handler:           s.Handler(),
		ReadHeaderTimeout: s.cfg.Limits.HeaderTime, // of the TLS handshake too
		IdleTimeout:       s.cfg.Limits.IdleTime,
		// net/http reads 4 KiB more than this before it refuses.
		MaxHeaderBytes: maxHeader - 4<<10,
		HTTP2:          &http.HTTP2Config{MaxConcurrentStreams: maxStreams},
		ConnState:      newConnections(s.cfg.Limits).changed,
		// "OPTIONS *" is a request like others.
		DisableGeneralOptionsHandler: true,
		ErrorLog:                     slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			return context.WithValue(ctx, identityKey{}, authn.Peer(c, s.adminGID))
		},
	}
	var wg sync.WaitGroup
	failed := make(chan error, len(listeners)) // one slot each: nobody blocks
	for _, l := range listeners {
		s.log.Info("API listening", "address", l.Addr().String())
		wg.Go(func() { failed <- srv.Serve(l) })
	}
	var err error
	select {
	case <-ctx.Done():
	case err = <-failed:
	}
	s.drainOnce.Do(func() { close(s.draining) })
	defer s.feeds.close()
	stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.cfg.Drain)
	defer cancel()
	if serr := srv.Shutdown(stop); serr != nil {
		s.log.Warn("Requests cut at shutdown", "err", serr)
		srv.Close()
	}
	wg.Wait()
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}

// Close ends all watches and what feeds them. Only users of Handler need it.
func (s *Server) Close() {
	s.drainOnce.Do(func() { close(s.draining) })
	s.feeds.close()
}

// Handler is the whole API for use with another HTTP server. Requests that
// come in another way than through Serve are anonymous. Close it at the end.
func (s *Server) Handler() http.Handler {
	s.counting.Do(func() {
		s.feeds.wg.Go(func() { s.census.run(s.feeds.ctx) })
		s.feeds.wg.Go(func() { s.history.run(s.feeds.ctx) })
	})
	return s.guard(s.router)
}
