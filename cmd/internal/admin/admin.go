// Package admin is the admin address of a server: what can be seen of it while it runs, by
// HTTP. There are metrics for Prometheus, checks of its health for whoever starts and
// stops it, a page of its connections that is always up to date, the same as JSON, and,
// where that is allowed, the bytes of uploads while they arrive.
//
// A [Server] watches from the outermost stage of a chain, which is told of moments and of
// numbers, and never touches a byte. Rates are found out once a second, and only while
// somebody watches. What asks who somebody is, or encrypts, is for a proxy in front of
// it: as it comes it listens on a loopback address.
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

// Config is what a [Server] has to know.
type Config struct {
	Program string // its name
	Version string // of it

	// Directory is where files are saved, or nil if none are.
	Directory Directory

	// MinFree is how many bytes are to be left free on its disk. With less, the server is
	// not ready.
	MinFree int64

	// Slots is how many connections are served at a time at the most; 0 is no limit.
	Slots int

	// Limits are those that are in force, to be shown.
	Limits []Limit

	// Follow opens an upload that arrives, by its number; fs.Follower.Open says how. If
	// it is nil no upload can be followed.
	Follow func(number uint64) (io.ReadCloser, error)

	// OnError is told of faults of the admin server itself, by any goroutine. It must not
	// be nil.
	OnError func(error)
}

const (
	// Descriptors is how many descriptors a Server holds at the most: its connections, one more,
	// its listener, and seven for what metrics, probes and profiles are read from.
	Descriptors = maxConns + 9

	// maxProfiles bounds how many requests for profiles are served at a time.
	maxProfiles = 2
)

// Server is the admin address of one server that is watched. [Options.Start] starts it. A
// nil one watches nothing, and has no address.
// All its methods may be called by many goroutines at a time.
type Server struct {
	Config

	table        *table
	sampler      sampler
	watchers     *watchers
	probe        *probe
	acceptErrors atomic.Uint64
	listening    atomic.Bool
	addr         net.Addr
	local        bool // only this machine reaches it

	watched context.Context // that of the server that is watched
	ctx     context.Context // that of everything here
	cancel  context.CancelFunc
	http    http.Server

	mu     sync.Mutex
	closed bool           // and no task begins
	tasks  sync.WaitGroup // what Close waits for
}

// Start serves what cfg says on ln, which it closes, and which is what [Options.Listen] has
// returned. If that is nil so is the Server: then nothing is watched, and no connection
// costs more. When ctx is done, the server that is watched counts as one that stops, and is
// not ready. The caller calls Close, and that when nothing that is watched goes on.
func (o *Options) Start(ctx context.Context, ln net.Listener, cfg Config) *Server {
	if ln == nil {
		return nil
	}
	s := newServer(ctx, cfg)
	s.serve(ln, o.Pprof)
	return s
}

// LogValue is where it listens, for a log; nothing if it does not.
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

// Close ends all that the server does, and waits for it.
func (s *Server) Close() {
	if s == nil {
		return
	}
	s.cancel()
	// Answers that are short are still given.
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
			// Profiles take as long as one asks for.
			http.NewResponseController(w).SetWriteDeadline(time.Time{})
			all.ServeHTTP(w, r)
		}))
	}
	return s.awaited(s.guard(mux))
}

// awaited has Close wait for those who are served, which net/http does not.
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

// Stage watches the connections. It belongs outside of all that a connection is to be
// watched in. Right inside of it are layers, which is nil or tells who the peers are, as the
// header of a proxy does: a peer is shown as the connection's own address until they have. A
// nil Server has them alone. It is to be called once, before there are connections.
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

// Listener returns ln, watched: until it is closed or has failed the server counts as one
// that listens.
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

// slotsFree is how many more connections would be served.
func (s *Server) slotsFree() int { return max(s.Slots-s.table.inFlight(), 0) }

// complaints is what is written, line by line, as errors.
type complaints func(error)

func (c complaints) Write(p []byte) (int, error) {
	c(errors.New("admin: " + strings.TrimSpace(string(p))))
	return len(p), nil
}
