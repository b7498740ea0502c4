package admin

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/accio-go/accio/fs"
)

// Directory is the store of the server; see fs.Store.
type Directory interface {
	Create(ctx context.Context, name string) (fs.Pending, error)
	Free() (int64, error)
}

const (
	// A probe result is valid for probeAge, and for pageProbeAge on the page, which asks
	// each second.
	probeAge     = time.Second
	pageProbeAge = 10 * time.Second

	// probePatience bounds the wait for the disk, and pageProbePatience that of the page.
	probePatience     = 2 * time.Second
	pageProbePatience = 250 * time.Millisecond

	// probeName is a name of the server's files, so its next start removes the temporary
	// file of a killed probe.
	probeName = "1.file"
)

// probe tests whether the directory can save files: it creates a pending file, writes a
// byte and aborts it. It is safe for concurrent use, and runs one test at a time.
type probe struct {
	dir Directory

	mu      sync.Mutex
	known   disk
	at      time.Time     // time of known
	running chan struct{} // closed after the running test; nil without one
	looking sync.WaitGroup
}

// disk is the result of a probe.
type disk struct {
	err     error // nil if files can be saved
	free    int64
	freeErr error
}

var errNoAnswer = errors.New("the disk does not answer")

// ask returns a result not older than age. If a test takes longer than patience, or ctx
// is done, the result is errNoAnswer.
func (p *probe) ask(ctx context.Context, age, patience time.Duration) disk {
	p.mu.Lock()
	if p.running == nil && (p.at.IsZero() || time.Since(p.at) >= age) {
		p.running = make(chan struct{})
		p.looking.Go(p.look)
	}
	running, known := p.running, p.known
	p.mu.Unlock()
	if running == nil {
		return known
	}
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-running:
		p.mu.Lock()
		defer p.mu.Unlock()
		return p.known
	case <-timer.C:
	case <-ctx.Done():
	}
	return disk{errNoAnswer, 0, errNoAnswer}
}

func (p *probe) look() {
	var d disk
	d.err = p.try()
	d.free, d.freeErr = p.dir.Free()
	p.mu.Lock()
	defer p.mu.Unlock()
	close(p.running)
	p.known, p.at, p.running = d, time.Now(), nil
}

func (p *probe) try() error {
	f, err := p.dir.Create(context.Background(), probeName)
	if err != nil {
		return err
	}
	_, err = f.Write([]byte{0})
	return errors.Join(err, f.Abort())
}

// unready returns the reason why the server cannot take an upload now, or nil.
func (s *Server) unready(ctx context.Context, age, patience time.Duration) error {
	var errs []error
	switch {
	case s.watched.Err() != nil:
		errs = append(errs, errors.New("it stops"))
	case !s.listening.Load():
		errs = append(errs, errors.New("it does not listen"))
	}
	if s.Directory == nil {
		return errors.Join(errs...)
	}
	d := s.probe.ask(ctx, age, patience)
	if d.err != nil {
		errs = append(errs, fmt.Errorf("files cannot be saved: %w", d.err))
	}
	if d.freeErr == nil && d.free < max(s.MinFree, 1) {
		errs = append(errs, fmt.Errorf("of %d bytes that are to be left free, %d are", s.MinFree, d.free))
	}
	return errors.Join(errs...)
}

func (s *Server) serveReady(w http.ResponseWriter, r *http.Request) {
	if err := s.unready(r.Context(), probeAge, probePatience); err != nil {
		plain(w, http.StatusServiceUnavailable, "not ready: "+err.Error())
		return
	}
	plain(w, http.StatusOK, "ready")
}
