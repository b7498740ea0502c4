package stage_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"log/slog"
	"math"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/accio-go/accio/stage"
	"github.com/accio-go/accio/stage/stagetest"
	"github.com/accio-go/accio/transport/transporttest/memnet"
)

// just is New of a stage of which there is nothing more to be said.
func just(s stage.Stage) func(testing.TB) stagetest.Instance {
	return func(testing.TB) stagetest.Instance { return stagetest.Instance{Stage: s} }
}

// confirms is the client's half of stage.Accio.
var confirms = memnet.Peer{func(c net.Conn) error { return stage.Accio.Mirror().Run(c, c) }}

// Every stage of the package keeps the package's rules.
func TestStageRules(t *testing.T) {
	for name, s := range map[string]stagetest.Subject{
		"Idle":        {New: just(stage.Idle{Limit: 100 * time.Hour}), ZeroCopy: true},
		"Handshake":   {New: just(stage.Handshake{Script: stage.Accio, Limit: 100 * time.Hour}), Before: confirms, ZeroCopy: true},
		"Count":       {New: just(stage.Count{}), ZeroCopy: true},
		"MaxSize":     {New: just(stage.MaxSize{Bytes: 4 << 20}), ZeroCopy: true},
		"MaxDuration": {New: just(stage.MaxDuration{Limit: 100 * time.Hour}), ZeroCopy: true},
		"MinRate":     {New: just(stage.MinRate{BytesPerSecond: 1, Grace: 100 * time.Hour}), ZeroCopy: true},
		"MaxPerHost":  {New: just(stage.MaxPerHost{N: 1}), ZeroCopy: true},
		"MinFree":     {New: just(stage.MinFree{Bytes: 1, Free: func() (int64, error) { return math.MaxInt64, nil }}), ZeroCopy: true},
		"Recover":     {New: just(stage.Recover{}), ZeroCopy: true, Recovers: true},
		"Report":      {New: report, ZeroCopy: true},
		"Save":        {New: save, ZeroCopy: true},
		"Observe":     {New: just(stage.Observe{Accepted: func(*stage.Conn) stage.Observer { return observer{} }}), ZeroCopy: true},
		"Log":         {New: just(stage.Log{Logger: slog.New(slog.DiscardHandler)}), ZeroCopy: true},
		"Receipt":     {New: just(stage.Receipt{Format: func(*stage.Conn) string { return "received" }}), After: memnet.Peer{memnet.Hear("received")}, ZeroCopy: true},
		"Hash":        {New: just(stage.Hash{New: sha256.New})},
		"a whole chain": {
			New: just(stage.Chain{
				stage.Observe{Accepted: func(*stage.Conn) stage.Observer { return observer{} }},
				stage.Count{}, stage.Idle{Limit: 100 * time.Hour}, stage.MaxPerHost{N: 1}, stage.MaxSize{Bytes: 4 << 20},
				stage.Handshake{Script: stage.Accio}, stage.MinRate{BytesPerSecond: 1, Grace: 100 * time.Hour},
			}),
			Before: confirms, ZeroCopy: true,
		},
	} {
		t.Run(name, func(t *testing.T) { stagetest.TestStage(t, s) })
	}
}

func report(testing.TB) stagetest.Instance {
	var lines lockedBuffer
	return stagetest.Instance{
		Stage: stage.Report{W: &lines},
		Ended: func() int { return bytes.Count(lines.bytes(), []byte("\n")) },
	}
}

type lockedBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *lockedBuffer) bytes() []byte {
	b.mu.Lock()
	defer b.mu.Unlock()
	return bytes.Clone(b.buf.Bytes())
}

// save is Save into a directory, in the simplest way.
func save(t testing.TB) stagetest.Instance {
	d := &directory{path: t.TempDir()}
	return stagetest.Instance{
		Stage: stage.Save{
			Store: d,
			Name:  func(c *stage.Conn) string { return strconv.FormatUint(c.Number, 10) },
			Mark:  stage.ErrorMark,
		},
		Stored: func(number uint64) ([]byte, error) {
			return os.ReadFile(filepath.Join(d.path, strconv.FormatUint(number, 10)))
		},
		Ended: func() int {
			entries, err := os.ReadDir(d.path)
			if err != nil {
				t.Error(err)
			}
			return len(entries)
		},
	}
}

// directory is a Store whose files are visible while they are written.
type directory struct{ path string }

func (d *directory) Create(_ context.Context, name string) (stage.Pending, error) {
	f, err := os.Create(filepath.Join(d.path, name))
	return &file{f}, err
}

func (d *directory) Remove(name string) error { return os.Remove(filepath.Join(d.path, name)) }

type file struct{ f *os.File }

func (f *file) Write(p []byte) (int, error) { return f.f.Write(p) }
func (f *file) File() *os.File              { return f.f }
func (f *file) Commit() error               { return f.f.Close() }

func (f *file) Abort() error {
	if err := f.f.Close(); err != nil {
		return fmt.Errorf("abort: %w", err)
	}
	return os.Remove(f.f.Name())
}

// observer does nothing.
type observer struct{}

func (observer) HandshakeDone() {}
func (observer) Passed(int)     {}
func (observer) Received()      {}
func (observer) Ended(error)    {}
