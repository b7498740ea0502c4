// Package admin serves the admin address of a server by HTTP: metrics for Prometheus,
// health checks, a live page of the connections, the same as JSON, and, with --follow,
// the bytes of uploads while they arrive.
//
// A [Server] observes connections from the outermost stage of a chain, and never touches
// their bytes. It samples rates once a second, and only while a client asks for them. The
// admin address has no authentication and no encryption. By default it is a loopback
// address.
package admin

import (
	"context"
	"embed"
	"errors"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/accio-go/accio/stage"
)

// Config describes the observed server.
type Config struct {
	Program string
	Version string

	// Directory holds the saved files. It is nil if the server saves none.
	Directory Directory

	// MinFree is the number of bytes to leave free on the disk. With less, the server is not
	// ready.
	MinFree int64

	// Slots bounds the connections served at a time. 0 means no limit.
	Slots int

	// Limits are the limits to show.
	Limits []Limit

	// Follow opens an arriving upload by its number; see follow.Store.Open. If Follow is
	// nil, uploads cannot be followed.
	Follow func(number uint64) (io.ReadCloser, error)

	// OnError receives errors of the admin server. Any goroutine may call it. It must not
	// be nil.
	OnError func(error)
}

const (
	// Descriptors bounds the descriptors of a Server: its connections, one more, its
	// listener, and seven for metrics, probes and profiles.
	Descriptors = maxConns + 9

	// maxProfiles bounds the requests for profiles at a time.
	maxProfiles = 2
)

// Server serves the admin address of one observed server. [Options.Start] starts it. A nil
// Server observes nothing and has no address. Its methods are safe for concurrent use.
type Server struct {
	Config

	table        *table
	sampler      sampler
	watchers     *watchers
	probe        *probe
	acceptErrors atomic.Uint64
	listening    atomic.Bool
	addr         net.Addr
	local        bool // reachable from this machine only

	watched context.Context // of the observed server
	ctx     context.Context // of this server
	cancel  context.CancelFunc
	http    http.Server

	mu     sync.Mutex
	closed bool           // no task may begin
	tasks  sync.WaitGroup // Close waits for them
}

// Start serves the admin address on ln, which comes from [Options.Listen]. If ln is nil,
// the Server is nil as well. When ctx is done, the observed server is stopping, and not
// ready. The caller calls Close after the observed server has ended. Close closes ln.
func (o *Options) Start(ctx context.Context, ln net.Listener, cfg Config) *Server {
	if ln == nil {
		return nil
	}
	s := newServer(ctx, cfg)
	s.serve(ln, o.Pprof)
	return s
}

// LogValue returns the address, or nothing if there is none.
func (s *Server) LogValue() slog.Value {
	if s == nil {
		return slog.GroupValue()
	}
	return slog.AnyValue(s.addr)
}

func newServer(ctx context.Context, cfg Config) *Server {
	s := &Server{
		Config:   cfg,
		table:    newTable(newDurations(), cfg.Directory != nil),
		watchers: newWatchers(),
		probe:    &probe{dir: cfg.Directory},
		watched:  ctx,
	}
	s.ctx, s.cancel = context.WithCancel(context.WithoutCancel(ctx))
	return s
}

func (s *Server) serve(ln net.Listener, profiles bool) {
	s.addr = ln.Addr()
	s.local = loopback(s.addr)
	conns := newPlaces(ln, maxConns)
	s.http = http.Server{
		Handler:           s.handler(profiles),
		ReadHeaderTimeout: 5 * time.Second,
		IdleTimeout:       time.Minute,
		MaxHeaderBytes:    16 << 10,
		BaseContext:       func(net.Listener) context.Context { return s.ctx },
		ConnContext:       withPlace,
		ConnState:         conns.track,
		ErrorLog:          log.New(complaints(s.OnError), "", 0),
	}
	s.tasks.Go(func() { s.watch(s.ctx) })
	s.tasks.Go(func() {
		if err := s.http.Serve(conns); !errors.Is(err, http.ErrServerClosed) {
			s.OnError(err)
		}
	})
}

