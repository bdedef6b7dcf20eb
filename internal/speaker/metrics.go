package speaker

import (
	"slices"

	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	speaker *Speaker
	bgp     bgpMetrics

	changes    prometheus.Counter
	syncs      prometheus.Histogram
	syncErrors prometheus.Counter
	fenced     prometheus.Counter

	programming prometheus.Histogram

	announced, conflict, kernel, rival, noTunnel, leftOut, members, engine, connections, bytes, handedOn *prometheus.Desc
}

func newMetrics(reg prometheus.Registerer, s *Speaker) *metrics {
	m := &metrics{
		speaker: s,
		bgp:     newBGPMetrics(),
		changes: prometheus.NewCounter(prometheus.CounterOpts{Name: "fairlead_speaker_ownership_changes_total",
			Help: "How often this node began or ceased to announce an address."}),
		syncs: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "fairlead_datapath_sync_duration_seconds",
			Help: "How long the datapath took to reach its goal.", Buckets: prometheus.ExponentialBuckets(0.001, 2, 14)}),
		syncErrors: prometheus.NewCounter(prometheus.CounterOpts{Name: "fairlead_datapath_sync_errors_total",
			Help: "How often the datapath did not reach its goal."}),
		programming: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "fairlead_datapath_programming_duration_seconds",
			Help: "How long a change took from its arrival in this process to the kernel.", Buckets: []float64{.001, .002, .005, .01, .02, .05, .1, .2, .5, 1, 2, 5, 10}}),
		fenced: prometheus.NewCounter(prometheus.CounterOpts{Name: "fairlead_speaker_fenced_total",
			Help: "How often this process was asleep for so long that it kept silent on the wire until others had answered."}),
		announced: prometheus.NewDesc("fairlead_speaker_announced", "1 for each address that this node announces.", []string{"service", "ip", "via"}, nil),
		conflict: prometheus.NewDesc("fairlead_speaker_address_conflict",
			"1 for each address that a station which is no speaker uses on a segment of this node, announced here or not.", []string{"ip", "mac"}, nil),
		kernel: prometheus.NewDesc("fairlead_speaker_kernel_answers",
			"1 for each address that this node's kernel answers for itself, whoever owns it.", []string{"ip"}, nil),
		rival: prometheus.NewDesc("fairlead_speaker_rival_proxy",
			"1 for each trace of another proxy that serves the same Services on this node; looked for where datapath.mode is full.", []string{"trace"}, nil),
		noTunnel: prometheus.NewDesc("fairlead_speaker_no_tunnel",
			"1 for each node that takes no part in direct server return, as seen from this node, by the Reason that its SpeakerStatus has.", []string{"node", "reason"}, nil),
		leftOut: prometheus.NewDesc("fairlead_datapath_left_out",
			"1 for each Service of which this node's datapath leaves something out, by the Reason that its Event has.", []string{"service", "reason"}, nil),
		members: prometheus.NewDesc("fairlead_gossip_members", "Living speakers, this one included; 0 before it has joined.", nil, nil),
		connections: prometheus.NewDesc("fairlead_datapath_connections_total",
			"Connections that this node has opened to endpoints of a Service. The first 500 Services, the busiest of those that begin together, are told apart until they are deleted; the rest are \"others\".", []string{"service"}, nil),
		bytes: prometheus.NewDesc("fairlead_datapath_bytes_total",
			"Bytes of IP packets, both directions, between clients and endpoints of a Service through this node; grouped like connections.", []string{"service"}, nil),
		handedOn: prometheus.NewDesc("fairlead_datapath_handed_on_packets_total",
			"Packets of TCP connections that this node does not know, which it handed on to another node; begins anew when the nodes are others.", nil, nil),
		engine: prometheus.NewDesc("fairlead_datapath_engine_info", "1 for the datapath engine in use; \"none\" if somebody else forwards.", []string{"engine"}, nil),
	}
	reg.MustRegister(m.changes, m.syncs, m.programming, m.syncErrors, m.fenced, m)
	return m
}

// Describe implements prometheus.Collector.
func (m *metrics) Describe(ch chan<- *prometheus.Desc) {
	ch <- m.announced
	ch <- m.conflict
	ch <- m.kernel
	ch <- m.rival
	ch <- m.noTunnel
	ch <- m.leftOut
	m.bgp.describe(ch)
	ch <- m.members
	ch <- m.engine
	ch <- m.connections
	ch <- m.bytes
	ch <- m.handedOn
}

// Collect implements prometheus.Collector: what is true now is read from the status, so that no stale series remains.
func (m *metrics) Collect(ch chan<- prometheus.Metric) {
	st := m.speaker.status.Load()
	for _, d := range slices.Concat(st.Decisions, st.Routes) {
		if !d.Announce {
			continue
		}
		for _, svc := range d.Services {
			ch <- prometheus.MustNewConstMetric(m.announced, prometheus.GaugeValue, 1, svc.String(), d.VIP.String(), string(d.Via))
		}
	}
	for addr, mac := range st.Strangers {
		ch <- prometheus.MustNewConstMetric(m.conflict, prometheus.GaugeValue, 1, addr.String(), hardware(mac))
	}
	for addr := range st.KernelAnswers {
		ch <- prometheus.MustNewConstMetric(m.kernel, prometheus.GaugeValue, 1, addr.String())
	}
	for _, trace := range st.Rivals {
		ch <- prometheus.MustNewConstMetric(m.rival, prometheus.GaugeValue, 1, trace)
	}
	for node, r := range st.NoTunnel {
		ch <- prometheus.MustNewConstMetric(m.noTunnel, prometheus.GaugeValue, 1, string(node), string(r.Reason))
	}
	told := map[[2]string]bool{}
	for _, r := range m.speaker.leftOut() {
		if labels := [2]string{r.Service.String(), string(r.Reason)}; !told[labels] {
			told[labels] = true
			ch <- prometheus.MustNewConstMetric(m.leftOut, prometheus.GaugeValue, 1, labels[:]...)
		}
	}
	m.bgp.collect(ch, st.Sessions)
	ch <- prometheus.MustNewConstMetric(m.members, prometheus.GaugeValue, float64(len(st.Members)))
	ch <- prometheus.MustNewConstMetric(m.engine, prometheus.GaugeValue, 1, m.speaker.engineName())
	m.collectTraffic(ch)
}

func (s *Speaker) engineName() string {
	if s.o.Engine == nil {
		return "none"
	}
	return s.o.Engine.Name()
}
