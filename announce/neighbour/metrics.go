package neighbour

import "github.com/prometheus/client_golang/prometheus"

type metrics struct {
	requests, responses, gratuitous, probes, conflicts, errors *prometheus.CounterVec
}

// newMetrics registers the metrics of one protocol, whose name is part of theirs.
func newMetrics(reg prometheus.Registerer, protocol string) *metrics {
	counter := func(name, help string) *prometheus.CounterVec {
		c := prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: "fairlead", Subsystem: protocol, Name: name, Help: help}, []string{"interface"})
		reg.MustRegister(c)
		return c
	}
	return &metrics{
		requests:   counter("requests_received_total", "Packets seen that ask for an address, whichever."),
		responses:  counter("responses_sent_total", "Packets answered."),
		gratuitous: counter("gratuitous_sent_total", "Unsolicited announcements sent, packets."),
		probes:     counter("probes_sent_total", "Probes sent to find out whether another station has an address, before it is announced."),
		conflicts:  counter("conflicts_total", "Packets in which another station claimed an address that is announced or probed here."),
		errors:     counter("errors_total", "Failures to open a socket, join a group, read or write."),
	}
}