// Close stops the server and waits for its goroutines.
func (s *Server) Close() {
	if s == nil {
		return
	}
	s.cancel()
	// Short answers can still finish.
	ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
	defer cancel()
	if s.http.Shutdown(ctx) != nil {
		s.http.Close()
	}
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.tasks.Wait()
	s.probe.looking.Wait()
}

//go:embed page
var files embed.FS

func (s *Server) handler(profiles bool) http.Handler {
	mux := http.NewServeMux()
	for path, name := range map[string]string{
		"GET /{$}": "index.html", "GET /page.js": "page.js", "GET /page.css": "page.css", "GET /icon.svg": "icon.svg",
	} {
		mux.HandleFunc(path, func(w http.ResponseWriter, r *http.Request) { http.ServeFileFS(w, r, files, "page/"+name) })
	}
	mux.HandleFunc("GET /api/connections", s.serveState)
	mux.HandleFunc("GET /api/events", streams(maxWatchers, "pages are open", s.serveEvents))
	if s.Follow != nil {
		mux.HandleFunc("GET /follow/{number}", streams(maxFollowers, "uploads are followed", s.serveFollow))
	}
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { plain(w, http.StatusOK, "ok") })
	mux.HandleFunc("GET /readyz", s.serveReady)
	registry := newRegistry(s)
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{
		ErrorLog:            log.New(complaints(s.OnError), "", 0),
		ErrorHandling:       promhttp.ContinueOnError,
		MaxRequestsInFlight: 4,
		EnableOpenMetrics:   true,
	}))
	if profiles {
		var all http.ServeMux
		for path, h := range map[string]http.HandlerFunc{
			"": pprof.Index, "cmdline": pprof.Cmdline, "profile": pprof.Profile, "symbol": pprof.Symbol, "trace": pprof.Trace,
		} {
			all.HandleFunc("GET /debug/pprof/"+path, h)
		}
		mux.HandleFunc("GET /debug/pprof/", streams(maxProfiles, "profiles are taken", func(w http.ResponseWriter, r *http.Request) {
			// The request sets the duration of a profile.
			http.NewResponseController(w).SetWriteDeadline(time.Time{})
			all.ServeHTTP(w, r)
		}))
	}
	return s.awaited(s.guard(mux))
}

// awaited makes Close wait for handlers, which net/http does not.
func (s *Server) awaited(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		if s.closed {
			s.mu.Unlock()
			panic(http.ErrAbortHandler)
		}
		s.tasks.Add(1)
		s.mu.Unlock()
		defer s.tasks.Done()
		next.ServeHTTP(w, r)
	})
}

// Stage observes connections, and has the stages layers right inside of it. The layers,
// such as the PROXY protocol, may change the address of the peer; until then the
// address is that of the connection. For a nil Server, Stage returns the layers alone. Call
// it once, before the first connection.
func (s *Server) Stage(layers stage.Chain) stage.Chain {
	if s == nil {
		return layers
	}
	watched := stage.Chain{stage.Observe{Accepted: s.table.accepted}}
	if len(layers) == 0 {
		return watched
	}
	s.table.rows = make(map[uint64]*connection)
	return append(watched, layers, stage.Bracket(func(_ context.Context, c *stage.Conn) (func(error) error, error) {
		s.table.learn(c)
		return nil, nil
	}))
}

// Listener wraps ln. The observed server is listening until ln is closed or has failed.
func (s *Server) Listener(ln net.Listener) net.Listener {
	if s == nil {
		return ln
	}
	s.listening.Store(true)
	return &watchedListener{ln, s}
}

type watchedListener struct {
	net.Listener
	server *Server
}

// Accept counts failures.
func (l *watchedListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	switch {
	case errors.Is(err, net.ErrClosed):
		l.server.listening.Store(false)
	case err != nil:
		l.server.acceptErrors.Add(1)
	}
	return conn, err
}

// Close closes the listener.
func (l *watchedListener) Close() error {
	l.server.listening.Store(false)
	return l.Listener.Close()
}

// slotsFree returns the number of free slots.
func (s *Server) slotsFree() int { return max(s.Slots-s.table.inFlight(), 0) }

// complaints is a writer that reports each line as an error.
type complaints func(error)

func (c complaints) Write(p []byte) (int, error) {
	c(errors.New("admin: " + strings.TrimSpace(string(p))))
	return len(p), nil
}
