package lb

// # A node does not take part in direct server return
//
// Services with forwarding `dsr` that have an endpoint there are served with `nat` by whoever finds this ([dsr.md](dsr.md)). In `kubectl get
// speakerstatuses -n fairlead-system`, in the speaker's log, and as metric `fairlead_speaker_no_tunnel`.
const (
	// TunnelBlocked: packets of IP protocol 4 (IPv6: 41) from the reporting node to the other one, or those back, do not arrive, eight in a row.
	// Do: let both protocols pass between the nodes: in security groups of a cloud, in firewalls on the nodes, in host policies of the
	// network plugin.
	TunnelBlocked Reason = "TunnelBlocked"

	// TunnelBlockedToPods: such packets arrive at the other node's address, but not those to a pod there.
	// Do: see that packets to pods are routed to their node, and that no network policy drops IP protocol 4 or 41 to pods; then the other
	// node's SpeakerStatus.
	TunnelBlockedToPods Reason = "TunnelBlockedToPods"

	// TunnelSource: packets to the other node's pods leave with a source that is no address of this Node, as those of an overlay network
	// do (flannel's VXLAN); the other node takes tunnelled packets of nodes only.
	// Do: use `nat`, or have the network plugin route pods without an overlay (flannel: `host-gw`).
	TunnelSource Reason = "TunnelSource"

	// TunnelDeclined: the other node says that it cannot unpack.
	// Do: see its SpeakerStatus.
	TunnelDeclined Reason = "TunnelDeclined"

	// EngineWithoutTunnel: the node's engine is `nft`, which cannot do it.
	// Do: set `datapath.engine` to `ipvs` or `auto`, on nodes whose kernel has IPVS.
	EngineWithoutTunnel Reason = "EngineWithoutTunnel"

	// TunnelModules: the node's kernel lacks a module for it, and could not load it; the message names it.
	// Do: install the package with the kernel's further modules (`linux-modules-extra-…`), or `modprobe` what a hardening guide has forbidden.
	TunnelModules Reason = "TunnelModules"
)
