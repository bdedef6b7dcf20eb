package arp

import "github.com/prometheus/client_golang/prometheus"

type metrics struct {
	requests, responses, gratuitous, conflicts, errors *prometheus.CounterVec
}

func newMetrics(reg prometheus.Registerer) *metrics {
	counter := func(name, help string) *prometheus.CounterVec {
		c := prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: "fairlead", Subsystem: "arp", Name: name, Help: help}, []string{"interface"})
		reg.MustRegister(c)
		return c
	}
	return &metrics{
		requests:   counter("requests_received_total", "ARP requests seen, for whatever address."),
		responses:  counter("responses_sent_total", "ARP requests answered."),
		gratuitous: counter("gratuitous_sent_total", "Gratuitous ARP packets sent."),
		conflicts:  counter("conflicts_total", "ARP packets in which another station claimed an address that is announced here."),
		errors:     counter("errors_total", "Failures to open a socket, read or write."),
	}
}
