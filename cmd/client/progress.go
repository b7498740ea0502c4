package main

import (
	"fmt"
	"os"
	"time"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"

	"github.com/accio-go/accio/stage"
)

// showProgress shows the bytes sent, out of size (-1 if unknown), until finish is called.
// It shows nothing if out is not a terminal.
func showProgress(out *os.File, sent *stage.Counter, size int64) (finish func()) {
	if !term.IsTerminal(int(out.Fd())) {
		return func() {}
	}
	bar := progressbar.NewOptions64(size,
		progressbar.OptionSetWriter(out),
		progressbar.OptionShowBytes(true),
		progressbar.OptionShowCount(),
		progressbar.OptionFullWidth(),
		progressbar.OptionSetRenderBlankState(true),
	)
	show := func() {
		count := sent.Count()
		if count == size {
			bar.Describe("waiting for the server")
		}
		bar.Set64(count)
	}
	done, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		tick := time.NewTicker(refresh)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				show()
			case <-done:
				show()
				bar.Exit()
				fmt.Fprintln(out)
				return
			}
		}
	}()
	return func() {
		close(done)
		<-ended
	}
}

// refresh is the time between two updates of the bar.
const refresh = 100 * time.Millisecond
