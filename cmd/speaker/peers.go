package main

import (
	"context"
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
