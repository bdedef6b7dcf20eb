// Package healthnodeport is both sides of spec.healthCheckNodePort, where a load balancer outside the cluster asks a node whether
// it has endpoints of a Service with externalTrafficPolicy Local.
//
// Where Fairlead's datapath replaces kube-proxy (mode full), the node has to answer: [Desired] says at which sockets and with which
// count, none before the kernel forwards, [Answer] what is said, and [Servers] says it. In mode external kube-proxy answers, and nothing here binds a
// port (statement H15 of the Service semantics). Where Fairlead only announces (mode none), it is itself the one who asks: [Prober] puts
// the question to whoever forwards on this node, and announce.Plan reads the answers.
//
// The statements H1 to H8 are kept to the letter, so that what polls kube-proxy today may poll this; the node's own /healthz and
// /livez (H9, H10) are the speaker's. Desired and Answer are pure.
package healthnodeport
