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

// Directory is where the server keeps files: a Store of package fs.
type Directory interface {
	Create(ctx context.Context, name string) (fs.Pending, error)
	Free() (int64, error)
}

const (
	// probeAge is for how long what was found out about the directory holds, where it
	// matters; on the page, which is looked at each second, it is pageProbeAge.
	probeAge     = time.Second
	pageProbeAge = 10 * time.Second

	// probePatience is how long a disk has to answer, pageProbePatience how long the page
	// waits for that.
	probePatience     = 2 * time.Second
	pageProbePatience = 250 * time.Millisecond

	// probeName is a name that the server gives to files, and so one for which it
	// removes at its next start what is left of a probe if it is killed just then.
	probeName = "1.file"
)

// probe finds out whether files can be saved in a directory: it begins one with one byte
// in it, as an upload does, and gives it up. It is safe for concurrent use, and never does
// so twice at a time.
type probe struct {
	dir Directory

	mu      sync.Mutex
	known   disk
	at      time.Time     // when that was found out
	running chan struct{} // closed when more is known; nil if nobody looks
	looking sync.WaitGroup
}

// disk is what is known of a disk.
type disk struct {
	err     error // nil: files can be saved
	free    int64
	freeErr error
}

var errNoAnswer = errors.New("the disk does not answer")

// ask says what was found out no longer than age ago. If that takes longer than patience,
// or than ctx allows, it is that the disk does not answer.
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

// unready is why the server would not take an upload just now, or nil.
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
