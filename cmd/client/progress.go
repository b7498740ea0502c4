package main

import (
	"fmt"
	"os"
	"time"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"

	"github.com/accio-go/accio/stage"
)

// showProgress shows how much of size bytes has been sent (-1: nobody knows how
// many there are) on a terminal, until the function that it returns is called.
// Where out is no terminal it shows nothing.
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

// refresh is how often the bar is drawn.
const refresh = 100 * time.Millisecond
