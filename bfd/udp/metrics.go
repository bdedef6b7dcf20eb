package udp

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/fairlead-lb/fairlead/bfd"
)

// The causes of dropped packets that package bfd does not know.
const (
	DropTTL    bfd.Drop = "TTL"    // below 255, or for multihop below Config.MinTTL
	DropSource bfd.Drop = "Source" // addresses or interface of no session
)

type metrics struct {
	sessions                   *prometheus.GaugeVec
	transitions                *prometheus.CounterVec
	received, sent, sendErrors prometheus.Counter
	dropped                    *prometheus.CounterVec
	sendLate, receiveLate      prometheus.Histogram
	realtime                   prometheus.Gauge
	gaps, falseAlarms          prometheus.Counter

	drops map[bfd.Drop]prometheus.Counter // resolved once: looking a label up allocates
}

func newMetrics(reg prometheus.Registerer, group string) *metrics {
	const namespace, subsystem = "fairlead", "bfd"
	labels := prometheus.Labels{"group": group}
	counter := func(name, help string) prometheus.CounterOpts {
		return prometheus.CounterOpts{Namespace: namespace, Subsystem: subsystem, Name: name, Help: help, ConstLabels: labels}
	}
	lateness := func(name, help string) prometheus.Histogram {
		return prometheus.NewHistogram(prometheus.HistogramOpts{Namespace: namespace, Subsystem: subsystem, Name: name, Help: help,
			ConstLabels: labels, Buckets: []float64{.0001, .0003, .001, .003, .01, .03, .1, .3, 1, 3}})
	}
	gauge := func(name, help string) prometheus.GaugeOpts {
		return prometheus.GaugeOpts{Namespace: namespace, Subsystem: subsystem, Name: name, Help: help, ConstLabels: labels}
	}
	m := &metrics{
		sessions: prometheus.NewGaugeVec(gauge("sessions", "Sessions by their state."), []string{"state"}),
		transitions: prometheus.NewCounterVec(counter("transitions_total", "Changes of a session's state by the new state and the cause."),
			[]string{"state", "cause"}),
		received:   prometheus.NewCounter(counter("packets_received_total", "Packets that were accepted.")),
		sent:       prometheus.NewCounter(counter("packets_sent_total", "Packets sent.")),
		sendErrors: prometheus.NewCounter(counter("errors_total", "Failures to open a socket or to send.")),
		dropped:    prometheus.NewCounterVec(counter("packets_dropped_total", "Packets that were discarded, by cause."), []string{"cause"}),
		sendLate:   lateness("send_lateness_seconds", "How long after its time a periodic packet was sent."),
		receiveLate: lateness("receive_lateness_seconds",
			"How long a packet lay in the socket, where it was not to wait; it accuses nobody, since the kernel's receive timestamp counts."),
		realtime: prometheus.NewGauge(gauge("realtime", "1 if the sender has real-time priority, as it was asked to have.")),
		gaps:     prometheus.NewCounter(counter("gaps_total", "How often this process was asleep for longer than its peers wait.")),
		falseAlarms: prometheus.NewCounter(counter("false_alarms_total",
			"Peers that were called down here and were back, without a restart, within seconds.")),
		drops: map[bfd.Drop]prometheus.Counter{},
	}
	reg.MustRegister(m.sessions, m.transitions, m.received, m.sent, m.sendErrors, m.dropped, m.sendLate, m.receiveLate, m.realtime,
		m.gaps, m.falseAlarms)
	return m
}

// drop counts a discarded packet. Only the loop calls it.
func (m *metrics) drop(cause bfd.Drop) {
	c, ok := m.drops[cause]
	if !ok {
		c = m.dropped.WithLabelValues(string(cause))
		m.drops[cause] = c
	}
	c.Inc()
}
