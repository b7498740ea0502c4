package admin

import (
	"context"
	"runtime"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/accio-go/accio/stage"
)

// durations are how long the parts of connections have taken.
type durations struct{ handshake, transfer, commit prometheus.Histogram }

func newDurations() *durations {
	histogram := func(name, help string, buckets ...float64) prometheus.Histogram {
		return prometheus.NewHistogram(prometheus.HistogramOpts{Name: name, Help: help, Buckets: buckets})
	}
	return &durations{
		handshake: histogram("accio_handshake_duration_seconds", "How long handshakes took that were completed.",
			.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30),
		transfer: histogram("accio_transfer_duration_seconds", "How long payloads took that arrived whole, from the end of the handshake to the end of the stream.",
			.001, .005, .01, .05, .1, .5, 1, 5, 10, 30, 60, 300, 900, 3600),
		commit: histogram("accio_commit_duration_seconds", "How long it took to make payloads that arrived whole durable and visible, or to fail to.",
			.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10),
	}
}

// newRegistry returns a registry of all there is to be measured of s. Labels are bounded:
// nothing that a peer says or is becomes one.
func newRegistry(s *Server) *prometheus.Registry {
	r := prometheus.NewRegistry()
	r.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	gauge := func(name, help string, value func() float64, labels prometheus.Labels) {
		r.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help, ConstLabels: labels}, value))
	}
	counter := func(name, help string, value func() float64, labels prometheus.Labels) {
		r.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{Name: name, Help: help, ConstLabels: labels}, value))
	}
	gauge("accio_build_info", "What runs; always 1.", func() float64 { return 1 },
		prometheus.Labels{"program": s.Program, "version": s.Version, "goversion": runtime.Version()})
	for _, o := range stage.Outcomes() {
		counter("accio_connections_total", "Connections that have ended, by how.",
			func() float64 { return float64(s.table.outcomes[o].Load()) }, prometheus.Labels{"outcome": o.String()})
	}
	counter("accio_received_bytes_total", "Bytes of payload that were stored or counted, also of connections that failed later.",
		func() float64 { return float64(s.table.bytes.Load()) }, nil)
	counter("accio_accept_errors_total", "Failures to accept a connection.",
		func() float64 { return float64(s.acceptErrors.Load()) }, nil)
	gauge("accio_connections_in_flight", "Connections that are served.",
		func() float64 { return float64(s.table.inFlight()) }, nil)
	gauge("accio_ready", "Whether the server would take an upload, as /readyz says it: 1 or 0.", func() float64 {
		if s.unready(context.Background(), probeAge, probePatience) == nil {
			return 1
		}
		return 0
	}, nil)
	if s.Slots > 0 {
		gauge("accio_slots", "How many connections are served at a time at the most.",
			func() float64 { return float64(s.Slots) }, nil)
		gauge("accio_slots_free", "How many more connections would be served; others wait in the system's queue.",
			func() float64 { return float64(s.slotsFree()) }, nil)
	}
	r.MustRegister(s.table.handshake, s.table.transfer)
	if s.Directory != nil {
		r.MustRegister(s.table.commit, freeSpace{s})
		gauge("accio_disk_min_free_bytes", "What is to be left free on the disk; 0 is nothing.",
			func() float64 { return float64(s.MinFree) }, nil)
	}
	return r
}

// freeSpace is the collector of what is free on the disk. Where that is not known there is
// no such metric, rather than a wrong one.
type freeSpace struct{ *Server }

var freeSpaceDesc = prometheus.NewDesc("accio_disk_free_bytes", "What is free on the disk of the directory.", nil, nil)

// Describe implements prometheus.Collector.
func (f freeSpace) Describe(ch chan<- *prometheus.Desc) { ch <- freeSpaceDesc }

// Collect implements prometheus.Collector.
func (f freeSpace) Collect(ch chan<- prometheus.Metric) {
	if d := f.probe.ask(context.Background(), probeAge, probePatience); d.freeErr == nil {
		ch <- prometheus.MustNewConstMetric(freeSpaceDesc, prometheus.GaugeValue, float64(d.free))
	}
}
