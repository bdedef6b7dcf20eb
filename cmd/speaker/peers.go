package main

import (
	"context"
	"net/netip"
	"time"

	"github.com/fairlead-lb/fairlead/datapath/engine"
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

// cleanupTimeout bounds the removal: the pod's grace period is 30 s, and the addresses have been handed over before.
const cleanupTimeout = 10 * time.Second

// cleanup removes what every engine ever wrote to this node.
func cleanup(ctx context.Context, procSys string) error {
	ctx, cancel := context.WithTimeout(ctx, cleanupTimeout)
	defer cancel()
	return engine.Cleanup(ctx, procSys)
}
