// Package kube is the only package that sees Kubernetes types and clients. It turns what the API server holds into the
// nouns of package lb, and what the allocator decided into status, conditions and Events.
//
// The conversions ([Service], [Endpoints], [Node], [Pool], [L2Advertisement]) are pure functions of their arguments. They
// follow the statements S1 to S7, S44 and H11 of the project's Service semantics: which EndpointSlices belong to a Service,
// what an absent condition means, which ingress addresses exist. Everything that a user may write wrongly is converted as
// far as it goes and comes back with an lb.Refusal that says what was left out.
//
// cmd/speaker builds its snapshots with a [Reader] on the cache of [NewSpeakerCache] and is woken by [Watch].
// cmd/lbcontroller builds a manager with [NewManager], hands a [Cluster] to internal/controller and its handler to [Serve],
// which runs two queues: one worker decides, several write. Writes of one Service never overlap; each names the version on
// which was decided and is refused if that is not the newest, and none takes effect when its [Lease] is over.
// [ServeWebhook] serves the admission webhook, whose facts an [AdmissionReader] and whose certificates a [WebhookStore] reads.
// Nothing in here decides who gets which address or who announces it.
package kube
