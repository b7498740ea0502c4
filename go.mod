module github.com/accio-go/accio

go 1.26.0

require (
	github.com/alecthomas/kong v1.17.0
	github.com/djherbis/stream v1.5.1
	github.com/google/renameio/v2 v2.0.2
	github.com/spf13/afero v1.15.0
	go.uber.org/goleak v1.3.0
)

require golang.org/x/text v0.28.0 // indirect
