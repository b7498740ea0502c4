package memnet

import (
	"context"
	"errors"
	"net"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

func TestListenerOrder(t *testing.T) {
	ln := Listen(3)
	for range 3 {
		c, err := ln.Dial(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if err := Say("from " + c.LocalAddr().String())(c); err != nil {
			t.Error(err)
		}
	}
	seen := make(map[string]bool)
	for range 3 {
		c, err := ln.Accept()
		if err != nil {
			t.Fatal(err)
		}
		addr := c.RemoteAddr().String()
		if err := HearAtOnce("from " + addr)(c); err != nil {
			t.Error(err)
		}
		seen[addr] = true
	}
	if len(seen) != 3 || !seen["192.0.2.2:49152"] || !seen["192.0.2.2:49154"] {
		t.Errorf("they come from %v", seen)
	}
}

func TestListenerFullBacklog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ln := Listen(0) // which is 1
		if _, err := ln.Dial(t.Context()); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		start := time.Now()
		if _, err := ln.Dial(ctx); !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != time.Hour {
			t.Errorf("%v, after %v", err, time.Since(start))
		}
		done := make(chan error)
		go func() {
			_, err := ln.Dial(t.Context())
			done <- err
		}()
		synctest.Wait()
		if _, err := ln.Accept(); err != nil {
			t.Error(err)
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func TestListenerClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		empty, full := Listen(1), Listen(1)
		waiting, err := full.Dial(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		wg.Go(func() {
			if _, err := empty.Accept(); !errors.Is(err, net.ErrClosed) {
				t.Errorf("Accept: %v", err)
			}
		})
		wg.Go(func() {
			if _, err := full.Dial(t.Context()); !errors.Is(err, syscall.ECONNREFUSED) {
				t.Errorf("Dial: %v", err)
			}
		})
		synctest.Wait()
		for _, ln := range []Listener{empty, full} {
			if err := ln.Close(); err != nil {
				t.Error(err)
			}
			if err := ln.Close(); !errors.Is(err, net.ErrClosed) {
				t.Errorf("the second Close: %v", err)
			}
			if _, err := ln.Dial(t.Context()); !errors.Is(err, syscall.ECONNREFUSED) {
				t.Errorf("Dial: %v", err)
			}
			if _, err := ln.Accept(); !errors.Is(err, net.ErrClosed) {
				t.Errorf("Accept: %v", err)
			}
		}
		wg.Wait()
		if err := Rst(waiting); err != nil {
			t.Error(err)
		}
	})
}
