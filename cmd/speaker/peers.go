package main

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"

	"github.com/fairlead-lb/fairlead/internal/kube"
	"github.com/fairlead-lb/fairlead/internal/speaker"
)

// peers asks the API server's cache, or else our memory, where the speakers are.
func peers(m *speaker.Memory, r *kube.Reader, port uint16) func(context.Context) ([]netip.AddrPort, error) {
	return func(ctx context.Context) ([]netip.AddrPort, error) {
		addrs, err := m.Peers(ctx, r.SpeakerPeers)
		out := make([]netip.AddrPort, 0, len(addrs))
		for _, a := range addrs {
			out = append(out, netip.AddrPortFrom(a, port))
		}
		return out, err
	}
}

// cleanup removes what every engine ever wrote to this node; one that the kernel does not have has written nothing.
func cleanup(ctx context.Context, procSys string, log *slog.Logger) error {
	var engines []speaker.Engine
	for _, name := range []string{"ipvs", "nft"} {
		e, err := openEngine(ctx, name, procSys, log)
		if err != nil {
			log.Info("nothing to remove", "engine", name, "why", err)
			continue
		}
		engines = append(engines, e)
	}
	if len(engines) == 0 {
		return fmt.Errorf("cleaning up: no engine can be opened; is this process root?")
	}
	return speaker.Cleanup(ctx, engines...)
}
