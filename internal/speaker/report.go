package speaker

import (
	"context"
	"fmt"
	"time"

	"github.com/fairlead-lb/fairlead/internal/kube"
	"github.com/fairlead-lb/fairlead/lb"
)

// Reporter publishes how this speaker is; internal/kube's SpeakerStatusWriter is one. It is called from one goroutine.
type Reporter interface {
	Write(ctx context.Context, r kube.SpeakerReport, now time.Time) error
}

// The pace of the reports: news is written at most every reportRest, and looked for every reportAnyway.
const (
	reportRest    = 5 * time.Second
	reportAnyway  = time.Minute
	reportTimeout = 10 * time.Second

	goodbyeTimeout = time.Second // of the last one, for which an ending process waits
)

// publish writes how this speaker is, if it is worth it.
func (s *Speaker) publish(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, reportTimeout)
	defer cancel()
	err := s.o.Reporter.Write(ctx, s.selfReport(), time.Now())
	if err != nil && ctx.Err() == nil {
		s.o.Log.Info("status not written", "err", err)
	}
	return err
}

func (s *Speaker) selfReport() kube.SpeakerReport {
	st := s.status.Load()
	s.mu.Lock()
	r := s.report
	s.mu.Unlock()
	out := kube.SpeakerReport{Version: s.o.Version, Ready: s.Ready(), Draining: st.Draining, Engine: s.engineName(), Programmed: len(r.programmed),
		Failing: len(r.failing), Members: len(st.Members), Sessions: st.Sessions, PeerAddrs: st.PeerAddrs}
	for _, d := range st.Decisions {
		if d.Announce {
			out.Layer2++
		}
	}
	for _, d := range st.Routes {
		if d.Announce {
			out.BGPAddresses++
		}
	}
	switch {
	case out.Ready && len(st.Rivals) > 0:
		out.Problem = rivalProxy(st.Rivals)
	case out.Ready && len(st.NoTunnel) > 0:
		out.Problem = noTunnel(s.o.Node, st.NoTunnel)
	case out.Ready && len(r.reached.Refused) > 0:
		first := r.reached.Refused[0]
		out.Problem = lb.Refusal{Reason: first.Reason, Message: fmt.Sprintf("Service %s: %s", first.Service, first.Message)}
	case out.Ready || st.Draining:
	case !st.Joined:
		out.Problem = lb.Refusal{Reason: lb.NotAMember, Message: s.whyNotReady()}
	case st.Opening: // the sessions' own reasons say more
	default:
		out.Problem = lb.Refusal{Reason: lb.DatapathNotReady, Message: s.whyNotReady()}
	}
	return out
}
