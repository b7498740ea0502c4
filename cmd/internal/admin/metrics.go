package admin

import (
	"context"
	"runtime"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/accio-go/accio/stage"
)

// durations holds the durations of the phases of connections.
type durations struct{ handshake, transfer, commit prometheus.Histogram }

func newDurations() *durations {
	histogram := func(name, help string, buckets ...float64) prometheus.Histogram {
		return prometheus.NewHistogram(prometheus.HistogramOpts{Name: name, Help: help, Buckets: buckets})
	}
	return &durations{
		handshake: histogram("accio_handshake_duration_seconds", "Duration of complete handshakes.",
			.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30),
		transfer: histogram("accio_transfer_duration_seconds", "Duration of complete payloads, from the end of the handshake to the end of the stream.",
			.001, .005, .01, .05, .1, .5, 1, 5, 10, 30, 60, 300, 900, 3600),
		commit: histogram("accio_commit_duration_seconds", "Duration of commits of complete payloads, failed ones included.",
			.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10),
	}
}

// newRegistry returns the metrics of s. No label depends on a peer, so their number is
// bounded.
func newRegistry(s *Server) *prometheus.Registry {
	r := prometheus.NewRegistry()
	r.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	gauge := func(name, help string, value func() float64, labels prometheus.Labels) {
		r.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help, ConstLabels: labels}, value))
	}
	counter := func(name, help string, value func() float64, labels prometheus.Labels) {
		r.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{Name: name, Help: help, ConstLabels: labels}, value))
	}
	gauge("accio_build_info", "The running program; always 1.", func() float64 { return 1 },
		prometheus.Labels{"program": s.Program, "version": s.Version, "goversion": runtime.Version()})
	for _, o := range stage.Outcomes() {
		counter("accio_connections_total", "Ended connections by outcome.",
			func() float64 { return float64(s.table.outcomes[o].Load()) }, prometheus.Labels{"outcome": o.String()})
	}
	counter("accio_received_bytes_total", "Bytes of payload that were stored or counted, also of connections that failed later.",
		func() float64 { return float64(s.table.bytes.Load()) }, nil)
	counter("accio_accept_errors_total", "Failures to accept a connection.",
		func() float64 { return float64(s.acceptErrors.Load()) }, nil)
	gauge("accio_connections_in_flight", "Open connections.",
		func() float64 { return float64(s.table.inFlight()) }, nil)
	gauge("accio_ready", "Whether the server can take an upload, as in /readyz: 1 or 0.", func() float64 {
		if s.unready(context.Background(), probeAge, probePatience) == nil {
			return 1
		}
		return 0
	}, nil)
	if s.Slots > 0 {
		gauge("accio_slots", "Limit on open connections.",
			func() float64 { return float64(s.Slots) }, nil)
		gauge("accio_slots_free", "Free slots; further connections wait in the listen queue.",
			func() float64 { return float64(s.slotsFree()) }, nil)
	}
	r.MustRegister(s.table.handshake, s.table.transfer)
	if s.Directory != nil {
		r.MustRegister(s.table.commit, freeSpace{s})
		gauge("accio_disk_min_free_bytes", "Bytes to leave free on the disk; 0 means none.",
			func() float64 { return float64(s.MinFree) }, nil)
	}
	return r
}

// freeSpace collects the free space of the disk. If it is unknown, the metric is absent.
type freeSpace struct{ *Server }

var freeSpaceDesc = prometheus.NewDesc("accio_disk_free_bytes", "Free bytes on the disk of the directory.", nil, nil)

// Describe implements prometheus.Collector.
func (f freeSpace) Describe(ch chan<- *prometheus.Desc) { ch <- freeSpaceDesc }

// Collect implements prometheus.Collector.
func (f freeSpace) Collect(ch chan<- prometheus.Metric) {
	if d := f.probe.ask(context.Background(), probeAge, probePatience); d.freeErr == nil {
		ch <- prometheus.MustNewConstMetric(freeSpaceDesc, prometheus.GaugeValue, float64(d.free))
	}
}
