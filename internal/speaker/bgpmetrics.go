package speaker

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/fairlead-lb/fairlead/announce/bgp"
)

// bgpMetrics are about the sessions, one series for each peer. Their names are those that the field is used to.
type bgpMetrics struct {
	all []bgpMetric
	bfd *prometheus.Desc
}

type bgpMetric struct {
	desc  *prometheus.Desc
	kind  prometheus.ValueType
	value func(bgp.Session) float64
}

func newBGPMetrics() bgpMetrics {
	of := func(name, help string, kind prometheus.ValueType, value func(bgp.Session) float64) bgpMetric {
		return bgpMetric{prometheus.NewDesc("fairlead_bgp_"+name, help, []string{"peer"}, nil), kind, value}
	}
	const gauge, counter = prometheus.GaugeValue, prometheus.CounterValue
	bfd := prometheus.NewDesc("fairlead_bfd_session_up", "1 while BFD hears the peer, else 0; only of peers with a BFDProfile.", []string{"peer"}, nil)
	return bgpMetrics{bfd: bfd, all: []bgpMetric{
		of("session_up", "1 while the session with the peer is established, else 0.", gauge, func(x bgp.Session) float64 { return truth(x.State == bgp.Established) }),
		of("announced_prefixes_total", "Prefixes that the peer has been told and that hold.", gauge, func(x bgp.Session) float64 { return float64(x.Sent) }),
		of("pending_prefixes_total", "Prefixes that the peer has not been told yet.", gauge, func(x bgp.Session) float64 { return float64(x.Pending) }),
		of("received_prefixes_total", "Prefixes that the peer has sent. They are counted and go nowhere.", gauge, func(x bgp.Session) float64 { return float64(x.PrefixesIn) }),
		of("session_flaps_total", "How often the session has ceased to be established.", counter, func(x bgp.Session) float64 { return float64(x.Flaps) }),
		of("updates_total", "UPDATE messages sent to the peer.", counter, func(x bgp.Session) float64 { return float64(x.UpdatesOut) }),
		of("updates_total_received", "UPDATE messages received from the peer.", counter, func(x bgp.Session) float64 { return float64(x.UpdatesIn) }),
		of("total_sent", "BGP messages sent to the peer.", counter, func(x bgp.Session) float64 { return float64(x.MessagesOut) }),
		of("total_received", "BGP messages received from the peer.", counter, func(x bgp.Session) float64 { return float64(x.MessagesIn) }),
	}}
}

func truth(yes bool) float64 {
	if yes {
		return 1
	}
	return 0
}

func (m bgpMetrics) describe(ch chan<- *prometheus.Desc) {
	for _, one := range m.all {
		ch <- one.desc
	}
	ch <- m.bfd
}

func (m bgpMetrics) collect(ch chan<- prometheus.Metric, sessions []bgp.Session) {
	for _, x := range sessions {
		for _, one := range m.all {
			ch <- prometheus.MustNewConstMetric(one.desc, one.kind, one.value(x), x.Peer)
		}
		if x.BFD != "" {
			ch <- prometheus.MustNewConstMetric(m.bfd, prometheus.GaugeValue, truth(x.BFD == "Up"), x.Peer)
		}
	}
}
