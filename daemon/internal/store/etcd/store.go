// SPDX-License-Identifier: Apache-2.0

package etcd

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/ripstop/ripstop/daemon/store"
)

// Connections in use are asked for a sign of life after keepAliveTime without
// one and given up after another keepAliveTimeout, so a black hole is noticed
// within 12 s. Servers by default refuse to be asked more often than every
// 5 s, and to be asked at all over connections that are not in use.
const (
	keepAliveTime    = 8 * time.Second
	keepAliveTimeout = 4 * time.Second
)

// Store is a store.Store on etcd. It is safe for concurrent use.
type Store struct {
	cfg    Config
	closed chan struct{}
	once   sync.Once

	// connecting is held by whoever makes the client: logging in takes a
	// round trip, so a caller must be able to give up waiting.
	connecting chan struct{}
	mu         sync.Mutex // guards client
	client     *clientv3.Client

	causeMu sync.Mutex // guards cause
	// cause is gRPC's text of the last call that found no connection: it
	// holds why, which the client library drops.
	cause string

	probing chan struct{} // held by whoever probes; guards the two below
	probed  time.Time
	probeOK probeResult
}

var _ store.Store = (*Store)(nil)

// Open checks the configuration and gives a Store. It does not wait for etcd:
// calls return store.ErrUnavailable until it can be reached.
func Open(cfg Config) (*Store, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	cfg = cfg.withDefaults()
	if cfg.Username != "" && strings.HasPrefix(cfg.Endpoints[0], "http://") {
		cfg.Log.Warn("The password for etcd goes over the network as plain text; use https endpoints", "endpoint", cfg.Endpoints[0])
	}
	return &Store{
		cfg:        cfg,
		closed:     make(chan struct{}),
		connecting: make(chan struct{}, 1),
		probing:    make(chan struct{}, 1),
	}, nil
}

// Close ends all calls and watches. It may be called more than once.
func (s *Store) Close() error {
	var err error
	s.once.Do(func() {
		close(s.closed)
		s.connecting <- struct{}{}
		defer func() { <-s.connecting }()
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.client != nil {
			err = s.client.Close()
		}
	})
	return err
}

// connect gives the client, made by the first call that needs it.
func (s *Store) connect(ctx context.Context) (*clientv3.Client, error) {
	select {
	case <-s.closed:
		return nil, errClosed
	default:
	}
	s.mu.Lock()
	c := s.client
	s.mu.Unlock()
	if c != nil {
		return c, nil
	}
	select {
	case s.connecting <- struct{}{}:
		defer func() { <-s.connecting }()
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-s.closed:
		return nil, errClosed
	}
	s.mu.Lock()
	c = s.client
	s.mu.Unlock()
	if c != nil {
		return c, nil
	}
	select {
	case <-s.closed: // while waiting for our turn
		return nil, errClosed
	default:
	}
	t, err := s.cfg.tls()
	if err != nil {
		return nil, err
	}
	c, err = clientv3.New(clientv3.Config{
		Endpoints:            s.cfg.Endpoints,
		TLS:                  t,
		Username:             s.cfg.Username,
		Password:             s.cfg.Password.Reveal(),
		DialTimeout:          s.cfg.DialTimeout,
		DialKeepAliveTime:    keepAliveTime,
		DialKeepAliveTimeout: keepAliveTimeout,
		Logger:               zap.NewNop(),
		DialOptions: []grpc.DialOption{
			grpc.WithConnectParams(grpc.ConnectParams{
				Backoff:           backoff.Config{BaseDelay: 50 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: 2 * time.Second},
				MinConnectTimeout: s.cfg.DialTimeout,
			}),
			grpc.WithChainUnaryInterceptor(s.noteCause),
		},
	})
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	s.client = c
	s.mu.Unlock()
	return c, nil
}

// noteCause remembers why a call timed out.
func (s *Store) noteCause(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	err := invoke(ctx, method, req, reply, cc, opts...)
	cause := ""
	if status.Code(err) == codes.DeadlineExceeded {
		cause = status.Convert(err).Message()
	}
	if cause != "" || err == nil {
		s.causeMu.Lock()
		s.cause = cause
		s.causeMu.Unlock()
	}
	return err
}

var errClosed = errors.New("etcd: store is closed")

// call runs f with a client and a context that has a deadline, and turns its
// error into one of package store's; what names the call in the error.
func (s *Store) call(ctx context.Context, what fmt.Stringer, f func(ctx context.Context, c *clientv3.Client) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	bounded := ctx
	if _, has := ctx.Deadline(); !has {
		var cancel context.CancelFunc
		bounded, cancel = context.WithTimeout(ctx, s.cfg.RequestTimeout)
		defer cancel()
	}
	c, err := s.connect(bounded)
	if err == nil {
		err = f(bounded, c)
	}
	return s.translate(ctx, what, err)
}

// translate turns an error of the client library into one of package store's.
// ctx is the caller's own.
func (s *Store) translate(ctx context.Context, what fmt.Stringer, err error) error {
	if err == nil {
		return nil
	}
	s.causeMu.Lock()
	cause := s.cause
	s.causeMu.Unlock()
	switch ended := ctx.Err(); {
	case ended == nil:
	case errors.Is(ended, context.DeadlineExceeded) && cause != "":
		return fmt.Errorf("%s: %w: %s", what, ended, cause)
	default:
		return ended
	}
	err = rpctypes.Error(err)
	as := func(sentinel error) error {
		return fmt.Errorf("%s: %w: %s", what, sentinel, err.Error())
	}
	switch {
	case errors.Is(err, errClosed):
		return fmt.Errorf("%s: %w", what, err)
	case errors.Is(err, rpctypes.ErrNoSpace):
		return as(store.ErrNoSpace)
	case errors.Is(err, rpctypes.ErrCompacted), errors.Is(err, rpctypes.ErrFutureRev):
		// A revision that has not come yet was taken from another store, or
		// from this one before it was put back to an older state: what the
		// caller knows is as worthless as after a compaction.
		return as(store.ErrCompacted)
	case errors.Is(err, rpctypes.ErrTooManyRequests):
		return as(store.ErrUnavailable)
	case errors.Is(err, context.DeadlineExceeded):
		if cause != "" {
			err = errors.New(cause)
		}
		return as(store.ErrUnavailable)
	case errors.Is(err, context.Canceled):
		return as(store.ErrUnavailable)
	}
	var ee rpctypes.EtcdError
	code := status.Code(err)
	if errors.As(err, &ee) {
		code = ee.Code()
	}
	switch code {
	case codes.Unavailable, codes.DeadlineExceeded, codes.Canceled, codes.Aborted, codes.Internal:
		return as(store.ErrUnavailable)
	}
	return fmt.Errorf("%s: %w", what, err)
}

// op is the name of a call that has no key.
type op string

func (o op) String() string { return string(o) }
