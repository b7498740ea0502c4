package appendlog_test

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/spf13/afero"

	"github.com/accio-go/accio/fs"
	"github.com/accio-go/accio/fs/appendlog"
)

// One log file a day.
func Example() {
	mem := fs.NewMemory()
	store, err := fs.New(mem, "/logs")
	if err != nil {
		panic(err)
	}
	defer store.Close()
	lines := &appendlog.Log{Store: store, SyncEvery: time.Second}

	day := time.Date(2026, 11, 25, 23, 0, 0, 0, time.UTC)
	for _, text := range []string{"good night", "good\nmorning"} {
		p, err := lines.Create(context.Background(), day.Format(time.DateOnly))
		if err != nil {
			panic(err)
		}
		defer p.Abort()
		io.WriteString(p, text)
		if err := p.Commit(); err != nil {
			panic(err)
		}
		day = day.Add(time.Hour)
	}
	fmt.Println(lines.Close())
	for _, name := range []string{"2026-11-25", "2026-11-26"} {
		got, _ := afero.ReadFile(mem, "/logs/"+name)
		fmt.Printf("%s: %q\n", name, got)
	}
	// Output:
	// <nil>
	// 2026-11-25: "good night\n"
	// 2026-11-26: "good#012morning\n"
}
